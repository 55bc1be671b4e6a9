//! The store as the sources see it: samples are checked, packed and hashed on the caller's thread, then queued.
use super::{
    Store, StoreError, StoreErrorKind,
    job::{Answers, Job, Reply},
    pack,
    uids::{UidKey, Uids},
};
use async_trait::async_trait;
use bytes::Bytes;
use ingest::{
    Journal, OUT_OF_RANGE, Rejected, RetainedMessage, Sample, SampleReading, Stored, Urgency,
    patient_id,
};
use node::trace::{Name, Open, of_source};
use rusqlite::OptionalExtension;
use std::time::Instant;
use tokio::sync::oneshot;
use types::{DeviceId, Phi, Timestamp};

/// The epoch of samples that the edge itself makes for a device, such as the alarm that its values went stale.
/// No device may use it.
pub const EDGE_EPOCH: u32 = u32::MAX;
/// The largest message that quarantine keeps whole, in bytes: the largest that the broker takes in.
const MAX_UNREADABLE: usize = 256 * 1024;

/// A sample that the edge makes itself; the store gives it its sequence number in [`EDGE_EPOCH`].
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeSample {
    /// The device that it is about.
    pub device: DeviceId,
    /// What it is about: the instant (mesh time).
    pub source_time: Timestamp,
    /// The patient whom the device named with the value that this is about. An alarm belongs to whom its value
    /// belonged to: of another patient, or of none, its time would be moved by another shift than the value's, and
    /// whoever has both would know the patient's.
    pub patient: Option<Phi<String>>,
    /// When that value was measured: where the device named nobody, it belongs to whoever lay in its bed then.
    pub owned_at: Timestamp,
    /// The readings.
    pub readings: Vec<SampleReading>,
}

/// Which numbers a sample has: its device's, or the next that the edge gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Device { epoch: u32, seq: i64 },
    Edge,
}

/// A sample as the writer takes it.
pub(super) struct Prepared {
    pub device: DeviceId,
    pub number: Number,
    pub source_time: Timestamp,
    pub patient: Option<Phi<String>>,
    /// When the bed is looked at for the patient, if the device named none.
    pub owned_at: Timestamp,
    pub urgency: Urgency,
    pub readings: Vec<SampleReading>,
    pub packed: Vec<u8>,
    pub digest: [u8; pack::DIGEST],
    /// When it came in.
    pub arrived: Instant,
    /// Its way into the store, where it is traced.
    pub trace: Option<Open>,
}

/// What can never be stored is refused before it costs anybody a place in the queue.
pub(super) fn prepare(mut sample: Sample, key: &UidKey) -> Result<Prepared, Rejected> {
    if sample.epoch == EDGE_EPOCH {
        return Err(Rejected::Invalid("the epoch is reserved for the edge"));
    }
    if sample.readings.is_empty() || sample.readings.len() > Sample::MAX_READINGS {
        return Err(Rejected::Invalid("a sample has 1 to 256 readings"));
    }
    if !sample.source_time.is_measurable() {
        return Err(Rejected::Invalid(OUT_OF_RANGE));
    }
    if !sample.patient.as_ref().is_none_or(patient_id_fits) {
        return Err(Rejected::Invalid(patient_id::PROBLEM));
    }
    let seq = i64::try_from(sample.seq)
        .map_err(|_| Rejected::Invalid("a sequence number is below 2^63"))?;
    let foreign = |reading: &SampleReading| !reading.code.is_measured_in(reading.unit);
    if sample.readings.iter().any(foreign) {
        return Err(Rejected::Invalid(
            "a unit in which the code is not measured",
        ));
    }
    // Of what the device said: a redelivery is the same sample, whatever is plausible by then.
    let (digest, uids) = (pack::digest(&sample), key.of_sample(&sample));
    for reading in &mut sample.readings {
        let flags = reading.code.flags_of(reading.unit, &reading.value);
        reading.flags = reading.flags.with(flags);
    }
    Ok(Prepared {
        number: Number::Device {
            epoch: sample.epoch,
            seq,
        },
        packed: pack::pack(&sample.readings, &uids),
        digest,
        device: sample.device,
        source_time: sample.source_time,
        patient: sample.patient,
        owned_at: sample.source_time,
        urgency: sample.urgency,
        readings: sample.readings,
        arrived: Instant::now(),
        trace: of_source(Name::StoreCommit),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a patient id can be one, nothing else"
)]
fn patient_id_fits(id: &Phi<String>) -> bool {
    patient_id::is_one(id.expose())
}

/// An alarm that the edge raises about a device.
pub(super) fn prepare_edge(sample: EdgeSample, entropy: super::Entropy) -> Prepared {
    let packed = pack::pack(&sample.readings, &Uids::Drawn(entropy));
    let named = sample.patient.is_some();
    Prepared {
        device: sample.device,
        number: Number::Edge,
        source_time: sample.source_time,
        patient: sample.patient,
        owned_at: sample.owned_at,
        urgency: Urgency::Alarm,
        digest: digest_of_edge(named, sample.owned_at),
        readings: sample.readings,
        packed,
        arrived: Instant::now(),
        trace: None,
    }
}

/// Marks a sample of the edge's own that belongs to whom the device named, or to whoever lay in its bed.
const NAMED: u8 = 2;
const BY_BED: u8 = 1;

/// What stands for a digest of a sample of the edge's own, whose number is new, so that it is compared with nothing: by
/// what it belongs to somebody, and since when.
fn digest_of_edge(named: bool, owned_at: Timestamp) -> [u8; pack::DIGEST] {
    let mut digest = [0; pack::DIGEST];
    digest[0] = if named { NAMED } else { BY_BED };
    digest[pack::DIGEST - 8..].copy_from_slice(&owned_at.0.to_le_bytes());
    digest
}

/// Of a sample of the edge's own: the instant at which its bed is looked at for the patient, ms since 1970; none when
/// the device named the patient, and for what an earlier version wrote.
pub(super) fn owned_at_of_edge(digest: &[u8; pack::DIGEST]) -> Option<i64> {
    let (_, time) = digest.split_last_chunk::<8>()?;
    (digest[0] == BY_BED).then_some(i64::from_le_bytes(*time))
}

/// Stands for the digest of a sample of the edge's own that was withdrawn and moves no more.
pub const WITHDRAWN_FOR_GOOD: [u8; pack::DIGEST] = [3; pack::DIGEST];

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

/// The stored sample of an identity: its digest and its source time, ms since 1970. The epoch is one within a run
/// ([`super::runs::key`]).
pub(super) fn stored_sample(
    db: &rusqlite::Connection,
    device: i64,
    epoch: i64,
    seq: i64,
) -> rusqlite::Result<Option<([u8; pack::DIGEST], i64)>> {
    db.prepare_cached(
        "SELECT digest, source_ms FROM sample WHERE device = ?1 AND epoch = ?2 AND seq = ?3",
    )?
    .query_row(rusqlite::params![device, epoch, seq], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
    .optional()
}

/// The writer said nothing of a sample: nothing is known of it, so that its source keeps it and tries again.
fn no_answer() -> Rejected {
    let op = "append: no answer from the writer";
    Rejected::Unavailable(StoreError::new(StoreErrorKind::Internal, op))
}
