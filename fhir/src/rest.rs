//! The FHIR R4 REST API over a store: read, vread and search, below `/fhir`.
//!
//! One table ([`OFFERED`]) makes both the routes and the CapabilityStatement, so that nothing is announced that is
//! not served. Who may do what is the caller's to say ([`Authorize`]); tokens and TLS are not here.
mod bundle;
mod capability;
mod outcome;

use crate::search::{self, Search};
use crate::store::{FhirId, ResourceStore, ResourceType, Stored};
use axum::{
    Router,
    extract::rejection::{FormRejection, QueryRejection},
    extract::{DefaultBodyLimit, Form, Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, get, post},
};
use chrono::DateTime;
pub use outcome::Failure;
use std::sync::Arc;
use types::Timestamp;

/// The only format (FHIR R4 http.html#mime-type).
pub const FHIR_JSON: &str = "application/fhir+json";
/// Body of a search by POST: longer than any that the limits of `search` allow to succeed.
pub const MAX_FORM_BYTES: usize = 64 * 1024;

/// What the API can do with a resource type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It carries no valid token; the value of `WWW-Authenticate`.
    Unauthenticated(&'static str),
    /// Its token does not cover the interaction.
    Forbidden,
}

/// Says whether the bearer of a request may do something.
pub trait Authorize: Send + Sync + 'static {
    /// Checks the token of the request.
    ///
    /// # Errors
    /// [`Denied`], which becomes 401 or 403.
    fn authorize(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<(), Denied>;
}

/// The API of one region.
#[derive(Clone)]
pub struct FhirApi {
    /// Where the resources are.
    pub store: Arc<dyn ResourceStore>,
    /// Who may read them.
    pub authorize: Arc<dyn Authorize>,
    /// The public base, such as `https://region.example/fhir`, without a slash at the end.
    pub base: String,
    /// Where clients get tokens, for the CapabilityStatement.
    pub token_url: String,
    /// Real time, for the prefix `ap`.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
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
        router
            .method_not_allowed_fallback(async || Failure::method())
            .route("/fhir", any(async || Failure::no_such_path()))
            .route("/fhir/{*path}", any(async || Failure::no_such_path()))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .with_state(api)
    }

    fn allow(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<(), Failure> {
        self.authorize
            .authorize(headers, kind, interaction)
            .map_err(Failure::denied)?;
        if accepts_json(headers) {
            Ok(())
        } else {
            Err(Failure::format())
        }
    }
}

type Api = State<Arc<FhirApi>>;
type Answer = Result<Response, Failure>;
type Pairs = Vec<(String, String)>;
type InUrl = Result<Query<Pairs>, QueryRejection>;
type InForm = Result<Form<Pairs>, FormRejection>;

fn routes(
    kind: ResourceType,
    interaction: Interaction,
) -> Vec<(String, MethodRouter<Arc<FhirApi>>)> {
    match interaction {
        Interaction::Read => {
            let route = get(
                move |api: Api, id: Path<String>, headers: HeaderMap| async move {
                    read(&api, kind, &id, &headers).await
                },
            );
            vec![(format!("/fhir/{kind}/{{id}}"), route)]
        }
        Interaction::Vread => {
            let route = get(
                move |api: Api, path: Path<(String, String)>, headers: HeaderMap| async move {
                    vread(&api, kind, &path, &headers).await
                },
            );
            vec![(format!("/fhir/{kind}/{{id}}/_history/{{version}}"), route)]
        }
        Interaction::SearchType => {
            let by_get = get(
                move |api: Api, pairs: InUrl, headers: HeaderMap| async move {
                    let pairs = pairs.map_err(|_| Failure::parameters())?;
                    search_type(&api, kind, pairs.0, &headers).await
                },
            );
            // Parameters of the URL and of the form count together (FHIR R4 search.html#post).
            let by_post = post(
                move |api: Api, pairs: InUrl, headers: HeaderMap, form: InForm| async move {
                    let mut all = pairs.map_err(|_| Failure::parameters())?.0;
                    all.extend(form.map_err(|_| Failure::parameters())?.0);
                    search_type(&api, kind, all, &headers).await
                },
            );
            vec![
                (format!("/fhir/{kind}"), by_get),
                (format!("/fhir/{kind}/_search"), by_post),
            ]
        }
    }
}

async fn read(api: &FhirApi, kind: ResourceType, id: &str, headers: &HeaderMap) -> Answer {
    api.allow(headers, kind, Interaction::Read)?;
    let id: FhirId = id.parse().map_err(|_| Failure::not_found())?;
    let stored = api.store.read(kind, &id).await?;
    answer(&stored.ok_or_else(Failure::not_found)?, headers)
}

async fn vread(
    api: &FhirApi,
    kind: ResourceType,
    path: &(String, String),
    headers: &HeaderMap,
) -> Answer {
    api.allow(headers, kind, Interaction::Vread)?;
    let id: FhirId = path.0.parse().map_err(|_| Failure::not_found())?;
    let version = path.1.parse().map_err(|_| Failure::not_found())?;
    let stored = api.store.vread(kind, &id, version).await?;
    answer(&stored.ok_or_else(Failure::not_found)?, headers)
}

fn answer(stored: &Stored, headers: &HeaderMap) -> Answer {
    let tag = format!("W/\"{}\"", stored.version);
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes())
    {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let validators = [
        (header::ETAG, tag),
        (header::LAST_MODIFIED, http_date(stored.updated)),
    ];
    Ok((validators, json(stored.stamped()?.get().to_owned())).into_response())
}

async fn search_type(
    api: &FhirApi,
    kind: ResourceType,
    pairs: Pairs,
    headers: &HeaderMap,
) -> Answer {
    api.allow(headers, kind, Interaction::SearchType)?;
    check_format(&pairs)?;
    let search =
        search::parse(kind, &pairs, (api.now)()).map_err(|error| Failure::search(&error))?;
    if strict(headers) && !search.ignored.is_empty() {
        return Err(Failure::unknown_parameters(&search.ignored));
    }
    let total = total_of(api, &search).await?;
    if search.query.count == 0 {
        return Ok(json(bundle::searchset(&api.base, &search, &[], None, total)?).into_response());
    }
    let page = api.store.search(&search.query).await?;
    let body = bundle::searchset(&api.base, &search, &page.resources, page.next, total)?;
    Ok(json(body).into_response())
}

/// The total where it is asked for or costs nothing.
async fn total_of(api: &FhirApi, search: &Search) -> Result<Option<u64>, Failure> {
    let query = &search.query;
    if query.filters.is_empty() {
        return Ok(Some(api.store.counts().await?.of(query.kind)));
    }
    if search.total {
        return Ok(Some(api.store.total(query).await?));
    }
    Ok(None)
}

/// `Prefer: handling=strict` (FHIR R4 search.html#errors).
fn strict(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|part| part.trim().eq_ignore_ascii_case("handling=strict"))
}

fn is_json(format: &str) -> bool {
    let format = format.split(';').next().unwrap_or_default().trim();
    matches!(
        format.to_ascii_lowercase().as_str(),
        "json"
            | "application/json"
            | "application/fhir+json"
            | "text/json"
            | "*/*"
            | "application/*"
    )
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    values.peek().is_none()
        || values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(is_json)
}

/// `_format` overrides `Accept` (FHIR R4 http.html#parameters). A form-encoded `+` comes as a space.
fn check_format(pairs: &[(String, String)]) -> Result<(), Failure> {
    let mut formats = pairs.iter().filter(|(name, _)| name == "_format");
    if formats.all(|(_, value)| is_json(&value.replace(' ', "+"))) {
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
