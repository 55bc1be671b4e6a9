//! The own quarantine: parcels that the receiver did not take in whole, kept until it does or a person decides.
//!
//! A receiver that refuses a parcel, or cannot understand some of it, keeps a digest and a reason and not the content.
//! So the content stays here, where it was made; whoever deletes what has been delivered leaves what is
//! [untaken](super::Settled::untaken). What may be cured is shipped again by itself ([`super::again`]): its row stays
//! with its number, and the content is in the outbox meanwhile, so that it is never on the disk twice.
use super::place_of;
use crate::audit::{self, Decision, Entry};
use crate::db::{Count, DbError};
use crate::reason::{self, curable};
use crate::wire::{Outcome, Parcel, Receipt};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::time::Duration;
use types::{Place, Priority, Timestamp};

/// The first wait before a parcel is shipped again.
pub const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Every later wait is twice the one before, up to this: what is cured is delivered within it, and what is not costs a
/// parcel and three audit rows each time.
pub const MAX_RETRY: Duration = Duration::from_secs(300);

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

/// A parcel in the own quarantine. Its content is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number, which stays while it is shipped again.
    pub number: u64,
    /// When it was last refused (real time, RFC 3339).
    pub time: String,
    /// Why, from the closed set.
    pub reason: &'static str,
    /// How often it was shipped again.
    pub tries: u32,
    /// When it is shipped again (real time); none when only a person can decide.
    pub due: Option<Timestamp>,
    /// Whether it is in the outbox now.
    pub under_way: bool,
    /// Priority and sequence under which it was first shipped.
    pub origin: (Priority, u64),
    /// The parcel.
    pub parcel: Parcel,
}

const COLUMNS: &str = "SELECT r.n, r.time, r.reason, r.tries, r.due_ms, r.origin, r.key, coalesce(o.parcel, r.parcel) \
     FROM outbox_refused r LEFT JOIN outbox o ON o.key = r.key";

/// Keeps a parcel; or keeps it again, if it is one that was shipped again. Says where it was first.
pub(super) fn hold(
    tx: &Connection,
    key: i64,
    parcel: &Parcel,
    reason: &'static str,
    now: Timestamp,
) -> Result<i64, DbError> {
    let again = row_of(tx, key)?;
    let tries = again.map_or(0, |again| again.tries);
    let due = curable(reason).then(|| now.plus_ms(wait_ms(tries)).0);
    let bytes = parcel.encode_to_vec();
    if let Some(again) = again {
        tx.prepare_cached(
            "UPDATE outbox_refused SET time = ?2, reason = ?3, parcel = ?4, due_ms = ?5, key = NULL WHERE n = ?1",
        )?
        .execute((Count(again.number), now.to_rfc3339(), reason, bytes, due))?;
        return Ok(again.origin);
    }
    tx.prepare_cached(
        "INSERT INTO outbox_refused (time, reason, parcel, due_ms, origin) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((now.to_rfc3339(), reason, bytes, due, key))?;
    Ok(key)
}

/// The receiver has all of a parcel now. If it was held before: where it was first, and the others that are held for
/// the same reason are shipped at once, since the cause may be gone for them too.
pub(super) fn cured(tx: &Connection, key: i64) -> Result<Option<i64>, DbError> {
    let Some(again) = row_of(tx, key)? else {
        return Ok(None);
    };
    tx.prepare_cached(
        "UPDATE outbox_refused SET due_ms = 0 WHERE key IS NULL AND due_ms > 0
         AND reason = (SELECT reason FROM outbox_refused WHERE n = ?1)",
    )?
    .execute([Count(again.number)])?;
    tx.prepare_cached("DELETE FROM outbox_refused WHERE n = ?1")?
        .execute([Count(again.number)])?;
    Ok(Some(again.origin))
}

/// A row whose parcel is in the outbox again.
#[derive(Clone, Copy)]
struct Again {
    number: u64,
    origin: i64,
    tries: u32,
}

fn row_of(tx: &Connection, key: i64) -> Result<Option<Again>, DbError> {
    let row = tx
        .prepare_cached("SELECT n, origin, tries FROM outbox_refused WHERE key = ?1")?
        .query_row([key], |row| {
            Ok(Again {
                number: row.get::<_, Count>(0)?.0,
                origin: row.get(1)?,
                tries: row.get(2)?,
            })
        })
        .optional()?;
    Ok(row)
}

/// The wait before the next try after so many, in ms.
pub(super) fn wait_ms(tries: u32) -> i64 {
    let factor = 1_u32.checked_shl(tries).unwrap_or(u32::MAX);
    let wait = FIRST_RETRY.saturating_mul(factor).min(MAX_RETRY);
    i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}

/// Whether anything is held. Cheap.
///
/// # Errors
/// [`DbError`].
pub fn any_held(conn: &Connection) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM outbox_refused LIMIT 1")?
        .exists([])?)
}

/// Parcels in the own quarantine after a number, the oldest first, for a person to look at.
///
/// # Errors
/// [`DbError`].
pub fn held(conn: &Connection, after: u64, limit: u32) -> Result<Vec<Held>, DbError> {
    let sql = format!("{COLUMNS} WHERE r.n > ?1 ORDER BY r.n LIMIT ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query((Count(after), limit))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// One of them.
///
/// # Errors
/// [`DbError`].
pub fn one_held(conn: &Connection, number: u64) -> Result<Option<Held>, DbError> {
    let sql = format!("{COLUMNS} WHERE r.n = ?1");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([Count(number)])?;
    rows.next()?.map(read).transpose()
}

fn read(row: &Row<'_>) -> Result<Held, DbError> {
    let blob = row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?;
    let corrupt = || DbError::Corrupt("parcel in the quarantine");
    let parcel = Parcel::decode(blob).map_err(|_| corrupt())?;
    let origin = match row.get::<_, Option<i64>>(5)? {
        Some(key) => place_of(key).ok_or_else(corrupt)?,
        // Held by an earlier version.
        None => {
            let rank = u8::try_from(parcel.priority).ok();
            let priority = rank.and_then(Priority::from_rank).ok_or_else(corrupt)?;
            (priority, parcel.seq)
        }
    };
    Ok(Held {
        number: row.get::<_, Count>(0)?.0,
        time: row.get(1)?,
        reason: reason::known(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?),
        tries: row.get(3)?,
        due: row.get::<_, Option<i64>>(4)?.map(Timestamp),
        under_way: row.get::<_, Option<i64>>(6)?.is_some(),
        origin,
        parcel,
    })
}

/// What became of what a person decided of a held parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It is done; priority and sequence under which the parcel was first shipped.
    Done(Priority, u64),
    /// There is no such parcel: it was taken, or discarded before.
    Missing,
    /// It is being shipped again right now: look again in a moment.
    UnderWay,
}

/// A person has held parcel `number` shipped again with the next step. Audited: then call [`audit::sign_head`].
///
/// # Errors
/// [`DbError`]: roll back.
pub fn release(
    tx: &Connection,
    me: &Place,
    number: u64,
    now: Timestamp,
) -> Result<Decided, DbError> {
    let decided = decide(tx, me, number, Decision::Released, now)?;
    if matches!(decided, Decided::Done(..)) {
        tx.prepare_cached("UPDATE outbox_refused SET due_ms = 0 WHERE n = ?1")?
            .execute([Count(number)])?;
    }
    Ok(decided)
}

/// A person gives held parcel `number` up: its content is deleted. Audited: then call [`audit::sign_head`].
///
/// # Errors
/// [`DbError`]: roll back.
pub fn discard(
    tx: &Connection,
    me: &Place,
    number: u64,
    now: Timestamp,
) -> Result<Decided, DbError> {
    let decided = decide(tx, me, number, Decision::Discarded, now)?;
    if matches!(decided, Decided::Done(..)) {
        tx.prepare_cached("DELETE FROM outbox_refused WHERE n = ?1")?
            .execute([Count(number)])?;
    }
    Ok(decided)
}

fn decide(
    tx: &Connection,
    me: &Place,
    number: u64,
    decision: Decision,
    now: Timestamp,
) -> Result<Decided, DbError> {
    let Some(held) = one_held(tx, number)? else {
        return Ok(Decided::Missing);
    };
    if held.under_way {
        return Ok(Decided::UnderWay);
    }
    let parcel = &held.parcel;
    let peer = parcel
        .to
        .parse()
        .map_err(|_| DbError::Corrupt("parcel in the quarantine"))?;
    let entry = Entry::of_parcel(now, decision, held.reason, me, &peer, parcel);
    audit::append(tx, &entry)?;
    let (priority, seq) = held.origin;
    Ok(Decided::Done(priority, seq))
}
