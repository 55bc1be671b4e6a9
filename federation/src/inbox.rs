//! The receiver's ledger: what was answered to whom, so that a parcel that comes again gets the same answer and is
//! not applied again.
//!
//! Within (sender, priority) the sequence is dense. The ledger keeps the last sequence up to which everything has
//! a final answer (accepted, quarantined, refused), and the answers of a window behind it. A parcel after a gap is
//! deferred; the same place in the order with another id or digest is a conflict and is refused. A node that was put
//! back to an older state is found when both ends meet ([`crate::meet`]): its order begins anew, in a stream of its
//! own, and parcels of another stream are deferred until they have met.
//!
//! **Exactly once without a common transaction.** The records may go to another engine (PostgreSQL) than the ledger.
//! Then: apply first, idempotently by each record's own id (`ReadingUid`); [`record`] second; answer third. A crash
//! after apply and before record leaves the parcel unanswered; it is delivered again, found [`Check::Fresh`], applied
//! to no effect and recorded. A crash after record gives [`Check::Seen`]. Never record first: a crash then would answer
//! for records that nobody has. Where both are one SQLite database, one transaction holds both.

use crate::db::{Count, DbError, migrate};
use crate::port::Verdict;
use crate::reason;
use crate::wire::Parcel;
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::{borrow::Borrow, cmp::Ordering};
use types::{Place, Priority};

/// Answers kept per (sender, priority), in parcels. A sender never leases further than this beyond its first parcel
/// without a receipt, so every parcel that can come again is within it.
pub const WINDOW: u64 = 4_096;

/// The largest sequence: what SQLite's integers hold.
const MAX_SEQ: u64 = i64::MAX as u64;

mod receive;
mod stream;
pub use receive::{Admitted, Receiver, answered, judge};
pub use stream::uncounted;
pub use stream::{Here, STREAM_BYTES, meet};

const SCHEMA: &[&str] = &[
    "
CREATE TABLE IF NOT EXISTS inbox_last (
    sender   TEXT NOT NULL,
    priority INTEGER NOT NULL,
    last     INTEGER NOT NULL,            -- everything up to here has a final answer
    PRIMARY KEY (sender, priority)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inbox_answer (
    sender   TEXT NOT NULL,
    priority INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    id       BLOB NOT NULL,
    digest   BLOB NOT NULL,
    outcome  TEXT NOT NULL,               -- accepted, quarantined or refused
    stored   INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (sender, priority, seq)
) STRICT, WITHOUT ROWID;
",
    stream::STREAMS,
    stream::OTHER_MARKS,
];

/// What the ledger knows of a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Next in order: apply it, then [`record`].
    Fresh,
    /// Answered before: answer the same.
    Seen(Verdict),
    /// One before it is missing.
    Gap,
    /// Its place in the order held another parcel before.
    Conflict,
    /// Its place in the order lies before the window.
    Forgotten,
    /// Of another stream than is known of its sender.
    OtherStream,
}

impl Check {
    /// Why the parcel is refused for its place in the order alone.
    pub(crate) fn fault(self) -> Option<&'static str> {
        match self.verdict() {
            Some(Verdict::Refused { reason }) => Some(reason),
            _ => None,
        }
    }

    /// The answer that needs no apply; none for a fresh parcel.
    #[must_use]
    pub fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Fresh => None,
            Self::Seen(verdict) => Some(verdict),
            Self::Gap => Some(Verdict::Deferred {
                reason: reason::OUT_OF_ORDER,
            }),
            Self::Conflict => Some(Verdict::Refused {
                reason: reason::CONFLICT,
            }),
            Self::Forgotten => Some(Verdict::Refused {
                reason: reason::FORGOTTEN,
            }),
            Self::OtherStream => Some(Verdict::Deferred {
                reason: reason::OTHER_STREAM,
            }),
        }
    }
}

/// Makes the tables, or brings them up to date.
///
/// # Errors
/// [`DbError`]; [`DbError::Newer`] when a newer program wrote them.
pub fn schema(conn: &Connection) -> Result<(), DbError> {
    migrate(conn, "inbox", SCHEMA)?;
    Ok(conn.execute_batch(stream::OPEN)?)
}

/// What the ledger knows of the parcels of one sender, in the order in which they came: each is looked at as if the
/// fresh ones before it were recorded already.
///
/// # Errors
/// [`DbError`].
pub fn check<P: Borrow<Parcel>>(
    conn: &Connection,
    sender: &Place,
    parcels: &[P],
) -> Result<Vec<Check>, DbError> {
    let mut next = [None; 3];
    let mut checks = Vec::with_capacity(parcels.len());
    for parcel in parcels {
        checks.push(check_one(conn, sender, parcel.borrow(), &mut next)?);
    }
    Ok(checks)
}

fn check_one(
    conn: &Connection,
    sender: &Place,
    parcel: &Parcel,
    next: &mut [Option<u64>; 3],
) -> Result<Check, DbError> {
    let Some(priority) = priority(parcel) else {
        let reason = reason::MALFORMED;
        return Ok(Check::Seen(Verdict::Refused { reason }));
    };
    if !stream::is_known(conn, &sender.to_string(), &parcel.stream)? {
        return Ok(Check::OtherStream);
    }
    if let Some(known) = lookup(conn, sender, parcel)? {
        return Ok(known);
    }
    let last = last(conn, sender, priority)?;
    let next = priority.of_mut(next).get_or_insert(last + 1);
    while *next < parcel.seq && answer(conn, sender, priority, *next)?.is_some() {
        *next += 1;
    }
    Ok(match parcel.seq.cmp(next) {
        Ordering::Equal => {
            *next += 1;
            Check::Fresh
        }
        Ordering::Less if parcel.seq <= last => Check::Forgotten,
        // Twice in one delivery, or after a hole.
        Ordering::Less | Ordering::Greater => Check::Gap,
    })
}

/// What was answered to a parcel ([`Check::Seen`]), or to another in its place ([`Check::Conflict`]), or that it is of
/// another stream; none if it is unknown.
pub(crate) fn lookup(
    conn: &Connection,
    sender: &Place,
    parcel: &Parcel,
) -> Result<Option<Check>, DbError> {
    let Some(priority) = priority(parcel) else {
        return Ok(None);
    };
    if !stream::is_known(conn, &sender.to_string(), &parcel.stream)? {
        return Ok(Some(Check::OtherStream));
    }
    let answer = answer(conn, sender, priority, parcel.seq)?;
    Ok(answer.map(|(id, digest, verdict)| {
        if id == parcel.id && digest == parcel.digest {
            Check::Seen(verdict)
        } else {
            Check::Conflict
        }
    }))
}

/// Records the final answer to a parcel; a deferral is none and leaves no trace. Recording the same twice is one step.
/// A place in the order further than [`WINDOW`] ahead is none that an honest sender uses, and is not recorded.
///
/// # Errors
/// [`DbError`]: roll back, and give no receipt.
pub fn record(
    tx: &Connection,
    sender: &Place,
    parcel: &Parcel,
    verdict: &Verdict,
) -> Result<(), DbError> {
    let (Some(priority), Some((outcome, stored, reason))) = (priority(parcel), words(verdict))
    else {
        return Ok(());
    };
    let seq = Count(parcel.seq);
    if parcel.seq > last(tx, sender, priority)?.saturating_add(WINDOW) {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT OR IGNORE INTO inbox_answer (sender, priority, seq, id, digest, outcome, stored, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((
        sender.to_string(),
        priority.rank(),
        seq,
        &parcel.id[..],
        &parcel.digest[..],
        outcome,
        stored,
        reason::known(reason),
    ))?;
    advance(tx, sender, priority)
}

/// Moves `last` over every answer that follows it without a gap, and forgets answers before the window.
fn advance(tx: &Connection, sender: &Place, priority: Priority) -> Result<(), DbError> {
    let sender_text = sender.to_string();
    let before = last(tx, sender, priority)?;
    let mut now = before;
    let mut answered = tx.prepare_cached(
        "SELECT seq FROM inbox_answer WHERE sender = ?1 AND priority = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4",
    )?;
    let mut rows = answered.query((&sender_text, priority.rank(), Count(before), Count(WINDOW)))?;
    while let Some(row) = rows.next()? {
        if row.get::<_, Count>(0)?.0 != now + 1 {
            break;
        }
        now += 1;
    }
    drop(rows);
    if now == before {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT INTO inbox_last (sender, priority, last) VALUES (?1, ?2, ?3)
         ON CONFLICT (sender, priority) DO UPDATE SET last = excluded.last",
    )?
    .execute((&sender_text, priority.rank(), Count(now)))?;
    tx.prepare_cached(
        "DELETE FROM inbox_answer WHERE sender = ?1 AND priority = ?2 AND seq <= ?3",
    )?
    .execute((
        &sender_text,
        priority.rank(),
        Count(now.saturating_sub(WINDOW)),
    ))?;
    Ok(())
}

/// Notes at which mark of the store that records were applied to all answers of a sender stand: after [`record`].
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub(crate) fn note_mark(tx: &Connection, sender: &Place, mark: u64) -> Result<(), DbError> {
    stream::see_mark(tx, mark)?;
    Priority::ALL
        .into_iter()
        .try_for_each(|priority| stream::note_mark(tx, sender, priority, mark))
}

pub use stream::{doubt, doubt_all};
pub(crate) use stream::{last_mark, rewind};

/// The last sequence up to which everything of that sender has a final answer; 0 before the first.
///
/// # Errors
/// [`DbError`].
pub fn last(conn: &Connection, sender: &Place, priority: Priority) -> Result<u64, DbError> {
    let last = conn
        .prepare_cached("SELECT last FROM inbox_last WHERE sender = ?1 AND priority = ?2")?
        .query_row((sender.to_string(), priority.rank()), |row| row.get(0))
        .optional()?;
    Ok(last.map_or(0, |Count(last)| last))
}

type Answer = (Vec<u8>, Vec<u8>, Verdict);

fn answer(
    conn: &Connection,
    sender: &Place,
    priority: Priority,
    seq: u64,
) -> Result<Option<Answer>, DbError> {
    conn.prepare_cached(
        "SELECT id, digest, outcome, stored, reason FROM inbox_answer
         WHERE sender = ?1 AND priority = ?2 AND seq = ?3",
    )?
    .query_row((sender.to_string(), priority.rank(), Count(seq)), |row| {
        Ok((row.get(0)?, row.get(1)?, verdict(row)?))
    })
    .optional()?
    .map(|(id, digest, verdict)| {
        let verdict = verdict.ok_or(DbError::Corrupt("answer in the ledger"))?;
        Ok((id, digest, verdict))
    })
    .transpose()
}

fn verdict(row: &Row<'_>) -> rusqlite::Result<Option<Verdict>> {
    let (stored, reason) = (row.get(3)?, reason::known(row.get_ref(4)?.as_str()?));
    Ok(match row.get_ref(2)?.as_str()? {
        "accepted" => Some(Verdict::Accepted { stored }),
        "quarantined" => Some(Verdict::Quarantined { reason }),
        "refused" => Some(Verdict::Refused { reason }),
        _ => None,
    })
}

/// Outcome, records stored and reason of a final answer.
const fn words(verdict: &Verdict) -> Option<(&'static str, u32, &'static str)> {
    match verdict {
        Verdict::Accepted { stored } => Some(("accepted", *stored, "")),
        Verdict::Quarantined { reason } => Some(("quarantined", 0, reason)),
        Verdict::Refused { reason } => Some(("refused", 0, reason)),
        Verdict::Deferred { .. } => None,
    }
}

fn priority(parcel: &Parcel) -> Option<Priority> {
    let rank = u8::try_from(parcel.priority).ok()?;
    Priority::from_rank(rank).filter(|_| (1..=MAX_SEQ).contains(&parcel.seq))
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
