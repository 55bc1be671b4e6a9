//! What clients write, how it is found, and how versions are listed, in SQLite.
use super::{events, stored};
use crate::query::IndexRow;
use crate::query::sql::{Bind, Dialect, Sql, TABLES, row as index_row};
use crate::sql;
use crate::store::{
    Current, Draft, Extent, ExtentPage, Find, FindPage, Guard, HistoryPage, HistoryQuery, Plan,
    Planned, Transacted, Transaction, Unmet, added, fill, plan,
};
use crate::subscription::Noting;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use std::collections::HashMap;

const CURRENT: &str =
    "SELECT version, seq, updated, body, author IS NULL FROM resource WHERE type = ?1 AND id = ?2";
const LAST: &str = "SELECT version, seq, updated, author IS NULL FROM history WHERE type = ?1 AND id = ?2 \
     ORDER BY version DESC LIMIT 1";
const FORGET: &str = "DELETE FROM resource WHERE type = ?1 AND id = ?2";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, author, patient, effective) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const REMEMBER: &str = "INSERT INTO history(seq, type, id, version, updated, body, author, posted) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

impl ToSql for Bind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// What became of a transaction.
pub struct Ended {
    pub transacted: Transacted,
    /// The last place in the order of commits.
    pub last: i64,
    /// By how many there are more, of the types that facilities deliver.
    pub added: [i64; 3],
    /// Whether what is watched may be another.
    pub watching: bool,
}

/// Does it within the transaction of the connection: all of it, or nothing.
pub fn transact(
    connection: &Connection,
    transaction: &Transaction,
    (seq, updated): (i64, i64),
    noting: &mut Noting,
) -> rusqlite::Result<Ended> {
    let unmet = |at, why| Ended {
        transacted: Transacted::Unmet { at, why },
        last: seq,
        added: [0; 3],
        watching: false,
    };
    for guard in &transaction.guards {
        if !is_met(connection, guard)? {
            return Ok(unmet(guard.of, Unmet::Search));
        }
    }
    let mut known = HashMap::new();
    for change in &transaction.changes {
        let (kind, id) = change.key();
        if let Some(mut current) = current(connection, kind.as_str(), id.as_str())? {
            if current
                .json
                .as_deref()
                .is_some_and(|text| text != change.text())
            {
                current.json = Some(String::new());
            }
            known.insert((kind, id.to_string()), current);
        }
    }
    let Plan { rows, written } = match plan(&transaction.changes, &known, seq, updated) {
        Ok(plan) => plan,
        Err((at, why)) => return Ok(unmet(at, why)),
    };
    if events::is_full(connection, &rows)? {
        return Ok(unmet(0, Unmet::Full));
    }
    for row in &rows {
        let before = deleted(connection, row, noting)?;
        write(connection, row, &transaction.author, updated)?;
        noting.write(row, before.as_deref());
    }
    Ok(Ended {
        last: rows.last().map_or(seq, |row| row.seq),
        added: added(rows.iter()),
        watching: events::register(connection, &rows)?,
        transacted: Transacted::Done(written),
    })
}

/// The text of what a row deletes, where somebody is told of it.
fn deleted(
    connection: &Connection,
    row: &Planned<'_>,
    noting: &Noting,
) -> rusqlite::Result<Option<String>> {
    if row.draft.is_some() || !noting.watches.look_at(row.kind) {
        return Ok(None);
    }
    let before = current(connection, row.kind.as_str(), row.id.as_str())?;
    Ok(before.and_then(|before| before.json))
}

fn is_met(connection: &Connection, guard: &Guard) -> rusqlite::Result<bool> {
    let sql = sql::few(Dialect::Sqlite, guard);
    let mut statement = connection.prepare(&sql.text)?;
    let ids = statement.query_map(params_from_iter(sql.binds), |row| row.get(0))?;
    let ids: Vec<String> = ids.collect::<rusqlite::Result<_>>()?;
    Ok(guard.is_met(&ids))
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
                is_delivered: row.get(3)?,
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
        forget(connection, kind, id)?;
    }
    let body = row.draft.map_or("", |draft| draft.json());
    let posted = i64::from(row.draft.is_some_and(Draft::is_posted));
    if let Some(draft) = row.draft {
        let (patient, effective) = draft.columns(updated);
        let seq = row.seq;
        connection.prepare_cached(WRITE)?.execute(params![
            seq,
            kind,
            id,
            row.version,
            updated,
            body,
            author,
            patient,
            effective
        ])?;
        index(connection, kind, id, draft.rows())?;
    }
    let values = params![
        row.seq,
        kind,
        id,
        row.version,
        updated,
        body,
        author,
        posted
    ];
    connection.prepare_cached(REMEMBER)?.execute(values)?;
    Ok(())
}

/// Takes away the rows by which a resource is found.
pub fn forget(connection: &Connection, kind: &str, id: &str) -> rusqlite::Result<()> {
    for table in TABLES {
        let forget = table.delete(Dialect::Sqlite);
        connection.prepare_cached(&forget)?.execute([kind, id])?;
    }
    Ok(())
}

/// Adds the rows by which a resource is found.
pub fn index(
    connection: &Connection,
    kind: &str,
    id: &str,
    rows: &[IndexRow],
) -> rusqlite::Result<()> {
    for one in rows {
        let (table, values) = index_row(kind, id, one);
        let insert = table.insert(Dialect::Sqlite);
        let mut statement = connection.prepare_cached(&insert)?;
        statement.execute(params_from_iter(values))?;
    }
    Ok(())
}

/// One page of a search.
pub fn find(connection: &Connection, find: &Find) -> rusqlite::Result<FindPage> {
    let sql = sql::page(Dialect::Sqlite, find);
    let keys = find.keys().count();
    let mut statement = connection.prepare(&sql.text)?;
    let rows = statement.query_map(params_from_iter(sql.binds), |row| {
        let keys = (7..7 + keys).map(|at| Ok(bind_of(row.get_ref(at)?)));
        Ok((stored(row)?, keys.collect::<rusqlite::Result<Vec<Bind>>>()?))
    })?;
    let (rows, more) = fill(rows, find.count, |(stored, _)| stored)?;
    Ok(FindPage::of(rows, more))
}

fn bind_of(value: ValueRef<'_>) -> Bind {
    match value {
        ValueRef::Integer(number) => Bind::Integer(number),
        ValueRef::Real(number) => Bind::Real(number),
        ValueRef::Text(text) => Bind::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Null | ValueRef::Blob(_) => Bind::Null,
    }
}

/// How many a search finds.
pub fn count(connection: &Connection, find: &Find) -> rusqlite::Result<u64> {
    let Sql { text, binds, .. } = sql::count(Dialect::Sqlite, find);
    connection
        .prepare(&text)?
        .query_row(params_from_iter(binds), |row| {
            Ok(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0))
        })
}

/// One page of what was there at a commit.
pub fn extent(connection: &Connection, extent: &Extent) -> rusqlite::Result<ExtentPage> {
    let sql = sql::extent(Dialect::Sqlite, extent);
    let mut statement = connection.prepare_cached(&sql.text)?;
    let rows = statement.query_map(params_from_iter(sql.binds), stored)?;
    let (resources, more) = fill(rows, extent.count, |stored| stored)?;
    Ok(ExtentPage::of(resources, more))
}

/// One page of versions.
pub fn history(connection: &Connection, query: &HistoryQuery) -> rusqlite::Result<HistoryPage> {
    let sql = sql::history(Dialect::Sqlite, query);
    let mut statement = connection.prepare_cached(&sql.text)?;
    let rows = statement.query_map(params_from_iter(sql.binds), |row| {
        Ok((stored(row)?, row.get::<_, i64>(7)?))
    })?;
    let (rows, more) = fill(rows, query.count, |(stored, _)| stored)?;
    Ok(HistoryPage::of(rows, more))
}
