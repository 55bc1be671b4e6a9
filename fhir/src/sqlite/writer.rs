//! The writer: takes what waits, applies it in one transaction, commits once, answers everyone.
use super::{
    audit, events, general,
    owners::{Foreign, of_clients, refers_to_foreign},
    projection::{self, Projection},
    rules,
};
use crate::audit::{OwnEvents, PLACE};
use crate::store::rules::Chunk;
use crate::store::{
    self, Applied, Decision, Delivery, Known, MAX_APPLY, NewResource, ResourceType, Source,
    StoreError, Transacted, conflicts_of, conflicts_text, decide, row_of_source, rows_of,
};
use crate::subscription::Noting;
use rusqlite::{
    Connection, OptionalExtension, Savepoint, Transaction, TransactionBehavior, params,
};
use std::collections::HashSet;
use storage::sqlite::{Reopening, in_doubt};
use tokio::sync::{mpsc, oneshot, watch};
use types::Timestamp;

/// Where the answer of a job goes.
pub type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// One call that writes.
pub enum Job {
    /// Of `apply`.
    Apply {
        deliveries: Vec<Delivery>,
        now: Timestamp,
        reply: Reply<Vec<Applied>>,
    },
    /// Of `transact`.
    Transact {
        transaction: store::Transaction,
        reply: Reply<Transacted>,
    },
    /// Of `project`.
    Project {
        projection: Projection,
        reply: Reply<()>,
    },
    /// Of `keep_audit`.
    KeepAudit { audit: OwnEvents, reply: Reply<()> },
    /// Of `keep_marks`.
    KeepMarks {
        reader: String,
        marks: String,
        reply: Reply<()>,
    },
    /// Of `keep_progress`: key and number.
    KeepProgress {
        place: (i64, u64),
        progress: String,
        reply: Reply<()>,
    },
    /// Of `reindex`.
    Reindex { chunk: Chunk, reply: Reply<()> },
    /// Of `forget_events`: key and number.
    Forget { place: (i64, u64), reply: Reply<()> },
}

impl Job {
    /// How many resources it writes.
    fn size(&self) -> usize {
        match self {
            Self::Apply { deliveries, .. } => {
                deliveries.iter().map(|one| one.resources.len()).sum()
            }
            Self::Transact { transaction, .. } => transaction.changes.len(),
            Self::Project { projection, .. } => projection.steps.len(),
            Self::KeepAudit { audit, .. } => audit.events.len(),
            Self::Reindex { chunk, .. } => chunk.resources.len(),
            Self::KeepMarks { .. } | Self::KeepProgress { .. } | Self::Forget { .. } => 1,
        }
    }

    fn answer(self, done: Done) {
        match (self, done) {
            (Self::Apply { reply, .. }, Done::Applied(applied)) => drop(reply.send(Ok(applied))),
            (Self::Transact { reply, .. }, Done::Transacted(done)) => drop(reply.send(Ok(done))),
            (
                Self::KeepMarks { reply, .. }
                | Self::KeepAudit { reply, .. }
                | Self::KeepProgress { reply, .. }
                | Self::Forget { reply, .. }
                | Self::Reindex { reply, .. }
                | Self::Project { reply, .. },
                Done::Kept,
            ) => drop(reply.send(Ok(()))),
            // An answer of another job is none: who waits learns that the writer failed.
            _ => {}
        }
    }

    fn fail(self, error: &rusqlite::Error) {
        match self {
            Self::Apply { reply, .. } => drop(reply.send(Err(StoreError::coded("apply", error)))),
            Self::Transact { reply, .. } => {
                drop(reply.send(Err(StoreError::coded("transact", error))))
            }
            Self::Project { reply, .. } => {
                drop(reply.send(Err(StoreError::coded("project", error))))
            }
            Self::Reindex { reply, .. } => {
                drop(reply.send(Err(StoreError::coded("reindex", error))));
            }
            Self::KeepMarks { reply, .. } => {
                drop(reply.send(Err(StoreError::coded("keep marks", error))))
            }
            Self::KeepAudit { reply, .. } => {
                drop(reply.send(Err(StoreError::coded("keep audit", error))));
            }
            Self::KeepProgress { reply, .. } | Self::Forget { reply, .. } => {
                drop(reply.send(Err(StoreError::coded("keep events", error))));
            }
        }
    }
}

/// What became of a job.
enum Done {
    Applied(Vec<Applied>),
    Transacted(Transacted),
    Kept,
}

const HEAD: &str = "SELECT seq, updated, observations, patients, devices FROM head";
const SET_HEAD: &str =
    "UPDATE head SET seq = ?1, updated = ?2, observations = ?3, patients = ?4, devices = ?5";
const SEEN: &str = "SELECT conflicts FROM parcel WHERE id = ?1";
const SEE: &str = "INSERT INTO parcel(id, conflicts) VALUES (?1, ?2)";
/// What a client wrote is no facility's: it has an owner that no source is.
const KNOWN: &str = "SELECT version, body, CASE WHEN author IS NULL THEN source ELSE '' END FROM resource \
     WHERE type = ?1 AND id = ?2";
const ADOPT: &str = "UPDATE resource SET source = ?3 WHERE type = ?1 AND id = ?2";
const OFFER: &str = "INSERT INTO facility(place, pseudonym) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const PSEUDONYM: &str = "SELECT pseudonym FROM facility WHERE place = ?1";
const FORGET: &str = "DELETE FROM resource WHERE type = ?1 AND id = ?2";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, patient, device, code, category, \
     effective, source) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
const REMEMBER: &str =
    "INSERT INTO history(type, id, version, updated, body, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const KEEP_MARKS: &str = "INSERT INTO reader(name, marks) VALUES (?1, ?2) \
     ON CONFLICT (name) DO UPDATE SET marks = excluded.marks";

/// The first version of what usually has one: it is among the past ones from now on.
const DEMOTE: &str = "INSERT OR IGNORE INTO history(type, id, version, updated, body, seq) \
     SELECT type, id, version, updated, body, seq FROM resource WHERE type = ?1 AND id = ?2";

/// Works until every sender is gone.
pub fn run(
    file: &Reopening,
    mut queue: mpsc::Receiver<Job>,
    (noted, most_pending): (&watch::Sender<u64>, u64),
) {
    let mut cache = events::Cache::new(most_pending);
    while let Some(first) = queue.blocking_recv() {
        let jobs = gather(first, &mut queue);
        match file.step(|connection| commit(connection, &jobs, &mut cache), in_doubt) {
            Ok((results, events)) => {
                if events > 0 {
                    noted.send_modify(|all| *all = all.wrapping_add(events));
                }
                for (job, result) in jobs.into_iter().zip(results) {
                    job.answer(result);
                }
            }
            Err(error) => {
                cache.clear();
                for job in jobs {
                    job.fail(&error);
                }
            }
        }
    }
}

/// Everything that waits, up to [`MAX_APPLY`] resources: one fsync serves many callers.
fn gather(first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut sum = first.size();
    let mut jobs = vec![first];
    while sum < MAX_APPLY
        && let Ok(job) = queue.try_recv()
    {
        sum += job.size();
        jobs.push(job);
    }
    jobs
}

/// What became of each job, and how many events were written.
fn commit(
    connection: &mut Connection,
    jobs: &[Job],
    cache: &mut events::Cache,
) -> rusqlite::Result<(Vec<Done>, u64)> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut head = Head::load(&transaction)?;
    let mut noting = Noting::new(cache.watches(&transaction)?);
    let mut noted = 0;
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        let mut changed = false;
        results.push(match job {
            Job::Apply {
                deliveries, now, ..
            } => {
                head.updated = head.updated.max(now.0);
                let applied = deliveries
                    .iter()
                    .map(|delivery| head.deliver(&mut transaction, delivery, &mut noting))
                    .collect::<rusqlite::Result<_>>()?;
                Done::Applied(applied)
            }
            Job::Transact {
                transaction: asked, ..
            } => {
                head.updated = head.updated.max(asked.now.0);
                let place = (head.seq, head.updated);
                let done = general::transact(&transaction, asked, place, &mut noting)?;
                (head.seq, changed) = (done.last, done.watching);
                head.add(done.added);
                Done::Transacted(done.transacted)
            }
            Job::Project { projection, .. } => {
                head.updated = head.updated.max(projection.now.0);
                projection::project(&transaction, projection, &mut head)?;
                keep_marks(&transaction, projection::PLACE, &projection.place)?;
                Done::Kept
            }
            Job::KeepAudit { audit, .. } => {
                head.updated = head.updated.max(audit.now);
                head.seq = audit::keep(&transaction, audit, (head.seq, head.updated))?;
                keep_marks(&transaction, PLACE, &audit.place)?;
                Done::Kept
            }
            Job::KeepMarks { .. }
            | Job::KeepProgress { .. }
            | Job::Forget { .. }
            | Job::Reindex { .. } => {
                beside(&transaction, job)?;
                Done::Kept
            }
        });
        if !noting.events.is_empty() {
            let (written, ended) = cache.write(&transaction, &mut noting, head.updated)?;
            noted += written;
            changed |= ended;
        }
        if changed {
            noting.watches = cache.watches(&transaction)?;
        }
    }
    head.save(&transaction)?;
    transaction.commit()?;
    Ok((results, noted))
}

/// What writes no resource.
fn beside(transaction: &Connection, job: &Job) -> rusqlite::Result<()> {
    match job {
        Job::KeepMarks { reader, marks, .. } => {
            keep_marks(transaction, reader, marks)?;
        }
        Job::KeepProgress {
            place: (key, delivered),
            progress,
            ..
        } => {
            events::keep(transaction, (*key, *delivered, progress))?;
        }
        Job::Forget { place, .. } => {
            events::forget(transaction, *place)?;
        }
        Job::Reindex { chunk, .. } => rules::go_on(transaction, chunk)?,
        Job::Apply { .. } | Job::Transact { .. } | Job::Project { .. } | Job::KeepAudit { .. } => {}
    }
    Ok(())
}

fn keep_marks(transaction: &Connection, reader: &str, marks: &str) -> rusqlite::Result<usize> {
    let mut keep = transaction.prepare_cached(KEEP_MARKS)?;
    keep.execute([reader, marks])
}

/// The pseudonym of a source: the one that it has, or the one that is offered now.
fn pseudonym(transaction: &Connection, source: &Source) -> rusqlite::Result<String> {
    let known = transaction
        .prepare_cached(PSEUDONYM)?
        .query_row([&source.place], |row| row.get(0))
        .optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    let fresh = source.fresh.to_string();
    transaction
        .prepare_cached(OFFER)?
        .execute([&source.place, &fresh])?;
    Ok(fresh)
}

/// Where the order of commits stands.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) seq: i64,
    pub(super) updated: i64,
    pub(super) counts: [i64; 3],
}

impl Head {
    /// So many more of each type that facilities deliver.
    fn add(&mut self, added: [i64; 3]) {
        for (count, by) in self.counts.iter_mut().zip(added) {
            *count += by;
        }
    }

    fn load(transaction: &Transaction<'_>) -> rusqlite::Result<Self> {
        transaction.prepare_cached(HEAD)?.query_row([], |row| {
            Ok(Self {
                seq: row.get(0)?,
                updated: row.get(1)?,
                counts: [row.get(2)?, row.get(3)?, row.get(4)?],
            })
        })
    }

    fn save(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let [observations, patients, devices] = self.counts;
        transaction.prepare_cached(SET_HEAD)?.execute(params![
            self.seq,
            self.updated,
            observations,
            patients,
            devices
        ])?;
        Ok(())
    }

    /// Applies a delivery; or nothing of it where it writes or refers to what is another source's.
    fn deliver(
        &mut self,
        transaction: &mut Transaction<'_>,
        delivery: &Delivery,
        noting: &mut Noting,
    ) -> rusqlite::Result<Applied> {
        let (before, noted) = (*self, noting.events.len());
        let savepoint = transaction.savepoint()?;
        let applied = self.put_all(&savepoint, delivery, noting)?;
        if applied.foreign.is_empty() {
            savepoint.commit()?;
        } else {
            // Dropped, it rolls back.
            savepoint.finish()?;
            noting.events.truncate(noted);
            *self = before;
        }
        Ok(applied)
    }

    fn put_all(
        &mut self,
        transaction: &Savepoint<'_>,
        delivery: &Delivery,
        noting: &mut Noting,
    ) -> rusqlite::Result<Applied> {
        let id = delivery.parcel.as_bytes();
        let seen: Option<String> = transaction
            .prepare_cached(SEEN)?
            .query_row([id], |row| row.get(0))
            .optional()?;
        if let Some(conflicts) = seen {
            return Ok(Applied {
                conflicts: conflicts_of(&conflicts),
                ..Applied::default()
            });
        }
        let source = pseudonym(transaction, &delivery.source)?;
        let of_clients = of_clients(transaction, delivery)?;
        let owners = (source.as_str(), &of_clients);
        let (mut applied, mut foreign) = (Applied::default(), Foreign::new());
        for (position, resource) in (0..).zip(&delivery.resources) {
            if refers_to_foreign(transaction, resource, owners, &mut foreign)? {
                applied.foreign.push(position);
                continue;
            }
            match self.put(transaction, resource, owners)? {
                Decision::Write(version) => {
                    noting.deliver(resource, &source, (version, self.seq));
                    applied.written += 1;
                }
                Decision::Same | Decision::Adopt => {}
                Decision::Conflict => applied.conflicts.push(position),
                Decision::Foreign => applied.foreign.push(position),
            }
        }
        if !applied.foreign.is_empty() {
            return Ok(Applied {
                foreign: applied.foreign,
                ..Applied::default()
            });
        }
        transaction
            .prepare_cached(SEE)?
            .execute(params![id, conflicts_text(&applied.conflicts)])?;
        Ok(applied)
    }

    fn put(
        &mut self,
        transaction: &Connection,
        resource: &NewResource,
        (source, of_clients): (&str, &HashSet<(ResourceType, String)>),
    ) -> rusqlite::Result<Decision> {
        let (kind, id) = (resource.kind().as_str(), resource.id().as_str());
        let known: Option<Known> = transaction
            .prepare_cached(KNOWN)?
            .query_row([kind, id], |row| {
                Ok(Known {
                    version: row.get(0)?,
                    json: row.get(1)?,
                    source: row.get(2)?,
                })
            })
            .optional()?;
        if known.is_none() && of_clients.contains(&(resource.kind(), id.to_owned())) {
            return Ok(Decision::Foreign);
        }
        let decision = decide(known.as_ref(), resource, source);
        if decision == Decision::Adopt {
            transaction
                .prepare_cached(ADOPT)?
                .execute([kind, id, source])?;
            if resource.kind().is_indexed() {
                general::index(transaction, kind, id, &[row_of_source(source)])?;
            }
        }
        let Decision::Write(version) = decision else {
            return Ok(decision);
        };
        if known.is_some() {
            if !resource.kind().is_versioned() {
                transaction.prepare_cached(DEMOTE)?.execute([kind, id])?;
            }
            transaction.prepare_cached(FORGET)?.execute([kind, id])?;
        } else {
            self.count(resource.kind());
        }
        self.seq += 1;
        let index = resource.index();
        transaction.prepare_cached(WRITE)?.execute(params![
            self.seq,
            kind,
            id,
            version,
            self.updated,
            resource.json(),
            index.patient.as_ref().map(|id| id.as_str()),
            index.device.as_ref().map(|id| id.as_str()),
            index.code.map(|code| code.to_string()),
            index.category.map(|category| category.as_str()),
            index.effective.map(|time| time.0),
            source,
        ])?;
        if resource.kind().is_indexed() {
            if known.is_some() {
                general::forget(transaction, kind, id)?;
            }
            let rows = rows_of(resource.json(), Some(source));
            general::index(transaction, kind, id, &rows)?;
        }
        if resource.kind().is_versioned() {
            transaction.prepare_cached(REMEMBER)?.execute(params![
                kind,
                id,
                version,
                self.updated,
                resource.json(),
                self.seq
            ])?;
        }
        Ok(decision)
    }

    fn count(&mut self, kind: ResourceType) {
        if let Some(count) = kind.of_mut(&mut self.counts) {
            *count += 1;
        }
    }
}
