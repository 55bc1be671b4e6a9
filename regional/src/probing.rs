//! Looks now and then whether the store answers, how much it holds, and what the ledger did not take: for `/ready` and the
//! gauges.
use federation::{ledger::Ledger, standing::Standing};
use fhir::store::{ResourceStore, ResourceType};
use node::{
    health::{Check, Health},
    task::{Kind, Tasks},
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often it is looked.
const HEALTH_TICK: Duration = Duration::from_secs(5);
/// Counts of resources below this are not shown: few patients in a region are nearly one.
const SMALLEST_CELL: u64 = 11;

/// Looks until the node stops, which the end of the store's writer makes it do.
pub(crate) fn keep(
    tasks: &mut Tasks,
    health: &Health,
    ledger: &Ledger,
    store: Arc<dyn ResourceStore>,
) {
    let writing = store.clone();
    tasks.watch("fhir writer", async move { writing.ended().await });
    let standing = Standing::new(health, ledger.clone());
    let probing = probe(store, standing, health.check("store"), tasks.stop());
    tasks.spawn("store probe", Kind::Background, probing);
}

/// Asks the store now and then whether it answers and how much it holds, and the ledger what was not taken.
async fn probe(
    store: Arc<dyn ResourceStore>,
    standing: Standing,
    check: Check,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        match store.counts().await {
            Ok(counts) => {
                check.pass();
                for kind in ResourceType::DELIVERED {
                    let count = counts.of(kind);
                    if count >= SMALLEST_CELL {
                        metrics::gauge!("medmesh_fhir_resources", "type" => kind.as_str())
                            .set(gauge(count));
                    }
                }
            }
            Err(error) if error.kind.may_pass() => check.fail("unavailable"),
            Err(_) => check.fail("failed"),
        }
        standing.look().await;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(HEALTH_TICK) => {}
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn gauge(count: u64) -> f64 {
    count as f64
}
