//! A history as a Bundle: what was done to each resource, and what came of it.
use super::super::{FhirApi, vantage::Instants};
use super::{Asked, Versions, request};
use crate::store::{Came, Kind, StoreError, Stored};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
#[serde(tag = "resourceType", rename_all = "camelCase")]
struct Bundle {
    #[serde(rename = "type")]
    kind: &'static str,
    link: Vec<Link>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entry: Vec<Entry>,
}

#[derive(Serialize)]
struct Link {
    relation: &'static str,
    url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    full_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Box<RawValue>>,
    request: Done,
    response: Response,
}

#[derive(Serialize)]
struct Done {
    method: &'static str,
    url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status: &'static str,
    etag: String,
    last_modified: String,
}

pub(super) fn bundle(
    api: &FhirApi,
    path: &str,
    asked: &Asked,
    found: &Versions,
    instants: &Instants,
) -> Result<String, StoreError> {
    let link = |relation, cursor: Option<&str>| Link {
        relation,
        url: format!("{}/{}", api.base, request(path, asked, cursor, &api.seal)),
    };
    let mut links = vec![link("self", asked.cursor.as_deref())];
    let next = found.next.as_deref();
    links.extend(next.map(|next| link("next", Some(next))));
    let entries = found
        .versions
        .iter()
        .map(|one| entry(api, (one, &found.came), instants));
    let bundle = Bundle {
        kind: "history",
        link: links,
        entry: entries.collect::<Result<_, _>>()?,
    };
    serde_json::to_string(&bundle).map_err(|_| StoreError::new(Kind::Internal, "bundle"))
}

/// What was put under an id that nothing was under is created too (FHIR R4 http.html#upsert).
fn entry(
    api: &FhirApi,
    (stored, came): (&Stored, &Came),
    instants: &Instants,
) -> Result<Entry, StoreError> {
    let (kind, id) = (stored.kind, &stored.id);
    let (method, url, status) = match stored.version {
        _ if stored.is_deleted() => ("DELETE", format!("{kind}/{id}"), "204"),
        _ if came.posted.contains(&stored.seq) => ("POST", kind.to_string(), "201"),
        _ if came.revived.contains(&stored.seq) => ("PUT", format!("{kind}/{id}"), "201"),
        1 => ("PUT", format!("{kind}/{id}"), "201"),
        _ => ("PUT", format!("{kind}/{id}"), "200"),
    };
    let resource = match stored.is_deleted() {
        true => None,
        false => Some(stored.stamped(&instants.of(stored))?),
    };
    Ok(Entry {
        full_url: format!("{}/{kind}/{id}", api.base),
        resource,
        request: Done { method, url },
        response: Response {
            status,
            etag: format!("W/\"{}\"", stored.version),
            last_modified: instants.of(stored),
        },
    })
}
