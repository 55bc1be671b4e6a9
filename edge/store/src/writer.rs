//! The writer thread: takes what waits, commits it with one fsync, answers everybody.
use super::{
    Condition, Status, StoreError, StoreErrorKind, StoreOptions,
    apply::{Apply, Ground},
    bounds::Bounds,
    directory::Directory,
    entering,
    forgotten::Forgotten,
    handlers::Handlers,
    job::{self, BATCH, Job, Outcome},
    meta,
    parcels::Parcels,
    resync,
    retention::Cursor,
    runs::Runs,
    schema,
    steps::Kept,
    tally::Tally,
    transit::Departed,
    unshipped,
};
use crate::clockguard::Time;
use federation::profile::{Profile, SignedProfile};
use ingest::Urgency;
use node::quantity::Span;
use rusqlite::{Connection, TransactionBehavior};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use tokio::sync::mpsc;
use types::Timestamp;

/// Jobs that wait: several commits' worth, so that the next one is full while the last one is at the disk.
pub(super) const QUEUE: usize = 8_192;
/// Pages of the log at which it is written into the database: 16 MiB.
pub const LOG_PAGES: i64 = 4_096;

/// A commit that stands.
struct Committed {
    outcomes: Vec<Outcome>,
    tally: Tally,
    departed: Vec<Departed>,
    /// The kinds of what was taken in, and whether the store is to meet the region again.
    touched: Vec<String>,
    meet_again: bool,
}

/// The writer: the only one who changes the database.
pub(super) struct Writer {
    file: schema::File,
    /// None after a failure that leaves the connection in doubt.
    connection: Option<Connection>,
    directory: Directory,
    forgotten: Forgotten,
    runs: Runs,
    parcels: Parcels,
    handlers: Handlers,
    bounds: Bounds,
    retention: Span,
    profile: Option<SignedProfile>,
    cursor: Cursor,
    /// Bytes by which the log is longer than [`LOG_PAGES`]: a reader that stays holds it.
    log_bytes: u64,
    time: Arc<dyn Time>,
    entropy: super::Entropy,
    status: Arc<Status>,
    condition: Condition,
    /// Whether the copies in memory may hold what a failed commit did not write.
    stale: bool,
}

impl Writer {
    pub(super) fn open(
        file: schema::File,
        options: StoreOptions,
        status: Arc<Status>,
    ) -> Result<Self, StoreError> {
        let mut connection = file.open_writer()?;
        let mut directory = Directory::new(options.devices, options.entropy);
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = options.time.now().mesh;
        directory.place(&tx, now)?;
        let runs = Runs::load(&tx)?;
        entering::import(&tx, &mut directory, &runs, &options.beds, now)?;
        let boot = meta::get(&tx, meta::BOOT)?.unwrap_or(0) + 1;
        meta::set(&tx, meta::BOOT, boot)?;
        tx.commit()?;
        let boot = u32::try_from(boot).unwrap_or(u32::MAX);
        status.boot.store(boot, Ordering::Relaxed);
        status.beds.fetch_add(1, Ordering::Relaxed);
        let unshipped = unshipped::any(&connection)?;
        status.unshipped.store(unshipped, Ordering::Relaxed);
        let places = (options.place, options.region);
        let parcels = Parcels::new(options.rules, options.signer, places, options.entropy);
        Ok(Self {
            forgotten: Forgotten::load(&connection)?,
            runs,
            file,
            connection: Some(connection),
            directory,
            parcels,
            handlers: options.handlers,
            bounds: options.bounds,
            retention: options.retention,
            profile: options.profile,
            cursor: Cursor::default(),
            log_bytes: 0,
            time: options.time,
            entropy: options.entropy,
            status,
            condition: Condition::Good,
            stale: false,
        })
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(job) = queue.blocking_recv() {
            let closing = job::fill(&mut batch, job, &mut queue);
            self.commit(&mut batch);
            self.tidy();
            if let Some(closed) = closing {
                let error =
                    StoreError::new(StoreErrorKind::Unavailable, "write: the store is closed");
                queue.close();
                while let Ok(job) = queue.try_recv() {
                    job.refuse(&error);
                }
                if let Some(connection) = self.connection.take()
                    && let Err(error) = schema::checkpoint(&connection, "TRUNCATE")
                {
                    tracing::warn!(%error, "the log stays beside the database");
                }
                let _nobody = closed.send(());
                return;
            }
        }
    }

    /// Commits a batch and answers everybody; or refuses everybody.
    fn commit(&mut self, batch: &mut Vec<Job>) {
        if batch.is_empty() {
            return;
        }
        let (began, jobs) = (Instant::now(), batch.len());
        match self.try_commit(batch) {
            Ok(Committed {
                outcomes,
                tally,
                departed,
                touched,
                meet_again,
            }) => {
                let mut transit = self.status.transit.lock();
                departed
                    .into_iter()
                    .for_each(|parcel| transit.depart(parcel));
                drop(transit);
                let full = !self.bounds.admits(Urgency::Routine, tally.used);
                self.set(if full {
                    Condition::Full
                } else {
                    Condition::Good
                });
                for (job, outcome) in batch.drain(..).zip(outcomes) {
                    match &outcome {
                        Outcome::Late(late) => {
                            self.status.unshipped.store(late.left, Ordering::Relaxed);
                        }
                        // A new stream may have begun: what the region lacks is shipped again.
                        Outcome::Said(Some(hello)) if !resync::is_introduction(hello) => {
                            self.status.unshipped.store(true, Ordering::Relaxed);
                            self.status.resynced.store(true, Ordering::Relaxed);
                        }
                        _ => {}
                    }
                    if let Outcome::Entered(_) = outcome {
                        self.status.beds.fetch_add(1, Ordering::Relaxed);
                        self.status.unshipped.store(true, Ordering::Relaxed);
                    }
                    job.tell(outcome);
                }
                if tally.uncleared > 0 || tally.left {
                    self.status.unshipped.store(true, Ordering::Relaxed);
                }
                if tally.parcels > 0 {
                    self.status.added.notify_one();
                }
                if meet_again {
                    self.status.meet_again.notify_one();
                }
                let handlers = touched.iter().filter_map(|kind| self.handlers.of(kind));
                handlers.for_each(|handler| handler.committed());
                tally.count(jobs, began.elapsed());
            }
            Err(error) => {
                self.fail(&error);
                for job in batch.drain(..) {
                    job.refuse(&error);
                }
            }
        }
    }

    fn try_commit(&mut self, batch: &[Job]) -> Result<Committed, StoreError> {
        self.reopen()?;
        let Some(connection) = &mut self.connection else {
            return Err(StoreError::new(
                StoreErrorKind::Internal,
                "open the database",
            ));
        };
        let now = self.time.now();
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut apply = Apply::begin(Ground {
            tx: &tx,
            directory: &mut self.directory,
            forgotten: &mut self.forgotten,
            runs: &mut self.runs,
            parcels: &mut self.parcels,
            bounds: self.bounds,
            now,
            link_up: self.status.link_up.load(Ordering::Relaxed),
            unshipped: self.status.unshipped.load(Ordering::Relaxed),
            log_bytes: self.log_bytes,
            // Once a signed profile has expired nothing goes out, under it or under another one.
            profile: match &self.profile {
                None => Some(Profile::Shifted),
                Some(signed) => signed.at(now.real).ok(),
            },
            entropy: self.entropy,
        })?;
        let cutoff = now.mesh.plus_ms(-self.retention.as_ms());
        let mut outcomes = Vec::with_capacity(batch.len());
        for job in batch {
            let by = (&self.handlers, &mut self.cursor, cutoff);
            outcomes.push(one(&mut apply, job, by)?);
        }
        apply.ship_what_waits()?;
        let done = apply.finish()?;
        self.parcels.finish(&tx)?;
        tx.commit().map_err(StoreError::sqlite("commit"))?;
        Ok(Committed {
            outcomes,
            tally: done.tally,
            departed: done.departed,
            touched: done.touched,
            meet_again: done.meet_again,
        })
    }

    /// Makes the connection and the copies in memory anew after a failure.
    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.connection.is_some() && !self.stale {
            return Ok(());
        }
        if self.condition == Condition::Corrupt {
            let op = "write: the database does not make sense; restore it or start a new one";
            return Err(StoreError::new(StoreErrorKind::Corrupt, op));
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.file.open_writer()?,
        };
        self.forgotten.reload(&connection)?;
        self.runs = Runs::load(&connection)?;
        self.directory.reset();
        self.directory.load_beds(&connection)?;
        self.connection = Some(connection);
        self.stale = false;
        Ok(())
    }

    /// After a commit that failed nothing in memory is trusted, and after anything but a lack of space the
    /// connection neither.
    fn fail(&mut self, error: &StoreError) {
        let condition = match error.kind {
            StoreErrorKind::Full => Condition::Full,
            StoreErrorKind::Corrupt => Condition::Corrupt,
            StoreErrorKind::Unavailable | StoreErrorKind::Refused | StoreErrorKind::Internal => {
                Condition::Unavailable
            }
        };
        if condition != self.condition {
            let source = error.source.as_ref().map(ToString::to_string);
            tracing::error!(
                step = error.op,
                source,
                condition = condition.as_str(),
                "a commit failed"
            );
        }
        metrics::counter!("medmesh_commits_failed_total", "condition" => condition.as_str())
            .increment(1);
        self.stale = true;
        if condition != Condition::Full {
            self.connection = None;
        }
        self.set(condition);
    }

    fn set(&mut self, condition: Condition) {
        if condition != self.condition {
            tracing::info!(
                condition = condition.as_str(),
                "the store's condition changed"
            );
        }
        self.condition = condition;
        self.status
            .condition
            .store(condition as u8, Ordering::Relaxed);
    }

    /// Writes a long log into the database, after everybody was answered.
    fn tidy(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        let checkpointed = schema::log_pages(connection).and_then(|pages| {
            if pages > LOG_PAGES {
                schema::checkpoint(connection, "PASSIVE")?;
                schema::log_pages(connection)
            } else {
                Ok(pages)
            }
        });
        match checkpointed {
            Ok(pages) => {
                let beyond = (pages - LOG_PAGES).max(0) * schema::PAGE_BYTES;
                self.log_bytes = beyond.unsigned_abs();
            }
            Err(error) => self.fail(&error),
        }
    }
}

const fn kept(kept: Kept) -> Outcome {
    match kept {
        Kept::Durably => Outcome::Done,
        Kept::Full => Outcome::Full,
        Kept::TooManyTopics => {
            Outcome::Refused("retain: the facility has retained messages on 65,536 topics")
        }
    }
}

/// One job within the commit.
fn one(
    apply: &mut Apply<'_>,
    job: &Job,
    (handlers, cursor, cutoff): (&Handlers, &mut Cursor, Timestamp),
) -> Result<Outcome, StoreError> {
    match job {
        Job::Append(samples, _) => {
            let stored = samples.iter().map(|sample| apply.append(sample));
            return stored.collect::<Result<_, _>>().map(Outcome::Samples);
        }
        Job::Device(id, _) => return apply.device(id).map(Outcome::Device),
        Job::Housekeep(_) => return apply.housekeep(cursor, cutoff).map(Outcome::Swept),
        Job::ShipLate(_) => return apply.ship_late().map(Outcome::Late),
        Job::ShipAgain { link_came_up, .. } => {
            return apply.ship_again(*link_came_up).map(Outcome::Again);
        }
        Job::Enter(fact, _) => {
            let entered = apply.enter(fact)?;
            return Ok(entered.map_or_else(Outcome::Refused, Outcome::Entered));
        }
        Job::Correct(_) => return apply.correct().map(Outcome::Corrected),
        Job::Quarantine {
            device,
            reason,
            message,
            ..
        } => {
            return apply.quarantine(device, reason, message).map(kept);
        }
        Job::Retain { message, .. } => return apply.retain(message).map(kept),
        Job::Settle { receipts, .. } => apply.settle(receipts)?,
        Job::Devices { records, .. } => apply.ship_devices(records.clone())?,
        Job::TurnedAway { peer, reason, .. } => apply.turned_away(peer, reason)?,
        Job::Note(entries, _) => apply.note(entries)?,
        Job::BeginLog { has_run, .. } => apply.begin_log(*has_run)?,
        Job::Resync { welcome, fresh, .. } => {
            let said = apply.resync(welcome, *fresh)?;
            return Ok(Outcome::Said(said.map(Box::new)));
        }
        Job::Admit { from, arrivals, .. } => {
            return apply.admit(from, arrivals).map(Outcome::Judged);
        }
        Job::Accept { from, parcels, .. } => {
            return apply.accept(from, parcels, handlers).map(Outcome::Verdicts);
        }
        Job::Meet { from, hello, .. } => {
            let welcome = apply.meet(from, hello)?;
            return Ok(Outcome::Welcome(Box::new(welcome)));
        }
        Job::Step { step, .. } => {
            let Some(step) = step.lock().take() else {
                return Ok(Outcome::Done);
            };
            if let Err(error) = apply.alone(step)? {
                return Ok(Outcome::Failed(error));
            }
        }
        Job::Close(_) => {}
    }
    Ok(Outcome::Done)
}
