//! A simulated link: what is under way lies here, in the order in which it was sent, until it is told to arrive. Sender
//! and receiver are the product's: windows and receipts are checked by [`Flight`], parcels are answered by [`Door`].
use federation::{
    envelope::{self, Intact},
    link::{
        Door,
        flight::{Flight, Landed},
    },
    port::Outbox,
    reason,
    wire::{Outcome, Parcel, Receipt},
};
use messages::{ReadingBatch, reading};
use std::collections::BTreeSet;
use types::{Place, Priority};

/// The values of a batch.
pub fn values(batch: &ReadingBatch) -> impl Iterator<Item = &str> {
    let readings = batch.readings.iter();
    readings.filter_map(|reading| match &reading.value {
        Some(reading::Value::Quantity(text)) => Some(text.as_str()),
        _ => None,
    })
}

/// Draws the id of a stream.
pub type Draw = fn() -> [u8; 16];

/// Times that a sender says where it stands on one connection, as the product's does.
const MAX_HELLOS: usize = 4;

/// Both ends say where they stand, until they agree: whether they do.
async fn meet(outbox: &dyn Outbox, from: &Place, door: &Door, draw: Draw) -> bool {
    let Ok(mut hello) = outbox.hello(&door.here).await else {
        return false;
    };
    for _ in 0..MAX_HELLOS {
        let Ok(welcome) = door.inbox.meet(from, &hello).await else {
            return false;
        };
        match outbox.resync(&door.here, &welcome, draw()).await {
            Ok(None) => return true,
            Ok(Some(next)) => hello = next,
            Err(_) => return false,
        }
    }
    false
}

/// Parcels that a receiver takes in one step, as the product's does.
const BATCH: usize = 64;

/// The link from a node to the next tier.
pub struct Wire {
    /// Whether there is a connection.
    pub up: bool,
    flight: Flight,
    /// Parcels under way.
    pub going: Vec<Parcel>,
    /// Receipts under way.
    coming: Vec<Receipt>,
    /// What connections had under way that broke: it may still arrive until the next one begins, and nobody hears the
    /// answer.
    pub late: Vec<Parcel>,
    /// What the receiver does not know yet: kinds are changed on their way to it.
    pub older: bool,
    /// Whether both ends have said where they stand, on this connection.
    met: bool,
    /// Who receives; none before the first connection.
    there: Option<Place>,
    /// Values that the receiver did not take when they first came: what is shipped again comes behind what is newer.
    pub detained: BTreeSet<String>,
    /// Whether the receiver did not take something when it first came.
    pub has_detained: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            up: true,
            flight: Flight::default(),
            going: Vec::new(),
            coming: Vec::new(),
            late: Vec::new(),
            older: false,
            met: false,
            there: None,
            detained: BTreeSet::new(),
            has_detained: false,
        }
    }
}

impl Wire {
    /// Sends what there is room for, the most urgent first, once both ends have met.
    pub async fn send(&mut self, outbox: &dyn Outbox, from: &Place, door: &Door, draw: Draw) {
        if !self.up {
            return;
        }
        if !self.met {
            // Whoever has met takes nothing any more that an older connection had under way.
            self.late.clear();
            self.there = Some(door.here.clone());
            self.met = meet(outbox, from, door, draw).await;
            if !self.met {
                return;
            }
        }
        for priority in Priority::ALL {
            loop {
                let Some(room) = self.flight.room(priority) else {
                    return;
                };
                let Ok(leased) = outbox.lease(&door.here, priority, room).await else {
                    self.cut(outbox).await;
                    return;
                };
                if leased.is_empty() {
                    break;
                }
                for parcel in leased {
                    self.flight.depart(priority, &parcel);
                    self.going.push(parcel);
                }
            }
        }
    }

    /// So many parcels arrive (all of them: 0) and are answered.
    pub async fn deliver(&mut self, from: &Place, door: &Door, count: usize) {
        let all = self.going.len();
        let count = if count == 0 { all } else { count.min(all) };
        let arriving: Vec<_> = self.going.drain(..count).collect();
        for batch in arriving.chunks(BATCH) {
            let receipts = self.arrive(from, door, batch).await;
            self.coming.extend(receipts);
        }
    }

    /// What broken connections had under way arrives.
    pub async fn deliver_late(&mut self, from: &Place, door: &Door) {
        let late = std::mem::take(&mut self.late);
        for batch in late.chunks(BATCH) {
            self.arrive(from, door, batch).await;
        }
    }

    async fn arrive(&mut self, from: &Place, door: &Door, batch: &[Parcel]) -> Vec<Receipt> {
        let parcels = batch.iter().map(|parcel| self.as_known(parcel)).collect();
        let receipts = door.answer(from, parcels).await;
        for (parcel, receipt) in batch.iter().zip(&receipts) {
            let taken = matches!(receipt.outcome(), Outcome::Accepted | Outcome::Deferred);
            self.has_detained |= !taken;
            let opened = Intact::new(parcel.clone()).map(|it| envelope::open::<ReadingBatch>(&it));
            if let (false, Some(Ok(batch))) = (taken, opened) {
                self.detained.extend(values(&batch).map(str::to_owned));
            }
        }
        receipts
    }

    /// The receipts that are under way.
    #[must_use]
    pub fn answered(&self) -> &[Receipt] {
        &self.coming
    }

    /// The receipts arrive and are settled; says whether any was final.
    pub async fn answer(&mut self, outbox: &dyn Outbox, door: &Door) -> bool {
        let (mut good, mut bad, mut is_final) = (Vec::new(), false, false);
        for receipt in std::mem::take(&mut self.coming) {
            let key = door.key.verifying_key();
            match self.flight.land(&receipt, &door.here.to_string(), &key) {
                Ok(Landed::Known) => {}
                Ok(landed) => {
                    bad |= receipt.reason == reason::OTHER_STREAM;
                    is_final |= matches!(landed, Landed::Final(_));
                    good.push(receipt);
                }
                Err(_) => bad = true,
            }
        }
        if bad || (!good.is_empty() && outbox.settle(&door.here, good).await.is_err()) {
            self.cut(outbox).await;
        }
        is_final
    }

    /// The connection breaks. The next one begins with what has no receipt.
    pub async fn cut(&mut self, outbox: &dyn Outbox) {
        self.coming.clear();
        self.late.append(&mut self.going);
        self.flight = Flight::default();
        self.met = false;
        // A store that is closed has no leases either.
        if let Some(there) = &self.there {
            let _released = outbox.release(there).await;
        }
    }

    /// Both ends were killed.
    pub fn vanish(&mut self) {
        self.going.clear();
        self.coming.clear();
        self.late.clear();
        self.flight = Flight::default();
        self.met = false;
    }

    /// The receiver was killed: what was under way to it is gone.
    pub async fn lose(&mut self, outbox: &dyn Outbox) {
        self.cut(outbox).await;
        self.late.clear();
    }

    /// A parcel as its receiver sees it: of a kind that an older receiver has no name for.
    fn as_known(&self, parcel: &Parcel) -> Parcel {
        let mut parcel = parcel.clone();
        if self.older {
            parcel.kind.push_str("Next");
        }
        parcel
    }
}
