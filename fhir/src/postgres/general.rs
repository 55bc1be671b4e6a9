//! What clients write, how it is found, and how versions are listed, in PostgreSQL.
pub mod index;

use super::{
    errors::Trouble,
    events, on_page, stored,
    write::{HEAD, LOCK},
};
use crate::query::sql::{Bind, Dialect, Sql};
use crate::sql;
use crate::store::{
    Change, Current, Draft, Extent, ExtentPage, Find, FindPage, Guard, HistoryPage, HistoryQuery,
    Plan, Planned, ResourceType, Stored, Transacted, Transaction, Unmet, added, plan,
};
use crate::subscription::Noting;
use bytes::BytesMut;
use deadpool_postgres::Object;
use futures_util::future::{try_join, try_join4};
use std::collections::HashMap;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Row};

const KNOWN: &str = "SELECT k.type, k.id, coalesce(r.version, h.version), coalesce(r.seq, h.seq), \
     coalesce(r.updated, h.updated), \
     CASE WHEN octet_length(r.body) = k.bytes THEN r.body WHEN r.version IS NOT NULL THEN '' END, \
     CASE WHEN r.version IS NULL THEN h.author IS NULL ELSE r.author IS NULL END \
     FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k(type, id, bytes) \
     LEFT JOIN resource r ON r.type = k.type AND r.id = k.id \
     LEFT JOIN LATERAL (SELECT version, seq, updated, author FROM history WHERE type = k.type AND id = k.id \
     ORDER BY version DESC LIMIT 1) h ON true \
     WHERE r.version IS NOT NULL OR h.version IS NOT NULL";
const BEFORE: &str = "SELECT body FROM resource WHERE type = $1 AND id = $2";
const FORGET: &str = "DELETE FROM resource r USING unnest($1::text[], $2::text[]) AS k(type, id) \
     WHERE r.type = k.type AND r.id = k.id";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, author, patient, effective) \
     SELECT seq, type, id, version, $1, body, author, patient, effective \
     FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::bigint[]) \
     AS n(seq, type, id, version, body, author, patient, effective)";
const REMEMBER: &str = "INSERT INTO history(seq, type, id, version, updated, body, author, posted) \
     SELECT seq, type, id, version, $1, body, author, posted \
     FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[]) \
     AS n(seq, type, id, version, body, author, posted)";

impl ToSql for Bind {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) => number.to_sql(kind, out),
            Self::Real(number) => number.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        <i64 as ToSql>::accepts(kind)
            || <f64 as ToSql>::accepts(kind)
            || <String as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

/// Several transactions of clients in one of the engine, in their order: what became of each, and how many events were
/// written. One that changes what is watched comes alone. None, and nothing is done, where the order of commits does not
/// stand at `stood` any more.
pub async fn transact(
    client: &mut Object,
    asked: &[Transaction],
    (watches, stood): (&events::Cache, i64),
) -> Result<Option<(Vec<Transacted>, u64)>, Trouble> {
    let now = asked.iter().map(|one| one.now.0).max().unwrap_or_default();
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let look = transaction.prepare_cached(KNOWN).await?;
    let keys = asked.iter().flat_map(|one| &one.changes).map(Change::key);
    let types: Vec<&str> = keys.clone().map(|key| key.0.as_str()).collect();
    let ids: Vec<&str> = keys.map(|key| key.1.as_str()).collect();
    let texts = asked.iter().flat_map(|one| &one.changes).map(Change::text);
    let bytes = texts.map(|text| i64::try_from(text.len()).unwrap_or(i64::MAX));
    let bytes: Vec<i64> = bytes.collect();
    // Sent without waiting, in this order: what is known is what is there once the lock is had.
    let (of_lock, of_look): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 3]) =
        ([&now], [&types, &ids, &bytes]);
    let locked = transaction.query_one(&lock, &of_lock);
    let (head, known) = try_join(locked, transaction.query(&look, &of_look)).await?;
    if head.get::<_, i64>(0) < stood {
        return Ok(None);
    }
    let watched = watches.watches(&transaction, head.get(2)).await?;
    let mut batch = Batch {
        transaction: &transaction,
        seq: head.get(0),
        updated: head.get(1),
        known: known_of(&known),
        pending: Vec::new(),
        noting: Noting::new(watched),
    };
    let mut all = Vec::with_capacity(asked.len());
    for one in asked {
        all.push(batch.take(one).await?);
    }
    write(&transaction, &batch.pending, batch.updated).await?;
    let events = events::write(
        &transaction,
        &batch.noting.events,
        (batch.updated, watches.most_pending),
    )
    .await?;
    // What changes what is watched came alone, so that all of it is still among what was written last.
    events::register(&transaction, batch.pending.iter().map(|(row, _)| row)).await?;
    transaction.commit().await.map_err(Trouble::Commit)?;
    Ok(Some((all, events)))
}

/// What one transaction of the engine does for several of clients.
struct Batch<'a> {
    transaction: &'a deadpool_postgres::Transaction<'a>,
    /// The last place in the order of commits.
    seq: i64,
    updated: i64,
    /// What is there of what is changed, with what was planned so far.
    known: Known,
    /// What was planned and is not yet written, with who wrote it.
    pending: Vec<(Planned<'a>, &'a str)>,
    noting: Noting,
}

impl<'a> Batch<'a> {
    /// Plans a transaction, if what it expects is so after those before it.
    async fn take(&mut self, asked: &'a Transaction) -> Result<Transacted, Error> {
        if !asked.guards.is_empty() {
            self.flush().await?;
        }
        for guard in &asked.guards {
            if !is_met(self.transaction, guard).await? {
                let (at, why) = (guard.of, Unmet::Search);
                return Ok(Transacted::Unmet { at, why });
            }
        }
        let Plan { rows, written } = match plan(&asked.changes, &self.known, self.seq, self.updated)
        {
            Ok(plan) => plan,
            Err((at, why)) => return Ok(Transacted::Unmet { at, why }),
        };
        if events::is_full(self.transaction, &rows).await? {
            let why = Unmet::Full;
            return Ok(Transacted::Unmet { at: 0, why });
        }
        let is_pending = |row: &Planned<'_>| {
            let mut pending = self.pending.iter().map(|(one, _)| (one.kind, one.id));
            row.version > 1 && pending.any(|key| key == (row.kind, row.id))
        };
        if rows.iter().any(is_pending) {
            self.flush().await?;
        }
        for row in rows {
            let key = (row.kind, row.id.to_string());
            let before = self.deleted(&row).await?;
            self.noting.write(&row, before.as_deref());
            let now = Current {
                version: row.version,
                seq: row.seq,
                updated: self.updated,
                json: row.draft.map(|draft| draft.json().to_owned()),
                is_delivered: false,
            };
            self.known.insert(key, now);
            self.seq = row.seq;
            self.pending.push((row, &asked.author));
        }
        Ok(Transacted::Done(written))
    }

    /// The text of what a row deletes, where somebody is told of it: what was planned of it before is written.
    async fn deleted(&self, row: &Planned<'_>) -> Result<Option<String>, Error> {
        if row.draft.is_some() || !self.noting.watches.look_at(row.kind) {
            return Ok(None);
        }
        let statement = self.transaction.prepare_cached(BEFORE).await?;
        let (kind, id) = (row.kind.as_str(), row.id.as_str());
        let params: [&(dyn ToSql + Sync); 2] = [&kind, &id];
        let before = self.transaction.query_opt(&statement, &params).await?;
        Ok(before.map(|row| row.get(0)))
    }

    /// Writes what was planned so far.
    async fn flush(&mut self) -> Result<(), Error> {
        write(self.transaction, &self.pending, self.updated).await?;
        self.pending.clear();
        Ok(())
    }
}

async fn is_met(
    transaction: &deadpool_postgres::Transaction<'_>,
    guard: &Guard,
) -> Result<bool, Error> {
    let sql = sql::few(Dialect::Postgres, guard);
    let rows = transaction.query_typed(&sql.text, &typed(&sql)).await?;
    let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(guard.is_met(&ids))
}

fn params(sql: &Sql) -> Vec<&(dyn ToSql + Sync)> {
    sql.binds.iter().map(|one| one as _).collect()
}

/// The values with their types, so that the engine is asked once and not for the types before: what is not kept prepared.
pub fn typed(sql: &Sql) -> Vec<(&(dyn ToSql + Sync), Type)> {
    let of = |bind: &Bind| match bind {
        Bind::Integer(_) => Type::INT8,
        Bind::Real(_) => Type::FLOAT8,
        Bind::Null | Bind::Text(_) => Type::TEXT,
    };
    sql.binds.iter().map(|one| (one as _, of(one))).collect()
}

type Known = HashMap<(ResourceType, String), Current>;

/// What is there of what several transactions change. Where more than one changes it, the text stays that one of them brings.
fn known_of(rows: &[Row]) -> Known {
    let mut known = Known::new();
    for (key, current) in rows.iter().filter_map(one_known) {
        let text = |one: &Current| one.json.as_deref().is_some_and(|text| !text.is_empty());
        if !known.get(&key).is_some_and(text) {
            known.insert(key, current);
        }
    }
    known
}

fn one_known(row: &Row) -> Option<((ResourceType, String), Current)> {
    let json: Option<String> = row.get(5);
    let current = Current {
        version: u32::try_from(row.get::<_, i64>(2)).ok()?,
        seq: row.get(3),
        updated: row.get(4),
        is_delivered: row.get(6),
        json,
    };
    Some(((ResourceType::parse(row.get(0))?, row.get(1)), current))
}

/// The statements do not depend on each other, so they are sent without waiting (pipelined).
async fn write(
    transaction: &deadpool_postgres::Transaction<'_>,
    rows: &[(Planned<'_>, &str)],
    updated: i64,
) -> Result<(), Error> {
    let Some((last, _)) = rows.last() else {
        return Ok(());
    };
    let replaced = rows.iter().map(|(row, _)| row);
    let replaced: Vec<&Planned<'_>> = replaced.filter(|row| row.replaces.is_some()).collect();
    if !replaced.is_empty() {
        let types: Vec<&str> = replaced.iter().map(|row| row.kind.as_str()).collect();
        let ids: Vec<&str> = replaced.iter().map(|row| row.id.as_str()).collect();
        let statement = transaction.prepare_cached(FORGET).await?;
        transaction.execute(&statement, &[&types, &ids]).await?;
        index::forget(transaction, &types, &ids).await?;
    }
    let kept: Vec<Version<'_>> = rows.iter().filter(|(row, _)| row.draft.is_some()).collect();
    let all: Vec<Version<'_>> = rows.iter().collect();
    let drafts = kept
        .iter()
        .filter_map(|(row, _)| Some((row.kind.as_str(), row.id.as_str(), row.draft?)));
    let found: Vec<index::Found<'_>> = drafts
        .map(|(kind, id, draft)| (kind, id, draft.rows()))
        .collect();
    let [observations, patients, devices] = added(rows.iter().map(|(row, _)| row));
    let head = async {
        let statement = transaction.prepare_cached(HEAD).await?;
        let params: [&(dyn ToSql + Sync); 4] = [&last.seq, &observations, &patients, &devices];
        transaction.execute(&statement, &params).await
    };
    let columns: Vec<_> = kept
        .iter()
        .map(|(row, _)| {
            row.draft
                .map_or((None, None), |draft| draft.columns(updated))
        })
        .collect();
    let subjects: Vec<Option<&str>> = columns.iter().map(|columns| columns.0).collect();
    let times: Vec<Option<i64>> = columns.iter().map(|columns| columns.1).collect();
    let posted = all
        .iter()
        .map(|(row, _)| row.draft.is_some_and(Draft::is_posted));
    let posted: Vec<i64> = posted.map(i64::from).collect();
    try_join4(
        insert(transaction, WRITE, &kept, (updated, &[&subjects, &times])),
        insert(transaction, REMEMBER, &all, (updated, &[&posted])),
        head,
        index::add(transaction, &found),
    )
    .await?;
    Ok(())
}

/// A version, and who wrote it.
type Version<'a> = &'a (Planned<'a>, &'a str);

async fn insert(
    transaction: &deadpool_postgres::Transaction<'_>,
    statement: &str,
    rows: &[Version<'_>],
    (updated, columns): (i64, &[&(dyn ToSql + Sync)]),
) -> Result<u64, Error> {
    let seqs: Vec<i64> = rows.iter().map(|(row, _)| row.seq).collect();
    let types: Vec<&str> = rows.iter().map(|(row, _)| row.kind.as_str()).collect();
    let ids: Vec<&str> = rows.iter().map(|(row, _)| row.id.as_str()).collect();
    let versions: Vec<i64> = rows.iter().map(|(row, _)| i64::from(row.version)).collect();
    let bodies: Vec<&str> = rows
        .iter()
        .map(|(row, _)| row.draft.map_or("", |draft| draft.json()))
        .collect();
    let authors: Vec<&str> = rows.iter().map(|(_, author)| *author).collect();
    let mut params: Vec<&(dyn ToSql + Sync)> =
        vec![&updated, &seqs, &types, &ids, &versions, &bodies, &authors];
    params.extend(columns);
    let statement = transaction.prepare_cached(statement).await?;
    transaction.execute(&statement, &params).await
}

/// One page of what was there at a commit; none when a row cannot be read.
pub async fn extent(client: &Object, extent: &Extent) -> Result<Option<ExtentPage>, Error> {
    let sql = sql::extent(Dialect::Postgres, extent);
    let statement = client.prepare_cached(&sql.text).await?;
    let rows = client.query(&statement, &params(&sql)).await?;
    let (shown, more) = on_page(&rows, extent.count);
    let resources: Option<Vec<_>> = shown.iter().map(stored).collect();
    Ok(resources.map(|resources| ExtentPage::of(resources, more)))
}

/// One page of versions; none when a row cannot be read.
pub async fn history(client: &Object, query: &HistoryQuery) -> Result<Option<HistoryPage>, Error> {
    let sql = sql::history(Dialect::Postgres, query);
    let statement = client.prepare_cached(&sql.text).await?;
    let rows = client.query(&statement, &params(&sql)).await?;
    let version = |row: &Row| Some((stored(row)?, row.get::<_, i64>(7)));
    let (shown, more) = on_page(&rows, query.count);
    let versions: Option<Vec<_>> = shown.iter().map(version).collect();
    Ok(versions.map(|versions| HistoryPage::of(versions, more)))
}

/// One page of a search; none when a row cannot be read. There are too many different texts to keep them prepared.
pub async fn find(client: &Object, find: &Find) -> Result<Option<FindPage>, Error> {
    if let Some((part, mark)) = sql::of_one_mark(find) {
        let rows = found(client, &part).await?;
        // Where they fill the page, nothing else is on it.
        if let (shown, true) = on_page(&rows, find.count) {
            let rows = with_keys(shown, &part);
            return Ok(rows.map(|mut rows| {
                for (_, keys) in &mut rows {
                    keys.push(Bind::Integer(mark));
                }
                FindPage::of(rows, true)
            }));
        }
    }
    let rows = found(client, find).await?;
    let (shown, more) = on_page(&rows, find.count);
    Ok(with_keys(shown, find).map(|rows| FindPage::of(rows, more)))
}

/// Rows of resources and of the keys of the order, one more than the page shows.
async fn found(client: &Object, find: &Find) -> Result<Vec<Row>, Error> {
    let sql = sql::page(Dialect::Postgres, find);
    client.query_typed(&sql.text, &typed(&sql)).await
}

/// Resources with the values of the keys of the order; none when a row cannot be read.
fn with_keys(rows: &[Row], find: &Find) -> Option<Vec<(Stored, Vec<Bind>)>> {
    let keys = find.keys().count();
    let read = |row: &Row| {
        let keys = (7..7 + keys).map(|at| bind_of(row, at));
        Some((stored(row)?, keys.collect()))
    };
    rows.iter().map(read).collect()
}

fn bind_of(row: &Row, at: usize) -> Bind {
    let kind = row.columns().get(at).map(|column| column.type_().clone());
    match kind {
        Some(Type::INT8) => row
            .get::<_, Option<i64>>(at)
            .map_or(Bind::Null, Bind::Integer),
        Some(Type::FLOAT8) => row.get::<_, Option<f64>>(at).map_or(Bind::Null, Bind::Real),
        _ => row
            .get::<_, Option<String>>(at)
            .map_or(Bind::Null, Bind::Text),
    }
}

/// How many a search finds.
pub async fn count(client: &Object, find: &Find) -> Result<u64, Error> {
    let sql = sql::count(Dialect::Postgres, find);
    let row = client.query_typed_one(&sql.text, &typed(&sql)).await?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}
