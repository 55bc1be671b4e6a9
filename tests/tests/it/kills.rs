//! kill -9 of every kind of node while readings flow: lost 0, applied twice 0, order kept.
use anyhow::{Result, ensure};
use medmesh_tests::{
    checker::{self, Crosswalk, Rows},
    mesh::{self, Mesh},
    mqtt::Device,
    order, wait,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Kills in one test run; `cargo xtask bench` has more.
const KILLS: usize = 40;
/// Between two kills: long enough to come back and carry readings, short enough to hit start-up too.
const BETWEEN_MS: std::ops::Range<u64> = 150..1_200;
const SEED: u64 = 20_261_122;

#[test]
fn nothing_acknowledged_is_lost_applied_twice_or_out_of_order_through_forty_kills() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(survive(KILLS))
}

async fn survive(kills: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = Arc::new(Mesh::up(dir.path(), &["--facilities", "1", "--speed", "20x"]).await?);
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = ["us-f1", "eu-f1", "apac-f1"]
        .map(|facility| tokio::spawn(publish(mesh.clone(), facility, stop.clone())))
        .into_iter()
        .collect();
    kill_at_random(&mesh, kills).await?;
    stop.store(true, Ordering::Relaxed);
    for publisher in publishers {
        let (facility, acknowledged) = publisher.await??;
        compare(&mesh, facility, &acknowledged).await?;
    }
    Ok(())
}

async fn kill_at_random(mesh: &Mesh, kills: usize) -> Result<()> {
    let nodes = [
        "edge:us-f1",
        "edge:eu-f1",
        "edge:apac-f1",
        "regional:us",
        "regional:eu",
        "regional:apac",
        "global",
    ];
    let mut random = StdRng::seed_from_u64(SEED);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(BETWEEN_MS))).await;
        mesh.signal(nodes[random.random_range(0..nodes.len())], "KILL")?;
    }
    Ok(())
}

/// Publishes one reading after another as the facility's external device and repeats each until it is acknowledged.
/// Gives what was acknowledged, in order.
async fn publish(
    mesh: Arc<Mesh>,
    facility: &'static str,
    stop: Arc<AtomicBool>,
) -> Result<(&'static str, Vec<Value>)> {
    let mut acknowledged = Vec::new();
    let mut device: Option<Device> = None;
    let json = mesh.json()?;
    let place = mesh::facility_of(&json, facility)?;
    let all = place["devices"].as_array().cloned().unwrap_or_default();
    let external = all
        .into_iter()
        .find(|device| device["kind"] == "external")
        .unwrap_or_default();
    while !stop.load(Ordering::Relaxed) {
        let Some(connected) = &mut device else {
            device = Device::connect(&json, place, &external).await.ok();
            continue;
        };
        let seq = acknowledged.len() + 1;
        let message = json!({
            "epoch": 1, "seq": seq, "time": "2026-11-22T10:00:00Z", "patient": format!("kill-{facility}"),
            "readings": [{"code": "2951-2", "value": format!("{seq}.50"), "unit": "mmol/L"}],
        });
        match connected.publish(&message).await {
            Ok(()) => acknowledged.push(message),
            Err(_) => device = None,
        }
    }
    Ok((facility, acknowledged))
}

async fn compare(mesh: &Mesh, facility: &str, acknowledged: &[Value]) -> Result<()> {
    ensure!(
        !acknowledged.is_empty(),
        "{facility}: nothing was acknowledged, so nothing was tested"
    );
    let region = facility.trim_end_matches("-f1");
    let emitted = checker::emitted(mesh, facility)?;
    ensure!(
        !emitted.is_empty(),
        "{facility}: the simulators emitted nothing"
    );
    let all_there = || async {
        let crosswalk = Crosswalk::read(mesh, facility).ok()?;
        let want = checker::expected(&emitted, &crosswalk).ok()?;
        let have = checker::found(mesh, region, crosswalk.pseudonyms())
            .await
            .ok()?;
        let (lost, _) = checker::difference(&want, &have);
        lost.is_empty().then_some((crosswalk, have))
    };
    let (crosswalk, have) = wait::until(
        "every emitted reading is stored",
        Duration::from_secs(120),
        all_there,
    )
    .await?;
    let twice: Vec<_> = have.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(twice.is_empty(), "{facility}: applied twice: {twice:?}");
    let patient = crosswalk
        .patient(&format!("kill-{facility}"))
        .unwrap_or_default();
    let all_there = || async {
        let one = std::iter::once(patient);
        let stored = checker::found(mesh, region, one).await.ok()?;
        let lost = acknowledged
            .iter()
            .any(|message| times(&stored, message) == 0);
        (!lost).then_some(stored)
    };
    let what = "everything acknowledged is stored";
    let stored = wait::until(what, Duration::from_secs(60), all_there).await?;
    for message in acknowledged {
        let times = times(&stored, message);
        ensure!(times == 1, "{facility}: stored {times} times: {message}");
    }
    let (ordered, lanes) = order::check(mesh, facility, "external-1", acknowledged)?;
    println!(
        "{facility}: {} acknowledged and {} emitted readings are stored once, {ordered} in order in {lanes} lanes",
        acknowledged.len(),
        emitted.len()
    );
    Ok(())
}

/// How often the reading of a message is stored.
fn times(stored: &Rows, message: &Value) -> usize {
    let value = message["readings"][0]["value"].as_str().unwrap_or_default();
    let value = format!("{value} mmol/L");
    let same = stored.iter().filter(|(row, _)| row.value == value);
    same.map(|(_, count)| count).sum()
}
