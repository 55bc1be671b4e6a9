//! The facility's own FHIR over a real store, without a region.
use super::{
    project::{Parts, Projecting},
    *,
};
use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use broker::Viewers;
use federation::audit::Decision;
use federation::port::{LeaseLimits, Outbox as _};
use ingest::{Journal as _, Sample};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use store::{
    BedFact,
    testbed::{Hand, hand, opened, options, sample},
};
use tempfile::TempDir;
use tower::ServiceExt as _;
use types::{Phi, Place, Priority, Secret, Timestamp};

#[path = "tests/consents.rs"]
mod consents;
#[path = "tests/programs.rs"]
mod programs;

/// When the store's clock begins.
const START: Timestamp = Timestamp(1_767_225_600_000);
const OWN: &str = "own-token";

struct Facility {
    dir: TempDir,
    hand: Arc<Hand>,
    store: Store,
    projecting: Projecting,
    log: Arc<InLog>,
    router: Router,
}

/// A facility with a monitor at `bed-1`, in which `p-1` lies, and these rights.
async fn facility(rights: &str) -> Facility {
    let dir = TempDir::new().unwrap();
    again(dir, hand(), rights, 1 << 30).await
}

async fn again(dir: TempDir, hand: Arc<Hand>, rights: &str, max_bytes: u64) -> Facility {
    let store = Store::open(options(dir.path(), hand.clone())).unwrap();
    store.begin_log().await.unwrap();
    let acl = dir.path().join("acl.toml");
    std::fs::write(&acl, rights).unwrap();
    let viewers = Viewers::read(&acl, &"eu-f1".parse().unwrap()).unwrap();
    let copy = Arc::new(open(&store).unwrap());
    let place: Place = "edge/eu/eu/eu-f1".parse().unwrap();
    let log = Arc::new(InLog::new(store.clone(), hand.clone(), place));
    let monitor = "id = 'm1'\nkind = 'bedside-monitor'\nbed = 'bed-1'\nserial = 'SN-1'";
    let parts = Parts {
        store: store.clone(),
        time: hand.clone(),
        devices: vec![toml::from_str(monitor).unwrap()],
        max_bytes,
    };
    let projecting = Projecting::of(parts, copy, log.clone()).await.unwrap();
    let consented = projecting.consented();
    consented.settle().await.unwrap();
    let bearer = Bearer::new(OWN, viewers);
    let base = "https://facility.example/fhir".to_owned();
    let now: Arc<dyn Time> = hand.clone();
    let router = api(&store, consented, log.clone(), (base, bearer, now)).router();
    Facility {
        dir,
        hand,
        store,
        projecting,
        log,
        router,
    }
}

impl Facility {
    async fn measure(&self, seqs: std::ops::Range<u64>) {
        for seq in seqs {
            let measured = Sample {
                source_time: START.plus_ms(seq.cast_signed()),
                ..sample("m1", seq)
            };
            self.store.append(measured).await.unwrap();
        }
    }

    /// Until the copy has everything.
    async fn follow(&mut self) {
        while self.projecting.step().await.unwrap() {}
    }

    async fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/fhir/{path}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/fhir+json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 24).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// The resources that a search finds.
    async fn find(&self, path: &str) -> Vec<Value> {
        let (status, bundle) = self.ask("GET", path, OWN, "").await;
        assert_eq!(status, 200, "{path}: {bundle}");
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .map(|mut entry| entry["resource"].take())
            .collect()
    }

    /// Stops everything, as a kill would, and starts it again.
    async fn restart(self) -> Facility {
        let Self {
            dir, hand, store, ..
        } = self;
        store.close().await;
        drop((self.projecting, self.router, self.log));
        again(dir, hand, "", 1 << 30).await
    }

    /// Whether a text stands anywhere in what waits to leave.
    async fn leaves(&self, text: &str) -> bool {
        let limits = LeaseLimits {
            parcels: 1_000,
            bytes: 64 << 20,
        };
        let mut found = false;
        for priority in Priority::ALL {
            let waiting = self
                .store
                .lease(self.store.region(), priority, limits)
                .await;
            for parcel in waiting.unwrap() {
                let bytes = prost::Message::encode_to_vec(&parcel);
                found |= has(&bytes, text);
            }
        }
        self.store.release(self.store.region()).await.unwrap();
        found
    }

    /// The rows of the log that say who read or wrote.
    async fn rows(&self) -> Vec<federation::audit::Entry> {
        let key = Secret::new([7; 32]);
        let db = store::open_read_only(self.dir.path(), &key).unwrap();
        let all = federation::audit::list(&db, 0, 10_000).unwrap();
        let all = all.into_iter().map(|row| row.1);
        all.filter(|entry| entry.from() == "api-token" || entry.from() == "ehr")
            .collect()
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn anywhere(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|file| {
        let path = file.unwrap().path();
        path.is_file() && has(&std::fs::read(path).unwrap(), text)
    })
}

#[tokio::test]
async fn a_reading_is_found_at_its_facility_with_whose_it_is_while_nothing_can_leave() {
    let mut facility = facility("").await;
    facility.measure(1..3).await;
    facility.follow().await;
    let patients = facility
        .find("Patient?identifier=urn:medmesh:local:patient|p-1")
        .await;
    let [patient] = &patients[..] else {
        panic!("{patients:?}")
    };
    assert_eq!(patient["name"][0]["text"], "Canary Name p-1");
    assert_eq!(patient["birthDate"], "1950-03-04");
    assert_eq!(patient["identifier"][1]["value"], "CANARY-MRN-p-1");
    let id = patient["id"].as_str().unwrap();
    let found = facility
        .find(&format!("Observation?patient={id}&code=8867-4&_sort=date"))
        .await;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["effectiveDateTime"], START.plus_ms(1).to_rfc3339());
    assert_eq!(found[0]["valueQuantity"]["value"].to_string(), "0.01");
    assert_eq!(found[0]["device"]["reference"], "Device/m1");
    // Of when it was stored, not a logical instant.
    assert_eq!(found[0]["meta"]["lastUpdated"], START.to_rfc3339());
    let (_, device) = facility.ask("GET", "Device/m1", OWN, "").await;
    assert_eq!(device["serialNumber"], "SN-1");
    let beds = facility.find("Location?name=bed-1").await;
    let bed = format!("Location/{}", beds[0]["id"].as_str().unwrap());
    assert_eq!(device["location"]["reference"], bed.as_str());
    let stays = facility.find(&format!("Encounter?patient={id}")).await;
    assert_eq!(stays[0]["status"], "in-progress");
    assert_eq!(
        stays[0]["location"][0]["location"]["reference"],
        bed.as_str()
    );
    let (_, statement) = facility.ask("GET", "metadata", "none", "").await;
    let says = statement["implementation"]["description"].as_str().unwrap();
    assert!(
        says.starts_with("Identified data of one facility"),
        "{says}"
    );
}

#[tokio::test]
async fn a_stay_ends_when_its_time_has_come_whatever_was_entered_before() {
    let mut facility = facility("").await;
    facility.follow().await;
    facility.hand.forward(12 * 3_600_000);
    facility.follow().await;
    let stays = facility.find("Encounter?status=finished").await;
    assert_eq!(stays.len(), 1);
    assert_eq!(stays[0]["meta"]["versionId"], "2");
    assert_eq!(stays[0]["period"]["end"], "2026-01-01T12:00:00.000Z");
}

#[tokio::test]
async fn every_reading_is_there_once_after_a_kill_and_again_when_the_copy_is_lost() {
    let mut facility = facility("").await;
    facility.measure(1..40).await;
    facility.follow().await;
    facility.measure(40..61).await;
    let mut facility = facility.restart().await;
    facility.follow().await;
    let count = async |facility: &Facility| {
        let path = "Observation?_summary=count";
        facility.ask("GET", path, OWN, "").await.1["total"].clone()
    };
    assert_eq!(count(&facility).await, 120);
    let history = facility.find("Patient/_history").await;
    assert_eq!(history.len(), 1, "what is said again is no new version");
    // A copy of another past: nothing is in it, and what was fed before is let go.
    facility.store.fed(30).await.unwrap();
    let key = Secret::new([7; 32]);
    let copy = store::open_file(facility.dir.path(), &key, FILE).unwrap();
    copy.execute_batch(
        "DELETE FROM reader; DELETE FROM resource; DELETE FROM history; UPDATE head SET observations = 0",
    )
    .unwrap();
    drop(copy);
    let mut facility = facility.restart().await;
    facility.follow().await;
    assert_eq!(count(&facility).await, 120);
    facility.measure(61..63).await;
    facility.follow().await;
    assert_eq!(count(&facility).await, 124);
}

#[tokio::test]
async fn what_is_entered_late_moves_readings_in_the_copy_too_and_what_is_deleted_is_gone() {
    let mut facility = facility("").await;
    facility.measure(1..4).await;
    facility.follow().await;
    let late = BedFact {
        from: START.plus_ms(2),
        by: "nurse".into(),
        bed: "bed-1".into(),
        patient: Some(store::deid::PatientRecord {
            facility_id: Some(Phi::new("p-2".into())),
            ..store::deid::PatientRecord::default()
        }),
    };
    facility.store.enter(late).await.unwrap();
    while facility.store.correct().await.unwrap().left {}
    facility.follow().await;
    let of = |patient: &str, rest: &str| {
        format!(
            "Observation?patient.identifier=urn:medmesh:local:patient|{patient}&code=8867-4{rest}"
        )
    };
    assert_eq!(facility.find(&of("p-1", "&status=final")).await.len(), 1);
    assert_eq!(facility.find(&of("p-2", "&status=final")).await.len(), 2);
    let withdrawn = facility.find(&of("p-1", "&status=entered-in-error")).await;
    assert_eq!(withdrawn.len(), 2);
    let stays = facility.find("Encounter?_sort=date").await;
    assert_eq!(stays.len(), 2);
    let delete = |commit: &mut store::Commit<'_, '_>| {
        let tx = commit.tx();
        tx.execute("DELETE FROM withdrawal", [])?;
        tx.execute("DELETE FROM sample", [])?;
        Ok(())
    };
    facility.store.in_commit(delete).await.unwrap();
    facility.follow().await;
    assert_eq!(facility.find("Observation").await.len(), 0);
    let id = withdrawn[0]["id"].as_str().unwrap();
    let (status, _) = facility
        .ask("GET", &format!("Observation/{id}/_history/1"), OWN, "")
        .await;
    assert_eq!(status, 404, "no version of it is kept");
}

#[tokio::test]
async fn above_its_size_the_copy_lets_its_oldest_readings_go() {
    let mut facility = again(TempDir::new().unwrap(), hand(), "", 900_000).await;
    facility.measure(1..2_600).await;
    facility.follow().await;
    facility.measure(2_600..2_601).await;
    facility.follow().await;
    let path = "Observation?_summary=count";
    let (_, bundle) = facility.ask("GET", path, OWN, "").await;
    let total = bundle["total"].as_u64().unwrap();
    assert!((1..5_200).contains(&total), "{total}");
    let newest = facility.find("Observation?_sort=-date&_count=1").await;
    assert_eq!(
        newest[0]["effectiveDateTime"],
        START.plus_ms(2_600).to_rfc3339()
    );
}

impl Facility {
    /// Whether the stays of studies say that anybody opted out.
    async fn withheld(&self) -> Vec<bool> {
        let stays = self.store.look_at_stays(START.plus_ms(1)).await.unwrap();
        stays.iter().map(|stay| stay.opted_out).collect()
    }

    /// What the region is told of choices, in order, and takes.
    async fn told(&self) -> Vec<bool> {
        let limits = LeaseLimits {
            parcels: 1_000,
            bytes: 64 << 20,
        };
        let (mut told, mut receipts) = (Vec::new(), Vec::new());
        let region = self.store.region();
        for priority in Priority::ALL {
            for parcel in self.store.lease(region, priority, limits).await.unwrap() {
                receipts.push(store::testbed::taken(&parcel));
                if parcel.kind == "ResearchChoices" {
                    let body: messages::ResearchChoices = opened(&parcel);
                    told.extend(body.choices.iter().map(|choice| choice.opted_out));
                }
            }
        }
        self.store.settle(region, receipts).await.unwrap();
        told
    }
}

#[tokio::test]
async fn stays_without_a_gap_are_one_and_what_is_to_come_is_planned() {
    let facility = facility("").await;
    let ids = facility.store.local_ids();
    let patient = ids.patient("p-9");
    let in_bed = |bed: &str, from: i64, until: Option<i64>| store::InBed {
        bed: bed.to_owned(),
        from: START.plus_ms(from),
        until: until.map(|until| START.plus_ms(until)),
    };
    let beds = [
        in_bed("a", 0, Some(10)),
        in_bed("b", 10, Some(20)),
        in_bed("a", 30, Some(40)),
        in_bed("c", 50, None),
    ];
    let (_, stays) = resources::stays(&patient, &beds, &ids, START.plus_ms(30));
    let stays: Vec<Value> = stays
        .iter()
        .map(|stay| serde_json::from_str(stay.json()).unwrap())
        .collect();
    let says = |stay: &Value| {
        let beds = stay["location"].as_array().map_or(0, Vec::len);
        (stay["status"].as_str().unwrap().to_owned(), beds)
    };
    let found: Vec<_> = stays.iter().map(says).collect();
    let expected = [("finished", 2), ("in-progress", 1), ("planned", 1)];
    assert_eq!(
        found,
        expected.map(|(status, beds)| (status.to_owned(), beds))
    );
    assert_eq!(stays[0]["period"]["end"], START.plus_ms(20).to_rfc3339());
    assert!(stays[2]["period"]["end"].is_null());
}

#[tokio::test]
async fn a_patient_whose_birth_date_is_no_date_is_there_without_it() {
    let facility = facility("").await;
    let drafted = |birth_date: &str| {
        let patient = store::PatientNow {
            id: facility.store.local_ids().patient("p-3"),
            record: store::deid::PatientRecord {
                name: Some(Phi::new("Canary Name p-3".into())),
                birth_date: Some(Phi::new(birth_date.into())),
                ..store::deid::PatientRecord::default()
            },
        };
        let draft = resources::patient(&patient).expect("the patient is there");
        serde_json::from_str::<Value>(draft.json()).unwrap()
    };
    for (entered, shown) in [
        ("1950-04-03", json!("1950-04-03")),
        ("3 April 1950", json!(null)),
    ] {
        let patient = drafted(entered);
        assert_eq!(patient["name"][0]["text"], "Canary Name p-3");
        assert_eq!(patient["birthDate"], shown);
    }
}

#[test]
fn a_request_that_no_route_sees_is_answered_as_fhir_answers_errors() {
    let words = worded(Router::new()).unread.unwrap();
    assert_eq!(words.content_type, "application/fhir+json");
    let told = (words.body)(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["resourceType"], "OperationOutcome");
    assert_eq!(told["issue"][0]["code"], "too-long");
}
