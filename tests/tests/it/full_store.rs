//! The region is gone and the facility's disk bound is small: the edge stops acknowledging, keeps its reserve for
//! alarms, drops nothing that has no receipt, and goes on when the region has taken what waited.
use crate::week::compare;
use anyhow::{Context, Result, ensure};
use medmesh_tests::{
    checker::Crosswalk,
    mesh::{self, Mesh},
    mqtt::Device,
    region_file::RegionFile,
    wait,
};
use serde_json::{Value, json};
use std::{collections::HashMap, fs, time::Duration};

/// Some three hours of mesh time in a real second.
const SPEED: &str = "10000x";
/// Minutes that the two monitors measure: 35,000 readings, more than fits beside what is published.
const MINUTES: usize = 2_500;
/// The store's bound and what is kept free for alarms, as an operator would write it, and in bytes.
const BOUND: [(&str, &str); 3] = [
    ("max_size", "6MiB"),
    ("alarm_reserve", "2MiB"),
    ("retention", "1h"),
];
const BOUND_BYTES: f64 = (8 << 20) as f64;
/// The log beside the database: it is written into it at 16 MiB, and one commit may be on top.
const LOG_BYTES: u64 = 32 << 20;
/// Readings in one message: as many as there may be.
const READINGS: u64 = 256;
/// Messages that would be ten times the bound.
const MAX_MESSAGES: u64 = 2_000;
/// The number of the alarm.
const ALARM: u64 = MAX_MESSAGES + 1;
const FACILITY: &str = "us-f1";

#[test]
fn a_full_store_takes_alarms_only_drops_nothing_and_goes_on_after_the_drain() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(full())
}

async fn full() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = start(dir.path()).await?;
    let json = mesh.json()?;
    let metrics = mesh::facility_of(&json, FACILITY)?["metrics"].as_str();
    let metrics = metrics.context("metrics")?;
    let mut external = Device::external(&json, FACILITY).await?;
    // A message that is offered again is the same to the letter.
    let time = mesh.time()?;
    let acknowledged = fill(&mut external, &time, 0).await?;
    ensure!(
        acknowledged > 0,
        "nothing was acknowledged, so nothing was tested"
    );
    external.publish_on("alarm", &message(&time, ALARM)).await?;
    // What the region had taken before may be deleted meanwhile and make a little room; it is used up again.
    let acknowledged = fill(&mut external, &time, acknowledged).await?;
    println!("{acknowledged} messages are acknowledged until the store is full");
    let used = mesh.metric(metrics, "medmesh_store_bytes").await?;
    ensure!(used <= BOUND_BYTES, "{used} bytes are in use");
    let database = mesh.dir.join("edge").join(FACILITY).join("data/store.db");
    let files =
        fs::metadata(&database)?.len() + fs::metadata(database.with_extension("db-wal"))?.len();
    ensure!(files <= LOG_BYTES + (8 << 20), "{files} bytes on disk");

    mesh.signal("regional:us", "CONT")?;
    // What was refused is offered again, as a device does.
    while external
        .publish(&message(&time, acknowledged + 1))
        .await
        .is_err()
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let done = mesh.dir.join("edge").join(FACILITY).join("replay.done");
    let over = || async { done.exists().then_some(()) };
    wait::until(
        "the monitors gave everything they held back",
        wait::PATIENCE,
        over,
    )
    .await?;
    crate::drained(&mesh).await?;
    let sent: Vec<u64> = (1..=acknowledged + 1).chain([ALARM]).collect();
    once(&mesh, &sent)?;
    compare::monitors(&mesh, 2)?;
    mesh.stop().await
}

/// A facility whose region is gone and whose operator wrote a small bound into its configuration.
async fn start(dir: &std::path::Path) -> Result<Mesh> {
    let csv = dir.join("days.csv");
    fs::write(&csv, crate::week::registers(MINUTES)?)?;
    let csv = csv.to_string_lossy();
    let args = ["--regions", "us", "--facilities", "1", "--beds", "2"];
    let replay = ["--replay", &csv, "--speed", SPEED];
    let mesh = Mesh::up(&dir.join("mesh"), &[&args[..], &replay[..]].concat()).await?;
    mesh.signal("regional:us", "STOP")?;
    let file = mesh.dir.join("edge").join(FACILITY).join("edge.toml");
    let mut config: toml::Table = fs::read_to_string(&file)?.parse()?;
    for (key, value) in BOUND {
        config["store"][key] = value.into();
    }
    fs::write(&file, config.to_string())?;
    let before = mesh.pid("edge:us-f1")?;
    mesh.signal("edge:us-f1", "KILL")?;
    let again = || async {
        let json = mesh.json().ok()?;
        let metrics = mesh::facility_of(&json, FACILITY).ok()?["metrics"].as_str()?;
        let used = mesh.metric(metrics, "medmesh_store_bytes").await.ok()?;
        (mesh.pid("edge:us-f1").ok()? != before && used > 0.0).then_some(())
    };
    wait::until("the edge runs again", wait::PATIENCE, again).await?;
    Ok(mesh)
}

fn value(seq: u64, index: u64) -> String {
    format!("{seq}.{index:03}")
}

fn message(time: &str, seq: u64) -> Value {
    let reading = |index| json!({"code": "2951-2", "value": value(seq, index), "unit": "mmol/L"});
    json!({
        "epoch": 1, "seq": seq, "time": time, "patient": "full",
        "readings": (0..READINGS).map(reading).collect::<Vec<_>>(),
    })
}

/// Publishes what comes after a number until a message is refused; gives the last that was acknowledged.
async fn fill(external: &mut Device, time: &str, last: u64) -> Result<u64> {
    for seq in last + 1..ALARM {
        if external.publish(&message(time, seq)).await.is_err() {
            return Ok(seq - 1);
        }
    }
    anyhow::bail!("the store is never full")
}

/// Every acknowledged reading is in the region once. One that was refused and never offered again may be nowhere.
fn once(mesh: &Mesh, sent: &[u64]) -> Result<()> {
    let crosswalk = Crosswalk::read(mesh, FACILITY)?;
    let patient = crosswalk.patient("full").context("no patient")?;
    let mut found: HashMap<String, usize> = HashMap::new();
    RegionFile::open(mesh, "us")?.each(|one| {
        if one.patient == patient {
            let value = one.resource["valueQuantity"]["value"].to_string();
            *found.entry(value).or_default() += 1;
        }
        Ok(())
    })?;
    for seq in sent {
        for index in 0..READINGS {
            let value = value(*seq, index);
            let times = found.get(&value).copied().unwrap_or_default();
            ensure!(times == 1, "{value} is stored {times} times");
        }
    }
    println!(
        "{} acknowledged messages of {READINGS} readings are stored once",
        sent.len()
    );
    Ok(())
}
