//! What the tasks of the node share.
use crate::{
    config::EdgeConfig, control::Control, facility::Changes, freshness::Monitor, pipeline::Topics,
    standing::Standing,
};
use ed25519_dalek::VerifyingKey;
use federation::{blobs::Blobs, tls::TimeSource};
use node::health::Health;
use parking_lot::Mutex;
use std::{path::PathBuf, sync::Arc};
use store::{
    Store,
    clockguard::{ClockGuard, Time as _},
};
use tokio::sync::Notify;
use types::Place;

/// What the tasks share.
pub(crate) struct Shared {
    pub config: EdgeConfig,
    pub store: Store,
    pub blobs: Arc<Blobs<Store>>,
    pub monitor: Arc<Mutex<Monitor>>,
    pub changes: Changes,
    pub guard: Arc<ClockGuard>,
    pub topics: Topics,
    pub leases: Option<(PathBuf, VerifyingKey)>,
    pub here: Place,
    pub health: Health,
    pub standing: Arc<Standing>,
    /// Woken when a study asks something.
    pub asked: Arc<Notify>,
    /// Woken when the descriptor of a file has come.
    pub come: Arc<Notify>,
    pub control: Arc<Control>,
    pub conditions: Arc<modbus::Conditions>,
    /// One question of the region's authority at a time.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

/// Real time, as far as it is known.
pub(crate) fn real_time(guard: &Arc<ClockGuard>) -> TimeSource {
    let guard = guard.clone();
    Arc::new(move || guard.now().real)
}
