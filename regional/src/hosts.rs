//! By which of its addresses a client has reached a node: links in answers, and the token endpoint that is named, are at
//! that one. A node alone has one address. One of a pair has its own and the other one's too, since what the other one
//! cannot do while it waits it hands on with the client's `Host`. Any other `Host` is answered as the configured address.
use crate::config::RegionalConfig;
use axum::{
    Router,
    extract::Request,
    http::header::HOST,
    response::{IntoResponse as _, Response},
};
use std::{net::SocketAddr, sync::Arc};
use tower::ServiceExt as _;

/// The port that a `Host` leaves out.
const HTTPS: &str = ":443";

/// The origins at which clients reach the nodes of a pair, besides the configured one: where this one listens (`bound`), what
/// it is called by others, and the other one.
pub(crate) fn others(config: &RegionalConfig, bound: SocketAddr) -> Vec<String> {
    let Some(pair) = &config.pair else {
        return Vec::new();
    };
    let listens = (!bound.ip().is_unspecified()).then(|| format!("https://{bound}"));
    let own = listens.into_iter().chain(pair.https.clone());
    let mut origins = vec![config.https.origin(bound)];
    let other = pair.other.iter().map(|other| other.https.clone());
    for origin in own.chain(other) {
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    origins.split_off(1)
}

/// What is served, made for each origin.
pub(crate) fn by_host(
    config: &RegionalConfig,
    bound: SocketAddr,
    at: impl Fn(&str) -> Router,
) -> Router {
    let configured = at(&config.https.origin(bound));
    let others: Arc<[(String, Router)]> = others(config, bound)
        .iter()
        .map(|origin| (authority(origin), at(origin)))
        .collect();
    if others.is_empty() {
        return configured;
    }
    Router::new().fallback(move |request: Request| {
        let asked = host(&request);
        let other = others.iter().find(|(authority, _)| *authority == asked);
        let router = other.map_or(&configured, |(_, router)| router).clone();
        async move { served(router, request).await }
    })
}

async fn served(router: Router, request: Request) -> Response {
    let served = router.oneshot(request).await;
    served.map_or_else(|never| match never {}, |response| response.into_response())
}

/// Host and port of an origin, as a `Host` has them.
fn authority(origin: &str) -> String {
    let authority = origin.trim_start_matches("https://").to_ascii_lowercase();
    authority.trim_end_matches(HTTPS).to_owned()
}

fn host(request: &Request) -> String {
    let host = request.headers().get(HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    host.to_ascii_lowercase().trim_end_matches(HTTPS).to_owned()
}

#[cfg(all(test, not(medmesh_unguarded)))]
#[path = "hosts_tests.rs"]
mod tests;
