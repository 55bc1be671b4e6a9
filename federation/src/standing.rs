//! What a person must look at in a node with a ledger: parcels that it did not take or that were not taken from it, and
//! senders that write what another one owns. `/ready` lists it under `degraded`.
use crate::ledger::Ledger;
use node::health::{Check, Health};

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

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn gauge(count: u64) -> f64 {
    count as f64
}
