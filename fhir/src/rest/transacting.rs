//! Batch and transaction (FHIR R4 http.html#transaction).
//!
//! Each entry needs what it would need alone: its scope, its row in the log, its place's consent. A transaction is one
//! transaction of the store, in the order DELETE, POST, PUT, after which what it reads is read.
use super::access::{Asker, Intent};
use super::bundled::{self, Entry, Sort};
use super::outcome::Failure;
use super::reading::instants;
use super::routes::{self, InBody, Segments, in_url};
use super::validating::resource_in;
use super::writing::{self, check_id, drawn};
use super::{Answer, Api, FhirApi, InUrl, Interaction, Reader, check_format, json, negotiation};
use crate::store::{
    Change, Draft, Expect, FhirId, Kind, ResourceType, StoreError, Stored, Transacted, Transaction,
    Written,
};
use axum::{
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::IntoResponse,
};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// Bytes of all that the entries of one Bundle read: what is beyond is not read.
const MAX_ANSWER_BYTES: usize = 8 << 20;

pub async fn bundle(api: Api, pairs: InUrl, headers: HeaderMap, body: InBody) -> Answer {
    let reader = match api.authorize.known(&headers) {
        Ok(reader) => reader,
        Err(denied) => return Err(Failure::denied(&denied)),
    };
    check_format(&headers, &in_url(pairs)?)?;
    let text = resource_in(&headers, body)?;
    let (sort, entries) = bundled::read(&text, &api.base)?;
    let (kind, answers) = match sort {
        Sort::Batch => {
            let (mut answers, mut left) = (Vec::with_capacity(entries.len()), MAX_ANSWER_BYTES);
            for entry in entries {
                answers.push(alone(&api, &headers, entry, &mut left).await?);
            }
            ("batch-response", answers)
        }
        Sort::Transaction => {
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

#[derive(Serialize)]
struct Answered {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Box<RawValue>>,
    response: Told,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Box<RawValue>>,
}

/// An entry as the request that it is. `left` is how many bytes may still be read.
async fn alone(
    api: &Api,
    headers: &HeaderMap,
    entry: Entry,
    left: &mut usize,
) -> Result<Answered, Failure> {
    let reads = matches!(entry.method, Method::GET | Method::HEAD);
    let asked = match reads && *left == 0 {
        true => Err(Failure::too_much_at_once()),
        false => asked(api, headers, entry).await,
    };
    let response = match asked {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    };
    let (parts, body) = response.into_parts();
    let text = |name| {
        let value: Option<&HeaderValue> = parts.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let body = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await;
    let Ok(body) = body else {
        return Ok(Answered {
            resource: None,
            response: Told {
                status: StatusCode::BAD_REQUEST.to_string(),
                ..Told::default()
            },
        });
    };
    *left = left.saturating_sub(body.len());
    let body = String::from_utf8(body.into()).ok();
    let body = body.filter(|text| !text.is_empty());
    let body = body.and_then(|text| RawValue::from_string(text).ok());
    let failed = !parts.status.is_success();
    let (resource, outcome) = match failed {
        true => (None, body),
        false => (body, None),
    };
    Ok(Answered {
        resource,
        response: Told {
            status: parts.status.to_string(),
            location: text(header::LOCATION),
            etag: text(header::ETAG),
            last_modified: None,
            outcome,
        },
    })
}

async fn asked(api: &Api, headers: &HeaderMap, entry: Entry) -> Answer {
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
    for (name, value) in &entry.conditions {
        let value = HeaderValue::from_str(value).map_err(|_| Failure::bad_tag())?;
        own.insert(*name, value);
    }
    let pairs: InUrl = Ok(Query(entry.query));
    let body = Bytes::from(entry.resource.unwrap_or_default());
    let segments = Segments(entry.path.iter().cloned().map(Some).collect());
    let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
    match (&entry.method, path.as_slice()) {
        (&Method::POST, [_]) => routes::create(api, segments, pairs, own, Ok(body)).await,
        (&Method::PUT, [_, _]) => routes::update(api, segments, pairs, own, Ok(body)).await,
        (&Method::DELETE, [_, _]) => routes::remove(api, segments, pairs, own).await,
        (&Method::GET | &Method::HEAD, ["_history"]) => {
            routes::history_of_system(api, pairs, own).await
        }
        (&Method::GET | &Method::HEAD, [_]) => routes::search(api, segments, pairs, own).await,
        (&Method::GET | &Method::HEAD, [_, "_history"]) => {
            routes::history_of_type(api, segments, pairs, own).await
        }
        (&Method::GET | &Method::HEAD, [_, _]) => routes::read(api, segments, pairs, own).await,
        (&Method::GET | &Method::HEAD, [_, _, "_history"]) => {
            routes::history_of_instance(api, segments, pairs, own).await
        }
        (&Method::GET | &Method::HEAD, [_, _, "_history", _]) => {
            routes::vread(api, segments, pairs, own).await
        }
        _ => Err(Failure::no_such_path()),
    }
}

/// An entry that writes.
struct Writes {
    /// Its position in the Bundle.
    at: usize,
    asker: Asker,
    kind: ResourceType,
    id: FhirId,
    expect: Expect,
    resource: Option<String>,
}

impl Writes {
    /// DELETE, POST, PUT.
    const fn turn(&self) -> u8 {
        match (&self.resource, self.expect) {
            (None, _) => 0,
            (Some(_), Expect::Absent) => 1,
            (Some(_), _) => 2,
        }
    }

    fn change(&self, draft: Option<&Draft>) -> Change {
        match draft {
            Some(draft) => Change::Put {
                draft: draft.clone(),
                expect: self.expect,
            },
            None => Change::Delete {
                kind: self.kind,
                id: self.id.clone(),
                expect: self.expect,
            },
        }
    }
}

async fn transaction(
    api: &Api,
    headers: &HeaderMap,
    reader: Reader,
    entries: Vec<Entry>,
) -> Result<Vec<Answered>, Failure> {
    let (mut writes, mut names) = (Vec::new(), HashMap::new());
    for (at, entry) in entries.iter().enumerate() {
        let writing = writing_of(api, headers, (at, entry)).await;
        let Some(one) = writing.map_err(|failure| failure.of_entry(at))? else {
            continue;
        };
        if let Some(name) = &entry.full_url {
            let here = format!("{}/{}", one.kind, one.id);
            if names.insert(name.clone(), here).is_some() {
                return Err(Failure::unmet(crate::store::Unmet::Twice).of_entry(at));
            }
        }
        writes.push(one);
    }
    writes.sort_by_key(Writes::turn);
    let done = written(api, reader.clone(), &writes, &names).await;
    if done.is_err() {
        for one in writes {
            one.asker.failed(api);
        }
        return done.map(|_| Vec::new());
    }
    let mut answers: HashMap<usize, Answered> = HashMap::new();
    for (one, (written, draft)) in writes.iter().zip(done?) {
        let told = told(api, headers, &reader, one, written, draft).await?;
        answers.insert(one.at, told);
    }
    let (mut all, mut left) = (Vec::with_capacity(entries.len()), MAX_ANSWER_BYTES);
    for (at, entry) in entries.into_iter().enumerate() {
        all.push(match answers.remove(&at) {
            Some(answer) => answer,
            None => alone(api, headers, entry, &mut left).await?,
        });
    }
    Ok(all)
}

/// What an entry writes; none when it reads.
async fn writing_of(
    api: &FhirApi,
    headers: &HeaderMap,
    (at, entry): (usize, &Entry),
) -> Result<Option<Writes>, Failure> {
    let interaction = match entry.method {
        Method::POST => Interaction::Create,
        Method::PUT => Interaction::Update,
        Method::DELETE => Interaction::Delete,
        _ => return Ok(None),
    };
    let (kind, id) = match (interaction, entry.path.as_slice()) {
        (Interaction::Create, [kind]) => (kind, None),
        (Interaction::Update | Interaction::Delete, [kind, id]) => (kind, Some(id)),
        _ => return Err(Failure::no_such_path()),
    };
    if !entry.query.is_empty() {
        return Err(Failure::parameters());
    }
    let kind = routes::kind_of(kind, interaction)?;
    let asker = api.asker(headers, kind, interaction)?;
    let id = match id {
        None => drawn((api.draw)()).ok_or_else(Failure::undrawn)?,
        Some(id) => id.parse().map_err(|_| Failure::id_not_taken())?,
    };
    let mut own = HeaderMap::new();
    for (name, value) in &entry.conditions {
        let value = HeaderValue::from_str(value).map_err(|_| Failure::bad_tag())?;
        own.insert(*name, value);
    }
    let expect = match interaction {
        Interaction::Create if own.contains_key("if-none-exist") => {
            return Err(Failure::conditional());
        }
        Interaction::Create => Expect::Absent,
        _ => writing::expected(&own)?,
    };
    let resource = match (interaction, &entry.resource) {
        (Interaction::Delete, _) => None,
        (_, Some(resource)) => Some(resource.clone()),
        (_, None) => return Err(Failure::no_resource("the resource is missing")),
    };
    if interaction == Interaction::Update {
        if writing::id_in(resource.as_deref().unwrap_or_default()).as_deref() != Some(id.as_str()) {
            return Err(Failure::another_id());
        }
        check_id(api, kind, &id).await?;
    }
    Ok(Some(Writes {
        at,
        asker,
        kind,
        id,
        expect,
        resource,
    }))
}

/// Judges, writes down and does it; what was done of each, and its content.
async fn written(
    api: &FhirApi,
    reader: Reader,
    writes: &[Writes],
    names: &HashMap<String, String>,
) -> Result<Vec<(Written, Option<Draft>)>, Failure> {
    let mut drafts = Vec::with_capacity(writes.len());
    for one in writes {
        let draft = match &one.resource {
            None => None,
            Some(text) => {
                let text = bundled::resolved(text, names);
                let draft = writing::draft(api, one.kind, one.id.clone(), &text);
                Some(draft.map_err(|failure| failure.of_entry(one.at))?)
            }
        };
        drafts.push(draft);
    }
    let rows = writes.iter().zip(&drafts).map(|(one, draft)| {
        let intent = Intent {
            request: format!("{}/{}", one.kind, one.id),
            patient: draft.as_ref().and_then(|draft| draft.patient().cloned()),
            resources: 1,
        };
        one.asker.note(api, intent)
    });
    for row in join_all(rows).await {
        row?;
    }
    let changes = writes.iter().zip(&drafts);
    let changes = changes.map(|(one, draft)| one.change(draft.as_ref()));
    let transaction = Transaction {
        author: reader.0,
        now: (api.now)(),
        changes: changes.collect(),
    };
    match api.store.transact(transaction).await? {
        Transacted::Done(written) => Ok(written.into_iter().zip(drafts).collect()),
        Transacted::Unmet { at, why } => {
            let at = writes.get(at).map_or(0, |one| one.at);
            Err(Failure::unmet(why).of_entry(at))
        }
    }
}

async fn told(
    api: &FhirApi,
    headers: &HeaderMap,
    reader: &Reader,
    one: &Writes,
    written: Written,
    draft: Option<Draft>,
) -> Result<Answered, Failure> {
    let (kind, id, version) = (one.kind, &one.id, written.version);
    let Some(draft) = draft else {
        return Ok(Answered {
            resource: None,
            response: Told {
                status: StatusCode::NO_CONTENT.to_string(),
                etag: Some(format!("W/\"{version}\"")),
                ..Told::default()
            },
        });
    };
    let stored = Stored {
        kind,
        id: id.clone(),
        version,
        seq: written.seq,
        updated: written.updated,
        source: None,
        json: draft.json().to_owned(),
    };
    let instant = instants(api, reader, written.seq).await?.of(&stored);
    let resource = match negotiation::asks_for_representation(headers) {
        true => Some(stored.stamped(&instant)?),
        false => None,
    };
    let status = match written.existed {
        true => StatusCode::OK,
        false => StatusCode::CREATED,
    };
    Ok(Answered {
        resource,
        response: Told {
            status: status.to_string(),
            location: Some(format!("{kind}/{id}/_history/{version}")),
            etag: Some(format!("W/\"{version}\"")),
            last_modified: Some(instant),
            outcome: None,
        },
    })
}
