//! `/studies`: what a data scientist sees of studies in a browser. Read only, whole without a script, and nothing in it
//! comes from elsewhere.
//!
//! A browser has no token. It comes in by a link that is good once ([`session`]) and has a cookie from then on, which may
//! read what its client may read. Nothing is changed through a page, so that no other page can have anything changed.
mod card;
pub mod chart;
mod curves;
mod html;
mod session;

use crate::{
    learning::{Found, Studies},
    study_answers::{failed, onnx, sha256, weights},
};
use axum::{
    Form, Json, Router,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use curves::Curve;
use fl::course::Course;
use node::{
    clock::Clock,
    problem::Problem,
    token::{Interaction, Verifier},
};
use serde::Deserialize;
use serde_json::{Value, json};
use session::{LINK_LIFE_MS, SESSION_LIFE_MS, Sessions};
use std::sync::Arc;

/// Where the pages begin.
pub const PATH: &str = "/studies";
/// The files of a study that is done.
pub const FILES: [&str; 7] = [
    "model.safetensors",
    "model.onnx",
    "card.md",
    "loss.svg",
    "auroc.svg",
    "roc.svg",
    "calibration.svg",
];

const STYLE: &str = concat!(
    include_str!("page/style.css"),
    include_str!("page/chart.css")
);
/// `__Host-`: of this host alone, over TLS alone (RFC 6265bis §4.1.3.2).
const COOKIE: &str = "__Host-medmesh-studies";
/// A token and the name of its field, in bytes: the only body that is read.
const MAX_BODY_BYTES: usize = 4_096;
/// Studies in the list.
const LISTED: u16 = 100;
/// What a page may load: its style sheet, and nothing by anybody else.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Clone)]
struct Pages {
    studies: Studies,
    sessions: Sessions,
    verifier: Verifier,
    origin: Arc<str>,
}

/// The routes of a node that answers at `origin`.
pub fn router(studies: Studies, verifier: Verifier, clock: Clock, origin: &str) -> Router {
    let pages = Pages {
        studies,
        sessions: Sessions::new(clock),
        verifier,
        origin: origin.trim_end_matches('/').into(),
    };
    routes(pages)
}

fn routes(pages: Pages) -> Router {
    Router::new()
        .route("/api/v1/fl/link", post(link))
        .route(PATH, get(list))
        .route("/studies/style.css", get(style))
        .route("/studies/enter", get(follow).post(show_token))
        .route("/studies/leave", post(leave))
        .route("/studies/{id}", get(study))
        .route("/studies/{id}/{file}", get(file))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(pages)
}

/// A file of a study: what it is, and its bytes; none when there is none of this name, or not yet.
pub fn file_of(course: &Course, name: &str) -> Option<(&'static str, Vec<u8>)> {
    let chart = Curve::ALL.into_iter().find(|curve| curve.file() == name);
    if let Some(chart) = chart {
        return Some(("image/svg+xml", chart.of(course)?.file().into_bytes()));
    }
    match name {
        "model.safetensors" => Some(("application/octet-stream", weights(course)?)),
        "model.onnx" => Some(("application/octet-stream", onnx(course)?)),
        "card.md" => {
            let card = card::of(course, sha256(course).as_deref())?;
            Some(("text/markdown; charset=utf-8", card.into_bytes()))
        }
        _ => None,
    }
}

/// An answer with a file.
pub fn sent((content, bytes): (&'static str, Vec<u8>)) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // A chart that is opened by itself has its own style, and nothing else.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, bytes).into_response()
}

/// A link for the bearer's browser.
async fn link(State(pages): State<Pages>, headers: HeaderMap) -> Result<Json<Value>, Response> {
    let (client, scopes) = pages
        .verifier
        .bearer(&headers)
        .map_err(IntoResponse::into_response)?;
    let may = [Interaction::Read, Interaction::Search]
        .into_iter()
        .all(|what| scopes.allow_api("studies", what));
    if !may {
        return Err(Problem::forbidden("mesh/studies.rs").into_response());
    }
    let secret = pages.sessions.link(client);
    Ok(Json(json!({
        "link": format!("{}/studies/enter?link={secret}", pages.origin),
        "expires_in": LINK_LIFE_MS / 1_000,
    })))
}

#[derive(Deserialize)]
struct Link {
    link: String,
    /// The study to show.
    #[serde(default)]
    study: Option<types::Name>,
}

async fn follow(
    State(pages): State<Pages>,
    asked: Result<Query<Link>, QueryRejection>,
) -> Response {
    let Ok(Query(asked)) = asked else {
        return come_in(None);
    };
    match pages.sessions.follow(&asked.link) {
        Some(cookie) => with_cookie(&cookie, asked.study.as_ref()),
        None => come_in(Some(
            "The link was followed before, or is older than a minute.",
        )),
    }
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

async fn show_token(
    State(pages): State<Pages>,
    form: Result<Form<Token>, FormRejection>,
) -> Response {
    let bearer = form
        .ok()
        .and_then(|Form(form)| HeaderValue::try_from(format!("Bearer {}", form.token.trim())).ok())
        .and_then(|value| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
            pages.verifier.bearer(&headers).ok()
        });
    match bearer {
        Some((client, scopes))
            if scopes.allow_api("studies", Interaction::Read)
                && scopes.allow_api("studies", Interaction::Search) =>
        {
            with_cookie(&pages.sessions.open(client), None)
        }
        Some(_) => come_in(Some("The token lacks the scope mesh/studies.rs.")),
        None => come_in(Some("The token is unknown or has expired.")),
    }
}

async fn leave(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&headers) {
        pages.sessions.end(cookie);
    }
    redirect(
        PATH,
        &format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"),
    )
}

async fn style() -> Response {
    let content = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    (content, STYLE).into_response()
}

#[derive(Deserialize)]
struct Older {
    /// The study whose older ones are to be shown.
    #[serde(default)]
    after: Option<types::Name>,
}

async fn list(
    State(pages): State<Pages>,
    asked: Result<Query<Older>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Some(client) = pages.client(&headers) else {
        return come_in(None);
    };
    let Ok(Query(asked)) = asked else {
        return shown(StatusCode::NOT_FOUND, html::missing());
    };
    match pages.studies.list(LISTED, asked.after).await {
        Ok(Some(listed)) => shown(StatusCode::OK, html::list(&listed, &client)),
        Ok(None) => shown(StatusCode::NOT_FOUND, html::missing()),
        Err(error) => failed(&error),
    }
}

async fn study(State(pages): State<Pages>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    match pages.found(&headers, &id).await {
        Ok(found) => {
            let sha256 = sha256(&found.0);
            shown(StatusCode::OK, html::study(&found, sha256.as_deref()))
        }
        Err(answer) => answer,
    }
}

async fn file(
    State(pages): State<Pages>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match pages.found(&headers, &id).await {
        Ok((course, _)) => file_of(&course, &name)
            .map_or_else(|| shown(StatusCode::NOT_FOUND, html::missing()), sent),
        Err(answer) => answer,
    }
}

impl Pages {
    fn client(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        self.sessions.whose(cookie(headers)?)
    }

    async fn found(&self, headers: &HeaderMap, id: &str) -> Result<Found, Response> {
        if self.client(headers).is_none() {
            return Err(come_in(None));
        }
        let missing = || shown(StatusCode::NOT_FOUND, html::missing());
        let id = id.parse().map_err(|_| missing())?;
        let found = self.studies.find(id).await;
        found.map_err(|error| failed(&error))?.ok_or_else(missing)
    }
}

/// The value of the cookie that a request brings.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

fn with_cookie(cookie: &str, study: Option<&types::Name>) -> Response {
    let age = SESSION_LIFE_MS / 1_000;
    let to = study.map_or_else(|| PATH.to_owned(), |study| format!("{PATH}/{study}"));
    redirect(
        &to,
        &format!("{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={age}"),
    )
}

fn redirect(to: &str, cookie: &str) -> Response {
    let headers = [
        (header::LOCATION, to),
        (header::SET_COOKIE, cookie),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn come_in(wrong: Option<&str>) -> Response {
    let status = match wrong {
        Some(_) => StatusCode::FORBIDDEN,
        None => StatusCode::UNAUTHORIZED,
    };
    shown(status, html::enter(wrong))
}

fn shown(status: StatusCode, page: String) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, Html(page)).into_response()
}

#[cfg(test)]
mod tests;
