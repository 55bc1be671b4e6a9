//! Beds at run time: who lies where from when on, said over the node's own HTTPS and read by the facility's staff.
//!
//! | | | |
//! |---|---|---|
//! | `GET /api/v1/beds` | | every entry, and how many devices' readings are still being corrected |
//! | `POST /api/v1/beds/assign` | `{"bed", "new"?, "patient", "from"?, "by", "name"?, "mrn"?, "birth_date"?, "gender"?, "height_cm"?, "weight_kg"?, "care_unit"?}` | the patient lies in the bed from then on |
//! | `POST /api/v1/beds/discharge` | `{"bed", "from"?, "by"}` | nobody does |
//!
//! A bed is one that the facility has: of which anything was entered, or at which a device of the configuration stands or
//! stood. Any other is refused, since a slip would leave the patient before in the bed that was meant, unless the entry says
//! that it is new: a patient may lie where no device stands, and the laboratory measures of them all the same.
//!
//! Whoever asks shows the token of the file [`TOKEN_FILE`] in the node's data directory (`Authorization: Bearer`), which
//! only the node's own user can read: what is said here is identified. `from` may lie in the past, by the mesh clock;
//! what was attributed meanwhile is corrected in the background ([`store`]).
use crate::{config::EdgeConfig, facility::Facility};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, StatusCode, header::WWW_AUTHENTICATE},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use federation::{
    audit::{self, Decision, Entry},
    pki::PkiError,
};
use ingest::patient_id::is_seen;
use node::{media, problem::Problem, token::bearer_token};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use store::clockguard::Time;
use store::deid::PatientRecord;
use store::{self, BedFact, BedRow, Store, StoreError, StoreErrorKind};
use tokio_util::sync::CancellationToken;
use types::{DeviceId, Phi, Place, Secret, Timestamp};

/// The file with the token of the local API, in the node's data directory.
pub const TOKEN_FILE: &str = "api.token";
/// The body of a request, in bytes.
const MAX_BODY: usize = 16 << 10;
/// Beds or devices that a refusal names.
const NAMED: usize = 32;
/// Pause between looks for something to correct, when there is nothing (real time).
const IDLE: Duration = Duration::from_millis(250);
/// Pause after a step that could do nothing now (real time).
const HELD: Duration = Duration::from_secs(2);

/// What the beds of a facility are, as its own staff reads it. Everything in it is PHI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Every entry, by bed and time.
    pub beds: Vec<BedRow>,
    /// Devices whose readings are still being looked through.
    pub correcting: u64,
}

/// What is asked of the API.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    bed: String,
    /// Whether the facility may not have it yet.
    #[serde(default)]
    new: bool,
    #[serde(default)]
    from: Option<String>,
    by: String,
    #[serde(default, deserialize_with = "phi")]
    patient: Option<Phi<String>>,
    #[serde(default, deserialize_with = "phi")]
    name: Option<Phi<String>>,
    #[serde(default, deserialize_with = "phi")]
    mrn: Option<Phi<String>>,
    #[serde(default, deserialize_with = "phi")]
    birth_date: Option<Phi<String>>,
    #[serde(default, deserialize_with = "phi")]
    gender: Option<Phi<String>>,
    #[serde(default, deserialize_with = "measure")]
    height_cm: Option<Phi<String>>,
    #[serde(default, deserialize_with = "measure")]
    weight_kg: Option<Phi<String>>,
    #[serde(default, deserialize_with = "phi")]
    care_unit: Option<Phi<String>>,
}

fn phi<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Phi<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Phi::new))
}

/// A number as its text, or a text as it is.
fn measure<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Phi<String>>, D::Error> {
    use serde_json::Value::{Null, Number, String};
    match serde_json::Value::deserialize(deserializer)? {
        Null => Ok(None),
        Number(number) => Ok(Some(Phi::new(number.to_string()))),
        String(text) => Ok(Some(Phi::new(text))),
        _ => Err(serde::de::Error::custom("neither a number nor a text")),
    }
}

/// What the API works with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) facility: Facility,
    pub(crate) time: Arc<dyn Time>,
    pub(crate) here: Place,
    /// SHA-256 of the token: comparing digests says nothing of how far a guess was right.
    token: [u8; 32],
}

/// Where the token of a data directory is.
#[must_use]
pub fn token_file(dir: &Path) -> PathBuf {
    dir.join(TOKEN_FILE)
}

/// The token of a data directory, drawn when there is none.
///
/// # Errors
/// The file cannot be written.
pub fn token(dir: &Path, entropy: store::Entropy) -> Result<Secret<String>, PkiError> {
    let path = token_file(dir);
    if let Ok(token) = std::fs::read_to_string(&path).map(Secret::new)
        && token.reveal().len() == 64
    {
        return Ok(token);
    }
    let mut bytes = [0; 32];
    entropy(&mut bytes);
    let token = Secret::new(hex::encode(bytes));
    federation::pki::write_private(&path, &token)?;
    Ok(token)
}

/// The routes of the local API: of the beds, and of what is given: `view` has its own of this API, `more` of others.
pub(crate) fn router(
    facility: Facility,
    time: Arc<dyn Time>,
    here: Place,
    token: &Secret<String>,
    (view, more): (Router<Api>, Router),
) -> Router {
    let api = Api {
        store: facility.store.clone(),
        facility,
        time,
        here,
        token: Sha256::digest(token.reveal()).into(),
    };
    Router::new()
        .route("/api/v1/beds", get(list))
        .route("/api/v1/beds/assign", post(assign))
        .route("/api/v1/beds/discharge", post(discharge))
        .merge(view)
        .with_state(api.clone())
        .merge(more)
        .layer(middleware::from_fn_with_state(api, known))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Lets in who shows the token; what is posted is JSON.
async fn known(State(api): State<Api>, request: Request, next: Next) -> Response {
    let shown = bearer_token(request.headers());
    let digest: Option<[u8; 32]> = shown.map(|token| Sha256::digest(token).into());
    if digest == Some(api.token) {
        let json = media::is_one_of(request.headers(), &["application/json"]);
        if let (&Method::POST, Err(refused)) = (request.method(), json) {
            return refused.into_response();
        }
        return next.run(request).await;
    }
    metrics::counter!("medmesh_api_refused_total").increment(1);
    let refused = problem(StatusCode::UNAUTHORIZED, "no token, or not this node's");
    ([(WWW_AUTHENTICATE, "Bearer")], refused).into_response()
}

/// A problem document; its title is the phrase of its status (RFC 9457 §4.2.1).
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Refused");
    Problem::new(status, title, detail).into_response()
}

pub(crate) fn failed(error: &StoreError) -> Response {
    match error.kind {
        StoreErrorKind::Refused => problem(StatusCode::BAD_REQUEST, error.op),
        _ => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store takes nothing now",
        ),
    }
}

/// Nothing is shown before it is written down (45 CFR 164.312(b)).
async fn list(State(api): State<Api>) -> Response {
    let listed = async {
        let (beds, correcting) = api.store.bed_rows().await?;
        let rows = u32::try_from(beds.len()).unwrap_or(u32::MAX);
        let read = Decision::CrosswalkRead;
        let what = audit::Asked {
            interaction: "beds",
            kind: "Bed",
            ..audit::Asked::default()
        };
        let now = api.time.now().real;
        let entry = Entry::of_read(now, read, "api-token", &api.here, &what, rows);
        api.store.note(vec![entry]).await?;
        Ok(Json(Listing { beds, correcting }).into_response())
    };
    listed.await.unwrap_or_else(|error| failed(&error))
}

async fn assign(State(api): State<Api>, body: axum::body::Bytes) -> Response {
    enter(&api, &body, true).await
}

async fn discharge(State(api): State<Api>, body: axum::body::Bytes) -> Response {
    enter(&api, &body, false).await
}

/// The text of an error of the JSON could quote the request: it is not repeated.
async fn enter(api: &Api, body: &[u8], with_patient: bool) -> Response {
    let asked = match serde_json::from_slice::<Asked>(body) {
        Ok(asked) => asked,
        Err(_) => return problem(StatusCode::BAD_REQUEST, &unfit(body)),
    };
    let is_new = asked.new;
    let fact = match fact(asked, with_patient, api.time.now().mesh) {
        Ok(fact) => fact,
        Err(reason) => return problem(StatusCode::BAD_REQUEST, reason),
    };
    if !is_new && let Some(refused) = unknown_bed(api, &fact.bed).await {
        return refused;
    }
    match api.store.enter(fact).await {
        Ok(entered) => Json(entered).into_response(),
        Err(error) => failed(&error),
    }
}

/// What keeps a body from being an entry: the first member that is none, of another type or missing. No value is repeated.
fn unfit(body: &[u8]) -> String {
    let whole = "not the JSON of an entry: see `medmesh edge beds --help`";
    let Ok(Value::Object(given)) = serde_json::from_slice(body) else {
        return whole.to_owned();
    };
    for (name, value) in &given {
        let is_text = value.is_string();
        let (fits, what) = match name.as_str() {
            "bed" | "by" => (is_text, "a text"),
            "new" => (value.is_boolean(), "true or false"),
            "from" | "patient" | "name" | "mrn" | "birth_date" | "gender" | "care_unit" => {
                (is_text || value.is_null(), "a text")
            }
            "height_cm" | "weight_kg" => {
                let fits = is_text || value.is_null() || value.is_number();
                (fits, "a number or a text")
            }
            _ => return format!("{name}: an entry has no such member"),
        };
        if !fits {
            return format!("{name}: is {what}");
        }
    }
    let missing = ["bed", "by"]
        .into_iter()
        .find(|&name| !given.contains_key(name));
    missing.map_or_else(|| whole.to_owned(), |name| format!("{name}: is missing"))
}

/// The refusal of a bed that the facility has not.
pub(crate) async fn unknown_bed(api: &Api, bed: &str) -> Option<Response> {
    unknown("bed", bed, api.store.bed_names().await)
}

/// The refusal of a device that the facility has not.
pub(crate) async fn unknown_device(api: &Api, device: &DeviceId) -> Option<Response> {
    unknown("device", device.as_str(), api.store.device_names().await)
}

/// The refusal of a name that is none of these; it says which there are.
fn unknown(what: &str, name: &str, there: Result<Vec<String>, StoreError>) -> Option<Response> {
    let there = match there {
        Ok(there) if there.iter().any(|one| one == name) => return None,
        Ok(there) => there,
        Err(error) => return Some(failed(&error)),
    };
    let named: Vec<_> = there.iter().take(NAMED).map(String::as_str).collect();
    let rest = match there.len() - named.len() {
        0 => String::new(),
        rest => format!(" and {rest} more (`medmesh edge beds` shows them)"),
    };
    let has = match named.is_empty() {
        true => "none".to_owned(),
        false => named.join(", "),
    };
    let detail = format!("{what}: the facility has none of this name; it has {has}{rest}");
    Some(problem(StatusCode::NOT_FOUND, &detail))
}

fn fact(asked: Asked, with_patient: bool, now: Timestamp) -> Result<BedFact, &'static str> {
    let from = match &asked.from {
        None => now,
        Some(text) => text.parse().map_err(|_| "from: not an RFC 3339 time")?,
    };
    // A person could not tell it from another bed of the facility.
    if asked.new && !asked.bed.chars().all(is_seen) {
        return Err("bed: a new one is without control or invisible characters");
    }
    let record = PatientRecord {
        facility_id: asked.patient,
        name: asked.name,
        mrn: asked.mrn,
        birth_date: asked.birth_date,
        gender: asked.gender,
        height_cm: asked.height_cm,
        weight_kg: asked.weight_kg,
        care_unit: asked.care_unit,
        ..PatientRecord::default()
    };
    let patient = match (with_patient, &record.facility_id) {
        (true, None) => return Err("patient: missing"),
        (false, None) if record == PatientRecord::default() => None,
        (false, _) => return Err("a discharge names no patient"),
        (true, Some(_)) => Some(record),
    };
    Ok(BedFact {
        bed: asked.bed,
        from,
        patient,
        by: asked.by,
    })
}

/// Corrects what late entries leave to be corrected, a step at a time, until the stop.
pub(crate) async fn correct(store: Store, stop: CancellationToken) -> Result<(), StoreError> {
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        // An error shows in the store's condition; the next turn tries again.
        let step = store.correct().await;
        pause = match step {
            Ok(step) if step.held => HELD,
            Ok(step) if step.left => Duration::ZERO,
            Ok(_) => IDLE,
            Err(_) => HELD,
        };
    }
}

/// The beds of a facility from its files, beside a running node or without one.
///
/// # Errors
/// `Refused` with a wrong key or when there is no store; as any read otherwise.
pub fn export(config: &EdgeConfig) -> Result<Listing, StoreError> {
    let key = store::read_facility_key(&config.key_file)?;
    let db = store::open_read_only(&config.data_dir, &key)?;
    let (beds, correcting) = store::read_beds(&db)?;
    Ok(Listing { beds, correcting })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_767_225_600_000);

    #[test]
    fn an_entry_that_is_none_is_refused_by_its_member_and_without_a_value() {
        for (body, said) in [
            ("x", "not the JSON of an entry"),
            (r#"{"by": "anna"}"#, "bed: is missing"),
            (r#"{"bed": "b1", "patient": "CANARY"}"#, "by: is missing"),
            (
                r#"{"bed": "b1", "by": "anna", "height_cm": ["CANARY"]}"#,
                "height_cm: is a number or a text",
            ),
            (
                r#"{"bed": "b1", "by": "anna", "birth_date": 1950}"#,
                "birth_date: is a text",
            ),
            (
                r#"{"bed": "b1", "by": "anna", "born": "CANARY"}"#,
                "born: an entry has no such member",
            ),
            (
                r#"{"bed": "b1", "by": "anna", "new": "CANARY"}"#,
                "new: is true or false",
            ),
        ] {
            assert!(serde_json::from_str::<Asked>(body).is_err(), "{body}");
            let text = unfit(body.as_bytes());
            assert!(text.starts_with(said) && !text.contains("CANARY"), "{text}");
        }
    }

    #[test]
    fn a_new_bed_is_one_that_a_person_can_tell_from_another() {
        let asked = |bed: &str, new: bool| {
            let body = serde_json::json!({"bed": bed, "new": new, "patient": "p", "by": "anna"});
            fact(serde_json::from_value(body).unwrap(), true, NOW)
        };
        assert!(asked("b1 é", true).is_ok());
        for bed in ["b1\u{200b}", "b\u{202e}1"] {
            let error = asked(bed, true).unwrap_err();
            assert!(error.starts_with("bed: "), "{error}");
            assert!(asked(bed, false).is_ok(), "whoever lies there can leave it");
        }
    }
}
