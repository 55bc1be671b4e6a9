//! What clients write, how it is found, and how versions are listed, in PostgreSQL.
pub mod index;

use super::{events, stored, write::LOCK};
use crate::query::sql::{Bind, Dialect, Sql};
use crate::sql;
use crate::store::{
    Change, Current, Extent, ExtentPage, Find, FindPage, Guard, HistoryPage, HistoryQuery, Plan,
    Planned, ResourceType, Transacted, Transaction, Unmet, plan,
};
use crate::subscription::Noting;
use bytes::BytesMut;
use deadpool_postgres::Object;
use futures_util::future::try_join3;
pub use index::index_all;
use std::collections::HashMap;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Row};

const KNOWN: &str = "SELECT k.type, k.id, coalesce(r.version, h.version), coalesce(r.seq, h.seq), \
     coalesce(r.updated, h.updated), r.body, r.author IS NULL \
     FROM unnest($1::text[], $2::text[]) AS k(type, id) \
     LEFT JOIN resource r ON r.type = k.type AND r.id = k.id \
     LEFT JOIN LATERAL (SELECT version, seq, updated FROM history WHERE type = k.type AND id = k.id \
     ORDER BY version DESC LIMIT 1) h ON true \
     WHERE r.version IS NOT NULL OR h.version IS NOT NULL";
const FORGET: &str = "DELETE FROM resource r USING unnest($1::text[], $2::text[]) AS k(type, id) \
     WHERE r.type = k.type AND r.id = k.id";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, author) \
     SELECT seq, type, id, version, $1, body, $2 \
     FROM unnest($3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[]) \
     AS n(seq, type, id, version, body)";
const REMEMBER: &str = "INSERT INTO history(seq, type, id, version, updated, body, author) \
     SELECT seq, type, id, version, $1, body, $2 \
     FROM unnest($3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[]) \
     AS n(seq, type, id, version, body)";
const HEAD: &str = "UPDATE head SET seq = $1";

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

/// One transaction; and how many events were written.
pub async fn transact(
    client: &mut Object,
    asked: &Transaction,
    watches: &events::Cache,
) -> Result<(Transacted, u64), Error> {
    let unmet = |at, why| Ok((Transacted::Unmet { at, why }, 0));
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let head = transaction.query_one(&lock, &[&asked.now.0]).await?;
    let (seq, updated): (i64, i64) = (head.get(0), head.get(1));
    for guard in &asked.guards {
        if !is_met(&transaction, guard).await? {
            return unmet(guard.of, Unmet::Search);
        }
    }
    let known = known(&transaction, &asked.changes).await?;
    let Plan { rows, written } = match plan(&asked.changes, &known, seq, updated) {
        Ok(plan) => plan,
        Err((at, why)) => return unmet(at, why),
    };
    if events::is_full(&transaction, &rows).await? {
        return unmet(0, Unmet::Full);
    }
    write(&transaction, &rows, &asked.author, updated).await?;
    let mut noting = Noting::new(watches.watches(&transaction, head.get(2)).await?);
    for row in &rows {
        let before = known.get(&(row.kind, row.id.to_string()));
        noting.write(row, before.and_then(|before| before.json.as_deref()));
    }
    let events = events::write(&transaction, &noting.events, updated).await?;
    events::register(&transaction, &rows).await?;
    transaction.commit().await?;
    Ok((Transacted::Done(written), events))
}

async fn is_met(
    transaction: &deadpool_postgres::Transaction<'_>,
    guard: &Guard,
) -> Result<bool, Error> {
    let sql = sql::few(Dialect::Postgres, guard);
    let rows = transaction.query(sql.text.as_str(), &params(&sql)).await?;
    let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(guard.is_met(&ids))
}

fn params(sql: &Sql) -> Vec<&(dyn ToSql + Sync)> {
    sql.binds.iter().map(|one| one as _).collect()
}

type Known = HashMap<(ResourceType, String), Current>;

async fn known(
    transaction: &deadpool_postgres::Transaction<'_>,
    changes: &[Change],
) -> Result<Known, Error> {
    let keys = changes.iter().map(Change::key);
    let types: Vec<&str> = keys.clone().map(|key| key.0.as_str()).collect();
    let ids: Vec<&str> = keys.map(|key| key.1.as_str()).collect();
    let statement = transaction.prepare_cached(KNOWN).await?;
    let rows = transaction.query(&statement, &[&types, &ids]).await?;
    Ok(rows.iter().filter_map(one_known).collect())
}

fn one_known(row: &Row) -> Option<((ResourceType, String), Current)> {
    let json: Option<String> = row.get(5);
    let current = Current {
        version: u32::try_from(row.get::<_, i64>(2)).ok()?,
        seq: row.get(3),
        updated: row.get(4),
        is_delivered: json.is_some() && row.get(6),
        json,
    };
    Some(((ResourceType::parse(row.get(0))?, row.get(1)), current))
}

async fn write(
    transaction: &deadpool_postgres::Transaction<'_>,
    rows: &[Planned<'_>],
    author: &str,
    updated: i64,
) -> Result<(), Error> {
    let Some(last) = rows.last() else {
        return Ok(());
    };
    let replaced: Vec<&Planned<'_>> = rows.iter().filter(|row| row.replaces.is_some()).collect();
    if !replaced.is_empty() {
        let types: Vec<&str> = replaced.iter().map(|row| row.kind.as_str()).collect();
        let ids: Vec<&str> = replaced.iter().map(|row| row.id.as_str()).collect();
        let statement = transaction.prepare_cached(FORGET).await?;
        transaction.execute(&statement, &[&types, &ids]).await?;
        index::forget(transaction, &types, &ids).await?;
    }
    let kept: Vec<&Planned<'_>> = rows.iter().filter(|row| row.draft.is_some()).collect();
    let all: Vec<&Planned<'_>> = rows.iter().collect();
    let head = async {
        let statement = transaction.prepare_cached(HEAD).await?;
        transaction.execute(&statement, &[&last.seq]).await
    };
    try_join3(
        insert(transaction, WRITE, &kept, (author, updated)),
        insert(transaction, REMEMBER, &all, (author, updated)),
        head,
    )
    .await?;
    let drafts = kept
        .iter()
        .filter_map(|row| Some((row.kind.as_str(), row.id.as_str(), row.draft?)));
    let rows: Vec<index::Found<'_>> = drafts
        .map(|(kind, id, draft)| (kind, id, draft.rows()))
        .collect();
    index::add(transaction, &rows).await
}

async fn insert(
    transaction: &deadpool_postgres::Transaction<'_>,
    statement: &str,
    rows: &[&Planned<'_>],
    (author, updated): (&str, i64),
) -> Result<u64, Error> {
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let types: Vec<&str> = rows.iter().map(|row| row.kind.as_str()).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let versions: Vec<i64> = rows.iter().map(|row| i64::from(row.version)).collect();
    let body = |row: &&Planned<'_>| row.draft.map_or("", |draft| draft.json()).to_owned();
    let bodies: Vec<String> = rows.iter().map(body).collect();
    let params: [&(dyn ToSql + Sync); 7] =
        [&updated, &author, &seqs, &types, &ids, &versions, &bodies];
    let statement = transaction.prepare_cached(statement).await?;
    transaction.execute(&statement, &params).await
}

/// One page of what was there at a commit; none when a row cannot be read.
pub async fn extent(client: &Object, extent: &Extent) -> Result<Option<ExtentPage>, Error> {
    let sql = sql::extent(Dialect::Postgres, extent);
    let statement = client.prepare_cached(&sql.text).await?;
    let rows = client.query(&statement, &params(&sql)).await?;
    let resources: Option<Vec<_>> = rows.iter().map(stored).collect();
    Ok(resources.map(|resources| ExtentPage::of(resources, extent.count)))
}

/// One page of versions; none when a row cannot be read.
pub async fn history(client: &Object, query: &HistoryQuery) -> Result<Option<HistoryPage>, Error> {
    let sql = sql::history(Dialect::Postgres, query);
    let statement = client.prepare_cached(&sql.text).await?;
    let rows = client.query(&statement, &params(&sql)).await?;
    let versions: Option<Vec<_>> = rows.iter().map(stored).collect();
    Ok(versions.map(|versions| HistoryPage::of(versions, query.count)))
}

/// One page of a search; none when a row cannot be read. There are too many different texts to keep them prepared.
pub async fn find(client: &Object, find: &Find) -> Result<Option<FindPage>, Error> {
    let sql = sql::page(Dialect::Postgres, find);
    let keys = find.keys().count();
    let rows = client.query(sql.text.as_str(), &params(&sql)).await?;
    let read = |row: &Row| {
        let keys = (7..7 + keys).map(|at| bind_of(row, at));
        Some((stored(row)?, keys.collect()))
    };
    let rows: Option<Vec<(_, Vec<Bind>)>> = rows.iter().map(read).collect();
    Ok(rows.map(|rows| FindPage::of(rows, find.count)))
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
    let row = client.query_one(sql.text.as_str(), &params(&sql)).await?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}
