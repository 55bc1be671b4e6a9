//! Tests of exports: what they hold, that they go on wherever they were cut off, and how they are given.
use super::bulk::{Limits, MAX_JOBS_OF_CLIENT};
use super::finding_tests::finding;
use super::*;
use crate::store::NewResource;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::{Duration, Instant};
use storage::chunks::Chunks;

#[path = "bulk_covered_tests.rs"]
mod covered;

/// So little at once that every type takes several turns, and files.
const LITTLE: Limits = Limits {
    page: 3,
    turn_bytes: 2_000,
    turn_pages: 2,
    file_bytes: 5_000,
};
pub const ASYNC: (&str, &str) = ("prefer", "respond-async");
pub const ALL: (&str, &str) = ("authorization", "Bearer all");

/// An API with jobs, over what [`fixture`] has.
pub struct Exporting {
    pub fixture: Fixture,
    pub api: FhirApi,
}

impl Exporting {
    pub async fn new(limited: bool) -> Self {
        let fixture = fixture_of(limited).await;
        let api = api_over(fixture.store.clone(), limited, fixture.log.clone(), None);
        let mut exporting = Self { fixture, api };
        exporting.restart();
        exporting
    }

    /// As a start of the node does.
    pub fn restart(&mut self) {
        self.start_at("bulk", None);
    }

    /// As a start of a node does whose data directory is another one.
    pub fn start_at(&mut self, dir: &str, kept: Option<Arc<dyn Chunks>>) {
        let dir = self.fixture.dir.path().join(dir);
        self.api.bulk = Some(Bulk::open_with(&dir, LITTLE, kept).unwrap());
        self.api.vantages = Vantages::new(self.fixture.store.clone());
        self.fixture.router = self.api.clone().router();
    }

    /// The path of the job that a request begins.
    pub async fn begin(&self, path: &str, headers: &[(&str, &str)]) -> String {
        let reply = self.fixture.get_with(path, headers).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
        assert_eq!(reply.json()["resourceType"], "OperationOutcome");
        place_of(&reply)
    }

    /// Works until a job has ended, and gives its manifest.
    pub async fn ended(&self, job: &str, token: (&str, &str)) -> Reply {
        let working = tokio::spawn(self.api.clone().work());
        let begun = Instant::now();
        let reply = loop {
            let reply = self.fixture.get_with(job, &[token]).await;
            if reply.status != StatusCode::ACCEPTED {
                break reply;
            }
            assert!(reply.headers.contains_key("x-progress"));
            assert_eq!(reply.headers[header::RETRY_AFTER], "2");
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "it does not end"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        working.abort();
        reply
    }

    /// The manifest of an export that ends well.
    async fn export(&self, path: &str) -> Value {
        let job = self.begin(path, &[ALL, ASYNC]).await;
        self.manifest(&job, ALL).await
    }

    pub async fn manifest(&self, job: &str, token: (&str, &str)) -> Value {
        let reply = self.ended(job, token).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
        assert!(reply.headers.contains_key(header::EXPIRES));
        reply.json()
    }

    /// The lines of the files of one list of a manifest, by type.
    pub async fn lines(&self, manifest: &Value, list: &str, token: (&str, &str)) -> Lines {
        let mut all = Lines::new();
        for file in manifest[list].as_array().unwrap() {
            let url = file["url"].as_str().unwrap();
            let path = url.strip_prefix("https://region.example").unwrap();
            let reply = self.fixture.get_with(path, &[token]).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
            let kind = reply.headers[header::CONTENT_TYPE].clone();
            assert_eq!(kind, "application/fhir+ndjson");
            assert!(reply.text.ends_with('\n'));
            let lines: Vec<Value> = reply
                .text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(file["count"], lines.len());
            let kind = file["type"].as_str().unwrap().to_owned();
            assert!(
                lines
                    .iter()
                    .all(|line| line["resourceType"] == kind.as_str())
            );
            all.entry(kind).or_default().extend(lines);
        }
        all
    }

    pub async fn output(&self, path: &str) -> Lines {
        let manifest = self.export(path).await;
        self.lines(&manifest, "output", ALL).await
    }
}

pub type Lines = BTreeMap<String, Vec<Value>>;

pub fn place_of(reply: &Reply) -> String {
    let place = reply.headers[header::CONTENT_LOCATION].to_str().unwrap();
    place
        .strip_prefix("https://region.example")
        .unwrap()
        .to_owned()
}

pub fn counts(lines: &Lines) -> Vec<(&str, usize)> {
    lines
        .iter()
        .map(|(kind, lines)| (kind.as_str(), lines.len()))
        .collect()
}

pub fn ids(lines: &[Value]) -> BTreeSet<&str> {
    let ids: BTreeSet<&str> = lines
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), lines.len(), "a resource is there twice");
    ids
}

async fn deliver(api: &Exporting, parcel: u32, resources: Vec<NewResource>) {
    let delivery = Delivery {
        parcel: fixture::parcel(parcel),
        source: fixture::source(1),
        resources,
    };
    let now = Timestamp(2_000);
    api.fixture.store.apply(vec![delivery], now).await.unwrap();
}

/// To anybody else there is no such job; nor to its client, once it is deleted.
async fn is_its_clients_alone(api: &Exporting, job: &str, manifest: &Value) {
    let other = [("authorization", "Bearer other")];
    let file = manifest["output"][0]["url"].as_str().unwrap();
    let file = file.strip_prefix("https://region.example").unwrap();
    for path in [job, file] {
        let reply = api.fixture.get_with(path, &other).await;
        assert_eq!(reply.issue(), (404, "not-found".into()));
        assert_eq!(api.fixture.get_with(path, &[]).await.status, 401);
    }
    let delete = |token: &str| {
        let request = Request::delete(job).header("authorization", token);
        api.fixture.send(request.body(Body::empty()).unwrap())
    };
    assert_eq!(delete("Bearer other").await.status, StatusCode::NOT_FOUND);
    assert_eq!(api.fixture.get(file).await.status, StatusCode::OK);
    assert_eq!(delete("Bearer all").await.status, StatusCode::ACCEPTED);
    for path in [job, file] {
        assert_eq!(
            api.fixture.get(path).await.issue(),
            (404, "not-found".into())
        );
    }
    let left = std::fs::read_dir(api.fixture.dir.path().join("bulk")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn an_export_holds_everything_of_its_moment_once_and_is_its_clients_alone() {
    for limited in [false, true] {
        let api = Exporting::new(limited).await;
        for year in 2001..2004 {
            api.fixture.create(&finding(year, None)).await;
        }
        let job = api.begin("/fhir/$export", &[ALL, ASYNC]).await;
        let early = api
            .fixture
            .get(&format!("{job}/Observation.0.ndjson"))
            .await;
        assert_eq!(early.issue(), (404, "not-found".into()));
        // What comes after the moment of the export is not in it, as what was changed since is as it was.
        deliver(
            &api,
            7,
            vec![fixture::withdrawn(3), fixture::patient(1, 1960)],
        )
        .await;
        let manifest = api.manifest(&job, ALL).await;
        assert_eq!(manifest["requiresAccessToken"], true);
        assert_eq!(manifest["request"], "https://region.example/fhir/$export");
        assert_eq!(
            (&manifest["deleted"], &manifest["error"]),
            (&json!([]), &json!([]))
        );
        let lines = api.lines(&manifest, "output", ALL).await;
        let expected = [
            ("Condition", 3),
            ("Device", 1),
            ("Observation", 60),
            ("Patient", 1),
        ];
        assert_eq!(counts(&lines), expected);
        assert!(manifest["output"].as_array().unwrap().len() > 4);
        let until = manifest["transactionTime"].as_str().unwrap();
        for line in lines.values().flatten() {
            let stored = line["meta"]["lastUpdated"].as_str().unwrap();
            // Of instants of an axis the last three digits are the version.
            let stored = stored.get(..23).unwrap();
            assert!(stored <= until.trim_end_matches('Z'), "{stored} {until}");
        }
        for readings in lines.values() {
            ids(readings);
        }
        let readings = lines["Observation"].iter();
        assert!(
            readings
                .clone()
                .all(|one| one["status"] != "entered-in-error")
        );
        assert_eq!(lines["Patient"][0]["birthDate"], "1951");
        is_its_clients_alone(&api, &job, &manifest).await;
    }
}

#[tokio::test]
async fn an_export_that_is_cut_off_anywhere_goes_on_and_has_nothing_twice_and_misses_nothing() {
    let mut api = Exporting::new(false).await;
    let mut references = Vec::new();
    for year in 2001..2013 {
        references.push(api.fixture.create(&finding(year, None)).await);
    }
    let undisturbed = api
        .output("/fhir/$export?_type=Condition,Observation")
        .await;
    let job = api
        .begin("/fhir/$export?_type=Condition,Observation", &[ALL, ASYNC])
        .await;
    let mut turns = 0;
    loop {
        let bulk = api.api.bulk.clone().unwrap();
        if !bulk.turn_once(&api.api).await {
            break;
        }
        turns += 1;
        // A power loss after the next file was begun and before the journal says so.
        let folder = api
            .fixture
            .dir
            .path()
            .join("bulk")
            .join(job.rsplit('/').next().unwrap());
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "ndjson") {
                let mut text = std::fs::read(&path).unwrap();
                text.extend_from_slice(b"{\"resourceType\":\"Obser");
                std::fs::write(&path, text).unwrap();
            }
        }
        // Others write all the while.
        let withdrawn = fixture::withdrawn(turns * 3 % READINGS);
        deliver(
            &api,
            100 + turns,
            vec![withdrawn, fixture::observation(1_000 + turns)],
        )
        .await;
        if let Some(reference) = references.get(usize::try_from(turns).unwrap()) {
            let path = format!("/fhir/{reference}");
            let reply = api.fixture.write(Method::DELETE, &path, &[], "").await;
            assert_eq!(reply.status, StatusCode::NO_CONTENT);
        }
        api.restart();
    }
    assert!(turns > 10, "{turns}");
    let manifest = api.manifest(&job, ALL).await;
    let found = api.lines(&manifest, "output", ALL).await;
    assert_eq!(counts(&found), [("Condition", 12), ("Observation", 60)]);
    for (kind, lines) in &found {
        let key = |line: &Value| line["id"].as_str().unwrap().to_owned();
        let sorted = |lines: &[Value]| -> BTreeMap<String, Value> {
            let whole = |line: &Value| {
                let mut line = line.clone();
                line["meta"]["lastUpdated"].take();
                line
            };
            lines.iter().map(|line| (key(line), whole(line))).collect()
        };
        ids(lines);
        assert_eq!(sorted(lines), sorted(&undisturbed[kind]));
    }
}

#[tokio::test]
async fn what_is_new_since_an_export_is_exported_alone_and_what_was_deleted_is_told() {
    for limited in [false, true] {
        let api = Exporting::new(limited).await;
        let mut made = Vec::new();
        for year in 2001..2005 {
            made.push(api.fixture.create(&finding(year, None)).await);
        }
        let first = api.export("/fhir/$export").await;
        let since = first["transactionTime"].as_str().unwrap().to_owned();
        let later = api.fixture.create(&finding(2010, None)).await;
        deliver(&api, 9, vec![fixture::patient(1, 1961)]).await;
        let gone = format!("/fhir/{}", made[0]);
        let reply = api.fixture.write(Method::DELETE, &gone, &[], "").await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT);
        let path = format!("/fhir/$export?_since={since}&_type=Condition,Patient,Device");
        let manifest = api.export(&path).await;
        let lines = api.lines(&manifest, "output", ALL).await;
        let new = ids(&lines["Condition"]);
        assert!(new.contains(later.split('/').nth(1).unwrap()));
        assert_eq!(lines["Patient"][0]["birthDate"], "1961");
        if !limited {
            // The commits of one ms are told apart on an axis alone.
            assert_eq!((new.len(), lines.len()), (1, 2));
        }
        let deleted = api.lines(&manifest, "deleted", ALL).await;
        let request = &deleted["Bundle"][0]["entry"][0]["request"];
        assert_eq!(request, &json!({"method": "DELETE", "url": made[0]}));
        assert_eq!(deleted["Bundle"].len(), 1);
        // Nothing is new since then, and that is said at once.
        let since = manifest["transactionTime"].as_str().unwrap();
        let path = format!("/fhir/$export?_since={since}&_type=Device");
        if !limited {
            assert_eq!(api.export(&path).await["output"], json!([]));
        }
    }
}

#[tokio::test]
async fn a_file_is_packed_where_that_is_asked_for_and_each_access_has_its_row() {
    let api = Exporting::new(false).await;
    let job = api
        .begin("/fhir/$export?_type=Observation", &[ALL, ASYNC])
        .await;
    let manifest = api.manifest(&job, ALL).await;
    api.fixture.log.take();
    let url = manifest["output"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix("https://region.example").unwrap();
    let plain = api.fixture.get(path).await;
    assert_eq!(
        plain.headers[header::CONTENT_LENGTH],
        plain.text.len().to_string()
    );
    let rows = api.fixture.log.take();
    let given = u64::from(rows[0].resources);
    assert_eq!(manifest["output"][0]["count"], given);
    assert_eq!((rows.len(), rows[0].kind), (1, ResourceType::Observation));
    assert_eq!(format!("/fhir/{}", rows[0].request), path);
    assert_eq!(rows[0].parameters, ["$export"]);
    let request = Request::get(path).header(ALL.0, ALL.1);
    let request = request.header("accept-encoding", "br, gzip");
    let packed = api.fixture.router.clone();
    let packed = packed
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
    let bytes = axum::body::to_bytes(packed.into_body(), 1 << 20)
        .await
        .unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, plain.text);
    api.fixture.log.take();
    api.fixture.log.break_it(true);
    for path in [path, &job, "/fhir/$export"] {
        let reply = api.fixture.get_with(path, &[ALL, ASYNC]).await;
        assert_eq!(reply.issue(), (503, "transient".into()), "{path}");
    }
    api.fixture.log.break_it(false);
    let folder = api.fixture.dir.path().join("bulk");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[tokio::test]
async fn each_export_that_is_declared_is_served() {
    let api = Exporting::new(false).await;
    let statement = api.fixture.get_with("/fhir/metadata", &[]).await.json();
    let kept = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data";
    assert_eq!(statement["instantiates"], json!([kept]));
    let rest = &statement["rest"][0];
    let exports = |operations: &Value| {
        let all = operations.as_array().unwrap();
        all.iter().any(|one| one["name"] == "export")
    };
    assert!(exports(&rest["operation"]));
    let group = json!({"resourceType": "Group", "type": "person", "actual": true});
    let group = api.fixture.create(&group).await;
    let mut paths = vec!["/fhir/$export".to_owned(), "/fhir/%24export".to_owned()];
    for resource in rest["resource"].as_array().unwrap() {
        if exports(&resource["operation"]) {
            paths.push(match resource["type"].as_str().unwrap() {
                "Group" => format!("/fhir/{group}/$export"),
                kind => format!("/fhir/{kind}/$export"),
            });
        }
    }
    assert_eq!(paths.len(), 4);
    let names = rest["operation"].as_array().unwrap();
    let names: Vec<&str> = names
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["validate", "export", "import"]);
    for path in &paths {
        api.begin(path, &[ALL, ASYNC]).await;
    }
    for path in ["/fhir/Device/$export", "/fhir/Device/x/$export"] {
        let reply = api.fixture.get_with(path, &[ALL, ASYNC]).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_servers_own_events_are_in_an_export_that_asks_for_them_alone() {
    for limited in [true, false] {
        let exporting = Exporting::new(limited).await;
        let api = &exporting.fixture;
        api.audited(Some(Timestamp(1_790_000_000_000))).await;
        let reading = fixture::observation(4).id().clone();
        for (query, expected) in [
            ("$export", 0),
            ("Patient/$export", 0),
            ("$export?_type=AuditEvent", 2),
            ("Patient/$export?_type=AuditEvent,Patient", 1),
            (
                &format!(
                    "$export?_type=AuditEvent&_typeFilter=AuditEvent%3Fentity%3DObservation%2F{reading}"
                ),
                1,
            ),
            (
                "$export?_type=AuditEvent&_typeFilter=AuditEvent%3Faction%3DU",
                0,
            ),
        ] {
            let lines = exporting.output(&format!("/fhir/{query}")).await;
            let events = lines.get("AuditEvent").map_or(&[][..], Vec::as_slice);
            assert_eq!(events.len(), expected, "{query}");
            let is_told = |event: &Value| event["recorded"] != event["meta"]["lastUpdated"];
            assert!(
                events.iter().all(|event| is_told(event) == limited),
                "{query}"
            );
        }
        // A date is what a resource holds where it is told.
        for (by, expected) in [("date%3Dge2026", 2), ("date%3Dlt2026", 0)] {
            let path = format!("/fhir/$export?_type=AuditEvent&_typeFilter=AuditEvent%3F{by}");
            if limited {
                let lines = exporting.output(&path).await;
                assert_eq!(
                    lines.get("AuditEvent").map_or(0, Vec::len),
                    expected,
                    "{by}"
                );
                continue;
            }
            let refused = api.get_with(&path, &[ALL, ASYNC]).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
            assert!(
                refused.text.contains("the date of an AuditEvent"),
                "{}",
                refused.text
            );
        }
    }
}
