//! The store's use of `federation`'s tables: parcels shipped, receipts settled, decisions audited, in its own commits.
use super::{StoreError, StoreErrorKind, shipped};
use crate::clockguard::Now;
use federation::{
    audit::{self, Entry, Signer},
    envelope::{Envelope, clear},
    identity::Identity,
    inbox,
    outbox::{self, Reserved},
    policy::Rules,
    wire::Receipt,
};
use messages::{Body, Classified, ReadingBatch};
use rusqlite::{Connection, Transaction};
use std::sync::Arc;
use types::{EnvelopeId, Place, Priority, Purpose};

/// Live parcels that wait for a receipt: as many as the link has under way at once. With more of them the region does
/// not keep up, and what is measured is backlog.
pub(super) const MAX_LIVE_PARCELS: u64 = 256;

/// What parcels are made with.
pub(super) struct Parcels {
    rules: Arc<Rules>,
    signer: Signer,
    from: Place,
    to: Place,
    entropy: super::Entropy,
    /// Parcels that waited when this commit began, by priority.
    waiting: [u64; 3],
    audited: bool,
}

impl Parcels {
    pub(super) fn new(
        rules: Arc<Rules>,
        signer: Signer,
        (from, to): (Place, Place),
        entropy: super::Entropy,
    ) -> Self {
        Self {
            rules,
            signer,
            from,
            to,
            entropy,
            waiting: [0; 3],
            audited: false,
        }
    }

    /// Begins a commit: reads how much waits.
    pub(super) fn begin(&mut self, tx: &Transaction<'_>) -> Result<(), StoreError> {
        self.audited = false;
        self.waiting = outbox::depths(tx, &self.to)?.0;
        Ok(())
    }

    /// With which priority routine samples go out now. A link that hangs takes seconds to be known as down; what is
    /// measured until then must not stand before what will be live when it is back.
    pub(super) fn routine(&self, link_up: bool) -> Priority {
        let live = Priority::Live.of(&self.waiting);
        if link_up && *live < MAX_LIVE_PARCELS {
            Priority::Live
        } else {
            Priority::Backlog
        }
    }

    /// Whether the rules let readings leave.
    pub(super) fn may_leave(&self) -> bool {
        let asked = self
            .rules
            .decide(ReadingBatch::CLASS, &self.from, &self.to, Purpose::Care);
        asked.is_ok()
    }

    /// The place of the next parcel of readings in a priority; none when the rules refuse it.
    pub(super) fn reserve(
        &self,
        tx: &Transaction<'_>,
        priority: Priority,
    ) -> Result<Option<Reserved>, StoreError> {
        if !self.may_leave() {
            return Ok(None);
        }
        let reserved = outbox::reserve(tx, (&self.from, &self.to), priority)?;
        Ok(Some(reserved))
    }

    fn envelope<T: Body>(&mut self, purpose: Purpose, body: T) -> (Envelope<T>, EnvelopeId) {
        let mut id = [0; 16];
        (self.entropy)(&mut id);
        self.audited = true;
        let envelope = Envelope {
            from: self.from.clone(),
            to: self.to.clone(),
            purpose,
            body,
        };
        (envelope, EnvelopeId::from_bytes(id))
    }

    /// Puts readings at the place that was given out for them.
    pub(super) fn fill(
        &mut self,
        tx: &Transaction<'_>,
        reserved: Reserved,
        batch: ReadingBatch,
        now: &Now,
    ) -> Result<i64, StoreError> {
        let (envelope, id) = self.envelope(Purpose::Care, batch);
        let cleared = clear(&self.rules, envelope).map_err(|_| {
            let op = "ship: the rules changed within a commit";
            StoreError::new(StoreErrorKind::Internal, op)
        })?;
        let queued = outbox::fill(tx, reserved, cleared, id, now.real)?;
        Ok(i64::try_from(queued.seq).unwrap_or(i64::MAX))
    }

    /// Clears, audits and stores a message. Its sequence, or none when the rules refused it (which is audited).
    pub(super) fn ship<T: Body>(
        &mut self,
        tx: &Transaction<'_>,
        priority: Priority,
        purpose: Purpose,
        body: T,
        now: &Now,
    ) -> Result<Option<i64>, StoreError> {
        let (envelope, id) = self.envelope(purpose, body);
        match outbox::ship(tx, &self.rules, envelope, priority, id, now.real)? {
            Ok(queued) => Ok(Some(i64::try_from(queued.seq).unwrap_or(i64::MAX))),
            Err(refusal) => {
                tracing::error!(reason = refusal.reason(), "the rules keep a parcel back");
                Ok(None)
            }
        }
    }

    /// Ships held parcels that are due: how many.
    pub(super) fn ship_again(
        &mut self,
        tx: &Transaction<'_>,
        now: &Now,
    ) -> Result<usize, StoreError> {
        let mut draw = self.entropy;
        let again = outbox::ship_again(tx, &self.rules, &self.from, &mut draw, now.real)?;
        self.audited |= again != outbox::Again::default();
        Ok(again.shipped)
    }

    /// Applies verified receipts, and remembers which parcels the region did not take.
    pub(super) fn settle(
        &mut self,
        tx: &Transaction<'_>,
        receipts: &[Receipt],
        now: &Now,
    ) -> Result<outbox::Settled, StoreError> {
        self.audited = true;
        let settled = outbox::settle(tx, (&self.from, &self.to), receipts, now.real)?;
        for (priority, seq) in &settled.untaken {
            let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
            tx.prepare_cached("INSERT OR IGNORE INTO untaken (priority, parcel) VALUES (?1, ?2)")?
                .execute((priority.rank(), seq))?;
        }
        for ((priority, seq), now) in settled.cured.iter().zip(&settled.cured_at) {
            let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
            tx.prepare_cached("DELETE FROM untaken WHERE priority = ?1 AND parcel = ?2")?
                .execute((priority.rank(), seq))?;
            shipped::note_cured(tx, (*priority, seq), *now)?;
        }
        Ok(settled)
    }

    /// Writes down a peer that was turned away.
    pub(super) fn turned_away(
        &mut self,
        tx: &Transaction<'_>,
        peer: &Identity,
        reason: &'static str,
        now: &Now,
    ) -> Result<(), StoreError> {
        self.audited = true;
        let entry = Entry::peer_denied(now.real, &peer.to_uri(), &self.from, reason);
        audit::append(tx, &entry)?;
        Ok(())
    }

    /// Writes entries to the audit log that are of no parcel.
    pub(super) fn note(
        &mut self,
        tx: &Transaction<'_>,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        self.audited |= !entries.is_empty();
        for entry in entries {
            audit::append(tx, entry)?;
        }
        Ok(())
    }

    /// The facility.
    pub(super) const fn place(&self) -> &Place {
        &self.from
    }

    /// Its region.
    pub(super) const fn region(&self) -> &Place {
        &self.to
    }

    /// Who takes in what comes down.
    pub(super) fn receiver(&self, now: &Now) -> inbox::Receiver<'_> {
        inbox::Receiver {
            place: &self.from,
            rules: &self.rules,
            now: now.real,
        }
    }

    /// Whether the audit log has grown.
    pub(super) const fn has_audited(&mut self, grown: bool) {
        self.audited |= grown;
    }

    /// Who this is to the region.
    pub(super) fn sender(&self, now: &Now) -> outbox::Sender<'_> {
        outbox::Sender {
            place: &self.from,
            to: &self.to,
            signer: &self.signer,
            now: now.real,
        }
    }

    /// Ends a commit: signs the head of the audit log if it has grown.
    pub(super) fn finish(&mut self, tx: &Transaction<'_>) -> Result<(), StoreError> {
        if std::mem::take(&mut self.audited) {
            audit::sign_head(tx, &self.signer)?;
        }
        Ok(())
    }
}

/// Whether the region has every record of a parcel: by its receipt, and not by one that says otherwise.
pub(super) fn is_taken(db: &Connection, priority: Priority, seq: i64) -> Result<bool, StoreError> {
    if outbox::waits_above(db, priority, seq.unsigned_abs())? {
        return Ok(false);
    }
    Ok(!db
        .prepare_cached("SELECT 1 FROM untaken WHERE priority = ?1 AND parcel = ?2")?
        .exists((priority.rank(), seq))?)
}
