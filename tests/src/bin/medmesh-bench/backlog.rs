//! How fast a backlog drains once its region is back, beside the rate at which the facility's own devices emit.
use crate::{
    Bed,
    path::connect,
    report::{Aim, Figure, Report},
};
use ::node::clock::Clock;
use anyhow::{Context, Result, ensure};
use medmesh_tests::{
    mesh::{self, Mesh},
    wait,
};
use serde_json::json;
use std::time::{Duration, Instant};

/// Readings of the backlog: what ten beds with seven signals a minute emit in a day.
const BACKLOG: u64 = 100_800;
/// Readings of one message: a monitor's signals.
const POINTS: u64 = 7;
/// Messages that wait for their acknowledgement.
const WINDOW: u64 = 512;
/// How long the live rate is counted.
const LIVE: Duration = Duration::from_secs(5);
/// Longest wait for the link to be given up, and for the backlog to drain.
const PATIENCE: Duration = Duration::from_secs(180);
const REGION: &str = "regional:eu";
const FACILITY: &str = "eu-f1";
const DURABILITY: &str =
    "fsync of region ledger and FHIR store before each receipt, of edge store after it";

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let (mut live, mut drained) = (Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        let (rate, drain) = drain().await?;
        live.push(rate);
        drained.push(drain);
    }
    report.add(
        Figure::new("backlog replay", "readings/s", DURABILITY, drained)
            .beside("live rate of 4 beds", &live)
            .aim(Aim::RatioAtLeast(20.0)),
    );
    Ok(())
}

/// Readings a second that the facility emits, and that its backlog drains at.
async fn drain() -> Result<(f64, f64)> {
    let dir = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &["--facilities", "1"]).await?;
    let json = mesh.json()?;
    let edge = mesh::facility_of(&json, FACILITY)?["metrics"]
        .as_str()
        .context("metrics")?
        .to_owned();
    let stored = async |name: &'static str| mesh.metric(&edge, name).await;
    let (before, began) = (
        stored("medmesh_readings_stored_total").await?,
        Instant::now(),
    );
    tokio::time::sleep(LIVE).await;
    let emitted = stored("medmesh_readings_stored_total").await? - before;
    let live = emitted / began.elapsed().as_secs_f64();
    ensure!(live > 0.0, "the facility emits nothing");

    mesh.signal(REGION, "STOP")?;
    let gone = || async { (stored("medmesh_link_up").await.ok()? < 0.5).then_some(()) };
    wait::until("the link is given up", PATIENCE, gone).await?;
    pile_up(&json).await?;
    mesh.signal(REGION, "CONT")?;
    let waiting = || async { stored("medmesh_outbox_parcels").await.ok() };
    let back = || async { (stored("medmesh_link_up").await.ok()? > 0.5).then_some(()) };
    wait::until("the link is back", PATIENCE, back).await?;
    let began = Instant::now();
    let drained = || async { (waiting().await? < 3.0).then_some(()) };
    wait::until("the backlog drains", PATIENCE, drained).await?;
    #[expect(clippy::cast_precision_loss, reason = "a count of readings")]
    let rate = BACKLOG as f64 / began.elapsed().as_secs_f64();
    mesh.stop().await?;
    Ok((live, rate))
}

async fn pile_up(json: &serde_json::Value) -> Result<()> {
    let mut client = connect(json).await?;
    for _ in 0..BACKLOG / POINTS {
        client.queue(message)?;
        if client.waiting() >= WINDOW {
            client.flush().await?;
            client.settle().await?;
        }
    }
    client.flush().await?;
    client.settle().await
}

fn message(seq: u64) -> String {
    let reading =
        json!({"code": "2951-2", "value": format!("{}.5", seq % 1_000), "unit": "mmol/L"});
    let readings = vec![reading; usize::try_from(POINTS).unwrap_or(1)];
    let time = Clock::new(None).real().to_rfc3339();
    json!({"epoch": 1, "seq": seq + 1, "time": time, "patient": "bench-backlog", "readings": readings})
        .to_string()
}
