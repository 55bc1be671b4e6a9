//! Batch and transaction (FHIR R4 http.html#transaction).
//!
//! Each entry needs what it would need alone: its scope, its row in the log, its place's consent. What writes in a
//! transaction is done first ([`super::transaction`]); then what it reads is read.
use super::bundled::{self, Entry, Sort};
use super::outcome::Failure;
use super::patching::Patch;
use super::routes::{self, InBody, Posted, Segments, in_url};
use super::transaction::transaction;
use super::validating::{self, resource_in};
use super::{Answer, Api, InUrl, capability, check_format, json, stats};
use crate::store::{Kind, StoreError};
use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::value::RawValue;

/// Bytes of all that the entries of one Bundle read: what is beyond is not read.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;

pub async fn bundle(api: Api, pairs: InUrl, headers: HeaderMap, body: InBody) -> Answer {
    let reader = match api.authorize.known(&headers) {
        Ok(reader) => reader,
        Err(denied) => return Err(Failure::denied(&denied)),
    };
    check_format(&headers, &in_url(pairs)?)?;
    let text = resource_in(&headers, body)?;
    let (sort, entries) = bundled::read(&text, api.bases())?;
    let requests = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    if let Err(too_often) = api.authorize.spend(&headers, requests, true) {
        return Ok(too_often.answer());
    }
    let (kind, answers) = match sort {
        Sort::Batch => {
            let (mut answers, mut left) = (Vec::with_capacity(entries.len()), MAX_ANSWER_BYTES);
            for entry in entries {
                answers.push(match entry {
                    Ok(entry) => alone(&api, &headers, entry, &mut left).await?,
                    // Of a batch, one entry costs no other.
                    Err(failure) => told(failure.into_response(), &mut left).await,
                });
            }
            ("batch-response", answers)
        }
        Sort::Transaction => {
            let entries = entries.into_iter().collect::<Result<_, _>>()?;
            let answers = transaction(&api, &headers, reader, entries).await?;
            ("transaction-response", answers)
        }
    };
    let bundle = Answers {
        kind,
        entry: answers,
    };
    let text = serde_json::to_string(&bundle);
    let text = text.map_err(|_| StoreError::new(Kind::Internal, "bundle"))?;
    Ok(json(text).into_response())
}

#[derive(Serialize)]
#[serde(tag = "resourceType", rename = "Bundle")]
struct Answers {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entry: Vec<Answered>,
}

/// What became of an entry.
#[derive(Serialize)]
pub struct Answered {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Box<RawValue>>,
    pub response: Told,
}

/// Its status, and what goes with it.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Box<RawValue>>,
}

/// An entry as the request that it is. `left` is how many bytes may still be read.
pub async fn alone(
    api: &Api,
    headers: &HeaderMap,
    entry: Entry,
    left: &mut usize,
) -> Result<Answered, Failure> {
    // By POST, what is not created at a type is an operation or a search, which reads too, be it at the base or below.
    let is_type = |one: &String| !one.starts_with(['_', '$']);
    let creates = entry.path.len() == 1 && entry.path.iter().all(is_type);
    let is_operation = entry.method == Method::POST && !creates;
    let reads = is_operation || matches!(entry.method, Method::GET | Method::HEAD);
    let asked = match reads && *left == 0 {
        true => Err(Failure::too_much_at_once()),
        false => asked(api, headers, entry).await,
    };
    let response = match asked {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    };
    Ok(told(response, left).await)
}

/// What an answer comes to in a Bundle. `left` is how many bytes may still be read: what is written is done all the same, and
/// not given back where there are none.
pub async fn told(response: Response, left: &mut usize) -> Answered {
    let (parts, body) = response.into_parts();
    let text = |name| {
        let value: Option<&HeaderValue> = parts.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let body = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await;
    let Ok(body) = body else {
        return Answered {
            resource: None,
            response: Told {
                status: StatusCode::BAD_REQUEST.to_string(),
                ..Told::default()
            },
        };
    };
    let fits = *left > 0 || !parts.status.is_success();
    *left = left.saturating_sub(body.len());
    let body = String::from_utf8(body.into()).ok();
    let body = body.filter(|text| fits && !text.is_empty());
    let body = body.and_then(|text| RawValue::from_string(text).ok());
    let failed = !parts.status.is_success();
    let (resource, outcome) = match failed {
        true => (None, body),
        false => (body, None),
    };
    Answered {
        resource,
        response: Told {
            status: parts.status.to_string(),
            location: text(header::LOCATION),
            etag: text(header::ETAG),
            last_modified: None,
            outcome,
        },
    }
}

/// What a request is answered that an entry is: to HEAD without content (RFC 9110 §9.3.2).
pub async fn asked(api: &Api, headers: &HeaderMap, entry: Entry) -> Answer {
    let heads = entry.method == Method::HEAD;
    let response = answered(api, headers, entry).await?;
    match heads {
        true => Ok(Response::from_parts(response.into_parts().0, Body::empty())),
        false => Ok(response),
    }
}

async fn answered(api: &Api, headers: &HeaderMap, entry: Entry) -> Answer {
    let api = State(std::sync::Arc::clone(&api.0));
    let mut own = HeaderMap::new();
    for name in [
        header::AUTHORIZATION,
        header::HeaderName::from_static("prefer"),
    ] {
        for value in headers.get_all(&name) {
            own.append(&name, value.clone());
        }
    }
    own.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(super::FHIR_JSON),
    );
    own.extend(own_headers(&entry)?);
    let pairs: InUrl = Ok(Query(entry.query));
    let mut body = entry.resource.unwrap_or_default();
    if entry.method == Method::PATCH {
        let (kind, text) = Patch::in_entry(&body)?.into_body();
        own.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        body = text;
    }
    let body = Bytes::from(body);
    let segments = Segments(entry.path.iter().cloned().map(Some).collect());
    let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
    match (&entry.method, path.as_slice()) {
        (&Method::PUT, [_]) => routes::update_found(api, segments, pairs, own, Ok(body)).await,
        (&Method::PUT, [_, _]) => routes::update(api, segments, pairs, own, Ok(body)).await,
        (&Method::PATCH, [_]) => routes::patch_found(api, segments, pairs, own, Ok(body)).await,
        (&Method::PATCH, [_, _]) => routes::patch_one(api, segments, pairs, own, Ok(body)).await,
        (&Method::DELETE, [_]) => routes::remove_found(api, segments, pairs, own).await,
        (&Method::DELETE, [_, _]) => routes::remove(api, segments, pairs, own).await,
        (&Method::POST, ["$validate"]) => validating::validate_any(api, pairs, own, Ok(body)).await,
        (&Method::POST, [_, "$validate"]) => {
            validating::validate_type(api, segments, pairs, own, Ok(body)).await
        }
        (&Method::POST, ["Observation", "$stats"]) => {
            stats::answer(api, pairs, own, Posted(Some(Ok(body)))).await
        }
        (&Method::GET | &Method::HEAD, ["metadata"]) => capability::metadata(api, pairs, own).await,
        (&Method::GET | &Method::HEAD, ["Observation", "$stats"]) => {
            stats::answer(api, pairs, own, Posted(None)).await
        }
        (&Method::GET | &Method::HEAD, [""]) | (&Method::POST, ["_search"]) => {
            routes::search_system(api, pairs, own, Posted(None)).await
        }
        (&Method::GET | &Method::HEAD, ["_history"]) => {
            routes::history_of_system(api, pairs, own).await
        }
        (&Method::GET | &Method::HEAD, [_]) | (&Method::POST, [_, "_search"]) => {
            routes::search(api, segments, pairs, own, Posted(None)).await
        }
        (&Method::GET | &Method::HEAD, [_, "_history"]) => {
            routes::history_of_type(api, segments, pairs, own).await
        }
        (&Method::GET | &Method::HEAD, [_, _]) => routes::read(api, segments, pairs, own).await,
        (&Method::GET | &Method::HEAD, [_, _, "_history"]) => {
            routes::history_of_instance(api, segments, pairs, own).await
        }
        (&Method::GET | &Method::HEAD, [_, _, _]) => routes::below(api, segments, pairs, own).await,
        (&Method::GET | &Method::HEAD, [_, _, "_history", _]) => {
            routes::vread(api, segments, pairs, own).await
        }
        (&Method::POST, [_]) => routes::create(api, segments, pairs, own, Ok(body)).await,
        (&Method::POST, [_, _]) => routes::of_type(api, segments, pairs, own, Ok(body)).await,
        (&Method::POST, [_, _, _]) => routes::of_one(api, segments, pairs, own, Ok(body)).await,
        _ => Err(Failure::no_such_path()),
    }
}

/// The headers of an entry.
pub fn own_headers(entry: &Entry) -> Result<HeaderMap, Failure> {
    let mut own = HeaderMap::new();
    for (name, value) in &entry.conditions {
        let value = HeaderValue::from_str(value).map_err(|_| Failure::bad_tag())?;
        own.insert(*name, value);
    }
    Ok(own)
}
