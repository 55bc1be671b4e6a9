//! The ledger's outbox: what a node ships to the next tier and to the places below, kept until the receiver has it.
use super::{Inner, Ledger};
use crate::{
    audit::{self, Decision, Entry, heads},
    db::{Count, DbError, migrate},
    envelope::{Envelope, Refusal},
    inbox,
    meet::{Cause, Next},
    outbox::{self, Again, Load, Queued, Sender, is_below},
    port::{Depths, LeaseLimits, Outbox, PortError},
    wire::{Hello, Parcel, Receipt, Welcome},
};
use async_trait::async_trait;
use messages::Body;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::Notify;
use types::{EnvelopeId, Place, Priority};

const SCHEMA: &[&str] = &[
    "
CREATE TABLE IF NOT EXISTS outbox_known (
    n  INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE               -- an envelope that was shipped before
) STRICT;
",
    "
CREATE TABLE IF NOT EXISTS uplink_reship (
    only   INTEGER PRIMARY KEY CHECK (only = 0),
    wanted INTEGER NOT NULL               -- 1: the receiver may lack what was shipped before
) STRICT;
INSERT OR IGNORE INTO uplink_reship VALUES (0, 0);
",
    "
CREATE TABLE IF NOT EXISTS outbox_lacking (
    place TEXT PRIMARY KEY                -- below: it was put back, and may lack what was shipped to it before
) STRICT, WITHOUT ROWID;
",
];

/// Bodies that may wait for the link, in bytes. What a region sends upwards is device metadata and aggregates; this
/// is months of them.
pub const MAX_WAITING_BYTES: u64 = 1 << 30;
/// Bodies that may wait for one place below, in bytes: thousands of what is said to a facility. One that never comes back
/// takes no room from the others, nor from what goes up.
pub const MAX_WAITING_BELOW_BYTES: u64 = 16 << 20;
/// Envelope ids remembered to tell a second [`Ledger::ship`] of the same envelope from a first.
pub const MAX_KNOWN: u64 = 65_536;

/// What became of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shipped {
    /// Stored now; it goes when the link takes it.
    Queued(Queued),
    /// An envelope of this id was shipped before; nothing changed.
    Known,
    /// Against the rules; audited, not stored.
    Refused(Refusal),
}

pub(super) fn schema(conn: &Connection) -> Result<(), DbError> {
    migrate(conn, "uplink", SCHEMA)
}

impl Ledger {
    /// Clears an envelope, audits the decision and stores the sealed parcel, in one commit. The same id twice is one
    /// step: a caller that forwards what it received draws the id once and keeps it with its own record.
    ///
    /// # Errors
    /// [`PortError`]: nothing was stored; unavailable when [`MAX_WAITING_BYTES`] wait.
    pub async fn ship<T: Body>(
        &self,
        envelope: Envelope<T>,
        priority: Priority,
        id: EnvelopeId,
    ) -> Result<Shipped, PortError> {
        let to = envelope.to.clone();
        let outgoing = Outgoing {
            envelope,
            priority,
            id,
        };
        let step = move |inner: &Inner, tx: &Connection| {
            let shipped = ship(tx, inner, outgoing)?;
            audit::sign_head(tx, &inner.signer)?;
            Ok(shipped)
        };
        let shipped = self.step("ship", step).await?;
        if matches!(shipped, Shipped::Queued(_)) {
            self.inner.added.of(&to).notify_one();
        }
        Ok(shipped)
    }

    /// One bounded step of shipping again what the receiver did not take and may take now: how many parcels. Call it
    /// every second or so.
    ///
    /// # Errors
    /// [`PortError`]: nothing was shipped.
    pub async fn ship_again(&self) -> Result<usize, PortError> {
        let step = |inner: &Inner, tx: &Connection| {
            let mut draw = |id: &mut [u8]| rand::RngCore::fill_bytes(&mut rand::rng(), id);
            let now = (inner.now)();
            let again = outbox::ship_again(tx, &inner.rules, &inner.here, &mut draw, now)?;
            if again != Again::default() {
                audit::sign_head(tx, &inner.signer)?;
            }
            Ok(again.shipped)
        };
        let shipped = self.step("ship again", step).await?;
        if shipped > 0 {
            self.inner.added.notify_all();
        }
        Ok(shipped)
    }

    /// The link came up: what may be cured is shipped again soon.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn due_soon(&self) -> Result<(), PortError> {
        self.db.step("due soon", outbox::due_soon).await
    }

    /// Whether parcels of this node are held that the receiver did not take.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn any_held(&self) -> Result<bool, PortError> {
        self.db.step("held", outbox::any_held).await
    }

    /// Whether the receiver was put back and may lack what was shipped before: whoever has it is to ship it again, and
    /// then say so ([`Ledger::reshipped`]).
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn reship_wanted(&self) -> Result<bool, PortError> {
        let wanted = |tx: &Connection| {
            let sql = "SELECT wanted FROM uplink_reship";
            Ok(tx.query_row(sql, [], |row| row.get(0))?)
        };
        self.db.step("reship", wanted).await
    }

    /// Resolves when it may be wanted since the last call.
    pub async fn reship_asked(&self) {
        self.inner.reship.notified().await;
    }

    /// Everything was shipped again.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn reshipped(&self) -> Result<(), PortError> {
        let done = |tx: &Connection| Ok(tx.execute_batch("UPDATE uplink_reship SET wanted = 0")?);
        self.db.step("reship", done).await
    }

    /// The places below that were put back, or may have been: each may lack what was shipped to it and had its receipt.
    /// Whoever still has that ships it again, and then says so ([`Ledger::reshipped_to`]). [`Ledger::lacking_added`]
    /// resolves when there may be one.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn lacking(&self) -> Result<Vec<Place>, PortError> {
        let lacking = |tx: &Connection| {
            let mut query = tx.prepare_cached("SELECT place FROM outbox_lacking ORDER BY place")?;
            let texts = query.query_map([], |row| row.get::<_, String>(0))?;
            let places = texts.map(|text| {
                let place = text?.parse();
                place.map_err(|_| DbError::Corrupt("receiver of the outbox"))
            });
            places.collect::<Result<_, _>>()
        };
        self.db.step("lacking", lacking).await
    }

    /// Resolves when a place below may lack something since the last call.
    pub async fn lacking_added(&self) {
        self.inner.lacking.notified().await;
    }

    /// Everything that a place below may lack was shipped to it again.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn reshipped_to(&self, place: &Place) -> Result<(), PortError> {
        let place = place.to_string();
        let done = move |tx: &Connection| {
            tx.prepare_cached("DELETE FROM outbox_lacking WHERE place = ?1")?
                .execute([place])?;
            Ok(())
        };
        self.db.step("reshipped", done).await
    }

    /// The places below that have collected here, or for which something was shipped.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn below(&self) -> Result<Vec<Place>, PortError> {
        self.db.step("below", outbox::below).await
    }

    /// What waits.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn load(&self) -> Result<Load, PortError> {
        self.db.step("load", outbox::load).await
    }
}

/// Who waits for parcels, by receiver.
#[derive(Default)]
pub(super) struct Added(Mutex<BTreeMap<Place, Arc<Notify>>>);

impl Added {
    fn of(&self, to: &Place) -> Arc<Notify> {
        let mut waiting = self.0.lock();
        waiting.entry(to.clone()).or_default().clone()
    }

    pub(super) fn notify(&self, to: &BTreeSet<Place>) {
        to.iter().for_each(|place| self.of(place).notify_one());
    }

    fn notify_all(&self) {
        self.0.lock().values().for_each(|one| one.notify_one());
    }
}

/// Bodies that may wait for a receiver, in bytes.
const fn max_waiting_bytes(here: &Place, to: &Place) -> u64 {
    if is_below(to, here) {
        MAX_WAITING_BELOW_BYTES
    } else {
        MAX_WAITING_BYTES
    }
}

/// A message that goes out.
pub(super) struct Outgoing<T> {
    pub(super) envelope: Envelope<T>,
    pub(super) priority: Priority,
    /// Random, drawn once for each message.
    pub(super) id: EnvelopeId,
}

/// Whether less waits for a place than may.
pub(super) fn has_room(tx: &Connection, inner: &Inner, to: &Place) -> Result<bool, DbError> {
    Ok(outbox::load_for(tx, to)?.bytes < max_waiting_bytes(&inner.here, to))
}

/// Ships in the caller's transaction; after it the audit log's head is signed.
pub(super) fn ship<T: Body>(
    tx: &Connection,
    inner: &Inner,
    outgoing: Outgoing<T>,
) -> Result<Shipped, DbError> {
    let Outgoing {
        envelope,
        priority,
        id,
    } = outgoing;
    let known = tx
        .prepare_cached("SELECT 1 FROM outbox_known WHERE id = ?1")?
        .exists([id.as_bytes()])?;
    if known {
        return Ok(Shipped::Known);
    }
    if !has_room(tx, inner, &envelope.to)? {
        return Err(DbError::Full);
    }
    match outbox::ship(tx, &inner.rules, envelope, priority, id, (inner.now)())? {
        Err(refusal) => Ok(Shipped::Refused(refusal)),
        Ok(queued) => {
            let Count(n) = tx
                .prepare_cached("INSERT INTO outbox_known (id) VALUES (?1) RETURNING n")?
                .query_row([id.as_bytes()], |row| row.get(0))?;
            tx.prepare_cached("DELETE FROM outbox_known WHERE n <= ?1")?
                .execute([Count(n.saturating_sub(MAX_KNOWN))])?;
            Ok(Shipped::Queued(queued))
        }
    }
}

/// What a node sends upwards is made of what it keeps for itself, so that nothing is lost while that is there: it is
/// shipped again by whoever has it ([`Ledger::reship_wanted`]). So is what it sends down ([`Ledger::lacking`]): a node that
/// was put back, and has no parcel there that it does not know of, has lost nothing between the two.
fn resync(
    tx: &Connection,
    inner: &Inner,
    to: &Place,
    welcome: &Welcome,
    fresh: [u8; 16],
) -> Result<Option<Hello>, DbError> {
    let sender = Sender {
        place: &inner.here,
        to,
        signer: &inner.signer,
        now: (inner.now)(),
    };
    let mut begun = match outbox::judge(tx, &sender, welcome)? {
        Next::Flow => {
            heads::keep(tx, &welcome.head)?;
            return Ok(None);
        }
        Next::Introduce => return outbox::introduce(tx, to).map(Some),
        Next::Begin(begun) => begun,
    };
    if begun.cause.is_of_sender() {
        inbox::doubt(tx, to)?;
    }
    let is_up = !is_below(to, &inner.here);
    if is_up {
        tx.execute_batch("UPDATE uplink_reship SET wanted = 1")?;
    } else {
        tx.prepare_cached("INSERT OR IGNORE INTO outbox_lacking (place) VALUES (?1)")?
            .execute([to.to_string()])?;
    }
    let loss = inbox::uncounted(begun.unknown_parcels);
    if !is_up && begun.is_told_by_log_alone {
        let event = (&inner.here, to);
        let why = begun.cause.as_str();
        let entry = Entry::of_event(sender.now, Decision::PutBack, why, event, 0);
        audit::append(tx, &entry)?;
        begun.cause = Cause::Resumed;
    }
    let said = outbox::begin(tx, &sender, &begun, loss, fresh, welcome)?;
    inner.leases.lock().release(to);
    let lacking = if is_up { &inner.reship } else { &inner.lacking };
    lacking.notify_one();
    Ok(Some(said))
}

#[async_trait]
impl Outbox for Ledger {
    async fn hello(&self, to: &Place) -> Result<Hello, PortError> {
        let (here, to) = (self.inner.here.clone(), to.clone());
        self.db
            .step("hello", move |tx| {
                outbox::know(tx, &here, &to)?;
                outbox::hello(tx, &to)
            })
            .await
    }

    async fn resync(
        &self,
        to: &Place,
        welcome: &Welcome,
        fresh: [u8; 16],
    ) -> Result<Option<Hello>, PortError> {
        let (to, welcome, held) = (to.clone(), welcome.clone(), welcome.held.clone());
        let said = self
            .step("resync", move |inner, tx| {
                resync(tx, inner, &to, &welcome, fresh)
            })
            .await?;
        self.keep_witness(held).await?;
        Ok(said)
    }

    async fn lease(
        &self,
        to: &Place,
        priority: Priority,
        limits: LeaseLimits,
    ) -> Result<Vec<Parcel>, PortError> {
        let to = to.clone();
        self.step("lease", move |inner, tx| {
            let mut leases = inner.leases.lock();
            let after = leases.after(&to, priority);
            let parcels = outbox::lease_from(tx, &to, priority, after, limits)?;
            leases.take(&to, priority, &parcels);
            Ok(parcels)
        })
        .await
    }

    async fn settle(&self, to: &Place, receipts: Vec<Receipt>) -> Result<(), PortError> {
        let to = to.clone();
        let settled = self
            .step("settle", move |inner, tx| {
                let settled = outbox::settle(tx, (&inner.here, &to), &receipts, (inner.now)())?;
                if settled.held() > 0 {
                    audit::sign_head(tx, &inner.signer)?;
                }
                inner.leases.lock().settle(&to, &receipts);
                Ok(settled)
            })
            .await?;
        settled.tell();
        Ok(())
    }

    async fn release(&self, to: &Place) -> Result<(), PortError> {
        self.inner.leases.lock().release(to);
        self.inner.added.of(to).notify_one();
        Ok(())
    }

    async fn depths(&self, to: &Place) -> Result<Depths, PortError> {
        let to = to.clone();
        self.db
            .step("depths", move |tx| outbox::depths(tx, &to))
            .await
    }

    async fn added(&self, to: &Place) {
        self.inner.added.of(to).notified().await;
    }
}
