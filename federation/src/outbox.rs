//! The outbox: parcels that wait for a receipt, as tables in the caller's database.
//!
//! [`ship`] clears an envelope, writes the decision to the audit log and stores the sealed parcel, all in the caller's
//! transaction: a reading that is stored is a reading that will be sent, and its decision was audited before. A parcel
//! goes when its receipt says that the receiver has all of it. One that the receiver refused, or could not understand
//! in whole, moves to a quarantine that stays in this database ([`held`]), so that it never blocks what is behind it
//! and nothing of it is lost; what may be cured is shipped again from there ([`ship_again`]).
//!
//! Leases are in memory ([`Leases`]) and end with the process, so a crash loses none. Each receiver has an order of its
//! own ([`peer`]): the sequence is dense within (receiver, priority), and the receiver counts on that. Whoever must know a
//! sequence before its parcel is there reserves it ([`reserve()`]).

use crate::audit::{self, Decision, Entry};
use crate::db::{Count, DbError, migrate};
use crate::envelope::{Cleared, Envelope, MAX_BODY_BYTES, Refusal, clear};
use crate::inbox::WINDOW;
use crate::policy::Rules;
use crate::port::{Depths, LeaseLimits};
use crate::wire::{Parcel, Receipt};
use messages::Body;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _};
use types::{EnvelopeId, Place, Priority, Timestamp};

mod again;
mod age;
mod held;
mod leases;
mod peer;
mod reserve;
mod stream;
mod traced;
pub use again::{Again, MAX_AGAIN, PROBES, due_soon, ship_again};
pub use age::{held_count, oldest};
use held::Fate;
pub use held::{Decided, FIRST_RETRY, Held, MAX_RETRY, any_held, discard, held, one_held, release};
pub use leases::Leases;
use peer::{Peer, place_of};
pub use peer::{WAITS_ABOVE, below, is_below, waits_above};
pub use reserve::{Reserved, fill, give_back, reserve};
pub use stream::{Sender, begin, hello, introduce, judge, know};
pub use traced::Traced;

const SCHEMA: &[&str] = &[
    "
CREATE TABLE IF NOT EXISTS outbox (
    key    INTEGER PRIMARY KEY,           -- priority × 2^56 + sequence
    id     BLOB NOT NULL,
    digest BLOB NOT NULL,
    parcel BLOB NOT NULL                  -- the sealed Parcel
) STRICT;
CREATE TABLE IF NOT EXISTS outbox_counter (
    priority INTEGER PRIMARY KEY,
    last     INTEGER NOT NULL,            -- the last sequence given out
    parcels  INTEGER NOT NULL,            -- waiting
    bytes    INTEGER NOT NULL             -- of their bodies
) STRICT;
CREATE TABLE IF NOT EXISTS outbox_refused (
    n      INTEGER PRIMARY KEY,
    time   TEXT NOT NULL,
    reason TEXT NOT NULL,
    parcel BLOB NOT NULL                  -- stays in this database for a person to look at
) STRICT;
INSERT OR IGNORE INTO outbox_counter VALUES (0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0);
",
    "
ALTER TABLE outbox_refused ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;  -- how often it was shipped again
ALTER TABLE outbox_refused ADD COLUMN due_ms INTEGER DEFAULT 1;          -- when it is; null: a person decides
ALTER TABLE outbox_refused ADD COLUMN origin INTEGER;                    -- the key under which it was shipped first
ALTER TABLE outbox_refused ADD COLUMN key INTEGER;                       -- its key in the outbox while it is there again
CREATE UNIQUE INDEX outbox_refused_key ON outbox_refused (key) WHERE key IS NOT NULL;
CREATE INDEX outbox_refused_due ON outbox_refused (due_ms, n) WHERE key IS NULL;
",
    stream::STREAMS,
    peer::PEERS,
    age::MADE,
];

/// A parcel that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its place in the order of its priority, dense from 1.
    pub seq: u64,
    /// Bytes of its body.
    pub bytes: usize,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Parcels, by priority.
    pub parcels: Depths,
    /// Bytes of all their bodies.
    pub bytes: u64,
}

/// What became of a set of receipts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Deleted: the receiver has them.
    pub accepted: u64,
    /// Moved to the own quarantine: the receiver stored some of their records and left others out.
    pub partial: u64,
    /// Moved to the own quarantine: the receiver could understand none of their records.
    pub quarantined: u64,
    /// Moved to the own quarantine: against the rules.
    pub refused: u64,
    /// Kept, to be leased again.
    pub deferred: u64,
    /// Receipts of no waiting parcel: settled before, or of another body. Nothing changed.
    pub unknown: u64,
    /// Parcels of which the receiver does not have every record: refused, put into quarantine, or stored in part. A
    /// receiver keeps a digest of what it does not store, so what they were made of must stay with the sender.
    /// Of one that was shipped again, where it was first.
    pub untaken: Vec<(Priority, u64)>,
    /// Where parcels were first that were shipped again and that the receiver has in whole now.
    pub cured: Vec<(Priority, u64)>,
    /// Of each in `cured`, where it is now.
    pub cured_at: Vec<(Priority, u64)>,
    /// Those that are traced.
    pub traced: Vec<Traced>,
}

impl Settled {
    /// Parcels that moved to the own quarantine.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.partial + self.quarantined + self.refused
    }

    /// Adds what became of another set.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.partial += other.partial;
        self.quarantined += other.quarantined;
        self.refused += other.refused;
        self.deferred += other.deferred;
        self.unknown += other.unknown;
        self.untaken.extend(other.untaken);
        self.cured.extend(other.cured);
        self.cured_at.extend(other.cured_at);
        self.traced.extend(other.traced);
    }

    /// Counts and logs what a person must look at, and ends what was traced, once the commit stands.
    pub fn tell(&self) {
        self.traced.iter().for_each(Traced::tell);
        for (why, count) in [
            ("left-out", self.partial),
            ("quarantined", self.quarantined),
            ("refused", self.refused),
        ] {
            if count > 0 {
                metrics::counter!("medmesh_parcels_untaken_total", "why" => why).increment(count);
            }
        }
        if self.held() > 0 {
            tracing::error!(
                left_out = self.partial,
                quarantined = self.quarantined,
                refused = self.refused,
                "parcels that the receiver did not take in whole are held in quarantine here"
            );
        }
    }
}

/// Makes the tables, or brings them up to date. The audit log's tables must be there too ([`audit::schema`]).
///
/// # Errors
/// [`DbError`]; [`DbError::Newer`] when a newer program wrote them.
pub fn schema(conn: &Connection) -> Result<(), DbError> {
    migrate(conn, "outbox", SCHEMA)?;
    again::leave_incurable(conn)
}

/// Clears, audits and stores an envelope in the caller's transaction. A refusal is audited too: commit in both cases.
/// After the last one of the transaction call [`audit::sign_head`].
///
/// # Errors
/// [`DbError`]: roll back. The inner error is the [`Refusal`]: nothing was stored but its audit row.
pub fn ship<T: Body>(
    tx: &Connection,
    rules: &Rules,
    envelope: Envelope<T>,
    priority: Priority,
    id: EnvelopeId,
    now: Timestamp,
) -> Result<Result<Queued, Refusal>, DbError> {
    let (from, to) = (envelope.from.clone(), envelope.to.clone());
    let (purpose, count) = (envelope.purpose, envelope.body.count());
    match clear(rules, envelope) {
        Ok(cleared) => enqueue(tx, cleared, priority, id, now).map(Ok),
        Err(refusal) => {
            audit::count(Decision::Refused, Some(T::CLASS));
            audit::append(
                tx,
                &Entry::refused::<T>(now, refusal, (&from, &to, purpose), count),
            )?;
            Ok(Err(refusal))
        }
    }
}

/// Stores a cleared envelope and its audit row in the caller's transaction. `id` is random; `now` is real time.
///
/// # Errors
/// [`DbError`]: roll back. [`DbError::TooLarge`] when the body is larger than [`MAX_BODY_BYTES`].
pub fn enqueue<T: Body>(
    tx: &Connection,
    cleared: Cleared<T>,
    priority: Priority,
    id: EnvelopeId,
    now: Timestamp,
) -> Result<Queued, DbError> {
    // Nothing is given out for what cannot be stored: the caller may go on without it.
    let bytes = cleared.envelope().body.encoded_len();
    if bytes > MAX_BODY_BYTES {
        return Err(DbError::TooLarge { bytes });
    }
    let way = (&cleared.envelope().from, &cleared.envelope().to);
    let reserved = reserve(tx, way, priority)?;
    fill(tx, reserved, cleared, id, now)
}

/// Stores a sealed parcel and its audit row, at a place that was given out.
fn insert(
    tx: &Connection,
    (peer, priority): (Peer, Priority),
    parcel: &Parcel,
    now: Timestamp,
) -> Result<(), DbError> {
    audit::append(tx, &Entry::sealed(now, parcel))?;
    tx.prepare_cached(
        "INSERT INTO outbox (key, id, digest, parcel, made_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((
        peer.key(priority, parcel.seq)?,
        &parcel.id[..],
        &parcel.digest[..],
        parcel.encode_to_vec(),
        now.0,
    ))?;
    tx.prepare_cached(
        "UPDATE outbox_counter SET parcels = parcels + 1, bytes = bytes + ?3 WHERE peer = ?1 AND priority = ?2",
    )?
    .execute((
        peer.number(),
        priority.rank(),
        Count(parcel.body.len() as u64),
    ))?;
    Ok(())
}

/// Parcels for a receiver of a priority in order, from the first waiting one after `after`, as many as the limits allow, and at least
/// one if any waits. Never further than [`WINDOW`] beyond the first that waits: so far back the receiver knows what it
/// answered. Each names the present stream, and the last one carries the audit log's head.
///
/// # Errors
/// [`DbError`].
pub fn lease_from(
    conn: &Connection,
    to: &Place,
    priority: Priority,
    after: u64,
    limits: LeaseLimits,
) -> Result<Vec<Parcel>, DbError> {
    let Some(peer) = peer::peer(conn, to)? else {
        return Ok(Vec::new());
    };
    let (low, high) = (peer.before(priority), peer.behind(priority));
    let first: Option<i64> = conn
        .prepare_cached("SELECT min(key) FROM outbox WHERE key > ?1 AND key < ?2")?
        .query_row((low, high), |row| row.get(0))?;
    let Some(first) = first else {
        return Ok(Vec::new());
    };
    let end = high.min(first.saturating_add_unsigned(WINDOW));
    let limit = i64::try_from(limits.parcels).unwrap_or(i64::MAX);
    let mut statement = conn.prepare_cached(
        "SELECT parcel FROM outbox WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3",
    )?;
    let mut rows = statement.query((peer.key(priority, after)?, end, limit))?;
    let (mut parcels, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let parcel = Parcel::decode(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)
            .map_err(|_| DbError::Corrupt("parcel in the outbox"))?;
        bytes += parcel.body.len();
        if bytes > limits.bytes && !parcels.is_empty() {
            break;
        }
        parcels.push(parcel);
    }
    drop(rows);
    let stream = peer::stream(conn, peer)?;
    for parcel in &mut parcels {
        parcel.stream = stream.clone();
    }
    if let Some(last) = parcels.last_mut() {
        last.head = audit::checkpoint(conn)?.unwrap_or_default();
    }
    Ok(parcels)
}

/// Applies verified receipts in the caller's transaction: parcels that the receiver has in whole are deleted, others
/// that it answered for good move to the own quarantine, deferred ones stay. The same receipt twice changes nothing.
/// What the receiver did not take is audited: then call [`audit::sign_head`] after it, and [`Settled::tell`] once the
/// commit stands. `me` is the place of this outbox, `to` the receiver that signed.
///
/// # Errors
/// [`DbError`]: roll back.
pub fn settle(
    tx: &Connection,
    (me, to): (&Place, &Place),
    receipts: &[Receipt],
    now: Timestamp,
) -> Result<Settled, DbError> {
    let mut settled = Settled::default();
    let Some(peer) = peer::peer(tx, to)? else {
        settled.unknown = receipts.len() as u64;
        return Ok(settled);
    };
    for receipt in receipts {
        let done = settle_one(tx, (me, peer), receipt, now, &mut settled)?;
        let counter = match done {
            None => &mut settled.unknown,
            Some(Fate::Taken) => &mut settled.accepted,
            Some(Fate::Partial) => &mut settled.partial,
            Some(Fate::Quarantined) => &mut settled.quarantined,
            Some(Fate::Refused) => &mut settled.refused,
            Some(Fate::Deferred) => &mut settled.deferred,
        };
        *counter += 1;
    }
    // Verified with the receipts: what the receiver's log was when it answered.
    for receipt in receipts.iter().filter(|receipt| !receipt.head.is_empty()) {
        audit::heads::keep(tx, &receipt.head)?;
    }
    Ok(settled)
}

/// What was done with one receipt; none when it is of no waiting parcel.
fn settle_one(
    tx: &Connection,
    (me, to): (&Place, Peer),
    receipt: &Receipt,
    now: Timestamp,
    settled: &mut Settled,
) -> Result<Option<Fate>, DbError> {
    let Some((key, made, parcel)) = waiting(tx, to, receipt)? else {
        return Ok(None);
    };
    let fate = Fate::of(receipt, &parcel);
    let decision = match fate {
        Fate::Deferred => return Ok(Some(fate)),
        Fate::Taken => None,
        Fate::Partial | Fate::Quarantined => Some(Decision::QuarantinedByPeer),
        Fate::Refused => Some(Decision::RefusedByPeer),
    };
    if let Some(decision) = decision {
        let peer = parcel
            .to
            .parse()
            .map_err(|_| DbError::Corrupt("parcel in the outbox"))?;
        let why = fate.reason(receipt);
        audit::append(
            tx,
            &Entry::of_parcel(now, decision, why, me, &peer, &parcel),
        )?;
        let origin = held::hold(tx, key, &parcel, why, now)?;
        settled.untaken.extend(place_of(origin));
    } else if let Some(origin) = held::cured(tx, key)?
        && let (Some(origin), Some(now)) = (place_of(origin), place_of(key))
    {
        settled.cured.push(origin);
        settled.cured_at.push(now);
    }
    settled
        .traced
        .extend(Traced::of(&parcel, (made, now), fate));
    tx.prepare_cached("DELETE FROM outbox WHERE key = ?1")?
        .execute([key])?;
    tx.prepare_cached(
        "UPDATE outbox_counter SET parcels = parcels - 1, bytes = bytes - ?3 WHERE peer = ?1 AND priority = ?2",
    )?
    .execute((
        to.number(),
        receipt.priority,
        Count(parcel.body.len() as u64),
    ))?;
    Ok(Some(fate))
}

fn priority_of(receipt: &Receipt) -> Option<Priority> {
    let rank = u8::try_from(receipt.priority).ok();
    rank.and_then(Priority::from_rank)
}

/// The waiting parcel that a receipt is of, and when it was sealed: same place in the order, same id, same digest.
fn waiting(
    tx: &Connection,
    to: Peer,
    receipt: &Receipt,
) -> Result<Option<(i64, Timestamp, Parcel)>, DbError> {
    let numbered = receipt.seq < peer::SEQUENCES.unsigned_abs();
    let (Some(priority), true) = (priority_of(receipt), numbered) else {
        return Ok(None);
    };
    let key = to.key(priority, receipt.seq)?;
    let row: Option<(Vec<u8>, i64)> = tx
        .prepare_cached(
            "SELECT parcel, made_ms FROM outbox WHERE key = ?1 AND id = ?2 AND digest = ?3",
        )?
        .query_row((key, &receipt.id[..], &receipt.digest[..]), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    row.map(|(row, made)| Parcel::decode(&row[..]).map(|it| (key, Timestamp(made), it)))
        .transpose()
        .map_err(|_| DbError::Corrupt("parcel in the outbox"))
}

/// What waits, for all receivers, without counting rows.
///
/// # Errors
/// [`DbError`].
pub fn load(conn: &Connection) -> Result<Load, DbError> {
    let sql = "SELECT priority, sum(parcels), sum(bytes) FROM outbox_counter GROUP BY priority";
    read_load(&mut conn.prepare_cached(sql)?.query([])?)
}

/// What waits for a receiver.
///
/// # Errors
/// [`DbError`].
pub fn load_for(conn: &Connection, to: &Place) -> Result<Load, DbError> {
    let Some(peer) = peer::peer(conn, to)? else {
        return Ok(Load::default());
    };
    let sql = "SELECT priority, parcels, bytes FROM outbox_counter WHERE peer = ?1";
    read_load(&mut conn.prepare_cached(sql)?.query([peer.number()])?)
}

fn read_load(rows: &mut rusqlite::Rows<'_>) -> Result<Load, DbError> {
    let mut load = Load::default();
    while let Some(row) = rows.next()? {
        let Count(rank) = row.get(0)?;
        let slot = load
            .parcels
            .0
            .get_mut(rank as usize)
            .ok_or(DbError::Corrupt("outbox counter"))?;
        *slot = row.get::<_, Count>(1)?.0;
        load.bytes += row.get::<_, Count>(2)?.0;
    }
    Ok(load)
}

/// How many parcels wait for a receiver, by priority.
///
/// # Errors
/// [`DbError`].
pub fn depths(conn: &Connection, to: &Place) -> Result<Depths, DbError> {
    load_for(conn, to).map(|load| load.parcels)
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
