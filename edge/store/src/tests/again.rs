//! What the region does not take for a while arrives once it does: the real store and the real ledger of a region.
use super::*;
use federation::{
    audit::Signer,
    envelope::{self, Intact},
    ledger::{Apply, Ledger},
    policy::Rules,
    port::{Arrival, Gate, Inbox, PortError, Verdict},
    reason,
};
use std::collections::HashMap;

const SAMPLES: u64 = 20;

/// A region that knows one code or two, and counts how often each reading was stored.
#[derive(Clone, Default)]
struct Mapping {
    stored: Arc<Mutex<HashMap<Vec<u8>, usize>>>,
    knows_one_code: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl Apply for Mapping {
    async fn apply(&self, _: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        Ok(parcels.iter().map(|parcel| self.take(parcel)).collect())
    }
}

impl Mapping {
    fn take(&self, parcel: &Intact) -> Verdict {
        let batch: ReadingBatch = envelope::open(parcel).unwrap();
        let known = |reading: &&messages::Reading| {
            reading.code == "8867-4" || !self.knows_one_code.load(Ordering::Relaxed)
        };
        let mut stored = 0;
        for reading in batch.readings.iter().filter(known) {
            self.stored.lock().entry(reading.uid.to_vec()).or_insert(1);
            stored += 1;
        }
        if stored == 0 && parcel.count > 0 {
            let reason = reason::UNMAPPABLE;
            return Verdict::Quarantined { reason };
        }
        Verdict::Accepted { stored }
    }
}

struct Region {
    dir: TempDir,
    mapping: Mapping,
}

impl Region {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            mapping: Mapping::default(),
        }
    }

    /// Its node, started with these policies.
    fn node(&self, policies: Option<&Path>) -> Ledger {
        let here: Place = "regional/eu/eu".parse().unwrap();
        let signer = Signer::new(&here, ed25519_dalek::SigningKey::from_bytes(&[5; 32]));
        let rules = Rules::load(policies).unwrap();
        let now = Arc::new(|| Timestamp(START));
        let path = self.dir.path().join("ledger.db");
        Ledger::open(&path, here, rules, signer, now).unwrap()
    }

    /// Everything that waits is delivered, judged, stored and settled, as the link does it.
    async fn deliver(&self, store: &Store, node: &Ledger, on_the_way: fn(&mut Parcel)) {
        let from: Place = "edge/eu/eu/eu-f1".parse().unwrap();
        for priority in Priority::ALL {
            let mut arrivals: Vec<Arrival> = parcels(store, priority)
                .await
                .into_iter()
                .map(|parcel| Arrival {
                    parcel,
                    fault: None,
                })
                .collect();
            arrivals
                .iter_mut()
                .for_each(|one| on_the_way(&mut one.parcel));
            node.admit(&from, &mut arrivals).await.unwrap();
            let let_in = arrivals.iter().filter(|one| one.fault.is_none());
            let let_in = Intact::all(let_in.map(|one| one.parcel.clone())).unwrap();
            let inbox = node.inbox(self.mapping.clone());
            let mut verdicts = inbox.accept(&from, let_in).await.unwrap().into_iter();
            let receipts = arrivals.iter().map(|one| match one.fault {
                Some(reason) => answer(&one.parcel, &Verdict::Refused { reason }),
                None => answer(&one.parcel, &verdicts.next().unwrap()),
            });
            store
                .settle(store.region(), receipts.collect())
                .await
                .unwrap();
        }
    }
}

fn answer(parcel: &Parcel, verdict: &Verdict) -> Receipt {
    let (outcome, stored, reason) = match verdict {
        Verdict::Accepted { stored } => (Outcome::Accepted, *stored, ""),
        Verdict::Quarantined { reason } => (Outcome::Quarantined, 0, *reason),
        Verdict::Refused { reason } => (Outcome::Refused, 0, *reason),
        Verdict::Deferred { reason } => (Outcome::Deferred, 0, *reason),
    };
    Receipt {
        stored,
        reason: reason.into(),
        ..receipt(parcel, outcome)
    }
}

/// Stores the samples, each in a parcel of its own, and one alarm among them.
async fn store_all(store: &Store) {
    for seq in 1..=SAMPLES {
        let urgency = match seq {
            7 => Urgency::Alarm,
            _ => Urgency::Routine,
        };
        let sample = Sample {
            urgency,
            ..sample("m1", seq)
        };
        store.append(sample).await.unwrap();
    }
}

/// Every reading is with the region once, nothing is held or noted, and retention may delete every sample.
async fn assert_all_arrived(store: &Store, region: &Region, node: &Ledger, time: &Hand) {
    let stored = region.mapping.stored.lock().clone();
    assert_eq!(stored.len() as u64, 2 * SAMPLES);
    assert!(stored.values().all(|times| *times == 1));
    assert_eq!(store.holding().await.unwrap(), Holding::default());
    assert_eq!(node.noted().await.unwrap().notes, 0);
    time.forward(2 * 86_400_000);
    assert_eq!(sweep(store).await as u64, SAMPLES);
}

/// A minute of the upkeep's turns, with everything that is shipped delivered.
async fn minute(store: &Store, region: &Region, node: &Ledger, time: &Hand, way: fn(&mut Parcel)) {
    for _ in 0..60 {
        time.forward(1_000);
        store.ship_again().await.unwrap();
        region.deliver(store, node, way).await;
    }
}

#[tokio::test]
async fn a_policy_mistake_of_the_region_costs_no_reading() {
    let (dir, time, region) = (TempDir::new().unwrap(), hand(), Region::new());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store_all(&store).await;
    let mistake = TempDir::new().unwrap();
    let forbid = "forbid(principal, action, resource);";
    std::fs::write(mistake.path().join("mistake.cedar"), forbid).unwrap();
    let node = region.node(Some(mistake.path()));
    region.deliver(&store, &node, |_| {}).await;
    minute(&store, &region, &node, &time, |_| {}).await;
    assert!(store.holding().await.unwrap().parcels);
    assert!(node.noted().await.unwrap().notes >= SAMPLES);
    assert!(region.mapping.stored.lock().is_empty());
    // The samples of what is held are not deleted, however old.
    drop(node);
    let node = region.node(None);
    // The link comes up again with the region: no wait is waited out.
    store.set_link(true);
    for _ in 0..10 {
        store.ship_again().await.unwrap();
        region.deliver(&store, &node, |_| {}).await;
    }
    assert_all_arrived(&store, &region, &node, &time).await;
}

#[tokio::test]
async fn a_kind_that_an_older_region_does_not_know_arrives_once_it_does() {
    let (dir, time, region) = (TempDir::new().unwrap(), hand(), Region::new());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store_all(&store).await;
    let node = region.node(None);
    let older: fn(&mut Parcel) = |parcel| parcel.kind = "KindOfTomorrow".into();
    region.deliver(&store, &node, older).await;
    minute(&store, &region, &node, &time, older).await;
    assert!(region.mapping.stored.lock().is_empty());
    store.close().await;
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    assert!(store.holding().await.unwrap().parcels);
    for _ in 0..6 {
        minute(&store, &region, &node, &time, |_| {}).await;
    }
    assert_all_arrived(&store, &region, &node, &time).await;
}

#[tokio::test]
async fn the_rest_of_a_parcel_that_was_stored_in_part_arrives_once() {
    let (dir, time, region) = (TempDir::new().unwrap(), hand(), Region::new());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store_all(&store).await;
    let node = region.node(None);
    region.mapping.knows_one_code.store(true, Ordering::Relaxed);
    region.deliver(&store, &node, |_| {}).await;
    minute(&store, &region, &node, &time, |_| {}).await;
    assert_eq!(region.mapping.stored.lock().len() as u64, SAMPLES);
    region
        .mapping
        .knows_one_code
        .store(false, Ordering::Relaxed);
    for _ in 0..6 {
        minute(&store, &region, &node, &time, |_| {}).await;
    }
    assert_all_arrived(&store, &region, &node, &time).await;
}

#[tokio::test]
async fn what_is_held_takes_no_more_room_while_it_is_tried_again_and_again() {
    let (dir, time, region) = (TempDir::new().unwrap(), hand(), Region::new());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store_all(&store).await;
    let node = region.node(None);
    let older: fn(&mut Parcel) = |parcel| parcel.kind = "KindOfTomorrow".into();
    region.deliver(&store, &node, older).await;
    minute(&store, &region, &node, &time, older).await;
    let count = async |sql: &'static str| -> i64 {
        let read = store.read(move |db| Ok(db.query_row(sql, [], |row| row.get(0))?));
        read.await.unwrap()
    };
    let bytes = "SELECT sum(length(parcel)) FROM outbox_refused";
    let (held, rows) = (
        count(bytes).await,
        count("SELECT count(*) FROM untaken").await,
    );
    minute(&store, &region, &node, &time, older).await;
    assert_eq!(
        count("SELECT count(*) FROM outbox_refused").await,
        SAMPLES.cast_signed()
    );
    assert!((count(bytes).await - held).abs() < held / 10);
    assert_eq!(count("SELECT count(*) FROM untaken").await, rows);
    assert_eq!(node.noted().await.unwrap().notes, SAMPLES);
}
