//! What the broker asks of the node that it is a part of: to make durable what devices say, to take their answers in, and
//! to write down who hears. It knows no store and nothing of what a message means: only what is answered to whoever sent
//! it.
use async_trait::async_trait;
use bytes::Bytes;
use storage::StoreError;
use types::{DeviceId, RetainedMessage};

/// The topics of one device: `devices/{region}/{facility}/{device}/…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Readings.
    Telemetry,
    /// Alarms.
    Alarm,
    /// Birth and death, retained.
    Status,
    /// What the device is told to do.
    Command,
    /// What it answers to that.
    Answer,
}

impl Topic {
    /// The last level of the topic.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Alarm => "alarm",
            Self::Status => "status",
            Self::Command => "command",
            Self::Answer => "command/result",
        }
    }
}

/// A message of telemetry, or an alarm, as a device published it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who published it, by its certificate.
    pub device: DeviceId,
    /// Whether it came on the topic of alarms.
    pub alarm: bool,
    /// The message.
    pub payload: Bytes,
}

/// What became of a message, once that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Stored now.
    New,
    /// The same message was stored before; nothing changed.
    Duplicate,
}

/// Why a message was not stored. It must not be acknowledged as if it were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// What it says it is was stored with another payload.
    Conflict,
    /// It can never be stored; why, from a closed set.
    Invalid(&'static str),
    /// Not now: no room, or the store does not answer.
    Later,
}

/// Makes durable what devices say. Every method resolves once what it did is durable.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Stores messages in this order, in one commit where it can, and says what became of each (same length, same order).
    async fn append(&self, messages: Vec<Received>) -> Vec<Result<Stored, Rejected>>;

    /// Keeps a message that cannot be understood, with the reason from a closed set.
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

/// Takes in what devices answer to commands.
#[async_trait]
pub trait Answers: Send + Sync + 'static {
    /// Takes an answer of a device in, which showed this certificate (DER).
    async fn take(
        &self,
        device: &DeviceId,
        certificate: &[u8],
        message: &[u8],
    ) -> Result<(), NoAnswer>;
}

/// Why an answer is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It is not an answer, or not signed by the device that sends it.
    Wrong,
    /// It cannot be taken now.
    Later,
}

/// Writes down who begins to hear.
#[async_trait]
pub trait Noted: Send + Sync + 'static {
    /// Whether it is written down that a viewer hears from now on.
    async fn note(&self, viewer: &DeviceId) -> bool;
}

/// What is shown to viewers of something that was stored.
pub trait Change: Send + Sync + 'static {
    /// The device that said it.
    fn device(&self) -> &DeviceId;
    /// Whether it is an alarm.
    fn is_alarm(&self) -> bool;
    /// It as JSON; asked for only when somebody listens.
    fn json(&self) -> Vec<u8>;
}
