//! The store as the sources see it: samples are checked, packed and hashed on the caller's thread, then queued.
use super::{
    Store, StoreError, StoreErrorKind,
    job::{Answers, Job, Reply},
    prepared::{EdgeSample, Prepared, prepare, prepare_edge},
};
use async_trait::async_trait;
use bytes::Bytes;
use ingest::{Journal, Rejected, RetainedMessage, Sample, Stored};
use tokio::sync::oneshot;
use types::DeviceId;

/// The largest message that quarantine keeps whole, in bytes: the largest that the broker takes in.
const MAX_UNREADABLE: usize = 256 * 1024;

impl Store {
    /// Stores alarms that the edge raises itself, in this order and one commit, as [`Journal::append`] does a device's,
    /// and says what became of each (same length, same order).
    pub async fn raise(&self, alarms: Vec<EdgeSample>) -> Answers {
        let prepared = alarms
            .into_iter()
            .map(|alarm| prepare_edge(alarm, self.0.entropy));
        self.append_all(prepared.collect()).await
    }

    async fn append_prepared(&self, prepared: Prepared) -> Result<Stored, Rejected> {
        let answers = self.append_all(vec![prepared]).await;
        answers
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(no_answer()))
    }

    async fn append_all(&self, samples: Vec<Prepared>) -> Answers {
        let (count, (reply, answer)) = (samples.len(), oneshot::channel());
        match self.ask(Job::Append(samples, reply), answer).await {
            Ok(answers) => answers,
            Err(error) => {
                let refused = || Err(Rejected::Unavailable(error.without_source()));
                std::iter::repeat_with(refused).take(count).collect()
            }
        }
    }

    /// Queues a job and waits for its answer; the queue is bounded, so this is where a caller is slowed down.
    pub(super) async fn ask<T>(
        &self,
        job: Job,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::new(StoreErrorKind::Unavailable, "write: the store is closed");
        self.0.jobs.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }

    pub(super) async fn ask_step(&self, job: impl FnOnce(Reply) -> Job) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(job(reply), answer).await?
    }
}

#[async_trait]
impl Journal for Store {
    async fn append(&self, sample: Sample) -> Result<Stored, Rejected> {
        let prepared = prepare(sample, &self.0.uids)?;
        self.append_prepared(prepared).await
    }

    async fn append_batch(&self, samples: Vec<Sample>) -> Answers {
        let mut answers: Answers = Vec::with_capacity(samples.len());
        let mut ready = Vec::with_capacity(samples.len());
        // What is invalid keeps its place in the answers; the others fill theirs when the commit stands.
        for sample in samples {
            match prepare(sample, &self.0.uids) {
                Ok(prepared) => {
                    ready.push(prepared);
                    answers.push(Ok(Stored::New));
                }
                Err(rejected) => answers.push(Err(rejected)),
            }
        }
        let mut stored = self.append_all(ready).await.into_iter();
        for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
            *answer = stored.next().unwrap_or_else(|| Err(no_answer()));
        }
        answers
    }

    async fn quarantine(
        &self,
        device: &DeviceId,
        reason: &'static str,
        message: Bytes,
    ) -> Result<(), StoreError> {
        let message = message.slice(..message.len().min(MAX_UNREADABLE));
        let device = device.clone();
        self.ask_step(|reply| Job::Quarantine {
            device,
            reason,
            message,
            reply,
        })
        .await
    }

    async fn retain(&self, message: RetainedMessage) -> Result<(), StoreError> {
        self.keep_retained(message).await
    }

    async fn retained(&self, prefix: &str) -> Result<Vec<RetainedMessage>, StoreError> {
        self.retained_below(prefix.to_owned()).await
    }
}

/// The writer said nothing of a sample: nothing is known of it, so that its source keeps it and tries again.
fn no_answer() -> Rejected {
    let op = "append: no answer from the writer";
    Rejected::Unavailable(StoreError::new(StoreErrorKind::Internal, op))
}
