//! What is kept of subscriptions, and the events that a transaction writes for them, in SQLite.
use super::{SqliteStore, writer::Job};
use crate::store::{FhirId, Planned, ResourceType, StoreError};
use crate::subscription::{
    Event, EventStore, MAX_SUBSCRIPTIONS, Noted, Noting, Progress, SUBSCRIPTION, Standing, Status,
    Watches, What,
};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;
use types::Timestamp;

/// Version 6 of the schema. `watching` counts how often what is watched changed, so that whoever writes reads it again
/// only then.
pub const STEP: &str = "
ALTER TABLE head ADD COLUMN watching INTEGER NOT NULL DEFAULT 0;
-- the id is gone where the Subscription was deleted and its events are not yet forgotten
CREATE TABLE subscription(key INTEGER PRIMARY KEY, id TEXT UNIQUE, version INTEGER NOT NULL, spec TEXT NOT NULL,
  status TEXT NOT NULL, watched INTEGER NOT NULL, fetched INTEGER NOT NULL, number INTEGER NOT NULL, delivered INTEGER NOT NULL,
  progress TEXT NOT NULL) STRICT;
CREATE TABLE event(key INTEGER NOT NULL, number INTEGER NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
  version INTEGER NOT NULL, seq INTEGER NOT NULL, what TEXT NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (key, number)) STRICT, WITHOUT ROWID;
";

const WATCHING: &str = "SELECT watching FROM head";
const CHANGED: &str = "UPDATE head SET watching = watching + 1";
const WATCHED: &str = "SELECT key, spec FROM subscription WHERE watched = 1";
const NUMBER: &str =
    "SELECT number, number - delivered, fetched FROM subscription WHERE key = ?1 AND watched = 1";
const SET_NUMBER: &str = "UPDATE subscription SET number = ?2, watched = ?3 WHERE key = ?1";
const WRITE: &str = "INSERT INTO event(key, number, type, id, version, seq, what, at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
/// What waited while nothing was watched is not sent afterwards: there is a gap behind it.
const REGISTER: &str = "INSERT INTO subscription(key, id, version, spec, status, watched, fetched, number, delivered, \
     progress) VALUES (?1, ?2, ?7, ?3, ?4, ?5, ?6, 0, 0, '{}') ON CONFLICT (id) DO UPDATE SET \
     version = excluded.version, spec = excluded.spec, status = excluded.status, watched = excluded.watched, fetched = excluded.fetched, progress = '{}', \
     delivered = CASE WHEN watched = 0 AND excluded.watched = 1 THEN number ELSE delivered END";
const LEAVE: &str = "UPDATE subscription SET id = NULL, status = 'off', watched = 0 WHERE id = ?1";
const KNOWN: &str =
    "SELECT count(*), count(*) FILTER (WHERE id = ?1) FROM subscription WHERE id IS NOT NULL";
const STANDINGS: &str = "SELECT key, id, spec, status, watched, number, delivered, progress, \
     (SELECT at FROM event e WHERE e.key = s.key AND e.number > s.delivered ORDER BY e.number LIMIT 1), \
     version FROM subscription s ORDER BY key";
const EVENTS: &str = "SELECT number, type, id, version, seq, what, at FROM event \
     WHERE key = ?1 AND number BETWEEN ?2 AND ?3 ORDER BY number LIMIT ?4";
const KEEP: &str =
    "UPDATE subscription SET delivered = max(delivered, ?2), progress = ?3 WHERE key = ?1";
const FORGET: &str = "DELETE FROM event WHERE key = ?1 AND number <= ?2";
const FORGET_SUBSCRIPTION: &str = "DELETE FROM subscription WHERE key = ?1 AND id IS NULL \
     AND NOT EXISTS (SELECT 1 FROM event WHERE key = ?1)";

/// What is watched, as it was read last.
pub struct Cache {
    seen: Option<(i64, Arc<Watches>)>,
    most_pending: u64,
}

impl Cache {
    /// Of a store in which so many events of a subscription may wait.
    pub const fn new(most_pending: u64) -> Self {
        Self {
            seen: None,
            most_pending,
        }
    }

    /// What is watched now.
    pub fn watches(&mut self, connection: &Connection) -> rusqlite::Result<Arc<Watches>> {
        let watching: i64 = connection
            .prepare_cached(WATCHING)?
            .query_row([], |row| row.get(0))?;
        if let Some((of, watches)) = &self.seen
            && *of == watching
        {
            return Ok(Arc::clone(watches));
        }
        let mut statement = connection.prepare_cached(WATCHED)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let specs: Vec<(i64, String)> = rows.collect::<rusqlite::Result<_>>()?;
        let watches = Watches::of(specs.iter().map(|(key, spec)| (*key, spec.as_str())));
        let watches = Arc::new(watches);
        self.seen = Some((watching, Arc::clone(&watches)));
        Ok(watches)
    }

    /// Writes the events that were noted, each with its number; whether a subscription is watched no longer, since too many
    /// wait.
    pub fn write(
        &self,
        connection: &Connection,
        noting: &mut Noting,
        at: i64,
    ) -> rusqlite::Result<(u64, bool)> {
        let (mut written, mut changed) = (0, false);
        let mut by_key: BTreeMap<i64, Vec<Noted>> = BTreeMap::new();
        for noted in noting.events.drain(..) {
            by_key.entry(noted.key).or_default().push(noted);
        }
        for (key, noted) in by_key {
            let found: Option<(i64, i64, bool)> = connection
                .prepare_cached(NUMBER)?
                .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            let Some((mut number, waiting, is_fetched)) = found else {
                continue;
            };
            let mut statement = connection.prepare_cached(WRITE)?;
            for one in &noted {
                number += 1;
                statement.execute(params![
                    key,
                    number,
                    one.kind.as_str(),
                    one.id.as_str(),
                    one.version,
                    one.seq,
                    one.what.as_str(),
                    at
                ])?;
            }
            let count = u64::try_from(noted.len()).unwrap_or(u64::MAX);
            let waiting = u64::try_from(waiting).unwrap_or(0).saturating_add(count);
            let goes_on = is_fetched || waiting <= self.most_pending;
            let set = params![key, number, goes_on];
            connection.prepare_cached(SET_NUMBER)?.execute(set)?;
            changed |= !goes_on;
            written += count;
        }
        if changed {
            connection.prepare_cached(CHANGED)?.execute([])?;
        }
        Ok((written, changed))
    }

    /// After a transaction that was not committed.
    pub fn clear(&mut self) {
        self.seen = None;
    }
}

/// Whether there is no room for another subscription of that id.
pub fn is_full(connection: &Connection, rows: &[Planned<'_>]) -> rusqlite::Result<bool> {
    let mut more = 0;
    let mut all = 0;
    for row in rows.iter().filter(|row| row.kind.as_str() == SUBSCRIPTION) {
        let known: i64;
        (all, known) = connection
            .prepare_cached(KNOWN)?
            .query_row([row.id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let is_new = row.draft.is_some_and(|draft| draft.watching().is_some());
        more += usize::from(is_new && known == 0);
    }
    Ok(more > 0 && usize::try_from(all).unwrap_or(usize::MAX) + more > MAX_SUBSCRIPTIONS)
}

/// Keeps what Subscriptions of a transaction ask for; whether there were any.
pub fn register(connection: &Connection, rows: &[Planned<'_>]) -> rusqlite::Result<bool> {
    let mut changed = false;
    for row in rows.iter().filter(|row| row.kind.as_str() == SUBSCRIPTION) {
        let id = row.id.as_str();
        match row.draft.map(|draft| draft.watching()) {
            None => {
                connection.prepare_cached(LEAVE)?.execute([id])?;
            }
            Some(None) => continue,
            Some(Some(watching)) => {
                connection.prepare_cached(REGISTER)?.execute(params![
                    row.seq,
                    id,
                    watching.spec,
                    watching.status.as_str(),
                    watching.watched,
                    watching.is_fetched,
                    row.version,
                ])?;
            }
        }
        changed = true;
    }
    if changed {
        connection.prepare_cached(CHANGED)?.execute([])?;
    }
    Ok(changed)
}

/// Where every subscription stands.
pub fn standings(connection: &Connection) -> rusqlite::Result<Vec<Standing>> {
    let mut statement = connection.prepare_cached(STANDINGS)?;
    let rows = statement.query_map([], standing)?;
    rows.collect()
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    let corrupt = |column| rusqlite::Error::IntegralValueOutOfRange(column, 0);
    let (id, status): (Option<String>, String) = (row.get(1)?, row.get(3)?);
    let progress: String = row.get(7)?;
    Ok(Standing {
        key: row.get(0)?,
        id: id
            .map(|id| id.parse().map_err(|_| corrupt(1)))
            .transpose()?,
        spec: row.get(2)?,
        status: Status::parse(&status).ok_or_else(|| corrupt(3))?,
        watched: row.get(4)?,
        number: number(row, 5)?,
        delivered: number(row, 6)?,
        progress: Progress::of_text(&progress),
        waits_since: row.get::<_, Option<i64>>(8)?.map(Timestamp),
        version: row.get(9)?,
    })
}

/// Some events of a subscription.
pub fn events(
    connection: &Connection,
    (key, from, until, count): (i64, u64, u64, u16),
) -> rusqlite::Result<Vec<Event>> {
    let corrupt = |column| rusqlite::Error::IntegralValueOutOfRange(column, 0);
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(EVENTS)?;
    let rows = statement.query_map(params![key, bound(from), bound(until), count], |row| {
        let (kind, id, what): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(5)?);
        Ok(Event {
            number: number(row, 0)?,
            kind: ResourceType::parse(&kind).ok_or_else(|| corrupt(1))?,
            id: id.parse::<FhirId>().map_err(|_| corrupt(2))?,
            version: row.get(3)?,
            seq: row.get(4)?,
            what: What::parse(&what).ok_or_else(|| corrupt(5))?,
            at: Timestamp(row.get(6)?),
        })
    })?;
    rows.collect()
}

/// Keeps how a delivery goes.
pub fn keep(
    connection: &Connection,
    (key, delivered, progress): (i64, u64, &str),
) -> rusqlite::Result<()> {
    let delivered = i64::try_from(delivered).unwrap_or(i64::MAX);
    let values = params![key, delivered, progress];
    connection.prepare_cached(KEEP)?.execute(values)?;
    Ok(())
}

/// Forgets events up to a number, and a subscription that was deleted and has none.
pub fn forget(connection: &Connection, (key, until): (i64, u64)) -> rusqlite::Result<()> {
    let until = i64::try_from(until).unwrap_or(i64::MAX);
    connection.prepare_cached(FORGET)?.execute([key, until])?;
    connection
        .prepare_cached(FORGET_SUBSCRIPTION)?
        .execute([key])?;
    Ok(())
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn subscriptions(&self) -> Result<Vec<Standing>, StoreError> {
        self.reading("subscriptions", standings).await
    }

    async fn events(
        &self,
        key: i64,
        from: u64,
        until: u64,
        count: u16,
    ) -> Result<Vec<Event>, StoreError> {
        let asked = (key, from, until, count);
        self.reading("events", move |reader| events(reader, asked))
            .await
    }

    async fn keep_progress(
        &self,
        key: i64,
        delivered: u64,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        let progress = progress.to_text();
        self.writing(|reply| Job::KeepProgress {
            place: (key, delivered),
            progress,
            reply,
        })
        .await
    }

    async fn forget_events(&self, key: i64, until: u64) -> Result<(), StoreError> {
        let place = (key, until);
        self.writing(|reply| Job::Forget { place, reply }).await
    }

    fn most_pending(&self) -> u64 {
        self.most_pending
    }

    fn noted(&self) -> watch::Receiver<u64> {
        self.noted.subscribe()
    }
}
