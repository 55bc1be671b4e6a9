//! What an edge node costs that has little to do, and how long starts and restarts take.
use crate::{
    Bed,
    facility::Facility,
    node::resident_mib,
    report::{Aim, Figure, Report},
};
use anyhow::Result;
use medmesh_tests::{mesh::Mesh, wait};
use std::time::{Duration, Instant};

/// After the start, until memory is looked at.
const SETTLE: Duration = Duration::from_secs(8);
/// Longest wait for a node to be ready again.
const PATIENCE: Duration = Duration::from_secs(30);
/// MQTT devices of the idle facility.
const DEVICES: usize = 8;
/// Nodes that are killed once a run.
const KILLED: [&str; 3] = ["edge:eu-f1", "regional:eu", "global"];
const NOTHING: &str = "nothing is acknowledged";

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let (mut idle, mut start, mut up) = (Vec::new(), Vec::new(), Vec::new());
    let mut working = Vec::new();
    let mut again = KILLED.map(|_| Vec::new());
    for _ in 0..bed.runs {
        let facility = Facility::new(DEVICES)?;
        let began = Instant::now();
        let node = facility.start().await?;
        start.push(began.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(SETTLE).await;
        idle.push(resident_mib(node.node.pid())?);
        drop(node);
        let dir = tempfile::tempdir()?;
        let began = Instant::now();
        let mesh = Mesh::up(dir.path(), &["--facilities", "1"]).await?;
        up.push(began.elapsed().as_secs_f64());
        tokio::time::sleep(SETTLE).await;
        working.push(resident_mib(u32::try_from(mesh.pid("edge:eu-f1")?)?)?);
        for (node, took) in KILLED.iter().zip(&mut again) {
            took.push(restart(&mesh, node).await?);
        }
        mesh.stop().await?;
    }
    report.add(
        Figure::new("resident memory, idle edge", "MiB", NOTHING, idle).aim(Aim::AtMost(60.0)),
    );
    report.add(Figure::new(
        "  edge with 4 beds at 1x",
        "MiB",
        NOTHING,
        working,
    ));
    report.add(Figure::new(
        "start of an edge, empty store",
        "ms",
        NOTHING,
        start,
    ));
    report.add(Figure::new("start of `up`, 3 regions", "s", NOTHING, up).aim(Aim::AtMost(10.0)));
    for (node, took) in KILLED.iter().zip(again) {
        let what = format!("kill -9 to ready, {node}");
        report.add(Figure::new(what, "ms", NOTHING, took).aim(Aim::AtMost(1_000.0)));
    }
    Ok(())
}

/// Milliseconds from `kill -9` until another process of the node says that it is ready.
async fn restart(mesh: &Mesh, node: &str) -> Result<f64> {
    let old = mesh.pid(node)?;
    let began = Instant::now();
    mesh.signal(node, "KILL")?;
    let ready = || async {
        let changed = mesh.pid(node).ok()? != old;
        let url = mesh.metrics_url(node).ok()?.replace("/metrics", "/ready");
        let answer = mesh.https.get(&url, None).await.ok()?;
        (changed && answer.status == 200).then_some(())
    };
    wait::until("the node is ready again", PATIENCE, ready).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
