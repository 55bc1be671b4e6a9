//! The routes, of the table of what is offered: a type that does not offer an interaction answers 405, and what is no
//! type of R4 is no path.
mod operations;
mod searches;

use super::{
    Answer, Api, FhirApi, InUrl, Interaction, MAX_FORM_BYTES, Pairs, SYSTEM, access::Asker, bulk,
    capability, conditional, history, lastn, offered, outcome::Failure, packing, patching,
    patching::Target, reading, stats, subscribing, throttling, transacting, validating, writing,
};
use crate::store::{FhirId, MAX_PAGE_BYTES, ResourceType};
use crate::subscription::SUBSCRIPTION;
use axum::{
    Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, Request, rejection::BytesRejection,
    },
    http::{HeaderMap, Method, request::Parts},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, delete, get, patch, post, put},
};
pub use operations::{of_one, of_type};
use searches::below_by_post;
pub use searches::{below, search, search_system};
use std::{convert::Infallible, sync::Arc};

/// Bytes of a resource that is taken, 1.5 MiB: of the examples of R4 and US Core the longest, a scanned document, has 1.3 MB.
/// What a resource can do with a request's memory goes by it, from its text in hand to the rows of its index.
pub const MAX_RESOURCE_BYTES: usize = 3 << 19;
/// Bytes of a Bundle at the base: some hundred resources, or the longest one with its request.
pub const MAX_BUNDLE_BYTES: usize = 2 << 20;

const _: () = assert!(
    MAX_RESOURCE_BYTES < MAX_BUNDLE_BYTES,
    "what is taken by itself is taken as an entry"
);
const _: () = assert!(
    2 * MAX_RESOURCE_BYTES <= MAX_PAGE_BYTES,
    "whether a condition finds one or several, one page says"
);

/// Whether a request may bring what is longer than the body of any other: a resource, a patch of one, or a Bundle
/// ([`MAX_BUNDLE_BYTES`]).
#[must_use]
pub fn may_be_long(method: &Method, path: &str) -> bool {
    let base = || Some("").filter(|_| path == "/fhir");
    let Some(below) = path.strip_prefix("/fhir/").or_else(base) else {
        return false;
    };
    let segments: Vec<&str> = below.split('/').collect();
    match segments.as_slice() {
        [""] | [.., "$validate" | "%24validate"] => *method == Method::POST,
        [kind] if *method == Method::POST => ResourceType::parse(kind).is_some(),
        [_] | [_, _] => *method == Method::PUT || *method == Method::PATCH,
        _ => false,
    }
}

pub type InBody = Result<Bytes, BytesRejection>;

/// The body of a POST; none of a GET, whatever it carries. What may be asked by either is one handler.
pub struct Posted(pub Option<InBody>);

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        Ok(Self(match *request.method() == Method::POST {
            true => Some(Bytes::from_request(request, state).await),
            false => None,
        }))
    }
}

impl FhirApi {
    /// The routes below `/fhir`.
    pub fn router(self) -> Router {
        let api = Arc::new(self);
        let mut inner = Router::new().route("/metadata", get(capability::metadata));
        for interaction in every_interaction() {
            for (path, route) in routes(interaction) {
                inner = inner.route(path, route);
            }
        }
        for path in ["/Observation/$stats", "/Observation/%24stats"] {
            inner = inner.route(path, get(stats::answer).post(stats::answer));
        }
        if api.bulk.is_some() {
            for (path, route) in bulk::routes() {
                inner = inner.route(path, route);
            }
        }
        for path in ["/$validate", "/%24validate"] {
            inner = inner.route(path, post(validating::validate_any).layer(limit()));
        }
        for path in ["/{kind}/$validate", "/{kind}/%24validate"] {
            inner = inner.route(path, post(validating::validate_type).layer(limit()));
        }
        inner = inner
            .route("/{kind}/{id}", post(of_type))
            .route("/{kind}/{id}/{inner}", post(of_one).layer(limit()));
        for (path, route) in subscribing::routes() {
            inner = inner.route(&path, route);
        }
        let inner = inner
            .method_not_allowed_fallback(async || Failure::method())
            .fallback(any(async || Failure::no_such_path()))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES));
        // fhirpy and fhir-kit-client send Bundles there.
        let bundles = post(transacting::bundle).layer(bundle_limit());
        let bundles = bundles.fallback(async || Failure::no_such_path());
        Router::new()
            .nest("/fhir", inner)
            .route("/fhir/", bundles)
            .layer(from_fn(readable))
            .layer(from_fn_with_state(api.clone(), throttling::throttle))
            .layer(from_fn(packing::pack))
            .with_state(api)
    }
}

/// Each interaction that any type or the system offers, once.
fn every_interaction() -> Vec<Interaction> {
    let of_types = ResourceType::every().flat_map(|kind| offered(kind).iter().copied());
    let mut all: Vec<Interaction> = of_types.chain(SYSTEM.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The resource type of a path, where it offers the interaction.
pub fn kind_of(name: &str, interaction: Interaction) -> Result<ResourceType, Failure> {
    let kind = ResourceType::parse(name).ok_or_else(Failure::no_such_path)?;
    match offered(kind).contains(&interaction) {
        true => Ok(kind),
        false => Err(Failure::method().allowing("GET, HEAD")),
    }
}

pub fn in_url(pairs: InUrl) -> Result<Pairs, Failure> {
    Ok(pairs.map_err(|_| Failure::parameters())?.0)
}

/// The segments of a path below `/fhir`, each decoded by itself: what one of them is does not hinge on the others.
pub struct Segments(pub Vec<Option<String>>);

impl Segments {
    /// The segment at a position.
    pub fn at(&self, position: usize) -> Result<&str, Failure> {
        let segment = self.0.get(position).and_then(Option::as_deref);
        segment.ok_or_else(Failure::unreadable_path)
    }
}

impl<S: Sync> FromRequestParts<S> for Segments {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let segments = parts.uri.path().split('/').skip(1);
        Ok(Self(segments.map(decoded).collect()))
    }
}

/// Refuses a query that cannot be read: what is left of it by guessing would be another than was meant.
async fn readable(request: Request, next: Next) -> Response {
    match request.uri().query().is_none_or(is_readable) {
        true => next.run(request).await,
        false => Failure::parameters().into_response(),
    }
}

/// Whether a query or a form is UTF-8, each byte that is encoded by two digits (RFC 3986 §2.1).
pub fn is_readable(pairs: &str) -> bool {
    decoded(pairs).is_some()
}

/// RFC 3986 §2.1; none where it is no UTF-8.
pub fn decoded(segment: &str) -> Option<String> {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                u8::from_str_radix(digits, 16).ok()?
            }
            _ => byte,
        });
    }
    String::from_utf8(out).ok()
}

fn id_of(text: &str) -> Result<FhirId, Failure> {
    text.parse().map_err(|_| Failure::not_found())
}

/// Of the body of a resource.
fn limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_RESOURCE_BYTES)
}

/// Of the body of a Bundle at the base.
fn bundle_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_BUNDLE_BYTES)
}

fn routes(interaction: Interaction) -> Vec<(&'static str, MethodRouter<Arc<FhirApi>>)> {
    match interaction {
        Interaction::Read => vec![("/{kind}/{id}", get(read))],
        Interaction::Vread => vec![("/{kind}/{id}/_history/{version}", get(vread))],
        Interaction::SearchType => vec![
            ("/{kind}", get(search)),
            ("/{kind}/_search", post(search)),
            ("/{kind}/{id}/{inner}", get(below)),
            ("/{kind}/{id}/{inner}/_search", post(below_by_post)),
        ],
        Interaction::SearchSystem => {
            vec![("/", get(search_system)), ("/_search", post(search_system))]
        }
        Interaction::Create => vec![("/{kind}", post(create).layer(limit()))],
        Interaction::Update => vec![
            ("/{kind}/{id}", put(update).layer(limit())),
            ("/{kind}", put(update_found).layer(limit())),
        ],
        Interaction::Patch => vec![
            ("/{kind}/{id}", patch(patch_one).layer(limit())),
            ("/{kind}", patch(patch_found).layer(limit())),
        ],
        Interaction::Delete => vec![
            ("/{kind}/{id}", delete(remove)),
            ("/{kind}", delete(remove_found)),
        ],
        Interaction::HistoryInstance => vec![("/{kind}/{id}/_history", get(history_of_instance))],
        Interaction::HistoryType => vec![("/{kind}/_history", get(history_of_type))],
        Interaction::HistorySystem => vec![("/_history", get(history_of_system))],
        // One route for both: which of them it is, the Bundle says.
        Interaction::Batch => {
            vec![("/", post(transacting::bundle).layer(bundle_limit()))]
        }
        Interaction::Transaction => Vec::new(),
    }
}

pub async fn read(api: Api, path: Segments, pairs: InUrl, headers: HeaderMap) -> Answer {
    let kind = kind_of(path.at(0)?, Interaction::Read)?;
    if kind.as_str() == SUBSCRIPTION && path.at(1).is_ok_and(|id| id == "$status") {
        return subscribing::statuses(&api, &headers, in_url(pairs)).await;
    }
    if kind == ResourceType::Observation && path.at(1).is_ok_and(|id| id == "$lastn") {
        let asker = api.asker(&headers, kind, Interaction::SearchType)?;
        let found = lastn::lastn(&api, &asker, pairs, &headers).await;
        return asker.answer(&api, found).await;
    }
    let asker = api.asker(&headers, kind, Interaction::Read)?;
    let found = reading::read(&api, kind, &asker, path.at(1), pairs, &headers).await;
    asker.answer(&api, found).await
}

pub async fn vread(api: Api, path: Segments, pairs: InUrl, headers: HeaderMap) -> Answer {
    let kind = kind_of(path.at(0)?, Interaction::Vread)?;
    let asker = api.asker(&headers, kind, Interaction::Vread)?;
    let found = reading::vread(
        &api,
        kind,
        &asker,
        (path.at(1), path.at(3)),
        pairs,
        &headers,
    )
    .await;
    asker.answer(&api, found).await
}

/// A write: of which type, who asks for it, and what it brings along.
fn to_write<'h>(
    api: &FhirApi,
    path: &Segments,
    interaction: Interaction,
    headers: &'h HeaderMap,
    (pairs, body): (InUrl, Option<InBody>),
) -> Result<(ResourceType, Asker, writing::Request<'h>), Failure> {
    let kind = kind_of(path.at(0)?, interaction)?;
    let asker = api.asker(headers, kind, interaction)?;
    let request = writing::Request {
        pairs,
        headers,
        body,
    };
    Ok((kind, asker, request))
}

pub async fn create(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    let brings = (pairs, Some(body));
    let (kind, asker, request) = to_write(&api, &path, Interaction::Create, &headers, brings)?;
    writing::create(&api, kind, asker, request).await
}

pub async fn update(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    let brings = (pairs, Some(body));
    let (kind, asker, request) = to_write(&api, &path, Interaction::Update, &headers, brings)?;
    writing::update(&api, kind, asker, path.at(1), request).await
}

/// What the parameters find is updated, or a new one made (FHIR R4 http.html#cond-update).
pub async fn update_found(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    let brings = (pairs, Some(body));
    let (kind, asker, request) = to_write(&api, &path, Interaction::Update, &headers, brings)?;
    conditional::update(&api, kind, asker, request).await
}

pub async fn patch_one(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    let brings = (pairs, Some(body));
    let (kind, asker, request) = to_write(&api, &path, Interaction::Patch, &headers, brings)?;
    patching::patch(&api, kind, asker, Target::Id(path.at(1)), request).await
}

pub async fn patch_found(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    let brings = (pairs, Some(body));
    let (kind, asker, request) = to_write(&api, &path, Interaction::Patch, &headers, brings)?;
    patching::patch(&api, kind, asker, Target::Found, request).await
}

/// What the parameters find is deleted (FHIR R4 http.html#cdelete).
pub async fn remove_found(api: Api, path: Segments, pairs: InUrl, headers: HeaderMap) -> Answer {
    let brings = (pairs, None);
    let (kind, asker, request) = to_write(&api, &path, Interaction::Delete, &headers, brings)?;
    conditional::delete(&api, kind, asker, request).await
}

pub async fn remove(api: Api, path: Segments, pairs: InUrl, headers: HeaderMap) -> Answer {
    let brings = (pairs, None);
    let (kind, asker, request) = to_write(&api, &path, Interaction::Delete, &headers, brings)?;
    writing::delete(&api, kind, asker, path.at(1), request).await
}

pub async fn history_of_instance(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
) -> Answer {
    let kind = kind_of(path.at(0)?, Interaction::HistoryInstance)?;
    let asker = api.asker(&headers, kind, Interaction::HistoryInstance)?;
    let found = async {
        let scope = crate::store::Scope::Instance(kind, id_of(path.at(1)?)?);
        history::history(&api, scope, &asker, pairs, &headers).await
    };
    let found = found.await;
    asker.answer(&api, found).await
}

pub async fn history_of_type(api: Api, path: Segments, pairs: InUrl, headers: HeaderMap) -> Answer {
    let kind = kind_of(path.at(0)?, Interaction::HistoryType)?;
    let asker = api.asker(&headers, kind, Interaction::HistoryType)?;
    let scope = crate::store::Scope::Type(kind);
    let found = history::history(&api, scope, &asker, pairs, &headers).await;
    asker.answer(&api, found).await
}

pub async fn history_of_system(api: Api, pairs: InUrl, headers: HeaderMap) -> Answer {
    let asker = api.asker(&headers, ResourceType::ANY, Interaction::HistorySystem)?;
    let scope = crate::store::Scope::Everything;
    let found = history::history(&api, scope, &asker, pairs, &headers).await;
    asker.answer(&api, found).await
}
