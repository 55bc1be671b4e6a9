//! What a Subscription asks for (FHIR R4 Subscription, profile R4/B Topic-Based Subscription of Subscriptions R5 Backport
//! 1.1), read and judged once, when a client writes it. What is not understood is refused, with the element.
mod channel;

use super::{SUBSCRIPTION, Status, Topic, Watch, topic};
use crate::bases::Bases;
use crate::json::{Json, Object};
use crate::query::{self, Context, Filter, Handling};
use crate::rest::{is_plain, pairs_of};
use crate::store::ResourceType;
pub use channel::{Channel, Content};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::Timestamp;

/// What the URLs of the extensions begin with.
pub const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";
/// Filters of one subscription.
const MAX_FILTERS: usize = 16;

/// Something that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// FHIRPath of the element.
    pub expression: String,
    /// Why, and what is taken.
    pub problem: String,
}

impl Fault {
    fn new(expression: &str, problem: impl Into<String>) -> Self {
        Self {
            expression: format!("{SUBSCRIPTION}.{expression}"),
            problem: problem.into(),
        }
    }
}

/// Why a subscription is in error: `Subscription.error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No attempt was taken for [`super::retry::RETRIED_MS`].
    Unreachable,
    /// No handshake was taken for [`super::retry::HANDSHAKE_MS`].
    NoHandshake,
    /// More than [`super::MAX_PENDING_EVENTS`] waited.
    TooMany,
    /// The oldest event waited for [`super::retry::KEPT_MS`].
    TooOld,
    /// The client may not see the types any more.
    NoRight,
    /// This version of the server cannot read it.
    Unread,
}

/// Every reason, and its text.
pub const REASONS: [(Reason, &str); 6] = [
    (
        Reason::Unreachable,
        "the endpoint took nothing for 7 days; events are kept for 14: request the subscription again, or ask for $events",
    ),
    (
        Reason::NoHandshake,
        "the endpoint did not take the handshake for a day; request the subscription again",
    ),
    (
        Reason::TooMany,
        "a million events waited, and what came since then was not noted; request the subscription again, and ask for $events",
    ),
    (
        Reason::TooOld,
        "events waited for 14 days and are not kept longer, and what came since then was not noted; request the subscription again",
    ),
    (
        Reason::NoRight,
        "the client may not see what it subscribed to any more; nothing is sent",
    ),
    (
        Reason::Unread,
        "this version of the server does not understand it any more; write it anew",
    ),
];

impl Reason {
    /// What is told of it.
    #[must_use]
    pub fn text(self) -> &'static str {
        let mut found = REASONS.iter().filter(|(reason, _)| *reason == self);
        found.next().map_or("", |(_, text)| text)
    }
}

/// Whether a text is one of ours.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    REASONS.iter().any(|(_, known)| *known == text)
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Whose it is: the client that wrote it last. It is told what it may see, and nothing else.
    pub author: String,
    /// The canonical URL of the topic.
    pub topic: String,
    /// Type and conditions of each filter.
    pub filters: Vec<(String, String)>,
    /// The types, each with the search parameters of the scopes by which the author may see it; all of it when there are
    /// none.
    pub types: BTreeMap<String, Vec<String>>,
    /// The base of the server, for absolute references in filters.
    pub base: String,
    /// Its other bases, as of one of two nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_bases: Vec<String>,
    /// When it was written, ms since 1970: what `ap` is measured from.
    pub written: i64,
    /// How it is told.
    pub channel: Channel,
    /// What a notification holds.
    pub content: Content,
    /// When it ends, ms since 1970.
    pub end: Option<i64>,
}

impl Spec {
    /// Reads a Subscription, which is R4, as `author` wrote it. Its types are those of the topic, or of the filters; which
    /// of them the author may see is the caller's to say.
    ///
    /// # Errors
    /// Every element that is not taken.
    pub fn read(
        resource: &Json<'_>,
        author: &str,
        (base, other_bases): (&str, &[String]),
        now: Timestamp,
    ) -> Result<(Self, Status), Vec<Fault>> {
        let empty = Object::default();
        let object = resource.object().unwrap_or(&empty);
        let mut faults = Vec::new();
        let mut note = |fault: Fault| faults.push(fault);
        let status = match object.text("status").and_then(Status::parse) {
            Some(status @ (Status::Requested | Status::Off)) => status,
            _ => {
                note(Fault::new(
                    "status",
                    "a client says requested, or off; the server says active and error",
                ));
                Status::Requested
            }
        };
        let found = object.text("criteria").and_then(topic);
        if found.is_none() {
            note(Fault::new(
                "criteria",
                "the canonical URL of a topic is expected; the CapabilityStatement lists them",
            ));
        }
        let filters = filters(
            object,
            found,
            (Bases::of(base).and(other_bases), now),
            &mut note,
        );
        let content = channel::content(object, &mut note);
        let channel = channel::read(object, &mut note);
        let end = object.text("end").map(str::parse::<Timestamp>);
        let end = match end {
            Some(Ok(end)) if end > now || status == Status::Off => Some(end.0),
            None => None,
            _ => {
                note(Fault::new("end", "an instant that is not over is expected"));
                None
            }
        };
        let types = match found.map(|topic| topic.types) {
            Some([]) | None => filters.iter().map(|(kind, _)| kind.clone()).collect(),
            Some(types) => types
                .iter()
                .map(|kind| (*kind).to_owned())
                .collect::<Vec<_>>(),
        };
        let read = found.zip(channel).map(|(topic, channel)| Self {
            author: author.to_owned(),
            topic: topic.url.to_owned(),
            filters,
            types: types.into_iter().map(|kind| (kind, Vec::new())).collect(),
            base: base.to_owned(),
            other_bases: other_bases.to_vec(),
            written: now.0,
            channel,
            content,
            end,
        });
        match read {
            Some(spec) if faults.is_empty() => Ok((spec, status)),
            _ => Err(faults),
        }
    }

    /// As text, for the store.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Of what [`Spec::to_text`] gave.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether a filter names the type.
    #[must_use]
    pub fn names(&self, kind: &str) -> bool {
        self.filters.iter().any(|(named, _)| named == kind)
    }

    /// What it watches; none when this binary does not understand it.
    #[must_use]
    pub fn watch(&self, key: i64) -> Option<Watch> {
        let bases = Bases::of(&self.base).and(&self.other_bases);
        let at = (bases, Timestamp(self.written));
        let mut of = BTreeMap::new();
        for (name, scopes) in &self.types {
            let kind = ResourceType::parse(name)?;
            let own = self.filters.iter().filter(|(of, _)| of == name);
            let mut all = Vec::new();
            for (_, text) in own {
                all.push(condition(kind, text, at).ok()?);
            }
            let seen: Result<Vec<Filter>, String> = scopes
                .iter()
                .map(|text| condition(kind, text, at))
                .collect();
            let seen = seen.ok()?;
            if !seen.is_empty() {
                all.push(Filter::Any(seen));
            }
            of.insert(kind.as_str(), Filter::All(all));
        }
        let on = topic(&self.topic)?.on;
        Some(Watch { key, on, of })
    }
}

/// The conditions of a filter on a type, as a search reads them; why they are not taken.
fn condition(
    kind: ResourceType,
    text: &str,
    (base, now): (Bases<'_>, Timestamp),
) -> Result<Filter, String> {
    let context = Context {
        now: now.0,
        base,
        handling: Handling::Strict,
    };
    let pairs = match text {
        "" => Vec::new(),
        text => pairs_of(text).map_err(|_| format!("{text}: pairs of name=value are expected"))?,
    };
    let read = query::parse_conditions(kind.as_str(), &pairs, context);
    let filter = read.map_err(|problem| problem.to_string())?;
    match is_plain(&filter) {
        true => Ok(filter),
        false => Err(format!(
            "{text}: a condition that is seen in the resource itself is expected, without chains, _has, _list and \
             _lastUpdated"
        )),
    }
}

/// The filters of `Subscription.criteria` (extension `backport-filter-criteria`): `Observation?code=8867-4`.
fn filters(
    object: &Object<'_>,
    found: Option<&Topic>,
    at: (Bases<'_>, Timestamp),
    note: &mut impl FnMut(Fault),
) -> Vec<(String, String)> {
    let mut filters = Vec::new();
    let extensions = extensions_of(object, "_criteria");
    for (at_extension, extension) in extensions.iter().enumerate() {
        let place = format!("criteria.extension[{at_extension}]");
        let text = match url_of(extension) {
            Some("backport-filter-criteria") => extension.text("valueString"),
            _ => None,
        };
        let Some(text) = text else {
            note(Fault::new(
                &place,
                "only backport-filter-criteria with a valueString is known here",
            ));
            continue;
        };
        let (name, conditions) = text.split_once('?').unwrap_or((text, ""));
        let kind = ResourceType::parse(name).filter(|kind| kind.as_str() != SUBSCRIPTION);
        let of_topic = |topic: &Topic| topic.types.is_empty() || topic.types.contains(&name);
        let Some(kind) = kind.filter(|_| found.is_none_or(of_topic)) else {
            let problem = format!("{name}: a filter begins with a type that the topic is about");
            note(Fault::new(&place, problem));
            continue;
        };
        match condition(kind, conditions, at) {
            Ok(_) => filters.push((kind.to_string(), conditions.to_owned())),
            Err(problem) => note(Fault::new(&place, problem)),
        }
    }
    if found.is_some_and(|topic| topic.types.is_empty()) && extensions.is_empty() {
        note(Fault::new(
            "criteria",
            "this topic needs a filter for each type, such as Condition?code=38341003 or Condition alone",
        ));
    }
    if filters.len() > MAX_FILTERS {
        note(Fault::new(
            "criteria",
            format!("more than {MAX_FILTERS} filters"),
        ));
    }
    filters
}

/// The extensions beside a primitive element, or of an object.
fn extensions_of<'a, 'j>(object: &'a Object<'j>, name: &str) -> Vec<&'a Object<'j>> {
    let beside = object.get(name).and_then(Json::object);
    let all = beside.map(|beside| beside.each("extension"));
    all.into_iter().flatten().filter_map(Json::object).collect()
}

/// What follows [`BACKPORT`] in the URL of an extension.
fn url_of<'a>(extension: &'a Object<'_>) -> Option<&'a str> {
    extension.text("url")?.strip_prefix(BACKPORT)
}
