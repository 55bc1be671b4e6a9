//! What the tables of this crate share: errors, schema versions, and opening a file of their own.
//!
//! Outbox, ledger and audit log are tables in the caller's SQLite database, so that they commit with the caller's
//! rows. A node without such a database gives them a file of their own ([`open`]).

use crate::port::{PortError, PortErrorKind};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use std::{path::Path, sync::Arc};
use storage::{
    StoreError, StoreErrorKind,
    migrate::{self, PartError},
    open::Opening,
    replica::Kept,
    sqlite::{Reopening, in_doubt},
};

/// Prepared statements that a connection keeps: all that a node's ledger uses.
const STATEMENTS: usize = 192;

/// Why a step on the tables failed. Nothing of it was committed unless the caller commits regardless.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The engine failed.
    #[error("the database failed")]
    Sql(#[from] rusqlite::Error),
    /// What is stored does not make sense: a person must look.
    #[error("stored data do not make sense: {0}")]
    Corrupt(&'static str),
    /// The tables were written by a newer program.
    #[error(
        "the tables of {part} have version {found}, this program knows {known}: use the newer program"
    )]
    Newer {
        /// Which tables.
        part: &'static str,
        /// Their version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The bound of the queue is reached: wait for the link.
    #[error("the bound of the queue is reached")]
    Full,
    /// A body is larger than [`crate::envelope::MAX_BODY_BYTES`]: make smaller batches.
    #[error("a body of {bytes} bytes is too large for a parcel")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl DbError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> PortErrorKind {
        match self {
            Self::Sql(error) => match error.sqlite_error_code() {
                Some(
                    ErrorCode::DiskFull
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::OutOfMemory,
                ) => PortErrorKind::Unavailable,
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    PortErrorKind::Corrupt
                }
                _ => PortErrorKind::Internal,
            },
            Self::Full => PortErrorKind::Unavailable,
            Self::Corrupt(_) | Self::Newer { .. } => PortErrorKind::Corrupt,
            Self::TooLarge { .. } => PortErrorKind::Internal,
        }
    }

    /// The error of a port's step.
    #[must_use]
    pub fn port(self, op: &'static str) -> PortError {
        PortError {
            kind: self.kind(),
            op,
            source: Some(Box::new(self)),
        }
    }
}

/// A step on these tables failed in the caller's commit, which cannot stand.
impl From<DbError> for StoreError {
    fn from(source: DbError) -> Self {
        const OP: &str = "use the outbox and audit tables";
        match source {
            DbError::Sql(source) => Self::sqlite(OP)(source),
            other => Self {
                kind: match other {
                    DbError::Newer { .. } => StoreErrorKind::Refused,
                    DbError::Corrupt(_) => StoreErrorKind::Corrupt,
                    DbError::Full => StoreErrorKind::Full,
                    DbError::TooLarge { .. } | DbError::Sql(_) => StoreErrorKind::Internal,
                },
                op: OP,
                source: Some(Box::new(other)),
            },
        }
    }
}

/// Says as SQLite does that a file is not there, where opening it would make a new one.
pub(crate) fn check_is_there(path: &Path) -> Result<(), DbError> {
    storage::copy::open(path)?;
    Ok(())
}

/// Opens a file for tables of this crate alone: WAL, and an fsync with every commit.
///
/// # Errors
/// [`DbError`] when the file cannot be opened or is no database.
pub fn open(path: &Path) -> Result<Connection, DbError> {
    Ok(connect(path)?)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let opening = Opening {
        statements: STATEMENTS,
        ..Opening::default()
    };
    opening.open_lasting(path)
}

/// A database shared by tasks: one transaction at a time, on a thread that may block. After an I/O error the file is
/// opened again.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Reopening>);

impl Shared {
    pub(crate) fn new(path: &Path, conn: Connection, kept: Option<Kept>) -> Result<Self, DbError> {
        let file = Reopening::new(path, conn, connect).kept(kept)?;
        Ok(Self(Arc::new(file)))
    }

    /// Runs a step in a transaction, which commits if the step succeeds.
    pub(crate) async fn step<T, F>(&self, op: &'static str, step: F) -> Result<T, PortError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    {
        let shared = self.0.clone();
        let run = move || -> Result<T, DbError> {
            let in_transaction = |conn: &mut Connection| {
                let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let done = step(&tx)?;
                tx.commit()?;
                Ok(done)
            };
            shared.step(
                in_transaction,
                |error| matches!(error, DbError::Sql(error) if in_doubt(error)),
            )
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(done) => done.map_err(|error| error.port(op)),
            Err(panicked) => Err(PortError {
                kind: PortErrorKind::Internal,
                op,
                source: Some(Box::new(panicked)),
            }),
        }
    }
}

/// A number that is never negative, in SQLite's signed integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub u64);

impl ToSql for Count {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        i64::try_from(self.0)
            .map(ToSqlOutput::from)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    }
}

impl FromSql for Count {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let value = value.as_i64()?;
        u64::try_from(value)
            .map(Self)
            .map_err(|_| FromSqlError::OutOfRange(value))
    }
}

/// The version of the tables of a part; 0 where there are none.
pub(crate) fn version(conn: &Connection, part: &str) -> Result<u32, DbError> {
    Ok(migrate::part_version(conn, part)?)
}

/// Brings the tables of a part to the newest version: `steps[n]` leads from version n to n + 1, in whole or not at all.
pub(crate) fn migrate(
    conn: &Connection,
    part: &'static str,
    steps: &[&str],
) -> Result<(), DbError> {
    migrate::part(conn, part, steps).map_err(|error| match error {
        PartError::Sql(source) => DbError::Sql(source),
        PartError::Newer(found) => DbError::Newer {
            part,
            found,
            known: u32::try_from(steps.len()).unwrap_or(u32::MAX),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_goes_forward_only_and_a_newer_one_is_refused() {
        let conn = Connection::open_in_memory().unwrap();
        let one = "CREATE TABLE IF NOT EXISTS a (x)";
        let two = "CREATE TABLE IF NOT EXISTS b (x)";
        migrate(&conn, "t", &[one]).unwrap();
        migrate(&conn, "t", &[one, two]).unwrap();
        migrate(&conn, "t", &[one, two]).unwrap();
        conn.execute_batch("SELECT x FROM a; SELECT x FROM b")
            .unwrap();
        assert!(matches!(
            migrate(&conn, "t", &[one]),
            Err(DbError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ));
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_behind() {
        let conn = Connection::open_in_memory().unwrap();
        let one = "CREATE TABLE a (x)";
        let broken = "ALTER TABLE a ADD COLUMN y; ALTER TABLE b ADD COLUMN y";
        migrate(&conn, "t", &[one, broken]).unwrap_err();
        assert!(conn.execute_batch("SELECT y FROM a").is_err());
        migrate(&conn, "t", &[one, "ALTER TABLE a ADD COLUMN y"]).unwrap();
        conn.execute_batch("SELECT y FROM a").unwrap();
    }
}
