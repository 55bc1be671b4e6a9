//! What a person does with what is held: looks at it, has it shipped again, or gives it up. It works on the tables
//! directly, beside a running node or without one.
//!
//! Every decision is one transaction with its audit row and a signed head, taken with the lock that the node's own
//! writer takes (`BEGIN IMMEDIATE`): the two take turns, and neither keeps anything of these tables in memory. The
//! node ships what was released with its next step, within a second or so.
use crate::{
    audit::{self, Entry, Signer},
    db::{self, DbError},
    ledger::notes::{self, Note},
    outbox::{self, Decided, Held},
    reason,
};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::Path;
use types::{Place, Priority, Timestamp};

/// Parcels or notes that are read at a time: a parcel may have a megabyte.
const PAGE: u32 = 64;

/// The quarantine of one node.
pub struct Quarantine {
    db: Connection,
    me: Place,
    signer: Signer,
}

impl Quarantine {
    /// That of a regional or the global node, in the file of its ledger, which must be there.
    ///
    /// # Errors
    /// [`DbError`]; [`DbError::Newer`] when a newer program wrote it.
    pub fn open(ledger: &Path, me: Place, signer: Signer) -> Result<Self, DbError> {
        db::check_is_there(ledger)?;
        let db = db::open(ledger)?;
        outbox::schema(&db)?;
        notes::schema(&db)?;
        Ok(Self::on(db, me, signer))
    }

    /// That of a node whose outbox is in this database.
    #[must_use]
    pub const fn on(db: Connection, me: Place, signer: Signer) -> Self {
        Self { db, me, signer }
    }

    /// Hands every held parcel to `each`, the oldest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn parcels(&self, mut each: impl FnMut(Held)) -> Result<(), DbError> {
        let mut after = 0;
        loop {
            let page = outbox::held(&self.db, after, PAGE)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.number;
            page.into_iter().for_each(&mut each);
        }
    }

    /// Hands every note on what was not taken to `each`, the oldest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn notes(&self, mut each: impl FnMut(Note)) -> Result<(), DbError> {
        let mut after = 0;
        loop {
            let page = notes::list(&self.db, after, PAGE)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.number;
            page.into_iter().for_each(&mut each);
        }
    }

    /// One held parcel, by the number that the list of them gives it.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn parcel(&self, number: u64) -> Result<Option<Held>, DbError> {
        outbox::one_held(&self.db, number)
    }

    /// One note, by the number that the list of them gives it.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn note(&self, number: u64) -> Result<Option<Note>, DbError> {
        notes::get(&self.db, number)
    }

    /// What else is in the database.
    #[must_use]
    pub const fn db(&self) -> &Connection {
        &self.db
    }

    /// Has a held parcel shipped again.
    ///
    /// # Errors
    /// [`DbError`]; nothing was changed.
    pub fn release(&mut self, number: u64, now: Timestamp) -> Result<Decided, DbError> {
        self.decide(|tx, me| outbox::release(tx, me, number, now))
    }

    /// Gives a held parcel up. `also` does in the same transaction what follows of it for the caller's own tables, given
    /// priority and sequence under which the parcel was first shipped.
    ///
    /// # Errors
    /// [`DbError`]; nothing was changed.
    pub fn discard(
        &mut self,
        number: u64,
        now: Timestamp,
        also: impl FnOnce(&Connection, Priority, u64) -> Result<(), DbError>,
    ) -> Result<Decided, DbError> {
        self.decide(|tx, me| {
            let decided = outbox::discard(tx, me, number, now)?;
            if let Decided::Done(priority, seq) = decided {
                also(tx, priority, seq)?;
            }
            Ok(decided)
        })
    }

    /// Deletes a note: false when there is none.
    ///
    /// # Errors
    /// [`DbError`]; nothing was changed.
    pub fn discard_note(&mut self, number: u64, now: Timestamp) -> Result<bool, DbError> {
        let Some(note) = self.note(number)? else {
            return Ok(false);
        };
        self.decide(|tx, me| {
            let why = reason::known(&note.reason);
            audit::append(tx, &Entry::discarded(now, why, me, &note.digest))?;
            notes::discard(tx, number)
        })
    }

    /// Any other decision of a person on what is held in the database, audited by `step`.
    ///
    /// # Errors
    /// [`DbError`]; nothing was changed.
    pub fn decide<T>(
        &mut self,
        step: impl FnOnce(&Transaction<'_>, &Place) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = step(&tx, &self.me)?;
        audit::sign_head(&tx, &self.signer)?;
        tx.commit()?;
        Ok(done)
    }
}
