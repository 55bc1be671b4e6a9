//! What comes in from devices, and what the sources (Modbus poller, MQTT broker) may rely on of the journal.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#[cfg(feature = "contract")]
#[allow(clippy::indexing_slicing, reason = "it is a test")]
pub mod contract;
pub mod patient_id;
pub mod payload;

use async_trait::async_trait;
use bytes::Bytes;
use storage::StoreError;
pub use types::RetainedMessage;
use types::{Code, DeviceId, Flags, Phi, Timestamp, Unit, Value};

/// How soon somebody must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A reading.
    Routine,
    /// An alarm: it goes first, and a reserve of the disk is kept for it.
    Alarm,
}

/// One sample of one device: what its counter counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The device.
    pub device: DeviceId,
    /// The run of the device's sample counter.
    pub epoch: u32,
    /// The sample within the epoch.
    pub seq: u64,
    /// When the device measured, by its own clock.
    pub source_time: Timestamp,
    /// The facility's own patient id, where the device knows it; otherwise the patient of the device's bed.
    pub patient: Option<Phi<String>>,
    /// How soon somebody must know.
    pub urgency: Urgency,
    /// The readings; their position is their index within the sample. At most [`Sample::MAX_READINGS`].
    pub readings: Vec<SampleReading>,
}

impl Sample {
    /// Readings in one sample: one device's signals; a batch of more is several samples.
    pub const MAX_READINGS: usize = 256;
}

/// Why a sample whose source time no region would store is refused at the door: [`Timestamp::is_measurable`].
pub const OUT_OF_RANGE: &str = "time before 1901 or after 2198";

/// One reading of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleReading {
    /// What is measured.
    pub code: Code,
    /// In which unit.
    pub unit: Unit,
    /// The value, or why there is none.
    pub value: Value,
    /// What a reader must know of it.
    pub flags: Flags,
}

/// What became of a sample, once that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Stored now.
    New,
    /// The same sample was stored before; nothing changed.
    Duplicate,
}

/// Why a sample was not stored. It must not be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// The same (device, epoch, sequence) was stored with another payload that was not measured before this one. An
    /// alarm was raised. (One that was measured later is stored: the counter restarted.)
    #[error("sample {seq} of epoch {epoch} was stored before with another payload")]
    Conflict {
        /// The epoch.
        epoch: u32,
        /// The sample.
        seq: u64,
    },
    /// The disk bound of the policy, or the disk itself, is reached; the source keeps the sample and tries again.
    #[error("the store is full")]
    Full,
    /// The sample can never be stored.
    #[error("{0}")]
    Invalid(&'static str),
    /// The store does not answer now; the source keeps the sample and tries again.
    #[error("the store is unavailable")]
    Unavailable(#[source] StoreError),
}

/// Durable ingest. Every method resolves after the fsync of the commit that holds it; one commit serves many callers.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Stores a sample, its outbox row and its audit row in one commit.
    async fn append(&self, sample: Sample) -> Result<Stored, Rejected>;

    /// Stores samples in this order, each as [`Journal::append`] would, and says what became of each (same length,
    /// same order). A store that can hand all of them to one commit does so: it is the broker's hot path.
    async fn append_batch(&self, samples: Vec<Sample>) -> Vec<Result<Stored, Rejected>> {
        futures_util::future::join_all(samples.into_iter().map(|sample| self.append(sample))).await
    }

    /// Keeps a message that cannot be understood, with the reason from a closed set, inside the facility.
    async fn quarantine(
        &self,
        device: &DeviceId,
        reason: &'static str,
        message: Bytes,
    ) -> Result<(), StoreError>;

    /// Keeps the retained message of a topic; an empty one deletes it.
    async fn retain(&self, message: RetainedMessage) -> Result<(), StoreError>;

    /// The retained messages whose topics begin with `prefix`. One that has lapsed is none any more.
    async fn retained(&self, prefix: &str) -> Result<Vec<RetainedMessage>, StoreError>;
}
