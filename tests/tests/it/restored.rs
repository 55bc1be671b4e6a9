//! A region, and then a facility, stopped, copied, run on and put back to the copy: new data flows, what either end
//! still has is there, what may be missing is said, and the audit logs tell of it.
use anyhow::{Result, ensure};
use medmesh_tests::{binary, mesh::Mesh, wait};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// For a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);
const REGION: &str = "regional:us";
const FACILITY: &str = "edge:us-f1";
const ARGS: [&str; 4] = ["--regions", "us", "--facilities", "1"];

#[test]
fn a_region_and_a_facility_put_back_to_a_copy_have_everything_once_and_say_what_is_missing()
-> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(restored())
}

async fn restored() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let backups = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &ARGS).await?;
    grown(&mesh, &BTreeSet::new()).await?;
    let mesh = put_back(mesh, REGION, backups.path()).await?;
    everything_is_there(&mesh).await?;
    ensure!(
        listed(&mesh, FACILITY)?.is_empty(),
        "the facility has all that the region lost"
    );
    let mesh = put_back(mesh, FACILITY, backups.path()).await?;
    let before = everything_is_there(&mesh).await?;
    grown(&mesh, &before).await?;
    the_gap_stays_until_a_person_has_seen_it(&mesh).await?;
    the_logs_tell(&mesh)?;
    mesh.stop().await
}

/// Copies a node's data while nothing runs, lets the mesh run on, and puts the copy back.
async fn put_back(mesh: Mesh, node: &str, backups: &Path) -> Result<Mesh> {
    let (dir, data) = (mesh.dir.clone(), mesh.folder(node).join("data"));
    mesh.stop().await?;
    let backup = backups.join(node.replace(':', "-"));
    copy(&data, &backup)?;
    let mesh = Mesh::up(&dir, &ARGS).await?;
    let before = everything_is_there(&mesh).await?;
    grown(&mesh, &before).await?;
    mesh.stop().await?;
    fs::remove_dir_all(&data)?;
    copy(&backup, &data)?;
    let mesh = Mesh::up(&dir, &ARGS).await?;
    flows(&mesh, node).await?;
    Ok(mesh)
}

/// Waits until the region serves what was measured after every node was ready, and tells how long that took. A number,
/// not a limit: on a machine of its own it is below 5 s.
async fn flows(mesh: &Mesh, node: &str) -> Result<()> {
    let ready = Instant::now();
    let mut known = kept(mesh)?;
    known.extend(served(mesh).await?);
    let new = || async {
        let served = served(mesh).await.ok()?;
        (!served.is_subset(&known)).then_some(())
    };
    wait::until("what is new is served", PATIENCE, new).await?;
    let took = ready.elapsed();
    println!("{node} put back: from ready to the first new reading {took:.2?}");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        if path.is_dir() {
            copy(&path, &to.join(entry))?;
        } else {
            fs::copy(&path, to.join(entry))?;
        }
    }
    Ok(())
}

/// Ids of the facility's readings that the region serves.
async fn served(mesh: &Mesh) -> Result<BTreeSet<String>> {
    let found = mesh.search("us", "Observation?_count=1000").await?;
    let ids: Vec<_> = found
        .iter()
        .filter_map(|it| it["id"].as_str().map(str::to_owned))
        .collect();
    let once: BTreeSet<_> = ids.iter().cloned().collect();
    ensure!(once.len() == ids.len(), "an id is served twice");
    Ok(once)
}

/// Waits until something is served that was not.
async fn grown(mesh: &Mesh, before: &BTreeSet<String>) -> Result<()> {
    let more = || async {
        let now = served(mesh).await.ok()?;
        (now.difference(before).count() > 20).then_some(())
    };
    wait::until("new readings are served", PATIENCE, more).await
}

/// Ids of the readings that the facility keeps.
fn kept(mesh: &Mesh) -> Result<BTreeSet<String>> {
    let kept = mesh.listed(FACILITY, ["edge", "readings"])?;
    let uids = kept.iter().filter_map(|row| row["uid"].as_str());
    Ok(uids.map(str::to_owned).collect())
}

/// Waits until the region serves every reading that the facility keeps.
async fn everything_is_there(mesh: &Mesh) -> Result<BTreeSet<String>> {
    let kept = kept(mesh)?;
    ensure!(
        !kept.is_empty(),
        "the facility keeps nothing, so nothing was tested"
    );
    let all = || async {
        let served = served(mesh).await.ok()?;
        kept.is_subset(&served).then_some(served)
    };
    wait::until("the region serves what the facility keeps", PATIENCE, all).await
}

/// Gaps that nobody has acknowledged.
fn listed(mesh: &Mesh, node: &str) -> Result<Vec<Value>> {
    mesh.listed(node, ["audit", "gaps"])
}

/// Whether a node says that it is degraded by a gap.
async fn has_gap(mesh: &Mesh, node: &str) -> Option<bool> {
    let url = mesh.metrics_url(node).ok()?.replace("/metrics", "/ready");
    let ready = mesh.https.get(&url, None).await.ok()?.json().ok()?;
    Some(
        ready["degraded"]
            .as_array()?
            .iter()
            .any(|it| it["check"] == "gap"),
    )
}

async fn the_gap_stays_until_a_person_has_seen_it(mesh: &Mesh) -> Result<()> {
    // The region was put back itself, as a sender to the global node.
    for (node, expected) in [(FACILITY, 1), (REGION, 2)] {
        let gaps = listed(mesh, node)?;
        ensure!(gaps.len() == expected, "{node} lists {gaps:?}");
        let restored = gaps.iter().all(|gap| gap["cause"] == "sender-restored");
        ensure!(restored, "{gaps:?}");
        let says = || async { has_gap(mesh, node).await?.then_some(()) };
        wait::until("the node says that it is degraded", PATIENCE, says).await?;
        let done = mesh.listed(node, ["audit", "acknowledge"])?;
        ensure!(done[0]["gaps"] == expected, "{done:?}");
        let silent = || async { (!has_gap(mesh, node).await?).then_some(()) };
        wait::until("the node is no longer degraded", PATIENCE, silent).await?;
    }
    Ok(())
}

/// Both put back and acknowledged, the logs are whole again, also against what the others hold; a head from before the
/// restore still proves what was done.
fn the_logs_tell(mesh: &Mesh) -> Result<()> {
    let config = mesh.config(FACILITY);
    let rows = mesh.listed(FACILITY, ["audit", "list"])?;
    for decision in [
        "started",
        "put-back",
        "stream-begun",
        "gap-declared",
        "gap-acknowledged",
        "crosswalk-read",
    ] {
        ensure!(
            rows.iter().any(|row| row["decision"] == decision),
            "no {decision} among {} rows",
            rows.len()
        );
    }
    mesh.medmesh(&[
        "audit",
        "verify",
        "--config",
        &config.to_string_lossy(),
        "--json",
    ])?;
    let aside = mesh
        .folder(FACILITY)
        .join("data")
        .join("audit-heads.set-aside.txt");
    let verify = Command::new(binary::medmesh())
        .args(["audit", "verify", "--config"])
        .arg(&config)
        .arg("--head")
        .arg(&aside)
        .output()?;
    ensure!(
        verify.status.code() == Some(1),
        "a head from before the restore: {verify:?}"
    );
    for node in [FACILITY, REGION, "global"] {
        a_log_without_its_heads_is_not_believed(mesh, node)?;
    }
    Ok(())
}

fn a_log_without_its_heads_is_not_believed(mesh: &Mesh, node: &str) -> Result<()> {
    let file = mesh.folder(node).join("data").join("audit-heads.txt");
    let away = file.with_extension("away");
    std::fs::rename(&file, &away)?;
    let verify = Command::new(binary::medmesh())
        .args(["audit", "verify", "--config"])
        .arg(mesh.config(node))
        .output()?;
    let said = String::from_utf8_lossy(&verify.stderr);
    ensure!(
        verify.status.code() == Some(1) && said.contains("no signed head is beside the log"),
        "{node}: {verify:?}"
    );
    Ok(std::fs::rename(&away, &file)?)
}
