//! Which of its addresses a node answers a client by.
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
        https: Some("https://a.example.org:8443".into()),
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
        ("a.example.org:8443", "https://a.example.org:8443"),
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
    let named = ["https://a.example.org:8443", "https://B:443"];
    assert_eq!(others(&config, everywhere), named);
    // Each is there once.
    config.https.public_url = Some(named[0].into());
    assert_eq!(others(&config, everywhere), ["https://B:443"]);
}
