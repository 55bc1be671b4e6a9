//! Why searches, conditions, patches and scopes are refused.
use super::outcome::Failure;
use crate::patch::PatchError;
use axum::http::StatusCode;

impl Failure {
    pub(super) fn not_a_write_condition() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "not-supported",
            "of a write, If-None-Match is *; If-Match names the version that is replaced, and If-Unmodified-Since none",
        )
    }

    /// FHIR R4 datatypes.html#id.
    pub(super) fn no_id() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "business-rule",
            "an id is 1 to 64 of A-Z, a-z, 0-9, - and .; or create without one",
        )
    }

    /// Outside of a transaction nothing is looked up for a reference (FHIR R4 http.html#trules).
    pub(super) fn condition_outside() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "business-rule",
            "a reference that is a condition is taken in a transaction alone",
        )
    }

    pub(super) fn elsewhere() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "transient",
            "another node of this region does this; ask it, or try again later",
        )
    }

    /// The same, with the methods that are served there (RFC 9110 §15.5.6).
    pub(super) fn allowing(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    pub(super) fn no_profile() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "not-supported",
            "profile: this server knows the definitions of R4 alone, http://hl7.org/fhir/StructureDefinition/[type]",
        )
    }

    /// A Subscription would never be served.
    pub(super) fn no_subscriptions() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "not-supported",
            "this server runs no subscriptions",
        )
    }

    /// An import has no token, by which it would be told what its client may see.
    pub(super) fn subscription_by_itself() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "not-supported",
            "a Subscription is written by the client that it tells, not imported",
        )
    }

    pub(super) fn not_its_subscriber() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "the events of a subscription are for the client that wrote it",
        )
    }

    /// Events are kept for a while ([`crate::subscription::retry::KEPT_MS`]).
    pub(super) fn events_gone() -> Self {
        Self::new(
            StatusCode::GONE,
            "deleted",
            "events from that number on are not kept any more (14 days); read what there is now, and ask without \
             eventsSinceNumber for what is kept",
        )
    }

    /// A stream is to go on from a number that was given before the store was put back, or never.
    pub(super) fn no_such_event() -> Self {
        Self::new(
            StatusCode::GONE,
            "deleted",
            "no event has that number: the store was put back, or it is of another subscription; see $status, and begin without \
             Last-Event-ID or with eventsSinceNumber",
        )
    }

    /// FHIR R4 http.html#ccreate: more than one resource matches.
    pub(super) fn several() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "multiple-matches",
            "the condition finds more than one resource; nothing was written",
        )
    }

    pub(super) fn too_many_last() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "too-costly",
            "there are too many readings of this patient to look through; name codes, a category or a date",
        )
    }

    pub(super) fn nothing_referred_to() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "not-found",
            "the condition of a reference finds nothing; nothing was written",
        )
    }

    pub(super) fn no_such_entry() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "not-found",
            "a reference is to an entry that the Bundle does not have",
        )
    }

    /// A condition that would hold of everything.
    pub(super) fn no_condition() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "required",
            "a condition on resources is expected, as in identifier=system|value; nothing was written",
        )
    }

    /// What a condition found changed each time before it could be acted upon.
    pub(super) fn contended() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "conflict",
            "others write the same all the time; try again later",
        )
    }

    pub(super) fn patch(error: &PatchError) -> Self {
        let status = match error {
            PatchError::Malformed { .. } => StatusCode::BAD_REQUEST,
            PatchError::Unprocessable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, "processing", error.to_string())
    }

    pub(super) fn not_a_patch() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-supported",
            "a patch is application/json-patch+json, or application/fhir+json with Parameters",
        )
        .allowing("application/json-patch+json, application/fhir+json")
    }

    pub(super) fn too_many_included() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "too-costly",
            format!(
                "a page includes {} resources and {} MiB at most; ask for smaller pages with _count",
                super::including::MAX_INCLUDED,
                super::including::MAX_INCLUDED_MIB
            ),
        )
    }

    pub(super) fn leads_too_far() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "too-costly",
            format!(
                "a chain leads to more than {} resources, or to as many bytes as theirs may be; narrow it",
                crate::store::MAX_PAGE
            ),
        )
    }

    pub(super) fn too_many_to_count() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "too-costly",
            "there are too many readings to judge each for a total; name a patient, a code or a date, or follow the pages",
        )
    }
}
