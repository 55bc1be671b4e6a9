//! What waits in a ledger's outbox and since when, and how much its quarantine holds: for metrics, alerts and
//! `medmesh status`.
use super::{Inner, Ledger};
use crate::{
    outbox,
    port::{Depths, PortError},
};
use rusqlite::Connection;
use types::{Place, Timestamp};

/// What waits at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Parcels for the tier above, by priority.
    pub above: Depths,
    /// Parcels for all places below.
    pub below: u64,
    /// When the oldest of all of them was sealed (real time).
    pub oldest: Option<Timestamp>,
    /// Parcels in quarantine: the receiver did not take them.
    pub held: u64,
    /// When this was (real time).
    pub at: Timestamp,
}

impl Ledger {
    /// What waits now.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn waiting(&self) -> Result<Waiting, PortError> {
        let step = |inner: &Inner, tx: &Connection| {
            let mut waiting = Waiting {
                above: Depths::default(),
                below: 0,
                oldest: None,
                held: outbox::held_count(tx)?,
                at: (inner.now)(),
            };
            if inner.here != Place::Global {
                waiting.above = outbox::depths(tx, &Place::Global)?;
                waiting.oldest = outbox::oldest(tx, &Place::Global)?;
            }
            for place in outbox::below(tx)? {
                let depths = outbox::depths(tx, &place)?;
                waiting.below += depths.0.iter().sum::<u64>();
                let oldest = outbox::oldest(tx, &place)?;
                waiting.oldest = waiting.oldest.into_iter().chain(oldest).min();
            }
            Ok(waiting)
        };
        self.step("waiting", step).await
    }
}
