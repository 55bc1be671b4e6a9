//! Who read and wrote what of this region by FHIR, in its audit log (45 CFR 164.312(b)).
//!
//! A row waits in a queue until the commit that holds it is durable; only then is the answer given ([`AccessLog`]).
//! Rows that wait together share one commit, so that the log costs a busy region an fsync for many reads. What was
//! given nothing waits for nobody: it is counted, and a row says how often, once an hour for each client and reason.
use async_trait::async_trait;
use federation::{
    audit::{Asked, Decision, Entry},
    port::PortError,
    tls::TimeSource,
};
use fhir::rest::{Access, AccessLog, Refused, Unwritten, Why};
use node::{health::Check, https};
use parking_lot::Mutex;
use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use types::{Place, Timestamp};

/// Reads that wait for their commit; one more is refused. Each is some 500 bytes, and a client by token has at most 128
/// connections.
const MAX_WAITING: usize = 4_096;
/// Rows in one commit: some milliseconds of hashing, so that parcels which share the log are not held up.
const MAX_COMMIT: usize = 256;
/// How often it is looked whether requests that were given nothing are due for a row.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two rows of one client, type, interaction and reason about requests that were given nothing.
const AGAIN_AFTER_MS: i64 = 3_600_000;
/// Such rows in hand, and with it rows in [`AGAIN_AFTER_MS`]. Clients are registered, so there are few; what is beyond
/// the bound is counted in `medmesh_fhir_reads_refused_total` alone.
const MAX_TALLIES: usize = 1_024;
/// How many of these may be of requests without a good token: what strangers try of every type and in every way costs no
/// client its rows.
const MAX_TALLIES_OF_STRANGERS: usize = MAX_TALLIES / 2;

/// The log of reads.
#[derive(Clone)]
pub struct Reads {
    queue: mpsc::Sender<Waiting>,
    refused: Arc<Mutex<Tallies>>,
    me: Place,
    now: TimeSource,
}

/// A row, and who waits for it.
struct Waiting {
    row: Entry,
    written: oneshot::Sender<()>,
}

/// The end of the queue, for [`Keeping::keep`].
pub struct Keeping {
    queue: mpsc::Receiver<Waiting>,
    refused: Arc<Mutex<Tallies>>,
    me: Place,
    now: TimeSource,
    check: Check,
}

/// The log of reads of the region at `me`. `check` says whether it can be written; `now` is real time.
pub fn reads(me: Place, now: TimeSource, check: Check) -> (Reads, Keeping) {
    let (sender, queue) = mpsc::channel(MAX_WAITING);
    let refused = Arc::<Mutex<Tallies>>::default();
    check.pass();
    let reads = Reads {
        queue: sender,
        refused: refused.clone(),
        me: me.clone(),
        now: now.clone(),
    };
    let keeping = Keeping {
        queue,
        refused,
        me,
        now,
        check,
    };
    (reads, keeping)
}

#[async_trait]
impl AccessLog for Reads {
    async fn given(&self, access: Access) -> Result<(), Unwritten> {
        let (written, is_written) = oneshot::channel();
        let row = row_of(&access, (self.now)(), &self.me);
        let queued = self.queue.try_send(Waiting { row, written });
        let done = match queued {
            Ok(()) => is_written.await.is_ok(),
            Err(_) => false,
        };
        if done {
            return Ok(());
        }
        metrics::counter!("medmesh_fhir_reads_refused_total", "reason" => "unaudited").increment(1);
        Err(Unwritten)
    }

    fn refused(&self, refused: Refused) {
        let reason = refused.why.as_str();
        metrics::counter!("medmesh_fhir_reads_refused_total", "reason" => reason).increment(1);
        self.refused.lock().add(refused);
    }
}

impl Reads {
    /// How many rows wait for their commit.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

fn row_of(access: &Access, now: Timestamp, me: &Place) -> Entry {
    let patient = access.patient.as_ref().map(|id| format!("Patient/{id}"));
    let asked = Asked {
        interaction: access.interaction.as_str(),
        kind: &access.asked(),
        about: patient.as_deref(),
        request: Some(&access.request),
    };
    let who = &access.reader.0;
    let decision = match access.interaction.writes() {
        true => Decision::DataWritten,
        false => Decision::DataRead,
    };
    Entry::of_read(now, decision, who, me, &asked, access.resources)
}

impl Keeping {
    /// Writes rows by `write`, which commits all that it is given or nothing, until nobody asks any more; at most until
    /// the requests in hand at a stop have had their time.
    ///
    /// # Errors
    /// None: a row that is not written refuses its read.
    pub async fn keep<W: Future<Output = Result<(), PortError>>>(
        mut self,
        write: impl Fn(Vec<Entry>) -> W,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let over = async {
            stop.cancelled().await;
            tokio::time::sleep(https::GRACE).await;
        };
        tokio::pin!(over);
        let mut batch = Vec::with_capacity(MAX_COMMIT);
        loop {
            tokio::select! {
                () = &mut over => break,
                taken = self.queue.recv_many(&mut batch, MAX_COMMIT) => match taken {
                    0 => break,
                    _ => self.commit(&mut batch, &write).await,
                },
                _ = look.tick() => self.commit_refused(&write, false).await,
            }
        }
        self.commit_refused(&write, true).await;
        Ok(())
    }

    async fn commit<W: Future<Output = Result<(), PortError>>>(
        &self,
        batch: &mut Vec<Waiting>,
        write: &impl Fn(Vec<Entry>) -> W,
    ) {
        let waiting = batch.drain(..);
        let (rows, told): (Vec<_>, Vec<_>) = waiting.map(|one| (one.row, one.written)).unzip();
        if self.written(write(rows).await) {
            for written in told {
                // Who has gone meanwhile is not answered; the row stands.
                let _gone = written.send(());
            }
        }
    }

    async fn commit_refused<W: Future<Output = Result<(), PortError>>>(
        &self,
        write: &impl Fn(Vec<Entry>) -> W,
        all: bool,
    ) {
        let now = (self.now)();
        let due = self.refused.lock().due(now, all);
        if due.is_empty() {
            return;
        }
        let row =
            |(refused, count): &(Refused, u32)| row_of_refused(refused, *count, now, &self.me);
        if !self.written(write(due.iter().map(row).collect()).await) {
            self.refused.lock().put_back(due);
        }
    }

    fn written(&self, result: Result<(), PortError>) -> bool {
        match &result {
            Ok(()) => self.check.pass(),
            Err(error) => {
                tracing::error!(%error, "reads are refused: the audit log does not take them");
                self.check.fail("not-written");
            }
        }
        result.is_ok()
    }
}

fn row_of_refused(refused: &Refused, count: u32, now: Timestamp, me: &Place) -> Entry {
    let decision = match refused.why {
        Why::Unauthenticated => Decision::ReadUnauthenticated,
        Why::Forbidden => Decision::ReadForbidden,
        Why::Unanswered => Decision::ReadUnanswered,
    };
    let asked = Asked {
        interaction: refused.interaction.as_str(),
        kind: refused.kind.as_str(),
        ..Asked::default()
    };
    let who = refused.reader.as_ref().map_or("", |reader| &reader.0);
    Entry::of_read(now, decision, who, me, &asked, count)
}

/// Requests that were given nothing, until a row says so.
#[derive(Default)]
struct Tallies(HashMap<Refused, Tally>);

#[derive(Default)]
struct Tally {
    /// Requests since the last row.
    count: u32,
    /// When that row was written.
    row: Option<Timestamp>,
}

impl Tallies {
    fn add(&mut self, refused: Refused) {
        if self.0.contains_key(&refused) || self.has_room_for(&refused) {
            let tally = self.0.entry(refused).or_default();
            tally.count = tally.count.saturating_add(1);
        }
    }

    fn has_room_for(&self, refused: &Refused) -> bool {
        let strangers = || self.0.keys().filter(|refused| refused.reader.is_none());
        let is_one_too_many =
            refused.reader.is_none() && strangers().count() >= MAX_TALLIES_OF_STRANGERS;
        self.0.len() < MAX_TALLIES && !is_one_too_many
    }

    /// What is to be written now. What was silent since its last row is forgotten.
    fn due(&mut self, now: Timestamp, all: bool) -> Vec<(Refused, u32)> {
        let lately = |tally: &Tally| {
            let since = tally.row.map(|row| now.since(row));
            since.is_some_and(|since| (0..AGAIN_AFTER_MS).contains(&since))
        };
        self.0.retain(|_, tally| tally.count > 0 || lately(tally));
        let is_due = |tally: &Tally| tally.count > 0 && (all || !lately(tally));
        let due = self.0.iter_mut().filter(|(_, tally)| is_due(tally));
        due.map(|(refused, tally)| {
            tally.row = Some(now);
            (refused.clone(), std::mem::take(&mut tally.count))
        })
        .collect()
    }

    /// Their rows could not be written; they are due again.
    fn put_back(&mut self, rows: Vec<(Refused, u32)>) {
        for (refused, count) in rows {
            if let Some(tally) = self.0.get_mut(&refused) {
                tally.count = tally.count.saturating_add(count);
                tally.row = None;
            }
        }
    }
}

#[cfg(all(test, not(medmesh_unguarded)))]
#[path = "reads_tests.rs"]
mod tests;
