//! An API over SQLite that tests ask request by request, and tests of its logical instants.
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
#[path = "rest/requests_tests.rs"]
mod requests_tests;
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
