//! `medmesh up --pairs`: each region has two nodes, everybody knows both, and either goes on when the other one is killed.
use anyhow::{Context, Result, ensure};
use medmesh_tests::{binary, engine, mesh::Mesh, wait};
use serde_json::Value;
use std::process::Command;

#[test]
#[cfg_attr(
    not(asked_for_postgres),
    ignore = "MEDMESH_TEST_POSTGRES_URL is not set: cargo xtask test sets it"
)]
fn up_with_pairs_starts_two_nodes_for_a_region_and_keeps_both_running() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(two_nodes())
}

async fn two_nodes() -> Result<()> {
    let refused = Command::new(binary::medmesh())
        .args(["up", "--pairs"])
        .output()?;
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(2) && says.contains("--postgres"),
        "{says}"
    );

    let dir = tempfile::tempdir()?;
    let postgres = engine::postgres()?;
    let args = ["--pairs", "--facilities", "1", "--regions", "us"];
    let args = [&args[..], &["--postgres", &postgres]].concat();
    let mesh = Mesh::up(dir.path(), &args).await?;
    let writes = both_are_up(&mesh, None).await?;
    // Each is served at its own address, whichever of them writes.
    let token = mesh.token("fhir-reader", "us").await?;
    for node in nodes(&mesh)? {
        let fhir = node["fhir"].as_str().context("fhir")?;
        let look = || async {
            let url = format!("{fhir}/Observation?_count=1");
            let found = mesh.https.get(&url, Some(&token)).await.ok()?.json().ok()?;
            let entry = found["entry"][0]["fullUrl"].as_str()?.to_owned();
            entry.starts_with(fhir).then_some(())
        };
        wait::until("a reading is shown", wait::PATIENCE, look).await?;
    }
    let pid = nodes(&mesh)?[writes]["pid"].to_string();
    let killed = Command::new("kill").args(["-9", &pid]).status()?;
    ensure!(killed.success(), "no process {pid}");
    let other = both_are_up(&mesh, Some(&pid)).await?;
    println!("{writes} was killed, and {other} writes");
    let edge = mesh.metrics_url("edge:us-f1")?;
    let linked = || async {
        let up = mesh.metric(&edge, "medmesh_link_up").await.ok()?;
        (up > 0.0).then_some(())
    };
    wait::until("the facility has its link", wait::PATIENCE, linked).await
}

fn nodes(mesh: &Mesh) -> Result<Vec<Value>> {
    let nodes = mesh.json()?["regions"]["us"]["nodes"].as_array().cloned();
    let nodes = nodes.context("nodes")?;
    ensure!(
        nodes.len() == 2 && nodes[0]["grpc"] != nodes[1]["grpc"],
        "{nodes:?}"
    );
    Ok(nodes)
}

/// Waits until `medmesh status` finds both nodes ready, of which one waits, and no process has this id any more: which one
/// writes.
async fn both_are_up(mesh: &Mesh, gone: Option<&str>) -> Result<usize> {
    let dir = mesh.dir.to_string_lossy().into_owned();
    let look = || async {
        let all = nodes(mesh).ok()?;
        if all
            .iter()
            .any(|node| Some(&*node["pid"].to_string()) == gone)
        {
            return None;
        }
        let out = Command::new(binary::medmesh())
            .args(["status", "--json", "--dir", &dir])
            .output();
        let said: Value = serde_json::from_slice(&out.ok()?.stdout).ok()?;
        let waits = |name: &str| {
            let mut places = said["places"].as_array()?.iter();
            let place = places.find(|place| place["name"] == name)?;
            let ready = place["state"] == "ready";
            ready.then(|| place["degraded"].to_string().contains("standby"))
        };
        match (waits("us")?, waits("us (b)")?) {
            (false, true) => Some(0),
            (true, false) => Some(1),
            _ => None,
        }
    };
    wait::until("both nodes are ready", wait::PATIENCE, look).await
}
