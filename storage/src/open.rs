//! How a SQLite file is opened, the same for every store: what differs between them is said, and nothing else.
use crate::{
    file::{give, parent},
    sqlite::keep_statements,
};
use rusqlite::{Connection, OpenFlags, ffi};
use std::{path::Path, time::Duration};

/// How a file is opened. It is not printed: it may hold a key.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    /// Whether it is written, made or only read. A connection is used by one thread at a time.
    pub flags: OpenFlags,
    /// SQLite's virtual file system; its own when none is named.
    pub vfs: Option<&'a str>,
    /// Statements with which every connection begins, such as the key of an encrypted file.
    pub first: &'a str,
    /// How long a statement waits for the lock of another connection.
    pub busy: Duration,
    /// Prepared statements that are kept.
    pub statements: usize,
}

impl Default for Opening<'_> {
    /// A file that is made when it is not there, and may be read beside us for a few seconds.
    fn default() -> Self {
        Self {
            flags: OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            vfs: None,
            first: "",
            busy: Duration::from_secs(5),
            statements: 64,
        }
    }
}

impl Opening<'_> {
    /// Opens a file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open(&self, path: &Path) -> rusqlite::Result<Connection> {
        let flags = self.flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let was_there = path.exists();
        let connection = match self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
            None => Connection::open_with_flags(path, flags)?,
        };
        // SQLite gives what it makes beside a file to the file's owner.
        if !was_there && path.exists() {
            give(path, parent(path)).map_err(|error| {
                let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
                rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
            })?;
        }
        connection.execute_batch(self.first)?;
        connection.busy_timeout(self.busy)?;
        keep_statements(&connection, self.statements)?;
        Ok(connection)
    }

    /// Opens a file whose commits last ([`lasting`]).
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open_lasting(&self, path: &Path) -> rusqlite::Result<Connection> {
        let connection = self.open(path)?;
        lasting(&connection)?;
        Ok(connection)
    }
}

/// Has every commit of a connection last: a write-ahead log, and an fsync with each.
///
/// # Errors
/// What SQLite says.
pub fn lasting(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_file_has_a_log_and_syncs_every_commit_and_its_key_is_asked_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let keyed = Opening {
            first: "PRAGMA key = 'secret'",
            ..Opening::default()
        };
        let connection = keyed.open_lasting(&path).unwrap();
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        assert_eq!(pragma("synchronous").unwrap(), 2);
        assert_eq!(pragma("busy_timeout").unwrap(), 5_000);
        let mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
        connection.execute_batch("CREATE TABLE t (n)").unwrap();
        drop(connection);
        assert!(Opening::default().open_lasting(&path).is_err(), "no key");
        assert!(keyed.open_lasting(&path).is_ok());
    }

    #[test]
    fn what_is_only_read_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let read = Opening {
            flags: OpenFlags::SQLITE_OPEN_READ_ONLY,
            ..Opening::default()
        };
        assert!(read.open(&path).is_err());
        assert!(!path.exists());
    }
}
