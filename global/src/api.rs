//! `/api/v1` of the global node: devices and facilities, read only. Errors are problem documents (RFC 9457).
#![expect(
    clippy::result_large_err,
    reason = "a refused request is answered once; boxing its answer buys nothing"
)]

pub(crate) mod blobs;
mod openapi;
mod query;
pub(crate) mod studies;

use crate::catalog::{Catalog, Device, Facility, Kind, StoreError};
use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
use node::{
    problem::Problem,
    token::{Interaction, Scopes, TokenError, Verifier},
};
use query::{DeviceQuery, FacilityQuery, parameters};
use serde_json::{Value, json};
use std::sync::Arc;
use types::CatalogId;

/// What the bearer of a request may do.
type Authorize = Arc<dyn Fn(&HeaderMap) -> Result<Scopes, TokenError> + Send + Sync>;

#[derive(Clone)]
struct Api {
    catalog: Arc<dyn Catalog>,
    authorize: Authorize,
}

/// The routes. Everything but the API's own description needs a bearer token with a scope such as `mesh/devices.rs`.
pub fn router(catalog: Arc<dyn Catalog>, verifier: Verifier) -> Router {
    routes(catalog, Arc::new(move |headers| verifier.check(headers)))
}

fn routes(catalog: Arc<dyn Catalog>, authorize: Authorize) -> Router {
    Router::new()
        .route("/api/v1/devices", get(devices))
        .route("/api/v1/devices/{id}", get(device))
        .route("/api/v1/facilities", get(facilities))
        .route(
            "/api/v1/openapi.json",
            get(|| async { Json(openapi::document()) }),
        )
        .with_state(Api { catalog, authorize })
}

impl Api {
    fn allowed(
        &self,
        headers: &HeaderMap,
        collection: &str,
        interaction: Interaction,
    ) -> Result<(), Response> {
        let scopes = (self.authorize)(headers).map_err(IntoResponse::into_response)?;
        match scopes.allow_api(collection, interaction) {
            true => Ok(()),
            false => Err(Problem::forbidden(&format!("mesh/{collection}.rs")).into_response()),
        }
    }
}

async fn devices(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, Response> {
    api.allowed(&headers, "devices", Interaction::Search)?;
    let query = parameters(query.as_deref()).and_then(DeviceQuery::read);
    let DeviceQuery {
        filter,
        after,
        limit,
    } = query.map_err(IntoResponse::into_response)?;
    let page = api.catalog.devices(&filter, after.as_ref(), limit).await;
    let page = page.map_err(|error| failed(&error))?;
    let items: Vec<_> = page.items.iter().map(device_json).collect();
    let next = page.next.map(|next| next.to_string());
    Ok(Json(json!({"items": items, "next": next})))
}

async fn device(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Response> {
    api.allowed(&headers, "devices", Interaction::Read)?;
    let id: CatalogId = id
        .parse()
        .map_err(|_| Problem::missing("no device has this id").into_response())?;
    let device = api.catalog.device(id).await;
    match device.map_err(|error| failed(&error))? {
        Some(device) => Ok(Json(device_json(&device))),
        None => Err(Problem::missing("no device has this id").into_response()),
    }
}

async fn facilities(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, Response> {
    api.allowed(&headers, "facilities", Interaction::Search)?;
    let query = parameters(query.as_deref()).and_then(FacilityQuery::read);
    let FacilityQuery {
        filter,
        after,
        limit,
    } = query.map_err(IntoResponse::into_response)?;
    let page = api.catalog.facilities(&filter, after.as_ref(), limit).await;
    let page = page.map_err(|error| failed(&error))?;
    let items: Vec<_> = page.items.iter().map(facility_json).collect();
    let next = page.next.map(|next| next.to_string());
    Ok(Json(json!({"items": items, "next": next})))
}

fn device_json(device: &Device) -> Value {
    let (home, facts) = (&device.home, &device.entry.facts);
    let label = |label: &Option<types::Label>| label.as_ref().map(ToString::to_string);
    json!({
        "id": device.entry.id.to_string(),
        "jurisdiction": home.jurisdiction.as_str(),
        "region": home.region.as_str(),
        "facility": home.facility.as_str(),
        "kind": facts.kind.as_str(),
        "status": facts.status.as_str(),
        "model": label(&facts.model),
        "firmware": label(&facts.firmware),
        "updated": day(device.entry.updated),
    })
}

/// The day (UTC): what the catalog knows of the time of a change.
fn day(time: types::Timestamp) -> String {
    let text = time.to_rfc3339();
    text.split('T').next().unwrap_or_default().to_owned()
}

fn facility_json(facility: &Facility) -> Value {
    let home = &facility.home;
    json!({
        "jurisdiction": home.jurisdiction.as_str(),
        "region": home.region.as_str(),
        "facility": home.facility.as_str(),
        "updated": day(facility.updated),
    })
}

/// The client learns whether to try again; the log learns why.
pub(crate) fn failed(error: &StoreError) -> Response {
    match error.kind {
        Kind::Full | Kind::Unavailable => {
            tracing::warn!(%error, source = ?error.source, "the catalog does not answer");
            Problem::unavailable("the catalog does not answer; try again later").into_response()
        }
        Kind::Refused | Kind::Corrupt | Kind::Internal => {
            tracing::error!(%error, source = ?error.source, "the catalog failed");
            Problem::internal().into_response()
        }
    }
}

#[cfg(test)]
mod tests;
