//! Tests of AuditEvents over the real log, the real store and the API: each access has one, whatever ends in between.
use super::*;
use crate::{
    decode::tests::batch,
    intake::{Intake, tests::intake},
};
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use federation::{
    envelope::{self, Intact},
    ledger::Apply,
    port::Inbox,
    wire::Parcel,
};
use fhir::admit::Holding;
use fhir::rest::{
    Authorize, Bulk, Denied, FHIR_JSON, FhirApi, Granted, Interaction, Reader, Vantages,
};
use fhir::search::Seal;
use fhir::store::{HistoryQuery, Kind, ResourceType, Scope};
use messages::{Body as _, ReadingBatch};
use node::health::Health;
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use types::Timestamp;

#[path = "audited_kept_tests.rs"]
mod kept;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// However slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A token is the name of its client, who may do everything; `nobody` may do nothing.
struct ByName;

impl Authorize for ByName {
    fn authorize(
        &self,
        headers: &HeaderMap,
        _: ResourceType,
        _: Interaction,
    ) -> Result<Granted, Denied> {
        match self.known(headers)? {
            reader if reader.0 == "nobody" => Err(Denied::Forbidden(reader)),
            reader => Ok(Granted::everything(reader)),
        }
    }

    fn known(&self, headers: &HeaderMap) -> Result<Reader, Denied> {
        let name = headers.get(header::AUTHORIZATION);
        let name = name.and_then(|name| name.to_str().ok()?.strip_prefix("Bearer "));
        let name = name.ok_or(Denied::Unauthenticated("Bearer"))?;
        Ok(Reader(name.into()))
    }
}

/// A region with a patient, a device and three readings.
struct Region {
    dir: TempDir,
    ledger: Ledger,
    store: Arc<dyn ResourceStore>,
    engine: Arc<Intake>,
    limited: bool,
    patient: String,
}

/// Its parts that run.
struct Running {
    router: Router,
    audited: Audited,
    projector: Option<Projector>,
    stop: CancellationToken,
}

impl Region {
    async fn new(limited: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let intake = intake(&dir);
        intake.ledger.begin_log().await.unwrap();
        let bytes = batch().encode_to_vec();
        let parcel = Parcel {
            id: vec![1; 16].into(),
            kind: messages::ReadingBatch::KIND.into(),
            count: batch().count(),
            digest: envelope::digest(&bytes),
            body: bytes.into(),
            ..Parcel::default()
        };
        let from = "edge/eu/eu/eu-f1".parse().unwrap();
        let parcels = Intact::all([parcel]).unwrap();
        intake.handlers().apply(&from, &parcels).await.unwrap();
        Self {
            ledger: intake.ledger.clone(),
            store: intake.store.clone(),
            engine: Arc::new(intake),
            limited,
            patient: "0a".repeat(16),
            dir,
        }
    }

    /// As a start of the node makes it. Nothing makes events before somebody runs the projector.
    fn start(&self) -> Running {
        let limited = self.limited;
        let now: TimeSource = Arc::new(|| NOW);
        let check = Health::new().optional("reads");
        let true_times: TrueTimes = Arc::new(move || limited);
        let of_log = (check, &self.ledger, &self.store);
        let (mut audited, kept) =
            audited(of_log, (now.clone(), &true_times), rand::random, 2_000_000);
        audited.patience = PATIENCE;
        let (ledger, stop) = (self.ledger.clone(), CancellationToken::new());
        let write = move |rows| {
            let ledger = ledger.clone();
            async move { ledger.write_down(rows).await }
        };
        tokio::spawn(kept.keeping.keep(write, stop.clone()));
        let api = FhirApi {
            vantages: Vantages::new(self.store.clone()),
            store: self.store.clone(),
            authorize: Arc::new(ByName),
            access: Arc::new(audited.clone()),
            base: "https://region.example/fhir".into(),
            other_bases: Arc::default(),
            token_url: None,
            now,
            true_times,
            seal: Seal::of_secret(&[5; 32]),
            holding: Arc::new(|| Holding::Pseudonymous { year: 2027 }),
            draw: Arc::new(rand::random),
            bulk: Some(Bulk::open(&self.dir.path().join("bulk")).unwrap()),
            subscriptions: None,
        };
        Running {
            router: api.router(),
            audited,
            projector: Some(kept.projector),
            stop,
        }
    }

    /// With the task that makes events.
    fn run(&self) -> Running {
        let mut running = self.start();
        let projector = running.projector.take().unwrap();
        tokio::spawn(projector.run(self.engine.clone(), running.stop.clone()));
        running
    }

    /// Every AuditEvent in the store, with every version of it.
    async fn versions(&self) -> Vec<fhir::store::Stored> {
        let query = HistoryQuery {
            scope: Scope::Type(ResourceType::parse("AuditEvent").unwrap()),
            commits: None,
            updated: None,
            there: None,
            by_id: true,
            after: None,
            count: 1_000,
        };
        self.store.history(&query).await.unwrap().versions
    }

    /// How many rows of the log are of accesses.
    async fn accesses(&self) -> usize {
        let log = self.ledger.leaves(0, MAX_ROWS).await.unwrap();
        log.leaves.iter().filter_map(|leaf| access_of(leaf)).count()
    }
}

impl Running {
    async fn send(
        &self,
        client: &str,
        request: (Method, &str),
        body: &Value,
    ) -> (StatusCode, Value) {
        let (method, path) = request;
        let kind = match method {
            Method::PATCH => "application/json-patch+json",
            _ => FHIR_JSON,
        };
        let mut request = Request::builder().method(method).uri(path);
        if !client.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {client}"));
        }
        if path.contains("$export") {
            request = request.header("prefer", "respond-async");
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                request = request.header(header::CONTENT_TYPE, kind);
                Body::from(body.to_string())
            }
        };
        let request = request.body(body).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 24).await;
        let body = serde_json::from_slice(&bytes.unwrap()).unwrap_or(Value::Null);
        (status, body)
    }

    async fn get(&self, client: &str, path: &str) -> (StatusCode, Value) {
        self.send(client, (Method::GET, path), &Value::Null).await
    }

    /// The AuditEvents that a search finds.
    async fn events(&self, query: &str) -> Vec<Value> {
        let path = format!("/fhir/AuditEvent?_count=1000&{query}");
        let (status, bundle) = self.get("auditor", &path).await;
        assert_eq!(status, StatusCode::OK, "{bundle}");
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .map(|entry| entry["resource"].clone())
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn condition(patient: &str) -> Value {
    json!({
        "resourceType": "Condition",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]},
        "subject": {"reference": format!("Patient/{patient}")},
    })
}

/// A request, and what AuditEvents it leaves: interaction, action, type, and whether it is of the patient.
type Asked = (
    Method,
    String,
    Value,
    Vec<(&'static str, &'static str, &'static str, bool)>,
);

fn reads_of(patient: &str) -> Vec<Asked> {
    let itself = format!("Patient/{patient}");
    let of = |rest: &str| format!("{itself}/{rest}");
    let found = format!("Observation?patient={patient}&code=8867-4");
    let lastn = format!("Observation/$lastn?patient={patient}&code=8867-4");
    let all: [(String, [&str; 3], bool); 10] = [
        (itself.clone(), ["read", "R", "1"], true),
        (of("_history/1"), ["vread", "R", "Patient"], true),
        (of("_history"), ["history-instance", "R", "Patient"], true),
        (
            "Patient/_history".into(),
            ["history-type", "R", "Patient"],
            false,
        ),
        ("_history".into(), ["history-system", "R", "2"], false),
        (found, ["search-type", "E", "Observation"], true),
        ("Device".into(), ["search-type", "E", "Device"], false),
        (
            "?_type=Patient,Device".into(),
            ["search-system", "E", "2"],
            false,
        ),
        (lastn, ["search-type", "E", "Observation"], true),
        (
            "Patient/$export?_type=Patient".into(),
            ["search-system", "E", "2"],
            false,
        ),
    ];
    let one = |(path, [code, action, kind], of): (String, [&'static str; 3], bool)| {
        let path = match path.starts_with('?') {
            true => format!("/fhir{path}"),
            false => format!("/fhir/{path}"),
        };
        (
            Method::GET,
            path,
            Value::Null,
            vec![(code, action, kind, of)],
        )
    };
    all.into_iter().map(one).collect()
}

fn writes_of(patient: &str, id: &str) -> Vec<Asked> {
    let put = |recorded: &str| {
        let mut one = condition(patient);
        one["id"] = json!(id);
        one["recordedDate"] = json!(recorded);
        one
    };
    let path = format!("/fhir/Condition/{id}");
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "POST", "url": "Condition"}, "resource": condition(patient)},
        {"request": {"method": "GET", "url": format!("Patient/{patient}")}},
    ]});
    let patch = json!([{"op": "replace", "path": "/recordedDate", "value": "2003"}]);
    let of = |code, action, is_of| vec![(code, action, "Condition", is_of)];
    let (create, made) = (condition(patient), of("create", "C", true));
    // What a transaction reads is asked before anything is written, and again: one row.
    let read = ("read", "R", "1", true);
    let both = vec![("create", "C", "Condition", true), read];
    vec![
        (Method::POST, "/fhir/Condition".into(), create, made),
        (
            Method::PUT,
            path.clone(),
            put("2001"),
            of("update", "U", true),
        ),
        (Method::PATCH, path.clone(), patch, of("patch", "U", true)),
        (Method::DELETE, path, Value::Null, of("delete", "D", false)),
        (Method::POST, "/fhir".into(), bundle, both),
    ]
}

/// A row of a write does not say what came of it.
fn outcome_of(interaction: &str) -> &'static str {
    match interaction {
        "create" | "update" | "patch" | "delete" => "",
        _ => "0",
    }
}

#[tokio::test]
async fn every_access_leaves_one_event_that_is_found_by_what_it_says() {
    let region = Region::new(true).await;
    let running = region.run();
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let all = reads_of(&region.patient).into_iter();
    let all = all.chain(writes_of(&region.patient, id));
    for (number, (method, path, body, expected)) in all.enumerate() {
        let client = format!("client-{number}");
        let (status, answer) = running.send(&client, (method, &path), &body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        let mut found: Vec<_> = Vec::new();
        for event in running.events(&format!("agent-name:exact={client}")).await {
            let text = |pointer: &str| {
                event
                    .pointer(pointer)
                    .map_or("", |one| one.as_str().unwrap())
            };
            assert_eq!(text("/agent/0/who/identifier/value"), client);
            assert_eq!(event["agent"][0]["requestor"], true);
            assert_eq!(text("/source/site"), "regional/eu/eu");
            let outcome = outcome_of(text("/subtype/0/code"));
            assert_eq!(
                (text("/recorded"), text("/outcome")),
                ("2027-01-15T08:00:00.000Z", outcome)
            );
            let entities = event["entity"].as_array().unwrap();
            let patient = json!(format!("Patient/{}", region.patient));
            let is_of = entities
                .iter()
                .any(|one| one["what"]["reference"] == patient);
            let last = entities.last().unwrap()["type"]["code"]
                .as_str()
                .unwrap()
                .to_owned();
            found.push((
                text("/subtype/0/code").to_owned(),
                text("/action").to_owned(),
                last,
                is_of,
            ));
            let (code, action) = (text("/subtype/0/code"), text("/action"));
            let same = expected
                .iter()
                .filter(|one| (one.0, one.1) == (code, action));
            let by = format!("agent-name:exact={client}&subtype={code}&action={action}");
            assert_eq!(
                running.events(&by).await.len(),
                same.clone().count(),
                "{by}"
            );
            let of_patient = same.filter(|one| one.3).count();
            let by = format!("patient=Patient/{}&{by}", region.patient);
            assert_eq!(running.events(&by).await.len(), of_patient, "{by}");
            if is_of {
                // The facility's, as its patient is.
                assert!(text("/meta/source").starts_with("urn:medmesh:facility:"));
            }
        }
        found.sort();
        let mut expected: Vec<_> = expected
            .into_iter()
            .map(|(code, action, kind, of)| {
                (code.to_owned(), action.to_owned(), kind.to_owned(), of)
            })
            .collect();
        expected.sort();
        assert_eq!(found, expected, "{path}");
    }
    // The last search has one too, soon.
    assert_eq!(running.audited.caught_up().await, Ok(()));
    assert_eq!(region.versions().await.len(), region.accesses().await);
}

#[tokio::test]
async fn what_is_given_nothing_has_its_event_and_so_has_each_search_of_events() {
    let region = Region::new(false).await;
    let running = region.run();
    for client in ["nobody", ""] {
        let (status, _) = running.get(client, "/fhir/Patient").await;
        assert!(status.is_client_error());
    }
    let (status, _) = running.get("reader", "/fhir/Patient/nowhere").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // These rows are written within a second.
    while region.accesses().await < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = running.events("outcome=4&_sort=date").await;
    let mut why: Vec<_> = refused
        .iter()
        .map(|one| one["outcomeDesc"].as_str().unwrap())
        .collect();
    why.sort_unstable();
    assert_eq!(why, ["forbidden", "unanswered", "unauthenticated"]);
    assert!(
        refused
            .iter()
            .all(|one| one["recorded"] == one["meta"]["lastUpdated"])
    );
    for searches in 1..4 {
        let own = running.events("agent-name:exact=auditor").await;
        assert_eq!(own.len(), searches);
    }
}

#[tokio::test]
async fn accesses_to_a_patient_whom_a_client_wrote_are_found_by_the_patient() {
    let region = Region::new(false).await;
    let running = region.run();
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let path = format!("/fhir/Patient/{id}");
    let patient = json!({"resourceType": "Patient", "id": id, "gender": "female"});
    let put = (Method::PUT, path.as_str());
    let (status, answer) = running.send("writer", put, &patient).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(running.get("reader", &path).await.0, StatusCode::OK);
    let by = format!("agent-name:exact=reader&patient=Patient/{id}");
    let found = running.events(&by).await;
    assert_eq!(found.len(), 1);
    let what = &found[0]["entity"][0]["what"]["reference"];
    assert_eq!(*what, json!(format!("Patient/{id}")));
}

/// What a condition on readings leads to is looked up before they are.
#[tokio::test]
async fn readings_are_found_by_an_access_of_just_now_to_their_patient() {
    let region = Region::new(false).await;
    let running = region.run();
    let patient = format!("/fhir/Patient/{}", region.patient);
    let (status, _) = running.get("reader", &patient).await;
    assert_eq!(status, StatusCode::OK);
    let by = "/fhir/Observation?subject:Patient._has:AuditEvent:patient:agent-name=";
    for (client, is_found) in [("reader", true), ("other", false)] {
        let (status, bundle) = running.get("auditor", &format!("{by}{client}")).await;
        assert_eq!(status, StatusCode::OK, "{bundle}");
        let entries = bundle["entry"].as_array();
        let is_any = entries.is_some_and(|entries| !entries.is_empty());
        assert_eq!(is_any, is_found, "{client}: {bundle}");
    }
}
