//! What the facility holds, for its own staff: parcels that the region did not take, and messages and samples of devices
//! that could not be understood. It works beside a running node or without one.
//!
//! Payloads are PHI and stay on the facility's machine.
use crate::config::EdgeConfig;
use federation::{
    audit::{self, Entry, Signer},
    db::DbError,
    outbox::{Decided, Held},
    pki::{self, PkiError},
    quarantine::Quarantine as Parcels,
    reason,
};
use rusqlite::{Connection, OptionalExtension as _, Row};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use store::{self, StoreError};
use types::{Place, Priority, Secret, Timestamp};

/// Why the quarantine cannot be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The store.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The node's signing key.
    #[error("signing key: {0}")]
    Key(#[from] PkiError),
    /// The tables.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A message that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number in this facility.
    pub number: u64,
    /// The device that sent it.
    pub device: String,
    /// Why it could not be understood.
    pub reason: String,
    /// When it came (mesh time).
    pub at: Timestamp,
    /// Bytes of it.
    pub bytes: u64,
}

/// The quarantine of a facility.
pub struct Quarantine(Parcels);

const MESSAGES: &str = "SELECT row, device, reason, at_ms, length(message) FROM unreadable WHERE row > ?1 ORDER BY row LIMIT ?2";
const MESSAGE: &str =
    "SELECT row, device, reason, at_ms, length(message), message FROM unreadable WHERE row = ?1";
/// Messages that are read at a time.
const PAGE: u32 = 256;

impl Quarantine {
    /// Opens it.
    ///
    /// # Errors
    /// When there is no store, or it or the signing key cannot be used.
    pub fn open(config: &EdgeConfig) -> Result<Self, QuarantineError> {
        let key = store::read_facility_key(&config.key_file)?;
        let me = config.place();
        let signing = pki::load_signing_key(&config.tls.signing_key)?;
        let signer = Signer::new(&me, signing);
        Self::of(&config.data_dir, &key, me, signer)
    }

    pub(crate) fn of(
        dir: &Path,
        key: &Secret<[u8; 32]>,
        me: Place,
        signer: Signer,
    ) -> Result<Self, QuarantineError> {
        let db = store::open_beside(dir, key)?;
        Ok(Self(Parcels::on(db, me, signer)))
    }

    /// Hands every held parcel to `each`, the oldest first.
    ///
    /// # Errors
    /// As any read.
    pub fn parcels(&self, each: impl FnMut(Held)) -> Result<(), QuarantineError> {
        Ok(self.0.parcels(each)?)
    }

    /// One held parcel.
    ///
    /// # Errors
    /// As any read.
    pub fn parcel(&self, number: u64) -> Result<Option<Held>, QuarantineError> {
        Ok(self.0.parcel(number)?)
    }

    /// Hands every message that could not be understood to `each`, the oldest first, without its content.
    ///
    /// # Errors
    /// As any read.
    pub fn messages(&self, mut each: impl FnMut(Message)) -> Result<(), QuarantineError> {
        let mut after = 0;
        loop {
            let page = messages(self.0.db(), after).map_err(DbError::from)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = i64::try_from(last.number).unwrap_or(i64::MAX);
            page.into_iter().for_each(&mut each);
        }
    }

    /// One of them, with its content.
    ///
    /// # Errors
    /// As any read.
    pub fn message(&self, number: u64) -> Result<Option<(Message, Vec<u8>)>, QuarantineError> {
        let number = i64::try_from(number).unwrap_or(-1);
        let found = self
            .0
            .db()
            .query_row(MESSAGE, [number], |row| Ok((message(row)?, row.get(5)?)))
            .optional()
            .map_err(DbError::from)?;
        Ok(found)
    }

    /// Has a held parcel shipped again.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn release(&mut self, number: u64, now: Timestamp) -> Result<Decided, QuarantineError> {
        Ok(self.0.release(number, now)?)
    }

    /// Gives a held parcel up: from now on retention may delete the samples that it was made of.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn discard(&mut self, number: u64, now: Timestamp) -> Result<Decided, QuarantineError> {
        let taken = |tx: &Connection, priority: Priority, seq: u64| {
            let seq = i64::try_from(seq).unwrap_or(i64::MAX);
            tx.execute(
                "DELETE FROM untaken WHERE priority = ?1 AND parcel = ?2",
                (priority.rank(), seq),
            )?;
            Ok(())
        };
        Ok(self.0.discard(number, now, taken)?)
    }

    /// Deletes a message: false when there is none.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn discard_message(
        &mut self,
        number: u64,
        now: Timestamp,
    ) -> Result<bool, QuarantineError> {
        let Some((message, content)) = self.message(number)? else {
            return Ok(false);
        };
        let why = reason::known(&message.reason);
        let row = i64::try_from(number).unwrap_or(-1);
        Ok(self.0.decide(|tx, me| {
            let digest = Sha256::digest(&content);
            audit::append(tx, &Entry::discarded(now, why, me, &digest))?;
            Ok(tx.execute("DELETE FROM unreadable WHERE row = ?1", [row])? > 0)
        })?)
    }
}

fn messages(db: &Connection, after: i64) -> rusqlite::Result<Vec<Message>> {
    let mut statement = db.prepare_cached(MESSAGES)?;
    let rows = statement.query_map((after, PAGE), message)?;
    rows.collect()
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        number: row.get::<_, i64>(0)?.unsigned_abs(),
        device: row.get(1)?,
        reason: row.get(2)?,
        at: Timestamp(row.get(3)?),
        bytes: row.get::<_, i64>(4)?.unsigned_abs(),
    })
}

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;
