//! What a person must look at in the global node: parcels that it did not take, and
//! senders that write what another one owns. `/ready` lists it under `degraded`.
use federation::ledger::Ledger;
use node::health::{Check, Health};

/// The checks, and where they look.
pub struct Standing {
    quarantine: Check,
    senders: Check,
    ledger: Ledger,
}

impl Standing {
    pub fn new(health: &Health, ledger: Ledger) -> Self {
        Self {
            quarantine: health.optional("quarantine"),
            senders: health.optional("senders"),
            ledger,
        }
    }

    /// Looks now. An error shows elsewhere; the next turn looks again.
    pub async fn look(&self) {
        let Ok(noted) = self.ledger.noted().await else {
            return;
        };
        metrics::gauge!("medmesh_quarantine_notes").set(gauge(noted.notes));
        pass_unless(&self.quarantine, noted.notes > 0, "not taken");
        pass_unless(&self.senders, noted.wrong_sender, "wrong-sender");
    }
}

fn pass_unless(check: &Check, fails: bool, reason: &'static str) {
    if fails {
        check.fail(reason);
    } else {
        check.pass();
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn gauge(count: u64) -> f64 {
    count as f64
}
