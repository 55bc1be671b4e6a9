//! The other end of the link, and the adversary between the two.
use super::{Ports, Side, number};
use crate::{
    audit::Signer,
    blobs::{Blobs, Files},
    envelope::{self, Envelope, Intact},
    ledger::{Handler, Handlers, Ledger},
    policy::Rules,
    port::{Arrival, Inbox, LeaseLimits, Outbox, PortError, Verdict},
    wire::{Outcome, Parcel, Receipt},
};
use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use messages::{Body, DeviceRecord, DeviceRecords};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::{path::Path, sync::Arc};
use types::{EnvelopeId, Place, Priority, Purpose, Timestamp};

/// When every case happens.
const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Rounds of a line after which everything must have arrived: every parcel is held up by chance only.
const MAX_ROUNDS: usize = 2_000;

/// Takes in numbers.
#[derive(Clone, Default)]
struct Takes(Arc<Mutex<Vec<u32>>>);

#[async_trait]
impl Handler for Takes {
    async fn apply(&self, _: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::new();
        for parcel in parcels {
            let records = envelope::open::<DeviceRecords>(parcel);
            let records = records.unwrap_or_default();
            let models = records.devices.iter();
            let numbers = models.filter_map(|device| number(&device.model));
            let mut taken = self.0.lock();
            for number in numbers {
                assert!(!taken.contains(&number), "{number} was applied twice");
                taken.push(number);
            }
            let stored = records.count();
            verdicts.push(Verdict::Accepted { stored });
        }
        Ok(verdicts)
    }
}

/// The node at the other end: a ledger.
pub(super) struct Peer {
    pub(super) place: Place,
    pub(super) ledger: Ledger,
    pub(super) blobs: Arc<Blobs<Ledger>>,
    takes: Takes,
}

impl Peer {
    pub(super) async fn of(side: &dyn Side, dir: &Path) -> Self {
        let place = side.peer();
        let signer = Signer::new(&place, SigningKey::from_bytes(&[8; 32]));
        let rules = Rules::builtin().expect("the built-in rules");
        let path = dir.join("peer.db");
        let ledger = Ledger::open(&path, place.clone(), rules, signer, Arc::new(|| NOW));
        let ledger = ledger.expect("a ledger");
        ledger.begin_log().await.expect("a log");
        let files = Files::open(&dir.join("peer-blobs")).expect("a folder");
        let blobs = Arc::new(Blobs::new(ledger.clone(), Arc::new(files)));
        Self {
            place,
            ledger,
            blobs,
            takes: Takes::default(),
        }
    }

    pub(super) fn inbox(&self) -> Arc<dyn Inbox> {
        let handlers = Handlers::new().on::<DeviceRecords>(self.takes.clone());
        Arc::new(self.ledger.inbox(handlers))
    }

    pub(super) fn taken(&self) -> Vec<u32> {
        self.takes.0.lock().clone()
    }

    pub(super) async fn ship(&self, to: &Place, priority: Priority, number: u32) {
        let envelope = Envelope {
            from: self.place.clone(),
            to: to.clone(),
            purpose: Purpose::Operations,
            body: records(number),
        };
        let mut id = [9; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let shipped = self
            .ledger
            .ship(envelope, priority, EnvelopeId::from_bytes(id));
        shipped.await.expect("it is shipped");
    }
}

/// A message that says a number.
pub(super) fn records(number: u32) -> DeviceRecords {
    DeviceRecords {
        devices: vec![DeviceRecord {
            model: super::model(number),
            ..DeviceRecord::default()
        }],
        ..DeviceRecords::default()
    }
}

/// One direction: a sender and its receiver, who meet before anything flows.
pub(super) struct Line<'a> {
    pub(super) from: &'a Place,
    pub(super) to: &'a Place,
    pub(super) outbox: &'a dyn Outbox,
    pub(super) inbox: &'a dyn Inbox,
    pub(super) gate: &'a dyn crate::port::Gate,
}

/// What a lease takes when nothing else is asked.
pub(super) const LIMITS: LeaseLimits = LeaseLimits {
    parcels: 1_000,
    bytes: 64 << 20,
};

impl Line<'_> {
    /// The two say where they stand until they agree.
    pub(super) async fn meet(&self) {
        let mut hello = self.outbox.hello(self.to).await.expect("a hello");
        for turn in 1_u8..5 {
            let welcome = self.inbox.meet(self.from, &hello).await.expect("a welcome");
            let next = self.outbox.resync(self.to, &welcome, [turn; 16]).await;
            match next.expect("they compare") {
                None => return,
                Some(next) => hello = next,
            }
        }
        panic!("they do not come to agree");
    }

    /// What waits in a priority, no more than `most`; given back at once.
    pub(super) async fn waiting(&self, priority: Priority, most: usize) -> Vec<Parcel> {
        let limits = LeaseLimits {
            parcels: most,
            ..LIMITS
        };
        let leased = self.outbox.lease(self.to, priority, limits).await;
        let leased = leased.expect("a lease");
        self.outbox
            .release(self.to)
            .await
            .expect("it is given back");
        leased
    }

    /// Judged and taken in, as the link has it done: a verdict for each.
    pub(super) async fn deliver(&self, parcels: Vec<Parcel>) -> Vec<Verdict> {
        let arrival = |parcel| Arrival {
            parcel,
            fault: None,
        };
        let mut arrivals: Vec<_> = parcels.into_iter().map(arrival).collect();
        let judged = self.gate.admit(self.from, &mut arrivals).await;
        judged.expect("they are judged");
        let good = arrivals.iter().filter(|it| it.fault.is_none());
        let good = Intact::all(good.map(|it| it.parcel.clone()));
        let good = good.expect("nothing was altered on its way");
        let taken = self.inbox.accept(self.from, good).await;
        let mut taken = taken.expect("they are taken").into_iter();
        let verdict = |it: &Arrival| match it.fault {
            Some(reason) => Verdict::Refused { reason },
            None => taken.next().expect("a verdict for each"),
        };
        arrivals.iter().map(verdict).collect()
    }

    /// Tells the sender what became of parcels.
    pub(super) async fn settle(&self, parcels: &[Parcel], verdicts: &[Verdict]) {
        let receipts = parcels.iter().zip(verdicts);
        let receipts = receipts.map(|(parcel, verdict)| receipt(parcel, verdict, self.to));
        let settled = self.outbox.settle(self.to, receipts.collect()).await;
        settled.expect("they are settled");
    }

    async fn is_empty(&self) -> bool {
        self.outbox.depths(self.to).await.expect("depths").0 == [0; 3]
    }

    /// Lets a bad line carry everything: batches are halved, parcels reordered and sent again, receipts lost.
    pub(super) async fn carry_badly(&self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut before: Vec<Parcel> = Vec::new();
        for _ in 0..MAX_ROUNDS {
            if self.is_empty().await {
                return;
            }
            let priority = Priority::ALL[rng.random_range(0..3)];
            let mut batch = self.waiting(priority, rng.random_range(1..5)).await;
            let sent = batch.clone();
            if rng.random_bool(0.3) {
                batch.extend(before.iter().cloned());
            }
            if rng.random_bool(0.3) {
                batch.shuffle(&mut rng);
            }
            if rng.random_bool(0.3) {
                batch.truncate(batch.len().div_ceil(2));
            }
            let verdicts = self.deliver(batch.clone()).await;
            if rng.random_bool(0.7) {
                let known = |parcel: &&Parcel| sent.iter().any(|own| own.id == parcel.id);
                let (own, told): (Vec<_>, Vec<_>) = batch
                    .iter()
                    .zip(&verdicts)
                    .filter(|(parcel, _)| known(parcel))
                    .map(|(parcel, verdict)| (parcel.clone(), verdict.clone()))
                    .unzip();
                self.settle(&own, &told).await;
            }
            before = sent;
        }
        panic!("something never arrives");
    }
}

/// What the receiver says of a parcel. The link has verified its signature before it is settled.
fn receipt(parcel: &Parcel, verdict: &Verdict, receiver: &Place) -> Receipt {
    let (outcome, reason, stored) = match verdict {
        Verdict::Accepted { stored } => (Outcome::Accepted, "", *stored),
        Verdict::Quarantined { reason } => (Outcome::Quarantined, *reason, 0),
        Verdict::Refused { reason } => (Outcome::Refused, *reason, 0),
        Verdict::Deferred { reason } => (Outcome::Deferred, *reason, 0),
    };
    Receipt {
        id: parcel.id.clone(),
        priority: parcel.priority,
        seq: parcel.seq,
        digest: parcel.digest.clone(),
        outcome: outcome.into(),
        reason: reason.into(),
        receiver: receiver.to_string(),
        stored,
        ..Receipt::default()
    }
}

/// Up: from the side to its peer.
pub(super) fn up<'a>(
    (here, ports): (&'a Place, &'a Ports),
    peer: &'a Peer,
    inbox: &'a dyn Inbox,
) -> Line<'a> {
    Line {
        from: here,
        to: &peer.place,
        outbox: ports.outbox.as_ref(),
        inbox,
        gate: &peer.ledger,
    }
}

/// Down: from the peer to the side.
pub(super) fn down<'a>((here, ports): (&'a Place, &'a Ports), peer: &'a Peer) -> Line<'a> {
    Line {
        from: &peer.place,
        to: here,
        outbox: &peer.ledger,
        inbox: ports.inbox.as_ref(),
        gate: ports.gate.as_ref(),
    }
}
