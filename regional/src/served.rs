//! The FHIR API of the region over its store: by whose tokens, with which log, and what may be held here.
use crate::{
    api::Bearer, config::RegionalConfig, error::RegionalError, hooks::Hooks, numbering::Numbering,
    true_times::TrueTimes,
};
use axum::{http::header, response::Response};
use federation::tls::TimeSource;
use fhir::{
    admit::Holding,
    rest::{self, AccessLog, Bulk, FhirApi, Subscriptions, Vantages},
    search::Seal,
    store::ResourceStore,
};
use node::{
    https,
    task::{Kind, Tasks},
    token::{TOKEN_PATH, TokenServer},
};
use std::{convert::Infallible, io, path::Path, sync::Arc};
use storage::chunks::Chunks;
use types::Timestamp;

/// The API of the region. `secret` is the node's own key, so that places in listings stay good through a restart.
///
/// # Errors
/// When what notifications go to cannot be used.
pub fn fhir_api(
    (config, tokens, bearer, numbering): (
        &RegionalConfig,
        &TokenServer,
        Bearer,
        Option<&Numbering>,
    ),
    (store, bulk): (&Arc<dyn ResourceStore>, Option<Arc<Bulk>>),
    (log, secret): (impl AccessLog, &[u8]),
    (now, true_times): (TimeSource, &TrueTimes),
) -> Result<FhirApi, RegionalError> {
    let hooks = Hooks::open(&config.subscriptions).map_err(RegionalError::Subscriptions)?;
    let numbering = numbering.cloned();
    let (token_url, at) = (tokens.token_url().to_owned(), now.clone());
    let origin = token_url.trim_end_matches(TOKEN_PATH);
    Ok(FhirApi {
        vantages: match config.pair {
            Some(_) => Vantages::shared(store.clone()),
            None => Vantages::new(store.clone()),
        },
        store: store.clone(),
        authorize: Arc::new(bearer),
        access: Arc::new(log),
        base: base(origin),
        other_bases: tokens
            .token_urls()
            .map(|url| base(url.trim_end_matches(TOKEN_PATH)))
            .collect(),
        token_url: Some(token_url),
        now,
        true_times: true_times.clone(),
        seal: Seal::of_secret(secret),
        holding: Arc::new(move || Holding::Pseudonymous {
            year: this_year(at()),
        }),
        draw: Arc::new(rand::random),
        bulk,
        subscriptions: Some(Subscriptions {
            hook: Arc::new(hooks),
            numbering: numbering.map(|one| -> rest::Numbering { Arc::new(move || one.word()) }),
        }),
    })
}

/// Where FHIR is for clients that reach the node at an origin.
fn base(origin: &str) -> String {
    format!("{origin}/fhir")
}

/// Tells subscribers what they are to be told, until a stop.
fn notify(tasks: &mut Tasks, api: &FhirApi) {
    if let Some(sender) = api.sender() {
        let stop = tasks.stop();
        let sending = async move {
            sender.run(stop.cancelled()).await;
            Ok::<(), Infallible>(())
        };
        tasks.spawn("notifications", Kind::Background, sending);
    }
}

/// The routes of FHIR for clients that reach the node at an origin: links in answers are there. A file of bulk data may take long: each piece of it is to be read in time, not the whole.
pub fn router(api: &FhirApi, origin: &str) -> axum::Router {
    let lasting = async |mut response: Response| {
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind == "application/fhir+ndjson") {
            response.extensions_mut().insert(https::Lasting);
        }
        response
    };
    let api = FhirApi {
        base: base(origin),
        token_url: Some(format!("{origin}{TOKEN_PATH}")),
        ..api.clone()
    };
    let routes = api.router();
    routes.layer(axum::middleware::map_response(lasting))
}

/// The files of exports, which are made while clients do something else; in chunks elsewhere too, where two nodes are.
pub fn open_bulk(data_dir: &Path, chunks: Option<Arc<dyn Chunks>>) -> io::Result<Arc<Bulk>> {
    let dir = data_dir.join("bulk");
    match chunks {
        Some(chunks) => Bulk::open_kept(&dir, chunks),
        None => Bulk::open(&dir),
    }
}

/// Tells subscribers, and does the jobs of bulk data until a stop, wherever that finds them: they go on with the next
/// start.
pub fn work(tasks: &mut Tasks, api: FhirApi) {
    notify(tasks, &api);
    let (store, base, stop) = (api.store.clone(), api.base.clone(), tasks.stop());
    let reindexing = async move {
        fhir::reindex::run(store, base, stop.cancelled()).await;
        Ok::<(), Infallible>(())
    };
    tasks.spawn("fhir index", Kind::Background, reindexing);
    let stop = tasks.stop();
    let working = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = api.work() => {}
        }
        Ok::<(), Infallible>(())
    };
    tasks.spawn("bulk data", Kind::Background, working);
}

/// The year (UTC) that ages are told from.
fn this_year(now: Timestamp) -> i32 {
    let text = now.to_rfc3339();
    let year = text.split('-').next().and_then(|year| year.parse().ok());
    year.unwrap_or(i32::MAX)
}
