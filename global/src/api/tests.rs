//! The API over a catalog in a file, through its router.
use super::*;
use crate::catalog::{Entry, Facts, Home, Put, Records, sqlite::SqliteCatalog};
use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use node::{clock::Clock, token::TokenServer};
use std::collections::BTreeSet;
use tempfile::TempDir;
use tower::ServiceExt;
use types::{DeviceKind, DeviceStatus, Jurisdiction, Timestamp};

struct Fixture {
    catalog: Arc<dyn Catalog>,
    router: Router,
    _dir: TempDir,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).unwrap();
    let catalog: Arc<dyn Catalog> = Arc::new(catalog);
    for (jurisdiction, region, facility, from) in [
        (Jurisdiction::Eu, "eu", "eu-f1", 0),
        (Jurisdiction::Us, "us", "us-f1", 10),
    ] {
        let home = Home {
            jurisdiction,
            region: region.parse().unwrap(),
            facility: facility.parse().unwrap(),
        };
        let devices = (from..from + 3).map(entry).collect();
        catalog
            .put_devices(&Records { home, devices })
            .await
            .unwrap();
    }
    let router = allowing(&catalog, "mesh/*.rs");
    Fixture {
        catalog,
        router,
        _dir: dir,
    }
}

/// The API for a client with these scopes.
fn allowing(catalog: &Arc<dyn Catalog>, scopes: &str) -> Router {
    let scopes: Scopes = scopes.parse().unwrap();
    routes(catalog.clone(), Arc::new(move |_| Ok(scopes.clone())))
}

fn entry(number: u8) -> Entry {
    Entry {
        id: CatalogId::from_bytes([number; 16]),
        facts: Facts {
            status: DeviceStatus::Active,
            kind: DeviceKind::ALL[usize::from(number % 2)],
            model: Some("XY-MD02".parse().unwrap()),
            firmware: None,
        },
        updated: Timestamp(1_000),
    }
}

async fn ask(router: &Router, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn ids(body: &Value) -> Vec<String> {
    let items = body["items"].as_array().unwrap();
    let id = |item: &Value| item["id"].as_str().unwrap()[..2].to_owned();
    items.iter().map(id).collect()
}

#[tokio::test]
async fn without_a_token_nothing_but_the_description_is_shown() {
    let fixture = fixture().await;
    let dir = tempfile::tempdir().unwrap();
    let (clock, used) = (Clock::new(None), dir.path().join("used"));
    let tokens = TokenServer::new("https://localhost", &[], clock, &used).unwrap();
    let closed = router(fixture.catalog.clone(), tokens.verifier());
    for path in ["/api/v1/devices", "/api/v1/facilities", "/api/v1/devices/x"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = closed.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
    let (status, _) = ask(&closed, "/api/v1/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_shows_what_its_scopes_name() {
    let fixture = fixture().await;
    let id = CatalogId::from_bytes([1; 16]);
    let one = format!("/api/v1/devices/{id}");
    for (scopes, list, read, facilities) in [
        ("mesh/devices.r", 403, 200, 403),
        ("mesh/devices.s", 200, 403, 403),
        ("mesh/facilities.s", 403, 403, 200),
        ("system/*.rs", 403, 403, 403),
    ] {
        let router = allowing(&fixture.catalog, scopes);
        for (path, expected) in [
            ("/api/v1/devices", list),
            (one.as_str(), read),
            ("/api/v1/facilities", facilities),
        ] {
            let (status, _) = ask(&router, path).await;
            assert_eq!(status.as_u16(), expected, "{scopes} {path}");
        }
    }
}

#[tokio::test]
async fn filters_and_pages_show_what_was_asked_for() {
    let router = fixture().await.router;
    for (query, expected) in [
        ("", vec!["00", "01", "02", "0a", "0b", "0c"]),
        ("?jurisdiction=us", vec!["0a", "0b", "0c"]),
        ("?region=eu&kind=cold-chain", vec!["01"]),
        ("?facility=us-f1&status=active&limit=2", vec!["0a", "0b"]),
        ("?status=retired", vec![]),
    ] {
        let (status, body) = ask(&router, &format!("/api/v1/devices{query}")).await;
        assert_eq!(status, StatusCode::OK, "{query}");
        assert_eq!(ids(&body), expected, "{query}");
    }
    let mut found = Vec::new();
    let mut next = String::new();
    loop {
        let (_, body) = ask(&router, &format!("/api/v1/devices?limit=2{next}")).await;
        found.extend(ids(&body));
        match body["next"].as_str() {
            Some(cursor) => next = format!("&after={cursor}"),
            None => break,
        }
    }
    assert_eq!(found, ["00", "01", "02", "0a", "0b", "0c"]);
    let (_, body) = ask(&router, "/api/v1/facilities?limit=1").await;
    let expected = json!([{"jurisdiction": "eu", "region": "eu", "facility": "eu-f1", "updated": "1970-01-01"}]);
    assert_eq!(body, json!({"items": expected, "next": "eu/eu/eu-f1"}));
}

#[tokio::test]
async fn a_device_is_shown_with_what_is_known_of_it_and_with_nothing_else() {
    let router = fixture().await.router;
    let id = CatalogId::from_bytes([1; 16]);
    let (status, body) = ask(&router, &format!("/api/v1/devices/{id}")).await;
    assert_eq!(status, StatusCode::OK);
    let expected = json!({
        "id": id.to_string(), "jurisdiction": "eu", "region": "eu", "facility": "eu-f1", "kind": "cold-chain",
        "status": "active", "model": "XY-MD02", "firmware": null, "updated": "1970-01-01",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn what_is_wrong_is_answered_by_a_problem_document() {
    let fixture = fixture().await;
    let unknown = CatalogId::from_bytes([0x77; 16]);
    for (path, expected) in [
        ("/api/v1/devices?kind=toaster", 400),
        ("/api/v1/devices?staus=active", 400),
        ("/api/v1/devices?kind=external&kind=external", 400),
        ("/api/v1/devices?kind=", 400),
        ("/api/v1/devices?limit=0", 400),
        ("/api/v1/devices?limit=1001", 400),
        ("/api/v1/devices?limit=-1", 400),
        ("/api/v1/devices?after=eu/eu/eu-f1", 400),
        ("/api/v1/devices?region=%27%3B%20DROP%20TABLE%20device", 400),
        ("/api/v1/devices?region=%ff", 400),
        ("/api/v1/facilities?kind=external", 400),
        ("/api/v1/facilities?after=nowhere", 400),
        ("/api/v1/devices/not-an-id", 404),
        (&format!("/api/v1/devices/{unknown}"), 404),
    ] {
        let (status, body) = ask(&fixture.router, path).await;
        assert_eq!(status.as_u16(), expected, "{path}");
        assert_eq!(body["status"], expected, "{path}");
        assert!(
            body["detail"].is_string() && body["title"].is_string(),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_id_that_another_facility_claims_stays_its_first_owners() {
    let fixture = fixture().await;
    let home = Home {
        jurisdiction: Jurisdiction::Us,
        region: "us".parse().unwrap(),
        facility: "us-f1".parse().unwrap(),
    };
    let devices = vec![entry(1)];
    let taken = Records { home, devices };
    let put = fixture.catalog.put_devices(&taken).await.unwrap();
    assert_eq!(put, Put::Foreign);
    let path = format!("/api/v1/devices/{}", taken.devices[0].id);
    let (status, body) = ask(&fixture.router, &path).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["facility"], json!("eu-f1"));
}

#[test]
fn a_listing_without_parameters_takes_none() {
    use super::query::takes_none;
    assert!(takes_none(None).is_ok() && takes_none(Some("")).is_ok());
    for query in ["limit=x", "limit=2", "after=z", "zz=1", "zz", "%zz"] {
        let refused = takes_none(Some(query)).err().unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn every_route_is_described_and_every_description_is_routed() {
    let fixture = fixture().await;
    let (_, document) = ask(&fixture.router, "/api/v1/openapi.json").await;
    let id = CatalogId::from_bytes([1; 16]).to_string();
    let paths = document["paths"].as_object().unwrap().keys();
    // What has a door of its own is asked by the tests of that door.
    let others = [
        include_str!("studies.rs"),
        include_str!("blobs.rs"),
        include_str!("../page.rs"),
    ];
    let route = |path: &String| format!("\"{path}\"");
    let is_other = |path: &&String| others.iter().any(|source| source.contains(&route(path)));
    let routed = others
        .iter()
        .map(|source| source.matches("\"/api/v1/").count());
    assert_eq!(
        routed.sum::<usize>(),
        paths.clone().filter(is_other).count()
    );
    let described: BTreeSet<_> = paths.filter(|path| !is_other(path)).collect();
    for path in &described {
        let (status, _) = ask(&fixture.router, &path.replace("{id}", &id)).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let source = include_str!("../api.rs");
    for path in &described {
        assert!(source.contains(&format!("\"{path}\"")), "{path}");
    }
    let routed = source.matches("\"/api/v1/").count();
    assert_eq!(routed, described.len());
}

/// Every operation of the description: its path, its method and itself.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            found.push((path.clone(), method.clone(), operation.clone()));
        }
    }
    found
}

#[tokio::test]
async fn every_operation_says_what_it_answers_when_it_is_done_and_when_it_is_not() {
    let fixture = fixture().await;
    let (_, document) = ask(&fixture.router, "/api/v1/openapi.json").await;
    let mut secured = 0;
    for (path, method, operation) in operations(&document) {
        if operation["security"] == json!([]) {
            continue;
        }
        secured += 1;
        let responses = operation["responses"].as_object().unwrap();
        for status in ["401", "403", "405", "500", "503"] {
            assert!(responses.contains_key(status), "{method} {path} {status}");
        }
        let scope = operation["security"][0]["bearer"][0].as_str();
        assert!(
            scope.is_some_and(|scope| scope.starts_with("mesh/")),
            "{path}"
        );
        let is_list = method == "get" && !path.contains('{');
        assert!(!is_list || responses.contains_key("400"), "{path}");
        assert!(method != "post" || responses.contains_key("413"), "{path}");
        assert!(
            !path.contains('{') || responses.contains_key("404"),
            "{path}"
        );
        let mut good = responses
            .iter()
            .filter(|(status, _)| status.starts_with('2'));
        let (_, good) = good.next().unwrap();
        assert!(good["content"].is_object(), "{method} {path}");
    }
    assert!(secured >= 13, "{secured}");
    // A refusal names the scope that the description names.
    let of = |path: &str, method: &str| {
        let scope = &document["paths"][path][method]["security"][0]["bearer"][0];
        scope.as_str().unwrap().to_owned()
    };
    let studies = "/api/v1/fl/studies";
    for (scope, interaction) in [
        (of(studies, "post"), Interaction::Create),
        (of(studies, "get"), Interaction::Search),
        (of("/api/v1/fl/studies/{id}", "get"), Interaction::Read),
        (
            of("/api/v1/fl/studies/{id}/cancel", "post"),
            Interaction::Update,
        ),
    ] {
        assert_eq!(scope, super::studies::scope_of(interaction));
    }
    // No reference leads nowhere.
    let text = document.to_string();
    let references = text.split("#/components/schemas/").skip(1);
    for name in references.filter_map(|rest| rest.split('"').next()) {
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name}"
        );
    }
}

#[test]
fn a_listing_of_studies_takes_what_it_is_described_with() {
    use super::query::{StudyQuery, parameters};
    let read = |query: &str| parameters(Some(query)).and_then(StudyQuery::read);
    let (after, limit) = (None, 100);
    assert_eq!(read(""), Ok(StudyQuery { after, limit }));
    let after = Some("heart-1".parse().unwrap());
    let asked = read("limit=7&after=heart-1");
    assert_eq!(asked, Ok(StudyQuery { after, limit: 7 }));
    for query in ["limit=0", "limit=101", "limit=x", "after=A", "status=done"] {
        let refused = read(query).err().unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{query}");
    }
}
