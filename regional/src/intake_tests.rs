//! Tests of the intake over real files: verdicts, what is stored, what is passed on, and a crash at every step.
use super::*;
use crate::decode::tests::batch;
use crate::registry::Filter;
use ed25519_dalek::SigningKey;
use federation::{
    audit::Signer,
    ledger::Apply,
    policy::Rules,
    port::{Inbox, LeaseLimits, Outbox},
    wire::{Hello, Sent},
};
use fhir::search::Query;
use fhir::sqlite::SqliteStore;
use fhir::store::ResourceType;
use messages::DeviceRecord;
use tempfile::TempDir;

const EDGE: &str = "edge/eu/eu/eu-f1";

fn region() -> Place {
    "regional/eu/eu".parse().unwrap()
}

/// Opens everything below a directory, as a start of the node does.
pub fn intake(dir: &TempDir) -> Intake {
    intake_under(dir, Rules::builtin().unwrap())
}

/// The same under other rules of residency.
pub fn intake_under(dir: &TempDir, rules: Rules) -> Intake {
    let at = |name: &str| dir.path().join(name);
    let clock = Clock::new(None);
    let signer = Signer::new(&region(), SigningKey::from_bytes(&[7; 32]));
    let now = Arc::new(move || clock.real());
    Intake {
        store: Arc::new(SqliteStore::open(&at("fhir.db")).unwrap()),
        registry: Registry::open(&at("region.db")).unwrap(),
        ledger: Ledger::open(&at("ledger.db"), region(), rules, signer, now).unwrap(),
        here: region(),
        clock,
        draw: rand::random,
        models: DeviceModels::new(["XY-MD02".parse().unwrap()], []),
        true_times: Arc::new(|| false),
        numbering: Numbering::open(dir.path()).unwrap(),
    }
}

fn parcel<T: Body>(id: u8, body: &T) -> Parcel {
    let bytes = body.encode_to_vec();
    Parcel {
        id: vec![id; 16].into(),
        kind: T::KIND.into(),
        count: body.count(),
        digest: envelope::digest(&bytes),
        body: bytes.into(),
        ..Parcel::default()
    }
}

pub fn records() -> DeviceRecords {
    let record = |number: u8| DeviceRecord {
        catalog_id: vec![number; 16].into(),
        kind: "cold-chain".into(),
        model: "XY-MD02".into(),
        firmware: String::new(),
        status: "active".into(),
        updated_ms: 10,
    };
    DeviceRecords {
        facility: "eu-f1".into(),
        region: "eu".into(),
        jurisdiction: "eu".into(),
        devices: vec![record(1), record(2)],
    }
}

impl Intake {
    async fn take(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        let from = EDGE.parse().unwrap();
        let parcels = Intact::all(parcels.iter().cloned()).unwrap();
        self.handlers().apply(&from, &parcels).await.unwrap()
    }

    async fn forwarded(&self) -> Vec<DeviceRecords> {
        let limits = LeaseLimits {
            parcels: 100,
            bytes: 1 << 20,
        };
        self.ledger.release(&Place::Global).await.unwrap();
        let waiting = self
            .ledger
            .lease(&Place::Global, Priority::Live, limits)
            .await
            .unwrap();
        waiting
            .iter()
            .map(|parcel| envelope::open(&Intact::new(parcel.clone()).unwrap()).unwrap())
            .collect()
    }
}

const fn accepted(stored: u32) -> Verdict {
    Verdict::Accepted { stored }
}

const UNMAPPABLE: Verdict = Verdict::Quarantined {
    reason: reason::UNMAPPABLE,
};

#[tokio::test]
async fn readings_are_stored_once_however_often_their_parcel_comes() {
    let dir = tempfile::tempdir().unwrap();
    let parcels = [parcel(1, &batch()), parcel(2, &ReadingBatch::default())];
    for _ in 0..3 {
        // A new intake each time: what is known is what is in the files.
        let intake = intake(&dir);
        assert_eq!(intake.take(&parcels).await, [accepted(3), accepted(0)]);
        assert_eq!(intake.store.counts().await.unwrap().0, [3, 1, 1]);
        assert_eq!(intake.ledger.noted().await.unwrap().notes, 0);
    }
}

#[tokio::test]
async fn a_store_that_was_put_back_behind_the_ledger_takes_nothing_before_senders_have_met_it() {
    let (dir, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = EDGE.parse().unwrap();
    let numbered = |seq: u64| Parcel {
        seq,
        priority: 1,
        ..parcel(u8::try_from(seq).unwrap(), &batch())
    };
    let before = intake(&dir);
    let inbox = before.ledger.clone().inbox(before.handlers());
    let taken = inbox
        .accept(&from, Intact::all([numbered(1)]).unwrap())
        .await
        .unwrap();
    assert_eq!(taken, [accepted(3)]);
    drop(inbox);
    let mut restored = intake(&dir);
    restored.store = Arc::new(SqliteStore::open(&empty.path().join("fhir.db")).unwrap());
    let inbox = restored.ledger.clone().inbox(restored.handlers());
    let refused = inbox
        .accept(&from, Intact::all([numbered(2)]).unwrap())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, PortErrorKind::Unavailable);
    let sent = |last| Sent {
        first: last + 1,
        last,
        holes: Vec::new(),
    };
    let hello = Hello {
        stream: vec![1; 16].into(),
        sent: vec![sent(0), sent(1), sent(0)],
        ..Hello::default()
    };
    let welcome = inbox.meet(&from, &hello).await.unwrap();
    assert_eq!(welcome.received[1].last, 0, "it has nothing of that sender");
}

#[tokio::test]
async fn a_store_that_lost_a_change_of_a_patient_or_a_withdrawal_alone_is_found_behind_its_ledger()
{
    let mut changed = ReadingBatch {
        patients: batch().patients,
        ..ReadingBatch::default()
    };
    changed.patients[0].gender = "other".into();
    found_behind(parcel(2, &changed), accepted(0)).await;
    let mut withdrawn = batch();
    withdrawn.readings.truncate(1);
    withdrawn.readings[0].withdrawn = true;
    let batch = Some(withdrawn);
    found_behind(parcel(2, &Correction { batch }), accepted(1)).await;
}

/// A store that lost what this second parcel changed, by which no resource is more or less there, is found.
async fn found_behind(second: Parcel, verdict: Verdict) {
    let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = EDGE.parse().unwrap();
    let first = Parcel {
        seq: 1,
        priority: 1,
        ..parcel(1, &batch())
    };
    assert_eq!(
        intake(&older).take(std::slice::from_ref(&first)).await,
        [accepted(3)]
    );
    let second = Parcel {
        seq: 2,
        priority: 1,
        ..second
    };
    let before = intake(&dir);
    let inbox = before.ledger.clone().inbox(before.handlers());
    let taken = inbox
        .accept(&from, Intact::all([first, second]).unwrap())
        .await
        .unwrap();
    assert_eq!(taken, [accepted(3), verdict]);
    drop(inbox);
    let mut restored = intake(&dir);
    restored.store = intake(&older).store;
    assert_eq!(
        restored.store.counts().await.unwrap(),
        intake(&dir).store.counts().await.unwrap(),
        "by the number of resources nothing is missing"
    );
    let refused = restored.compare_store().await.unwrap_err();
    assert_eq!(refused.kind, PortErrorKind::Unavailable);
    // What events are numbered by is told apart from what it was, from now on.
    let word = restored.numbering.word();
    assert_ne!(word, before.numbering.word());
    assert_eq!(intake(&dir).numbering.word(), word);
    assert!(restored.compare_store().await.is_ok());
    assert_eq!(restored.numbering.word(), word);
}

#[tokio::test]
async fn what_is_taken_for_another_sender_during_a_comparison_does_not_look_as_if_the_store_was_put_back()
 {
    let dir = tempfile::tempdir().unwrap();
    let intake = intake(&dir);
    let inbox = intake.ledger.clone().inbox(intake.handlers());
    let take = async |from: &str, id: u8, body: ReadingBatch| {
        let parcel = Parcel {
            seq: 1,
            priority: 1,
            ..parcel(id, &body)
        };
        let parcels = Intact::all([parcel]).unwrap();
        let taken = inbox.accept(&from.parse().unwrap(), parcels).await;
        assert!(matches!(taken.unwrap()[..], [Verdict::Accepted { .. }]));
    };
    take(EDGE, 1, batch()).await;
    let mut other = ReadingBatch {
        patients: batch().patients,
        ..ReadingBatch::default()
    };
    other.patients[0].pseudonym = vec![0xd2; 16].into();
    let stands = async || {
        let mark = intake.mark().await;
        take("edge/eu/eu/eu-f2", 2, other).await;
        assert!(intake.mark().await.unwrap() > *mark.as_ref().unwrap());
        mark
    };
    let compared = intake.ledger.compare_mark(stands).await.unwrap();
    assert_eq!(compared, Marked::Agrees);
    assert_eq!(intake.ledger.gaps().await.unwrap(), []);
}

#[tokio::test]
async fn a_reading_that_comes_again_by_another_name_is_there_once_and_is_no_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let intake = intake(&dir);
    let mut renamed = batch();
    renamed.devices[0].pseudonym = vec![0xd1; 16].into();
    renamed.patients[0].pseudonym = vec![0xd2; 16].into();
    for reading in &mut renamed.readings {
        reading.effective_ms -= 3 * 86_400_000;
        reading.flags |= u32::from(types::Flags::HISTORICAL.bits());
    }
    let mut other = renamed.clone();
    other.readings[0].value = Some(messages::reading::Value::Quantity("1".into()));
    let parcels = [parcel(1, &batch()), parcel(2, &renamed), parcel(3, &other)];
    let verdicts = intake.take(&parcels).await;
    assert_eq!(verdicts, [accepted(3), accepted(3), accepted(2)]);
    assert_eq!(intake.ledger.noted().await.unwrap().notes, 1);
    assert_eq!(
        intake.store.counts().await.unwrap().0[0],
        3,
        "each is there once"
    );
    // As after a crash before the answer was recorded.
    assert_eq!(intake.take(&parcels).await, verdicts);
}

#[tokio::test]
async fn a_reading_with_a_fault_is_noted_by_digest_and_the_others_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut broken = batch();
    broken.readings[1].code = "Jane Canary".into();
    let first = parcel(1, &broken);
    for _ in 0..2 {
        let intake = intake(&dir);
        assert_eq!(
            intake.take(std::slice::from_ref(&first)).await,
            [accepted(2)]
        );
        assert_eq!(intake.ledger.noted().await.unwrap().notes, 1);
    }
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|bytes| bytes == b"Canary"));
    }
}

#[tokio::test]
async fn the_id_of_a_reading_with_another_content_is_a_conflict_and_noted() {
    let dir = tempfile::tempdir().unwrap();
    let intake = intake(&dir);
    let mut other = batch();
    other.readings[0].effective_ms += 1;
    let parcels = [parcel(1, &batch()), parcel(2, &other)];
    assert_eq!(intake.take(&parcels).await, [accepted(3), accepted(2)]);
    assert_eq!(intake.ledger.noted().await.unwrap().notes, 1);
    let all = Query::all(ResourceType::Observation);
    let page = intake.store.search(&all).await.unwrap();
    let changed = page
        .resources
        .iter()
        .filter(|one| one.json.contains(":20.001Z"));
    assert_eq!(changed.count(), 0);
}

#[tokio::test]
async fn a_parcel_of_which_nothing_can_be_stored_is_quarantined_and_the_next_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let intake = intake(&dir);
    let mut nothing = batch();
    nothing.devices[0].kind = "toaster".into();
    let mut miscounted = parcel(2, &batch());
    miscounted.count = 7;
    let mut unknown = parcel(4, &batch());
    unknown.kind = "Phi".into();
    let parcels = [
        parcel(1, &nothing),
        miscounted,
        unknown,
        parcel(5, &batch()),
    ];
    let malformed = Verdict::Quarantined {
        reason: reason::MALFORMED,
    };
    let expected = [
        UNMAPPABLE,
        malformed,
        refused(reason::UNKNOWN_KIND),
        accepted(3),
    ];
    assert_eq!(intake.take(&parcels).await, expected);
    // Three readings of the first parcel; the others are noted as a whole with their answer.
    assert_eq!(intake.ledger.noted().await.unwrap().notes, 3);
}

#[tokio::test]
async fn device_records_are_registered_and_passed_on_once() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let intake = intake(&dir);
        assert_eq!(intake.take(&[parcel(1, &records())]).await, [accepted(2)]);
        assert_eq!(
            intake
                .registry
                .devices(Filter::default(), None, 9)
                .await
                .unwrap()
                .len(),
            2
        );
        assert_eq!(intake.forwarded().await, [records()]);
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_understood_is_neither_registered_nor_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let intake = intake(&dir);
    let mut one = records();
    one.devices[0].model = "the pump of Jane Canary".into();
    let mut none = one.clone();
    none.devices.truncate(1);
    let parcels = [parcel(1, &one), parcel(2, &none)];
    assert_eq!(intake.take(&parcels).await, [accepted(1), UNMAPPABLE]);
    let passed_on = intake.forwarded().await;
    assert_eq!(passed_on.len(), 1);
    assert_eq!(passed_on[0].devices, records().devices[1..]);
}

#[tokio::test]
async fn a_facility_speaks_for_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    let intake = intake(&dir);
    let elsewhere = DeviceRecords {
        facility: "eu-f2".into(),
        ..records()
    };
    let verdicts = intake.take(&[parcel(1, &elsewhere)]).await;
    assert_eq!(verdicts, [refused(reason::WRONG_SENDER)]);
    assert_eq!(intake.forwarded().await, []);
}

#[tokio::test]
async fn the_later_record_of_a_device_wins_in_whichever_order_they_come() {
    let dir = tempfile::tempdir().unwrap();
    let intake = intake(&dir);
    let mut later = records();
    later.devices[0].status = "silent".into();
    later.devices[0].updated_ms = 11;
    for (id, body) in [(1, &later), (2, &records())] {
        assert_eq!(intake.take(&[parcel(id, body)]).await, [accepted(2)]);
    }
    let devices = intake
        .registry
        .devices(Filter::default(), None, 9)
        .await
        .unwrap();
    let statuses: Vec<_> = devices
        .iter()
        .map(|device| device.status.as_str())
        .collect();
    assert_eq!(statuses, ["silent", "active"]);
    let after = intake
        .registry
        .devices(Filter::default(), Some(devices[0].id), 9)
        .await
        .unwrap();
    assert_eq!(after, devices[1..]);
    let elsewhere = intake
        .registry
        .devices(
            Filter {
                facility: Some("eu-f2".parse().unwrap()),
                ..Filter::default()
            },
            None,
            9,
        )
        .await;
    assert_eq!(elsewhere.unwrap(), []);
}

#[tokio::test]
async fn a_correction_withdraws_readings_and_gives_them_to_another_patient_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut moved = batch();
    moved.patients.push(messages::ClinicalPatient {
        pseudonym: vec![0xb; 16].into(),
        gender: "male".into(),
        birth_year: 1960,
        care_unit: String::new(),
    });
    // Reading 1 is of the first patient; it becomes reading 9 of the second.
    let mut right = moved.readings[0].clone();
    right.uid = vec![9; 16].into();
    right.patient = 2;
    moved.readings.truncate(1);
    moved.readings[0].withdrawn = true;
    moved.readings.push(right);
    let correction = parcel(2, &Correction { batch: Some(moved) });
    for order in [
        [parcel(1, &batch()), correction.clone()],
        [correction, parcel(1, &batch())],
    ] {
        let dir = if order[0].kind == Correction::KIND {
            &tempfile::tempdir().unwrap()
        } else {
            &dir
        };
        let intake = intake(dir);
        for _ in 0..2 {
            for one in &order {
                let expected = accepted(one.count);
                assert_eq!(intake.take(std::slice::from_ref(one)).await, [expected]);
            }
        }
        let all = Query::all(ResourceType::Observation);
        let page = intake.store.search(&all).await.unwrap();
        let said: Vec<_> = page
            .resources
            .iter()
            .map(|one| {
                let json: serde_json::Value = serde_json::from_str(&one.json).unwrap();
                let subject = json["subject"]["reference"].as_str().unwrap().to_owned();
                (
                    one.id.as_str()[..2].to_owned(),
                    json["status"] == "entered-in-error",
                    subject,
                )
            })
            .collect();
        let of = |uid: &str| said.iter().find(|one| one.0 == uid).unwrap();
        assert_eq!(said.len(), 4);
        assert!(of("01").1 && of("01").2.starts_with("Patient/0a"));
        assert!(!of("09").1 && of("09").2.starts_with("Patient/0b"));
        assert!(!of("02").1 && !of("03").1);
    }
}

#[tokio::test]
async fn mapping_and_commit_of_a_traced_parcel_are_spans_below_its_arrival() {
    use node::trace::{Context, install};

    let queue = install(0.0);
    let dir = tempfile::tempdir().unwrap();
    let arrival = Context::new(0x7ace_2001, 0x3);
    let mut traced = parcel(1, &batch());
    traced.traceparent = arrival.to_string();
    let taken = intake(&dir).take(&[traced, parcel(2, &batch())]).await;
    assert_eq!(taken.len(), 2);
    let spans = queue.take(usize::MAX).into_iter();
    let spans: Vec<_> = spans
        .filter(|span| span.context.trace == arrival.trace)
        .collect();
    let names: Vec<_> = spans.iter().map(|span| span.name).collect();
    assert_eq!(names, [Name::FhirMap, Name::FhirCommit]);
    assert!(spans.iter().all(|span| span.parent == Some(arrival.span)));
}
