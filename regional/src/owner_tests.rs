//! Who may write what: two facilities deliver to one region, over real files and the real gate.
use super::tests::{intake, records};
use super::*;
use crate::decode::tests::batch;
use crate::registry::Filter;
use federation::{
    audit::{Decision, Log},
    ledger::LedgerInbox,
    port::{Arrival, Gate, Inbox},
};
use fhir::store::ResourceType;
use tempfile::TempDir;
use types::Timestamp;

struct Region {
    dir: TempDir,
    ledger: Ledger,
    store: Arc<dyn ResourceStore>,
    registry: Registry,
    inbox: LedgerInbox<Handlers>,
    sent: u8,
}

impl Region {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let intake = intake(&dir);
        Self {
            ledger: intake.ledger.clone(),
            store: intake.store.clone(),
            registry: intake.registry.clone(),
            inbox: intake.ledger.clone().inbox(intake.handlers()),
            dir,
            sent: 0,
        }
    }

    /// A facility's next parcel, through the gate and the inbox.
    async fn take<T: Body>(&mut self, facility: &str, seq: u64, body: &T) -> Verdict {
        self.sent += 1;
        let bytes = body.encode_to_vec();
        let from: Place = format!("edge/eu/eu/{facility}").parse().unwrap();
        let purpose = match T::KIND {
            ReadingBatch::KIND => Purpose::Care,
            _ => Purpose::Operations,
        };
        let parcel = Parcel {
            id: vec![self.sent; 16].into(),
            priority: 1,
            seq,
            data_class: T::CLASS.as_str().into(),
            purpose: purpose.as_str().into(),
            from: from.to_string(),
            to: "regional/eu/eu".into(),
            kind: T::KIND.into(),
            count: body.count(),
            digest: envelope::digest(&bytes),
            body: bytes.into(),
            ..Parcel::default()
        };
        let fault = None;
        let mut arrivals = [Arrival { parcel, fault }];
        self.ledger.admit(&from, &mut arrivals).await.unwrap();
        let [Arrival { parcel, fault }] = arrivals;
        assert_eq!(fault, None);
        let verdicts = self
            .inbox
            .accept(&from, Intact::all([parcel]).unwrap())
            .await
            .unwrap();
        verdicts[0].clone()
    }

    fn refusals(&self) -> Vec<(String, String)> {
        let log = Log::open(&self.dir.path().join("ledger.db")).unwrap();
        let rows = log.list(0, 1_000).unwrap().into_iter();
        rows.filter(|(_, row)| row.decision() == Decision::Denied)
            .map(|(_, row)| (row.from().to_owned(), row.reason().to_owned()))
            .collect()
    }
}

const WRONG_SENDER: Verdict = refused(reason::WRONG_SENDER);

/// A batch of a device and a patient, with readings of its own from this number on.
fn batch_of(device: u8, patient: u8, first: u8) -> ReadingBatch {
    let mut batch = batch();
    batch.devices[0].pseudonym = vec![device; 16].into();
    batch.patients[0].pseudonym = vec![patient; 16].into();
    for (number, reading) in (first..).zip(&mut batch.readings) {
        reading.uid = vec![number; 16].into();
    }
    batch
}

#[tokio::test]
async fn a_facility_cannot_change_the_patient_or_the_device_of_another_nor_add_to_them() {
    let mut region = Region::new();
    let ours = batch_of(1, 2, 10);
    let stored = Verdict::Accepted { stored: 3 };
    assert_eq!(region.take("eu-f1", 1, &ours).await, stored);
    let before = region.store.counts().await.unwrap();
    let mut other_year = batch_of(3, 2, 20);
    other_year.patients[0].birth_year = 1_999;
    let attacks = [
        other_year,
        batch_of(3, 2, 30),
        batch_of(1, 4, 40),
        batch_of(3, 4, 10),
    ];
    for (seq, attack) in (1..).zip(&attacks) {
        assert_eq!(region.take("eu-f2", seq, attack).await, WRONG_SENDER);
        assert_eq!(region.store.counts().await.unwrap(), before);
    }
    let refusal = ("edge/eu/eu/eu-f2".to_owned(), "wrong-sender".to_owned());
    assert_eq!(region.refusals(), vec![refusal; attacks.len()]);
    assert!(region.ledger.noted().await.unwrap().wrong_sender);
    // Both go on with what is theirs.
    let theirs = batch_of(3, 4, 50);
    let verdict = region.take("eu-f2", 5, &theirs).await;
    assert_eq!(verdict, stored);
    let more = batch_of(1, 2, 60);
    assert_eq!(region.take("eu-f1", 2, &more).await, stored);
}

#[tokio::test]
async fn a_reading_of_another_facility_s_patient_without_its_patient_row_is_refused_too() {
    let mut region = Region::new();
    let ours = batch_of(1, 2, 10);
    region.take("eu-f1", 1, &ours).await;
    // Observations on the wire name patients of their own batch; one that is there already counts as named.
    let mut attack = batch_of(3, 2, 20);
    attack.readings.truncate(1);
    assert_eq!(region.take("eu-f2", 1, &attack).await, WRONG_SENDER);
}

#[tokio::test]
async fn every_resource_says_by_a_stable_pseudonym_from_which_facility_it_is() {
    let mut region = Region::new();
    region.take("eu-f1", 1, &batch_of(1, 2, 10)).await;
    region.take("eu-f1", 2, &batch_of(1, 2, 20)).await;
    region.take("eu-f2", 1, &batch_of(3, 4, 30)).await;
    let mut sources = Vec::new();
    for kind in ResourceType::DELIVERED {
        let query = fhir::search::Query::all(kind);
        for stored in region.store.search(&query).await.unwrap().resources {
            let text = stored.stamped("1970-01-01T00:00:00.000Z").unwrap();
            let source = stored.source.unwrap();
            assert!(
                text.get()
                    .contains(&format!(r#""source":"urn:medmesh:facility:{source}""#))
            );
            sources.push(source);
        }
    }
    assert_eq!(sources.len(), 9 + 2 + 2);
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), 2);
}

#[tokio::test]
async fn a_catalog_id_stays_with_the_facility_that_named_it_and_a_mixed_parcel_leaves_nothing() {
    let mut region = Region::new();
    let stored = Verdict::Accepted { stored: 2 };
    assert_eq!(region.take("eu-f1", 1, &records()).await, stored);
    let mut mixed = records();
    mixed.facility = "eu-f2".into();
    mixed.devices[0].catalog_id = vec![9; 16].into();
    for record in &mut mixed.devices {
        record.updated_ms += 1;
    }
    assert_eq!(region.take("eu-f2", 1, &mixed).await, WRONG_SENDER);
    let devices = region
        .registry
        .devices(Filter::default(), None, 9)
        .await
        .unwrap();
    assert!(devices.iter().all(|one| one.facility.as_str() == "eu-f1"));
    assert_eq!(devices.len(), 2);
    assert!(region.ledger.noted().await.unwrap().wrong_sender);
    mixed.devices.truncate(1);
    let verdict = region.take("eu-f2", 2, &mixed).await;
    assert_eq!(verdict, Verdict::Accepted { stored: 1 });
}

#[tokio::test]
async fn notes_on_what_was_left_out_go_when_the_same_body_is_taken_in_whole() {
    let mut region = Region::new();
    let mut unknown = batch_of(1, 2, 10);
    unknown.devices[0].kind = "kind-of-tomorrow".into();
    let verdict = region.take("eu-f1", 1, &unknown).await;
    assert!(matches!(verdict, Verdict::Quarantined { .. }));
    // Shipped again, and refused again: noted once.
    region.take("eu-f1", 2, &unknown).await;
    assert_eq!(region.ledger.noted().await.unwrap().notes, 3);
    let from: Place = "edge/eu/eu/eu-f1".parse().unwrap();
    let bytes = unknown.encode_to_vec();
    let whole = Parcel {
        digest: envelope::digest(&bytes),
        ..Parcel::default()
    };
    region.ledger.note(&from, &whole, Vec::new()).await.unwrap();
    assert_eq!(region.ledger.noted().await.unwrap().notes, 0);
}

#[tokio::test]
async fn an_operator_sees_what_was_refused_and_discards_the_notes_beside_the_node() {
    use federation::{audit::Signer, quarantine::Quarantine};
    let mut region = Region::new();
    region.take("eu-f1", 1, &batch_of(1, 2, 10)).await;
    let attack = batch_of(1, 4, 40);
    region.take("eu-f2", 1, &attack).await;
    let here: Place = "regional/eu/eu".parse().unwrap();
    let signer = Signer::new(&here, ed25519_dalek::SigningKey::from_bytes(&[7; 32]));
    let file = region.dir.path().join("ledger.db");
    let mut operator = Quarantine::open(&file, here, signer).unwrap();
    let mut notes = Vec::new();
    operator.notes(|note| notes.push(note)).unwrap();
    assert_eq!(notes.len(), 1);
    assert_eq!(
        (
            notes[0].sender.as_str(),
            notes[0].reason.as_str(),
            notes[0].position
        ),
        ("edge/eu/eu/eu-f2", "wrong-sender", None)
    );
    let now = Timestamp(1_800_000_000_000);
    assert!(operator.discard_note(notes[0].number, now).unwrap());
    assert!(!operator.discard_note(notes[0].number, now).unwrap());
    let noted = region.ledger.noted().await.unwrap();
    assert_eq!((noted.notes, noted.wrong_sender), (0, false));
    region.take("eu-f1", 2, &batch_of(1, 2, 60)).await;
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    let log = Log::open(&file).unwrap();
    log.verify("medmesh/regional/eu/eu", &key, &[]).unwrap();
}
