//! The regional nodes hang for a while: facilities keep polling and storing, and afterwards everything is there once.
use anyhow::{Result, ensure};
use medmesh_tests::{
    checker::{self, Crosswalk},
    mesh::Mesh,
    wait,
};
use std::time::Duration;

/// A sample every 5 s of mesh time is four a second at this speed.
const SPEED: &str = "20x";
/// Ten minutes of mesh time: longer than every timeout of a link, and some 20,000 readings a region.
const OUTAGE: Duration = Duration::from_secs(30);
/// For a loaded machine.
const DRAIN: Duration = Duration::from_secs(120);
const REGIONS: [&str; 3] = ["us", "eu", "apac"];

#[test]
fn an_outage_of_every_region_loses_nothing() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(outage())
}

async fn outage() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &["--facilities", "1", "--speed", SPEED]).await?;
    for region in REGIONS {
        mesh.signal(&format!("regional:{region}"), "STOP")?;
    }
    tokio::time::sleep(OUTAGE).await; // The outage itself, not a wait for something.
    let behind = crate::waiting(&mesh).await.unwrap_or_default();
    ensure!(behind > 0.0, "nothing piled up, so nothing was tested");
    let facilities = REGIONS.map(|region| format!("{region}-f1"));
    let emitted: Result<Vec<_>> = facilities
        .iter()
        .map(|f| checker::emitted(&mesh, f))
        .collect();
    for region in REGIONS {
        mesh.signal(&format!("regional:{region}"), "CONT")?;
    }
    for ((region, facility), lines) in REGIONS.iter().zip(&facilities).zip(emitted?) {
        ensure!(
            !lines.is_empty(),
            "{facility}: the simulators emitted nothing"
        );
        let there = || async {
            let crosswalk = Crosswalk::read(&mesh, facility).ok()?;
            let want = checker::expected(&lines, &crosswalk).ok()?;
            let have = checker::found(&mesh, region, crosswalk.pseudonyms())
                .await
                .ok()?;
            checker::difference(&want, &have)
                .0
                .is_empty()
                .then_some(have)
        };
        let have = wait::until("the backlog is stored", DRAIN, there).await?;
        let twice = have.values().filter(|count| **count > 1).count();
        ensure!(twice == 0, "{facility}: {twice} readings are stored twice");
        println!(
            "{facility}: {} readings through an outage of the region are stored once",
            lines.len()
        );
    }
    mesh.stop().await
}
