//! `/api/v1/fl/studies`: studies of data scientists, their progress and their models.
use super::{
    Authorize,
    query::{StudyQuery, parameters},
};
use crate::{
    lacking,
    learning::{Found, Studies, Wished},
    page, read_study,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use federation::port::PortError;
use fl::{
    course::{Course, Evaluation, Standing},
    export, order, site,
    study::Study,
};
use node::{
    config, media,
    problem::Problem,
    token::{Interaction, TokenError, Verifier},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};
use types::{Name, Timestamp};

#[derive(Clone)]
struct Api {
    studies: Studies,
    authorize: Authorize,
    verifier: Verifier,
}

/// The routes. Everything needs a bearer token with a scope such as `mesh/studies.crus`.
pub fn router(studies: Studies, verifier: Verifier) -> Router {
    let known = verifier.clone();
    let api = Api {
        studies,
        authorize: Arc::new(move |headers| known.check(headers)),
        verifier,
    };
    Router::new()
        .route("/api/v1/fl/studies", post(submit).get(list))
        .route("/api/v1/fl/studies/{id}", get(show))
        .route("/api/v1/fl/studies/{id}/cancel", post(cancel))
        .route("/api/v1/fl/studies/{id}/resume", post(resume))
        .route("/api/v1/fl/studies/{id}/{file}", get(file))
        .layer(DefaultBodyLimit::max(order::MAX_STUDY_BYTES))
        .with_state(api)
}

impl Api {
    fn allowed(&self, headers: &HeaderMap, interaction: Interaction) -> Result<(), Response> {
        let scopes = (self.authorize)(headers).map_err(TokenError::into_response)?;
        match scopes.allow_api("studies", interaction) {
            true => Ok(()),
            false => Err(Problem::forbidden(scope_of(interaction)).into_response()),
        }
    }

    async fn found(&self, headers: &HeaderMap, id: &str) -> Result<Found, Response> {
        self.allowed(headers, Interaction::Read)?;
        let id = named(id)?;
        let found = self.studies.find(id).await;
        found.map_err(|error| failed(&error))?.ok_or_else(missing)
    }

    /// Refuses a study that names regions that the mesh has not. How many facilities a region has it knows alone: the catalog
    /// has those that told of a device, and a facility may have none but tables.
    async fn fits(&self, study: &Study) -> Result<(), Response> {
        let regions = self.studies.regions().await;
        let regions = regions.map_err(|error| failed(&error))?.into_keys();
        let known = regions.map(|region| (region, usize::from(study.sites)));
        let known: BTreeMap<_, _> = known.collect();
        let problems = lacking(study, &known);
        if problems.is_empty() {
            return Ok(());
        }
        Err(all_wrong(&problems).into_response())
    }
}

/// The scope that an interaction with studies needs.
pub(super) const fn scope_of(interaction: Interaction) -> &'static str {
    match interaction {
        Interaction::Create => "mesh/studies.c",
        Interaction::Read => "mesh/studies.r",
        Interaction::Update => "mesh/studies.u",
        Interaction::Delete => "mesh/studies.d",
        Interaction::Search => "mesh/studies.s",
    }
}

fn named(id: &str) -> Result<Name, Response> {
    id.parse().map_err(|_| missing())
}

fn missing() -> Response {
    Problem::missing("no study has this id").into_response()
}

/// A study cannot be, or be changed: each line says what is wrong.
fn refused(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "study refused", why)
}

/// What is wrong with a study, a line each, and each with its key.
fn all_wrong(problems: &[config::Problem]) -> Problem {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let one = |found: &config::Problem| json!({"path": found.path, "message": found.message});
    let all: Vec<_> = problems.iter().map(one).collect();
    refused(lines.join("\n")).with("problems", all)
}

async fn submit(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    api.allowed(&headers, Interaction::Create)?;
    media::is_one_of(&headers, &["application/toml"]).map_err(IntoResponse::into_response)?;
    let text = String::from_utf8(body.to_vec())
        .map_err(|_| refused("a study is TOML, in UTF-8").into_response())?;
    let (study, text) = checked(text).await?;
    api.fits(&study).await?;
    let by = api
        .verifier
        .client(&headers)
        .map_or_else(String::new, |client| client.to_string());
    let wished = api.studies.submit(text, by, rand::random()).await;
    let mut answer = answered(wished)?.into_response();
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}

/// The study and its text, where nothing is wrong with it; on a thread that may take its time otherwise.
async fn checked(text: String) -> Result<(Study, String), Response> {
    let checked = move || read_study(&text).map(|(study, _)| (study, text));
    match tokio::task::spawn_blocking(checked).await {
        Ok(Ok(checked)) => Ok(checked),
        Ok(Err(problems)) => Err(all_wrong(&problems).into_response()),
        Err(_) => Err(Problem::internal().into_response()),
    }
}

async fn list(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, Response> {
    api.allowed(&headers, Interaction::Search)?;
    let query = parameters(query.as_deref()).and_then(StudyQuery::read);
    let StudyQuery { after, limit } = query.map_err(IntoResponse::into_response)?;
    let listed = api.studies.list(limit, after).await;
    let listed = listed.map_err(|error| failed(&error))?;
    let listed = listed
        .ok_or_else(|| Problem::parameter("after", "no study has this id").into_response())?;
    let items: Vec<_> = listed.found.iter().map(|found| of(found, false)).collect();
    let next = listed.next.map(|next| next.to_string());
    Ok(Json(json!({ "items": items, "next": next })))
}

async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Response> {
    Ok(Json(of(&api.found(&headers, &id).await?, true)))
}

async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Response> {
    api.allowed(&headers, Interaction::Update)?;
    answered(api.studies.cancel(named(&id)?).await)
}

async fn resume(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Response> {
    api.allowed(&headers, Interaction::Update)?;
    answered(api.studies.resume(named(&id)?).await)
}

fn answered(wished: Result<Wished, PortError>) -> Result<Json<Value>, Response> {
    match wished.map_err(|error| failed(&error))? {
        Wished::Done(found) => Ok(Json(of(&found, true))),
        Wished::Missing => Err(missing()),
        Wished::Refused(why) => Err(refused(why).into_response()),
    }
}

async fn file(
    State(api): State<Api>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let (course, _) = api.found(&headers, &id).await?;
    let missing = || {
        let why = if page::FILES.contains(&name.as_str()) {
            "the study has no such file yet: it is there when the study has come so far"
        } else {
            "a study has no file of this name"
        };
        Problem::missing(why).into_response()
    };
    page::file_of(&course, &name)
        .map(page::sent)
        .ok_or_else(missing)
}

/// The model of a study that is done, as ONNX.
pub(crate) fn onnx(course: &Course) -> Option<Vec<u8>> {
    let study = done(course)?;
    let model = site::model(&study).ok()?;
    export::onnx(&model, course.model(), study.name.as_str())
}

/// SHA-256 of the weights of a study that is done, in hexadecimal digits.
pub(crate) fn sha256(course: &Course) -> Option<String> {
    let model = site::model(&done(course)?).ok()?;
    export::safetensors_sha256(&model, course.model()).map(|digest| hex(&digest))
}

/// A study that has ended with a model.
fn done(course: &Course) -> Option<Study> {
    let is_done = *course.standing() == Standing::Done;
    is_done.then(|| order::parse(course.text()).ok()).flatten()
}

/// The weights of a study that is done, as safetensors.
pub(crate) fn weights(course: &Course) -> Option<Vec<u8>> {
    let model = site::model(&done(course)?).ok()?;
    export::safetensors(&model, course.model())
}

/// A study for whoever asks; with `whole` its rounds and its figures.
fn of((course, at): &Found, whole: bool) -> Value {
    let mut value = Map::new();
    let mut say = |name: &str, said: Value| value.insert(name.to_owned(), said);
    say("study", json!(course.id().as_str()));
    say("status", json!(course.standing().as_str()));
    say("submitted", json!(Timestamp(*at).to_rfc3339()));
    say("rounds", json!(course.trained()));
    if let Standing::Failed(why) = course.standing() {
        say("why", json!(why));
    }
    let Ok((study, plan, unit)) = course.plan() else {
        return value.into();
    };
    say("name", json!(study.name.as_str()));
    say("rounds_planned", json!(study.training.rounds));
    say("unit", json!(unit.as_str()));
    say("epsilon", json!(course.spent(course.trained())));
    say("delta", json!(plan.spend.map(|spend| spend.delta)));
    if let Some(waiting) = course.waiting() {
        say("waiting", json!(waiting));
    }
    if !whole {
        return value.into();
    }
    let of = |given: Result<Value, serde_json::Error>| given.unwrap_or_default();
    say("text", json!(course.text()));
    say("plan", of(serde_json::to_value(plan)));
    say("progress", of(serde_json::to_value(course.reports())));
    say(
        "evaluation",
        json!(course.evaluation().map(Evaluation::shown)),
    );
    if let Some(digest) = sha256(course) {
        let parameters = course.model().len();
        say(
            "model",
            json!({ "parameters": parameters, "sha256": digest }),
        );
    }
    value.into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The log learns why; the client that it was no fault of its own.
pub(crate) fn failed(error: &PortError) -> Response {
    tracing::error!(%error, source = ?error.source, "studies failed");
    Problem::internal().into_response()
}
