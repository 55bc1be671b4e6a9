//! The regional node is gone for a week of mesh time, ten beds with seven signals a minute: the facility goes on, and
//! afterwards the region has everything once, the alarms first, while live readings overtake the backlog.
//!
//! Nothing here asserts a time: what must be first is compared by the order of the region's commits, and how fast the
//! backlog goes by counting how much of it is stored while a known number of live readings is. Times are printed.
pub mod compare;
mod live;

use anyhow::{Context, Result, ensure};
use compare::Arrivals;
use live::Live;
use medmesh_tests::{
    checker,
    mesh::{self, Mesh},
    mqtt::Device,
    wait,
};
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};
use types::Timestamp;

/// A week is two minutes; the facility stores some 5,800 readings a second.
const SPEED: f64 = 5_000.0;
/// Seconds of a week.
const WEEK_S: f64 = 604_800.0;
/// Minutes that monitors measure: a week, and a tenth more that passes while the mesh starts.
const MINUTES: usize = 11_088;
/// Readings that are emitted in the outage at least: 0.7 million, and less when the mesh took long to start.
const FEWEST: u64 = 500_000;
/// Alarms that the external device raises in the outage: more than may be under way at once.
const ALARMS: u64 = 300;
/// With fewer live parcels that wait, samples are live: half of what the edge allows.
const LIVE_PARCELS: f64 = 128.0;
/// How many times as fast as live the backlog goes at least.
const TIMES_LIVE: u64 = 20;
/// Readings of monitors that a live one lets pass at most: three times what may be under way (512 KiB of some 64
/// bytes each), as the edge may have sent the next before it sees the live one.
const LET_PASS: usize = 3 * 8_192;
const FACILITY: &str = "us-f1";
const REGION: &str = "us";

#[test]
fn after_a_week_without_the_region_it_has_everything_once_alarms_first_and_live_overtakes()
-> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(week())
}

async fn week() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = start(dir.path()).await?;
    mesh.signal("regional:us", "STOP")?;
    let gone = Instant::now();
    let outage = outage(&mesh, gone).await?;
    println!(
        "{:.0} s are {:.2} weeks of mesh time: {} readings emitted, {} parcels wait, {} MiB on disk",
        gone.elapsed().as_secs_f64(),
        gone.elapsed().as_secs_f64() * SPEED / WEEK_S,
        outage.emitted,
        crate::waiting(&mesh).await.unwrap_or_default(),
        disk_bytes(&mesh)? >> 20,
    );
    ensure!(outage.emitted >= FEWEST, "{} readings only", outage.emitted);
    ensure!(disk_bytes(&mesh)? < policy_bytes(&mesh)?);

    mesh.signal("regional:us", "CONT")?;
    let back = Instant::now();
    let live = drain(&mesh).await?;
    println!(
        "drained {:.1} s after the return",
        back.elapsed().as_secs_f64()
    );
    let arrivals = compare::all(&mesh, outage.cut, &live).await?;
    check_order(&arrivals)?;
    check_rate(&arrivals)?;
    mesh.stop().await
}

/// One facility of ten beds. Its monitors replay a week of made-up registers and then fall silent.
async fn start(dir: &Path) -> Result<Mesh> {
    let csv = dir.join("week.csv");
    fs::write(&csv, registers(MINUTES)?)?;
    let (csv, speed) = (csv.to_string_lossy(), format!("{SPEED}x"));
    let args = ["--regions", REGION, "--facilities", "1", "--beds", "10"];
    let replay = ["--replay", &csv, "--speed", &speed];
    Mesh::up(&dir.join("mesh"), &[&args[..], &replay[..]].concat()).await
}

/// Seven signals a minute; a cuff is not worn. One value in 701 is missing: a lead is off.
pub fn registers(minutes: usize) -> Result<String> {
    let mut text = String::from(
        "HR_raw,PULSE_raw,RESP_raw,SpO2_raw,ABPSys_raw,ABPDias_raw,ABPMean_raw,NBPSys_raw,NBPDias_raw,NBPMean_raw\n",
    );
    for minute in 0..minutes {
        for signal in 0..7 {
            match (minute * (7 + signal) + 31 * signal) % 701 {
                0 => text.push_str("-32768,"),
                value => write!(text, "{},", 300 + value)?,
            }
        }
        text.push_str(",,\n");
    }
    Ok(text)
}

/// What happened while the region was gone.
struct Outage {
    /// What was measured after this instant of mesh time is backlog for certain.
    cut: Timestamp,
    /// Readings that monitors emitted after it.
    emitted: u64,
}

/// The facility goes on: it acknowledges, stores, raises alarms and tells its own people.
async fn outage(mesh: &Mesh, gone: Instant) -> Result<Outage> {
    let json = mesh.json()?;
    let metrics = metrics_url(&json)?;
    let down = || async {
        let up = mesh.metric(&metrics, "medmesh_link_up").await.ok()?;
        (up == 0.0).then_some(())
    };
    wait::until("the link is down", wait::PATIENCE, down).await?;
    let (cut, before) = emitted_so_far(mesh)?;
    let mut external = Device::external(&json, FACILITY).await?;
    external
        .publish(&live::message(mesh, 1, live::PATIENT)?)
        .await?;
    for seq in 1..=ALARMS {
        let alarm = live::message(mesh, 1_000_000 + seq, "week-alarm")?;
        external.publish_on("alarm", &alarm).await?;
    }
    // It says no more: the facility's own people hear that its value went stale, though no region is there.
    external.subscribe("alarm").await?;
    while external.hear().await?["state"] != "raised" {}
    let done = mesh.dir.join("edge").join(FACILITY).join("replay.done");
    let over = || async {
        let passed = gone.elapsed().as_secs_f64() * SPEED >= WEEK_S;
        (passed && done.exists()).then_some(())
    };
    wait::until(
        "the week is over and every sample stored",
        wait::PATIENCE,
        over,
    )
    .await?;
    let emitted = emitted_so_far(mesh)?.1 - before;
    Ok(Outage { cut, emitted })
}

fn metrics_url(json: &Value) -> Result<String> {
    let url = mesh::facility_of(json, FACILITY)?["metrics"].as_str();
    Ok(url.context("metrics")?.to_owned())
}

/// The latest time that a monitor emitted, and how many readings were.
fn emitted_so_far(mesh: &Mesh) -> Result<(Timestamp, u64)> {
    let (mut latest, mut count) = (Timestamp(0), 0);
    checker::each_emitted(mesh, FACILITY, |line| {
        latest = latest.max(line["time"].as_str().unwrap_or_default().parse()?);
        count += 1;
        Ok(())
    })?;
    Ok((latest, count))
}

fn disk_bytes(mesh: &Mesh) -> Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(mesh.dir.join("edge").join(FACILITY).join("data"))? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}

/// The bound of the store in the facility's own configuration.
fn policy_bytes(mesh: &Mesh) -> Result<u64> {
    let file = mesh.dir.join("edge").join(FACILITY).join("edge.toml");
    let config: toml::Table = fs::read_to_string(file)?.parse()?;
    let size = config["store"]["max_size"].as_str().context("max_size")?;
    let size: node::quantity::Size = size.parse().ok().context("max_size")?;
    Ok(size.0)
}

/// Publishes live readings until nothing of the backlog waits.
async fn drain(mesh: &Mesh) -> Result<Vec<Live>> {
    let metrics = metrics_url(&mesh.json()?)?;
    let up = || async {
        let up = mesh.metric(&metrics, "medmesh_link_up").await.ok()?;
        // What piled up as live before the link was known to hang goes first; until then the rest is backlog.
        let live = ["priority=\"live\""];
        let parcels = mesh.metric_where(&metrics, "medmesh_outbox_parcels", &live);
        (up == 1.0 && parcels.await.ok()? < LIVE_PARCELS).then_some(())
    };
    wait::until("the link is up", wait::PATIENCE, up).await?;
    let over = AtomicBool::new(false);
    let drained = async {
        let backlog = ["priority=\"backlog\""];
        let empty = || async {
            let parcels = mesh.metric_where(&metrics, "medmesh_outbox_parcels", &backlog);
            let left = parcels.await.ok()?;
            (left == 0.0).then_some(())
        };
        let drained = wait::until("the backlog is stored", wait::PATIENCE, empty).await;
        over.store(true, Ordering::Relaxed);
        drained
    };
    let (live, ()) = tokio::try_join!(live::publish(mesh, &over), drained)?;
    crate::drained(mesh).await?;
    Ok(live)
}

/// Alarms before everything else of the outage; a live reading after no more of the backlog than was under way.
fn check_order(arrivals: &Arrivals) -> Result<()> {
    let (alarm, backlog) = (arrivals.last_alarm, arrivals.first_backlog);
    println!("the last alarm is commit {alarm}, the first reading of the backlog {backlog}");
    ensure!(alarm < backlog, "backlog was stored before an alarm");
    let passed: Vec<usize> = arrivals.live.iter().map(|live| live.let_pass).collect();
    let most = passed.iter().max().copied().unwrap_or_default();
    println!(
        "{} live readings let at most {most} others pass",
        passed.len()
    );
    ensure!(
        most <= LET_PASS,
        "a live reading waited for {most} readings"
    );
    Ok(())
}

/// The live rate of ten beds is 70 readings a minute: 1.17/s by a mesh clock that is the real one. At the speed of this
/// test they would be 5,833/s, which no link drains twenty times; nor does it have to, since a facility's clock is real.
/// The monitors are silent by then, and one live reading comes about every 100 ms, some 8 times the real live rate; the
/// backlog must be 20 times as fast as even those, counted between the first and the last of them.
fn check_rate(arrivals: &Arrivals) -> Result<()> {
    let (live, backlog) = (arrivals.live.len() as u64, arrivals.backlog_beside_live);
    println!("beside {live} live readings {backlog} of the backlog were stored");
    ensure!(live > 0 && backlog >= TIMES_LIVE * live);
    Ok(())
}
