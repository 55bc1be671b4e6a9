//! The receivers of an outbox, and the keys of its rows: each receiver has sequences, a stream and counters of its own.
//!
//! Number 0 is the next tier up, of which a place has one at most; places below are numbered as they come to be known.
//! A row's key is (priority, receiver, sequence), so what waits for a receiver in a priority is one range in its order.
use crate::db::DbError;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _};
use types::{Place, Priority};

/// What version 3 of the outbox adds. What it held before was for the next tier up, and keeps its keys.
pub(super) const PEERS: &str = "
CREATE TABLE outbox_peer (
    place TEXT PRIMARY KEY,               -- a place below
    n     INTEGER NOT NULL                -- from 1
) STRICT, WITHOUT ROWID;
ALTER TABLE outbox_counter RENAME TO outbox_counter_before;
CREATE TABLE outbox_counter (
    peer     INTEGER NOT NULL,            -- 0: the next tier up
    priority INTEGER NOT NULL,
    last     INTEGER NOT NULL,            -- the last sequence given out
    parcels  INTEGER NOT NULL,            -- waiting
    bytes    INTEGER NOT NULL,            -- of their bodies
    PRIMARY KEY (peer, priority)
) STRICT, WITHOUT ROWID;
INSERT INTO outbox_counter SELECT 0, priority, last, parcels, bytes FROM outbox_counter_before;
DROP TABLE outbox_counter_before;
ALTER TABLE outbox_stream ADD COLUMN peer INTEGER NOT NULL DEFAULT 0;
";

/// Sequences of one receiver in one priority.
pub(super) const SEQUENCES: i64 = crate::meet::SEQUENCES.cast_signed();
/// Receivers of one outbox.
const PEERS_MAX: i64 = 1 << 16;
/// Keys of one priority.
const KEYS_PER_PRIORITY: i64 = SEQUENCES * PEERS_MAX;

/// A receiver of an outbox, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer(i64);

impl Peer {
    /// The next tier up.
    pub(super) const ABOVE: Self = Self(0);

    pub(super) const fn number(self) -> i64 {
        self.0
    }

    /// The key of a parcel.
    pub(super) fn key(self, priority: Priority, seq: u64) -> Result<i64, DbError> {
        match i64::try_from(seq) {
            Ok(seq) if seq < SEQUENCES => Ok(self.before(priority) + seq),
            _ => Err(DbError::Corrupt("sequence out of range")),
        }
    }

    /// The key before the first of a priority.
    pub(super) fn before(self, priority: Priority) -> i64 {
        i64::from(priority.rank()) * KEYS_PER_PRIORITY + self.0 * SEQUENCES
    }

    /// The key behind the last of a priority.
    pub(super) fn behind(self, priority: Priority) -> i64 {
        self.before(priority) + SEQUENCES
    }
}

/// Priority and sequence of a key.
pub(super) fn place_of(key: i64) -> Option<(Priority, u64)> {
    let rank = u8::try_from(key / KEYS_PER_PRIORITY).ok()?;
    let seq = u64::try_from(key % SEQUENCES).ok()?;
    Priority::from_rank(rank).map(|priority| (priority, seq))
}

/// A subquery that has a row when the parcel at (`priority`, `parcel`) of the row around it waits for the next tier up.
pub const WAITS_ABOVE: &str = "SELECT 1 FROM outbox WHERE key = priority * (1 << 56) + parcel";

/// Whether the parcel at this place of the order waits for the next tier up.
///
/// # Errors
/// [`DbError`].
pub fn waits_above(conn: &Connection, priority: Priority, seq: u64) -> Result<bool, DbError> {
    let key = Peer::ABOVE.key(priority, seq)?;
    Ok(conn
        .prepare_cached("SELECT 1 FROM outbox WHERE key = ?1")?
        .exists([key])?)
}

/// The receiver; none when it is a place below of which nothing is known yet.
pub(super) fn peer(conn: &Connection, to: &Place) -> Result<Option<Peer>, DbError> {
    let number: Option<i64> = conn
        .prepare_cached("SELECT n FROM outbox_peer WHERE place = ?1")?
        .query_row([to.to_string()], |row| row.get(0))
        .optional()?;
    // What is not known as a place below is above, but for a facility, which is above nobody.
    let above = (!matches!(to, Place::Edge { .. })).then_some(Peer::ABOVE);
    Ok(number.map(Peer).or(above))
}

/// Whether a place is of the tier below another.
#[must_use]
pub const fn is_below(place: &Place, me: &Place) -> bool {
    matches!(
        (place, me),
        (Place::Edge { .. }, Place::Regional { .. }) | (Place::Regional { .. }, Place::Global)
    )
}

/// The places below that are known.
///
/// # Errors
/// [`DbError`].
pub fn below(conn: &Connection) -> Result<Vec<Place>, DbError> {
    let mut query = conn.prepare_cached("SELECT place FROM outbox_peer ORDER BY n")?;
    let mut rows = query.query([])?;
    let mut places = Vec::new();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let place = text
            .parse()
            .map_err(|_| DbError::Corrupt("receiver of the outbox"))?;
        places.push(place);
    }
    Ok(places)
}

/// The receiver, which gets a number, counters and a stream when it is a place below that is new. In the caller's
/// transaction.
///
/// # Errors
/// [`DbError::Full`] when there are as many as there may be.
pub(super) fn peer_or_new(tx: &Connection, me: &Place, to: &Place) -> Result<Peer, DbError> {
    if !is_below(to, me) {
        return Ok(Peer::ABOVE);
    }
    if let Some(known) = peer(tx, to)?.filter(|known| *known != Peer::ABOVE) {
        return Ok(known);
    }
    let number: i64 = tx
        .prepare_cached(
            "INSERT INTO outbox_peer (n, place)
             VALUES ((SELECT coalesce(max(n), 0) + 1 FROM outbox_peer), ?1) RETURNING n",
        )?
        .query_row([to.to_string()], |row| row.get(0))?;
    if number >= PEERS_MAX {
        return Err(DbError::Full);
    }
    tx.prepare_cached(
        "INSERT INTO outbox_counter VALUES (?1, 0, 0, 0, 0), (?1, 1, 0, 0, 0), (?1, 2, 0, 0, 0)",
    )?
    .execute([number])?;
    tx.prepare_cached(
        "INSERT INTO outbox_stream (id, alarm, live, backlog, peer) VALUES (randomblob(16), 1, 1, 1, ?1)",
    )?
    .execute([number])?;
    Ok(Peer(number))
}

/// The id of the present stream of parcels to a receiver.
pub(super) fn stream(conn: &Connection, peer: Peer) -> Result<Bytes, DbError> {
    let id: Vec<u8> = conn
        .prepare_cached("SELECT id FROM outbox_stream WHERE peer = ?1 ORDER BY n DESC LIMIT 1")?
        .query_row([peer.0], |row| row.get(0))?;
    Ok(id.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_place_and_what_was_for_the_next_tier_keeps_its_own() {
        for (peer, priority, seq) in [
            (Peer::ABOVE, Priority::Alarm, 1),
            (Peer(1), Priority::Live, 7),
            (Peer(PEERS_MAX - 1), Priority::Backlog, SEQUENCES as u64 - 1),
        ] {
            let key = peer.key(priority, seq).unwrap();
            assert_eq!(place_of(key), Some((priority, seq)));
            assert!((peer.before(priority)..peer.behind(priority)).contains(&key));
        }
        assert_eq!(Peer::ABOVE.key(Priority::Live, 5).unwrap(), (1 << 56) + 5);
        assert!(Peer(1).key(Priority::Live, SEQUENCES as u64).is_err());
        assert_eq!(
            Peer(1).behind(Priority::Live),
            Peer(2).before(Priority::Live)
        );
    }
}
