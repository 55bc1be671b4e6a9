//! The streams of an outbox: where it stands, how it compares with its receiver, and how a new stream begins
//! ([`crate::meet`]).
use super::peer::{self, Peer, SEQUENCES};
use crate::{
    audit::{self, Decision, Entry, Signer, heads},
    db::{Count, DbError},
    gap,
    inbox::{STREAM_BYTES, WINDOW},
    meet::{self, Begin, Cause, Known, Next, Ours, Theirs},
    wire::{self, Hello, Loss, Sent, Welcome},
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _};
use types::{Place, Priority, Timestamp};

/// What version 2 of the outbox adds.
pub(super) const STREAMS: &str = "
CREATE TABLE IF NOT EXISTS outbox_stream (
    n     INTEGER PRIMARY KEY,
    id    BLOB NOT NULL UNIQUE,           -- 16 random bytes
    alarm INTEGER NOT NULL,               -- the sequence that it began with, by priority
    live INTEGER NOT NULL,
    backlog INTEGER NOT NULL
) STRICT;
INSERT INTO outbox_stream (id, alarm, live, backlog)
    SELECT randomblob(16), 1, 1, 1 WHERE NOT EXISTS (SELECT 1 FROM outbox_stream);
";

/// Streams that are remembered: a receiver that knows an older one is sent everything again.
const MAX_STREAMS: u64 = 256;

/// Who meets its receiver.
pub struct Sender<'a> {
    /// The sender.
    pub place: &'a Place,
    /// The receiver.
    pub to: &'a Place,
    /// Signs the sender's log.
    pub signer: &'a Signer,
    /// Real time.
    pub now: Timestamp,
}

/// The receiver, which is known since its hello.
fn known_peer(conn: &Connection, to: &Place) -> Result<Peer, DbError> {
    peer::peer(conn, to)?.ok_or(DbError::Corrupt("a receiver that was never met"))
}

/// Makes a place below known, so that it can be met: in the caller's transaction, before [`hello`]. The next tier up is
/// always known.
///
/// # Errors
/// [`DbError`].
pub fn know(tx: &Connection, me: &Place, to: &Place) -> Result<(), DbError> {
    peer::peer_or_new(tx, me, to).map(drop)
}

/// Where this outbox stands, for its receiver.
///
/// # Errors
/// [`DbError`].
pub fn hello(conn: &Connection, to: &Place) -> Result<Hello, DbError> {
    let peer = known_peer(conn, to)?;
    Ok(Hello {
        stream: peer::stream(conn, peer)?,
        sent: Priority::ALL
            .map(|priority| sent(conn, peer, priority))
            .into_iter()
            .collect::<Result<_, _>>()?,
        head: audit::checkpoint(conn)?.unwrap_or_default(),
        held: heads::kept(conn, to)?,
        begin: None,
    })
}

fn sent(conn: &Connection, peer: Peer, priority: Priority) -> Result<Sent, DbError> {
    let Count(last) = conn
        .prepare_cached("SELECT last FROM outbox_counter WHERE peer = ?1 AND priority = ?2")?
        .query_row((peer.number(), priority.rank()), |row| row.get(0))?;
    let (low, high) = (peer.before(priority), peer.behind(priority));
    let mut statement = conn.prepare_cached(
        "SELECT key FROM outbox WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3",
    )?;
    let waiting = statement
        .query_map((low, high, Count(WINDOW)), |row| {
            row.get::<_, i64>(0).map(|key| (key - low).unsigned_abs())
        })?
        .collect::<Result<Vec<u64>, _>>()?;
    let first = waiting.first().copied().unwrap_or(last + 1);
    // What is answered out of order lies within the window behind the first that waits.
    let end = last.min(first.saturating_add(WINDOW - 1));
    let mut holes = Vec::new();
    let mut next = first;
    for seq in waiting.into_iter().chain([end + 1]) {
        holes.extend((next..seq).filter(|seq| *seq <= end));
        next = seq + 1;
    }
    Ok(Sent { first, last, holes })
}

/// Compares where this outbox stands with what its receiver says. None when both agree, or were never introduced.
///
/// # Errors
/// [`DbError`]; [`DbError::Corrupt`] when the answer does not make sense.
pub fn judge(conn: &Connection, sender: &Sender<'_>, welcome: &Welcome) -> Result<Next, DbError> {
    let last = meet::received(welcome).ok_or(DbError::Corrupt("an answer to a hello"))?;
    let hello = hello(conn, sender.to)?;
    let (first, given) = meet::sent(&hello).ok_or(DbError::Corrupt("outbox counter"))?;
    let peer = known_peer(conn, sender.to)?;
    let known = known(conn, peer, &welcome.stream, &hello.stream)?;
    let comparable = matches!(known, Known::Never | Known::Current);
    let mut forked = false;
    for (priority, theirs) in Priority::ALL.into_iter().zip(&welcome.received) {
        forked |= comparable && another_waits(conn, (peer, priority), theirs)?;
    }
    let log_behind = match sender.signer.open(&welcome.held) {
        Some(head) => !heads::holds(conn, &head)?,
        None => false,
    } || heads::lacks_told(conn, sender.place)?;
    let ours = Ours {
        known,
        first,
        last: given,
        forked,
        log_behind,
    };
    let theirs = Theirs {
        last,
        put_back: welcome.put_back,
        in_doubt: welcome.in_doubt,
    };
    Ok(meet::judge(&ours, &theirs))
}

fn known(conn: &Connection, peer: Peer, theirs: &[u8], current: &[u8]) -> Result<Known, DbError> {
    if theirs.is_empty() {
        return Ok(Known::Never);
    }
    if theirs == current {
        return Ok(Known::Current);
    }
    let next = conn
        .prepare_cached(
            "SELECT alarm, live, backlog FROM outbox_stream
             WHERE peer = ?2 AND n > (SELECT n FROM outbox_stream WHERE id = ?1 AND peer = ?2)
             ORDER BY n LIMIT 1",
        )?
        .query_row((theirs, peer.number()), |row| {
            let number = |at| row.get::<_, Count>(at).map(|count| count.0);
            Ok([number(0)?, number(1)?, number(2)?])
        })
        .optional()?;
    Ok(next.map_or(Known::Unheard, |next| Known::Earlier { next }))
}

/// Whether another parcel waits where the receiver has one.
fn another_waits(
    conn: &Connection,
    (peer, priority): (Peer, Priority),
    theirs: &wire::Received,
) -> Result<bool, DbError> {
    if theirs.id.is_empty() || theirs.last >= SEQUENCES.unsigned_abs() {
        return Ok(false);
    }
    let id: Option<Vec<u8>> = conn
        .prepare_cached("SELECT id FROM outbox WHERE key = ?1")?
        .query_row([peer.key(priority, theirs.last)?], |row| row.get(0))
        .optional()?;
    Ok(id.is_some_and(|id| id != theirs.id))
}

/// The receiver knows no stream and lacks nothing: it is to take the present one.
///
/// # Errors
/// [`DbError`].
pub fn introduce(conn: &Connection, to: &Place) -> Result<Hello, DbError> {
    let begin = wire::Begin {
        replaces: Bytes::new(),
        cause: Cause::Introduced.as_str().to_owned(),
        loss: None,
    };
    Ok(Hello {
        begin: Some(begin),
        ..hello(conn, to)?
    })
}

/// Begins a new stream in the caller's transaction, and writes down what is lost. `id` is random. What has a final
/// receipt beyond [`Begin::has`] the caller ships again, in the same transaction or marked in it.
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub fn begin(
    tx: &Connection,
    sender: &Sender<'_>,
    begin: &Begin,
    loss: Loss,
    id: [u8; STREAM_BYTES],
    welcome: &Welcome,
) -> Result<Hello, DbError> {
    let Begin { cause, .. } = *begin;
    let (first, _) =
        meet::sent(&hello(tx, sender.to)?).ok_or(DbError::Corrupt("outbox counter"))?;
    let [alarm, live, backlog] = first.map(Count);
    let peer = known_peer(tx, sender.to)?;
    tx.prepare_cached(
        "INSERT INTO outbox_stream (id, alarm, live, backlog, peer) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((id, alarm, live, backlog, peer.number()))?;
    tx.prepare_cached(
        "DELETE FROM outbox_stream WHERE peer = ?1 AND n <= (
           SELECT n FROM outbox_stream WHERE peer = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)",
    )?
    .execute((peer.number(), Count(MAX_STREAMS)))?;
    let event = |decision| {
        Entry::of_event(
            sender.now,
            decision,
            cause.as_str(),
            (sender.place, sender.to),
            0,
        )
    };
    if cause.is_of_sender() {
        heads::declare_told(tx, sender.place)?;
        audit::append(tx, &event(Decision::PutBack))?;
    }
    audit::append(tx, &event(Decision::StreamBegun))?;
    if gap::is_one(cause, &loss) {
        gap::declare(
            tx,
            (sender.place, sender.to),
            cause.as_str(),
            &loss,
            sender.now,
        )?;
    }
    audit::sign_head(tx, sender.signer)?;
    if welcome.put_back || cause.is_of_receiver() {
        heads::replace(tx, &welcome.head)?;
    }
    tracing::error!(
        cause = cause.as_str(),
        to = %sender.to,
        parcels = loss.parcels,
        records = loss.records,
        "this node and its receiver do not agree on what was sent: parcels begin anew"
    );
    metrics::counter!("medmesh_streams_begun_total", "cause" => cause.as_str()).increment(1);
    let begin = wire::Begin {
        replaces: welcome.stream.clone(),
        cause: cause.as_str().to_owned(),
        loss: Some(loss),
    };
    Ok(Hello {
        begin: Some(begin),
        ..hello(tx, sender.to)?
    })
}
