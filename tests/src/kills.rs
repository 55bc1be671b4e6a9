//! kill -9 of every kind of node while readings flow up and commands go down: lost 0, applied twice 0, order kept. The test kills some dozens
//! of times, the benchmark some hundreds.
use crate::{
    checker::{self, Crosswalk, Rows},
    commands,
    mesh::{self, Mesh},
    mqtt::Device,
    order, wait,
};
use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Between two kills: long enough to come back and carry readings, short enough to hit start-up too.
const BETWEEN_MS: std::ops::Range<u64> = 150..1_200;
/// Between two messages of a device, so that hundreds of kills leave no more than can be compared.
const PUBLISH_EVERY: Duration = Duration::from_millis(5);
const SEED: u64 = 20_261_122;

/// What was compared after the last kill.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survived {
    /// Readings that MQTT devices had acknowledged.
    pub acknowledged: usize,
    /// Readings that the simulated devices had emitted.
    pub emitted: usize,
}

/// What is killed, how often, beside how much.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// Regions, each with one facility.
    pub regions: &'a [&'static str],
    /// Kills of nodes and engines together.
    pub kills: usize,
    /// How fast the mesh's clock runs, such as `5x`.
    pub speed: &'a str,
    /// More arguments of `up`.
    pub args: &'a [&'a str],
    /// Kills an engine of the mesh; whether it did. Drawn as often as each node is.
    pub engines: &'a [fn(&Mesh) -> bool],
    /// What else is asked of the mesh after the last kill.
    pub then: fn(&Mesh) -> Result<()>,
}

/// Kills processes of a mesh at random moments, so many times, and compares afterwards. In stores of files the order is
/// compared too.
///
/// # Errors
/// Something was lost, is there twice, or in another order.
pub async fn survive(trial: Trial<'_>) -> Result<Survived> {
    let dir = tempfile::tempdir()?;
    let regions = trial.regions.join(",");
    let args = [
        "--facilities",
        "1",
        "--speed",
        trial.speed,
        "--regions",
        &regions,
    ];
    let mesh = Mesh::up(dir.path(), &[&args[..], trial.args].concat()).await?;
    let mesh = Arc::new(mesh);
    let stop = Arc::new(AtomicBool::new(false));
    let facility = |region: &&str| format!("{region}-f1");
    let publishers: Vec<_> = trial
        .regions
        .iter()
        .map(|region| tokio::spawn(publish(mesh.clone(), facility(region), stop.clone())))
        .collect();
    let give = |region: &&str| commands::give(mesh.clone(), (*region).to_owned(), stop.clone());
    let giving: Vec<_> = trial
        .regions
        .iter()
        .map(|of| tokio::spawn(give(of)))
        .collect();
    kill_at_random(&mesh, trial).await?;
    stop.store(true, Ordering::Relaxed);
    for given in giving {
        given.await??.check(&mesh).await?;
    }
    let mut survived = Survived::default();
    for publisher in publishers {
        let (facility, acknowledged) = publisher.await??;
        survived.emitted += compare(&mesh, &facility, &acknowledged).await?;
        if trial.args.is_empty() {
            let (ordered, lanes) = order::check(&mesh, &facility, "external-1", &acknowledged)?;
            println!("{facility}: {ordered} in order in {lanes} lanes");
        }
        survived.acknowledged += acknowledged.len();
    }
    cataloged(&mesh).await?;
    (trial.then)(&mesh)?;
    Ok(survived)
}

/// Every device of every facility is in the global catalog, once.
async fn cataloged(mesh: &Mesh) -> Result<()> {
    let json = mesh.json()?;
    let facilities = json["facilities"].as_array().cloned().unwrap_or_default();
    let devices = facilities
        .iter()
        .filter_map(|one| one["devices"].as_array());
    let wanted: usize = devices.map(Vec::len).sum();
    let api = json["global"]["api"].as_str().unwrap_or_default();
    let url = format!("{api}/devices?limit=100");
    let all_there = || async {
        let token = mesh.token("operator", "global").await.ok()?;
        let page = mesh.https.get(&url, Some(&token)).await.ok()?.json().ok()?;
        let found = page["items"].as_array()?.len();
        (found >= wanted).then_some(found)
    };
    let found = wait::until("every device is cataloged", wait::PATIENCE, all_there).await?;
    ensure!(
        found == wanted,
        "{found} devices in the catalog, {wanted} in the mesh"
    );
    Ok(())
}

async fn kill_at_random(mesh: &Mesh, trial: Trial<'_>) -> Result<()> {
    let of = |region: &&str| [format!("edge:{region}-f1"), format!("regional:{region}")];
    let mut nodes: Vec<String> = trial.regions.iter().flat_map(of).collect();
    nodes.push("global".to_owned());
    let mut random = StdRng::seed_from_u64(SEED);
    let mut done = 0;
    while done < trial.kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(BETWEEN_MS))).await;
        // A node that is being restarted has no process to kill: that is not a kill.
        let drawn = random.random_range(0..nodes.len() + trial.engines.len());
        done += usize::from(match nodes.get(drawn) {
            Some(node) => mesh.signal(node, "KILL").is_ok(),
            None => trial.engines[drawn - nodes.len()](mesh),
        });
    }
    Ok(())
}

/// Publishes one reading after another as the facility's external device and repeats each until it is acknowledged.
/// Gives what was acknowledged, in order.
async fn publish(
    mesh: Arc<Mesh>,
    facility: String,
    stop: Arc<AtomicBool>,
) -> Result<(String, Vec<Value>)> {
    let mut acknowledged = Vec::new();
    let mut device: Option<Device> = None;
    // A message that is repeated is the same to the letter.
    let time = mesh.time()?;
    let json = mesh.json()?;
    let place = mesh::facility_of(&json, &facility)?;
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
            "epoch": 1, "seq": seq, "time": time, "patient": format!("kill-{facility}"),
            "readings": [{"code": "2951-2", "value": format!("{seq}.50"), "unit": "mmol/L"}],
        });
        tokio::time::sleep(PUBLISH_EVERY).await;
        match connected.publish(&message).await {
            Ok(()) => acknowledged.push(message),
            Err(_) => device = None,
        }
    }
    Ok((facility, acknowledged))
}

/// Gives how many emitted readings were compared.
async fn compare(mesh: &Mesh, facility: &str, acknowledged: &[Value]) -> Result<usize> {
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
    let (crosswalk, have) =
        wait::until("every emitted reading is stored", wait::PATIENCE, all_there).await?;
    let twice: Vec<_> = have.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(twice.is_empty(), "{facility}: applied twice: {twice:?}");
    let patient = crosswalk
        .patient(&format!("kill-{facility}"))
        .unwrap_or_default();
    let all_there = || async {
        let one = std::iter::once(patient);
        let stored = checker::found(mesh, region, one).await.ok()?;
        let times = times(&stored);
        let there = acknowledged
            .iter()
            .all(|message| times.contains_key(&value(message)));
        there.then_some(times)
    };
    let what = "everything acknowledged is stored";
    let stored = wait::until(what, wait::PATIENCE, all_there).await?;
    for message in acknowledged {
        let times = stored.get(&value(message)).copied().unwrap_or(0);
        ensure!(times == 1, "{facility}: stored {times} times: {message}");
    }
    println!(
        "{facility}: {} acknowledged and {} emitted readings are stored once",
        acknowledged.len(),
        emitted.len()
    );
    Ok(emitted.len())
}

/// The value of a message, which no other message has, as a region shows it.
fn value(message: &Value) -> String {
    let value = message["readings"][0]["value"].as_str().unwrap_or_default();
    format!("{value} mmol/L")
}

/// How often each value is stored.
fn times(stored: &Rows) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for (row, count) in stored {
        *times.entry(row.value.clone()).or_default() += count;
    }
    times
}
