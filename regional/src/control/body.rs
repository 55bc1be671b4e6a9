//! The bodies and headers of requests for commands and twins, read into what the steps take; every error names its field.
use super::steps::Ask;
use crate::registry::Device;
use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use commands::{ETag, MAX_LIFE_MS, Table, parse_span};
use node::{media, problem::Problem};
use serde_json::{Map, Value as Json, json};

/// The longest idempotency key, in characters.
const MAX_KEY: usize = 255;
/// The time to live where a client does not say, in milliseconds: a minute.
const TTL_MS: i64 = 60_000;
/// The shortest time to live, in milliseconds: less is no time to reach a device in.
const MIN_TTL_MS: i64 = 1_000;

fn bad(field: &str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad request", detail).at(field)
}

fn unfit(field: impl Into<String>, detail: impl Into<String>) -> Problem {
    let title = "not possible for this device";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, title, detail).at(field)
}

/// The object of a body of one of these media types.
fn object(headers: &HeaderMap, body: &Bytes, types: &[&str]) -> Result<Map<String, Json>, Problem> {
    media::is_one_of(headers, types)?;
    let text = std::str::from_utf8(body).map_err(|_| bad("", "the body is not UTF-8"))?;
    // A member twice would be one thing to us and another to whoever looked at the request before us.
    fhir::json::Json::parse(text)
        .map_err(|error| bad("", format!("the body is not JSON: {error}")))?;
    serde_json::from_str(text).map_err(|_| bad("", "the body is not a JSON object"))
}

/// The request for a command.
pub fn command(
    device: &Device,
    table: &Table,
    by: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Ask, Problem> {
    let key = idempotency_key(headers)?;
    let object = object(headers, body, &["application/json"])?;
    let known = ["name", "parameters", "ttl"];
    if let Some(other) = object.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(bad(
            &format!("/{other}"),
            "a command has name, parameters and ttl",
        ));
    }
    let name = object.get("name").and_then(Json::as_str);
    let name = name.ok_or_else(|| bad("/name", "is missing: the name of a command"))?;
    let none = Map::new();
    let parameters = match object.get("parameters") {
        None => &none,
        Some(Json::Object(parameters)) => parameters,
        Some(_) => return Err(bad("/parameters", "is an object")),
    };
    let ttl_ms = ttl(object.get("ttl"))?;
    let parameters = table.check(name, parameters).map_err(|misuse| {
        unfit(misuse.field, misuse.detail).with("reason", misuse.reason.as_str())
    })?;
    let entry = table.entry(name);
    let entry = entry.ok_or_else(|| unfit("/name", "the device takes no such command"))?;
    let request = json!({
        "device": device.id.to_string(),
        "name": name,
        "parameters": super::rows::parameters_json(&parameters),
        "ttl": ttl_ms,
    });
    Ok(Ask {
        device: device.id,
        facility: device.facility.clone(),
        name: entry.name.clone(),
        parameters,
        safety: entry.safety,
        property: None,
        ttl_ms,
        by: by.to_owned(),
        key: Some((key, request.to_string())),
    })
}

fn ttl(given: Option<&Json>) -> Result<i64, Problem> {
    let Some(given) = given else {
        return Ok(TTL_MS);
    };
    let ms = given.as_str().and_then(parse_span);
    let ms = ms.and_then(|ms| i64::try_from(ms).ok());
    let allowed = MIN_TTL_MS..=MAX_LIFE_MS;
    ms.filter(|ms| allowed.contains(ms))
        .ok_or_else(|| unfit("/ttl", "is a span such as \"60s\", from 1s to 30d"))
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let field = "Idempotency-Key";
    let mut values = headers.get_all(field).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        let detail = "is needed, once: a text of the client's own that is new for each command";
        return Err(bad(field, detail));
    };
    let text = value.to_str().unwrap_or_default();
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > MAX_KEY || !plain {
        return Err(bad(field, "is 1 to 255 visible ASCII characters"));
    }
    Ok(text.to_owned())
}

/// The patch of a twin.
pub fn patch(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Json>, Problem> {
    object(
        headers,
        body,
        &["application/merge-patch+json", "application/json"],
    )
}

/// The versions that a client lets be changed; none when it does not say, or says that any will do.
pub fn if_match(headers: &HeaderMap) -> Result<Option<Vec<ETag>>, Problem> {
    match joined(headers, header::IF_MATCH) {
        Some(all) if all.trim() != "*" => {
            let detail = "is the ETag of the twin as it was read, or *";
            let tags = ETag::list(&all).ok_or_else(|| bad("If-Match", detail))?;
            Ok(Some(tags))
        }
        Some(_) | None => Ok(None),
    }
}

/// The versions of a twin that a client lets nobody change (RFC 9110 §13.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unless {
    /// Any: there always is a twin.
    Any,
    /// These.
    Tags(Vec<ETag>),
}

impl Unless {
    /// Whether a twin of this version is not changed.
    pub fn holds(&self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.contains(&ETag(version)),
        }
    }
}

/// The versions that a client does not let be changed; none when it does not say.
pub fn if_none_match(headers: &HeaderMap) -> Result<Option<Unless>, Problem> {
    match joined(headers, header::IF_NONE_MATCH) {
        None => Ok(None),
        Some(all) if all.trim() == "*" => Ok(Some(Unless::Any)),
        Some(all) => {
            let detail = "is a list of ETags of the twin, or *";
            let tags = ETag::weak_list(&all).ok_or_else(|| bad("If-None-Match", detail))?;
            Ok(Some(Unless::Tags(tags)))
        }
    }
}

/// The values of a header as one list; none where it is not there.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values = headers.get_all(name).iter();
    let values: Vec<&str> = values
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// Which member of a request is wrong, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// A JSON pointer.
    pub field: String,
    pub detail: String,
}

/// What is wrong with a patched twin.
pub fn wrong(wrong: Wrong) -> Problem {
    unfit(wrong.field, wrong.detail)
}
