//! A copy of a SQLite database of one instant, while others write to it, and whether a database is whole.
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Opens a database that is there, to read it.
///
/// # Errors
/// When it is not there, or is none.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// Writes what a database holds at one instant into a new file: one read transaction (SQLite, `VACUUM INTO`). Writers are
/// not held up. An encrypted database becomes one under the same key.
///
/// # Errors
/// When the file exists and is not empty, or there is no room.
pub fn copy(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    let to = to.to_string_lossy().into_owned();
    connection.execute("VACUUM INTO ?1", [to]).map(drop)
}

/// What is wrong with a database, as SQLite says (`PRAGMA integrity_check`); none when it is whole.
///
/// # Errors
/// When it cannot be read at all.
pub fn fault(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((said != "ok").then_some(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_of_one_instant_and_whole_while_another_writes() {
        for key in [None, Some("PRAGMA key = 'secret'")] {
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("a.db"), dir.path().join("b.db"));
            let opened = |path: &Path| {
                let connection = Connection::open(path).unwrap();
                if let Some(key) = key {
                    connection.execute_batch(key).unwrap();
                }
                connection
            };
            let writer = opened(&from);
            let sql =
                "PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1)";
            writer.execute_batch(sql).unwrap();
            let reader = opened(&from);
            writer
                .execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)")
                .unwrap();
            copy(&reader, &to).unwrap();
            writer.execute_batch("COMMIT").unwrap();
            let copied = opened(&to);
            assert_eq!(fault(&copied).unwrap(), None);
            let rows: i64 = copied
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .unwrap();
            assert_eq!(rows, 1);
            assert!(copy(&reader, &to).is_err(), "nothing is written over");
            if key.is_some() {
                assert!(fault(&open(&to).unwrap()).is_err(), "it is encrypted");
            }
        }
    }

    #[test]
    fn a_database_that_is_damaged_is_not_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let sql = "CREATE TABLE t (x TEXT); CREATE INDEX i ON t (x);
                   INSERT INTO t SELECT hex(randomblob(500)) FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9));";
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len() - 300;
        bytes[end..end + 200].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        assert!(fault(&open(&path).unwrap()).map_or(true, |found| found.is_some()));
    }
}
