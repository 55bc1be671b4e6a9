//! What clients write and how versions are listed, in SQLite.
use super::stored;
use crate::sql::{self, Dialect, Value};
use crate::store::{
    Change, Current, HistoryPage, HistoryQuery, Plan, Planned, Transacted, Transaction, plan,
};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use std::collections::HashMap;

const CURRENT: &str =
    "SELECT version, seq, updated, body, author IS NULL FROM resource WHERE type = ?1 AND id = ?2";
const LAST: &str = "SELECT version, seq, updated FROM history WHERE type = ?1 AND id = ?2 \
     ORDER BY version DESC LIMIT 1";
const FORGET: &str = "DELETE FROM resource WHERE type = ?1 AND id = ?2";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, author) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const REMEMBER: &str = "INSERT INTO history(seq, type, id, version, updated, body, author) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// Does it within the transaction of the connection: all of it, or nothing.
pub fn transact(
    connection: &Connection,
    transaction: &Transaction,
    (seq, updated): (i64, i64),
) -> rusqlite::Result<(Transacted, i64)> {
    let mut known = HashMap::new();
    for (kind, id) in transaction.changes.iter().map(Change::key) {
        if let Some(current) = current(connection, kind.as_str(), id.as_str())? {
            known.insert((kind, id.to_string()), current);
        }
    }
    let Plan { rows, written } = match plan(&transaction.changes, &known, seq, updated) {
        Ok(plan) => plan,
        Err((at, why)) => return Ok((Transacted::Unmet { at, why }, seq)),
    };
    for row in &rows {
        write(connection, row, &transaction.author, updated)?;
    }
    let last = rows.last().map_or(seq, |row| row.seq);
    Ok((Transacted::Done(written), last))
}

fn current(connection: &Connection, kind: &str, id: &str) -> rusqlite::Result<Option<Current>> {
    let found = connection
        .prepare_cached(CURRENT)?
        .query_row([kind, id], |row| {
            Ok(Current {
                version: row.get(0)?,
                seq: row.get(1)?,
                updated: row.get(2)?,
                json: Some(row.get(3)?),
                is_delivered: row.get(4)?,
            })
        })
        .optional()?;
    if found.is_some() {
        return Ok(found);
    }
    connection
        .prepare_cached(LAST)?
        .query_row([kind, id], |row| {
            Ok(Current {
                version: row.get(0)?,
                seq: row.get(1)?,
                updated: row.get(2)?,
                json: None,
                is_delivered: false,
            })
        })
        .optional()
}

fn write(
    connection: &Connection,
    row: &Planned<'_>,
    author: &str,
    updated: i64,
) -> rusqlite::Result<()> {
    let (kind, id) = (row.kind.as_str(), row.id.as_str());
    if row.replaces.is_some() {
        connection.prepare_cached(FORGET)?.execute([kind, id])?;
    }
    let body = row.draft.map_or("", |draft| draft.json());
    let values = params![row.seq, kind, id, row.version, updated, body, author];
    if row.draft.is_some() {
        connection.prepare_cached(WRITE)?.execute(values)?;
    }
    connection.prepare_cached(REMEMBER)?.execute(values)?;
    Ok(())
}

/// One page of versions.
pub fn history(connection: &Connection, query: &HistoryQuery) -> rusqlite::Result<HistoryPage> {
    let sql = sql::history(Dialect::Sqlite, query);
    let mut statement = connection.prepare_cached(&sql.text)?;
    let rows = statement.query_map(params_from_iter(sql.values), stored)?;
    let versions = rows.collect::<rusqlite::Result<_>>()?;
    Ok(HistoryPage::of(versions, query.count))
}
