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

/// The origins at which clients reach the nodes of a pair, besides the configured one; `bound` is where this one listens.
pub(crate) fn others(config: &RegionalConfig, bound: SocketAddr) -> Vec<String> {
    let Some(other) = config.pair.as_ref().and_then(|pair| pair.other.as_ref()) else {
        return Vec::new();
    };
    let own = (!bound.ip().is_unspecified()).then(|| format!("https://{bound}"));
    let configured = config.https.origin(bound);
    let origins = own.into_iter().chain([other.https.clone()]);
    origins.filter(|origin| *origin != configured).collect()
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
mod tests {
    use super::*;
    use crate::{
        config::{OtherConfig, PairConfig},
        server::tests::{config, files},
    };
    use axum::{body::Body, body::to_bytes, routing::get};

    #[tokio::test]
    async fn links_are_at_the_address_that_a_client_has_used_if_it_is_one_of_the_pair() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir, files(dir.path()));
        config.https.public_url = Some("https://region.example.org/".into());
        let bound = "10.0.0.1:8443".parse().unwrap();
        let at = |origin: &str| {
            let origin = origin.to_owned();
            Router::new().route("/", get(async move || origin))
        };
        assert!(others(&config, bound).is_empty());
        config.pair = Some(PairConfig {
            node: "a".into(),
            other: Some(OtherConfig {
                https: "https://B:443".into(),
                links: "https://b:7443".into(),
            }),
        });
        let app = by_host(&config, bound, at);
        for (host, origin) in [
            ("region.example.org", "https://region.example.org"),
            ("10.0.0.1:8443", "https://10.0.0.1:8443"),
            ("b", "https://B:443"),
            ("b:443", "https://B:443"),
            ("b:444", "https://region.example.org"),
            ("elsewhere.example.org", "https://region.example.org"),
        ] {
            let request = Request::get("/").header(HOST, host);
            let request = request.body(Body::empty()).unwrap();
            let answer = app.clone().oneshot(request).await.unwrap();
            let said = to_bytes(answer.into_body(), 1 << 10).await.unwrap();
            assert_eq!(said, origin.as_bytes(), "{host}");
        }
        // An address of every machine is none to be reached at.
        let everywhere = "0.0.0.0:8443".parse().unwrap();
        assert_eq!(others(&config, everywhere), ["https://B:443"]);
    }
}
