//! Which stream of each sender is known here, and what a receiver says when a sender says hello ([`crate::meet`]).
use super::{WINDOW, advance, last};
use crate::{
    audit::{self, Decision, Entry, Signer, heads},
    db::{Count, DbError},
    gap,
    meet::{self, Cause},
    wire::{Begin, Hello, Loss, Received, Welcome},
};
use rusqlite::{Connection, OptionalExtension as _};
use types::{Place, Priority, Timestamp};

/// What version 2 of the inbox adds.
pub(super) const STREAMS: &str = "
CREATE TABLE IF NOT EXISTS inbox_stream (
    sender TEXT PRIMARY KEY,
    stream BLOB NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0     -- 1: nothing is taken before they have met again; 2: nor before it began anew
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inbox_mark (
    sender   TEXT NOT NULL,
    priority INTEGER NOT NULL,
    last     INTEGER NOT NULL,            -- everything up to here was applied
    mark     INTEGER NOT NULL,            -- when the other store stood at this mark
    PRIMARY KEY (sender, priority, last)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inbox_seen (
    only INTEGER PRIMARY KEY CHECK (only = 0),
    mark INTEGER NOT NULL                 -- the last mark of the other store that was seen
) STRICT;
";

/// What version 3 adds. A region's marks were how many resources its store had; they are the store's order of commits
/// now, which is never behind that count. By the old ones, what a store has would be told wrongly: without any, all of a
/// sender is asked for again if the store is put back to a time before.
pub(super) const OTHER_MARKS: &str = "DELETE FROM inbox_mark;";

/// What lives as long as the ledger is open.
pub(super) const OPEN: &str = "
CREATE TEMP TABLE IF NOT EXISTS inbox_vouched (
    sender TEXT PRIMARY KEY               -- what it and this node lost by a restore is known, or declared
) STRICT, WITHOUT ROWID;
";

/// Bytes of a stream's id.
pub const STREAM_BYTES: usize = 16;
/// A place in the order of which it is only known that it will not come.
const HOLE: &str = "INSERT OR IGNORE INTO inbox_answer (sender, priority, seq, id, digest, outcome, stored, reason)
     VALUES (?1, ?2, ?3, x'', x'', 'refused', 0, 'other')";

/// Who meets here.
pub struct Here<'a> {
    /// The receiver.
    pub place: &'a Place,
    /// Signs its log.
    pub signer: &'a Signer,
    /// Real time.
    pub now: Timestamp,
}

/// Whether a parcel of this stream may be taken from a sender: it is the one that is known, or none is known.
///
/// # Errors
/// [`DbError`].
pub(super) fn is_known(conn: &Connection, sender: &str, stream: &[u8]) -> Result<bool, DbError> {
    Ok(match known(conn, sender)? {
        Some((known, paused)) => paused == Paused::No && known == stream,
        None => true,
    })
}

/// Whether parcels of a sender's stream are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paused {
    No,
    /// Not before they have met: the store beside this ledger is older than what was answered for.
    UntilMet,
    /// Not before it began a stream: see [`doubt`].
    InDoubt,
}

fn known(conn: &Connection, sender: &str) -> Result<Option<(Vec<u8>, Paused)>, DbError> {
    let row = conn
        .prepare_cached("SELECT stream, paused FROM inbox_stream WHERE sender = ?1")?
        .query_row([sender], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((stream, paused)) = row else {
        return Ok(None);
    };
    let paused = match paused {
        0 => Paused::No,
        1 => Paused::UntilMet,
        _ => Paused::InDoubt,
    };
    Ok(Some((stream, paused)))
}

/// This node was put back, as `by` showed. What a sender that has not shown it sent since then is not known here,
/// nor whether it knows: nothing more of it is taken before it has begun a stream. Those whose loss is known or declared
/// since the ledger was opened are left alone. So is `by` itself: it knows what was before the restore, and is only asked
/// to meet, if somebody else had shown the same restore first.
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub fn doubt(tx: &Connection, by: &Place) -> Result<(), DbError> {
    let by = by.to_string();
    vouch(tx, &by)?;
    tx.prepare_cached("UPDATE inbox_stream SET paused = 1 WHERE sender = ?1 AND paused = 2")?
        .execute([&by])?;
    tx.prepare_cached(
        "UPDATE inbox_stream SET paused = 2 WHERE sender NOT IN (SELECT sender FROM inbox_vouched)",
    )?
    .execute([])?;
    Ok(())
}

/// This node was put back, as its operator says: none of the senders that `is` tells is taken before it has begun a
/// stream. How many there are.
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub fn doubt_all(tx: &Connection, is: impl Fn(&Place) -> bool) -> Result<usize, DbError> {
    let senders: Vec<String> = tx
        .prepare_cached("SELECT sender FROM inbox_stream")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut doubted = 0;
    for sender in senders {
        let place = sender.parse().map_err(|_| DbError::Corrupt("sender"))?;
        if is(&place) {
            doubted += tx
                .prepare_cached("UPDATE inbox_stream SET paused = 2 WHERE sender = ?1")?
                .execute([&sender])?;
        }
    }
    Ok(doubted)
}

/// What this sender and this node lost is known, or declared.
fn vouch(tx: &Connection, sender: &str) -> Result<(), DbError> {
    tx.prepare_cached("INSERT OR IGNORE INTO inbox_vouched (sender) VALUES (?1)")?
        .execute([sender])?;
    Ok(())
}

/// Answers a sender's hello in the caller's transaction. Its head was verified by whoever calls.
///
/// # Errors
/// [`DbError`]; the caller rolls back. [`DbError::Corrupt`] when the hello does not make sense.
pub fn meet(
    tx: &Connection,
    here: &Here<'_>,
    from: &Place,
    hello: &Hello,
) -> Result<Welcome, DbError> {
    const SENSELESS: DbError = DbError::Corrupt("a hello that does not make sense");
    let (first, _) = meet::sent(hello).ok_or(SENSELESS)?;
    if hello.stream.len() != STREAM_BYTES {
        return Err(SENSELESS);
    }
    let sender = from.to_string();
    let held = heads::kept(tx, from)?;
    let put_back = match here.signer.open(&hello.held) {
        Some(head) => !heads::holds(tx, &head)?,
        None => false,
    };
    match (put_back, known(tx, &sender)?) {
        (false, _) => {}
        // It was away since somebody else showed it: what it knows is of the same restore, and of nobody else.
        (true, Some((_, Paused::InDoubt))) => vouch(tx, &sender)?,
        (true, _) => doubt(tx, from)?,
    }
    match &hello.begin {
        Some(begin) => take(tx, here, (from, &sender), hello, begin, put_back)?,
        None => {
            if let Some((stream, Paused::UntilMet)) = known(tx, &sender)? {
                resume(tx, (from, &sender), &stream, hello, first)?;
            }
        }
    }
    // A sender that was put back is known as it is now once its stream is taken.
    let held = match hello.begin {
        Some(_) => heads::kept(tx, from)?,
        None => held,
    };
    heads::keep(tx, &hello.head)?;
    let (stream, paused) = known(tx, &sender)?.unwrap_or((Vec::new(), Paused::No));
    Ok(Welcome {
        stream: stream.into(),
        in_doubt: paused == Paused::InDoubt,
        received: Priority::ALL
            .map(|priority| have(tx, from, priority))
            .into_iter()
            .collect::<Result<_, _>>()?,
        head: audit::checkpoint(tx)?.unwrap_or_default(),
        held,
        put_back,
    })
}

fn have(conn: &Connection, from: &Place, priority: Priority) -> Result<Received, DbError> {
    let last = last(conn, from, priority)?;
    let id: Option<Vec<u8>> = conn
        .prepare_cached(
            "SELECT id FROM inbox_answer WHERE sender = ?1 AND priority = ?2 AND seq = ?3",
        )?
        .query_row((from.to_string(), priority.rank(), Count(last)), |row| {
            row.get(0)
        })
        .optional()?;
    let id = id.unwrap_or_default().into();
    Ok(Received { last, id })
}

/// A sender that lost nothing by what was taken back here goes on.
fn resume(
    tx: &Connection,
    (from, sender): (&Place, &str),
    stream: &[u8],
    hello: &Hello,
    first: meet::PerPriority,
) -> Result<(), DbError> {
    for (priority, first) in meet::ranked(first) {
        if last(tx, from, priority)?.saturating_add(1) < first {
            return Ok(());
        }
    }
    if hello.stream == stream {
        tx.prepare_cached("UPDATE inbox_stream SET paused = 0 WHERE sender = ?1")?
            .execute([sender])?;
    }
    Ok(())
}

/// Takes a stream in place of the one that the sender was told; another than that stays.
fn take(
    tx: &Connection,
    here: &Here<'_>,
    (from, sender): (&Place, &str),
    hello: &Hello,
    begin: &Begin,
    put_back: bool,
) -> Result<(), DbError> {
    let cause = Cause::parse(&begin.cause).unwrap_or(Cause::Resumed);
    let before = known(tx, sender)?;
    let replaces = before.as_ref().map_or(&[][..], |(stream, _)| &stream[..]);
    if replaces != begin.replaces || replaces == hello.stream {
        return Ok(());
    }
    if cause != Cause::Introduced {
        renumber(tx, (from, sender), hello)?;
    }
    tx.prepare_cached(
        "INSERT INTO inbox_stream (sender, stream, paused) VALUES (?1, ?2, 0)
         ON CONFLICT (sender) DO UPDATE SET stream = excluded.stream, paused = 0",
    )?
    .execute((sender, &hello.stream[..]))?;
    if cause == Cause::Introduced {
        return Ok(());
    }
    let event =
        |decision, reason| Entry::of_event(here.now, decision, reason, (from, here.place), 0);
    if put_back {
        audit::append(tx, &event(Decision::PutBack, cause.as_str()))?;
    }
    if cause.leaves_doubt() {
        vouch(tx, sender)?;
    }
    audit::append(tx, &event(Decision::StreamTaken, cause.as_str()))?;
    let loss = countable(begin.loss.unwrap_or_default());
    if gap::is_one(cause, &loss) {
        gap::declare(tx, (here.place, from), cause.as_str(), &loss, here.now)?;
    }
    audit::sign_head(tx, here.signer)?;
    heads::replace(tx, &hello.head)?;
    tracing::error!(cause = cause.as_str(), %from, put_back, "a sender begins its parcels anew");
    metrics::counter!("medmesh_streams_taken_total", "cause" => cause.as_str()).increment(1);
    Ok(())
}

/// A loss as a sender says it, in numbers that can be kept.
fn countable(loss: Loss) -> Loss {
    const MOST: u64 = i64::MAX.unsigned_abs();
    Loss {
        parcels: loss.parcels.min(MOST),
        records: loss.records.min(MOST),
        ..loss
    }
}

/// The order of a sender begins where it says.
fn renumber(tx: &Connection, (from, sender): (&Place, &str), hello: &Hello) -> Result<(), DbError> {
    for table in ["inbox_last", "inbox_answer", "inbox_mark"] {
        tx.prepare_cached(&format!("DELETE FROM {table} WHERE sender = ?1"))?
            .execute([sender])?;
    }
    for (priority, sent) in Priority::ALL.into_iter().zip(&hello.sent) {
        tx.prepare_cached("INSERT INTO inbox_last (sender, priority, last) VALUES (?1, ?2, ?3)")?
            .execute((sender, priority.rank(), Count(sent.first.saturating_sub(1))))?;
        let window = sent.first..sent.first.saturating_add(WINDOW);
        for hole in sent.holes.iter().filter(|hole| window.contains(hole)) {
            tx.prepare_cached(HOLE)?
                .execute((sender, priority.rank(), Count(*hole)))?;
        }
        advance(tx, from, priority)?;
    }
    Ok(())
}

/// Parcels of one priority between two marks that are kept.
const MARK_EVERY: u64 = 64;

/// Notes at which mark of the other store everything up to the last answer was applied: every few parcels.
pub(super) fn note_mark(
    tx: &Connection,
    sender: &Place,
    priority: Priority,
    mark: u64,
) -> Result<(), DbError> {
    let last = last(tx, sender, priority)?;
    tx.prepare_cached(
        "INSERT OR REPLACE INTO inbox_mark (sender, priority, last, mark)
         SELECT ?1, ?2, ?3, ?4 WHERE ?3 >= ?5 + coalesce(
           (SELECT max(last) FROM inbox_mark WHERE sender = ?1 AND priority = ?2), -?5)",
    )?
    .execute((
        sender.to_string(),
        priority.rank(),
        Count(last),
        Count(mark),
        Count(MARK_EVERY),
    ))?;
    Ok(())
}

/// A mark of the other store was seen.
pub(crate) fn see_mark(tx: &Connection, mark: u64) -> Result<(), DbError> {
    tx.prepare_cached(
        "INSERT INTO inbox_seen (only, mark) VALUES (0, ?1)
         ON CONFLICT (only) DO UPDATE SET mark = max(mark, excluded.mark)",
    )?
    .execute([Count(mark)])?;
    Ok(())
}

/// The last mark that was seen; none before the first.
pub(crate) fn last_mark(conn: &Connection) -> Result<Option<u64>, DbError> {
    let mark: Option<Count> = conn
        .prepare_cached("SELECT mark FROM inbox_seen")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(mark.map(|Count(mark)| mark))
}

/// The other store stands at `mark`, behind what was answered for: everything that was applied since is as if it had
/// never come, and its senders are asked when they meet this node again. How many parcels that are.
pub(crate) fn rewind(tx: &Connection, mark: u64) -> Result<u64, DbError> {
    let mut lost = 0;
    let lasts: Vec<(String, u8, Count)> = tx
        .prepare_cached("SELECT sender, priority, last FROM inbox_last")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (sender, rank, Count(last)) in lasts {
        let known: Option<Count> = tx
            .prepare_cached(
                "SELECT max(last) FROM inbox_mark WHERE sender = ?1 AND priority = ?2 AND mark <= ?3",
            )?
            .query_row((&sender, rank, Count(mark)), |row| row.get(0))?;
        let kept = known.map_or(0, |Count(kept)| kept).min(last);
        lost += last - kept;
        let place = (&sender, rank, Count(kept));
        for sql in [
            "UPDATE inbox_last SET last = ?3 WHERE sender = ?1 AND priority = ?2",
            "DELETE FROM inbox_answer WHERE sender = ?1 AND priority = ?2 AND seq > ?3",
            "DELETE FROM inbox_mark WHERE sender = ?1 AND priority = ?2 AND last > ?3",
        ] {
            tx.prepare_cached(sql)?.execute(place)?;
        }
    }
    tx.execute_batch("UPDATE inbox_stream SET paused = max(paused, 1)")?;
    tx.prepare_cached("UPDATE inbox_seen SET mark = ?1")?
        .execute([Count(mark)])?;
    Ok(lost)
}

/// A loss of parcels whose records nobody has counted.
#[must_use]
pub const fn uncounted(parcels: u64) -> Loss {
    Loss {
        parcels,
        records: 0,
        from_ms: 0,
        to_ms: 0,
    }
}
