//! The store's upkeep: readiness, metrics of what waits, what may be shipped now, the time kept, and retention.
use super::set_gauge;
use crate::{context::Shared, error::EdgeError};
use federation::{port::Outbox, standing::set_oldest};
use node::health::Check;
use std::{sync::Arc, time::Duration};
use store::clockguard::Time;
use store::{Condition, Late};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use types::Priority;

/// How often metrics, readiness and retention get their turn (real time).
const UPKEEP_TICK: Duration = Duration::from_secs(1);
/// Retention, and the time kept, get every such turn: each costs an fsync on an idle node.
const RETENTION_TURNS: u64 = 10;
/// Blobs that nothing needs are looked for every such turn.
const BLOB_TURNS: u64 = 600;
/// What is held is counted, and the age of what waits looked up, every such turn.
const COUNT_TURNS: u64 = 5;
/// Steps of retention in one turn, each one commit.
const RETENTION_STEPS: usize = 30;
/// Steps of shipping late in one turn, each one commit.
const LATE_STEPS: usize = 10;

/// Readiness, metrics of what waits, the time kept, and retention.
pub(crate) async fn upkeep(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), EdgeError> {
    let check = shared.health.check("store");
    let clearance = shared.health.optional("clearance");
    let mut held_back = false;
    let mut turn = 0;
    let mut ticks = interval(UPKEEP_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        match shared.store.condition() {
            Condition::Good => check.pass(),
            condition => check.fail(condition.as_str()),
        }
        if let Ok(depths) = shared.store.depths(shared.store.region()).await {
            for priority in Priority::ALL {
                let count = depths.of(priority);
                set_gauge(
                    "medmesh_outbox_parcels",
                    "priority",
                    priority.as_str(),
                    count,
                );
            }
        }
        if turn % COUNT_TURNS == 0 {
            count(&shared).await;
        }
        held_back = ship_late(&shared, &clearance, held_back).await;
        ship_again(&shared).await;
        let trusted = shared.guard.now().trusted;
        shared.standing.clock(trusted);
        metrics::gauge!("medmesh_clock_trusted").set(f64::from(u8::from(trusted)));
        turn += 1;
        if turn % RETENTION_TURNS == 0 {
            sweep(&shared).await;
        }
        if turn % BLOB_TURNS == 0
            && let Err(error) = shared.blobs.sweep().await
        {
            tracing::warn!(%error, "blobs that nothing needs are still there");
        }
    }
}

/// Tells the metrics for how long parcels have been waiting, and how much is held.
async fn count(shared: &Shared) {
    // An error shows in the condition; the next turn tries again.
    if let Ok(oldest) = shared.store.oldest().await {
        set_oldest(oldest, shared.guard.now().real);
    }
    if let Ok(held) = shared.store.held_counts().await {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
        let gauge = |name: &'static str, count: u64| metrics::gauge!(name).set(count as f64);
        gauge("medmesh_held_parcels", held.parcels);
        gauge("medmesh_held_messages", held.messages);
    }
}

/// Ships what was stored while nothing might leave, if it may be now. Says whether it still may not.
async fn ship_late(shared: &Shared, clearance: &Check, held_back: bool) -> bool {
    let mut late = Late::default();
    if shared.store.has_unshipped() {
        for _ in 0..LATE_STEPS {
            late = match shared.store.ship_late().await {
                Ok(late) => late,
                // It shows in the condition; the next turn tries again.
                Err(_) => return held_back,
            };
            if late.shipped == 0 || !late.left {
                break;
            }
        }
    }
    let held = late.left && !late.allowed;
    match (held, held_back) {
        (true, false) => tracing::error!(
            "readings may not leave: the de-identification profile has lapsed or a policy refuses; they are stored here"
        ),
        (false, true) => tracing::info!("readings may leave again"),
        (true, true) | (false, false) => {}
    }
    if held {
        clearance.fail("readings may not leave");
    } else {
        clearance.pass();
    }
    held
}

/// Ships what the region did not take and may take now, and says whether anything is held.
async fn ship_again(shared: &Shared) {
    // An error shows in the condition; the next turn tries again.
    let Ok(holding) = shared.store.holding().await else {
        return;
    };
    shared.standing.holds(holding);
    if holding.parcels {
        match shared.store.ship_again().await {
            Ok(shipped) if shipped > 0 => {
                metrics::counter!("medmesh_parcels_shipped_again_total").increment(shipped as u64);
            }
            Ok(_) | Err(_) => {}
        }
    }
}

async fn sweep(shared: &Shared) {
    for _ in 0..RETENTION_STEPS {
        // An error shows in the condition; the next turn tries again.
        match shared.store.housekeep().await {
            Ok(swept) if !swept.done => {}
            Ok(_) | Err(_) => return,
        }
    }
}
