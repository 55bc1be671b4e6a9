//! The own quarantine: parcels that the receiver did not take in whole, kept for a person to decide.
//!
//! A receiver that refuses a parcel, or cannot understand some of it, keeps a digest and a reason and not the content.
//! So the content stays here, where it was made; whoever deletes what has been delivered leaves what is
//! [untaken](super::Settled::untaken).
use crate::db::DbError;
use crate::reason;
use crate::wire::{Outcome, Parcel, Receipt};
use prost::Message as _;
use rusqlite::Connection;
use types::Timestamp;

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

/// Keeps a parcel.
pub(super) fn hold(
    tx: &Connection,
    parcel: &Parcel,
    reason: &'static str,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.prepare_cached("INSERT INTO outbox_refused (time, reason, parcel) VALUES (?1, ?2, ?3)")?
        .execute((now.to_rfc3339(), reason, parcel.encode_to_vec()))?;
    Ok(())
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
