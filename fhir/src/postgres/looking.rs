//! Reads by id that wait together are one statement: with many readers each of them costs the engine, and the way to it, a
//! small part of what a statement costs. Who reads alone waits for nobody.
//!
//! A statement is begun after each of its reads was asked for, so each sees whatever was committed before that.
use super::{broke, settled, stored, writer::Trouble};
use crate::store::{FhirId, Kind, ResourceType, StoreError, Stored};
use deadpool_postgres::Pool;
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::oneshot;
use tokio_postgres::{Row, types::ToSql};

/// Statements under way at once. What is asked for meanwhile is gathered for the next one.
const STATEMENTS: usize = 2;
/// Reads of one statement: the last answer is given when all are there.
const MAX_TOGETHER: usize = 64;
/// Reads that wait for a statement; one more is refused.
const MAX_WAITING: usize = 4_096;

/// One row, with the last place in the order of commits behind what is there.
const ONE: &str = "SELECT r.type, r.id, r.version, r.updated, r.body, r.source, r.seq, h.seq FROM head h \
     LEFT JOIN resource r ON r.type = $1 AND r.id = $2";
/// A row for each, in any order, with its position at the end. Each is looked up by itself, however many the engine takes
/// the table to have: by LIMIT it cannot join them otherwise. A text above 64 KiB is left out, and read by itself afterwards,
/// so that no more than 4 MiB of them are held here at once.
const MANY: &str = "SELECT r.type, r.id, r.version, r.updated, r.body, r.source, r.seq, h.seq, k.at FROM head h \
     CROSS JOIN unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(type, id, at) \
     LEFT JOIN LATERAL (SELECT type, id, version, updated, \
     CASE WHEN octet_length(body) <= 65536 THEN body END AS body, source, seq FROM resource \
     WHERE type = k.type AND id = k.id LIMIT 1) r ON true";

/// What is there, if anything is, and the last place in the order of commits at that moment.
type Looked = Result<(Option<Stored>, i64), StoreError>;

/// A read, and where its answer goes.
struct Job {
    kind: ResourceType,
    id: FhirId,
    reply: oneshot::Sender<Looked>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Tasks that take them.
    at_work: usize,
}

/// See the head of this file.
pub struct Looks {
    pool: Pool,
    waiting: Mutex<Waiting>,
}

impl Looks {
    /// Over the connections of a pool.
    pub fn over(pool: Pool) -> Arc<Self> {
        Arc::new(Self {
            pool,
            waiting: Mutex::default(),
        })
    }

    /// See [`crate::store::ResourceStore::look`].
    pub async fn look(self: &Arc<Self>, kind: ResourceType, id: &FhirId) -> Looked {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            kind,
            id: id.clone(),
            reply,
        };
        if let Some(work) = self.begin(job)? {
            tokio::spawn(work.run());
        }
        let broke = |_| StoreError::new(Kind::Internal, "read: a statement broke off");
        answer.await.map_err(broke)?
    }

    /// Has a read wait, and another one at work for it where there is room.
    fn begin(self: &Arc<Self>, job: Job) -> Result<Option<Work>, StoreError> {
        let mut waiting = self.waiting.lock();
        if waiting.jobs.len() >= MAX_WAITING {
            return Err(StoreError::new(Kind::Unavailable, "read: too many wait"));
        }
        waiting.jobs.push_back(job);
        if waiting.at_work >= STATEMENTS {
            return Ok(None);
        }
        waiting.at_work += 1;
        Ok(Some(Work {
            looks: Arc::clone(self),
            is_counted: true,
        }))
    }

    async fn ask(&self, jobs: Vec<Job>) {
        // Once more where the connection broke: nothing was done.
        let rows = match self.rows(&jobs).await {
            Err(Trouble::Engine(error)) if broke(&error) => {
                settled().await;
                self.rows(&jobs).await
            }
            rows => rows,
        };
        match rows {
            Ok(rows) => {
                let mut jobs: Vec<Option<Job>> = jobs.into_iter().map(Some).collect();
                let mut long = Vec::new();
                for row in rows {
                    let at = match row.len() {
                        8 => Some(0),
                        _ => usize::try_from(row.get::<_, i64>(8) - 1).ok(),
                    };
                    match at.and_then(|at| jobs.get_mut(at)?.take()) {
                        Some(job) if is_left_out(&row) => long.push(job),
                        Some(job) => drop(job.reply.send(looked(&row))),
                        None => {}
                    }
                }
                for job in long {
                    self.ask_alone(job).await;
                }
            }
            Err(trouble) => {
                for job in jobs {
                    drop(job.reply.send(Err(trouble.told("read"))));
                }
            }
        }
    }

    /// One whose text was left out among others.
    async fn ask_alone(&self, job: Job) {
        let rows = self.rows(std::slice::from_ref(&job)).await;
        let missing = || Err(StoreError::new(Kind::Internal, "read"));
        let found = match rows {
            Ok(rows) => rows.first().map_or_else(missing, looked),
            Err(trouble) => Err(trouble.told("read")),
        };
        drop(job.reply.send(found));
    }

    async fn rows(&self, jobs: &[Job]) -> Result<Vec<Row>, Trouble> {
        let client = self.pool.get().await.map_err(Trouble::Connection)?;
        let types: Vec<&str> = jobs.iter().map(|job| job.kind.as_str()).collect();
        let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        let read = async {
            if let ([kind], [id]) = (types.as_slice(), ids.as_slice()) {
                let statement = client.prepare_cached(ONE).await?;
                let params: [&(dyn ToSql + Sync); 2] = [kind, id];
                return client.query(&statement, &params).await;
            }
            let statement = client.prepare_cached(MANY).await?;
            let params: [&(dyn ToSql + Sync); 2] = [&types, &ids];
            client.query(&statement, &params).await
        };
        read.await.map_err(Trouble::Engine)
    }
}

/// Whether there is a resource without its text.
fn is_left_out(row: &Row) -> bool {
    let is_there = |at: usize| row.get::<_, Option<&str>>(at).is_some();
    is_there(0) && !is_there(4)
}

fn looked(row: &Row) -> Looked {
    let head = row.get(7);
    if row.get::<_, Option<&str>>(0).is_none() {
        return Ok((None, head));
    }
    let found = stored(row).ok_or_else(|| StoreError::new(Kind::Corrupt, "read"))?;
    Ok((Some(found), head))
}

/// One at work, counted as such until it finds nothing that waits.
struct Work {
    looks: Arc<Looks>,
    is_counted: bool,
}

impl Work {
    /// Works until nothing waits.
    async fn run(mut self) {
        while let Some(jobs) = self.next() {
            self.looks.ask(jobs).await;
        }
    }

    fn next(&mut self) -> Option<Vec<Job>> {
        let mut waiting = self.looks.waiting.lock();
        let count = waiting.jobs.len().min(MAX_TOGETHER);
        if count == 0 {
            // Under the same lock: who asks next begins another one.
            waiting.at_work -= 1;
            self.is_counted = false;
            return None;
        }
        Some(waiting.jobs.drain(..count).collect())
    }
}

/// One that broke off leaves nobody waiting for it.
impl Drop for Work {
    fn drop(&mut self) {
        if self.is_counted {
            let mut waiting = self.looks.waiting.lock();
            waiting.at_work -= 1;
            waiting.jobs.clear();
        }
    }
}
