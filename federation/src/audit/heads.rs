//! Heads of other nodes' logs that are kept here, and whether this log still holds a head that another keeps of it.
//!
//! A head that was signed and given away can never be taken back: a log that does not hold it any more was put back to
//! an older state, or cut. The root at each size that was signed is kept beside the log, so that a comparison costs one
//! row; [`super::verify`], which trusts nothing, recomputes all of it.
use super::{frontier, leaf_hashes};
use crate::{
    db::{Count, DbError},
    merkle::{Frontier, Hash},
    note::TreeHead,
};
use rusqlite::{Connection, OptionalExtension as _};
use types::Place;

/// What version 2 of the audit tables adds.
pub(super) const HEADS: &str = "
CREATE TABLE IF NOT EXISTS audit_root (
    size INTEGER PRIMARY KEY,             -- entries
    root BLOB NOT NULL                    -- the root that was signed over them
) STRICT;
CREATE TABLE IF NOT EXISTS audit_peer (
    origin TEXT PRIMARY KEY,              -- whose log
    size   INTEGER NOT NULL,
    note   TEXT NOT NULL                  -- its newest signed head that is known here, verified when it came
) STRICT, WITHOUT ROWID;
";

/// Remembers the root of a head that is signed now.
pub(super) fn remember(tx: &Connection, frontier: &Frontier) -> Result<(), DbError> {
    tx.prepare_cached("INSERT OR REPLACE INTO audit_root (size, root) VALUES (?1, ?2)")?
        .execute((Count(frontier.size()), frontier.root()))?;
    Ok(())
}

/// Whether this log holds a head of its own that another keeps: it has as many entries, and had that root with them.
///
/// # Errors
/// [`DbError`].
pub fn holds(conn: &Connection, head: &TreeHead) -> Result<bool, DbError> {
    let now = frontier(conn)?;
    if head.size == 0 || head.size > now.size() {
        return Ok(head.size == 0);
    }
    if head.size == now.size() {
        return Ok(head.root == now.root());
    }
    let kept: Option<Hash> = conn
        .prepare_cached("SELECT root FROM audit_root WHERE size = ?1")?
        .query_row([Count(head.size)], |row| row.get(0))
        .optional()?;
    let root = match kept {
        Some(root) => root,
        // Signed before roots were kept.
        None => crate::merkle::root(&leaf_hashes(conn, head.size)?),
    };
    Ok(root == head.root)
}

/// Keeps a verified head of another node's log, if it is newer than the one that is kept.
///
/// # Errors
/// [`DbError`].
pub fn keep(tx: &Connection, note: &str) -> Result<(), DbError> {
    put(tx, note, "WHERE excluded.size > audit_peer.size")
}

/// Keeps a verified head of another node's log in place of the one that is kept: that log was put back.
///
/// # Errors
/// [`DbError`].
pub fn replace(tx: &Connection, note: &str) -> Result<(), DbError> {
    put(tx, note, "")
}

fn put(tx: &Connection, note: &str, condition: &str) -> Result<(), DbError> {
    let Ok(head) = TreeHead::read(note) else {
        return Ok(());
    };
    let sql = format!(
        "INSERT INTO audit_peer (origin, size, note) VALUES (?1, ?2, ?3)
         ON CONFLICT (origin) DO UPDATE SET size = excluded.size, note = excluded.note {condition}"
    );
    tx.prepare_cached(&sql)?
        .execute((head.origin, Count(head.size), note))?;
    Ok(())
}

/// The head of a place's log that is kept here; empty when there is none.
///
/// # Errors
/// [`DbError`].
pub fn kept(conn: &Connection, of: &Place) -> Result<String, DbError> {
    let note: Option<String> = conn
        .prepare_cached("SELECT note FROM audit_peer WHERE origin = ?1")?
        .query_row([super::origin(of)], |row| row.get(0))
        .optional()?;
    Ok(note.unwrap_or_default())
}

/// Every head of other logs that is kept here, by the name of the log.
///
/// # Errors
/// [`DbError`].
pub fn all(conn: &Connection) -> Result<Vec<String>, DbError> {
    let mut statement = conn.prepare_cached("SELECT note FROM audit_peer ORDER BY origin")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
