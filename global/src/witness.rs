//! What goes down from the global node: each region gets the heads of the audit logs of all others, so that a region holds
//! what the global node would have to deny when it went back together with another.
use federation::{
    blobs::Blobs,
    ledger::{Ledger, Telling},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often it is looked for regions that have come, and for parcels that were not taken (real time).
const LOOK: Duration = Duration::from_secs(2);

/// Blobs that nothing needs are looked for at every such look.
const SWEEP_TURNS: u64 = 300;

/// Ships heads down until stopped. Also deletes blobs that nothing needs.
pub async fn tell(ledger: Ledger, blobs: Arc<Blobs<Ledger>>, stop: CancellationToken) {
    let mut telling = Telling::default();
    for turn in 0_u64.. {
        if turn % SWEEP_TURNS == 0
            && let Err(error) = blobs.sweep().await
        {
            tracing::warn!(%error, "blobs that nothing needs are still there");
        }
        if let Err(error) = telling.look(&ledger).await {
            tracing::warn!(%error, "heads of audit logs are not shipped");
        }
        // What fails shows in the ledger's own steps; the next turn tries again.
        let _later = ledger.ship_again().await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
