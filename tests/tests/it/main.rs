//! The one integration binary: rules of the tree, golden tables, and process tests over the real binary.
mod architecture;
mod bad_input;
mod canaries;
mod kills;
mod offline;
mod replay;
mod residency;

use anyhow::Result;
use medmesh_tests::{mesh::Mesh, wait};
use std::{env, time::Duration};

/// An engine that the run may bring: its address or path. Nobody asked for it: said, and the test ends.
fn asked_for(variable: &str) -> Option<String> {
    let found = env::var(variable).ok();
    if found.is_none() {
        eprintln!("ignored: {variable} is not set (cargo xtask test sets it)");
    }
    found
}

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

/// Waits until no facility has a parcel left to send.
async fn drained(mesh: &Mesh, limit: Duration) -> Result<()> {
    let empty = || async { (waiting(mesh).await? == 0.0).then_some(()) };
    wait::until("every outbox is empty", limit, empty).await
}
