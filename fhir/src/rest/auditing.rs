//! AuditEvents of the server's own, as clients ask for them: whoever does waits until they are made of all that was written
//! down before ([`AccessLog::caught_up`](super::AccessLog::caught_up)). Nobody waits who is not let through, or whose answer
//! has none of them.
use super::{FhirApi, access::Behind, outcome::Failure};
use crate::audit::{AUDIT_EVENT, is_own};
use crate::query::{Filter, Include, Search};
use crate::store::{FhirId, ResourceType};
use axum::http::{HeaderMap, StatusCode};

impl FhirApi {
    /// Waits where a resource is asked for, or all of a type, which the server makes of what it has written down.
    pub(super) async fn caught_up(
        &self,
        kind: ResourceType,
        id: Option<&FhirId>,
    ) -> Result<(), Failure> {
        let is_made = match id {
            Some(id) => is_own(kind.as_str(), id.as_str()),
            None => kind.as_str() == AUDIT_EVENT,
        };
        self.caught_up_if(is_made).await
    }

    /// The same of a search that was let through: where it is of that type, looks through it, or adds some of it which its
    /// token may see.
    pub(super) async fn caught_up_for(
        &self,
        headers: &HeaderMap,
        search: &Search,
        filter: &Filter,
    ) -> Result<(), Failure> {
        // Where every type is searched none of the server's own is found.
        let is_of_type = search.types.contains(&AUDIT_EVENT) && !leaves_out(filter);
        let is_added = |one: &Include| one.source == AUDIT_EVENT || one.target == Some(AUDIT_EVENT);
        let mut added = search.includes.iter().chain(&search.revincludes);
        let adds = || {
            let kind = ResourceType::parse(AUDIT_EVENT);
            kind.is_some_and(|kind| self.may_search(headers, kind).is_some())
        };
        let is_needed = is_of_type || looks_at(filter) || (added.any(is_added) && adds());
        self.caught_up_if(is_needed).await
    }

    /// The same of all of a type that a filter holds of, which was let through.
    pub(super) async fn caught_up_with(
        &self,
        kind: ResourceType,
        filter: &Filter,
    ) -> Result<(), Failure> {
        let is_needed = kind.as_str() == AUDIT_EVENT || looks_at(filter);
        self.caught_up_if(is_needed).await
    }

    /// The same of types that were named, where its token may see some of that one.
    pub(super) async fn caught_up_among(
        &self,
        headers: &HeaderMap,
        types: Option<&[ResourceType]>,
    ) -> Result<(), Failure> {
        let kind = ResourceType::parse(AUDIT_EVENT);
        let kind = kind.filter(|kind| types.is_some_and(|types| types.contains(kind)));
        let is_shown = kind.is_some_and(|kind| self.may_search(headers, kind).is_some());
        self.caught_up_if(is_shown).await
    }

    async fn caught_up_if(&self, is_needed: bool) -> Result<(), Failure> {
        match is_needed {
            true => self.access.caught_up().await.map_err(behind),
            false => Ok(()),
        }
    }
}

/// Whether a filter holds of nothing that is the server's own.
fn leaves_out(filter: &Filter) -> bool {
    match filter {
        Filter::Not(inner) => **inner == Filter::Own,
        Filter::All(all) => all.iter().any(leaves_out),
        _ => false,
    }
}

/// Whether a filter of another type looks at AuditEvents.
fn looks_at(filter: &Filter) -> bool {
    match filter {
        Filter::Chain { targets, .. } => targets
            .iter()
            .any(|(kind, inner)| *kind == AUDIT_EVENT || looks_at(inner)),
        Filter::Has { source, inner, .. } => *source == AUDIT_EVENT || looks_at(inner),
        Filter::HasReading { inner, .. } | Filter::Not(inner) => looks_at(inner),
        Filter::Any(all) | Filter::All(all) => all.iter().any(looks_at),
        _ => false,
    }
}

fn behind(behind: Behind) -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "transient",
        format!("{behind}; ask again later"),
    )
}
