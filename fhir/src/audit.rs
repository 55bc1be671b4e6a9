//! AuditEvents that the server itself makes: what a row of its audit log says of an access, as R4 says it.
//!
//! The log stays the truth; these are made of it so that it can be searched ([`ResourceStore::keep_audit`] stores them). What
//! a row does not hold is absent, and what it holds as a digest is an identifier here. Their ids ([`own_id`]) are of a
//! space that no client may write in: a store takes them for the server's, as it takes what facilities deliver for theirs.
//! Pure; which rows there are is the caller's to say.
//!
//! [`ResourceStore::keep_audit`]: crate::store::ResourceStore::keep_audit
use crate::admit::Holding;
use crate::json::Json;
use crate::query::{Filter, IndexRow, Match, ReferenceMatch, Sort, SortBy, TokenMatch, param};
use crate::store::{Draft, FhirId, ResourceType};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use types::{FacilityPseudonym, Id128, Timestamp};

/// The type.
pub const AUDIT_EVENT: &str = "AuditEvent";
/// With what the ids of the server's own begin.
pub const OWN: &str = "log-";
/// The name under which the place in the log is kept, among those of readers: no client has it.
pub const PLACE: &str = "*audit";
/// The system of a client's name.
pub const CLIENT: &str = "urn:medmesh:client";
/// The system of a place of the mesh.
pub const SITE: &str = "urn:medmesh:place";
/// The system of what was asked for, such as `Observation/id`: its SHA-256 in hexadecimal.
pub const REQUEST: &str = "urn:medmesh:audit:request";
/// The system of whom an access was about, `Patient/id`: the first half of its SHA-256.
pub const ABOUT: &str = "urn:medmesh:audit:about";
/// Stands for an instant that is not told: a reader is shown the instant of its own axis instead.
const UNTOLD: &str = "1970-01-01T00:00:00Z";
/// What is before it, as text, is an instant of a logical axis ([`crate::axis::CALENDAR`]).
const CALENDAR: &str = "1990";

/// What is stored at once, as one step.
#[derive(Clone, Debug, Default)]
pub struct OwnEvents {
    /// Each with the facility of the patient whom the access was about, if that is known.
    pub events: Vec<(Draft, Option<FacilityPseudonym>)>,
    /// What is taken away, with every version of it.
    pub dropped: Vec<FhirId>,
    /// Up to where the log was read, for whoever goes on from there: kept as the marks of [`PLACE`].
    pub place: String,
    /// When, as the commit keeps it, in ms since 1970.
    pub now: i64,
}

/// What became of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was answered.
    Given,
    /// It was asked for and let through, and what came of it is not in the row: a write is written down before it is done.
    Begun,
    /// It had no good token.
    Unauthenticated,
    /// Its token does not cover it.
    Forbidden,
    /// It was given nothing for another reason.
    Unanswered,
}

/// Whom the access was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Nobody alone.
    Nobody,
    /// That Patient.
    Patient(FhirId),
    /// A Patient of whom there is a digest alone ([`ABOUT`]).
    Digest(String),
}

/// What a row of the log says.
#[derive(Clone, Debug)]
pub struct Logged<'a> {
    /// The code of R4 (`search-type`).
    pub interaction: &'a str,
    /// The type, and the names of the parameters of a search: `Observation?code&patient`.
    pub asked: &'a str,
    /// What became of it.
    pub ended: Ended,
    /// The client; empty where it is not known.
    pub client: &'a str,
    /// Where the log is.
    pub place: &'a str,
    /// How many resources were given or written; of what was given nothing, how many requests.
    pub count: u32,
    /// Whom it was about.
    pub whom: Whom,
    /// The digest of what was asked for ([`REQUEST`]); empty where there is none.
    pub request: &'a str,
    /// When; none where instants are logical.
    pub recorded: Option<Timestamp>,
}

/// The id of the AuditEvent of a row: the same whenever it is made, and without the secret it tells neither the place nor
/// the order of rows.
#[must_use]
pub fn own_id(secret: &[u8], place: &str, position: u64, leaf: &[u8]) -> Option<FhirId> {
    let mut hash = Sha256::new();
    hash.update("medmesh/audit-event/v1\n");
    for part in [secret, place.as_bytes(), &position.to_be_bytes(), leaf] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let half = hash.first_chunk::<16>()?;
    format!("{OWN}{}", Id128::from_bytes(*half)).parse().ok()
}

/// Whether an id is of the server's own AuditEvents.
#[must_use]
pub fn is_own(kind: &str, id: &str) -> bool {
    let drawn = id.strip_prefix(OWN).filter(|_| kind == AUDIT_EVENT);
    drawn.is_some_and(|drawn| drawn.parse::<Id128>().is_ok())
}

/// What is left out where several types are gone through and AuditEvent is not named, by `_type` or by the path: those of the
/// server's own, since each look makes more of them. The one rule of searches of everything and of `$everything`, of exports
/// by [`is_left_out`], and of the history of everything, which names no type ([`crate::store::Scope::Everything`]).
pub(crate) fn left_out(is_named: bool) -> Option<Filter> {
    (!is_named).then(|| Filter::Not(Box::new(Filter::Own)))
}

/// Whether a resource is left out by [`left_out`].
pub(crate) fn is_left_out(kind: &str, id: &str, is_named: bool) -> bool {
    !is_named && is_own(kind, id)
}

/// The AuditEvent of a row; none where it would not be R4, which no row of this server's makes.
#[must_use]
pub fn event(id: FhirId, logged: &Logged<'_>) -> Option<Draft> {
    let recorded = logged.recorded.map(Timestamp::to_rfc3339);
    let (outcome, why) = match logged.ended {
        Ended::Given => (Some("0"), None),
        Ended::Begun => (None, None),
        Ended::Unauthenticated => (Some("4"), Some("unauthenticated")),
        Ended::Forbidden => (Some("4"), Some("forbidden")),
        Ended::Unanswered => (Some("4"), Some("unanswered")),
    };
    let text = json!({
        "resourceType": AUDIT_EVENT,
        "id": id.as_str(),
        "type": {
            "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
            "code": "rest",
            "display": "RESTful Operation",
        },
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": logged.interaction}],
        "action": action(logged.interaction),
        "recorded": recorded.as_deref().unwrap_or(UNTOLD),
        "agent": [agent(logged.client)],
        "source": {
            "site": logged.place,
            "observer": {"identifier": {"system": SITE, "value": logged.place}},
            "type": [{
                "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
                "code": "3",
                "display": "Web Server",
            }],
        },
        "entity": entities(logged),
    });
    let text = with(text, outcome.map(|outcome| ("outcome", outcome.into())));
    let text = with(text, why.map(|why| ("outcomeDesc", why.into())));
    let kind = ResourceType::parse(AUDIT_EVENT)?;
    Draft::parse(&Holding::Identified, kind, id, &text.to_string(), "").ok()
}

/// AuditEvent.action (FHIR R4 AuditEventAction): a search executes a query, as a batch and a transaction do.
fn action(interaction: &str) -> &'static str {
    match interaction {
        "create" => "C",
        "read" | "vread" | "history-instance" | "history-type" | "history-system" => "R",
        "update" | "patch" => "U",
        "delete" => "D",
        _ => "E",
    }
}

fn agent(client: &str) -> Value {
    match client {
        "" => json!({"requestor": true}),
        client => json!({
            "who": {"identifier": {"system": CLIENT, "value": client}},
            "altId": client,
            "name": client,
            "requestor": true,
        }),
    }
}

/// The patient, and what was asked for; one entity where that is the patient.
fn entities(logged: &Logged<'_>) -> Vec<Value> {
    let (what, is_itself) = match &logged.whom {
        Whom::Nobody => return vec![asked(logged)],
        Whom::Patient(id) => {
            let reference = format!("Patient/{id}");
            let is_itself = digest(&reference) == logged.request;
            (json!({"reference": reference}), is_itself)
        }
        Whom::Digest(digest) => {
            let identifier = json!({"system": ABOUT, "value": digest});
            (json!({"type": "Patient", "identifier": identifier}), false)
        }
    };
    let patient = json!({
        "what": what,
        "type": {
            "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type",
            "code": "1",
            "display": "Person",
        },
        "role": role("1", "Patient"),
    });
    match is_itself {
        true => vec![with(patient, named(logged))],
        false => vec![patient, asked(logged)],
    }
}

/// What was asked for, by its type and its digest.
fn asked(logged: &Logged<'_>) -> Value {
    let kind = logged.asked.split('?').next().unwrap_or_default();
    let kind = ResourceType::parse(kind).map(ResourceType::as_str);
    let of_type = match kind {
        Some(kind) => json!({"system": "http://hl7.org/fhir/resource-types", "code": kind}),
        None => json!({
            "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type",
            "code": "2",
            "display": "System Object",
        }),
    };
    let in_role = match (kind, logged.interaction) {
        (None, _) | (_, "search-type") => role("24", "Query"),
        _ => role("4", "Domain Resource"),
    };
    let one = with(json!({"type": of_type, "role": in_role}), named(logged));
    if logged.request.is_empty() {
        return one;
    }
    let what = json!({"identifier": {"system": REQUEST, "value": logged.request}});
    let of_kind = kind.map(|kind| ("type", kind.into()));
    with(one, [("what", with(what, of_kind))])
}

/// The names of what was asked for, and how much it was.
fn named(logged: &Logged<'_>) -> Vec<(&'static str, Value)> {
    let counted = match logged.ended {
        Ended::Given | Ended::Begun => "resources",
        Ended::Unauthenticated | Ended::Forbidden | Ended::Unanswered => "requests",
    };
    let detail = json!([{"type": counted, "valueString": logged.count.to_string()}]);
    let name = Some(logged.asked).filter(|asked| !asked.is_empty());
    let name = name.map(|name| ("name", name.into()));
    name.into_iter().chain([("detail", detail)]).collect()
}

fn role(code: &str, display: &str) -> Value {
    json!({
        "system": "http://terminology.hl7.org/CodeSystem/object-role",
        "code": code,
        "display": display,
    })
}

/// An object with more members.
fn with(mut object: Value, more: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    if let Value::Object(members) = &mut object {
        members.extend(
            more.into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
    }
    object
}

fn digest(text: &str) -> String {
    let hash = Sha256::digest(text);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes the date away of an AuditEvent whose instant is not told: it would be found by one that stands for none.
pub(crate) fn without_untold(resource: &Json<'_>, rows: &mut Vec<IndexRow>) {
    let Some(object) = resource.object() else {
        return;
    };
    let kind = object.text("resourceType").unwrap_or_default();
    let is_own = is_own(kind, object.text("id").unwrap_or_default());
    if is_own && object.text("recorded") == Some(UNTOLD) {
        rows.retain(|row| row.param != "date");
    }
}

/// Whether a member of a resource is an instant that is not told to a reader who is shown `instant` as that of the version:
/// what was stored when instants were told may be shown when they are not.
pub(crate) fn is_untold(
    (kind, id): (ResourceType, &FhirId),
    (name, value): (&str, &str),
    instant: &str,
) -> bool {
    let is_recorded = name == "recorded" && is_own(kind.as_str(), id.as_str());
    is_recorded && (instant < CALENDAR || value.trim_matches('"') == UNTOLD)
}

/// Has a search of a type, and what it looks at beside it, find the server's own AuditEvents by what they do not say in so
/// many words: `entity=Observation/id` also by the digest of it and, where instants are logical, `date` by `_lastUpdated`
/// alone, whatever was stored: nobody finds by an instant that is not told, or has them in the order of it.
pub(crate) fn understand(
    (filters, sort): (&mut [Filter], &mut [Sort]),
    kind: Option<ResourceType>,
    is_logical: bool,
) {
    let kind = kind.map_or("", ResourceType::as_str);
    for filter in filters {
        understand_one(filter, kind, is_logical);
    }
    if is_logical {
        understand_order(sort, kind);
    }
}

fn understand_one(filter: &mut Filter, kind: &str, is_logical: bool) {
    match filter {
        Filter::Param { param, matches } if kind == AUDIT_EVENT && param.code == "entity" => {
            let digests: Vec<Match> = matches.iter().filter_map(by_digest).collect();
            matches.extend(digests);
        }
        Filter::Param { param, matches }
            if kind == AUDIT_EVENT && param.code == "date" && is_logical =>
        {
            let spans = matches.iter().filter_map(|one| match one {
                Match::Date(span) => Some(*span),
                _ => None,
            });
            let own = Filter::LastUpdated(spans.collect());
            *filter = either(own, filter);
        }
        // Each is shown one.
        Filter::Missing { param, missing }
            if kind == AUDIT_EVENT && param.code == "date" && is_logical =>
        {
            let own = match missing {
                true => Filter::Any(Vec::new()),
                false => Filter::All(Vec::new()),
            };
            *filter = either(own, filter);
        }
        Filter::Chain { targets, .. } => {
            for (target, inner) in targets {
                understand_one(inner, target, is_logical);
            }
        }
        Filter::Has { source, inner, .. } => understand_one(inner, source, is_logical),
        Filter::HasReading { inner, .. } => understand_one(inner, "Observation", is_logical),
        Filter::Not(inner) => understand_one(inner, kind, is_logical),
        Filter::Any(all) | Filter::All(all) => {
            for one in all {
                understand_one(one, kind, is_logical);
            }
        }
        Filter::Param { .. }
        | Filter::Missing { .. }
        | Filter::Id(_)
        | Filter::LastUpdated(_)
        | Filter::Commits(_)
        | Filter::List(_)
        | Filter::Own
        | Filter::Column(_) => {}
    }
}

/// A filter of the server's own, and what stands there of all others.
fn either(own: Filter, others: &mut Filter) -> Filter {
    let others = std::mem::replace(others, Filter::Any(Vec::new()));
    let no_own = Filter::Not(Box::new(Filter::Own));
    Filter::Any(vec![
        Filter::All(vec![no_own, others]),
        Filter::All(vec![Filter::Own, own]),
    ])
}

/// The same reference as a row of the log holds it.
fn by_digest(one: &Match) -> Option<Match> {
    let Match::Reference(ReferenceMatch::Local {
        resource_type: Some(kind),
        id,
        version,
    }) = one
    else {
        return None;
    };
    let request = match version {
        Some(version) => format!("{kind}/{id}/_history/{version}"),
        None => format!("{kind}/{id}"),
    };
    let coded = TokenMatch::Coded(REQUEST.to_owned(), digest(&request));
    Some(Match::Reference(ReferenceMatch::Identifier(coded)))
}

/// Where instants are logical, the order of `date` is that of `_lastUpdated`.
fn understand_order(sort: &mut [Sort], kind: &str) {
    let date = param(AUDIT_EVENT, "date").map(SortBy::Param);
    let by_date = sort
        .iter_mut()
        .filter(|key| kind == AUDIT_EVENT && Some(key.by) == date);
    for key in by_date {
        key.by = SortBy::LastUpdated;
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
