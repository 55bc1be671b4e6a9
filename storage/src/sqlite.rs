//! A SQLite file that is opened again after an I/O error.
//!
//! The kernel may have dropped a page whose fsync failed, and reads still show it; a log with a hole would swallow every
//! later commit at the next power loss. So after any failure but a lack of space or of a
//! lock the connection is closed, opened again before the next step, and the whole log is written into the database
//! before anything is committed. A step that panics leaves the connection in doubt too.
//!
//! A file may be kept elsewhere too ([`crate::replica`]): then a step that committed is done once it is there.
use crate::replica::Kept;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, config::DbConfig, ffi};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// How a connection is made: configured, with the tables that it needs.
type Connect = dyn Fn(&Path) -> rusqlite::Result<Connection> + Send + Sync;

/// A file and its connection, used by one caller at a time.
pub struct Reopening {
    path: PathBuf,
    connect: Box<Connect>,
    /// None after a failure that leaves it in doubt.
    connection: Mutex<Option<Connection>>,
    /// Where every commit is kept too.
    kept: Option<Kept>,
}

impl fmt::Debug for Reopening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reopening")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Reopening {
    /// Takes over a connection that was just made. `connect` makes another one to the same file.
    pub fn new(
        path: &Path,
        connection: Connection,
        connect: impl Fn(&Path) -> rusqlite::Result<Connection> + Send + Sync + 'static,
    ) -> Self {
        Self {
            path: path.to_owned(),
            connect: Box::new(connect),
            connection: Mutex::new(Some(connection)),
            kept: None,
        }
    }

    /// With what keeps every commit elsewhere too, from before the file was opened: no step is done before it has it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn kept(mut self, kept: Option<Kept>) -> rusqlite::Result<Self> {
        if let (Some(_), Some(connection)) = (&kept, self.connection.get_mut()) {
            Kept::configure(connection)?;
        }
        self.kept = kept;
        Ok(self)
    }

    /// Runs a step. `doubtful` says whether its error leaves the connection in doubt (see [`in_doubt`]).
    ///
    /// # Errors
    /// The step's, or what SQLite says when the file cannot be opened again yet: the next step tries again.
    pub fn step<T, E: From<rusqlite::Error>>(
        &self,
        step: impl FnOnce(&mut Connection) -> Result<T, E>,
        doubtful: impl FnOnce(&E) -> bool,
    ) -> Result<T, E> {
        let mut slot = self.connection.lock();
        // Taken out, so that a step that panics leaves none behind.
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.reopen()?,
        };
        let done = step(&mut connection);
        match &done {
            Err(error) if doubtful(error) => return done,
            _ => {}
        }
        if let Some(kept) = &self.kept
            && let Err(error) = kept.settle(&connection)
        {
            return done.and(Err(error.into()));
        }
        *slot = Some(connection);
        done
    }

    fn reopen(&self) -> rusqlite::Result<Connection> {
        let connection = (self.connect)(&self.path)?;
        if let Some(kept) = &self.kept {
            Kept::configure(&connection)?;
            kept.opened_again();
            kept.settle(&connection)?;
        }
        let busy: i64 =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy != 0 {
            let busy = ffi::Error::new(ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None));
        }
        Ok(connection)
    }
}

/// Has a connection keep so many prepared statements, and prepare each of them once: without the query planner stability
/// guarantee (`SQLITE_DBCONFIG_ENABLE_QPSG`) SQLite prepares a statement anew whenever another value is bound to its
/// `LIMIT`, which costs more than most of our statements.
///
/// # Errors
/// What SQLite says.
pub fn keep_statements(connection: &Connection, statements: usize) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(statements);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Whether an error leaves the connection in doubt: not when there was no space or no lock, when the statement was
/// against a constraint or was interrupted, and when no engine was asked.
#[must_use]
pub fn in_doubt(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        None => false,
        Some(
            ErrorCode::DiskFull
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::ConstraintViolation
            | ErrorCode::OperationInterrupted
            | ErrorCode::TooBig,
        ) => false,
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Survivors, register};
    use rusqlite::StatementStatus;

    fn connect(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY)")?;
        Ok(connection)
    }

    fn open(path: &Path) -> Reopening {
        Reopening::new(path, connect(path).unwrap(), connect)
    }

    fn put(file: &Reopening, n: i64) -> rusqlite::Result<usize> {
        file.step(
            |connection| connection.execute("INSERT INTO t VALUES (?1)", [n]),
            in_doubt,
        )
    }

    fn all(connection: &Connection) -> Vec<i64> {
        let mut query = connection.prepare("SELECT n FROM t ORDER BY n").unwrap();
        let rows = query.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn after_failed_fsyncs_it_opens_again_and_a_power_loss_takes_nothing_that_was_committed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = register("reopening");
        let path = dir.path().join("t.db");
        let file = open(Path::new(&format!("file:{}?vfs=reopening", path.display())));
        let mut committed = Vec::new();
        for n in 0..12 {
            match n {
                3 => disk.fail_syncs(1),
                5 => disk.fail_syncs(2),
                8 => disk.fail_syncs(3),
                _ => {}
            }
            match put(&file, n) {
                Ok(_) => committed.push(n),
                // Whatever it believes of its pages, nothing more is asked of this connection.
                Err(_) => assert!(file.connection.lock().is_none()),
            }
        }
        assert!(committed.len() < 12 && committed.contains(&11));
        for survivors in Survivors::ALL {
            let found = tempfile::tempdir().unwrap();
            disk.after_power_loss(survivors, found.path());
            let there = all(&connect(&found.path().join("t.db")).unwrap());
            let lost: Vec<_> = committed.iter().filter(|n| !there.contains(n)).collect();
            assert!(lost.is_empty(), "{survivors:?}: {lost:?}");
        }
    }

    #[test]
    fn a_step_that_panics_leaves_nothing_behind_and_the_next_one_works() {
        let dir = tempfile::tempdir().unwrap();
        let file = open(&dir.path().join("t.db"));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            file.step(
                |connection| -> rusqlite::Result<()> {
                    connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")?;
                    panic!("on purpose")
                },
                in_doubt,
            )
        }));
        assert!(panicked.is_err());
        assert_eq!(put(&file, 2).unwrap(), 1);
        let there = file.step(
            |connection| Ok::<_, rusqlite::Error>(all(connection)),
            in_doubt,
        );
        assert_eq!(there.unwrap(), [2]);
    }

    #[test]
    fn a_statement_is_prepared_once_whatever_is_bound_to_its_limit() {
        let connection = Connection::open_in_memory().unwrap();
        keep_statements(&connection, 2).unwrap();
        connection
            .execute_batch("CREATE TABLE t (n INTEGER)")
            .unwrap();
        for limit in 1..4 {
            let mut query = connection
                .prepare_cached("SELECT n FROM t LIMIT ?1")
                .unwrap();
            assert!(!query.exists([limit]).unwrap());
            assert_eq!(query.get_status(StatementStatus::RePrepare), 0);
        }
    }

    #[test]
    fn a_constraint_leaves_the_connection_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = open(&dir.path().join("t.db"));
        put(&file, 1).unwrap();
        let error = put(&file, 1).unwrap_err();
        assert!(!in_doubt(&error));
        assert!(file.connection.lock().is_some());
    }
}
