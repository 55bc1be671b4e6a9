//! A region, and then a facility, backed up while they run, run on and put back to the backup: new data flows, what either end
//! still has is there, what may be missing is said, and the audit logs tell of it. And a region that is lost with its backups.
use anyhow::{Context, Result, ensure};
use medmesh_tests::{binary, mesh::Mesh, steps, wait};
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
    a_doctor_finds_the_mesh_well(&mesh)?;
    super::joining::a_facility_joins_with_one_kit(&mesh).await?;
    mesh.signal(FACILITY, "STOP")?;
    let (code, seen) = status(&mesh.dir)?;
    let halted = place_of(&seen, "us-f1")?.clone();
    ensure!(code == Some(2) && halted["state"] == "down", "{seen}");
    let why = halted["error"].as_str().unwrap_or_default();
    ensure!(why.starts_with("no answer within"), "{halted}");
    mesh.signal(FACILITY, "CONT")?;
    let dir = mesh.dir.clone();
    mesh.stop().await?;
    let (code, seen) = status(&dir)?;
    ensure!(code == Some(2) && seen["state"] == "down", "{seen}");
    Ok(())
}

#[test]
fn a_region_that_lost_every_file_but_its_key_is_filled_again_by_its_facility() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(filled())
}

async fn filled() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &ARGS).await?;
    grown(&mesh, &BTreeSet::new()).await?;
    let before = everything_is_there(&mesh).await?;
    let data = mesh.folder(REGION).join("data");
    mesh.stop().await?;
    for entry in fs::read_dir(&data)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if !path.ends_with("signing.key") {
            fs::remove_file(&path)?;
        }
    }
    let mesh = Mesh::up(dir.path(), &ARGS).await?;
    let ready = Instant::now();
    let all = || async {
        let served = served(&mesh).await.ok()?;
        before.is_subset(&served).then_some(())
    };
    wait::until("the region serves what it had served", PATIENCE, all).await?;
    println!(
        "{REGION} without its files: {} readings that its facility has retained are served again {:.2?} after it was ready",
        before.len(),
        ready.elapsed()
    );
    everything_is_there(&mesh).await?;
    // What else was there nobody knows, and both ends say so.
    for node in [FACILITY, REGION] {
        ensure!(!listed(&mesh, node)?.is_empty(), "{node} lists no gap");
    }
    mesh.stop().await
}

/// `medmesh status`: its exit code, and what it says.
fn status(dir: &Path) -> Result<(Option<i32>, Value)> {
    let ran = Command::new(binary::medmesh())
        .args(["status", "--json", "--wait", "2s", "--dir"])
        .arg(dir)
        .output()?;
    let seen = serde_json::from_slice(&ran.stdout);
    Ok((ran.status.code(), seen.with_context(|| format!("{ran:?}"))?))
}

fn place_of<'a>(seen: &'a Value, name: &str) -> Result<&'a Value> {
    let mut places = seen["places"].as_array().into_iter().flatten();
    places
        .find(|place| place["name"] == name)
        .with_context(|| format!("no {name} in {seen}"))
}

/// Every node is looked at beside the running mesh, and finds the tier above and its own ports.
fn a_doctor_finds_the_mesh_well(mesh: &Mesh) -> Result<()> {
    let ran = Command::new(binary::medmesh())
        .args(["doctor", "--json", "--dir"])
        .arg(&mesh.dir)
        .output()?;
    let report: Value = serde_json::from_slice(&ran.stdout).with_context(|| format!("{ran:?}"))?;
    let findings = report["findings"].as_array().context("findings")?;
    let bad: Vec<_> = findings.iter().filter(|it| it["level"] == "bad").collect();
    ensure!(bad.is_empty(), "{bad:?}");
    for (check, says) in [
        ("above", "regional/us/us answers"),
        ("above", "global answers"),
        ("clock", "from the tier above"),
        ("ports", "the node listens"),
        ("version", "runs, as installed"),
        ("permissions", "only the node's user"),
        ("certificates", "holds for"),
    ] {
        let said = |it: &&Value| {
            let found = it["says"].as_str().unwrap_or_default();
            it["check"] == check && found.contains(says)
        };
        ensure!(
            findings.iter().any(|it| said(&it)),
            "{check} {says}: {report}"
        );
    }
    Ok(())
}

/// Takes a backup of a node beside it, lets the mesh run on, and puts the node back.
async fn put_back(mesh: Mesh, node: &str, backups: &Path) -> Result<Mesh> {
    let (dir, config) = (mesh.dir.clone(), mesh.config(node));
    let backup = backups.join(node.replace(':', "-"));
    let secret = backups.join("secret");
    storage::file::replace(&secret, b"correct horse battery", 0o600)?;
    let paths = [&backup, &config, &secret].map(|path| path.to_string_lossy().into_owned());
    let [backup, config, secret] = paths.each_ref().map(String::as_str);
    let take = ["backup", "--config", config, "--to", backup];
    let secretly = ["--passphrase-file", secret, "--json"];
    let begun = Instant::now();
    mesh.medmesh(&[&take[..], &secretly].concat())?;
    steps::took(&format!("{node}: a backup beside it"), begun.elapsed());
    let twice = mesh.medmesh(&[&take[..], &secretly].concat());
    ensure!(twice.is_err(), "nothing is written over");
    let before = everything_is_there(&mesh).await?;
    grown(&mesh, &before).await?;
    let restore = ["restore", backup, "--config", config];
    let running = mesh.medmesh(&[&restore[..], &secretly].concat());
    ensure!(running.is_err(), "nothing is put over what is there");
    let data = mesh.folder(node).join("data");
    mesh.stop().await?;
    let lost = Instant::now();
    fs::remove_dir_all(&data)?;
    let put = Command::new(binary::medmesh())
        .args(restore)
        .args(secretly)
        .output()?;
    ensure!(put.status.success(), "{put:?}");
    steps::took(&format!("{node}: its data put back"), lost.elapsed());
    if node == REGION {
        let word = fs::read_to_string(data.join("numbering"));
        ensure!(
            word.is_ok_and(|word| word.len() == 32),
            "events are numbered as they were"
        );
    }
    let mesh = Mesh::up(&dir, &ARGS).await?;
    flows(&mesh, node).await?;
    let step = format!("{node}: from the loss of its data to the first new reading served");
    steps::took(&step, lost.elapsed());
    let rows = mesh.listed(node, ["audit", "list"])?;
    let says = |row: &&Value| row["reason"] == "restored-from-backup";
    ensure!(
        rows.iter().any(|row| says(&row)),
        "the log of {node} says nothing"
    );
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
    let step = format!("{node}: from ready again to the first new reading served");
    steps::took(&step, ready.elapsed());
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
    // The region was put back itself, as a sender to the global node: a gap at both ends, if it had sent anything since.
    let above = listed(mesh, "global")?;
    let known = above.iter().all(|gap| gap["cause"] == "sender-restored");
    ensure!(above.len() <= 1 && known, "the global node lists {above:?}");
    for (node, expected) in [(FACILITY, 1), (REGION, 1 + above.len())] {
        let gaps = listed(mesh, node)?;
        ensure!(gaps.len() == expected, "{node} lists {gaps:?}");
        let restored = gaps.iter().all(|gap| gap["cause"] == "sender-restored");
        ensure!(restored, "{gaps:?}");
        let says = || async { has_gap(mesh, node).await?.then_some(()) };
        wait::until("the node says that it is degraded", PATIENCE, says).await?;
        let name = node.rsplit(':').next().unwrap_or_default();
        let shown = || async {
            let (code, seen) = status(&mesh.dir).ok()?;
            let gaps = place_of(&seen, name).ok()?["gaps"].as_u64()?;
            (code == Some(1) && gaps == expected as u64).then_some(seen)
        };
        let seen = wait::until("status shows the gaps", PATIENCE, shown).await?;
        let place = place_of(&seen, name)?;
        ensure!(place["version"].is_string(), "{place}");
        ensure!(place["link"]["up"] == true, "{place}");
        ensure!(
            place["certificate_left_seconds"].as_i64() > Some(0),
            "{place}"
        );
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
