//! A facility and a region put back to older states: the real store and the real ledger, without a network between.
use super::*;
use async_trait::async_trait;
use federation::{
    audit::{Signer, witness::HEADS_FILE},
    envelope::{self, Intact},
    gap::Gap,
    ledger::{Apply, Ledger, Marked},
    port::{Arrival, Gate, Inbox, PortError, Verdict},
    watch::Looked,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;

const HOUR: i64 = 3_600_000;

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn edge() -> Place {
    place("edge/eu/eu/eu-f1")
}

fn regional() -> Place {
    place("regional/eu/eu")
}

const STANDS: u32 = 1;
const WITHDRAWN: u32 = 2;

/// What a region's store of resources has: of each reading whether it stands.
#[derive(Clone, Default)]
struct Resources(Arc<Mutex<BTreeMap<Vec<u8>, u32>>>);

#[async_trait]
impl Apply for Resources {
    async fn apply(&self, _: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut rows = self.0.lock();
        let take = |parcel: &Intact| {
            let correction = || envelope::open::<messages::Correction>(parcel).ok()?.batch;
            let batch = envelope::open::<ReadingBatch>(parcel).ok();
            for reading in &batch.or_else(correction).unwrap_or_default().readings {
                // The same id again is one resource; a withdrawal is for good.
                let known = rows.entry(reading.uid.to_vec()).or_insert(STANDS);
                if reading.withdrawn {
                    *known = WITHDRAWN;
                }
            }
            Verdict::Accepted {
                stored: parcel.count,
            }
        };
        Ok(parcels.iter().map(take).collect())
    }

    async fn mark(&self) -> Result<Option<u64>, PortError> {
        Ok(Some(self.0.lock().len() as u64))
    }
}

/// A region's node: its ledger in a folder, and its resources.
struct Region {
    dir: TempDir,
    ledger: Ledger,
    resources: Resources,
}

fn open_ledger(dir: &Path) -> Ledger {
    let signer = Signer::new(&regional(), ed25519_dalek::SigningKey::from_bytes(&[8; 32]));
    let rules = federation::policy::Rules::builtin().unwrap();
    let now = Arc::new(|| Timestamp(START));
    Ledger::open(&dir.join("ledger.db"), regional(), rules, signer, now).unwrap()
}

/// Everything in a folder but what a process that runs has beside a database.
fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

impl Region {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self {
            ledger: open_ledger(dir.path()),
            dir,
            resources: Resources::default(),
        }
    }

    /// A copy of ledger and resources, as a backup takes it.
    fn copy(&self) -> (TempDir, BTreeMap<Vec<u8>, u32>) {
        (copy(self.dir.path()), self.resources.0.lock().clone())
    }

    fn restore(&mut self, (dir, rows): (TempDir, BTreeMap<Vec<u8>, u32>)) {
        self.ledger = open_ledger(dir.path());
        self.dir = dir;
        *self.resources.0.lock() = rows;
    }

    fn uids(&self) -> Vec<Vec<u8>> {
        self.resources.0.lock().keys().cloned().collect()
    }

    fn standing(&self) -> Vec<Vec<u8>> {
        let rows = self.resources.0.lock();
        let good = rows.iter().filter(|(_, state)| **state == STANDS);
        good.map(|(uid, _)| uid.clone()).collect()
    }

    async fn gaps(&self) -> Vec<Gap> {
        self.ledger.gaps().await.unwrap()
    }
}

/// Both ends say where they stand until they agree, as the link has them do. How often the edge said so.
async fn meet(store: &Store, region: &Region) -> usize {
    let inbox = region.ledger.inbox(region.resources.clone());
    let mut hello = store.hello(&regional()).await.unwrap();
    for said in 1..5 {
        let welcome = inbox.meet(&edge(), &hello).await.unwrap();
        let mut fresh = [0; 16];
        system_entropy(&mut fresh);
        match store.resync(&regional(), &welcome, fresh).await.unwrap() {
            None => return said,
            Some(next) => hello = next,
        }
    }
    panic!("they do not come to agree");
}

/// One round of the link: what waits is sent, judged, stored and answered. Outcomes that are not `Accepted`.
async fn deliver(store: &Store, region: &Region) -> Vec<Verdict> {
    let inbox = region.ledger.inbox(region.resources.clone());
    let mut others = Vec::new();
    for priority in Priority::ALL {
        let sent = store.lease(store.region(), priority, LIMITS).await.unwrap();
        let arrival = |parcel: &Parcel| Arrival {
            parcel: parcel.clone(),
            fault: None,
        };
        let mut arrivals: Vec<_> = sent.iter().map(arrival).collect();
        region.ledger.admit(&edge(), &mut arrivals).await.unwrap();
        for arrival in &arrivals {
            others.extend(arrival.fault.map(|reason| Verdict::Refused { reason }));
        }
        let good = arrivals
            .into_iter()
            .filter(|arrival| arrival.fault.is_none());
        let good = Intact::all(good.map(|arrival| arrival.parcel)).unwrap();
        let verdicts = inbox.accept(&edge(), good.clone()).await.unwrap();
        let head = inbox.head().await.unwrap();
        let mut receipts = Vec::new();
        for (parcel, verdict) in good.iter().zip(verdicts) {
            if matches!(verdict, Verdict::Accepted { .. }) {
                receipts.push(Receipt {
                    head: head.clone(),
                    ..receipt(parcel, Outcome::Accepted)
                });
            } else {
                others.push(verdict);
            }
        }
        store.settle(store.region(), receipts).await.unwrap();
    }
    store.release(store.region()).await.unwrap();
    others
}

/// Meets, and delivers until nothing is left to ship.
async fn settle(store: &Store, region: &Region) {
    meet(store, region).await;
    for _ in 0..50 {
        assert_eq!(deliver(store, region).await, []);
        let late = store.ship_late().await.unwrap();
        if !late.left && store.depths(store.region()).await.unwrap().0 == [0; 3] {
            return;
        }
    }
    panic!("something is left");
}

/// Uids of every reading that the facility keeps.
async fn kept(store: &Store) -> Vec<Vec<u8>> {
    let read = |db: &Connection| {
        let mut query = db.prepare("SELECT readings FROM sample")?;
        let blobs = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let mut uids = Vec::new();
        for blob in blobs {
            for reading in PackedReading::unpack(&blob?).unwrap() {
                uids.push(reading.uid.as_bytes().to_vec());
            }
        }
        uids.sort();
        Ok(uids)
    };
    store.read(read).await.unwrap()
}

async fn append(store: &Store, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        let mut sample = sample("m1", seq);
        if seq % 5 == 0 {
            sample.urgency = Urgency::Alarm;
        }
        assert_eq!(store.append(sample).await.unwrap(), Stored::New);
    }
}

fn open(dir: &Path, time: &Arc<Hand>) -> Store {
    let store = Store::open(options(dir, time.clone())).unwrap();
    store.set_link(true);
    store
}

#[tokio::test]
async fn a_region_put_back_gets_everything_again_once_and_new_readings_at_once() {
    for hours in [0, 3] {
        let (dir, time) = (TempDir::new().unwrap(), hand());
        let (store, mut region) = (open(dir.path(), &time), Region::new());
        append(&store, 1..=20).await;
        settle(&store, &region).await;
        let backup = region.copy();
        for turn in 0..4 {
            append(&store, 21 + 10 * turn..=30 + 10 * turn).await;
            settle(&store, &region).await;
            time.forward(hours * HOUR);
        }
        let before = region.uids();
        region.restore(backup);
        assert!(region.uids().len() < before.len());
        assert_eq!(meet(&store, &region).await, 2, "it begins anew");
        // What is measured now flows before anything old is shipped again.
        append(&store, 61..=61).await;
        assert_eq!(deliver(&store, &region).await, []);
        let newest = kept(&store).await.len() - before.len();
        assert_eq!(newest, 2);
        settle(&store, &region).await;
        assert_eq!(region.uids(), kept(&store).await);
        assert_eq!(meet(&store, &region).await, 1, "both agree");
        assert!(store.gaps().await.unwrap().is_empty(), "nothing is missing");
        assert!(region.gaps().await.is_empty());
    }
}

fn lay_there(patient: &str) -> BedFact {
    BedFact {
        by: "nurse".into(),
        ..bed("2025-12-31T12:00:00Z", Some(patient))
    }
}

#[tokio::test]
async fn a_region_put_back_to_before_a_correction_is_told_again_what_was_withdrawn() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let (store, mut region) = (open(dir.path(), &time), Region::new());
    append(&store, 1..=20).await;
    settle(&store, &region).await;
    let backups = [region.copy(), region.copy(), region.copy()];
    for (turn, backup) in (0..).zip(backups) {
        // In the second turn it moves once more before it was shipped again; in the last one nothing moves.
        if turn == 1 {
            region.restore(backup);
            assert_eq!(meet(&store, &region).await, 2);
            store.enter(lay_there("p-3")).await.unwrap();
            assert_eq!(super::beds::correct(&store).await.0, 40);
        } else {
            store.enter(lay_there("p-2")).await.unwrap();
            super::beds::correct(&store).await;
            settle(&store, &region).await;
            region.restore(backup);
        }
        settle(&store, &region).await;
        assert_eq!(region.standing(), kept(&store).await, "{turn}");
        assert!(store.gaps().await.unwrap().is_empty(), "nothing is missing");
    }
}

#[tokio::test]
async fn a_facility_put_back_to_before_a_correction_corrects_the_same_once() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let (store, region) = (open(dir.path(), &time), Region::new());
    store.enter(lay_there("p-2")).await.unwrap();
    store.enter(lay_there("p-1")).await.unwrap();
    append(&store, 1..=20).await;
    settle(&store, &region).await;
    store.close().await;
    let backup = copy(dir.path());
    for dir in [&dir, &backup] {
        let store = open(dir.path(), &time);
        store.enter(lay_there("p-2")).await.unwrap();
        assert_eq!(super::beds::correct(&store).await.0, 40);
        settle(&store, &region).await;
        assert_eq!(region.standing(), kept(&store).await);
        assert_eq!(region.uids().len(), 80);
        store.close().await;
    }
}

#[tokio::test]
async fn what_retention_deleted_is_declared_at_both_ends_with_its_count() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let (store, mut region) = (open(dir.path(), &time), Region::new());
    append(&store, 1..=20).await;
    settle(&store, &region).await;
    let backup = region.copy();
    append(&store, 21..=30).await;
    settle(&store, &region).await;
    time.forward(25 * HOUR);
    while !store.housekeep().await.unwrap().done {}
    append(&store, 31..=40).await;
    settle(&store, &region).await;
    region.restore(backup);
    settle(&store, &region).await;
    let kept = kept(&store).await;
    assert_eq!(kept.len(), 20, "ten samples of two readings");
    let has = region.uids();
    assert!(kept.iter().all(|uid| has.contains(uid)));
    // Ten samples that the region had taken after its backup, and that are deleted here.
    for gap in [
        store.gaps().await.unwrap().pop().unwrap(),
        region.gaps().await.pop().unwrap(),
    ] {
        assert_eq!((gap.records, gap.cause.as_str()), (20, "receiver-restored"));
        assert!(gap.parcels > 0);
        assert_eq!((gap.from_ms, gap.to_ms), (START, START));
    }
}

#[tokio::test]
async fn a_facility_put_back_sends_what_is_new_and_both_ends_declare_the_gap() {
    for hours in [0, 3] {
        let (dir, time) = (TempDir::new().unwrap(), hand());
        let (mut store, region) = (open(dir.path(), &time), Region::new());
        append(&store, 1..=20).await;
        settle(&store, &region).await;
        append(&store, 21..=22).await;
        store.close().await;
        let backup = copy(dir.path());
        store = open(dir.path(), &time);
        for turn in 0..3 {
            append(&store, 23 + 10 * turn..=32 + 10 * turn).await;
            settle(&store, &region).await;
            time.forward(hours * HOUR);
        }
        store.close().await;
        let before = region.uids();
        let restored = open(backup.path(), &time);
        // Other readings under the sequences that the region knows, before anybody has met.
        append(&restored, 101..=140).await;
        settle(&restored, &region).await;
        let (has, mut all) = (region.uids(), before);
        all.extend(kept(&restored).await);
        all.sort();
        all.dedup();
        assert_eq!(has, all, "what either side still has is there once");
        for gaps in [restored.gaps().await.unwrap(), region.gaps().await] {
            assert_eq!(gaps.len(), 1);
            assert_eq!(gaps[0].cause, "sender-restored");
        }
        assert_eq!(meet(&restored, &region).await, 1);
    }
}

#[tokio::test]
async fn both_ends_put_back_at_once_have_what_either_still_has_once() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let (mut store, mut region) = (open(dir.path(), &time), Region::new());
    append(&store, 1..=20).await;
    settle(&store, &region).await;
    let old_region = region.copy();
    append(&store, 21..=40).await;
    settle(&store, &region).await;
    store.close().await;
    let old_edge = copy(dir.path());
    store = open(dir.path(), &time);
    append(&store, 41..=60).await;
    settle(&store, &region).await;
    store.close().await;
    region.restore(old_region);
    let restored = open(old_edge.path(), &time);
    append(&restored, 101..=120).await;
    settle(&restored, &region).await;
    assert_eq!(region.uids(), kept(&restored).await);
}

#[tokio::test]
async fn a_facility_that_dies_before_the_region_takes_its_stream_begins_once_more() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let (mut store, mut region) = (open(dir.path(), &time), Region::new());
    append(&store, 1..=10).await;
    settle(&store, &region).await;
    let backup = region.copy();
    append(&store, 11..=20).await;
    settle(&store, &region).await;
    region.restore(backup);
    let inbox = region.ledger.inbox(region.resources.clone());
    for fresh in 1..=2 {
        let hello = store.hello(&regional()).await.unwrap();
        let welcome = inbox.meet(&edge(), &hello).await.unwrap();
        let said = store.resync(&regional(), &welcome, [fresh; 16]).await;
        assert!(said.unwrap().is_some_and(|hello| hello.begin.is_some()));
        store.close().await;
        store = open(dir.path(), &time);
    }
    settle(&store, &region).await;
    assert_eq!(region.uids(), kept(&store).await);
    assert!(store.gaps().await.unwrap().is_empty());
}

#[tokio::test]
async fn resources_that_are_older_than_the_ledger_are_found_and_asked_for_again() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let (store, region) = (open(dir.path(), &time), Region::new());
    let mut backup = BTreeMap::new();
    for turn in 0..30 {
        append(&store, 1 + 10 * turn..=10 + 10 * turn).await;
        settle(&store, &region).await;
        if turn == 20 {
            backup = region.resources.0.lock().clone();
        }
    }
    // A standby was promoted that had not got the last commits; the ledger's file is as it was.
    *region.resources.0.lock() = backup;
    let compare = || region.ledger.compare_mark(|| region.resources.mark());
    let compared = compare().await.unwrap();
    assert!(matches!(compared, Marked::PutBack { parcels } if parcels > 0));
    assert_eq!(compare().await.unwrap(), Marked::Agrees);
    // A connection that was open all the time takes nothing before both have met.
    append(&store, 301..=301).await;
    let deferred = deliver(&store, &region).await;
    let other = |verdict: &Verdict| {
        *verdict
            == Verdict::Deferred {
                reason: "other-stream",
            }
    };
    assert!(
        !deferred.is_empty() && deferred.iter().all(other),
        "{deferred:?}"
    );
    settle(&store, &region).await;
    assert_eq!(region.uids(), kept(&store).await);
}

#[tokio::test]
async fn an_audit_log_that_is_emptied_is_not_believed_by_itself_nor_by_its_peer() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let (mut store, region) = (open(dir.path(), &time), Region::new());
    store.begin_log().await.unwrap();
    append(&store, 1..=20).await;
    settle(&store, &region).await;
    settle(&store, &region).await;
    assert!(store.verify_audit().await.unwrap() > 1);
    store.close().await;
    let file = schema::File {
        path: dir.path().join(Store::FILE),
        key: key::open_existing(dir.path(), &Secret::new([7; 32])).unwrap(),
        vfs: None,
    };
    let db = file.open_bare().unwrap();
    db.execute_batch(
        "DELETE FROM audit_entry; DELETE FROM audit_frontier;
         UPDATE audit_head SET size = 0, frontier = x'', checkpoint = ''",
    )
    .unwrap();
    drop(db);
    store = open(dir.path(), &time);
    let found = store.verify_audit().await.unwrap_err();
    assert_eq!(found.kind, StoreErrorKind::Corrupt);
    store.begin_log().await.unwrap();
    assert_eq!(store.gaps().await.unwrap()[0].cause, "log-lost");
    assert!(store.verify_audit().await.is_err());
    assert_eq!(
        meet(&store, &region).await,
        2,
        "the region holds a later head"
    );
}

#[tokio::test]
async fn an_audit_log_whose_heads_are_gone_has_failed_while_it_runs_and_when_it_starts() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let (mut store, region) = (open(dir.path(), &time), Region::new());
    store.begin_log().await.unwrap();
    append(&store, 1..=20).await;
    settle(&store, &region).await;
    store.keep_head().await.unwrap();
    store.verify_audit().await.unwrap();
    std::fs::remove_file(dir.path().join(HEADS_FILE)).unwrap();
    for _ in 0..2 {
        store.begin_log().await.unwrap();
        store.keep_head().await.unwrap();
        // What the region says that it holds does not hide it either.
        settle(&store, &region).await;
        let found = store.verify_audit().await.unwrap_err();
        assert_eq!(found.kind, StoreErrorKind::Corrupt);
        store.close().await;
        store = open(dir.path(), &time);
    }
}
