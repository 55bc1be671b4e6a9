//! What is kept of subscriptions, and the events that a transaction writes for them, in PostgreSQL.
use super::PostgresStore;
use super::failed;
use crate::store::{Kind, Planned, ResourceType, StoreError};
use crate::subscription::{
    Event, EventStore, MAX_SUBSCRIPTIONS, Noted, Progress, SUBSCRIPTION, Standing, Status, Watches,
    What,
};
use async_trait::async_trait;
use deadpool_postgres::Transaction;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;
use tokio_postgres::{Error, Row, types::ToSql};
use types::Timestamp;

/// Version 6 of the schema. `watching` counts how often what is watched changed, so that whoever writes reads it again
/// only then.
pub const STEP: &str = r#"
ALTER TABLE head ADD COLUMN watching BIGINT NOT NULL DEFAULT 0;
-- the id is gone where the Subscription was deleted and its events are not yet forgotten
CREATE TABLE subscription(key BIGINT PRIMARY KEY, id TEXT COLLATE "C" UNIQUE, version BIGINT NOT NULL, spec TEXT NOT NULL,
  status TEXT NOT NULL, watched BOOLEAN NOT NULL, fetched BOOLEAN NOT NULL, number BIGINT NOT NULL, delivered BIGINT NOT NULL,
  progress TEXT NOT NULL);
CREATE TABLE event(key BIGINT NOT NULL, number BIGINT NOT NULL, type TEXT NOT NULL, id TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL, seq BIGINT NOT NULL, what TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (key, number));
UPDATE head SET version = 6;
"#;

const WATCHED: &str = "SELECT key, spec FROM subscription WHERE watched";
const CHANGED: &str = "UPDATE head SET watching = watching + 1";
const NUMBER: &str = "UPDATE subscription s SET number = s.number + n.count, \
     watched = s.fetched OR s.number + n.count - s.delivered <= $3 \
     FROM unnest($1::bigint[], $2::bigint[]) AS n(key, count) WHERE s.key = n.key AND s.watched \
     RETURNING s.key, s.number, s.watched";
const WRITE: &str = "INSERT INTO event(key, number, type, id, version, seq, what, at) \
     SELECT key, number, type, id, version, seq, what, $8 FROM unnest($1::bigint[], $2::bigint[], $3::text[], \
     $4::text[], $5::bigint[], $6::bigint[], $7::text[]) AS n(key, number, type, id, version, seq, what)";
/// What waited while nothing was watched is not sent afterwards: there is a gap behind it.
const REGISTER: &str = "INSERT INTO subscription AS s(key, id, version, spec, status, watched, fetched, number, \
     delivered, progress) VALUES ($1, $2, $7, $3, $4, $5, $6, 0, 0, '{}') ON CONFLICT (id) DO UPDATE SET \
     version = excluded.version, spec = excluded.spec, status = excluded.status, watched = excluded.watched, fetched = excluded.fetched, progress = '{}', \
     delivered = CASE WHEN NOT s.watched AND excluded.watched THEN s.number ELSE s.delivered END";
const LEAVE: &str =
    "UPDATE subscription SET id = NULL, status = 'off', watched = FALSE WHERE id = $1";
const KNOWN: &str =
    "SELECT count(*), count(*) FILTER (WHERE id = $1) FROM subscription WHERE id IS NOT NULL";
const STANDINGS: &str = "SELECT key, id, spec, status, watched, number, delivered, progress, \
     (SELECT at FROM event e WHERE e.key = s.key AND e.number > s.delivered ORDER BY e.number LIMIT 1), \
     version FROM subscription s ORDER BY key";
const EVENTS: &str = "SELECT number, type, id, version, seq, what, at FROM event \
     WHERE key = $1 AND number BETWEEN $2 AND $3 ORDER BY number LIMIT $4";
const KEEP: &str =
    "UPDATE subscription SET delivered = greatest(delivered, $2), progress = $3 WHERE key = $1";
const FORGET: &str = "DELETE FROM event WHERE key = $1 AND number <= $2";
const FORGET_SUBSCRIPTION: &str = "DELETE FROM subscription WHERE key = $1 AND id IS NULL \
     AND NOT EXISTS (SELECT 1 FROM event WHERE key = $1)";

/// What is watched, as it was read last.
pub struct Cache {
    seen: Mutex<Option<(i64, Arc<Watches>)>>,
    pub most_pending: u64,
}

impl Cache {
    /// Of a store in which so many events of a subscription may wait.
    pub fn new(most_pending: u64) -> Self {
        Self {
            seen: Mutex::default(),
            most_pending,
        }
    }

    /// What is watched, by how often that changed. Whoever asks holds the lock on the order of commits.
    pub async fn watches(
        &self,
        transaction: &Transaction<'_>,
        watching: i64,
    ) -> Result<Arc<Watches>, Error> {
        if let Some((of, watches)) = &*self.seen.lock()
            && *of == watching
        {
            return Ok(Arc::clone(watches));
        }
        let statement = transaction.prepare_cached(WATCHED).await?;
        let rows = transaction.query(&statement, &[]).await?;
        let specs = rows.iter().map(|row| (row.get(0), row.get(1)));
        let watches = Arc::new(Watches::of(specs));
        *self.seen.lock() = Some((watching, Arc::clone(&watches)));
        Ok(watches)
    }
}

/// Whether there is no room for another subscription.
pub async fn is_full(transaction: &Transaction<'_>, rows: &[Planned<'_>]) -> Result<bool, Error> {
    let (mut more, mut all) = (0, 0);
    for row in rows.iter().filter(|row| row.kind.as_str() == SUBSCRIPTION) {
        let known = transaction.query_one(KNOWN, &[&row.id.as_str()]).await?;
        all = usize::try_from(known.get::<_, i64>(0)).unwrap_or(usize::MAX);
        let is_new = row.draft.is_some_and(|draft| draft.watching().is_some());
        more += usize::from(is_new && known.get::<_, i64>(1) == 0);
    }
    Ok(more > 0 && all.saturating_add(more) > MAX_SUBSCRIPTIONS)
}

/// Keeps what Subscriptions of a transaction ask for.
pub async fn register<'a>(
    transaction: &Transaction<'_>,
    rows: impl Iterator<Item = &'a Planned<'a>>,
) -> Result<(), Error> {
    let mut changed = false;
    let rows: Vec<&Planned<'_>> = rows
        .filter(|row| row.kind.as_str() == SUBSCRIPTION)
        .collect();
    for row in rows {
        let id = row.id.as_str();
        match row.draft.map(|draft| draft.watching()) {
            None => {
                transaction.execute(LEAVE, &[&id]).await?;
            }
            Some(None) => continue,
            Some(Some(watching)) => {
                let status = watching.status.as_str();
                let version = i64::from(row.version);
                let params: [&(dyn ToSql + Sync); 7] = [
                    &row.seq,
                    &id,
                    &watching.spec,
                    &status,
                    &watching.watched,
                    &watching.is_fetched,
                    &version,
                ];
                transaction.execute(REGISTER, &params).await?;
            }
        }
        changed = true;
    }
    if changed {
        transaction.execute(CHANGED, &[]).await?;
    }
    Ok(())
}

/// Writes the events that were noted, each with its number; how many.
pub async fn write(
    transaction: &Transaction<'_>,
    noted: &[Noted],
    (at, most_pending): (i64, u64),
) -> Result<u64, Error> {
    if noted.is_empty() {
        return Ok(0);
    }
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    for one in noted {
        *counts.entry(one.key).or_default() += 1;
    }
    let keys: Vec<i64> = counts.keys().copied().collect();
    let each: Vec<i64> = counts.values().copied().collect();
    let most = i64::try_from(most_pending).unwrap_or(i64::MAX);
    let statement = transaction.prepare_cached(NUMBER).await?;
    let rows = transaction
        .query(&statement, &[&keys, &each, &most])
        .await?;
    let mut next: BTreeMap<i64, i64> = BTreeMap::new();
    for row in &rows {
        let (key, last): (i64, i64) = (row.get(0), row.get(1));
        next.insert(key, last - counts.get(&key).copied().unwrap_or(0));
    }
    if rows.iter().any(|row| !row.get::<_, bool>(2)) {
        transaction.execute(CHANGED, &[]).await?;
    }
    let mut written: Vec<(i64, &Noted)> = Vec::with_capacity(noted.len());
    for one in noted {
        if let Some(number) = next.get_mut(&one.key) {
            *number += 1;
            written.push((*number, one));
        }
    }
    let keys: Vec<i64> = written.iter().map(|(_, one)| one.key).collect();
    let numbers: Vec<i64> = written.iter().map(|(number, _)| *number).collect();
    let types: Vec<&str> = written.iter().map(|(_, one)| one.kind.as_str()).collect();
    let ids: Vec<&str> = written.iter().map(|(_, one)| one.id.as_str()).collect();
    let versions: Vec<i64> = written
        .iter()
        .map(|(_, one)| i64::from(one.version))
        .collect();
    let seqs: Vec<i64> = written.iter().map(|(_, one)| one.seq).collect();
    let whats: Vec<&str> = written.iter().map(|(_, one)| one.what.as_str()).collect();
    let params: [&(dyn ToSql + Sync); 8] =
        [&keys, &numbers, &types, &ids, &versions, &seqs, &whats, &at];
    let statement = transaction.prepare_cached(WRITE).await?;
    transaction.execute(&statement, &params).await
}

/// Somebody may look at the events that were written.
pub fn tell(noted: &watch::Sender<u64>, events: u64) {
    if events > 0 {
        noted.send_modify(|all| *all = all.wrapping_add(events));
    }
}

fn number(value: i64) -> Option<u64> {
    u64::try_from(value).ok()
}

fn standing(row: &Row) -> Option<Standing> {
    let id: Option<&str> = row.get(1);
    Some(Standing {
        key: row.get(0),
        id: match id {
            Some(id) => Some(id.parse().ok()?),
            None => None,
        },
        spec: row.get(2),
        status: Status::parse(row.get(3))?,
        watched: row.get(4),
        number: number(row.get(5))?,
        delivered: number(row.get(6))?,
        progress: Progress::of_text(row.get(7)),
        waits_since: row.get::<_, Option<i64>>(8).map(Timestamp),
        version: u32::try_from(row.get::<_, i64>(9)).ok()?,
    })
}

fn event(row: &Row) -> Option<Event> {
    Some(Event {
        number: number(row.get(0))?,
        kind: ResourceType::parse(row.get(1))?,
        id: row.get::<_, &str>(2).parse().ok()?,
        version: u32::try_from(row.get::<_, i64>(3)).ok()?,
        seq: row.get(4),
        what: What::parse(row.get(5))?,
        at: Timestamp(row.get(6)),
    })
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn subscriptions(&self) -> Result<Vec<Standing>, StoreError> {
        const OP: &str = "subscriptions";
        let client = self.client(OP).await?;
        let read = async {
            let statement = client.prepare_cached(STANDINGS).await?;
            client.query(&statement, &[]).await
        };
        let rows = read.await.map_err(|error| failed(OP, &error))?;
        let all: Option<Vec<_>> = rows.iter().map(standing).collect();
        all.ok_or_else(|| StoreError::new(Kind::Corrupt, OP))
    }

    async fn events(
        &self,
        key: i64,
        from: u64,
        until: u64,
        count: u16,
    ) -> Result<Vec<Event>, StoreError> {
        const OP: &str = "events";
        let client = self.client(OP).await?;
        let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (from, until, count) = (bound(from), bound(until), i64::from(count));
        let read = async {
            let statement = client.prepare_cached(EVENTS).await?;
            let params: [&(dyn ToSql + Sync); 4] = [&key, &from, &until, &count];
            client.query(&statement, &params).await
        };
        let rows = read.await.map_err(|error| failed(OP, &error))?;
        let all: Option<Vec<_>> = rows.iter().map(event).collect();
        all.ok_or_else(|| StoreError::new(Kind::Corrupt, OP))
    }

    async fn keep_progress(
        &self,
        key: i64,
        delivered: u64,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        const OP: &str = "keep progress";
        let client = self.client(OP).await?;
        let delivered = i64::try_from(delivered).unwrap_or(i64::MAX);
        let kept = client
            .execute(KEEP, &[&key, &delivered, &progress.to_text()])
            .await;
        kept.map_err(|error| failed(OP, &error))?;
        Ok(())
    }

    async fn forget_events(&self, key: i64, until: u64) -> Result<(), StoreError> {
        const OP: &str = "forget events";
        let client = self.client(OP).await?;
        let until = i64::try_from(until).unwrap_or(i64::MAX);
        let forget = async {
            client.execute(FORGET, &[&key, &until]).await?;
            client.execute(FORGET_SUBSCRIPTION, &[&key]).await
        };
        forget.await.map_err(|error| failed(OP, &error))?;
        Ok(())
    }

    fn most_pending(&self) -> u64 {
        self.watches.most_pending
    }

    fn noted(&self) -> watch::Receiver<u64> {
        self.noted.subscribe()
    }
}
