//! Tests of the API over SQLite, request by request.
use super::*;
use crate::contract::fixture;
use crate::sqlite::SqliteStore;
use crate::store::Delivery;
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

/// `all` may do everything, `patients` may read patients.
struct ByName;

impl Authorize for ByName {
    fn authorize(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<(), Denied> {
        let value = headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        match value {
            Some(b"Bearer all") => Ok(()),
            Some(b"Bearer patients")
                if kind == ResourceType::Patient && interaction == Interaction::Read =>
            {
                Ok(())
            }
            Some(b"Bearer patients") => Err(Denied::Forbidden),
            _ => Err(Denied::Unauthenticated("Bearer")),
        }
    }
}

struct Fixture {
    _dir: TempDir,
    router: Router,
}

const READINGS: u32 = 60;

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
    let mut delivery = fixture::delivery(1, 0..READINGS);
    delivery
        .resources
        .extend([fixture::patient(1, 1950), fixture::device(1)]);
    let changed = Delivery {
        parcel: fixture::parcel(2),
        source: fixture::source(1),
        resources: vec![fixture::patient(1, 1951)],
    };
    store
        .apply(vec![delivery, changed], Timestamp(1_000))
        .await
        .unwrap();
    let api = FhirApi {
        store: Arc::new(store),
        authorize: Arc::new(ByName),
        base: "https://region.example/fhir".into(),
        token_url: "https://region.example/auth/token".into(),
        now: Arc::new(|| Timestamp(1_800_000_000_000)),
    };
    Fixture {
        _dir: dir,
        router: api.router(),
    }
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn ids(&self) -> Vec<String> {
        let json = self.json();
        let entries = json["entry"].as_array().cloned().unwrap_or_default();
        let matches = entries
            .iter()
            .filter(|entry| entry["search"]["mode"] == "match");
        matches
            .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn link(&self, relation: &str) -> Option<String> {
        let json = self.json();
        let links = json["link"].as_array().unwrap();
        let found = links.iter().find(|link| link["relation"] == relation)?;
        Some(found["url"].as_str().unwrap().to_owned())
    }

    fn issue(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(json["resourceType"], "OperationOutcome", "{}", self.text);
        assert_eq!(self.headers[header::CONTENT_TYPE], FHIR_JSON);
        let code = json["issue"][0]["code"].as_str().unwrap().to_owned();
        (self.status.as_u16(), code)
    }
}

impl Fixture {
    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 22).await.unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.get_with(path, &[("authorization", "Bearer all")])
            .await
    }
}

#[tokio::test]
async fn a_resource_is_read_with_its_text_version_and_time() {
    let api = fixture().await;
    let new = fixture::observation(4);
    let reply = api.get(&format!("/fhir/Observation/{}", new.id())).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers[header::CONTENT_TYPE], FHIR_JSON);
    assert_eq!(reply.headers[header::ETAG], "W/\"1\"");
    assert_eq!(
        reply.headers[header::LAST_MODIFIED],
        "Thu, 01 Jan 1970 00:00:01 GMT"
    );
    assert!(reply.text.contains("\"value\":1E5,"), "{}", reply.text);
    assert_eq!(reply.json()["meta"]["versionId"], "1");
    assert_eq!(
        reply.json()["meta"]["lastUpdated"],
        "1970-01-01T00:00:01.000Z"
    );
    let known = [
        ("authorization", "Bearer all"),
        ("if-none-match", "W/\"1\""),
    ];
    let reply = api
        .get_with(&format!("/fhir/Observation/{}", new.id()), &known)
        .await;
    assert_eq!(
        (reply.status, reply.text.as_str()),
        (StatusCode::NOT_MODIFIED, "")
    );
}

#[tokio::test]
async fn every_version_of_a_patient_can_be_read() {
    let api = fixture().await;
    let path = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    assert_eq!(api.get(&path).await.json()["birthDate"], "1951");
    for (version, year) in [("1", "1950"), ("2", "1951")] {
        let reply = api.get(&format!("{path}/_history/{version}")).await;
        assert_eq!(reply.json()["birthDate"], year);
        assert_eq!(reply.headers[header::ETAG], format!("W/\"{version}\""));
    }
    for version in ["0", "3", "x", "-1"] {
        let reply = api.get(&format!("{path}/_history/{version}")).await;
        assert_eq!(reply.issue(), (404, "not-found".into()), "{version}");
    }
}

#[tokio::test]
async fn every_refusal_is_an_operation_outcome() {
    let api = fixture().await;
    for (path, expected) in [
        ("/fhir/Observation/nope", (404, "not-found")),
        ("/fhir/Observation/%20", (404, "not-found")),
        ("/fhir/Person", (404, "not-supported")),
        ("/fhir/Person/1", (404, "not-supported")),
        ("/fhir", (404, "not-supported")),
        ("/fhir/Observation?date=yesterday", (400, "value")),
        ("/fhir/Observation?code:text=heart", (400, "not-supported")),
        ("/fhir/Observation?_format=xml", (406, "not-supported")),
    ] {
        let (status, code) = expected;
        assert_eq!(
            api.get(path).await.issue(),
            (status, code.to_owned()),
            "{path}"
        );
    }
    let headers = [
        ("authorization", "Bearer all"),
        ("accept", "application/fhir+xml"),
    ];
    let reply = api.get_with("/fhir/Observation", &headers).await;
    assert_eq!(reply.issue(), (406, "not-supported".into()));
    let not_a_form = Request::post("/fhir/Observation/_search")
        .header("authorization", "Bearer all")
        .header("content-type", "application/json")
        .body(Body::from("{}"));
    let reply = api.send(not_a_form.unwrap()).await;
    assert_eq!(reply.issue(), (400, "structure".into()));
    for method in [Method::DELETE, Method::PUT, Method::PATCH] {
        let request = Request::builder().method(method).uri("/fhir/Observation/1");
        let reply = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.issue(), (405, "not-supported".into()));
    }
}

#[tokio::test]
async fn nothing_but_metadata_is_shown_without_the_right_token() {
    let api = fixture().await;
    let id = fixture::patient(1, 1950).id().clone();
    let paths = [
        format!("/fhir/Patient/{id}"),
        format!("/fhir/Patient/{id}/_history/1"),
        "/fhir/Patient".to_owned(),
        "/fhir/Observation?_count=1".to_owned(),
        "/fhir/Device/nope".to_owned(),
    ];
    for path in &paths {
        let reply = api.get_with(path, &[]).await;
        assert_eq!(reply.issue(), (401, "login".into()), "{path}");
        assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Bearer");
    }
    let patients = [("authorization", "Bearer patients")];
    assert_eq!(
        api.get_with(&paths[0], &patients).await.status,
        StatusCode::OK
    );
    for path in &paths[1..] {
        let reply = api.get_with(path, &patients).await;
        assert_eq!(reply.issue(), (403, "forbidden".into()), "{path}");
    }
    let reply = api.get_with("/fhir/metadata", &[]).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn pages_are_linked_and_show_each_resource_once() {
    let api = fixture().await;
    for sort in ["date", "-date", "_id", "-_lastUpdated"] {
        let mut url = format!("/fhir/Observation?_count=7&_sort={sort}&_unknown=1");
        let mut seen = Vec::new();
        loop {
            let reply = api.get(&url).await;
            assert_eq!(reply.json()["type"], "searchset");
            let own = reply.link("self").unwrap();
            assert!(own.starts_with("https://region.example/fhir/Observation?_count=7&_sort="));
            seen.extend(reply.ids());
            match reply.link("next") {
                Some(next) => {
                    url = next
                        .strip_prefix("https://region.example")
                        .unwrap()
                        .to_owned()
                }
                None => break,
            }
            assert!(seen.len() <= 60);
        }
        let all: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), all.len()), (60, 60), "{sort}");
    }
}

#[tokio::test]
async fn a_search_finds_what_it_asks_for() {
    let api = fixture().await;
    let reading = fixture::observation(4);
    let patient = fixture::patient(1, 1950).id().clone();
    let of_patient = (0..READINGS).filter(|number| number % 6 == 1).count();
    for (query, count) in [
        (format!("_id={}", reading.id()), 1),
        (
            format!("identifier=urn:medmesh:reading%7C{}", reading.id()),
            1,
        ),
        (format!("patient={patient}"), of_patient),
        (format!("patient=Patient/{patient}"), of_patient),
        (format!("patient=Patient/{patient}&code=no-such"), 0),
        ("code=http://loinc.org%7C8867-4".into(), 2),
        (
            "date=ge2023-11-14T22:13:20.123Z&date=lt2023-11-14T22:13:21Z".into(),
            3,
        ),
        ("date=1999".into(), 0),
    ] {
        let reply = api.get(&format!("/fhir/Observation?{query}")).await;
        assert_eq!(reply.ids().len(), count, "{query}: {}", reply.text);
        assert_eq!(reply.json().get("total"), None, "{query}");
        let reply = api
            .get(&format!("/fhir/Observation?{query}&_total=accurate"))
            .await;
        assert_eq!(reply.json()["total"].as_u64(), u64::try_from(count).ok());
        let form = Request::post("/fhir/Observation/_search")
            .header("authorization", "Bearer all")
            .header("content-type", "application/x-www-form-urlencoded");
        let posted = api
            .send(form.body(Body::from(query.clone())).unwrap())
            .await;
        assert_eq!(posted.ids().len(), count, "posted {query}");
    }
    let reply = api.get("/fhir/Observation?_count=0").await;
    assert_eq!(
        (reply.json()["total"].as_u64(), reply.ids().len()),
        (Some(60), 0)
    );
    assert_eq!(reply.json().get("entry"), None, "FHIR has no empty lists");
}

#[tokio::test]
async fn an_unknown_parameter_is_refused_or_reported_as_the_client_prefers() {
    let api = fixture().await;
    let path = "/fhir/Observation?_count=1&colour=red";
    let reply = api.get(path).await;
    let json = reply.json();
    assert_eq!(json["entry"][1]["search"]["mode"], "outcome");
    let text = json["entry"][1]["resource"]["issue"][0]["diagnostics"]
        .as_str()
        .unwrap();
    assert!(text.contains("colour"));
    assert!(!reply.link("self").unwrap().contains("colour"));
    let strict = [
        ("authorization", "Bearer all"),
        ("prefer", "respond-async; handling=strict"),
    ];
    assert_eq!(
        api.get_with(path, &strict).await.issue(),
        (400, "not-supported".into())
    );
}

#[tokio::test]
async fn what_is_announced_is_served_and_nothing_else() {
    let api = fixture().await;
    let statement = api.get_with("/fhir/metadata", &[]).await.json();
    assert_eq!(statement["fhirVersion"], "4.0.1");
    let resources = statement["rest"][0]["resource"].as_array().unwrap();
    assert_eq!(resources.len(), ResourceType::ALL.len());
    for resource in resources {
        let name = resource["type"].as_str().unwrap();
        for param in resource["searchParam"].as_array().unwrap() {
            let value = if param["type"] == "date" { "2026" } else { "a" };
            let path = format!("/fhir/{name}?{}={value}", param["name"].as_str().unwrap());
            let strict = [
                ("authorization", "Bearer all"),
                ("prefer", "handling=strict"),
            ];
            assert_eq!(
                api.get_with(&path, &strict).await.status,
                StatusCode::OK,
                "{path}"
            );
        }
        for interaction in resource["interaction"].as_array().unwrap() {
            let path = match interaction["code"].as_str().unwrap() {
                "read" => format!("/fhir/{name}/x"),
                "vread" => format!("/fhir/{name}/x/_history/1"),
                _ => format!("/fhir/{name}"),
            };
            let reply = api.get(&path).await;
            assert!(
                reply.status == StatusCode::OK || reply.issue().1 == "not-found",
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let api = fixture().await;
    let path = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    let request = Request::head(path).header("authorization", "Bearer all");
    let reply = api.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, ""));
    assert_eq!(reply.headers[header::ETAG], "W/\"2\"");
}
