//! The port of what is kept of subscriptions, and what it speaks of.
use crate::store::{FhirId, ResourceType, StoreError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use types::Timestamp;

/// What happened to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// There was none.
    Create,
    /// Another version.
    Update,
    /// There is none any more.
    Delete,
}

impl What {
    /// As it is kept.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// What is kept as that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Create, Self::Update, Self::Delete]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// FHIR R4 SubscriptionStatus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is to be activated by a handshake.
    Requested,
    /// It is delivered.
    Active,
    /// It is not delivered any more; `Subscription.error` says why.
    Error,
    /// It was ended.
    Off,
}

impl Status {
    /// The code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Error => "error",
            Self::Off => "off",
        }
    }

    /// The status of a code.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Requested, Self::Active, Self::Error, Self::Off]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// What goes with a Subscription into its transaction: what the store watches by it from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// [`super::Spec`], as text.
    pub spec: String,
    /// Its status.
    pub status: Status,
    /// Whether events are written for it.
    pub watched: bool,
    /// Whether its events are fetched instead of sent.
    pub is_fetched: bool,
}

/// How the delivery of a subscription goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Attempts since the last one that was taken.
    pub attempts: u32,
    /// When the next one is due, ms since 1970.
    pub due: i64,
    /// Since when every attempt failed, ms since 1970.
    pub failing_since: Option<i64>,
    /// When something was taken last, ms since 1970.
    pub sent: i64,
}

/// Where a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// By what the store knows it.
    pub key: i64,
    /// The id of the Subscription; none when it was deleted and its events are not yet forgotten.
    pub id: Option<FhirId>,
    /// The version of the Subscription that this is of.
    pub version: u32,
    /// [`super::Spec`], as text.
    pub spec: String,
    /// Its status.
    pub status: Status,
    /// Whether events are written for it. Where they are not although it is active, too many waited.
    pub watched: bool,
    /// The number of its last event; 0 when there was none.
    pub number: u64,
    /// Its events up to this number were taken.
    pub delivered: u64,
    /// When the first event was written that was not taken yet.
    pub waits_since: Option<Timestamp>,
    /// How its delivery goes.
    pub progress: Progress,
}

/// A change that a subscription is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// From 1, without gaps, in the order of commits.
    pub number: u64,
    /// The type of the resource.
    pub kind: ResourceType,
    /// Its id.
    pub id: FhirId,
    /// The version that was written.
    pub version: u32,
    /// The place of that version in the order of commits.
    pub seq: i64,
    /// What happened.
    pub what: What,
    /// When the commit was.
    pub at: Timestamp,
}

/// What is kept of subscriptions. Their events are written by whatever writes resources.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Every subscription, in the order in which they were made.
    async fn subscriptions(&self) -> Result<Vec<Standing>, StoreError>;

    /// The first `count` events of a subscription from one number to another, both included.
    async fn events(
        &self,
        key: i64,
        from: u64,
        until: u64,
        count: u16,
    ) -> Result<Vec<Event>, StoreError>;

    /// Keeps how a delivery goes. What was taken stays so.
    async fn keep_progress(
        &self,
        key: i64,
        delivered: u64,
        progress: &Progress,
    ) -> Result<(), StoreError>;

    /// Forgets the events of a subscription up to a number, and the subscription when it was deleted and has none left.
    async fn forget_events(&self, key: i64, until: u64) -> Result<(), StoreError>;

    /// Events of a subscription that may wait to be delivered ([`super::MAX_PENDING_EVENTS`], but for tests). With more it
    /// is watched no longer; of one whose events are fetched the oldest are forgotten.
    fn most_pending(&self) -> u64;

    /// Changes whenever this very store has written events.
    fn noted(&self) -> watch::Receiver<u64>;
}
