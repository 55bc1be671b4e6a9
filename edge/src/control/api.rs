//! What the facility's staff may do with commands, over the node's own HTTPS with the token of the beds.
//!
//! | | | |
//! |---|---|---|
//! | `GET /api/v1/commands` | | `items`: the newest commands; `held`: every device whose commands are held back, and by whom |
//! | `POST /api/v1/commands/hold` | `{"device", "by"}` | the device is told nothing until they are released; what is already with it goes on |
//! | `POST /api/v1/commands/release` | `{"device", "by"}` | they go on, as far as their time has not ended |
//! | `POST /api/v1/commands/refuse` | `{"command", "by"}` | the command ends; it must not be with the device yet |
#![expect(
    clippy::result_large_err,
    reason = "a refused request is answered once; boxing its answer buys nothing"
)]

use super::{
    Control,
    report::{self, By},
    rows::{self, Row},
};
use crate::beds::{failed, problem};
use axum::{
    Json, Router,
    extract::{RawQuery, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use commands::{Reason, State};
use federation::audit::{Decision, Entry};
use node::query::takes_none;
use serde::Deserialize;
use serde_json::{Value as Json_, json};
use std::sync::Arc;
use store::{Commit, Store, StoreError};
use types::{DeviceId, Id128};

/// Commands that have ended are listed at most, beside those that have not.
const LISTED: u32 = 200;
/// The longest name of a person, in characters.
const MAX_BY: usize = 64;

#[derive(Clone)]
struct Api {
    store: Store,
    control: Arc<Control>,
}

/// The routes; who may use them is the caller's to check.
pub(crate) fn router(store: Store, control: Arc<Control>) -> Router {
    Router::new()
        .route("/api/v1/commands", get(list))
        .route("/api/v1/commands/hold", post(hold))
        .route("/api/v1/commands/release", post(release))
        .route("/api/v1/commands/refuse", post(refuse))
        .with_state(Api { store, control })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfDevice {
    device: DeviceId,
    by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfCommand {
    command: Id128,
    by: String,
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    let bad = "not the JSON that is asked for: see docs/commands.md";
    serde_json::from_slice(body).map_err(|_| problem(StatusCode::BAD_REQUEST, bad))
}

fn person(by: &str) -> Result<&str, Response> {
    if by.is_empty() || by.len() > MAX_BY || !by.chars().all(ingest::patient_id::is_seen) {
        let detail = "by: 1 to 64 bytes without control or invisible characters";
        return Err(problem(StatusCode::BAD_REQUEST, detail));
    }
    Ok(by)
}

async fn list(Shared(api): Shared<Api>, RawQuery(query): RawQuery) -> Response {
    if let Err(problem) = takes_none(query.as_deref()) {
        return problem.into_response();
    }
    let step = |commit: &mut Commit<'_, '_>| {
        let mut items = Vec::new();
        for row in Row::list(commit.tx(), LISTED)? {
            let held = rows::held(commit.tx(), &row.device)?;
            let refused = rows::who_refused(commit.tx(), row.signed.command().id)?;
            items.push(shown(&row, held.as_deref(), refused.as_deref()));
        }
        let held = rows::holds(commit.tx())?.into_iter();
        let held = held.map(|(device, by)| json!({ "device": device.as_str(), "by": by }));
        Ok((items, held.collect::<Vec<_>>()))
    };
    match api.store.in_commit(step).await {
        Ok((items, held)) => Json(json!({ "items": items, "held": held })).into_response(),
        Err(error) => failed(&error),
    }
}

fn shown(row: &Row, held: Option<&str>, refused_by: Option<&str>) -> Json_ {
    let command = row.signed.command();
    let mut shown = row.signed.to_json();
    if let Some(object) = shown.as_object_mut() {
        object.remove("signature");
    }
    json!({
        "id": command.id.to_string(),
        "device": row.device.as_str(),
        "name": command.name.as_str(),
        "parameters": shown.get("parameters"),
        "by": command.by,
        "approved_by": command.approved_by,
        "issued": shown.get("issued"),
        "expires": shown.get("expires"),
        "state": row.state.as_str(),
        "reason": row.reason.map(Reason::as_str),
        "with_device": row.begun,
        "held_by": held.filter(|_| !row.state.is_end()),
        "refused_by": refused_by,
    })
}

async fn hold(Shared(api): Shared<Api>, body: axum::body::Bytes) -> Response {
    set_hold(&api, &body, true)
        .await
        .unwrap_or_else(|problem| problem)
}

async fn release(Shared(api): Shared<Api>, body: axum::body::Bytes) -> Response {
    set_hold(&api, &body, false)
        .await
        .unwrap_or_else(|problem| problem)
}

async fn set_hold(api: &Api, body: &[u8], is_held: bool) -> Result<Response, Response> {
    let OfDevice { device, by } = read(body)?;
    let by = person(&by)?.to_owned();
    if api.control.table(&device).is_none() {
        return Err(problem(
            StatusCode::NOT_FOUND,
            "the facility has no such device",
        ));
    }
    let step = move |commit: &mut Commit<'_, '_>| {
        rows::hold(commit.tx(), &device, is_held.then_some(by.as_str()))?;
        let id = rows::catalog_of(commit.tx(), &device)?;
        let word = if is_held { "held" } else { "released" };
        let staff = format!("{}/staff", commit.place());
        let entry = Entry::of_command(
            commit.now().real,
            (Decision::CommandHeld, word),
            (&staff, commit.place()),
            "Device",
            id.map_or(Id128::from_bytes([0; 16]), |id| id.0),
            Some(by.as_bytes()),
        );
        commit.note(&[entry])
    };
    api.store
        .in_commit(step)
        .await
        .map_err(|error| failed(&error))?;
    api.control.woken.notify_one();
    Ok(Json(json!({ "held": is_held })).into_response())
}

async fn refuse(Shared(api): Shared<Api>, body: axum::body::Bytes) -> Response {
    let refused = async {
        let OfCommand { command, by } = read(&body)?;
        let by = person(&by)?.to_owned();
        let step = move |commit: &mut Commit<'_, '_>| {
            let Some(mut row) = Row::find(commit.tx(), command)? else {
                return Ok(None);
            };
            if row.begun || row.state.is_end() {
                return Ok(Some(false));
            }
            let reason = Some(Reason::RefusedLocally);
            (row.state, row.reason) = (State::Refused, reason);
            row.put(commit.tx())?;
            rows::refused_by(commit.tx(), command, &by)?;
            report::step(commit, &row.signed, (State::Refused, reason), By::Staff)?;
            note_refusal(commit, &row, &by)?;
            Ok(Some(true))
        };
        match api
            .store
            .in_commit(step)
            .await
            .map_err(|error| failed(&error))?
        {
            None => Err(problem(StatusCode::NOT_FOUND, "there is no such command")),
            Some(false) => Err(problem(
                StatusCode::CONFLICT,
                "the command has ended, or is with the device already",
            )),
            Some(true) => {
                api.control.woken.notify_one();
                Ok(Json(json!({ "state": "refused" })).into_response())
            }
        }
    };
    refused.await.unwrap_or_else(|problem: Response| problem)
}

/// Who refused it stays in the facility: in the audit log as the SHA-256 of the name, beside the command's own entry.
fn note_refusal(commit: &mut Commit<'_, '_>, row: &Row, by: &str) -> Result<(), StoreError> {
    let staff = format!("{}/staff", commit.place());
    let command = row.signed.command();
    let entry = Entry::of_command(
        commit.now().real,
        (Decision::CommandRefused, Reason::RefusedLocally.as_str()),
        (&staff, commit.place()),
        command.name.as_str(),
        command.id,
        Some(by.as_bytes()),
    );
    commit.note(&[entry])
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
