//! A study that is cancelled while hospitals train: its region and they are told, and their workers end, long before any
//! deadline.
use super::{PATIENCE, SITES, example, facility, fl};
use anyhow::{Context, Result, ensure};
use medmesh_tests::{mesh::Mesh, wait};
use std::fs;

/// The workers of the hospitals that train now.
fn workers(mesh: &Mesh) -> Result<usize> {
    let mut found = 0;
    for at in 0..SITES.len() {
        let pid = mesh.pid(&format!("edge:{}", facility(at)))?;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let children = fs::read_to_string(thread.path().join("children"));
            for child in children.unwrap_or_default().split_whitespace() {
                let line = fs::read_to_string(format!("/proc/{child}/cmdline"));
                found += usize::from(line.is_ok_and(|line| line.contains("worker")));
            }
        }
    }
    Ok(found)
}

/// A study that would train for many minutes.
pub async fn ends(mesh: &Mesh) -> Result<()> {
    let text = fs::read_to_string(example("study.toml"))?
        .replace("name = \"heart\"", "name = \"long\"")
        .replace("kind = \"logistic\"", "kind = \"mlp\"\nhidden = [64, 64]")
        .replace("rounds = 15", "rounds = 1")
        .replace("steps = 100", "steps = 1000000")
        .replace("batch = 4", "batch = 40");
    let path = mesh.dir.join("long.toml");
    fs::write(&path, &text)?;
    let submitted = fl(mesh, &["submit", &path.to_string_lossy()])?;
    let id = submitted["study"].as_str().context("an id")?;
    let train = || async { (workers(mesh).ok()? == SITES.len()).then_some(()) };
    wait::until("all hospitals train", PATIENCE, train).await?;
    // They train for longer than a region waits before it says who takes part.
    let says = || async {
        let study = fl(mesh, &["show", id]).ok()?;
        let sites = study["waiting"]["sites"].as_object()?;
        (sites.len() == SITES.len()).then(|| study.clone())
    };
    let study = wait::until("the region says who takes part", PATIENCE, says).await?;
    let waiting = &study["waiting"];
    ensure!(
        waiting["round"] == 1 && waiting["judges"] == false && waiting["regions"][0] == "us",
        "{study}"
    );
    let cancelled = fl(mesh, &["cancel", id])?;
    ensure!(cancelled["status"] == "cancelled", "{cancelled}");
    let rest = || async { (workers(mesh).ok()? == 0).then_some(()) };
    wait::until("no hospital trains any longer", PATIENCE, rest).await
}
