//! Group commit: the transactions of clients that wait are done in one commit of the engine, in the order in which they
//! came, so that one flush of its disk serves them all. Each finds what those before it did, is done as a whole or not at
//! all, and is answered once the commit is there. Where the engine was away before a commit was asked for, nothing is there:
//! all of it is done again for a while. What became of a commit that was not answered nobody knows:
//! that is said, and its client, which knows a condition or a version, asks again.
//!
//! The writer has a thread, a runtime and a connection of its own, so that nothing that a client breaks off ends what
//! others wait for.
use super::{
    again::{Held, leave},
    errors::Trouble,
    events::{self, Cache},
    general, thread,
};
use crate::store::{Change, Kind, MAX_CHANGES, StoreError, Transacted, Transaction};
use crate::subscription::SUBSCRIPTION;
use deadpool_postgres::Pool;
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use tokio::sync::{mpsc, oneshot, watch};

/// The name of the thread.
const WRITER: &str = "fhir-writer";
/// Transactions that wait for the writer; more wait to be taken.
const QUEUE: usize = 256;

type Reply = oneshot::Sender<Result<Transacted, StoreError>>;

/// A transaction, and where its answer goes.
struct Job {
    transaction: Transaction,
    reply: Reply,
}

impl Job {
    /// What changes what is watched is done by itself, so that what follows finds it committed.
    fn is_alone(&self) -> bool {
        let mut kinds = self
            .transaction
            .changes
            .iter()
            .map(|one| Change::key(one).0);
        kinds.any(|kind| kind.as_str() == SUBSCRIPTION)
    }
}

/// Where transactions are handed in. The thread ends with the last one of these.
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    /// Ends with the thread.
    alive: watch::Receiver<()>,
    /// Where the order of commits stood when somebody looked last.
    stood: Arc<AtomicI64>,
}

impl Writer {
    /// Starts the thread. `pool` is for it alone.
    pub fn start(
        pool: Pool,
        watches: Arc<Cache>,
        noted: watch::Sender<u64>,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (holds, alive) = watch::channel(());
        let stood = Arc::<AtomicI64>::default();
        let working = Working {
            pool,
            watches,
            noted,
            stood: Arc::clone(&stood),
        };
        thread::start(WRITER, move || async move {
            // Dropped when the writer ends, also by a panic.
            let _holds = holds;
            working.run(queue).await;
        })?;
        Ok(Self { jobs, alive, stood })
    }

    /// See [`crate::store::ResourceStore::stands_at`].
    pub fn stands_at(&self, seq: i64) {
        self.stood.store(seq, Ordering::Release);
    }

    /// See [`crate::store::ResourceStore::transact`].
    pub async fn transact(&self, transaction: Transaction) -> Result<Transacted, StoreError> {
        let (reply, answer) = oneshot::channel();
        let stopped = || StoreError::new(Kind::Internal, "transact: writer stopped");
        let job = Job { transaction, reply };
        self.jobs.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// See [`crate::store::ResourceStore::ended`].
    pub async fn ended(&self) {
        let mut alive = self.alive.clone();
        // Nothing is ever sent: the sender ends with the thread.
        while alive.changed().await.is_ok() {}
    }
}

/// Everything that waits, up to [`MAX_CHANGES`] and one transaction more; and the next one where it is done by itself.
fn gather(first: Job, queue: &mut mpsc::Receiver<Job>) -> (Vec<Job>, Option<Job>) {
    let mut sum = first.transaction.changes.len();
    if first.is_alone() {
        return (vec![first], None);
    }
    let mut jobs = vec![first];
    while sum < MAX_CHANGES
        && let Ok(job) = queue.try_recv()
    {
        if job.is_alone() {
            return (jobs, Some(job));
        }
        sum += job.transaction.changes.len();
        jobs.push(job);
    }
    (jobs, None)
}

/// What the thread works with.
struct Working {
    pool: Pool,
    watches: Arc<Cache>,
    noted: watch::Sender<u64>,
    stood: Arc<AtomicI64>,
}

impl Working {
    /// Works until every sender is gone.
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(job) => job,
                None => match queue.recv().await {
                    Some(job) => job,
                    None => return,
                },
            };
            let (jobs, alone) = gather(first, &mut queue);
            next = alone;
            self.commit(jobs).await;
        }
    }

    /// Does them in one commit. What the engine refuses of several together is nobody's yet: each is done by itself
    /// then, so that one that it takes offence at costs no other.
    async fn commit(&self, jobs: Vec<Job>) {
        let (asked, replies): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .map(|job| (job.transaction, job.reply))
            .unzip();
        match self.attempt(&asked).await {
            Ok(all) => {
                for (reply, done) in replies.into_iter().zip(all) {
                    drop(reply.send(Ok(done)));
                }
            }
            Err(trouble) if asked.len() > 1 && trouble.told("transact").kind == Kind::Internal => {
                for (one, reply) in asked.iter().zip(replies) {
                    let done = self.attempt(std::slice::from_ref(one)).await;
                    let first = done.map(|mut all| all.pop());
                    let missing = || StoreError::new(Kind::Internal, "transact");
                    let told = first.map_err(|trouble| trouble.told("transact"));
                    drop(reply.send(told.and_then(|done| done.ok_or_else(missing))));
                }
            }
            Err(trouble) => {
                for reply in replies {
                    drop(reply.send(Err(trouble.told("transact"))));
                }
            }
        }
    }

    /// Does them, again where the engine was away before the commit was asked for.
    async fn attempt(&self, asked: &[Transaction]) -> Result<Vec<Transacted>, Trouble> {
        let mut held = Held::begin();
        loop {
            let done = self.once(asked, &held).await;
            let is_away = done.as_ref().is_err_and(Trouble::is_away);
            if !(is_away && held.pause().await) {
                return done;
            }
        }
    }

    async fn once(&self, asked: &[Transaction], held: &Held) -> Result<Vec<Transacted>, Trouble> {
        let mut client = held.connection(&self.pool).await?;
        let stood = self.stood.load(Ordering::Acquire);
        let done = general::transact(&mut client, asked, (&self.watches, stood)).await;
        match done {
            Ok(done) => {
                let (all, events) = done.ok_or(Trouble::PutBack)?;
                events::tell(&self.noted, events);
                Ok(all)
            }
            Err(trouble) => {
                leave(Some(client), &trouble);
                Err(trouble)
            }
        }
    }
}
