//! What goes down from a region by itself: heads of audit logs, so that a region and one of its facilities cannot go back
//! together unseen.
use federation::{
    blobs::Blobs,
    ledger::{Ledger, Telling},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often it is looked for facilities that are to hear of heads of audit logs (real time).
const TELL_TICK: Duration = Duration::from_secs(2);
/// Blobs that nothing needs are looked for at every such look.
const SWEEP_TURNS: u64 = 300;

/// Tells the facilities of heads of audit logs, so that a region and one of its facilities cannot go back together.
/// Also deletes blobs that nothing needs.
pub async fn tell(ledger: Ledger, blobs: Arc<Blobs<Ledger>>, stop: CancellationToken) {
    let mut telling = Telling::default();
    for turn in 0_u64.. {
        if turn % SWEEP_TURNS == 0
            && let Err(error) = blobs.sweep().await
        {
            tracing::warn!(%error, "blobs that nothing needs are still there");
        }
        if let Err(error) = telling.look(&ledger).await {
            tracing::warn!(%error, "heads of audit logs are not shipped down");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TELL_TICK) => {}
        }
    }
}
