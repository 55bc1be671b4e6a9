//! What a person must look at in a node with a ledger: parcels that it did not take or that were not taken from it, and
//! senders that write what another one owns. `/ready` lists it under `degraded`.
use crate::ledger::{Ledger, Waiting};
use node::health::{Check, Health};
use types::{Priority, Timestamp};

/// The checks, and where they look.
pub struct Standing {
    quarantine: Check,
    senders: Check,
    ledger: Ledger,
}

impl Standing {
    /// Adds the checks.
    #[must_use]
    pub fn new(health: &Health, ledger: Ledger) -> Self {
        Self {
            quarantine: health.optional("quarantine"),
            senders: health.optional("senders"),
            ledger,
        }
    }

    /// Looks now. An error shows elsewhere; the next turn looks again.
    pub async fn look(&self) {
        let (Ok(noted), Ok(held)) = (self.ledger.noted().await, self.ledger.any_held().await)
        else {
            return;
        };
        metrics::gauge!("medmesh_quarantine_notes").set(gauge(noted.notes));
        if let Ok(waiting) = self.ledger.waiting().await {
            tell(&waiting);
        }
        match (held, noted.notes > 0) {
            (false, false) => self.quarantine.pass(),
            (true, false) => self.quarantine.fail("parcels are held"),
            (false, true) => self.quarantine.fail("records were not taken"),
            (true, true) => self
                .quarantine
                .fail("parcels are held, records were not taken"),
        }
        if noted.wrong_sender {
            self.senders.fail("wrong-sender");
        } else {
            self.senders.pass();
        }
    }
}

/// Tells the metrics what waits and what is held.
fn tell(waiting: &Waiting) {
    for priority in Priority::ALL {
        metrics::gauge!("medmesh_outbox_parcels", "priority" => priority.as_str())
            .set(gauge(waiting.above.of(priority)));
    }
    metrics::gauge!("medmesh_outbox_below_parcels").set(gauge(waiting.below));
    metrics::gauge!("medmesh_held_parcels").set(gauge(waiting.held));
    set_oldest(waiting.oldest, waiting.at);
}

/// Tells the metrics for how long the oldest parcel has been waiting.
pub fn set_oldest(sealed: Option<Timestamp>, now: Timestamp) {
    let ms = sealed.map_or(0, |sealed| now.since(sealed).max(0));
    metrics::gauge!("medmesh_outbox_oldest_seconds").set(gauge(ms.unsigned_abs()) / 1_000.0);
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn gauge(count: u64) -> f64 {
    count as f64
}
