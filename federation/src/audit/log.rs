//! A node's audit log as an auditor reads it: beside the running node, of one instant, without changing anything.
use super::{Entry, VerifyError, checkpoint, list, verify};
use crate::{db::DbError, note::TreeHead};
use ed25519_dalek::VerifyingKey;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// An audit log, read-only.
pub struct Log(Connection);

impl Log {
    /// Opens the log in a file.
    ///
    /// # Errors
    /// [`DbError`] when there is no such file, or it is no database.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        Self::of(Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?)
    }

    /// The log in a database that is open already. What is read from here on is of this instant.
    ///
    /// # Errors
    /// [`DbError`] when the database holds no log.
    pub fn of(connection: Connection) -> Result<Self, DbError> {
        connection.execute_batch("BEGIN")?;
        checkpoint(&connection)?;
        Ok(Self(connection))
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
        verify(&self.0, origin, key, witnessed)
    }

    /// The signed head; none before the first entry.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn checkpoint(&self) -> Result<Option<String>, DbError> {
        checkpoint(&self.0)
    }

    /// Entries from a position on, at most `limit`, in order.
    ///
    /// # Errors
    /// [`DbError`]; [`DbError::Corrupt`] when an entry is not canonical.
    pub fn list(&self, start: u64, limit: u32) -> Result<Vec<(u64, Entry)>, DbError> {
        list(&self.0, start, limit)
    }
}
