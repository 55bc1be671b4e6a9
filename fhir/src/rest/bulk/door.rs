//! The paths of bulk data: how an export is asked for, how far it is, its files, and how it is given up.
use super::super::access::Found;
use super::super::{
    Answer, Api, FhirApi, InUrl, Interaction, Reader,
    access::Asker,
    http_date, json, negotiation, outcome,
    outcome::Failure,
    routes::{InBody, Posted, Segments},
};
use super::incoming;
use super::kickoff::{self, Level, Request};
use super::record::{Asked, Done, List, Written};
use super::{Bulk, Job, KEEP_MS, stream};
use crate::json::with;
use crate::store::ResourceType;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value, json as value};
use std::{io, sync::Arc};
use types::Timestamp;

/// Seconds after which a client asks again how far its job is.
const RETRY_AFTER_S: &str = "2";
/// The name of an operation in the log.
const EXPORT: &str = "$export";

/// The routes below `/fhir`.
pub fn routes() -> Vec<(&'static str, MethodRouter<Arc<FhirApi>>)> {
    vec![
        ("/$export", get(system).post(system)),
        ("/%24export", get(system).post(system)),
        ("/Patient/$export", get(patients).post(patients)),
        ("/Patient/%24export", get(patients).post(patients)),
        ("/Group/{id}/$export", get(group).post(group)),
        ("/Group/{id}/%24export", get(group).post(group)),
        ("/$import", post(import)),
        ("/%24import", post(import)),
        ("/bulk/{job}", get(status).delete(give_up)),
        ("/bulk/{job}/{file}", get(file)),
    ]
}

async fn system(
    api: Api,
    method: Method,
    pairs: InUrl,
    headers: HeaderMap,
    body: Posted,
) -> Answer {
    begin(&api, Ok(Level::System), &method, &headers, pairs, body).await
}

async fn patients(
    api: Api,
    method: Method,
    pairs: InUrl,
    headers: HeaderMap,
    body: Posted,
) -> Answer {
    begin(&api, Ok(Level::Patients), &method, &headers, pairs, body).await
}

async fn import(api: Api, pairs: InUrl, headers: HeaderMap, body: InBody) -> Answer {
    incoming::import(&api, pairs, &headers, body).await
}

async fn group(
    api: Api,
    path: Segments,
    method: Method,
    pairs: InUrl,
    headers: HeaderMap,
    body: Posted,
) -> Answer {
    begin(&api, of_group(&path), &method, &headers, pairs, body).await
}

fn of_group(path: &Segments) -> Result<Level, Failure> {
    let id = path.at(1)?.parse().map_err(|_| Failure::not_found())?;
    Ok(Level::Group(id))
}

/// HEAD asks what GET would answer, and begins nothing.
async fn begin(
    api: &FhirApi,
    level: Result<Level, Failure>,
    method: &Method,
    headers: &HeaderMap,
    pairs: InUrl,
    Posted(body): Posted,
) -> Answer {
    if method == Method::HEAD {
        return Err(Failure::method());
    }
    let request = Request {
        headers,
        pairs,
        body,
    };
    kickoff::export(api, level, request).await
}

/// A job of whoever asks, and its name.
fn job_of(
    api: &FhirApi,
    reader: &Reader,
    path: &Segments,
) -> Result<(Arc<Bulk>, Arc<Job>, String), Failure> {
    let bulk = api.bulk.clone().ok_or_else(Failure::no_such_path)?;
    let id = path.at(1)?.to_owned();
    let job = bulk.of(&id, reader).ok_or_else(no_such_job)?;
    Ok((bulk, job, id))
}

fn no_such_job() -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "there is no such job or file: it was never there, was deleted, or was kept long enough",
    )
}

async fn status(api: Api, path: Segments, headers: HeaderMap) -> Answer {
    let asker = api.anybody(&headers, ResourceType::ANY, Interaction::SearchSystem)?;
    let found = job_of(&api, &asker.reader, &path).and_then(|(_, job, id)| {
        let response = told(&api, &job, &id)?;
        let found = Found::new(response, 0, format!("bulk/{id}"));
        Ok(found.by(vec![EXPORT.to_owned()]))
    });
    asker.answer(&api, found).await
}

/// How far a job is (Bulk Data Access 2.0.0, "Bulk Data Status Request").
fn told(api: &FhirApi, job: &Job, id: &str) -> Result<Response, Failure> {
    let done = job.done.lock().clone();
    let Some(ended) = done.ended else {
        let progress = match &job.asked.import {
            None => format!(
                "{} resources written; {} of {} resource types done",
                done.resources(),
                done.part,
                job.asked.parts.len()
            ),
            Some(files) => format!(
                "{} lines stored; {} of {} files done",
                done.import.stored,
                done.import.file,
                files.len()
            ),
        };
        let progress = HeaderValue::from_str(&progress).map_err(|_| Failure::undrawn())?;
        let mut response = StatusCode::ACCEPTED.into_response();
        let headers = response.headers_mut();
        headers.insert("x-progress", progress);
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        return Ok(response);
    };
    if let Some(why) = failure_of(api, job, &done) {
        return Err(Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "exception",
            format!("the job failed: {why}"),
        ));
    }
    let until = Timestamp(ended).plus_ms(KEEP_MS);
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::EXPIRES, http_date(until)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let mut body = manifest(&job.asked, &done, &format!("{}/bulk/{id}", api.base));
    if job.asked.import.is_some() {
        let (lines, stored) = (done.import.lines, done.import.stored);
        let ended = Timestamp(ended).to_rfc3339();
        let extension = value!({"lines": lines, "stored": stored});
        body = with(
            body,
            [
                ("transactionTime", Some(ended.into())),
                ("extension", Some(extension)),
            ],
        );
    }
    Ok((headers, body.to_string()).into_response())
}

/// Why nothing of a job that has ended is shown, if so.
fn failure_of(api: &FhirApi, job: &Job, done: &Done) -> Option<String> {
    let is_export = job.asked.import.is_none();
    if is_export && job.asked.marks.is_none() && !(api.true_times)() {
        return Some("the server may not say any more when it stored what it shows".to_owned());
    }
    done.failed.clone()
}

fn manifest(asked: &Asked, done: &Done, place: &str) -> Value {
    let list = |list: List| {
        let own = done.files.iter().filter(|file| file.list == list);
        let told = own.map(|file| {
            let kind = match list {
                List::Output => file.kind.as_str(),
                List::Deleted => "Bundle",
                List::Outcome => "OperationOutcome",
            };
            value!({"type": kind, "url": format!("{place}/{}", file.name), "count": file.count})
        });
        told.collect::<Vec<Value>>()
    };
    value!({
        "transactionTime": asked.transaction_time,
        "request": asked.request,
        "requiresAccessToken": true,
        "output": list(List::Output),
        "deleted": list(List::Deleted),
        "error": list(List::Outcome),
    })
}

async fn give_up(api: Api, path: Segments, headers: HeaderMap) -> Answer {
    let asker = api.anybody(&headers, ResourceType::ANY, Interaction::SearchSystem)?;
    let found = async {
        let (bulk, _, id) = job_of(&api, &asker.reader, &path)?;
        bulk.forget(&id).await?;
        let body = outcome::outcome("information", "informational", "the job is deleted");
        let response = (StatusCode::ACCEPTED, json(body.to_string())).into_response();
        let found = Found::new(response, 0, format!("bulk/{id}"));
        Ok(found.by(vec![EXPORT.to_owned()]))
    };
    let found = found.await;
    asker.answer(&api, found).await
}

async fn file(api: Api, path: Segments, headers: HeaderMap) -> Answer {
    let asker = api.anybody(&headers, ResourceType::ANY, Interaction::SearchSystem)?;
    let (job, file) = match found_file(&api, &asker, &path) {
        Ok(found) => found,
        Err(failure) => return asker.answer(&api, Err(failure)).await,
    };
    let asker = match ResourceType::parse(&file.kind).filter(|_| file.list != List::Outcome) {
        Some(kind) => {
            let asker = api.asker(&headers, kind, Interaction::SearchType)?;
            if !covers(&api, &headers, kind, &job) {
                return asker.answer(&api, Err(Failure::beyond_scope())).await;
            }
            asker
        }
        None => asker,
    };
    let request = format!("bulk/{}/{}", path.at(1)?, file.name);
    let given = u32::try_from(file.count).unwrap_or(u32::MAX);
    let found = given_file(&job, &file, &headers).await;
    let found =
        found.map(|response| Found::new(response, given, request).by(vec![EXPORT.to_owned()]));
    asker.answer(&api, found).await
}

fn found_file(
    api: &FhirApi,
    asker: &Asker,
    path: &Segments,
) -> Result<(Arc<Job>, Written), Failure> {
    let (_, job, _) = job_of(api, &asker.reader, path)?;
    let name = path.at(2)?;
    let done = job.done.lock().clone();
    if done.ended.is_none() || failure_of(api, &job, &done).is_some() {
        return Err(no_such_job());
    }
    let file = done.files.into_iter().find(|file| file.name == name);
    Ok((job, file.ok_or_else(no_such_job)?))
}

/// Whether a token covers now what the one covered by which the export was asked for. Whoever has a narrower one is shown
/// none of its files: nobody knows what of them it covers.
fn covers(api: &FhirApi, headers: &HeaderMap, kind: ResourceType, job: &Job) -> bool {
    let granted = api
        .authorize
        .authorize(headers, kind, Interaction::SearchType);
    let mut parts = job.asked.parts.iter();
    let then = parts.find(|part| part.kind == kind.as_str());
    granted.is_ok_and(|now| now.only.is_empty() || then.is_some_and(|then| then.only == now.only))
}

async fn given_file(
    job: &Arc<Job>,
    file: &Written,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let (folder, name, bytes) = (job.folder.clone(), file.name.clone(), file.bytes);
    let opened = tokio::task::spawn_blocking(move || folder.open(&name, bytes)).await;
    let opened = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(no_such_job()),
        failed => {
            tracing::warn!(?failed, "a file of a bulk job cannot be read now");
            return Err(Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "transient",
                "the file cannot be read now; try again later",
            ));
        }
    };
    let zipped = negotiation::takes_gzip(headers);
    let mut response = Response::new(stream::body(opened, file.bytes, zipped));
    let told = response.headers_mut();
    let kind = HeaderValue::from_static("application/fhir+ndjson");
    told.insert(header::CONTENT_TYPE, kind);
    told.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    told.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    match zipped {
        true => told.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        // A file that is broken off is seen to be.
        false => told.insert(header::CONTENT_LENGTH, HeaderValue::from(file.bytes)),
    };
    Ok(response)
}
