//! `Subscription.channel`: where notifications go, and what they hold.
use super::{BACKPORT, Fault, extensions_of, url_of};
use crate::json::{Json, Object};
use axum::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// How long an endpoint may take to answer, when the subscription does not say, in seconds.
const TIMEOUT_S: u32 = 10;
/// The longest that it may say, in seconds: others wait for the same few senders.
const MAX_TIMEOUT_S: u32 = 30;
/// The least time between heartbeats, in seconds.
const MIN_HEARTBEAT_S: u32 = 10;
/// The longest time between heartbeats, in seconds: a day.
const MAX_HEARTBEAT_S: u32 = 86_400;
/// Events in one notification, when the subscription does not say.
const MAX_COUNT: u16 = 20;
/// The most that it may say.
const MOST_EVENTS: u16 = 100;
/// Headers of a subscription.
const MAX_HEADERS: usize = 8;
/// Bytes of one header.
const MAX_HEADER_BYTES: usize = 2_048;
/// What a subscription whose events are fetched says: `channel.type` is `message`, and this is its extension
/// `backport-channel-type`.
const FETCHED: (&str, &str) = ("urn:medmesh:subscription-channel", "server-sent-events");

/// Headers that say how a message goes, which are not a subscriber's to say (RFC 9110 §7.6.1), and those that the server
/// itself says.
const NOT_TAKEN: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channel {
    /// Each notification is sent to an endpoint.
    RestHook {
        /// Its URL.
        endpoint: String,
        /// Name and value of headers that go along.
        headers: Vec<(String, String)>,
        /// After how many seconds without a notification a heartbeat is sent.
        heartbeat_s: Option<u32>,
        /// How many seconds the endpoint may take.
        timeout_s: u32,
        /// Events in one notification.
        max_count: u16,
    },
    /// Its events are fetched, by `$events` and as a stream.
    Fetched,
}

/// What a notification holds (extension `backport-payload-content`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// That something happened.
    #[default]
    Empty,
    /// Also to which resources.
    IdOnly,
    /// Also the resources.
    FullResource,
}

impl Content {
    /// The code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::IdOnly => "id-only",
            Self::FullResource => "full-resource",
        }
    }

    /// The content of a code.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Empty, Self::IdOnly, Self::FullResource]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// What a notification is to hold; the least when nothing is said.
pub fn content(subscription: &Object<'_>, note: &mut impl FnMut(Fault)) -> Content {
    let Some(channel) = subscription.get("channel").and_then(Json::object) else {
        return Content::Empty;
    };
    if !matches!(
        channel.text("payload"),
        None | Some("application/fhir+json" | "application/json")
    ) {
        note(Fault::new(
            "channel.payload",
            "application/fhir+json is the only format",
        ));
    }
    let mut content = Content::Empty;
    for extension in extensions_of(channel, "_payload") {
        let code = match url_of(extension) {
            Some("backport-payload-content") => extension.text("valueCode"),
            _ => None,
        };
        match code.and_then(Content::parse) {
            Some(one) => content = one,
            None => note(Fault::new(
                "channel.payload.extension",
                "backport-payload-content is expected, with empty, id-only or full-resource",
            )),
        }
    }
    content
}

/// Where notifications go.
pub fn read(subscription: &Object<'_>, note: &mut impl FnMut(Fault)) -> Option<Channel> {
    let channel = subscription.get("channel").and_then(Json::object)?;
    match channel.text("type") {
        Some("rest-hook") => rest_hook(channel, note),
        Some("message") if is_fetched(channel) => {
            for name in ["endpoint", "header", "extension"] {
                if channel.has(name) {
                    let problem = "nothing is sent where events are fetched";
                    note(Fault::new(&format!("channel.{name}"), problem));
                }
            }
            Some(Channel::Fetched)
        }
        _ => {
            note(Fault::new(
                "channel.type",
                "rest-hook is expected; or message with the extension backport-channel-type server-sent-events",
            ));
            None
        }
    }
}

fn is_fetched(channel: &Object<'_>) -> bool {
    let is = |extension: &&Object<'_>| {
        let coding = extension.get("valueCoding").and_then(Json::object);
        url_of(extension) == Some("backport-channel-type")
            && coding.is_some_and(|coding| {
                coding.text("system") == Some(FETCHED.0) && coding.text("code") == Some(FETCHED.1)
            })
    };
    match extensions_of(channel, "_type").as_slice() {
        [one] => is(one),
        _ => false,
    }
}

fn rest_hook(channel: &Object<'_>, note: &mut impl FnMut(Fault)) -> Option<Channel> {
    let endpoint = channel.text("endpoint");
    if endpoint.is_none() {
        note(Fault::new("channel.endpoint", "a rest-hook needs one"));
    }
    if !extensions_of(channel, "_type").is_empty() {
        note(Fault::new(
            "channel.type.extension",
            "none is known of a rest-hook",
        ));
    }
    let headers = headers(channel, note);
    let (mut heartbeat_s, mut timeout_s, mut max_count) = (None, TIMEOUT_S, MAX_COUNT);
    for (at, extension) in channel
        .each("extension")
        .filter_map(Json::object)
        .enumerate()
    {
        let number = |name: &str| match extension.get(name) {
            Some(Json::Number(number)) => number.parse::<u32>().ok(),
            _ => None,
        };
        let problem = match url_of(extension) {
            Some("backport-heartbeat-period") => {
                heartbeat_s = number("valueUnsignedInt")
                    .filter(|one| (MIN_HEARTBEAT_S..=MAX_HEARTBEAT_S).contains(one));
                heartbeat_s
                    .is_none()
                    .then(|| format!("{MIN_HEARTBEAT_S} to {MAX_HEARTBEAT_S} seconds are expected"))
            }
            Some("backport-timeout") => {
                let asked = number("valueUnsignedInt");
                let asked = asked.filter(|one| (1..=MAX_TIMEOUT_S).contains(one));
                timeout_s = asked.unwrap_or(TIMEOUT_S);
                let problem = || format!("1 to {MAX_TIMEOUT_S} seconds are expected");
                asked.is_none().then(problem)
            }
            Some("backport-max-count") => {
                let asked = number("valuePositiveInt").and_then(|one| u16::try_from(one).ok());
                let asked = asked.filter(|one| (1..=MOST_EVENTS).contains(one));
                max_count = asked.unwrap_or(MAX_COUNT);
                let problem = || format!("1 to {MOST_EVENTS} events are expected");
                asked.is_none().then(problem)
            }
            _ => Some(format!(
                "of {BACKPORT} only backport-heartbeat-period, backport-timeout and backport-max-count are known here"
            )),
        };
        if let Some(problem) = problem {
            note(Fault::new(&format!("channel.extension[{at}]"), problem));
        }
    }
    Some(Channel::RestHook {
        endpoint: endpoint?.to_owned(),
        headers,
        heartbeat_s,
        timeout_s,
        max_count,
    })
}

/// Headers are lines of `name: value`, without what would end a line or speak for the server.
fn headers(channel: &Object<'_>, note: &mut impl FnMut(Fault)) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (at, line) in channel.each("header").enumerate() {
        let read = line.text().filter(|line| line.len() <= MAX_HEADER_BYTES);
        let pair = read.and_then(|line| line.split_once(':'));
        let pair = pair.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        let taken = pair.filter(|(name, value)| {
            HeaderName::from_bytes(name.as_bytes()).is_ok()
                && HeaderValue::from_str(value).is_ok_and(|value| value.to_str().is_ok())
                && !NOT_TAKEN.contains(&name.as_str())
        });
        match taken {
            Some(pair) if at < MAX_HEADERS => headers.push(pair),
            _ => note(Fault::new(
                &format!("channel.header[{at}]"),
                "at most 8 lines such as Authorization: Bearer … are taken, and none that says how a message goes",
            )),
        }
    }
    headers
}
