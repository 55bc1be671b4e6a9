//! Heads of other nodes' logs that are kept here, and whether this log still holds a head that another keeps of it.
//!
//! A head that was signed and given away can never be taken back: a log that does not hold it any more was put back to
//! an older state, or cut. The frontier at every [`KEPT_EVERY`] entries is kept beside the log, so that a comparison
//! costs no more hashes than that however long the log is; [`super::verify`], which trusts nothing, recomputes all of it.
use super::{PART, Signer, frontier, frontier_of};
use crate::{
    db::{self, Count, DbError},
    merkle::{Frontier, Hash, leaf_hash},
    note::TreeHead,
};
use rusqlite::{Connection, OptionalExtension as _};
use std::{collections::BTreeMap, iter::Peekable};
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

/// What version 3 changes: a root for every commit grew with the commits, however few entries they had.
pub(super) const FRONTIERS: &str = "
DROP TABLE audit_root;
CREATE TABLE audit_frontier (
    size     INTEGER PRIMARY KEY,         -- entries, a multiple of KEPT_EVERY
    frontier BLOB NOT NULL                -- roots of the perfect subtrees, as in audit_head
) STRICT;
";

/// The version of the tables whose frontiers lack those of entries that were there before.
pub(super) const WITHOUT_EARLIER: u32 = 3;

/// What version 4 changes: nothing of the tables. [`keep_earlier`] has run before it.
pub(super) const EVERY_FRONTIER: &str = "SELECT 1;";

/// What version 5 adds: heads that the tier above tells, of logs that are known here first-hand or are this node's own.
pub(super) const TOLD: &str = "
CREATE TABLE IF NOT EXISTS audit_told (
    origin TEXT PRIMARY KEY,              -- whose log
    size   INTEGER NOT NULL,
    note   TEXT NOT NULL,                 -- the largest that was told
    open   INTEGER NOT NULL               -- 1: of the own log, which does not hold it, and that is not declared yet
) STRICT, WITHOUT ROWID;
";

/// Keeps the frontiers of the entries that were there before frontiers were kept. Again is to no effect.
pub(super) fn keep_earlier(conn: &Connection) -> Result<(), DbError> {
    let mut frontier = Frontier::default();
    let mut statement = conn.prepare("SELECT leaf FROM audit_entry ORDER BY idx")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let leaf = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        frontier.push(leaf_hash(leaf));
        remember(conn, &frontier)?;
    }
    Ok(())
}

/// Forgets frontiers of more entries than there are: those of a log that was emptied or cut.
pub(crate) fn forget_beyond(tx: &Connection, size: u64) -> Result<(), DbError> {
    tx.execute("DELETE FROM audit_frontier WHERE size > ?1", [Count(size)])?;
    Ok(())
}

/// The frontiers that are kept, to be compared with those that are recomputed: one at every [`KEPT_EVERY`] entries and
/// no other.
pub(super) struct Kept {
    frontiers: Peekable<std::collections::btree_map::IntoIter<u64, Vec<u8>>>,
    /// Tables of before every frontier was kept tell nothing.
    is_whole: bool,
}

impl Kept {
    /// Those of a log.
    pub(super) fn of(conn: &Connection) -> Result<Self, DbError> {
        let is_whole = db::version(conn, PART)? > WITHOUT_EARLIER;
        let mut frontiers = BTreeMap::new();
        if is_whole {
            let mut statement = conn.prepare("SELECT size, frontier FROM audit_frontier")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                frontiers.insert(row.get::<_, Count>(0)?.0, row.get(1)?);
            }
        }
        let frontiers = frontiers.into_iter().peekable();
        Ok(Self {
            frontiers,
            is_whole,
        })
    }

    /// Whether what is kept at the size of a recomputed frontier is this one. Sizes are given in their order.
    pub(super) fn agrees(&mut self, frontier: &Frontier) -> bool {
        let size = frontier.size();
        let kept = self.frontiers.next_if(|(at, _)| *at <= size);
        match kept {
            Some((at, roots)) => {
                at == size && size.is_multiple_of(KEPT_EVERY) && roots == frontier.roots().concat()
            }
            None => !self.is_whole || !size.is_multiple_of(KEPT_EVERY),
        }
    }

    /// The size of one that is kept of more entries than there are.
    pub(super) fn rest(&mut self) -> Option<u64> {
        self.frontiers.next().map(|(size, _)| size)
    }
}

/// The name of a log whose kept head does not say what the row says that it is.
pub(super) fn mistaken(conn: &Connection) -> Result<Option<String>, DbError> {
    let mut statement =
        conn.prepare("SELECT origin, size, note FROM audit_peer ORDER BY origin")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (origin, Count(size)): (String, _) = (row.get(0)?, row.get(1)?);
        let note: String = row.get(2)?;
        let says = TreeHead::read(&note).map(|head| (head.origin, head.size));
        if says.ok().as_ref() != Some(&(origin.clone(), size)) {
            return Ok(Some(origin));
        }
    }
    Ok(None)
}

/// Entries from one kept frontier to the next. A frontier has some 300 bytes, so that they cost a third of a byte an
/// entry, and a comparison hashes at most so many entries: milliseconds.
pub const KEPT_EVERY: u64 = 1_024;

/// Keeps the frontier after an append where it is due.
pub(super) fn remember(tx: &Connection, frontier: &Frontier) -> Result<(), DbError> {
    if frontier.size().is_multiple_of(KEPT_EVERY) {
        // What an emptied log left of itself is replaced as the log grows.
        tx.prepare_cached(
            "INSERT OR REPLACE INTO audit_frontier (size, frontier) VALUES (?1, ?2)",
        )?
        .execute((Count(frontier.size()), frontier.roots().concat()))?;
    }
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
    Ok(root_at(conn, head.size)? == head.root)
}

/// The root over the first `size` entries, of which there are as many. A log of before frontiers were kept is hashed
/// from its beginning.
fn root_at(conn: &Connection, size: u64) -> Result<Hash, DbError> {
    let kept: Option<(Count, Vec<u8>)> = conn
        .prepare_cached(
            "SELECT size, frontier FROM audit_frontier WHERE size <= ?1 ORDER BY size DESC LIMIT 1",
        )?
        .query_row([Count(size)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let mut frontier = match kept {
        Some((Count(at), roots)) => frontier_of(at, &roots)?,
        None => Frontier::default(),
    };
    let mut statement = conn
        .prepare_cached("SELECT leaf FROM audit_entry WHERE idx >= ?1 AND idx < ?2 ORDER BY idx")?;
    let mut rows = statement.query((Count(frontier.size()), Count(size)))?;
    while let Some(row) = rows.next()? {
        let leaf = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        frontier.push(leaf_hash(leaf));
    }
    if frontier.size() == size {
        Ok(frontier.root())
    } else {
        Err(DbError::Corrupt("audit log has gaps"))
    }
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

/// Keeps a head of the log of a place below, as the tier above tells it. What that place said itself stays as it is: a
/// teller cannot take it away.
///
/// # Errors
/// [`DbError`].
pub fn tell(tx: &Connection, note: &str) -> Result<(), DbError> {
    let Ok(head) = TreeHead::read(note) else {
        return Ok(());
    };
    put_told(tx, &head, note, false)
}

/// The head of a place below, as the tier above tells it, if it is newer than what that place said itself. None or
/// older: empty.
///
/// # Errors
/// [`DbError`].
pub fn told(conn: &Connection, of: &Place) -> Result<String, DbError> {
    let note: Option<String> = conn
        .prepare_cached(
            "SELECT note FROM audit_told WHERE origin = ?1 AND size > coalesce(
               (SELECT size FROM audit_peer WHERE audit_peer.origin = ?1), 0)",
        )?
        .query_row([super::origin(of)], |row| row.get(0))
        .optional()?;
    Ok(note.unwrap_or_default())
}

/// Hears a head of this node's own log, which nobody but itself can have signed. When the log does not hold it, this node
/// was put back, and says so when it next meets whom it sends to ([`crate::outbox::judge`]): whether it is so, and was not
/// known.
///
/// # Errors
/// [`DbError`].
pub fn hear(tx: &Connection, signer: &Signer, note: &str) -> Result<bool, DbError> {
    let Some(head) = signer.open(note) else {
        return Ok(false);
    };
    let known: Option<Count> = tx
        .prepare_cached("SELECT size FROM audit_told WHERE origin = ?1")?
        .query_row([&head.origin], |row| row.get(0))
        .optional()?;
    if known.is_some_and(|Count(size)| head.size <= size) || holds(tx, &head)? {
        return Ok(false);
    }
    put_told(tx, &head, note, true)?;
    Ok(true)
}

fn put_told(tx: &Connection, head: &TreeHead, note: &str, open: bool) -> Result<(), DbError> {
    tx.prepare_cached(
        "INSERT INTO audit_told (origin, size, note, open) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (origin) DO UPDATE SET size = excluded.size, note = excluded.note, open = excluded.open
         WHERE excluded.size > audit_told.size",
    )?
    .execute((&head.origin, Count(head.size), note, open))?;
    Ok(())
}

/// Whether this node was told of a head of its own log that the log does not hold, and has not declared it.
///
/// # Errors
/// [`DbError`].
pub(crate) fn lacks_told(conn: &Connection, me: &Place) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM audit_told WHERE origin = ?1 AND open = 1")?
        .exists([super::origin(me)])?)
}

/// It is declared that this node was put back.
///
/// # Errors
/// [`DbError`].
pub(crate) fn declare_told(tx: &Connection, me: &Place) -> Result<(), DbError> {
    tx.prepare_cached("UPDATE audit_told SET open = 0 WHERE origin = ?1")?
        .execute([super::origin(me)])?;
    Ok(())
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
