//! For how long parcels have been waiting, and how many are held: what a person is shown, and alerts rest on.
use super::peer;
use crate::db::{Count, DbError};
use rusqlite::{Connection, OptionalExtension as _};
use types::{Place, Priority, Timestamp};

/// The step of the schema that keeps when a parcel was sealed.
pub(super) const MADE: &str = "
ALTER TABLE outbox ADD COLUMN made_ms INTEGER NOT NULL DEFAULT 0;  -- when it was sealed (real time); 0: not known
";

/// When the oldest parcel was sealed that waits for a receiver; none when none waits of which it is known.
///
/// The first of each priority is its oldest: three rows are read, however many wait.
///
/// # Errors
/// [`DbError`].
pub fn oldest(conn: &Connection, to: &Place) -> Result<Option<Timestamp>, DbError> {
    let Some(peer) = peer::peer(conn, to)? else {
        return Ok(None);
    };
    let mut statement = conn.prepare_cached(
        "SELECT made_ms FROM outbox WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT 1",
    )?;
    let mut oldest: Option<i64> = None;
    for priority in Priority::ALL {
        let range = (peer.before(priority), peer.behind(priority));
        let made: Option<i64> = statement.query_row(range, |row| row.get(0)).optional()?;
        let known = made.filter(|made| *made != 0);
        oldest = match (oldest, known) {
            (Some(oldest), Some(made)) => Some(oldest.min(made)),
            (oldest, made) => oldest.or(made),
        };
    }
    Ok(oldest.map(Timestamp))
}

/// How many parcels are in the own quarantine.
///
/// # Errors
/// [`DbError`].
pub fn held_count(conn: &Connection) -> Result<u64, DbError> {
    let sql = "SELECT count(*) FROM outbox_refused";
    let Count(count) = conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(count)
}
