//! A notification: a Bundle of the type `history` that begins with the status of the subscription as Parameters
//! (Subscriptions R5 Backport 1.1, profiles backport-subscription-notification-r4 and backport-subscription-status-r4).
//!
//! A resource in it is as the subscriber would read it: the version of the event, with the instants that it is told.
use crate::json::Json;
use crate::rest::sight::Sight;
use crate::rest::vantage::Instants;
use crate::rest::{Access, FhirApi, Interaction, Reader, reading, writing};
use crate::store::{FhirId, Kind, ResourceType, StoreError, Stored, patient_of};
use crate::subscription::{
    BACKPORT, Content, Event, Reason, SUBSCRIPTION, Spec, Standing, Status, What,
};
use serde_json::{Value, json, value::RawValue};
use std::collections::{BTreeMap, BTreeSet};
use types::Timestamp;

/// Bytes of resources in one notification, after which it ends: a body that any endpoint takes.
const MAX_BYTES: usize = 1 << 20;

/// What is told.
pub struct Telling<'a> {
    pub standing: &'a Standing,
    pub spec: &'a Spec,
    pub status: Status,
    /// SubscriptionNotificationType.
    pub sort: &'static str,
    pub events: &'a [Event],
    pub content: Content,
}

/// A notification as text, and what has to be written down before it leaves.
pub struct Told {
    pub text: String,
    /// The number of the last event in it.
    pub last: Option<u64>,
    pub events: usize,
    pub rows: Vec<Access>,
}

/// What a subscriber may see of a type.
pub type Rights<'a> = dyn Fn(ResourceType) -> Option<Sight> + Send + Sync + 'a;

/// What of an event is told.
struct Shown {
    part: Value,
    entry: Option<String>,
    patient: Option<FhirId>,
    bytes: usize,
}

/// Makes a notification.
pub async fn tell(
    api: &FhirApi,
    telling: &Telling<'_>,
    rights: &Rights<'_>,
) -> Result<Told, StoreError> {
    let reader = Reader(telling.spec.author.clone());
    let seq = telling.events.last().map_or(0, |event| event.seq);
    let instants = reading::instants(api, &reader, seq).await?;
    let mut sights: BTreeMap<ResourceType, Option<Sight>> = BTreeMap::new();
    let (mut parts, mut entries, mut told) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for event in telling.events {
        if bytes > MAX_BYTES {
            break;
        }
        let sight = sights
            .entry(event.kind)
            .or_insert_with(|| rights(event.kind));
        let shown = show(api, event, telling.content, sight.as_ref(), &instants).await?;
        bytes += shown.bytes;
        parts.push(shown.part);
        if let Some(entry) = shown.entry {
            entries.push(entry);
            told.push((event.kind, shown.patient));
        }
    }
    let count = parts.len();
    let last = telling.events.get(count.wrapping_sub(1));
    let status = status_entry(api, telling, parts)?;
    let at = match &instants {
        Instants::True => (api.now)().to_rfc3339(),
        logical => logical.last().unwrap_or_else(|| Timestamp(0).to_rfc3339()),
    };
    let mut text = format!(
        "{{\"resourceType\":\"Bundle\",\"meta\":{{\"profile\":[\"{BACKPORT}backport-subscription-notification-r4\"]}},\
         \"type\":\"history\",\"timestamp\":\"{at}\",\"entry\":[{status}"
    );
    for entry in entries {
        text.push(',');
        text.push_str(&entry);
    }
    text.push_str("]}");
    let range = telling.events.first().map_or(0, |event| event.number);
    Ok(Told {
        text,
        last: last.map(|event| event.number),
        events: count,
        rows: rows(telling, &reader, range, &told),
    })
}

/// One row for each type of which something is told.
fn rows(
    telling: &Telling<'_>,
    reader: &Reader,
    first: u64,
    told: &[(ResourceType, Option<FhirId>)],
) -> Vec<Access> {
    let kinds: BTreeSet<ResourceType> = told.iter().map(|(kind, _)| *kind).collect();
    let id = telling.standing.id.as_ref().map_or("", |id| id.as_str());
    let of_kind = |kind: ResourceType| {
        let own = || told.iter().filter(move |(of, _)| *of == kind);
        let patients: BTreeSet<Option<&str>> = own()
            .map(|(_, patient)| patient.as_ref().map(FhirId::as_str))
            .collect();
        let patient = own().next().and_then(|(_, patient)| patient.clone());
        Access {
            reader: reader.clone(),
            kind,
            interaction: Interaction::SearchType,
            parameters: vec!["_subscription".to_owned()],
            request: format!("{SUBSCRIPTION}/{id}/$events?eventsSinceNumber={first}"),
            patient: patient.filter(|_| patients.len() == 1),
            resources: u32::try_from(own().count()).unwrap_or(u32::MAX),
        }
    };
    kinds.into_iter().map(of_kind).collect()
}

async fn show(
    api: &FhirApi,
    event: &Event,
    content: Content,
    sight: Option<&Sight>,
    instants: &Instants,
) -> Result<Shown, StoreError> {
    let (kind, id) = (event.kind, &event.id);
    let stored = api.store.vread(kind, id, event.version).await?;
    // What was deleted may be told of to whoever might see what it was.
    let judged = match event.what {
        What::Delete => {
            let before = event.version.saturating_sub(1);
            api.store.vread(kind, id, before).await?
        }
        What::Create | What::Update => stored.clone(),
    };
    let judged = judged.filter(|one| sight.is_some_and(|sight| sight.shows(one)));
    let mut part = vec![json!({"name": "eventNumber", "valueString": event.number.to_string()})];
    if let Some(stored) = &stored {
        part.push(json!({"name": "timestamp", "valueInstant": instants.of(stored)}));
    }
    let (mut entry, mut patient, mut bytes) = (None, None, 0);
    if let Some(judged) = judged.filter(|_| content != Content::Empty) {
        let reference = format!("{}/{kind}/{id}", api.base);
        part.push(json!({"name": "focus", "valueReference": {"reference": reference}}));
        let tree = Json::parse(&judged.json).ok();
        patient = tree.and_then(|tree| patient_of(kind, id, &tree));
        let text = entry_of(event, &reference, content, stored.as_ref(), instants)?;
        bytes = text.len();
        entry = Some(text);
    }
    Ok(Shown {
        part: json!({"name": "notificationEvent", "part": part}),
        entry,
        patient,
        bytes,
    })
}

fn entry_of(
    event: &Event,
    url: &str,
    content: Content,
    stored: Option<&Stored>,
    instants: &Instants,
) -> Result<String, StoreError> {
    let (kind, id) = (event.kind, &event.id);
    let (method, path, status) = match event.what {
        What::Create => ("POST", kind.to_string(), "201"),
        What::Update => ("PUT", format!("{kind}/{id}"), "200"),
        What::Delete => ("DELETE", format!("{kind}/{id}"), "204"),
    };
    let whole = stored.filter(|one| content == Content::FullResource && !one.is_deleted());
    let resource: Option<Box<RawValue>> = match whole {
        Some(stored) => Some(stored.stamped(&instants.of(stored))?),
        None => None,
    };
    let resource = resource.map_or_else(String::new, |text| format!("\"resource\":{text},"));
    Ok(format!(
        "{{\"fullUrl\":\"{url}\",{resource}\"request\":{{\"method\":\"{method}\",\"url\":\"{path}\"}},\
         \"response\":{{\"status\":\"{status}\"}}}}"
    ))
}

/// How a subscription stands with some events. One that was written after it was looked at counts: the number of events is
/// that with those of the notification (R5 SubscriptionStatus.eventsSinceSubscriptionStart).
fn counting(standing: &Standing, told: &[Event]) -> Standing {
    let last = told.last().map_or(0, |event| event.number);
    Standing {
        number: standing.number.max(last),
        ..standing.clone()
    }
}

/// The first entry: how the subscription stands, and its events.
fn status_entry(
    api: &FhirApi,
    telling: &Telling<'_>,
    events: Vec<Value>,
) -> Result<String, StoreError> {
    let internal = || StoreError::new(Kind::Internal, "notification");
    let uuid = writing::drawn((api.draw)()).ok_or_else(internal)?;
    let id = telling.standing.id.as_ref().map_or("", |id| id.as_str());
    let told = telling.events.get(..events.len()).unwrap_or_default();
    let (standing, spec) = (counting(telling.standing, told), telling.spec);
    let mut parameters = parameters(api, &standing, spec, (telling.status, telling.sort), None);
    let list = parameters
        .get_mut("parameter")
        .and_then(Value::as_array_mut);
    list.ok_or_else(internal)?.extend(events);
    let entry = json!({
        "fullUrl": format!("urn:uuid:{uuid}"),
        "resource": parameters,
        "request": {"method": "GET", "url": format!("{SUBSCRIPTION}/{id}/$status")},
        "response": {"status": "200"},
    });
    Ok(entry.to_string())
}

/// How a subscription stands.
pub fn parameters(
    api: &FhirApi,
    standing: &Standing,
    spec: &Spec,
    (status, sort): (Status, &str),
    reason: Option<&str>,
) -> Value {
    let id = standing.id.as_ref().map_or("", |id| id.as_str());
    let reference = format!("{}/{SUBSCRIPTION}/{id}", api.base);
    let mut list = vec![
        json!({"name": "subscription", "valueReference": {"reference": reference}}),
        json!({"name": "topic", "valueCanonical": spec.topic}),
        json!({"name": "status", "valueCode": status.as_str()}),
        json!({"name": "type", "valueCode": sort}),
        json!({"name": "eventsSinceSubscriptionStart", "valueString": standing.number.to_string()}),
    ];
    let subscriptions = api.subscriptions.as_ref();
    if let Some(numbering) = subscriptions.and_then(|it| it.numbering.as_ref()) {
        list.push(json!({"name": "numbering", "valueString": numbering()}));
    }
    if let Some(reason) = reason {
        list.push(json!({"name": "error", "valueCodeableConcept": {"text": reason}}));
    }
    json!({
        "resourceType": "Parameters",
        "meta": {"profile": [format!("{BACKPORT}backport-subscription-status-r4")]},
        "parameter": list,
    })
}

/// Why a subscription is in error, as its own text says.
pub fn reason_in(stored: &Stored) -> Option<&'static str> {
    let tree = Json::parse(&stored.json).ok()?;
    let text = tree.object()?.text("error")?;
    let mut known = crate::subscription::REASONS.iter();
    known
        .find(|(_, known): &&(Reason, &str)| *known == text)
        .map(|(_, known)| *known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::Progress;

    #[test]
    fn a_notification_counts_the_events_that_it_carries() {
        let standing = Standing {
            key: 1,
            id: None,
            version: 1,
            spec: String::new(),
            status: Status::Active,
            watched: true,
            number: 4,
            delivered: 0,
            waits_since: None,
            progress: Progress::default(),
        };
        let event = |number| Event {
            number,
            kind: ResourceType::Patient,
            id: "a".parse().unwrap(),
            version: 1,
            seq: 1,
            what: What::Create,
            at: Timestamp(0),
        };
        for (numbers, expected) in [(vec![4, 5], 5), (vec![1, 2], 4), (vec![], 4)] {
            let told: Vec<Event> = numbers.into_iter().map(event).collect();
            assert_eq!(counting(&standing, &told).number, expected);
        }
    }
}
