//! Places in the order that are given out before their parcel is there, so that rows which refer to it can be written
//! first, in the same transaction.
use super::{
    Queued, insert,
    peer::{self, Peer},
};
use crate::{
    audit::{self, Decision},
    db::{Count, DbError},
    envelope::{Cleared, MAX_BODY_BYTES},
};
use messages::Body;
use node::trace::Context;
use rusqlite::Connection;
use types::{EnvelopeId, Place, Priority, Timestamp};

/// A place in the order of a receiver. It ends in [`fill`] or [`give_back`] within the transaction: a receiver waits for
/// what lies at a place that was given out, and takes nothing behind it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is not filled holds up its receiver for good"]
pub struct Reserved {
    pub(super) peer: Peer,
    pub(super) priority: Priority,
    pub(super) seq: u64,
    trace: Option<Context>,
}

impl Reserved {
    /// What will lie there belongs to that trace.
    pub const fn traced(mut self, trace: Option<Context>) -> Self {
        self.trace = trace;
        self
    }

    /// The sequence, dense from 1 within (receiver, priority).
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }
}

/// Gives out the next place of a receiver in a priority, in the caller's transaction.
///
/// # Errors
/// [`DbError`]: roll back.
pub fn reserve(
    tx: &Connection,
    (me, to): (&Place, &Place),
    priority: Priority,
) -> Result<Reserved, DbError> {
    let peer = peer::peer_or_new(tx, me, to)?;
    reserve_of(tx, peer, priority)
}

pub(super) fn reserve_of(
    tx: &Connection,
    peer: Peer,
    priority: Priority,
) -> Result<Reserved, DbError> {
    let Count(seq) = tx
        .prepare_cached(
            "UPDATE outbox_counter SET last = last + 1 WHERE peer = ?1 AND priority = ?2 RETURNING last",
        )?
        .query_row((peer.number(), priority.rank()), |row| row.get(0))?;
    Ok(Reserved {
        peer,
        priority,
        seq,
        trace: None,
    })
}

/// Puts a cleared envelope at its place, with its audit row. `id` is random; `now` is real time.
///
/// # Errors
/// [`DbError`]: roll back. [`DbError::TooLarge`] when the body is larger than [`MAX_BODY_BYTES`];
/// [`DbError::Corrupt`] when the place is another receiver's.
pub fn fill<T: Body>(
    tx: &Connection,
    reserved: Reserved,
    cleared: Cleared<T>,
    id: EnvelopeId,
    now: Timestamp,
) -> Result<Queued, DbError> {
    let bytes = cleared.envelope().body.encoded_len();
    if bytes > MAX_BODY_BYTES {
        return Err(DbError::TooLarge { bytes });
    }
    let Reserved {
        peer,
        priority,
        seq,
        trace,
    } = reserved;
    let (from, to) = (&cleared.envelope().from, &cleared.envelope().to);
    if peer::peer_or_new(tx, from, to)? != peer {
        return Err(DbError::Corrupt("a place in the order of another receiver"));
    }
    audit::count(Decision::Cleared, Some(T::CLASS));
    let mut parcel = cleared.seal(id, priority, seq);
    parcel.traceparent = trace.map_or_else(String::new, |trace| trace.to_string());
    insert(tx, (peer, priority), &parcel, now)?;
    Ok(Queued { seq, bytes })
}

/// Takes a place back that nothing is to lie at. It comes back itself when others were given out behind it: then
/// something must lie there.
///
/// # Errors
/// [`DbError`]: roll back.
pub fn give_back(tx: &Connection, reserved: Reserved) -> Result<Option<Reserved>, DbError> {
    let changed = tx
        .prepare_cached(
            "UPDATE outbox_counter SET last = last - 1 WHERE peer = ?1 AND priority = ?2 AND last = ?3",
        )?
        .execute((
            reserved.peer.number(),
            reserved.priority.rank(),
            Count(reserved.seq),
        ))?;
    Ok((changed == 0).then_some(reserved))
}
