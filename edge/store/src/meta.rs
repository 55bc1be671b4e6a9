//! Numbers that the store keeps under a name.
use rusqlite::{Connection, OptionalExtension, params};

/// Name of the last real time that was kept.
pub(super) const TIME: &str = "time_ms";
/// Name of the number of starts.
pub(super) const BOOT: &str = "boot";

/// A number kept under a name.
pub(super) fn get(db: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Keeps a number under a name.
pub(super) fn set(db: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
    )?
    .execute(params![name, value])?;
    Ok(())
}
