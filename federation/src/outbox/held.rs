//! The own quarantine: parcels that the receiver did not take in whole, kept for a person to decide.
//!
//! A receiver that refuses a parcel, or cannot understand some of it, keeps a digest and a reason and not the content.
//! So the content stays here, where it was made, and whoever deletes what has been delivered asks [`holds`] first.
use super::key;
use crate::db::DbError;
use crate::reason;
use crate::wire::{Outcome, Parcel, Receipt};
use prost::Message as _;
use rusqlite::Connection;
use types::{Priority, Timestamp};

/// What a receipt means for its parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The receiver has all of it.
    Taken,
    /// The receiver has some of its records and could not understand the others.
    Partial,
    /// The receiver could understand none of it.
    Quarantined,
    /// Against the rules.
    Refused,
    /// Not now.
    Deferred,
}

impl Fate {
    pub(super) fn of(receipt: &Receipt, parcel: &Parcel) -> Self {
        match receipt.outcome() {
            Outcome::Accepted if receipt.stored < parcel.count => Self::Partial,
            Outcome::Accepted => Self::Taken,
            Outcome::Quarantined => Self::Quarantined,
            Outcome::Refused => Self::Refused,
            Outcome::Deferred | Outcome::Unspecified => Self::Deferred,
        }
    }

    /// Why the parcel is held, from the closed set.
    pub(super) fn reason(self, receipt: &Receipt) -> &'static str {
        match self {
            Self::Partial => reason::LEFT_OUT,
            _ => reason::known(&receipt.reason),
        }
    }
}

/// Keeps a parcel. Its place in the order stays known, so that [`holds`] finds it.
pub(super) fn hold(
    tx: &Connection,
    place: i64,
    parcel: &Parcel,
    reason: &'static str,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.prepare_cached(
        "INSERT INTO outbox_refused (time, reason, parcel, key) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((now.to_rfc3339(), reason, parcel.encode_to_vec(), place))?;
    Ok(())
}

/// Whether a parcel lies in the own quarantine: nothing of what it was made of may be deleted.
///
/// # Errors
/// [`DbError`].
pub fn holds(conn: &Connection, priority: Priority, seq: u64) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM outbox_refused WHERE key = ?1")?
        .exists([key(priority, seq)?])?)
}

/// Parcels in the own quarantine, the oldest first, for a person to look at: (time, reason).
///
/// # Errors
/// [`DbError`].
pub fn held(conn: &Connection, limit: u32) -> Result<Vec<(String, String)>, DbError> {
    let mut statement =
        conn.prepare_cached("SELECT time, reason FROM outbox_refused ORDER BY n LIMIT ?1")?;
    let rows = statement.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Gives the rows of version 1, which had no place in the order, theirs.
pub(super) fn number_old_rows(conn: &Connection) -> Result<(), DbError> {
    let mut statement = conn.prepare("SELECT n, parcel FROM outbox_refused WHERE key IS NULL")?;
    let rows: Vec<(i64, Vec<u8>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (n, parcel) in rows {
        let corrupt = || DbError::Corrupt("parcel in the quarantine");
        let parcel = Parcel::decode(&parcel[..]).map_err(|_| corrupt())?;
        let rank = u8::try_from(parcel.priority).ok();
        let priority = rank.and_then(Priority::from_rank).ok_or_else(corrupt)?;
        conn.execute(
            "UPDATE outbox_refused SET key = ?2 WHERE n = ?1",
            (n, key(priority, parcel.seq)?),
        )?;
    }
    Ok(())
}
