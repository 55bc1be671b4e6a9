//! A node's audit log as an auditor reads it: beside the running node, of one instant, without changing anything.
use super::{Entry, VerifyError, checkpoint, heads, list, verify, witness::Witness};
use crate::{
    db::{Count, DbError},
    gap::{self, Gap},
    note::TreeHead,
};
use ed25519_dalek::VerifyingKey;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use storage::open::Opening;

/// An audit log, read-only.
pub struct Log {
    connection: Connection,
    /// Entries at the instant of opening; the log only grows, so what follows is of a later one.
    size: u64,
}

impl Log {
    /// Opens the log in a file.
    ///
    /// # Errors
    /// [`DbError`] when there is no such file, or it is no database.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let opening = Opening {
            flags: OpenFlags::SQLITE_OPEN_READ_ONLY,
            ..Opening::default()
        };
        Self::of(opening.open(path)?)
    }

    /// The log in a database that is open already. What is listed from here on is of this instant. It is read in short
    /// steps: a reader that stays would hold the node's write-ahead log, which then grows without end.
    ///
    /// # Errors
    /// [`DbError`] when the database holds no log.
    pub fn of(connection: Connection) -> Result<Self, DbError> {
        let sql = "SELECT coalesce(max(idx) + 1, 0) FROM audit_entry";
        let Count(size) = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(Self { connection, size })
    }

    /// Recomputes the whole log; see [`verify`].
    ///
    /// # Errors
    /// [`VerifyError`], the first that is found.
    pub fn verify(
        &self,
        origin: &str,
        key: &VerifyingKey,
        witnessed: &[String],
    ) -> Result<TreeHead, VerifyError> {
        // Head and entries of one instant.
        let of_one_instant = self.connection.unchecked_transaction();
        let _ends_here = of_one_instant.map_err(DbError::from)?;
        verify(&self.connection, origin, key, witnessed)
    }

    /// The same against the heads in the file beside it as well, which a log that has entries must have, and those from
    /// outside: the head, and how many of these heads there are.
    ///
    /// # Errors
    /// [`VerifyError`], the first that is found.
    pub fn verify_beside(
        &self,
        witness: &Witness,
        outside: &[String],
    ) -> Result<(TreeHead, usize), VerifyError> {
        let mut heads = witness.heads().map_err(VerifyError::File)?;
        let is_alone = heads.is_empty();
        heads.extend_from_slice(outside);
        let head = self.verify(witness.origin(), &witness.key(), &heads)?;
        if is_alone && head.size > 0 {
            return Err(VerifyError::NoHeadBeside);
        }
        Ok((head, heads.len()))
    }

    /// The signed head; none before the first entry.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn checkpoint(&self) -> Result<Option<String>, DbError> {
        checkpoint(&self.connection)
    }

    /// Heads of other nodes' logs that this node holds.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn heads(&self) -> Result<Vec<String>, DbError> {
        heads::all(&self.connection)
    }

    /// What is missing after a restore and nobody has acknowledged.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn gaps(&self) -> Result<Vec<Gap>, DbError> {
        gap::list(&self.connection, false)
    }

    /// Leaves from a position on, at most `count`, in order, as they are: also those that came after the opening.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn leaves(&self, start: u64, count: u64) -> Result<Vec<Vec<u8>>, DbError> {
        let sql = "SELECT leaf FROM audit_entry WHERE idx >= ?1 AND idx < ?2 ORDER BY idx";
        let mut statement = self.connection.prepare_cached(sql)?;
        let end = start.saturating_add(count);
        let rows = statement.query_map((Count(start), Count(end)), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Entries from a position on, at most `limit`, in order.
    ///
    /// # Errors
    /// [`DbError`]; [`DbError::Corrupt`] when an entry is not canonical.
    pub fn list(&self, start: u64, limit: u32) -> Result<Vec<(u64, Entry)>, DbError> {
        let left = u32::try_from(self.size.saturating_sub(start)).unwrap_or(u32::MAX);
        list(&self.connection, start, limit.min(left))
    }
}
