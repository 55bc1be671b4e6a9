//! Tests of the API over SQLite, request by request.
use super::*;
use crate::contract::fixture;
use crate::sqlite::SqliteStore;
use crate::store::Delivery;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

/// `all` may do everything, `patients` may read patients, `conditions` may do everything with conditions, and
/// `only:Condition?code=a;Patient` everything with what is named.
struct ByName;

/// What a token `only:…` covers of a type.
fn only(value: &HeaderValue, kind: ResourceType) -> Option<Vec<String>> {
    let text = value.to_str().ok()?.strip_prefix("Bearer only:")?;
    let of_kind = text.split(';').filter_map(|part| {
        let (name, query) = part.split_once('?').unwrap_or((part, ""));
        (name == kind.as_str()).then(|| query.to_owned())
    });
    let mut queries: Vec<String> = of_kind.collect();
    if queries.is_empty() {
        return None;
    }
    if queries.iter().any(String::is_empty) {
        queries.clear();
    }
    Some(queries)
}

impl Authorize for ByName {
    fn authorize(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<Granted, Denied> {
        let value = headers.get(header::AUTHORIZATION);
        if let Some(only) = value.and_then(|value| only(value, kind)) {
            let reader = Reader("only".into());
            return Ok(Granted { reader, only });
        }
        let reader = match value.map(HeaderValue::as_bytes) {
            Some(b"Bearer all") => Ok(Reader("all".into())),
            Some(b"Bearer other") => Ok(Reader("other".into())),
            Some(b"Bearer patients")
                if kind == ResourceType::Patient && interaction == Interaction::Read =>
            {
                Ok(Reader("patients".into()))
            }
            Some(b"Bearer writes") if interaction.writes() => Ok(Reader("writes".into())),
            Some(b"Bearer writes") => Err(Denied::Forbidden(Reader("writes".into()))),
            Some(b"Bearer conditions") if kind.as_str() == "Condition" => {
                Ok(Reader("conditions".into()))
            }
            Some(b"Bearer conditions") => Err(Denied::Forbidden(Reader("conditions".into()))),
            Some(b"Bearer patients") => Err(Denied::Forbidden(Reader("patients".into()))),
            Some(text) if text.starts_with(b"Bearer only:") => {
                Err(Denied::Forbidden(Reader("only".into())))
            }
            _ => Err(Denied::Unauthenticated("Bearer")),
        };
        reader.map(Granted::everything)
    }

    fn known(&self, headers: &HeaderMap) -> Result<Reader, Denied> {
        let value = headers.get(header::AUTHORIZATION);
        let name = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let name = name.ok_or(Denied::Unauthenticated("Bearer"))?;
        let name = name.split(':').next().unwrap_or_default();
        Ok(Reader(name.into()))
    }

    fn imports(&self, headers: &HeaderMap) -> Result<Reader, Denied> {
        match self.known(headers)? {
            reader if matches!(reader.0.as_str(), "all" | "only") => Ok(reader),
            reader => Err(Denied::Forbidden(reader)),
        }
    }
}

#[path = "rest/access_tests.rs"]
mod access;
#[path = "rest/auditing_tests.rs"]
mod auditing_tests;
#[path = "rest/bulk_kept_tests.rs"]
mod bulk_kept_tests;
#[path = "rest/bulk_tests.rs"]
mod bulk_tests;
#[path = "rest/capability_tests.rs"]
mod capability_tests;
#[path = "rest/conditional_tests.rs"]
mod conditional_tests;
#[path = "rest/everything_tests.rs"]
mod everything_tests;
#[path = "rest/finding_tests.rs"]
mod finding_tests;
#[path = "rest/history_tests.rs"]
mod history_tests;
#[path = "rest/importing_tests.rs"]
mod importing_tests;
#[path = "rest/instants_tests.rs"]
mod instants_tests;
#[path = "rest/long_tests.rs"]
mod long_tests;
#[path = "rest/meta_tests.rs"]
mod meta_tests;
#[path = "rest/owned_tests.rs"]
mod owned_tests;
#[path = "rest/page_tests.rs"]
mod page_tests;
#[path = "rest/patching_tests.rs"]
mod patching_tests;
#[path = "rest/reading_tests.rs"]
mod reading_tests;
#[path = "rest/sight_tests.rs"]
mod sight_tests;
#[path = "rest/stats_tests.rs"]
mod stats_tests;
#[path = "rest/subscribing_here_tests.rs"]
mod subscribing_here_tests;
#[path = "rest/subscribing_tests.rs"]
mod subscribing_tests;
#[path = "rest/synthea_tests.rs"]
mod synthea_tests;
#[path = "rest/throttling_tests.rs"]
mod throttling_tests;
#[path = "rest/validating_tests.rs"]
mod validating_tests;
#[path = "rest/writing_tests.rs"]
mod writing_tests;

struct Fixture {
    dir: TempDir,
    log: Arc<access::Rows>,
    store: Arc<SqliteStore>,
    router: Router,
}

/// Of a client that would rather have what is unknown ignored.
const LENIENT: [(&str, &str); 2] = [
    ("authorization", "Bearer all"),
    ("prefer", "handling=lenient"),
];

const READINGS: u32 = 60;

/// The API over a store, as a start of the node makes it.
fn router(store: Arc<SqliteStore>, limited: bool, log: Arc<access::Rows>) -> Router {
    api_over(store, limited, log, None).router()
}

fn api_over(
    store: Arc<SqliteStore>,
    limited: bool,
    log: Arc<access::Rows>,
    bulk: Option<Arc<Bulk>>,
) -> FhirApi {
    FhirApi {
        vantages: Vantages::new(store.clone()),
        store,
        authorize: Arc::new(ByName),
        access: log,
        base: "https://region.example/fhir".into(),
        other_bases: Arc::default(),
        token_url: Some("https://region.example/auth/token".into()),
        now: Arc::new(|| Timestamp(1_800_000_000_000)),
        true_times: Arc::new(move || limited),
        seal: Seal::of_secret(b"secret"),
        holding: Arc::new(|| Holding::Pseudonymous { year: 2027 }),
        draw: Arc::new(drawn),
        bulk,
        subscriptions: Some(Subscriptions {
            hook: Arc::new(subscribing_tests::Endpoints::default()),
            numbering: Some(Arc::new(|| "first".into())),
        }),
    }
}

/// Each time other bytes.
fn drawn() -> [u8; 16] {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    fixture::bytes(0, NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

/// Where instants are logical.
async fn fixture() -> Fixture {
    fixture_of(false).await
}

async fn fixture_of(limited: bool) -> Fixture {
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
    let (store, log) = (Arc::new(store), Arc::default());
    Fixture {
        dir,
        router: router(store.clone(), limited, Arc::clone(&log)),
        log,
        store,
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
        let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
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
    let api = fixture_of(true).await;
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
    for version in ["0", "3", "x", "-1", "01", "%2B1", "1.0", "1%20"] {
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
        ("/fhir/Nonsense", (404, "not-supported")),
        ("/fhir/Nonsense/1", (404, "not-supported")),
        ("/fhir?_tag=x", (400, "not-supported")),
        ("/fhir?_type=Nonsense", (400, "value")),
        ("/fhir/Observation?date=yesterday", (400, "value")),
        ("/fhir/Observation?code:in=heart", (400, "not-supported")),
        ("/fhir/", (404, "not-supported")),
        ("/fhir/Observation/%ff", (400, "structure")),
        ("/fhir/Observation?code=%ff", (400, "structure")),
        ("/fhir/Observation?code=%zz", (400, "structure")),
        ("/fhir/Condition?code=a%", (400, "structure")),
        ("/fhir/Patient/a/_history/%ff", (400, "structure")),
        ("/fhir/Observation?_sort=code,-date", (400, "not-supported")),
        ("/fhir/Observation/x?_format=xml", (406, "not-supported")),
        ("/fhir/Observation?_cursor=x", (400, "value")),
        ("/fhir/Observation?_count=%2B5", (400, "value")),
        ("/fhir/metadata?_format=xml", (406, "not-supported")),
        (
            "/fhir/Observation?_lastUpdated=gt1970-01-01T00:20:00Z",
            (400, "value"),
        ),
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
    assert_eq!(reply.issue(), (415, "not-supported".into()));
    let not_utf8 = Request::post("/fhir/Observation/_search")
        .header("authorization", "Bearer all")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("code=%ff"));
    let reply = api.send(not_utf8.unwrap()).await;
    assert_eq!(reply.issue(), (400, "structure".into()));
    let too_long = Request::post("/fhir/Observation/_search")
        .header("authorization", "Bearer all")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("a".repeat(MAX_FORM_BYTES + 1)));
    let reply = api.send(too_long.unwrap()).await;
    assert_eq!(reply.issue(), (413, "too-long".into()));
    for method in [Method::DELETE, Method::PUT, Method::PATCH] {
        let request = Request::builder().method(method).uri("/fhir/Observation/1");
        let reply = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.issue(), (401, "login".into()));
    }
    let request = Request::post("/fhir/Observation/1").body(Body::empty());
    let reply = api.send(request.unwrap()).await;
    assert_eq!(reply.issue(), (405, "not-supported".into()));
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
    for sort in [
        "date",
        "-date",
        "_id",
        "-_lastUpdated",
        "-date%2C_id",
        "_lastUpdated%2C-_id",
    ] {
        let mut url = format!("/fhir/Observation?_count=7&_sort={sort}&_unknown=1");
        let mut seen = Vec::new();
        loop {
            let reply = api.get_with(&url, &LENIENT).await;
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
    let facility = fixture::source(1).fresh;
    let of_patient = (0..READINGS).filter(|number| number % 6 == 1).count();
    // Of no patient, so that the device is the subject.
    let device = fixture::device(1).id().clone();
    let of_device = (0..READINGS)
        .filter(|number| number % 6 == 5 && number % 4 == 1)
        .count();
    for (query, count) in [
        (format!("_id={}", reading.id()), 1),
        (
            format!("identifier=urn:medmesh:reading%7C{}", reading.id()),
            1,
        ),
        (format!("patient={patient}"), of_patient),
        (format!("patient=Patient/{patient}"), of_patient),
        (format!("subject=Patient/{patient}"), of_patient),
        (format!("subject={patient}"), of_patient),
        (format!("subject=Device/{device}"), of_device),
        (format!("subject={device}"), of_device),
        (
            format!("subject=Device/{device},Patient/{patient}"),
            of_device + of_patient,
        ),
        ("subject=Group/g".into(), 0),
        (
            format!("patient=https%3A%2F%2Fregion.example%2Ffhir%2FPatient%2F{patient}"),
            of_patient,
        ),
        (format!("patient=Patient/{patient}&code=no-such"), 0),
        ("code=http://loinc.org%7C8867-4".into(), 2),
        (format!("_source=urn:medmesh:facility:{facility}"), 60),
        (format!("_source={facility}"), 0),
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
    let reply = api.get_with(path, &LENIENT).await;
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
    let misspelt = "/fhir/Observation?_count=1&pateint=a";
    for reply in [
        api.get_with(path, &strict).await,
        api.get(path).await,
        api.get(misspelt).await,
    ] {
        assert_eq!(reply.issue(), (400, "not-supported".into()));
    }
    let pretty = api.get("/fhir/Observation?_count=1&_pretty=true").await;
    assert_eq!(pretty.ids().len(), 1);
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

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let api = fixture().await;
    let path = format!("/fhir/Observation/{}", fixture::observation(4).id());
    for (known, status) in [
        ("\"1\"", StatusCode::NOT_MODIFIED),
        ("W/\"999\", W/\"1\"", StatusCode::NOT_MODIFIED),
        ("*", StatusCode::NOT_MODIFIED),
        ("W/\"2\"", StatusCode::OK),
    ] {
        let headers = [("authorization", "Bearer all"), ("if-none-match", known)];
        assert_eq!(
            api.get_with(&path, &headers).await.status,
            status,
            "{known}"
        );
    }
    let statement = api.get_with("/fhir/metadata", &[]).await.json();
    for resource in statement["rest"][0]["resource"].as_array().unwrap() {
        assert_eq!(resource["conditionalRead"], "not-match");
    }
}

#[tokio::test]
async fn the_format_that_the_url_asks_for_overrides_the_header() {
    let api = fixture().await;
    let id = fixture::observation(4).id().clone();
    for path in [
        format!("/fhir/Observation/{id}?"),
        "/fhir/Observation?_count=1&".into(),
        "/fhir/metadata?".into(),
    ] {
        for (accept, format, status) in [
            ("application/fhir+xml", "json", StatusCode::OK),
            ("text/html", "application/fhir%2Bjson", StatusCode::OK),
            ("application/fhir+json", "xml", StatusCode::NOT_ACCEPTABLE),
        ] {
            let headers = [("authorization", "Bearer all"), ("accept", accept)];
            let reply = api
                .get_with(&format!("{path}_format={format}"), &headers)
                .await;
            assert_eq!(reply.status, status, "{path} {format}");
        }
        for (accept, status) in [
            ("", StatusCode::OK),
            ("application/fhir+json;q=0", StatusCode::NOT_ACCEPTABLE),
            ("application/fhir+xml", StatusCode::NOT_ACCEPTABLE),
        ] {
            let headers = [("authorization", "Bearer all"), ("accept", accept)];
            let reply = api.get_with(&path, &headers).await;
            assert_eq!(reply.status, status, "{path} {accept}");
        }
    }
}

#[tokio::test]
async fn a_post_without_a_body_is_a_search_by_its_url() {
    let api = fixture().await;
    let patient = fixture::patient(1, 1950).id().clone();
    let path = format!("/fhir/Observation/_search?patient={patient}&_count=1000");
    let request = Request::post(&path).header("authorization", "Bearer all");
    let posted = api.send(request.body(Body::empty()).unwrap()).await;
    let got = api
        .get(&format!("/fhir/Observation?patient={patient}&_count=1000"))
        .await;
    assert_eq!((posted.status, posted.ids()), (StatusCode::OK, got.ids()));
    for (path, status) in [("/fhir/", 401), ("/fhir", 401)] {
        let request = Request::post(path).body(Body::empty());
        assert_eq!(api.send(request.unwrap()).await.issue().0, status, "{path}");
    }
}

#[tokio::test]
async fn a_filter_of_fhir_that_is_not_offered_is_not_ignored_unless_the_client_wants_that() {
    let api = fixture().await;
    for query in [
        "_text=x",
        "_content=heart",
        "_filter=x",
        "colour=red",
        "code:in=http://hl7.org/fhir/ValueSet/x",
        "patient.colour=red",
    ] {
        let path = format!("/fhir/Observation?{query}");
        assert_eq!(
            api.get(&path).await.issue(),
            (400, "not-supported".into()),
            "{query}"
        );
        let lenient = [
            ("authorization", "Bearer all"),
            ("prefer", "handling=lenient"),
        ];
        let reply = api.get_with(&path, &lenient).await;
        assert_eq!(reply.status, StatusCode::OK, "{query}");
        assert!(reply.text.contains("ignored search parameters"), "{query}");
    }
    let other = api
        .get("/fhir/Observation?patient=https://elsewhere.example/fhir/Patient/a")
        .await;
    assert_eq!(other.issue(), (400, "value".into()));
}

impl Reply {
    /// `meta.lastUpdated` of the bundle, and of each match.
    fn instants(&self) -> (String, Vec<String>) {
        let json = self.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entries = json["entry"].as_array().cloned().unwrap_or_default();
        let of = |entry: &Value| text(&entry["resource"]["meta"]["lastUpdated"]);
        (
            text(&json["meta"]["lastUpdated"]),
            entries.iter().map(of).collect(),
        )
    }
}

impl Fixture {
    /// Commits a reading, at a true time that must never be seen.
    async fn commit(&self, number: u32) {
        let delivery = fixture::delivery(1_000 + number, number..number + 1);
        let now = Timestamp(1_795_341_600_000);
        self.store.apply(vec![delivery], now).await.unwrap();
    }

    async fn get_as(&self, reader: &str, path: &str) -> Reply {
        let bearer = format!("Bearer {reader}");
        self.get_with(path, &[("authorization", &bearer)]).await
    }
}

#[tokio::test]
async fn logical_instants_let_a_reader_go_on_from_the_last_one_that_it_saw() {
    let api = fixture().await;
    let everything = api
        .get("/fhir/Observation?_count=1000&_sort=_lastUpdated")
        .await;
    let (mut seen, instants) = everything.instants();
    assert_eq!((everything.ids().len(), instants.len()), (60, 60));
    assert_eq!(
        seen, "1970-01-01T00:00:00.063Z",
        "63 versions were committed"
    );
    let first: std::collections::BTreeSet<_> = instants.into_iter().collect();
    assert_eq!(
        first.len(),
        1,
        "a reader who comes afterwards learns no order: {first:?}"
    );
    for number in 100..105 {
        api.commit(number).await;
        let path = format!("/fhir/Observation?_lastUpdated=gt{seen}&_sort=_lastUpdated");
        let news = api.get(&path).await;
        assert_eq!(news.ids(), [fixture::observation(number).id().to_string()]);
        let (next, instants) = news.instants();
        let largest = instants.into_iter().max().unwrap();
        assert!(largest > seen && next > seen);
        // By the largest instant of a resource as well as by that of the bundle.
        seen = if number % 2 == 0 { largest } else { next };
        let none = api
            .get(&format!("/fhir/Observation?_lastUpdated=gt{seen}"))
            .await;
        assert!(none.ids().is_empty());
        let read = fixture::observation(number).id().clone();
        let reply = api.get(&format!("/fhir/Observation/{read}")).await;
        assert!(!reply.text.contains("2026") && !reply.text.contains("\"lastUpdated\":\"2"));
        assert!(
            reply.headers[header::LAST_MODIFIED]
                .to_str()
                .unwrap()
                .contains("1970")
        );
    }
    let page = "/fhir/Observation?_count=1000&_sort=";
    let up = api.get(&format!("{page}_lastUpdated")).await;
    let down = api.get(&format!("{page}-_lastUpdated")).await;
    let ((_, up), (_, down)) = (up.instants(), down.instants());
    assert!(up.is_sorted() && down.iter().rev().is_sorted());
    assert_eq!((up.len(), up.last()), (65, down.first()));
    let other = api
        .get_as("other", &format!("{page}_lastUpdated"))
        .await
        .instants()
        .1;
    assert!(
        other.iter().all(|instant| *instant == other[0]),
        "what another reader saw is its own"
    );
}

#[tokio::test]
async fn logical_instants_stay_when_the_node_starts_again() {
    let api = fixture().await;
    let path = "/fhir/Observation?_count=1000&_sort=_lastUpdated";
    for number in 100..103 {
        api.commit(number).await;
        api.get(path).await;
    }
    let before = api.get(path).await;
    let kept = async {
        while api
            .store
            .marks("all")
            .await
            .unwrap()
            .is_none_or(|marks| !marks.ends_with("66"))
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, kept)
        .await
        .expect("marks are kept");
    let store = SqliteStore::open(&api.dir.path().join("fhir.db")).unwrap();
    let again = Fixture {
        router: router(Arc::new(store), false, Arc::default()),
        ..api
    };
    let after = again.get(path).await;
    assert_eq!(
        (after.ids(), after.instants()),
        (before.ids(), before.instants())
    );
}
