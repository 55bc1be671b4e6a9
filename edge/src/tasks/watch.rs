//! What a node looks at by itself: [`federation::watch`].
use crate::{context::Shared, error::EdgeError};
use federation::watch::Finding;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Looks at the audit log, at gaps and at the order of parcels.
pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), EdgeError> {
    let checks = Finding::ALL.map(|finding| shared.health.optional(finding.as_str()));
    let say = |finding: Finding, is_wrong| {
        for (check, known) in checks.iter().zip(Finding::ALL) {
            match (known == finding, is_wrong) {
                (true, true) => check.fail(finding.reason()),
                (true, false) => check.pass(),
                (false, _) => {}
            }
        }
    };
    let stuck = || shared.standing.is_stuck() || shared.store.is_waiting_in_order();
    federation::watch::watch(shared.store.clone(), stuck, say, stop).await;
    Ok(())
}
