//! The one integration binary: rules of the tree, golden tables, and process tests over the real binary.
mod architecture;
mod bad_input;
mod boot;
mod border;
mod canaries;
mod certificates;
mod full_store;
mod infra;
mod kills;
mod modbus;
mod replay;
mod residency;
mod week;

use anyhow::Result;
use medmesh_tests::{mesh::Mesh, wait};
use std::time::Duration;

/// Parcels that wait at all facilities.
async fn waiting(mesh: &Mesh) -> Option<f64> {
    let json = mesh.json().ok()?;
    let mut waiting = 0.0;
    for facility in json["facilities"].as_array()? {
        let url = facility["metrics"].as_str()?;
        waiting += mesh.metric(url, "medmesh_outbox_parcels").await.ok()?;
    }
    Some(waiting)
}

/// Parcels on their way at any moment while devices go on: about two a facility.
const IN_FLIGHT: f64 = 12.0;

/// Waits until every facility has sent what it had: nothing but what was just made is on its way, and a second later
/// still.
async fn drained(mesh: &Mesh, limit: Duration) -> Result<()> {
    let empty = || async {
        let first = waiting(mesh).await? <= IN_FLIGHT;
        tokio::time::sleep(Duration::from_secs(1)).await;
        (first && waiting(mesh).await? <= IN_FLIGHT).then_some(())
    };
    wait::until("every outbox is drained", limit, empty).await
}
