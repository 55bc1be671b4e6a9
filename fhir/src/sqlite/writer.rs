//! The writer: takes what waits, applies it in one transaction, commits once, answers everyone.
use super::failed;
use crate::store::{
    Applied, Decision, Delivery, MAX_APPLY, NewResource, ResourceType, StoreError, conflicts_of,
    conflicts_text, decide,
};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};
use types::Timestamp;

/// One call of `apply`.
pub struct Job {
    pub deliveries: Vec<Delivery>,
    pub now: Timestamp,
    pub reply: oneshot::Sender<Result<Vec<Applied>, StoreError>>,
}

const HEAD: &str = "SELECT seq, updated, observations, patients, devices FROM head";
const SET_HEAD: &str =
    "UPDATE head SET seq = ?1, updated = ?2, observations = ?3, patients = ?4, devices = ?5";
const SEEN: &str = "SELECT conflicts FROM parcel WHERE id = ?1";
const SEE: &str = "INSERT INTO parcel(id, conflicts) VALUES (?1, ?2)";
const KNOWN: &str = "SELECT version, body FROM resource WHERE type = ?1 AND id = ?2";
const FORGET: &str = "DELETE FROM resource WHERE type = ?1 AND id = ?2";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, patient, device, code, category, \
     effective) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const REMEMBER: &str =
    "INSERT INTO history(type, id, version, updated, body) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Works until every sender is gone.
pub fn run(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let jobs = gather(first, &mut queue);
        match commit(&mut connection, &jobs) {
            Ok(results) => {
                for (job, result) in jobs.into_iter().zip(results) {
                    let _ = job.reply.send(Ok(result));
                }
            }
            Err(error) => {
                for job in jobs {
                    let _ = job.reply.send(Err(failed("apply", &error)));
                }
            }
        }
    }
}

/// Everything that waits, up to [`MAX_APPLY`] resources: one fsync serves many callers.
fn gather(first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let size = |job: &Job| -> usize { job.deliveries.iter().map(|one| one.resources.len()).sum() };
    let mut sum = size(&first);
    let mut jobs = vec![first];
    while sum < MAX_APPLY
        && let Ok(job) = queue.try_recv()
    {
        sum += size(&job);
        jobs.push(job);
    }
    jobs
}

fn commit(connection: &mut Connection, jobs: &[Job]) -> rusqlite::Result<Vec<Vec<Applied>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut head = Head::load(&transaction)?;
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        head.updated = head.updated.max(job.now.0);
        let applied = job
            .deliveries
            .iter()
            .map(|delivery| head.deliver(&transaction, delivery))
            .collect::<rusqlite::Result<_>>()?;
        results.push(applied);
    }
    head.save(&transaction)?;
    transaction.commit()?;
    Ok(results)
}

/// Where the order of commits stands.
struct Head {
    seq: i64,
    updated: i64,
    counts: [i64; 3],
}

impl Head {
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

    fn deliver(
        &mut self,
        transaction: &Transaction<'_>,
        delivery: &Delivery,
    ) -> rusqlite::Result<Applied> {
        let id = delivery.parcel.as_bytes();
        let seen: Option<String> = transaction
            .prepare_cached(SEEN)?
            .query_row([id], |row| row.get(0))
            .optional()?;
        if let Some(conflicts) = seen {
            return Ok(Applied {
                written: 0,
                conflicts: conflicts_of(&conflicts),
            });
        }
        let mut applied = Applied {
            written: 0,
            conflicts: Vec::new(),
        };
        for (position, resource) in (0..).zip(&delivery.resources) {
            match self.put(transaction, resource)? {
                Decision::Write(_) => applied.written += 1,
                Decision::Same => {}
                Decision::Conflict => applied.conflicts.push(position),
            }
        }
        transaction
            .prepare_cached(SEE)?
            .execute(params![id, conflicts_text(&applied.conflicts)])?;
        Ok(applied)
    }

    fn put(
        &mut self,
        transaction: &Transaction<'_>,
        resource: &NewResource,
    ) -> rusqlite::Result<Decision> {
        let (kind, id) = (resource.kind().as_str(), resource.id().as_str());
        let known: Option<(u32, String)> = transaction
            .prepare_cached(KNOWN)?
            .query_row([kind, id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let known = known
            .as_ref()
            .map(|(version, body)| (*version, body.as_str()));
        let decision = decide(known, resource);
        let Decision::Write(version) = decision else {
            return Ok(decision);
        };
        if known.is_some() {
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
        ])?;
        if resource.kind().is_versioned() {
            transaction.prepare_cached(REMEMBER)?.execute(params![
                kind,
                id,
                version,
                self.updated,
                resource.json()
            ])?;
        }
        Ok(decision)
    }

    fn count(&mut self, kind: ResourceType) {
        if let Some(position) = ResourceType::ALL.iter().position(|known| *known == kind) {
            self.counts[position] += 1;
        }
    }
}
