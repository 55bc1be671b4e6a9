//! From a device to a search of the region's FHIR API that shows its reading: idle, and while the same device sends
//! 10,000 points a second. Real processes of `medmesh up`; the client that looks is not ours to speed up.
//!
//! The floor is what the disk alone costs: a reading is on three disks' worth of commits before it can be found (the
//! edge's store, the region's ledger, the region's FHIR store), so thrice the 99th percentile of an fdatasync.
use crate::{
    Bed, disk,
    load::{self, Client},
    report::{Aim, Figure, Report, quantile},
};
use ::node::clock::Clock;
use anyhow::{Context, Result, ensure};
use medmesh_tests::{
    checker::Crosswalk,
    https::{self, Session},
    mesh::{self, Mesh},
    wait,
};
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Probes of one run: enough for a 99th percentile.
const PROBES: u64 = 300;
/// From a probe that was found to the next one.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two searches for a probe: what is measured is at most so much too long, and the search itself costs little.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Longest wait for one probe.
const PATIENCE: Duration = Duration::from_secs(20);
/// Points a second under load.
const LOAD: u64 = 10_000;
/// Points of one message: the signals of a bedside monitor.
const POINTS: u64 = 10;
/// How often a burst of messages is sent.
const BURST_EVERY: Duration = Duration::from_millis(10);
/// Commits that a reading is in before a search shows it.
const COMMITS: f64 = 3.0;
/// The facility and the device that is measured, and the patient of the probes.
const FACILITY: &str = "eu-f1";
const DEVICE: &str = "external-1";
const PATIENT: &str = "bench-probe";
/// What a region serves of readings in time, by promise (ms).
const PROMISE_MS: f64 = 100.0;
const BOUND: &str = "where an fdatasync takes a fraction of a millisecond the disk is not what bounds: it is the \
     hand-overs between three processes, TLS, mapping and validation, and up to 2 ms until the next search";
const DURABILITY: &str = "fsync of edge store, region ledger and FHIR store (FULL)";

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let (mut idle, mut loaded, mut floor) = (Series::default(), Series::default(), Vec::new());
    for _ in 0..bed.runs {
        floor.push(COMMITS * quantile(&disk::fdatasyncs()?, 0.99));
        idle.add(&probes(0).await?);
        loaded.add(&probes(LOAD).await?);
    }
    idle.report(report, "idle", &floor);
    loaded.report(report, "at 10 000 points/s", &floor);
    let seen = loaded.rate.clone();
    report.add(Figure::new(
        "  points/s while measured",
        "/s",
        DURABILITY,
        seen,
    ));
    Ok(())
}

/// Percentiles of several runs.
#[derive(Default)]
struct Series {
    p50: Vec<f64>,
    p99: Vec<f64>,
    rate: Vec<f64>,
}

impl Series {
    fn add(&mut self, run: &(Vec<f64>, f64)) {
        self.p50.push(quantile(&run.0, 0.5));
        self.p99.push(quantile(&run.0, 0.99));
        self.rate.push(run.1);
    }

    fn report(&self, report: &mut Report, when: &str, floor: &[f64]) {
        let figure = |p: &str, runs: &[f64]| {
            let what = format!("device to FHIR search, {when}, {p}");
            Figure::new(what, "ms", DURABILITY, runs.to_vec())
        };
        report.add(figure("p50", &self.p50));
        report.add(
            figure("p99", &self.p99)
                .beside("3 x fdatasync p99", floor)
                .aim(Aim::RatioAtMost(1.5))
                .bound(BOUND),
        );
        report.add(figure("p99", &self.p99).aim(Aim::AtMost(PROMISE_MS)));
    }
}

/// Milliseconds of each probe, and the points a second that the edge stored meanwhile.
async fn probes(load: u64) -> Result<(Vec<f64>, f64)> {
    let dir = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &["--facilities", "1"]).await?;
    let json = mesh.json()?;
    let (order, orders) = watch::channel(0);
    let device = tokio::spawn(device(connect(&json).await?, load, orders));
    order.send(1)?;
    let mut reader = Reader::new(&mesh, &json).await?;
    reader.find(1).await?;
    let metrics = mesh::facility_of(&json, FACILITY)?["metrics"]
        .as_str()
        .context("metrics")?
        .to_owned();
    let name = "medmesh_readings_stored_total";
    let (stored, since) = (mesh.metric(&metrics, name).await?, Instant::now());
    let mut took = Vec::new();
    for probe in 2..PROBES + 2 {
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        order.send(probe)?;
        reader.find(probe).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let rate = (mesh.metric(&metrics, name).await? - stored) / since.elapsed().as_secs_f64();
    drop(order);
    device.await??;
    mesh.stop().await?;
    Ok((took, rate))
}

/// The external device of the measured facility, without a bound of what may wait.
pub async fn connect(json: &Value) -> Result<Client> {
    let facility = mesh::facility_of(json, FACILITY)?;
    let devices = facility["devices"].as_array().context("devices")?;
    let device = devices.iter().find(|device| device["id"] == DEVICE);
    let device = device.context("no external device")?;
    let path = |value: &Value| value.as_str().map(Path::new).map(Path::to_owned);
    let all = (
        path(&json["ca"]),
        path(&device["cert"]),
        path(&device["key"]),
    );
    let (Some(ca), Some(cert), Some(key)) = all else {
        anyhow::bail!("mesh.json lacks certificates of the device");
    };
    let at = facility["mqtt"].as_str().context("mqtt")?.parse()?;
    Client::connect(at, DEVICE, load::tls(&ca, &cert, &key)?, u64::MAX).await
}

/// Sends a probe whenever a new one is ordered, and so many points a second beside it, until nobody orders any more.
async fn device(mut client: Client, load: u64, mut orders: watch::Receiver<u64>) -> Result<()> {
    let mut burst = tokio::time::interval(BURST_EVERY);
    let began = Instant::now();
    let mut messages = 0;
    loop {
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return client.settle().await;
                }
                let probe = *orders.borrow_and_update();
                client.send(|seq| reading(seq, PATIENT, probe, 1)).await?;
            }
            _ = burst.tick(), if load > 0 => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
                    reason = "a count of messages")]
                let due = (began.elapsed().as_secs_f64() * load as f64 / POINTS as f64) as u64;
                while messages < due {
                    messages += 1;
                    client.queue(|seq| reading(seq, "bench-load", seq, POINTS))?;
                }
                client.flush().await?;
            }
            read = client.read() => drop(read?),
        }
    }
}

fn reading(seq: u64, patient: &str, value: u64, points: u64) -> String {
    let reading = json!({"code": "2951-2", "value": value.to_string(), "unit": "mmol/L"});
    let readings = vec![reading; usize::try_from(points).unwrap_or(1)];
    // Now: a reading that is long past would be followed by the alarm that its value went stale.
    let time = Clock::new(None).real().to_rfc3339();
    json!({"epoch": 1, "seq": seq + 1, "time": time, "patient": patient, "readings": readings})
        .to_string()
}

/// Looks for the newest probe.
struct Reader {
    session: Session,
    token: String,
    path: String,
}

impl Reader {
    async fn new(mesh: &Mesh, json: &Value) -> Result<Self> {
        let pseudonym = wait::until("the patient has a pseudonym", PATIENCE, || async {
            let crosswalk = Crosswalk::read(mesh, FACILITY).ok()?;
            crosswalk.patient(PATIENT).map(str::to_owned)
        })
        .await?;
        let fhir = json["regions"]["eu"]["fhir"].as_str().context("fhir")?;
        let (authority, base) = https::split(fhir)?;
        Ok(Self {
            session: mesh.https.session(authority).await?,
            token: mesh.token("fhir-reader", "eu").await?,
            path: format!("{base}/Observation?patient={pseudonym}&_sort=-_lastUpdated&_count=1"),
        })
    }

    /// Searches until the newest value is the probe's.
    async fn find(&mut self, probe: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let bundle = self
                .session
                .get(&self.path, Some(&self.token))
                .await?
                .json()?;
            let value = &bundle["entry"][0]["resource"]["valueQuantity"]["value"];
            if value.as_u64() == Some(probe) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "probe {probe} is not found");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
