//! What was not taken is shipped again until it is, by a sender and a receiver that meet in memory.
use super::super::{Held, depths, held, lease_from, release, schema, settle, ship};
use super::*;
use crate::envelope::Envelope;
use crate::outbox::{Decided, Settled, discard};
use crate::port::LeaseLimits;
use crate::wire::{Outcome, Receipt};
use messages::{DeviceRecord, DeviceRecords};
use std::collections::BTreeMap;
use types::Purpose;

const ALL: LeaseLimits = LeaseLimits {
    parcels: 1_000,
    bytes: usize::MAX,
};

fn me() -> Place {
    "edge/us/us/us-f1".parse().unwrap()
}

fn there() -> Place {
    "regional/us/us".parse().unwrap()
}

/// What the receiver says of a parcel: accepted in whole, or not for a reason.
type Judge = fn(&Parcel) -> Option<&'static str>;

struct Sender {
    db: Connection,
    rules: Rules,
    now: Timestamp,
    drawn: u64,
    /// How often the receiver took each body.
    taken: BTreeMap<Vec<u8>, usize>,
}

impl Sender {
    fn new() -> Self {
        let db = Connection::open_in_memory().unwrap();
        audit::schema(&db).unwrap();
        schema(&db).unwrap();
        Self {
            db,
            rules: Rules::builtin().unwrap(),
            now: Timestamp(1_000),
            drawn: 0,
            taken: BTreeMap::new(),
        }
    }

    fn put(&mut self, priority: Priority, count: u64) {
        for _ in 0..count {
            self.drawn += 1;
            let record = DeviceRecord {
                model: self.drawn.to_string(),
                ..DeviceRecord::default()
            };
            let envelope = Envelope {
                from: me(),
                to: "regional/us/us".parse().unwrap(),
                purpose: Purpose::Operations,
                body: DeviceRecords {
                    devices: vec![record],
                    ..DeviceRecords::default()
                },
            };
            let id = EnvelopeId::from_bytes([u8::try_from(self.drawn).unwrap(); 16]);
            let shipped = ship(&self.db, &self.rules, envelope, priority, id, self.now);
            shipped.unwrap().unwrap();
        }
    }

    /// Everything that waits is delivered and answered.
    fn deliver(&mut self, judge: Judge) -> Settled {
        let mut sum = Settled::default();
        for priority in Priority::ALL {
            let parcels = lease_from(&self.db, &there(), priority, 0, ALL).unwrap();
            let receipts: Vec<_> = parcels.iter().map(|one| self.answer(one, judge)).collect();
            sum.add(settle(&self.db, (&me(), &there()), &receipts, self.now).unwrap());
        }
        sum
    }

    fn answer(&mut self, parcel: &Parcel, judge: Judge) -> Receipt {
        let reason = judge(parcel);
        let outcome = match reason {
            None => Outcome::Accepted,
            Some("unmappable") => Outcome::Quarantined,
            Some(_) => Outcome::Refused,
        };
        if reason.is_none() {
            *self.taken.entry(parcel.body.to_vec()).or_default() += 1;
        }
        Receipt {
            id: parcel.id.clone(),
            priority: parcel.priority,
            seq: parcel.seq,
            digest: parcel.digest.clone(),
            outcome: outcome.into(),
            reason: reason.unwrap_or_default().into(),
            stored: u32::from(reason.is_none()),
            ..Receipt::default()
        }
    }

    fn step(&mut self) -> usize {
        let drawn = &mut self.drawn;
        let mut draw = |id: &mut [u8]| {
            *drawn += 1;
            id[..8].copy_from_slice(&drawn.to_be_bytes());
        };
        let again = ship_again(&self.db, &self.rules, &me(), &mut draw, self.now);
        again.unwrap().shipped
    }

    fn wait(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
    }

    fn held(&self) -> Vec<Held> {
        held(&self.db, 0, 1_000).unwrap()
    }
}

#[test]
fn a_parcel_is_shipped_again_after_ever_longer_waits_until_it_is_taken_once() {
    let mut sender = Sender::new();
    sender.put(Priority::Live, 1);
    sender.deliver(|_| Some("policy"));
    let first = sender.held().remove(0);
    assert!(!first.under_way);
    assert_eq!(sender.step(), 0, "not before its time");
    let mut waits = Vec::new();
    for _ in 0..9 {
        let due = sender.held()[0].due.unwrap();
        waits.push((due.0 - sender.now.0) / 1_000);
        sender.now = due;
        assert_eq!(sender.step(), 1);
        assert_eq!(sender.step(), 0, "it is under way");
        let under_way = sender.held().remove(0);
        assert!(under_way.under_way);
        assert_eq!(under_way.parcel.body, first.parcel.body);
        assert_ne!(under_way.parcel.id, first.parcel.id);
        assert_eq!(under_way.parcel.priority, 2, "what is late is backlog");
        let settled = sender.deliver(|_| Some("policy"));
        assert_eq!(settled.untaken, [(Priority::Live, 1)]);
        let held = sender.held().remove(0);
        assert_eq!((held.number, held.origin), (first.number, first.origin));
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    sender.wait(300_000);
    assert_eq!(sender.step(), 1);
    let settled = sender.deliver(|_| None);
    assert_eq!(
        (settled.accepted, settled.cured),
        (1, vec![(Priority::Live, 1)])
    );
    assert!(sender.held().is_empty());
    assert!(sender.taken.values().all(|times| *times == 1));
}

#[test]
fn what_cannot_be_cured_waits_for_a_person() {
    let mut sender = Sender::new();
    sender.put(Priority::Live, 2);
    sender.deliver(|_| Some("wrong-sender"));
    sender.wait(1 << 40);
    due_soon(&sender.db).unwrap();
    assert_eq!(sender.step(), 0);
    let [first, second] = &sender.held()[..] else {
        panic!("two are held")
    };
    assert_eq!((first.due, second.due), (None, None));
    let released = release(&sender.db, &me(), first.number, sender.now).unwrap();
    assert_eq!(released, Decided::Done(Priority::Live, 1));
    let discarded = discard(&sender.db, &me(), second.number, sender.now).unwrap();
    assert_eq!(discarded, Decided::Done(Priority::Live, 2));
    let missing = discard(&sender.db, &me(), second.number, sender.now).unwrap();
    assert_eq!(missing, Decided::Missing);
    assert_eq!(sender.step(), 1);
    let under_way = discard(&sender.db, &me(), first.number, sender.now).unwrap();
    assert_eq!(under_way, Decided::UnderWay);
    sender.deliver(|_| None);
    assert!(sender.held().is_empty());
    let rows = audit::list(&sender.db, 0, 100).unwrap();
    let of_a_person: Vec<_> = rows
        .iter()
        .map(|(_, row)| row.decision())
        .filter(|one| matches!(one, Decision::Released | Decision::Discarded))
        .collect();
    assert_eq!(of_a_person, [Decision::Released, Decision::Discarded]);
}

#[test]
fn few_are_tried_until_one_is_taken_and_then_all_of_its_reason_follow() {
    let mut sender = Sender::new();
    sender.put(Priority::Live, 20);
    sender.put(Priority::Alarm, 3);
    let refused: Judge = |parcel| {
        Some(match parcel.priority {
            0 => "unmappable",
            _ => "policy",
        })
    };
    sender.deliver(refused);
    assert_eq!(sender.held().len(), 23);
    sender.wait(5_000);
    assert_eq!(sender.step(), PROBES);
    sender.deliver(refused);
    assert_eq!(sender.step(), PROBES);
    // The policy was mended; the codes of the alarms are still unknown.
    let mended: Judge = |parcel| (parcel.priority == 0).then_some("unmappable");
    sender.deliver(mended);
    while sender.step() > 0 {
        sender.deliver(mended);
    }
    let reasons: Vec<_> = sender.held().iter().map(|held| held.reason).collect();
    assert_eq!(reasons, ["unmappable"; 3]);
    due_soon(&sender.db).unwrap();
    assert_eq!(sender.step(), 3);
    sender.deliver(|_| None);
    assert!(sender.held().is_empty());
    assert_eq!(sender.taken.len(), 23);
    assert!(sender.taken.values().all(|times| *times == 1));
    assert_eq!(depths(&sender.db, &there()).unwrap().0, [0; 3]);
}

#[test]
fn what_the_rules_of_the_sender_keep_back_now_is_not_shipped_again() {
    let mut sender = Sender::new();
    sender.put(Priority::Live, 1);
    sender.deliver(|_| Some("policy"));
    let dir = tempfile::tempdir().unwrap();
    for jurisdiction in ["us", "eu", "apac"] {
        let file = dir.path().join(format!("{jurisdiction}.cedar"));
        std::fs::write(file, "forbid(principal, action, resource);").unwrap();
    }
    let open = std::mem::replace(&mut sender.rules, Rules::load(Some(dir.path())).unwrap());
    sender.wait(5_000);
    assert_eq!(sender.step(), 0);
    assert_eq!(depths(&sender.db, &there()).unwrap().0, [0; 3]);
    let held = sender.held().remove(0);
    assert_eq!((held.tries, held.under_way), (1, false));
    sender.rules = open;
    sender.now = held.due.unwrap();
    assert_eq!(sender.step(), 1);
    sender.deliver(|_| None);
    assert!(sender.held().is_empty());
}

#[test]
fn what_an_earlier_version_held_is_tried_if_it_may_be_cured() {
    let mut sender = Sender::new();
    sender.put(Priority::Live, 2);
    sender.deliver(|_| Some("policy"));
    // As version 1 left it: the new columns have what the migration gives them.
    let sql = "UPDATE outbox_refused SET tries = 0, due_ms = 1, origin = NULL;
               UPDATE outbox_refused SET reason = 'conflict' WHERE n = 2";
    sender.db.execute_batch(sql).unwrap();
    schema(&sender.db).unwrap();
    assert_eq!(sender.step(), 1);
    let settled = sender.deliver(|_| None);
    assert_eq!(settled.cured, [(Priority::Live, 1)]);
    let left = sender.held().remove(0);
    assert_eq!((left.reason, left.due), ("conflict", None));
}
