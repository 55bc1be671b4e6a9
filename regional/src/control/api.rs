//! `/api/v1/devices/{id}`: the device, its twin and its commands. Errors are problem documents (RFC 9457).
#![expect(
    clippy::result_large_err,
    reason = "a refused request is answered once; boxing its answer buys nothing"
)]

use super::{
    Control, body,
    rows::{MAX_PAGE, Row, Twin},
    shown::command_json,
    sse,
    steps::{self, Approved, Asked},
    twins::{self, Patched},
};
use crate::{
    api::device_json,
    registry::{Device, Registry},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use commands::ETag;
use federation::port::{PortError, PortErrorKind};
use fhir::json::with;
use node::{
    problem::Problem,
    query,
    token::{Interaction, Verifier},
};
use serde_json::{Value, json};
use std::sync::Arc;
use types::{CatalogId, DeviceStatus, Id128};

#[derive(Clone)]
struct Api {
    control: Control,
    registry: Registry,
    verifier: Verifier,
}

/// The routes.
pub fn router(control: Control, registry: Registry, verifier: Verifier) -> Router {
    let api = Api {
        control,
        registry,
        verifier,
    };
    Router::new()
        .route("/api/v1/devices/{id}", get(device))
        .route("/api/v1/devices/{id}/twin", get(twin).patch(patch_twin))
        .route("/api/v1/devices/{id}/commands", post(ask).get(list))
        .route("/api/v1/devices/{id}/commands/{command}", get(command))
        .route(
            "/api/v1/devices/{id}/commands/{command}/approval",
            post(approve),
        )
        .with_state(api)
}

type Answer = Result<Response, Response>;

impl Api {
    /// The client, if it may.
    fn allowed(
        &self,
        headers: &HeaderMap,
        (collection, interaction): (&str, Interaction),
        scope: &str,
    ) -> Result<Arc<str>, Response> {
        let (client, scopes) = self
            .verifier
            .bearer(headers)
            .map_err(IntoResponse::into_response)?;
        if scopes.allow_api(collection, interaction) {
            Ok(client)
        } else {
            Err(Problem::forbidden(scope).into_response())
        }
    }

    async fn device(&self, id: &str) -> Result<Device, Response> {
        let missing = || {
            Problem::missing(
                "no device of this region has this id; `GET /api/v1/devices` lists them",
            )
            .into_response()
        };
        let id: CatalogId = id.parse().map_err(|_| missing())?;
        let found = self
            .registry
            .device(id)
            .await
            .map_err(|error| failed(&error))?;
        found.ok_or_else(missing)
    }

    /// The commands that a device takes.
    async fn table(&self, device: &Device) -> Result<commands::Table, Response> {
        let table = self.control.table(device).await;
        table.map_err(|error| failed(&error))
    }

    async fn row(&self, device: CatalogId, id: Id128) -> Result<Row, Response> {
        let found = self
            .control
            .ledger
            .commit("look at a command", move |commit| {
                Row::find(commit.tx(), id)
            });
        let found = found.await.map_err(|error| failed(&error))?;
        found
            .filter(|row| row.device == device)
            .ok_or_else(|| no_command().into_response())
    }
}

fn no_command() -> Problem {
    Problem::missing("the device has no command of this id; it is forgotten 30 days after its end")
}

fn command_id(text: &str) -> Result<Id128, Response> {
    text.parse().map_err(|_| no_command().into_response())
}

fn failed(error: &PortError) -> Response {
    tracing::error!(op = error.op, kind = ?error.kind, "a step of commands failed");
    let problem = match error.kind {
        PortErrorKind::Unavailable => Problem::unavailable(
            "nothing was done: the node is busy, or as much waits for the facility as may; try again later",
        ),
        PortErrorKind::Corrupt | PortErrorKind::Internal => Problem::internal(),
    };
    problem.into_response()
}

fn refused(problem: Problem) -> Response {
    problem.into_response()
}

/// A device that may be told something.
fn in_use(device: Device) -> Result<Device, Response> {
    if device.status == DeviceStatus::Retired {
        let detail = "the device is retired: its facility has it no more";
        let problem = Problem::new(StatusCode::CONFLICT, "retired", detail);
        return Err(refused(problem));
    }
    Ok(device)
}

async fn device(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    api.allowed(&headers, ("devices", Interaction::Read), "mesh/devices.r")?;
    let device = api.device(&id).await?;
    let table = api.table(&device).await?;
    let json = with(device_json(&device), [("commands", Some(table.describe()))]);
    Ok(Json(json).into_response())
}

async fn twin(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    api.allowed(&headers, ("twins", Interaction::Read), "mesh/twins.r")?;
    let device = api.device(&id).await?;
    let id = device.id;
    let step = api.control.ledger.commit("look at a twin", move |commit| {
        Ok((Twin::find(commit.tx(), id)?, commit.now()))
    });
    let (twin, now) = step.await.map_err(|error| failed(&error))?;
    Ok(twin_answer(StatusCode::OK, &device, &twin, now))
}

fn twin_answer(
    status: StatusCode,
    device: &Device,
    twin: &Twin,
    now: types::Timestamp,
) -> Response {
    // The tag is of what is desired alone: nobody may take a twin from a store by it, whose reports are others by now.
    let headers = [
        (header::ETAG, ETag(twin.version).to_string()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (status, headers, Json(twins::json(device, twin, now))).into_response()
}

async fn patch_twin(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let client = api.allowed(&headers, ("twins", Interaction::Update), "mesh/twins.u")?;
    let device = in_use(api.device(&id).await?)?;
    let patch = twins::Patch {
        table: api.table(&device).await?,
        device: device.clone(),
        patch: body::patch(&headers, &body).map_err(refused)?,
        seen: body::if_match(&headers).map_err(refused)?,
        unless: body::if_none_match(&headers).map_err(refused)?,
        by: client.to_string(),
    };
    let step = api.control.ledger.commit("patch a twin", move |commit| {
        Ok((twins::patch(commit, &patch)?, commit.now()))
    });
    let (patched, now) = step.await.map_err(|error| failed(&error))?;
    match patched {
        Patched::Yes(twin) => {
            api.control.desired();
            Ok(twin_answer(StatusCode::OK, &device, &twin, now))
        }
        Patched::OtherVersion(twin) => {
            let detail = "somebody else has set the twin since; read it again";
            Err(precondition_failed(&twin, "If-Match", detail))
        }
        Patched::SameVersion(twin) => {
            let detail = "the twin is of a version that the request does not let be changed";
            Err(precondition_failed(&twin, "If-None-Match", detail))
        }
        Patched::Wrong(wrong) => Err(refused(body::wrong(wrong))),
    }
}

fn precondition_failed(twin: &Twin, field: &str, detail: &str) -> Response {
    let etag = ETag(twin.version).to_string();
    let status = StatusCode::PRECONDITION_FAILED;
    let problem = Problem::new(status, "precondition failed", detail).at(field);
    ([(header::ETAG, etag)], problem).into_response()
}

async fn ask(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let client = api.allowed(
        &headers,
        ("commands", Interaction::Create),
        "mesh/commands.c",
    )?;
    let device = in_use(api.device(&id).await?)?;
    let table = api.table(&device).await?;
    let ask = body::command(&device, &table, &client, &headers, &body).map_err(refused)?;
    let own = Arc::clone(&api.control.own);
    let step = api
        .control
        .ledger
        .commit("ask for a command", move |commit| {
            steps::ask(&own, commit, ask)
        });
    match step.await.map_err(|error| failed(&error))? {
        Asked::New(row) | Asked::Same(row) => Ok(accepted(&row)),
        Asked::OtherRequest => {
            let detail = "the key was used for another request; a new command has a new key";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let problem = Problem::new(status, "key used before", detail);
            Err(refused(problem.at("Idempotency-Key")))
        }
        Asked::TooManyOpen(open) => Err(too_many(format!(
            "{open} commands of this device have not ended"
        ))),
        Asked::Full => Err(too_many("the region keeps as many commands as it may")),
    }
}

fn too_many(detail: impl Into<String>) -> Response {
    let status = StatusCode::TOO_MANY_REQUESTS;
    refused(Problem::new(status, "too many commands", detail))
}

fn accepted(row: &Row) -> Response {
    let location = format!("/api/v1/devices/{}/commands/{}", row.device, row.id);
    let json = command_json(row, usize::MAX);
    (
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        Json(json),
    )
        .into_response()
}

/// The parameters `before` and `limit`: before which command, how many.
fn listing(query: Option<&str>) -> Result<(i64, u16), Problem> {
    let mut from = query::parameters(query)?;
    let cursor = "not a cursor that a listing returned as next";
    let before = query::take(&mut from, "before", cursor, |text| text.parse().ok())?;
    let limit = query::limit(&mut from, MAX_PAGE)?;
    query::nothing_left(&from)?;
    Ok((before.unwrap_or(i64::MAX), limit))
}

async fn list(
    State(api): State<Api>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    api.allowed(
        &headers,
        ("commands", Interaction::Search),
        "mesh/commands.s",
    )?;
    let device = api.device(&id).await?.id;
    let (before, limit) = listing(query.as_deref()).map_err(refused)?;
    let step = api.control.ledger.commit("list commands", move |commit| {
        Row::of_device(commit.tx(), device, before, limit + 1)
    });
    let mut rows = step.await.map_err(|error| failed(&error))?;
    let more = rows.len() > usize::from(limit);
    rows.truncate(usize::from(limit));
    let next = rows.last().filter(|_| more).map(|last| last.number);
    let items: Vec<Value> = rows
        .iter()
        .map(|row| command_json(row, usize::MAX))
        .collect();
    Ok(Json(json!({"items": items, "next": next})).into_response())
}

async fn command(
    State(api): State<Api>,
    Path((id, command)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    api.allowed(&headers, ("commands", Interaction::Read), "mesh/commands.r")?;
    let device = api.device(&id).await?.id;
    let row = api.row(device, command_id(&command)?).await?;
    if sse::is_asked_for(&headers) {
        return Ok(sse::answer(&api.control, &row, &headers));
    }
    Ok(Json(command_json(&row, usize::MAX)).into_response())
}

async fn approve(
    State(api): State<Api>,
    Path((id, command)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let client = api.allowed(
        &headers,
        ("approvals", Interaction::Create),
        "mesh/approvals.c",
    )?;
    let which = (in_use(api.device(&id).await?)?, command_id(&command)?);
    let own = Arc::clone(&api.control.own);
    let step = api
        .control
        .ledger
        .commit("approve a command", move |commit| {
            steps::approve(&own, commit, &which, &client)
        });
    let conflict = |title, detail: &str| refused(Problem::new(StatusCode::CONFLICT, title, detail));
    match step.await.map_err(|error| failed(&error))? {
        Approved::Yes(row) => {
            api.control.changes.touched([row.id]);
            Ok(Json(command_json(&row, usize::MAX)).into_response())
        }
        Approved::Missing => Err(refused(no_command())),
        Approved::NotNeeded => Err(conflict(
            "no approval needed",
            "the command needs no second person",
        )),
        Approved::SamePerson => {
            let detail = "who asked for a command does not approve it, by no other name of the same key either";
            Err(refused(Problem::new(
                StatusCode::FORBIDDEN,
                "second person needed",
                detail,
            )))
        }
        Approved::TooLate(_) => {
            let detail = "the command has ended, or another client has approved it";
            Err(conflict("too late", detail))
        }
        Approved::NotTaken(row) => {
            api.control.changes.touched([row.id]);
            let detail = "the device does not take this command any more; it has ended";
            Err(conflict("not taken", detail))
        }
    }
}
