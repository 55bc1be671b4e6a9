//! The FHIR R4 REST API over a store: read, vread and search, below `/fhir`.
//!
//! One table ([`OFFERED`]) makes both the routes and the CapabilityStatement, so that nothing is announced that is
//! not served. Who may do what is the caller's to say ([`Authorize`]); tokens and TLS are not here.
mod access;
mod bundle;
mod capability;
mod negotiation;
mod outcome;
mod searching;
mod validating;
mod vantage;

use crate::search::Seal;
use crate::store::{FhirId, ResourceStore, ResourceType, Stored};
pub use access::{Access, AccessLog, Refused, Unwritten, Why};
use access::{Asker, Found};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::rejection::{BytesRejection, PathRejection, QueryRejection},
    extract::{DefaultBodyLimit, Form, FromRequest, Path, Query, State},
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, get, post},
};
use chrono::DateTime;
pub use outcome::{Failure, unread};
use searching::search_type;
use std::sync::Arc;
use types::Timestamp;
use vantage::Instants;
pub use vantage::{Reader, Vantages};

/// The only format (FHIR R4 http.html#mime-type).
pub const FHIR_JSON: &str = "application/fhir+json";
/// Body of a search by POST: longer than any that the limits of `search` allow to succeed.
pub const MAX_FORM_BYTES: usize = 64 * 1024;

/// What the API can do with a resource type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interaction {
    /// The current version, by id.
    Read,
    /// A version, by id and version.
    Vread,
    /// A search of the type, by GET or POST.
    SearchType,
}

impl Interaction {
    /// The code of FHIR R4 TypeRestfulInteraction.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Vread => "vread",
            Self::SearchType => "search-type",
        }
    }
}

/// What is offered, of each resource type.
pub const OFFERED: [(ResourceType, &[Interaction]); 3] = [
    (ResourceType::Device, EVERYTHING),
    (ResourceType::Observation, EVERYTHING),
    (ResourceType::Patient, EVERYTHING),
];

const EVERYTHING: &[Interaction] = &[
    Interaction::Read,
    Interaction::Vread,
    Interaction::SearchType,
];

/// Why a request is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It carries no valid token; the value of `WWW-Authenticate`.
    Unauthenticated(&'static str),
    /// The token of this client does not cover the interaction.
    Forbidden(Reader),
}

/// Says whether the bearer of a request may do something.
pub trait Authorize: Send + Sync + 'static {
    /// Checks the token of the request, and says whose it is.
    ///
    /// # Errors
    /// [`Denied`], which becomes 401 or 403.
    fn authorize(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<Reader, Denied>;

    /// Says whose token it is, for what reads nothing.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`].
    fn known(&self, headers: &HeaderMap) -> Result<Reader, Denied>;
}

/// The API of one region.
#[derive(Clone)]
pub struct FhirApi {
    /// Where the resources are.
    pub store: Arc<dyn ResourceStore>,
    /// Who may read them.
    pub authorize: Arc<dyn Authorize>,
    /// Where it is written down who reads.
    pub access: Arc<dyn AccessLog>,
    /// The public base, such as `https://region.example/fhir`, without a slash at the end.
    pub base: String,
    /// Where clients get tokens, for the CapabilityStatement.
    pub token_url: String,
    /// Real time, for the prefix `ap`.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Whether the region may say now when it stored a resource (profile `limited`).
    pub true_times: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What each reader was shown.
    pub vantages: Vantages,
    /// With what places in a listing are sealed.
    pub seal: Seal,
}

impl FhirApi {
    /// The routes below `/fhir`.
    pub fn router(self) -> Router {
        let api = Arc::new(self);
        let mut router = Router::new().route("/fhir/metadata", get(capability::metadata));
        for (kind, interactions) in OFFERED {
            for interaction in interactions {
                for (path, route) in routes(kind, *interaction) {
                    router = router.route(&path, route);
                }
            }
        }
        validating::routes(router)
            .method_not_allowed_fallback(async || Failure::method())
            .route("/fhir", any(async || Failure::no_such_path()))
            .route("/fhir/", any(async || Failure::no_such_path()))
            .route("/fhir/{*path}", any(async || Failure::no_such_path()))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .with_state(api)
    }
}

type Api = State<Arc<FhirApi>>;
type Answer = Result<Response, Failure>;
type Pairs = Vec<(String, String)>;
type InUrl = Result<Query<Pairs>, QueryRejection>;
type InPath<T> = Result<Path<T>, PathRejection>;

fn in_url(pairs: InUrl) -> Result<Pairs, Failure> {
    Ok(pairs.map_err(|_| Failure::parameters())?.0)
}

fn in_path<T>(path: InPath<T>) -> Result<T, Failure> {
    Ok(path.map_err(|_| Failure::unreadable_path())?.0)
}

/// The parameters of a form; none of an empty body, whatever it is called (FHIR R4 search.html#post).
async fn in_form(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Pairs, Failure> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::too_long(),
        _ => Failure::parameters(),
    })?;
    if body.is_empty() {
        return Ok(Pairs::new());
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Failure::not_a_form());
    }
    let form = Request::post("/")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(body))
        .map_err(|_| Failure::parameters())?;
    let form = Form::<Pairs>::from_request(form, &()).await;
    Ok(form.map_err(|_| Failure::parameters())?.0)
}

fn routes(
    kind: ResourceType,
    interaction: Interaction,
) -> Vec<(String, MethodRouter<Arc<FhirApi>>)> {
    match interaction {
        Interaction::Read => {
            let route = get(
                move |api: Api, id: InPath<String>, pairs: InUrl, headers: HeaderMap| async move {
                    let asker = api.asker(&headers, kind, interaction)?;
                    let found = read(&api, kind, &asker, id, pairs, &headers).await;
                    asker.answer(&api, found).await
                },
            );
            vec![(format!("/fhir/{kind}/{{id}}"), route)]
        }
        Interaction::Vread => {
            let route = get(
                move |api: Api,
                      path: InPath<(String, String)>,
                      pairs: InUrl,
                      headers: HeaderMap| async move {
                    let asker = api.asker(&headers, kind, interaction)?;
                    let found = vread(&api, kind, &asker, path, pairs, &headers).await;
                    asker.answer(&api, found).await
                },
            );
            vec![(format!("/fhir/{kind}/{{id}}/_history/{{version}}"), route)]
        }
        Interaction::SearchType => {
            let by_get = get(
                move |api: Api, pairs: InUrl, headers: HeaderMap| async move {
                    let asker = api.asker(&headers, kind, interaction)?;
                    let found = search(&api, kind, &asker, pairs, None, &headers).await;
                    asker.answer(&api, found).await
                },
            );
            // Parameters of the URL and of the form count together (FHIR R4 search.html#post).
            let by_post = post(
                move |api: Api,
                      pairs: InUrl,
                      headers: HeaderMap,
                      body: Result<Bytes, BytesRejection>| async move {
                    let asker = api.asker(&headers, kind, interaction)?;
                    let found = search(&api, kind, &asker, pairs, Some(body), &headers).await;
                    asker.answer(&api, found).await
                },
            );
            vec![
                (format!("/fhir/{kind}"), by_get),
                (format!("/fhir/{kind}/_search"), by_post),
            ]
        }
    }
}

async fn search(
    api: &FhirApi,
    kind: ResourceType,
    asker: &Asker,
    pairs: InUrl,
    body: Option<Result<Bytes, BytesRejection>>,
    headers: &HeaderMap,
) -> Result<Found, Failure> {
    let mut pairs = in_url(pairs)?;
    if let Some(body) = body {
        pairs.extend(in_form(headers, body).await?);
    }
    check_format(headers, &pairs)?;
    search_type(api, kind, pairs, headers, &asker.reader).await
}

async fn read(
    api: &FhirApi,
    kind: ResourceType,
    asker: &Asker,
    id: InPath<String>,
    pairs: InUrl,
    headers: &HeaderMap,
) -> Result<Found, Failure> {
    check_format(headers, &in_url(pairs)?)?;
    let id: FhirId = in_path(id)?.parse().map_err(|_| Failure::not_found())?;
    let stored = api.store.read(kind, &id).await?;
    found(api, stored, headers, asker, format!("{kind}/{id}")).await
}

async fn vread(
    api: &FhirApi,
    kind: ResourceType,
    asker: &Asker,
    path: InPath<(String, String)>,
    pairs: InUrl,
    headers: &HeaderMap,
) -> Result<Found, Failure> {
    check_format(headers, &in_url(pairs)?)?;
    let (id, version) = in_path(path)?;
    let id: FhirId = id.parse().map_err(|_| Failure::not_found())?;
    let version = version_of(&version).ok_or_else(Failure::not_found)?;
    let stored = api.store.vread(kind, &id, version).await?;
    let request = format!("{kind}/{id}/_history/{version}");
    found(api, stored, headers, asker, request).await
}

/// The version of that name: `01` and `+1` name none.
fn version_of(text: &str) -> Option<u32> {
    let version: u32 = text.parse().ok()?;
    (version.to_string() == text).then_some(version)
}

async fn found(
    api: &FhirApi,
    stored: Option<Stored>,
    headers: &HeaderMap,
    asker: &Asker,
    request: String,
) -> Result<Found, Failure> {
    let stored = stored.ok_or_else(Failure::not_found)?;
    let patient = (stored.kind == ResourceType::Patient).then(|| stored.id.clone());
    let tag = format!("W/\"{}\"", stored.version);
    if negotiation::has_already(headers, stored.version) {
        let response = (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        return Ok(Found::new(response, 0, request).of(patient));
    }
    let instants = if (api.true_times)() {
        Instants::True
    } else {
        let head = api.store.head().await?.max(stored.seq);
        Instants::Logical(api.vantages.reach(&asker.reader, head).await?)
    };
    let validators = [
        (header::ETAG, tag),
        (header::LAST_MODIFIED, http_date(instants.time_of(&stored))),
    ];
    let body = stored.stamped(&instants.of(&stored))?.get().to_owned();
    let response = (validators, json(body)).into_response();
    Ok(Found::new(response, 1, request).of(patient))
}

fn check_format(headers: &HeaderMap, pairs: &[(String, String)]) -> Result<(), Failure> {
    if negotiation::takes_json(headers, pairs) {
        Ok(())
    } else {
        Err(Failure::format())
    }
}

fn json(body: String) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body)
}

/// RFC 9110 §5.6.7.
fn http_date(time: Timestamp) -> String {
    DateTime::from_timestamp_millis(time.0)
        .unwrap_or_default()
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
