//! AuditEvents of the server's own, in SQLite.
use super::general;
use crate::audit::{AUDIT_EVENT, OwnEvents};
use crate::store::row_of_source;
use rusqlite::{Connection, OptionalExtension, params};

const KNOWN: &str = "SELECT 1 FROM history WHERE type = ?1 AND id = ?2";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, source) \
     VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6)";
const REMEMBER: &str = "INSERT INTO history(seq, type, id, version, updated, body) \
     VALUES (?1, ?2, ?3, 1, ?4, ?5)";
const DROP: [&str; 2] = [
    "DELETE FROM resource WHERE type = ?1 AND id = ?2 AND author IS NULL",
    "DELETE FROM history WHERE type = ?1 AND id = ?2 AND author IS NULL",
];

/// Does it within the transaction of the connection, behind that place in the order of commits and at that time; the last
/// place then.
pub fn keep(
    connection: &Connection,
    audit: &OwnEvents,
    (mut seq, updated): (i64, i64),
) -> rusqlite::Result<i64> {
    for (draft, source) in &audit.events {
        let (id, body) = (draft.id().as_str(), draft.json());
        let mut known = connection.prepare_cached(KNOWN)?;
        let known: Option<i64> = known
            .query_row([AUDIT_EVENT, id], |row| row.get(0))
            .optional()?;
        if known.is_some() {
            continue;
        }
        seq += 1;
        let source = source.map(|source| source.to_string());
        let values = params![seq, AUDIT_EVENT, id, updated, body, source];
        connection.prepare_cached(WRITE)?.execute(values)?;
        let values = params![seq, AUDIT_EVENT, id, updated, body];
        connection.prepare_cached(REMEMBER)?.execute(values)?;
        general::index(connection, AUDIT_EVENT, id, draft.rows())?;
        if let Some(source) = source {
            general::index(connection, AUDIT_EVENT, id, &[row_of_source(&source)])?;
        }
    }
    for id in &audit.dropped {
        let mut gone = 0;
        for drop in DROP {
            let mut drop = connection.prepare_cached(drop)?;
            gone += drop.execute([AUDIT_EVENT, id.as_str()])?;
        }
        if gone > 0 {
            general::forget(connection, AUDIT_EVENT, id.as_str())?;
        }
    }
    Ok(seq)
}
