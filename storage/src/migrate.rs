//! Schemas have a version that only goes forward: a step leads from each to the next, all of them in one transaction or
//! none, and a newer schema than this program knows is refused.
//!
//! [`file()`] is for the tables of a file, whose version is its `user_version`; [`part`] for tables that a library keeps in
//! the file of its caller, each part of them with a version of its own.
use crate::{StoreError, StoreErrorKind};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

/// The version of a file's tables; 0 where there are none.
///
/// # Errors
/// [`StoreErrorKind::Refused`] when it is newer than `known`.
pub fn version(connection: &Connection, known: i64) -> Result<i64, StoreError> {
    let version = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(StoreError::sqlite("read the schema version"))?;
    match version > known {
        true => Err(StoreError::new(
            StoreErrorKind::Refused,
            "open the database: its schema is newer than this program",
        )),
        false => Ok(version),
    }
}

/// Brings the tables of a file to version `known`: `upgrade` leads there from the version that it is told.
///
/// # Errors
/// As [`version`], or what SQLite says; then nothing has changed.
pub fn file(
    connection: &mut Connection,
    known: i64,
    upgrade: impl FnOnce(&Connection, i64) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    if version(connection, known)? == known {
        return Ok(());
    }
    const OP: &str = "make the tables";
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(StoreError::sqlite(OP))?;
    // Another process may have been faster.
    let found = version(&tx, known)?;
    let forward = || {
        if found < known {
            upgrade(&tx, found)?;
        }
        tx.pragma_update(None, "user_version", known)
    };
    forward().map_err(StoreError::sqlite(OP))?;
    tx.commit().map_err(StoreError::sqlite(OP))
}

/// Runs the steps behind a version: `steps[n]` leads from version n to n + 1.
///
/// # Errors
/// What SQLite says.
pub fn forward(connection: &Connection, found: i64, steps: &[&str]) -> rusqlite::Result<()> {
    let done = usize::try_from(found).unwrap_or(0);
    for step in steps.iter().skip(done) {
        connection.execute_batch(step)?;
    }
    Ok(())
}

/// Why the tables of a part are not brought forward.
#[derive(Debug)]
pub enum PartError {
    /// The engine failed.
    Sql(rusqlite::Error),
    /// A newer program wrote them, as this version.
    Newer(u32),
}

impl From<rusqlite::Error> for PartError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sql(source)
    }
}

/// The version of the tables of a part; 0 where there are none.
///
/// # Errors
/// What SQLite says.
pub fn part_version(connection: &Connection, part: &str) -> rusqlite::Result<u32> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'federation_schema')";
    if !connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?
    {
        return Ok(0);
    }
    let sql = "SELECT version FROM federation_schema WHERE part = ?1";
    let version: Option<u32> = connection
        .prepare_cached(sql)?
        .query_row([part], |row| row.get(0))
        .optional()?;
    Ok(version.unwrap_or(0))
}

/// Brings the tables of a part to the newest version: `steps[n]` leads from version n to n + 1, in whole or not at all.
///
/// # Errors
/// [`PartError`].
pub fn part(connection: &Connection, part: &str, steps: &[&str]) -> Result<(), PartError> {
    let found = part_version(connection, part)?;
    let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(PartError::Newer(found));
    }
    if found == known {
        return Ok(());
    }
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS federation_schema (part TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
    )?;
    for (version, step) in (1..).zip(steps).skip(found as usize) {
        connection.execute_batch("SAVEPOINT migration")?;
        match one(connection, part, version, step) {
            Ok(()) => connection.execute_batch("RELEASE migration")?,
            Err(error) => {
                connection.execute_batch("ROLLBACK TO migration; RELEASE migration")?;
                return Err(error.into());
            }
        }
    }
    Ok(())
}

fn one(connection: &Connection, part: &str, version: u32, step: &str) -> rusqlite::Result<()> {
    connection.execute_batch(step)?;
    connection.execute(
        "INSERT INTO federation_schema (part, version) VALUES (?1, ?2)
         ON CONFLICT (part) DO UPDATE SET version = excluded.version",
        (part, version),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [&str; 2] = [
        "CREATE TABLE t (n INTEGER)",
        "ALTER TABLE t ADD COLUMN m INTEGER",
    ];

    fn to(connection: &mut Connection, known: usize, steps: &[&str]) -> Result<(), StoreError> {
        let known = i64::try_from(known).unwrap();
        file(connection, known, |tx, found| forward(tx, found, steps))
    }

    #[test]
    fn a_file_goes_forward_from_wherever_it_is_and_a_newer_one_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        to(&mut connection, 1, &STEPS[..1]).unwrap();
        to(&mut connection, 2, &STEPS).unwrap();
        to(&mut connection, 2, &STEPS).unwrap();
        connection
            .execute("INSERT INTO t (n, m) VALUES (1, 2)", [])
            .unwrap();
        let error = to(&mut connection, 1, &STEPS[..1]).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Refused);
        assert_eq!(version(&connection, 2).unwrap(), 2);
    }

    #[test]
    fn steps_that_fail_leave_the_version_and_the_tables_as_they_were() {
        let mut connection = Connection::open_in_memory().unwrap();
        to(&mut connection, 1, &STEPS[..1]).unwrap();
        let steps = [STEPS[0], STEPS[1], "nonsense"];
        assert!(to(&mut connection, 3, &steps).is_err());
        assert_eq!(version(&connection, 3).unwrap(), 1);
        to(&mut connection, 2, &STEPS).unwrap();
    }
}
