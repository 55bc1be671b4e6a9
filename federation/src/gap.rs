//! Gaps: what is missing after a node was put back to an older state and no end has any more, or nobody can tell.
//!
//! Both ends of a link write a gap down in the commit that begins the new stream ([`crate::meet`]), with a row in the
//! audit log. The node is degraded until a person has acknowledged it, which is a row of the audit log too.
use crate::{
    audit::{self, Decision, Entry},
    db::{Count, DbError, migrate},
    meet::Cause,
    wire::Loss,
};
use rusqlite::Connection;
use types::{Place, Timestamp};

const SCHEMA: &[&str] = &["
CREATE TABLE IF NOT EXISTS gap (
    n            INTEGER PRIMARY KEY,
    time         TEXT NOT NULL,           -- when it was found (real time)
    cause        TEXT NOT NULL,           -- whose state was put back
    peer         TEXT NOT NULL,           -- the other end
    parcels      INTEGER NOT NULL,
    records      INTEGER NOT NULL,        -- 0: nobody can tell
    from_ms      INTEGER NOT NULL,        -- when they were made; 0: nobody can tell
    to_ms        INTEGER NOT NULL,
    acknowledged TEXT NOT NULL DEFAULT '' -- when a person did (real time)
) STRICT;
"];

/// The cause of a gap in the audit log itself: it is empty though the node had run.
pub const LOG_LOST: &str = "log-lost";
/// Gaps that are listed at once.
const MAX_LISTED: u32 = 1_000;

/// A gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Its number in this node.
    pub number: u64,
    /// When it was found, real time.
    pub time: String,
    /// Whose state was put back, a word of [`Cause`], or [`LOG_LOST`].
    pub cause: String,
    /// The other end.
    pub peer: String,
    /// Parcels of which something is missing.
    pub parcels: u64,
    /// Records; 0 when nobody can tell.
    pub records: u64,
    /// When the missing ones were made, ms since 1970 (real time); 0 when nobody can tell.
    pub from_ms: i64,
    /// The end of that span.
    pub to_ms: i64,
    /// Whether a person has acknowledged it.
    pub is_acknowledged: bool,
}

/// Makes the tables, or brings them up to date.
///
/// # Errors
/// [`DbError`]; [`DbError::Newer`] when a newer program wrote them.
pub fn schema(conn: &Connection) -> Result<(), DbError> {
    migrate(conn, "gap", SCHEMA)
}

/// Whether a loss is one that a person must know of: something is missing, or nobody can tell whether anything is.
#[must_use]
pub const fn is_one(cause: Cause, loss: &Loss) -> bool {
    loss.parcels > 0 || loss.records > 0 || cause.leaves_doubt()
}

/// Writes a gap down, and a row in the audit log of `me`. Then call [`audit::sign_head`].
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub fn declare(
    tx: &Connection,
    (me, peer): (&Place, &Place),
    cause: &'static str,
    loss: &Loss,
    now: Timestamp,
) -> Result<(), DbError> {
    let count = |number: u64| Count(number.min(i64::MAX as u64));
    tx.prepare_cached(
        "INSERT INTO gap (time, cause, peer, parcels, records, from_ms, to_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        now.to_rfc3339(),
        cause,
        peer.to_string(),
        count(loss.parcels),
        count(loss.records),
        loss.from_ms,
        loss.to_ms,
    ))?;
    let missing = u32::try_from(loss.records.max(loss.parcels)).unwrap_or(u32::MAX);
    let entry = Entry::of_event(now, Decision::GapDeclared, cause, (peer, me), missing);
    audit::append(tx, &entry)?;
    metrics::counter!("medmesh_gaps_total", "cause" => cause).increment(1);
    tracing::error!(
        cause,
        %peer,
        parcels = loss.parcels,
        records = loss.records,
        "data is missing after a restore; a person must look and acknowledge it (medmesh audit acknowledge)"
    );
    Ok(())
}

/// The gaps, the oldest first; those that nobody has acknowledged, or all.
///
/// # Errors
/// [`DbError`].
pub fn list(conn: &Connection, all: bool) -> Result<Vec<Gap>, DbError> {
    let mut statement = conn.prepare_cached(
        "SELECT n, time, cause, peer, parcels, records, from_ms, to_ms, acknowledged FROM gap
         WHERE ?1 OR acknowledged = '' ORDER BY n LIMIT ?2",
    )?;
    let rows = statement.query_map((all, MAX_LISTED), |row| {
        Ok(Gap {
            number: row.get::<_, Count>(0)?.0,
            time: row.get(1)?,
            cause: row.get(2)?,
            peer: row.get(3)?,
            parcels: row.get::<_, Count>(4)?.0,
            records: row.get::<_, Count>(5)?.0,
            from_ms: row.get(6)?,
            to_ms: row.get(7)?,
            is_acknowledged: !row.get_ref(8)?.as_str()?.is_empty(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether there is a gap that nobody has acknowledged.
///
/// # Errors
/// [`DbError`].
pub fn any(conn: &Connection) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM gap WHERE acknowledged = '' LIMIT 1")?
        .exists([])?)
}

/// A person acknowledges every gap that is open: how many. Then call [`audit::sign_head`].
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub fn acknowledge(tx: &Connection, me: &Place, now: Timestamp) -> Result<usize, DbError> {
    let open = list(tx, false)?;
    for gap in &open {
        tx.prepare_cached("UPDATE gap SET acknowledged = ?2 WHERE n = ?1")?
            .execute((Count(gap.number), now.to_rfc3339()))?;
        let cause = match Cause::parse(&gap.cause) {
            Some(cause) => cause.as_str(),
            None => LOG_LOST,
        };
        let peer = gap.peer.parse().map_err(|_| DbError::Corrupt("gap"))?;
        let missing = u32::try_from(gap.records.max(gap.parcels)).unwrap_or(u32::MAX);
        let entry = Entry::of_event(now, Decision::GapAcknowledged, cause, (&peer, me), missing);
        audit::append(tx, &entry)?;
    }
    Ok(open.len())
}
