//! `/api/v1/blobs`: files that are sent down to regions and facilities. Errors are problem documents (RFC 9457).
//!
//! | | | |
//! |---|---|---|
//! | `POST /api/v1/blobs` | `{"name", "sha256", "size", "class", "purpose", "to": [..]}` | begins a delivery; `to` names regions, or facilities as `us-f1` or `us/us-f1` |
//! | `PUT /api/v1/blobs/{id}/bytes?offset=N` | at most 96 KiB of `application/octet-stream` | the next bytes; the answer's `held` says where to go on |
//! | `GET /api/v1/blobs`, `GET /api/v1/blobs/{id}` | | where they are |
//! | `DELETE /api/v1/blobs/{id}` | | takes the file back everywhere |
#![expect(
    clippy::result_large_err,
    reason = "a refused request is answered once; boxing its answer buys nothing"
)]

use super::query::takes_none;
use crate::{
    catalog::{Catalog, PlaceFilter},
    deliveries::{Ask, Begun, Deliveries, Delivery},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, RawQuery, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use federation::port::{PortError, PortErrorKind};
use messages::delivery::{CLASSES, MAX_FACILITIES};
use node::{
    media,
    problem::{Problem, worded},
    token::{Interaction, Verifier},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use types::{DataClass, FacilityId, Id128, Place, Purpose, RegionId};

/// Deliveries that are listed.
const LISTED: u16 = 1_000;
/// Facilities of a page of the catalog.
const PAGE: usize = 100;

#[derive(Clone)]
struct Api {
    deliveries: Deliveries,
    catalog: Arc<dyn Catalog>,
    verifier: Verifier,
}

/// The routes.
pub fn router(deliveries: Deliveries, catalog: Arc<dyn Catalog>, verifier: Verifier) -> Router {
    let api = Api {
        deliveries,
        catalog,
        verifier,
    };
    let routes = Router::new()
        .route("/api/v1/blobs", post(begin).get(list))
        .route("/api/v1/blobs/{id}", get(show).delete(withdraw))
        .route("/api/v1/blobs/{id}/bytes", put(take))
        .with_state(api);
    worded(routes)
}

type Answer = Result<Response, Response>;

impl Api {
    /// The client, if it may.
    fn allowed(
        &self,
        headers: &HeaderMap,
        interaction: Interaction,
        scope: &str,
    ) -> Result<Arc<str>, Response> {
        let (client, scopes) = self
            .verifier
            .bearer(headers)
            .map_err(IntoResponse::into_response)?;
        if scopes.allow_api("blobs", interaction) {
            Ok(client)
        } else {
            Err(Problem::forbidden(scope).into_response())
        }
    }

    fn shown(&self, delivery: &Delivery) -> Value {
        let place = |at: &crate::deliveries::At| {
            json!({
                "place": at.place.to_string(),
                "state": at.state.as_str(),
                "since": at.since.to_rfc3339(),
            })
        };
        let places: Vec<_> = delivery.places.iter().map(place).collect();
        json!({
            "id": delivery.id.to_string(),
            "name": delivery.name.as_str(),
            "class": delivery.class.as_str(),
            "purpose": delivery.purpose.as_str(),
            "sha256": hex(&delivery.sha256),
            "size": delivery.size,
            "held": self.deliveries.held(delivery),
            "by": delivery.by,
            "created": delivery.created.to_rfc3339(),
            "state": delivery.state.as_str(),
            "places": places,
        })
    }

    /// The places of a name: a region, or a facility with or without its region.
    async fn places(&self, name: &str) -> Result<Vec<Place>, Response> {
        let (region, facility) = match name.split_once('/') {
            Some((region, facility)) => (region.parse::<RegionId>().ok(), facility),
            None => (None, name),
        };
        let mut found = Vec::new();
        if let (None, Ok(own)) = (name.split_once('/'), name.parse::<RegionId>()) {
            let regions = self.deliveries.regions().await;
            let regions = regions.map_err(|error| failed(&error))?;
            found.extend(regions.into_iter().filter(|it| it.region() == Some(&own)));
        }
        let Ok(facility) = facility.parse::<FacilityId>() else {
            return Ok(found);
        };
        let filter = PlaceFilter {
            region,
            facility: Some(facility),
            ..PlaceFilter::default()
        };
        let mut after = None;
        loop {
            let page = self.catalog.facilities(&filter, after.as_ref(), PAGE).await;
            let page = page.map_err(|error| super::failed(&error))?;
            found.extend(
                page.items
                    .into_iter()
                    .map(|it| it.home)
                    .map(|home| Place::Edge {
                        jurisdiction: home.jurisdiction,
                        region: home.region,
                        facility: home.facility,
                    }),
            );
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// Every place of a request, each of which must be known and meant alone.
    async fn to(&self, names: &[String]) -> Result<BTreeSet<Place>, Response> {
        let mut to = BTreeSet::new();
        for name in names {
            let mut found = self.places(name).await?;
            match (found.pop(), found.is_empty()) {
                (Some(place), true) => {
                    to.insert(place);
                }
                (Some(_), false) => {
                    let detail =
                        format!("{name} is the name of several places: write region/facility");
                    return Err(wrong("/to", detail));
                }
                (None, _) => {
                    let detail = format!(
                        "{name} is no region that has connected, nor a facility of the catalog"
                    );
                    return Err(wrong("/to", detail));
                }
            }
        }
        let is_both = |place: &Place| {
            place.facility().is_some()
                && to
                    .iter()
                    .any(|it| it.facility().is_none() && it.region() == place.region())
        };
        if to.is_empty() || to.len() > MAX_FACILITIES {
            return Err(wrong("/to", format!("1 to {MAX_FACILITIES} places")));
        }
        if to.iter().any(is_both) {
            let detail = "a file for a region and one for its facilities are two deliveries";
            return Err(wrong("/to", detail));
        }
        Ok(to)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wrong(field: &str, detail: impl Into<String>) -> Response {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Problem::new(status, "delivery refused", detail)
        .at(field)
        .into_response()
}

fn missing() -> Response {
    Problem::missing("no delivery has this id").into_response()
}

fn failed(error: &PortError) -> Response {
    tracing::error!(%error, source = ?error.source, "deliveries failed");
    match error.kind {
        PortErrorKind::Unavailable => Problem::unavailable(
            "nothing was done: the node is busy, or its disk is full; try again later",
        ),
        PortErrorKind::Corrupt | PortErrorKind::Internal => Problem::internal(),
    }
    .into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
    sha256: String,
    size: u64,
    class: String,
    purpose: String,
    to: Vec<String>,
}

/// A member of a request, whether a value is of its type, and what that is.
type Member = (&'static str, fn(&Value) -> bool, &'static str);
const MEMBERS: [Member; 6] = [
    ("name", Value::is_string, "is needed: a text"),
    (
        "sha256",
        Value::is_string,
        "is needed: 64 lower-case hexadecimal digits",
    ),
    ("size", Value::is_u64, "is needed: a whole number, in bytes"),
    ("class", Value::is_string, "is needed: a text"),
    ("purpose", Value::is_string, "is needed: a text"),
    (
        "to",
        are_texts,
        "is needed: a list of regions and facilities",
    ),
];

fn are_texts(value: &Value) -> bool {
    let all = value.as_array();
    all.is_some_and(|all| all.iter().all(Value::is_string))
}

/// What keeps a body from being a request: the first member that is none, or is not there or of another type.
fn unfit(body: &[u8]) -> (String, &'static str) {
    let whole = "a JSON object with name, sha256, size, class, purpose and to, each once";
    let Ok(Value::Object(given)) = serde_json::from_slice(body) else {
        return (String::new(), whole);
    };
    let is_known = |name: &str| MEMBERS.iter().any(|(known, ..)| *known == name);
    if let Some(name) = given.keys().find(|name| !is_known(name)) {
        let name = name.replace('~', "~0").replace('/', "~1");
        return (format!("/{name}"), "is no member of a delivery");
    }
    for (name, fits, what) in MEMBERS {
        if !given.get(name).is_some_and(fits) {
            return (format!("/{name}"), what);
        }
    }
    (String::new(), whole)
}

/// Reads a request, but for its places.
fn read(body: &[u8], by: &str) -> Result<(Ask, Vec<String>), Response> {
    let body: Body = serde_json::from_slice(body).map_err(|_| {
        let (field, detail) = unfit(body);
        Problem::new(StatusCode::BAD_REQUEST, "not understood", detail)
            .at(field)
            .into_response()
    })?;
    let name = body.name.parse().map_err(|error| {
        let error: types::InvalidLabel = error;
        wrong("/name", error.to_string())
    })?;
    let class = DataClass::parse(&body.class).filter(|class| CLASSES.contains(class));
    let classes = CLASSES.map(DataClass::as_str).join(", ");
    let class = class.ok_or_else(|| wrong("/class", format!("one of {classes}")))?;
    let purposes = Purpose::ALL.map(Purpose::as_str).join(", ");
    let purpose = Purpose::parse(&body.purpose);
    let purpose = purpose.ok_or_else(|| wrong("/purpose", format!("one of {purposes}")))?;
    let sha256 =
        digest(&body.sha256).ok_or_else(|| wrong("/sha256", "64 lower-case hexadecimal digits"))?;
    if body.size == 0 {
        return Err(wrong("/size", "a file has at least one byte"));
    }
    let ask = Ask {
        name,
        sha256,
        size: body.size,
        class,
        purpose,
        to: BTreeSet::new(),
        by: by.to_owned(),
    };
    Ok((ask, body.to))
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let (one, other) = text.split_at_checked(32)?;
    let halves = one.parse::<Id128>().ok().zip(other.parse::<Id128>().ok())?;
    let mut digest = [0; 32];
    let bytes = halves.0.as_bytes().iter().chain(halves.1.as_bytes());
    for (to, byte) in digest.iter_mut().zip(bytes) {
        *to = *byte;
    }
    Some(digest)
}

async fn begin(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Answer {
    let by = api.allowed(&headers, Interaction::Create, "mesh/blobs.c")?;
    media::is_one_of(&headers, &["application/json"]).map_err(IntoResponse::into_response)?;
    let (mut ask, to) = read(&body, &by)?;
    ask.to = api.to(&to).await?;
    let refused = |status, detail: &str| {
        Err(Problem::new(status, "delivery refused", detail).into_response())
    };
    match api
        .deliveries
        .begin(ask)
        .await
        .map_err(|error| failed(&error))?
    {
        Begun::Yes(delivery) => {
            Ok((StatusCode::CREATED, Json(api.shown(&delivery))).into_response())
        }
        Begun::TooMany => refused(
            StatusCode::TOO_MANY_REQUESTS,
            "as many files are put up, or known, as may be; take some back",
        ),
        Begun::NoRoom => refused(
            StatusCode::INSUFFICIENT_STORAGE,
            "there is no room for it among the files of the node; take some back",
        ),
        Begun::TooLarge => Err(wrong(
            "/size",
            "no file is larger than 4 GiB, and a digest has one size",
        )),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    offset: u64,
}

async fn take(
    State(api): State<Api>,
    Path(id): Path<String>,
    at: Result<Query<At>, QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    api.allowed(&headers, Interaction::Create, "mesh/blobs.c")?;
    let bytes = media::is_one_of(&headers, &["application/octet-stream"]);
    bytes.map_err(IntoResponse::into_response)?;
    let Query(at) = at.map_err(|_| {
        Problem::parameter("offset", "offset: where the bytes begin").into_response()
    })?;
    let id = id.parse().map_err(|_| missing())?;
    let taken = api.deliveries.put(id, at.offset, body).await;
    let taken = taken.map_err(|error| failed(&error))?;
    let taken = taken.ok_or_else(missing)?;
    Ok(Json(api.shown(&taken)).into_response())
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    api.allowed(&headers, Interaction::Search, "mesh/blobs.s")?;
    takes_none(query.as_deref()).map_err(IntoResponse::into_response)?;
    let found = api.deliveries.list(LISTED).await;
    let found = found.map_err(|error| failed(&error))?;
    let items: Vec<_> = found.iter().map(|delivery| api.shown(delivery)).collect();
    Ok(Json(json!({ "items": items })).into_response())
}

async fn show(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    api.allowed(&headers, Interaction::Read, "mesh/blobs.r")?;
    let id = id.parse().map_err(|_| missing())?;
    let found = api.deliveries.find(id).await;
    let found = found.map_err(|error| failed(&error))?.ok_or_else(missing)?;
    Ok(Json(api.shown(&found)).into_response())
}

async fn withdraw(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let by = api.allowed(&headers, Interaction::Delete, "mesh/blobs.d")?;
    let id = id.parse().map_err(|_| missing())?;
    let withdrawn = api.deliveries.withdraw(id, by.to_string()).await;
    let withdrawn = withdrawn.map_err(|error| failed(&error))?;
    Ok(Json(api.shown(&withdrawn.ok_or_else(missing)?)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_none_is_refused_by_the_member_that_is_wrong() {
        let good = json!({
            "name": "a.bin", "sha256": "00".repeat(32), "size": 3, "class": "firmware", "purpose": "care", "to": ["us"],
        });
        let with = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body.to_string()
        };
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove("sha256");
        assert!(read(good.to_string().as_bytes(), "operator").is_ok());
        for (body, field) in [
            ("x".to_owned(), ""),
            ("[]".to_owned(), ""),
            (without.to_string(), "/sha256"),
            (with("size", json!(-1)), "/size"),
            (with("size", json!(3.0)), "/size"),
            (with("to", json!(["us", 7])), "/to"),
            (with("a/b", json!(1)), "/a~1b"),
            (r#"{"name": "a", "name": "b"}"#.to_owned(), "/sha256"),
        ] {
            assert_eq!(unfit(body.as_bytes()).0, field, "{body}");
            let status = read(body.as_bytes(), "operator").map(drop).unwrap_err();
            assert_eq!(status.status(), StatusCode::BAD_REQUEST, "{body}");
        }
    }
}
