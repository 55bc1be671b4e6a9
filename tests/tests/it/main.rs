//! The one integration binary: rules of the tree, golden tables, and process tests over the real binary.
mod another_authority;
mod architecture;
mod bad_input;
mod beds;
mod blobs;
mod boot;
mod border;
mod canaries;
mod certificates;
mod circles;
mod commands;
mod datasets;
mod federated;
mod formats;
mod full_store;
mod infra;
mod joining;
mod kills;
mod measured;
mod modbus;
mod observability;
mod pair;
mod replay;
mod residency;
mod restored;
mod rollout;
mod rounds;
mod standby;
mod studies;
mod threads;
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

/// Waits until every facility has sent what it had, and a second later still. The devices have fallen silent by then.
async fn drained(mesh: &Mesh) -> Result<()> {
    let empty = || async {
        let first = waiting(mesh).await? == 0.0;
        tokio::time::sleep(Duration::from_secs(1)).await;
        (first && waiting(mesh).await? == 0.0).then_some(())
    };
    wait::until("every outbox is drained", wait::PATIENCE, empty).await
}
