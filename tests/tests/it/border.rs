//! A facility that dials the region of another jurisdiction is refused on both sides, and both write it down.
use anyhow::{Context, Result, ensure};
use federation::wire::Parcel;
use medmesh_tests::{
    checker::{self, Crosswalk},
    mesh::{self, Mesh},
    rogue::{self, Rogue},
    wait,
};
use serde_json::Value;
use std::fs;

const FACILITY: &str = "edge:eu-f1";

#[test]
fn a_facility_that_dials_another_jurisdiction_is_refused_on_both_sides_with_an_audit_row()
-> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(border())
}

async fn border() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &["--facilities", "1", "--speed", "20x"]).await?;
    let json = mesh.json()?;
    let us = json["regions"]["us"]["grpc"].as_str().context("grpc")?;
    let eu = json["regions"]["eu"]["grpc"].as_str().context("grpc")?;
    turn(&mesh, eu, us)?;
    the_facility_refuses(&mesh, &json).await?;
    the_region_refuses(&mesh, &json, rogue::address(us)?).await?;
    nothing_is_there(&mesh).await?;
    turn(&mesh, us, eu)?;
    everything_arrives_at_home(&mesh).await?;
    mesh.stop().await
}

/// Changes where the facility delivers to, as a mistake or an attacker on its machine would, and starts it again.
fn turn(mesh: &Mesh, from: &str, to: &str) -> Result<()> {
    let config = mesh.config(FACILITY);
    let text = fs::read_to_string(&config)?;
    ensure!(
        text.contains(from),
        "the configuration does not name {from}"
    );
    fs::write(&config, text.replace(from, to))?;
    mesh.signal(FACILITY, "KILL")
}

/// Entries of a node's audit log of a peer that was turned away.
fn turned_away(mesh: &Mesh, node: &str) -> Result<Vec<Value>> {
    let rows = mesh.listed(node, ["audit", "list"])?;
    Ok(rows
        .into_iter()
        .filter(|row| row["decision"] == "peer-denied")
        .collect())
}

async fn the_facility_refuses(mesh: &Mesh, json: &Value) -> Result<()> {
    let metrics = mesh::facility_of(json, "eu-f1")?["metrics"]
        .as_str()
        .context("metrics")?;
    let counted = || async {
        let count = mesh
            .metric(metrics, "medmesh_link_refused_peers_total")
            .await
            .ok()?;
        (count > 0.0).then_some(())
    };
    wait::until(
        "the facility refuses the other region",
        wait::PATIENCE,
        counted,
    )
    .await?;
    let ready = mesh
        .https
        .get(&metrics.replace("/metrics", "/ready"), None)
        .await?
        .json()?;
    let link = ready["degraded"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|it| it["check"] == "link");
    let reason = link.map(|link| &link["reason"]);
    ensure!(
        reason.is_some_and(|it| it == "other-jurisdiction"),
        "ready says {ready}"
    );
    ensure!(
        ready["ready"] == true,
        "the facility itself goes on: {ready}"
    );
    let written = || async { turned_away(mesh, FACILITY).ok()?.pop() };
    let row = wait::until("the facility writes it down", wait::PATIENCE, written).await?;
    ensure!(row["reason"] == "other-jurisdiction", "{row}");
    ensure!(row["from"] == "spiffe://medmesh/regional/us/us", "{row}");
    ensure!(row["to"] == "edge/eu/eu/eu-f1", "{row}");
    Ok(())
}

/// With the facility's own certificate and none of its checks.
async fn the_region_refuses(mesh: &Mesh, json: &Value, address: &str) -> Result<()> {
    ensure!(
        turned_away(mesh, "regional:us")?.is_empty(),
        "the facility itself reached the region"
    );
    let folder = mesh.folder(FACILITY);
    let rogue = Rogue::new(&folder.join("node.pem"), &folder.join("node.key"))?;
    let ended = rogue.deliver(address, Parcel::default()).await?;
    ensure!(ended.code() == tonic::Code::PermissionDenied, "{ended:?}");
    let rows = turned_away(mesh, "regional:us")?;
    ensure!(rows.len() == 1, "{rows:?}");
    ensure!(rows[0]["reason"] == "other-jurisdiction", "{}", rows[0]);
    ensure!(
        rows[0]["from"] == "spiffe://medmesh/edge/eu/eu/eu-f1",
        "{}",
        rows[0]
    );
    ensure!(rows[0]["to"] == "regional/us/us", "{}", rows[0]);
    let metrics = json["regions"]["us"]["metrics"]
        .as_str()
        .context("metrics")?;
    let count = mesh
        .metric(metrics, "medmesh_link_turned_away_total")
        .await?;
    ensure!(count >= 1.0, "turned away, and not counted");
    Ok(())
}

/// No patient and no device of the facility is known in the other region, by FHIR or in any byte of its files.
async fn nothing_is_there(mesh: &Mesh) -> Result<()> {
    let crosswalk = Crosswalk::read(mesh, "eu-f1")?;
    let found = checker::found(mesh, "us", crosswalk.pseudonyms()).await?;
    ensure!(
        found.is_empty(),
        "{} readings crossed the border",
        found.len()
    );
    let foreign: Vec<_> = crosswalk.pseudonyms().collect();
    ensure!(
        !foreign.is_empty(),
        "the facility has no patients, so nothing was tested"
    );
    for entry in fs::read_dir(mesh.folder("regional:us").join("data"))? {
        let (path, text) = (entry?.path(), |bytes: Vec<u8>| {
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let text = if path.is_file() {
            text(fs::read(&path)?)
        } else {
            continue;
        };
        let hit = foreign.iter().find(|pseudonym| text.contains(**pseudonym));
        ensure!(hit.is_none(), "{} holds {hit:?}", path.display());
    }
    Ok(())
}

/// What was taken meanwhile is not lost: it goes where it belongs.
async fn everything_arrives_at_home(mesh: &Mesh) -> Result<()> {
    let lines = checker::emitted(mesh, "eu-f1")?;
    let there = || async {
        let crosswalk = Crosswalk::read(mesh, "eu-f1").ok()?;
        let want = checker::expected(&lines, &crosswalk).ok()?;
        let have = checker::found(mesh, "eu", crosswalk.pseudonyms())
            .await
            .ok()?;
        checker::difference(&want, &have).0.is_empty().then_some(())
    };
    wait::until(
        "everything arrives in the own region",
        wait::PATIENCE,
        there,
    )
    .await
}
