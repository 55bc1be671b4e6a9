//! What comes down to a facility: the real store and the real ledger of its region, without a network between.
use super::*;
use federation::{
    audit::{Decision, Signer},
    envelope::{self, Envelope, Intact},
    ledger::{Handlers as Uppers, Ledger, Shipped, Telling},
    port::{Arrival, Gate, Inbox, Verdict},
    reason,
};
use messages::{AuditCheckpoint, Body, DeviceRecord, DeviceRecords};
use parking_lot::Mutex;
use types::{EnvelopeId, Purpose};

/// What the handler of these tests does with what comes.
#[derive(Default)]
struct Behaviour {
    fails: bool,
    committed: usize,
}

/// Keeps the names of devices in a table of the store, each once, and says upwards that it did.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Behaviour>>);

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS note (n INTEGER PRIMARY KEY, model TEXT NOT NULL UNIQUE) STRICT";

impl Handler for Notes {
    fn apply(
        &self,
        commit: &mut Commit<'_, '_>,
        _: &Place,
        parcel: &Intact,
    ) -> Result<Verdict, StoreError> {
        commit.tx().execute_batch(TABLE)?;
        let Ok(records) = envelope::open::<DeviceRecords>(parcel) else {
            let reason = reason::MALFORMED;
            return Ok(Verdict::Quarantined { reason });
        };
        let stored = records.count();
        for device in &records.devices {
            commit
                .tx()
                .execute("INSERT INTO note (model) VALUES (?1)", [&device.model])?;
        }
        assert!(commit.ship(Priority::Live, Purpose::Operations, records)?);
        if self.0.lock().fails {
            let op = "a handler that fails";
            return Err(StoreError::new(StoreErrorKind::Internal, op));
        }
        Ok(Verdict::Accepted { stored })
    }

    fn committed(&self) {
        self.0.lock().committed += 1;
    }
}

fn region() -> Place {
    "regional/eu/eu".parse().unwrap()
}

fn edge() -> Place {
    "edge/eu/eu/eu-f1".parse().unwrap()
}

fn open(dir: &Path, notes: Option<&Notes>) -> Store {
    let mut handlers = Handlers::new();
    if let Some(notes) = notes {
        handlers = handlers.on::<DeviceRecords>(Arc::new(notes.clone()));
    }
    Store::open(StoreOptions {
        handlers,
        ..options(dir, hand())
    })
    .unwrap()
}

async fn start(dir: &Path) -> Ledger {
    let signer = Signer::new(&region(), ed25519_dalek::SigningKey::from_bytes(&[8; 32]));
    let rules = federation::policy::Rules::builtin().unwrap();
    let now = Arc::new(|| Timestamp(START));
    let ledger = Ledger::open(&dir.join("ledger.db"), region(), rules, signer, now).unwrap();
    ledger.begin_log().await.unwrap();
    ledger
}

fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

fn records(model: &str) -> DeviceRecords {
    DeviceRecords {
        devices: vec![DeviceRecord {
            model: model.into(),
            ..DeviceRecord::default()
        }],
        ..DeviceRecords::default()
    }
}

async fn ship(ledger: &Ledger, id: u8, priority: Priority) {
    let (id, body) = (EnvelopeId::from_bytes([id; 16]), records(&format!("m{id}")));
    let shipped = ledger
        .commit("ship", move |commit| {
            commit.ship(&edge(), (Purpose::Operations, priority), id, body)
        })
        .await
        .unwrap();
    assert!(matches!(shipped, Shipped::Queued(_)));
}

/// The region says where it stands and the facility answers, until they agree: how often.
async fn meet_down(ledger: &Ledger, store: &Store) -> usize {
    let mut hello = ledger.hello(&edge()).await.unwrap();
    for said in 1..5 {
        let welcome = store.meet(&region(), &hello).await.unwrap();
        let mut fresh = [0; 16];
        system_entropy(&mut fresh);
        match ledger.resync(&edge(), &welcome, fresh).await.unwrap() {
            None => return said,
            Some(next) => hello = next,
        }
    }
    panic!("they do not come to agree");
}

/// The same, the other way round.
async fn meet_up(store: &Store, ledger: &Ledger) -> usize {
    let inbox = ledger.inbox(Uppers::new());
    let mut hello = store.hello(&region()).await.unwrap();
    for said in 1..5 {
        let welcome = inbox.meet(&edge(), &hello).await.unwrap();
        let mut fresh = [0; 16];
        system_entropy(&mut fresh);
        match store.resync(&region(), &welcome, fresh).await.unwrap() {
            None => return said,
            Some(next) => hello = next,
        }
    }
    panic!("they do not come to agree");
}

/// What waits at the region for the facility.
async fn leased(ledger: &Ledger) -> Vec<Parcel> {
    let mut parcels = Vec::new();
    for priority in Priority::ALL {
        parcels.extend(ledger.lease(&edge(), priority, LIMITS).await.unwrap());
    }
    ledger.release(&edge()).await.unwrap();
    parcels
}

/// Judged and taken in, as the link has it done.
async fn take(store: &Store, parcels: Vec<Parcel>) -> Vec<Verdict> {
    let arrival = |parcel| Arrival {
        parcel,
        fault: None,
    };
    let mut arrivals: Vec<_> = parcels.into_iter().map(arrival).collect();
    store.admit(&region(), &mut arrivals).await.unwrap();
    let good = arrivals
        .iter()
        .filter(|it| it.fault.is_none())
        .map(|it| it.parcel.clone());
    let good = Intact::all(good).unwrap();
    let taken = store.accept(&region(), good).await.unwrap();
    let mut taken = taken.into_iter();
    arrivals
        .iter()
        .map(|it| match it.fault {
            Some(reason) => Verdict::Refused { reason },
            None => taken.next().unwrap(),
        })
        .collect()
}

/// One round of the link down.
async fn collect(ledger: &Ledger, store: &Store) -> Vec<Verdict> {
    let parcels = leased(ledger).await;
    let verdicts = take(store, parcels.clone()).await;
    let receipts = parcels.iter().zip(&verdicts).map(|(parcel, verdict)| {
        let (outcome, reason) = match verdict {
            Verdict::Accepted { .. } => (Outcome::Accepted, ""),
            Verdict::Quarantined { reason } => (Outcome::Quarantined, *reason),
            Verdict::Refused { reason } => (Outcome::Refused, *reason),
            Verdict::Deferred { reason } => (Outcome::Deferred, *reason),
        };
        Receipt {
            reason: reason.into(),
            ..receipt(parcel, outcome)
        }
    });
    ledger.settle(&edge(), receipts.collect()).await.unwrap();
    verdicts
}

async fn noted(store: &Store) -> Vec<String> {
    let read = |db: &Connection| {
        let mut query = db.prepare("SELECT model FROM note ORDER BY n")?;
        let rows = query.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    store.read(read).await.unwrap()
}

async fn decisions(store: &Store, decision: Decision) -> usize {
    let read = move |db: &Connection| {
        let mut query = db.prepare("SELECT leaf FROM audit_entry")?;
        let leaves = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let word = format!("\"{}\"", decision.as_str());
        let says = |leaf: &Vec<u8>| String::from_utf8_lossy(leaf).contains(&word);
        Ok(leaves.filter_map(Result::ok).filter(says).count())
    };
    store.read(read).await.unwrap()
}

const ACCEPTED: Verdict = Verdict::Accepted { stored: 1 };

#[tokio::test]
async fn what_comes_down_is_applied_once_in_the_commit_of_its_answer_whatever_is_killed() {
    let (dir, above) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (notes, ledger) = (Notes::default(), start(above.path()).await);
    let store = open(dir.path(), Some(&notes));
    for id in 1..=3 {
        ship(&ledger, id, Priority::Live).await;
    }
    assert_eq!(meet_down(&ledger, &store).await, 2, "they are introduced");
    let parcels = leased(&ledger).await;
    assert_eq!(take(&store, parcels.clone()).await, vec![ACCEPTED; 3]);
    // No receipt came back; the store is killed and opened again, and everything comes again.
    store.close().await;
    let store = open(dir.path(), Some(&notes));
    assert_eq!(meet_down(&ledger, &store).await, 1);
    assert_eq!(take(&store, parcels).await, vec![ACCEPTED; 3]);
    assert_eq!(noted(&store).await, ["m1", "m2", "m3"]);
    assert_eq!(batches_of_devices(&store).await, 3, "each said so once");
    assert_eq!(decisions(&store, Decision::Admitted).await, 3);
    assert_eq!(collect(&ledger, &store).await, vec![ACCEPTED; 3]);
    assert_eq!(ledger.depths(&edge()).await.unwrap().0, [0; 3]);
    assert!(notes.0.lock().committed > 0);
    ship(&ledger, 4, Priority::Live).await;
    assert_eq!(collect(&ledger, &store).await, [ACCEPTED]);
}

async fn batches_of_devices(store: &Store) -> usize {
    let waiting = parcels(store, Priority::Live).await;
    store.release(&region()).await.unwrap();
    waiting.len()
}

#[tokio::test]
async fn what_is_for_another_or_against_the_rules_is_refused_below_and_written_down() {
    let (dir, above) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (notes, ledger) = (Notes::default(), start(above.path()).await);
    let store = open(dir.path(), Some(&notes));
    for id in 1..=3 {
        ship(&ledger, id, Priority::Live).await;
    }
    meet_down(&ledger, &store).await;
    let mut parcels = leased(&ledger).await;
    parcels[0].to = "edge/eu/eu/eu-f2".into();
    parcels[1].data_class = "pseudonymous".into();
    let refused = |reason| Verdict::Refused { reason };
    let expected = [
        refused(reason::WRONG_RECEIVER),
        refused(reason::WRONG_CLASS),
        ACCEPTED,
    ];
    assert_eq!(take(&store, parcels).await, expected);
    assert_eq!(noted(&store).await, ["m3"]);
    assert_eq!(decisions(&store, Decision::Denied).await, 2);
}

#[tokio::test]
async fn a_kind_that_a_facility_has_no_handler_for_comes_again_once_it_has_one() {
    let (dir, above) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let ledger = start(above.path()).await;
    let store = open(dir.path(), None);
    ship(&ledger, 1, Priority::Live).await;
    meet_down(&ledger, &store).await;
    let unknown = Verdict::Refused {
        reason: reason::UNKNOWN_KIND,
    };
    assert_eq!(collect(&ledger, &store).await, [unknown]);
    assert!(ledger.any_held().await.unwrap());
    store.close().await;
    let notes = Notes::default();
    let store = open(dir.path(), Some(&notes));
    ledger.due_soon().await.unwrap();
    assert_eq!(ledger.ship_again().await.unwrap(), 1);
    assert_eq!(collect(&ledger, &store).await, [ACCEPTED]);
    assert_eq!(noted(&store).await, ["m1"]);
    assert!(!ledger.any_held().await.unwrap());
}

#[tokio::test]
async fn a_handler_that_fails_leaves_nothing_behind_and_costs_nobody_else_anything() {
    let (dir, above) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (notes, ledger) = (Notes::default(), start(above.path()).await);
    let store = open(dir.path(), Some(&notes));
    ship(&ledger, 1, Priority::Live).await;
    meet_down(&ledger, &store).await;
    notes.0.lock().fails = true;
    let parcels = leased(&ledger).await;
    let (sample, taken) = tokio::join!(store.append(sample("m1", 1)), take(&store, parcels));
    assert_eq!(sample.unwrap(), Stored::New);
    let unmappable = Verdict::Quarantined {
        reason: reason::UNMAPPABLE,
    };
    assert_eq!(taken, [unmappable]);
    assert_eq!(store.condition(), Condition::Good);
    notes.0.lock().fails = false;
    ship(&ledger, 2, Priority::Live).await;
    assert_eq!(collect(&ledger, &store).await.last(), Some(&ACCEPTED));
    assert_eq!(noted(&store).await, ["m2"]);
}

#[tokio::test]
async fn a_step_of_the_node_is_durable_when_it_returns_and_one_that_fails_undoes_itself_alone() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), None);
    let write = |fails: bool| {
        let step = move |commit: &mut Commit<'_, '_>| {
            commit.tx().execute_batch(TABLE)?;
            commit
                .tx()
                .execute("INSERT INTO note (model) VALUES (?1)", [fails.to_string()])?;
            assert!(commit.ship(Priority::Live, Purpose::Operations, records("x"))?);
            match fails {
                true => Err(StoreError::new(StoreErrorKind::Refused, "a step")),
                false => Ok(7),
            }
        };
        store.in_commit(step)
    };
    let (bad, good, kept) = tokio::join!(write(true), write(false), store.append(sample("m1", 1)));
    assert_eq!(bad.unwrap_err().kind, StoreErrorKind::Refused);
    assert_eq!((good.unwrap(), kept.unwrap()), (7, Stored::New));
    assert_eq!(noted(&store).await, ["false"]);
}

#[tokio::test]
async fn a_full_facility_puts_off_what_comes_down_and_still_takes_what_is_urgent_in_order() {
    let (dir, above) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (notes, ledger) = (Notes::default(), start(above.path()).await);
    let store = Store::open(StoreOptions {
        handlers: Handlers::new().on::<DeviceRecords>(Arc::new(notes.clone())),
        bounds: Bounds {
            max: Size(1),
            alarm_reserve: Size(64 << 20),
        },
        ..options(dir.path(), hand())
    })
    .unwrap();
    ship(&ledger, 1, Priority::Alarm).await;
    ship(&ledger, 2, Priority::Live).await;
    ship(&ledger, 3, Priority::Live).await;
    meet_down(&ledger, &store).await;
    let verdicts = collect(&ledger, &store).await;
    assert_eq!(verdicts[0], ACCEPTED);
    let put_off = |verdict: &Verdict| matches!(verdict, Verdict::Deferred { .. });
    assert!(verdicts[1..].iter().all(put_off));
    assert_eq!(ledger.depths(&edge()).await.unwrap().0, [0, 2, 0]);
}

#[tokio::test]
async fn a_facility_that_was_put_back_is_known_to_lack_what_it_had_and_gets_what_is_new() {
    let (dir, above) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (notes, ledger) = (Notes::default(), start(above.path()).await);
    let store = open(dir.path(), Some(&notes));
    ship(&ledger, 1, Priority::Live).await;
    meet_down(&ledger, &store).await;
    collect(&ledger, &store).await;
    store.close().await;
    let backup = copy(dir.path());
    let store = open(dir.path(), Some(&notes));
    ship(&ledger, 2, Priority::Live).await;
    collect(&ledger, &store).await;
    store.close().await;
    assert!(ledger.lacking().await.unwrap().is_empty());

    let store = open(backup.path(), Some(&notes));
    assert_eq!(meet_down(&ledger, &store).await, 2, "a stream begins");
    assert_eq!(ledger.lacking().await.unwrap(), [edge()]);
    ship(&ledger, 3, Priority::Live).await;
    assert_eq!(collect(&ledger, &store).await, [ACCEPTED]);
    assert_eq!(noted(&store).await, ["m1", "m3"]);
    ledger.reshipped_to(&edge()).await.unwrap();
    assert!(ledger.lacking().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_facility_and_a_region_put_back_to_different_moments_declare_a_gap_when_the_region_tells_what_is_known_above()
 {
    let (dir, above) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(dir.path(), None);
    store.begin_log().await.unwrap();
    store.append(sample("m1", 1)).await.unwrap();
    store.close().await;
    let backup = copy(dir.path());
    let store = open(dir.path(), None);
    store.append(sample("m1", 2)).await.unwrap();
    let newest = store.head().await.unwrap();
    store.close().await;

    // The region is of before it heard anything, the facility of before its last reading.
    let store = open(backup.path(), None);
    let ledger = start(above.path()).await;
    meet_up(&store, &ledger).await;
    meet_down(&ledger, &store).await;
    assert!(store.gaps().await.unwrap().is_empty(), "nobody knows");
    let told = Envelope {
        from: Place::Global,
        to: region(),
        purpose: Purpose::Audit,
        body: AuditCheckpoint {
            heads: vec![newest],
        },
    };
    let rules = federation::policy::Rules::builtin().unwrap();
    let parcel = envelope::clear(&rules, told).unwrap().seal(
        EnvelopeId::from_bytes([9; 16]),
        Priority::Live,
        1,
    );
    let inbox = ledger.inbox(Uppers::new().on::<AuditCheckpoint>(ledger.keeps_heads()));
    let parcels = Intact::all([parcel]).unwrap();
    let taken = inbox.accept(&Place::Global, parcels).await.unwrap();
    assert_eq!(taken, [ACCEPTED]);

    let mut telling = Telling::default();
    telling.look(&ledger).await.unwrap();
    assert_eq!(collect(&ledger, &store).await, [ACCEPTED]);
    store.meets_again().await;
    assert_eq!(meet_up(&store, &ledger).await, 2);
    let cause = |gaps: Vec<federation::gap::Gap>| gaps.len();
    assert_eq!(cause(store.gaps().await.unwrap()), 1);
    assert_eq!(cause(ledger.gaps().await.unwrap()), 1);
    // The same head again is known, and is no other gap.
    let again = Telling::default().look(&ledger).await;
    again.unwrap();
    collect(&ledger, &store).await;
    assert_eq!(meet_up(&store, &ledger).await, 1);
    assert_eq!(cause(store.gaps().await.unwrap()), 1);
}

#[tokio::test]
async fn what_a_region_says_that_makes_no_sense_stops_no_facility() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), None);
    let hello = store.hello(&region()).await.unwrap();
    let mut huge = hello.clone();
    for sent in &mut huge.sent {
        sent.last = u64::MAX;
    }
    assert!(store.meet(&region(), &huge).await.is_err());
    let welcome = federation::wire::Welcome {
        received: vec![
            federation::wire::Received {
                last: u64::MAX,
                ..Default::default()
            };
            3
        ],
        ..Default::default()
    };
    assert!(store.resync(&region(), &welcome, [1; 16]).await.is_err());
    assert_eq!(store.append(sample("m1", 1)).await.unwrap(), Stored::New);
    assert_eq!(store.condition(), Condition::Good);
}
