//! The whole path on real ICU data, checked by a FHIR client that is not ours, and what others do with what is there.
use anyhow::Result;
use medmesh_tests::{binary, clients, mesh::Mesh, wait};
use std::{path::Path, process::Command};

#[test]
#[cfg_attr(
    not(asked_for_python),
    ignore = "MEDMESH_TEST_PYTHON is not set: cargo xtask test sets it"
)]
fn every_value_of_24_icu_stays_is_in_its_own_region_once_and_unchanged() -> Result<()> {
    let archive = binary::data().join("physionet2012/set-a.tar.gz");
    let python = std::env::var("MEDMESH_TEST_PYTHON")?;
    tokio::runtime::Runtime::new()?.block_on(replay(&archive, &python))
}

async fn replay(archive: &Path, python: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let archive = archive.to_string_lossy().into_owned();
    let args = ["--replay", &archive, "--stays", "24", "--speed", "600x"];
    let mesh = Mesh::up(dir.path(), &args).await?;
    let over = || {
        let done = facilities(&mesh).into_iter().all(|facility| {
            let folder = dir.path().join("edge").join(facility);
            folder.join("replay.done").exists()
        });
        async move { done.then_some(()) }
    };
    wait::until("the replay is over", wait::PATIENCE, over).await?;
    crate::drained(&mesh).await?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/check_replay.py");
    let checked = Command::new(python)
        .arg(script)
        .arg(dir.path())
        .arg(binary::medmesh())
        .status()?;
    assert!(checked.success(), "the checker found a difference");
    clients::flows(&mesh, "us")?;
    mesh.stop().await
}

fn facilities(mesh: &Mesh) -> Vec<String> {
    let json = mesh.json().unwrap_or_default();
    let all = json["facilities"].as_array().cloned().unwrap_or_default();
    all.iter()
        .filter_map(|facility| Some(facility["id"].as_str()?.to_owned()))
        .collect()
}
