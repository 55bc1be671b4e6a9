//! AuditEvents of the server's own, in PostgreSQL.
use super::{
    general::index,
    write::{LOCK, holds},
};
use crate::audit::{AUDIT_EVENT, OwnEvents, PLACE};
use crate::query::IndexRow;
use crate::store::{Draft, row_of_source};
use deadpool_postgres::{Object, Transaction};
use std::collections::HashSet;
use tokio_postgres::{Error, types::ToSql};

const KNOWN: &str = "SELECT id FROM history WHERE type = $1 AND id = ANY($2)";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, source) \
     SELECT seq, $1, id, 1, $2, body, source \
     FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[]) AS n(seq, id, body, source)";
const REMEMBER: &str = "INSERT INTO history(seq, type, id, version, updated, body) \
     SELECT seq, $1, id, 1, $2, body \
     FROM unnest($3::bigint[], $4::text[], $5::text[]) AS n(seq, id, body)";
const HEAD: &str = "UPDATE head SET seq = $1";
const DROP: &str =
    "DELETE FROM resource WHERE type = $1 AND id = ANY($2) AND author IS NULL RETURNING id";
const FORGET: &str = "DELETE FROM history WHERE type = $1 AND id = ANY($2) AND author IS NULL";
const KEEP: &str = "INSERT INTO reader(name, marks) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET marks = excluded.marks";

/// An AuditEvent that is new, and its facility.
type New<'a> = (&'a Draft, Option<String>);

/// One transaction. Whether it was done: not where it goes by a lease that another node has now.
pub async fn keep(
    client: &mut Object,
    audit: &OwnEvents,
    lease: Option<i64>,
) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let head = transaction.query_one(&lock, &[&audit.now]).await?;
    let new = new(&transaction, audit).await?;
    write(&transaction, &new, (head.get(0), head.get(1))).await?;
    if !audit.dropped.is_empty() {
        let ids: Vec<&str> = audit.dropped.iter().map(|id| id.as_str()).collect();
        let drop = transaction.prepare_cached(DROP).await?;
        let gone = transaction.query(&drop, &[&AUDIT_EVENT, &ids]).await?;
        let forget = transaction.prepare_cached(FORGET).await?;
        transaction.execute(&forget, &[&AUDIT_EVENT, &ids]).await?;
        let gone: Vec<&str> = gone.iter().map(|row| row.get(0)).collect();
        let types = vec![AUDIT_EVENT; gone.len()];
        index::forget(&transaction, &types, &gone).await?;
    }
    let place = transaction.prepare_cached(KEEP).await?;
    transaction.execute(&place, &[&PLACE, &audit.place]).await?;
    // Looked at last, since the lease cannot be renewed meanwhile; its row is held until the commit.
    if !holds(&transaction, lease).await? {
        return Ok(false);
    }
    transaction.commit().await?;
    Ok(true)
}

/// Those that are not there yet, each once.
async fn new<'a>(
    transaction: &Transaction<'_>,
    audit: &'a OwnEvents,
) -> Result<Vec<New<'a>>, Error> {
    let ids: Vec<&str> = audit
        .events
        .iter()
        .map(|(draft, _)| draft.id().as_str())
        .collect();
    let known = transaction.prepare_cached(KNOWN).await?;
    let known = transaction.query(&known, &[&AUDIT_EVENT, &ids]).await?;
    let mut known: HashSet<String> = known.iter().map(|row| row.get(0)).collect();
    let events = audit.events.iter();
    let new = events.filter(|(draft, _)| known.insert(draft.id().to_string()));
    Ok(new
        .map(|(draft, source)| (draft, source.map(|source| source.to_string())))
        .collect())
}

async fn write(
    transaction: &Transaction<'_>,
    new: &[New<'_>],
    (seq, updated): (i64, i64),
) -> Result<(), Error> {
    if new.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = (seq + 1..).take(new.len()).collect();
    let ids: Vec<&str> = new.iter().map(|(draft, _)| draft.id().as_str()).collect();
    let bodies: Vec<&str> = new.iter().map(|(draft, _)| draft.json()).collect();
    let sources: Vec<Option<&str>> = new.iter().map(|(_, source)| source.as_deref()).collect();
    let write = transaction.prepare_cached(WRITE).await?;
    let params: [&(dyn ToSql + Sync); 6] = [&AUDIT_EVENT, &updated, &seqs, &ids, &bodies, &sources];
    transaction.execute(&write, &params).await?;
    let remember = transaction.prepare_cached(REMEMBER).await?;
    let params: [&(dyn ToSql + Sync); 5] = [&AUDIT_EVENT, &updated, &seqs, &ids, &bodies];
    transaction.execute(&remember, &params).await?;
    let rows: Vec<Vec<IndexRow>> = new
        .iter()
        .map(|(draft, source)| {
            let source = source.as_deref().map(row_of_source);
            draft.rows().iter().cloned().chain(source).collect()
        })
        .collect();
    let found = ids.iter().zip(&rows);
    let found: Vec<index::Found<'_>> = found
        .map(|(id, rows)| (AUDIT_EVENT, *id, rows.as_slice()))
        .collect();
    index::add(transaction, &found).await?;
    let head = transaction.prepare_cached(HEAD).await?;
    transaction
        .execute(&head, &[seqs.last().unwrap_or(&seq)])
        .await?;
    Ok(())
}
