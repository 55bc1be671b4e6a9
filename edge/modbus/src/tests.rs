//! The Modbus side against simulated devices over real sockets and pseudo terminals, with every fault.
mod showing;
mod telling;

use super::*;
use async_trait::async_trait;
use bytes::Bytes;
use device_fw::sim::{
    self,
    config::{BedStays, SimConfig, SimDevice, Source},
};
use ingest::{Journal, Rejected, RetainedMessage, Sample, Stored};
use node::{clock::Clock, health::Health};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use storage::StoreError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use types::{DeviceKind, MeshClock, Value};

/// How long a test waits for what must come, real time.
const DEADLINE: Duration = Duration::from_secs(60);

/// A journal in memory that knows duplicates and conflicts, and can be full.
#[derive(Default)]
struct Memory {
    samples: Mutex<Vec<Sample>>,
    known: Mutex<HashMap<(String, u32, u64), Sample>>,
    full: Mutex<bool>,
    conflicts: Mutex<u32>,
}

/// A sample without what the edge adds to it: as in the store, that does not make it another one.
fn said(sample: &Sample) -> Sample {
    let mut said = sample.clone();
    for reading in &mut said.readings {
        reading.flags = types::Flags::NONE;
    }
    said
}

#[async_trait]
impl Journal for Memory {
    async fn append(&self, sample: Sample) -> Result<Stored, Rejected> {
        if *self.full.lock() {
            return Err(Rejected::Full);
        }
        let key = (sample.device.to_string(), sample.epoch, sample.seq);
        let mut known = self.known.lock();
        match known.get(&key) {
            Some(before) if said(before) == said(&sample) => return Ok(Stored::Duplicate),
            Some(_) => {
                *self.conflicts.lock() += 1;
                return Err(Rejected::Conflict {
                    epoch: sample.epoch,
                    seq: sample.seq,
                });
            }
            None => {}
        }
        known.insert(key, sample.clone());
        self.samples.lock().push(sample);
        Ok(Stored::New)
    }

    async fn quarantine(&self, _: &DeviceId, _: &'static str, _: Bytes) -> Result<(), StoreError> {
        Ok(())
    }

    async fn retain(&self, _: RetainedMessage) -> Result<(), StoreError> {
        Ok(())
    }

    async fn retained(&self, _: &str) -> Result<Vec<RetainedMessage>, StoreError> {
        Ok(Vec::new())
    }
}

impl Memory {
    fn count(&self, device: &str) -> usize {
        self.samples
            .lock()
            .iter()
            .filter(|sample| sample.device.as_str() == device)
            .count()
    }

    /// The (epoch, seq) of a device's samples, as stored.
    fn numbers(&self, device: &str) -> Vec<(u32, u64)> {
        let samples = self.samples.lock();
        let mine = samples
            .iter()
            .filter(|sample| sample.device.as_str() == device);
        mine.map(|sample| (sample.epoch, sample.seq)).collect()
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<(String, Notice)>>);

impl Observer for Seen {
    fn notice(&self, device: &DeviceId, _: Timestamp, notice: Notice) {
        self.0.lock().push((device.to_string(), notice));
    }
}

impl Seen {
    fn has(&self, device: &str, wanted: impl Fn(Notice) -> bool) -> bool {
        self.0
            .lock()
            .iter()
            .any(|(from, notice)| from == device && wanted(*notice))
    }
}

/// A facility: simulated devices on one side, the bridge on the other.
struct Facility {
    directory: tempfile::TempDir,
    clock: MeshClock,
    journal: Arc<Memory>,
    seen: Arc<Seen>,
    health: Health,
    sims: Vec<SimDevice>,
    devices: Vec<Device>,
    writes: Writes,
    tasks: Vec<(CancellationToken, JoinHandle<()>)>,
}

impl Drop for Facility {
    fn drop(&mut self) {
        for (_, task) in &self.tasks {
            task.abort();
        }
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Facility {
    fn new(speed: f64) -> Self {
        let now = Clock::new(None).real();
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock: MeshClock {
                real_origin: now,
                mesh_origin: "2026-11-22T10:00:00Z".parse().unwrap(),
                speed,
            },
            journal: Arc::default(),
            seen: Arc::default(),
            health: Health::new(),
            sims: Vec::new(),
            devices: Vec::new(),
            writes: Writes::default(),
            tasks: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn device(&mut self, id: &str, profile: &str, unit: u8, address: String) {
        self.devices.push(Device {
            id: id.parse().unwrap(),
            kind: DeviceKind::BedsideMonitor,
            profile: Some(profile.into()),
            address: Some(address),
            unit_id: unit,
        });
    }

    fn tcp(&mut self, id: &str, kind: DeviceKind, profile: &str) -> SocketAddr {
        let address = free_address();
        self.sims.push(SimDevice {
            listen: Some(address),
            ..simulated(id, kind, 1)
        });
        self.device(id, profile, 1, format!("tcp://{address}"));
        address
    }

    fn rtu(&mut self, id: &str, kind: DeviceKind, profile: &str, unit: u8) {
        let pty = self.path("bus");
        self.sims.push(SimDevice {
            pty: Some(pty.clone()),
            ..simulated(id, kind, unit)
        });
        self.device(
            id,
            profile,
            unit,
            format!("rtu://{}?baud=115200&parity=none", pty.display()),
        );
    }

    fn simulate(&mut self, source: Source) {
        let config = SimConfig {
            region: "us".parse().unwrap(),
            facility: "us-f1".parse().unwrap(),
            sent: self.path("sent.ndjson"),
            done: self.path("done"),
            clock: self.clock,
            mqtt: free_address(),
            ca: PathBuf::new(),
            source,
            seed: 1,
            sample_every_ms: 1_000,
            control: Some(self.path("faults.toml")),
            commanded: None,
            devices: self.sims.clone(),
        };
        self.spawn(move |stop| async move { sim::run(config, stop).await.unwrap() });
    }

    fn bridge(&mut self) {
        let mut profiles = Profiles::default();
        for (_, text) in BUILT_IN {
            let fast = text
                .replace("interval = \"1m\"", "interval = \"1s\"")
                .replace("frozen_after = \"2s\"", "frozen_after = \"300ms\"");
            profiles.insert(toml::from_str(&fast).unwrap());
        }
        let bridge = Bridge {
            devices: self.devices.clone(),
            profiles,
            journal: self.journal.clone(),
            clock: Clock::new(Some(self.clock)),
            boot: u32::try_from(self.tasks.len()).unwrap() + 1,
            observer: self.seen.clone(),
            conditions: Arc::new(Conditions::new(self.health.optional("devices"))),
            writes: self.writes.clone(),
        };
        self.spawn(move |stop| async move { run(bridge, stop).await.unwrap() });
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        task: impl FnOnce(CancellationToken) -> F,
    ) {
        let stop = CancellationToken::new();
        self.tasks.push((stop.clone(), tokio::spawn(task(stop))));
    }

    /// Ends the task that was started last, without letting it finish anything.
    async fn kill_last(&mut self) {
        if let Some((_, task)) = self.tasks.pop() {
            task.abort();
            let _ = task.await;
        }
    }

    fn fault(&self, text: &str) {
        let (new, path) = (self.path("faults.new"), self.path("faults.toml"));
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Waits for more samples of a device than there are now.
    async fn flows(&self, device: &str, more: usize) {
        let before = self.journal.count(device);
        eventually("samples flow", || {
            self.journal.count(device) >= before + more
        })
        .await;
    }

    /// What was emitted and what was stored of a device are the same readings, in order, once.
    fn check(&self, device: &str, all: bool) {
        let emitted = emitted(&self.path("sent.ndjson"), device);
        let mut stored = Vec::new();
        for sample in self
            .journal
            .samples
            .lock()
            .iter()
            .filter(|sample| sample.device.as_str() == device)
        {
            for (index, reading) in sample.readings.iter().enumerate() {
                let value = match &reading.value {
                    Value::Quantity(decimal) => decimal.to_string(),
                    Value::Absent(reason) => reason.as_str().into(),
                };
                stored.push(format!(
                    "{}.{}.{index} {} {} {value} {}",
                    sample.epoch, sample.seq, sample.source_time, reading.code, reading.unit
                ));
            }
        }
        assert!(!stored.is_empty());
        if all {
            assert_eq!(stored.len(), emitted.len());
        }
        for (stored, emitted) in stored.iter().zip(&emitted) {
            assert_eq!(stored, emitted);
        }
        assert_eq!(*self.journal.conflicts.lock(), 0);
    }
}

fn emitted(sent: &Path, device: &str) -> Vec<String> {
    let text = fs::read_to_string(sent).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<BTreeMap<String, serde_json::Value>>(line).unwrap());
    let text = |value: &serde_json::Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    lines
        .filter(|line| line["device"] == device)
        .map(|line| {
            let value = line.get("value").or_else(|| line.get("absent")).unwrap();
            let [epoch, seq, index, time, code, unit] =
                ["epoch", "seq", "index", "time", "code", "unit"].map(|key| text(&line[key]));
            format!("{epoch}.{seq}.{index} {time} {code} {} {unit}", text(value))
        })
        .collect()
}

fn simulated(id: &str, kind: DeviceKind, unit_id: u8) -> SimDevice {
    SimDevice {
        id: id.parse().unwrap(),
        kind,
        bed: Some(format!("bed-{id}")),
        listen: None,
        pty: None,
        unit_id,
        cert: None,
        key: None,
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < DEADLINE,
            "{what}: not within the deadline"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn data(path: &str) -> PathBuf {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let root = std::env::var("MEDMESH_DATA").unwrap_or_else(|_| shared.into());
    PathBuf::from(root).join(path)
}

const MONITOR: DeviceKind = DeviceKind::BedsideMonitor;

#[tokio::test(flavor = "multi_thread")]
async fn samples_arrive_once_and_exactly_over_tcp_and_over_a_bus_that_a_dead_unit_shares() {
    let mut facility = Facility::new(30.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    facility.rtu("m2", MONITOR, "medmesh-monitor", 1);
    facility.rtu("c1", DeviceKind::ColdChain, "xy-md02", 2);
    let bus = facility.path("bus");
    facility.device(
        "gone",
        "medmesh-monitor",
        3,
        format!("rtu://{}?baud=115200&parity=none", bus.display()),
    );
    facility.simulate(Source::Physiology);
    facility.bridge();
    eventually("the dead unit is found", || {
        facility.seen.has("gone", |notice| notice == Notice::Dead)
    })
    .await;
    for device in ["m1", "m2", "c1"] {
        facility.flows(device, 20).await;
    }
    facility.kill_last().await;
    facility.check("m1", false);
    facility.check("m2", false);
    assert_eq!(facility.journal.count("gone"), 0);
    let seqs: Vec<u64> = facility
        .journal
        .numbers("c1")
        .into_iter()
        .map(|(_, seq)| seq)
        .collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_noticed_and_afterwards_nothing_is_lost_or_double() {
    let mut facility = Facility::new(10.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    facility.rtu("m2", MONITOR, "medmesh-monitor", 1);
    facility.tcp("m3", MONITOR, "medmesh-monitor");
    facility.simulate(Source::Physiology);
    facility.bridge();
    for (fault, noticed) in [
        ("silent", Notice::Dead),
        ("exception", Notice::Exception(4)),
        ("torn", Notice::Torn),
        ("frozen", Notice::Frozen),
        ("slow", Notice::Seen),
    ] {
        facility.flows("m1", 2).await;
        facility.flows("m2", 2).await;
        facility.seen.0.lock().clear();
        facility.fault(&format!("m1 = '{fault}'\nm2 = '{fault}'\n"));
        for device in ["m1", "m2"] {
            eventually(fault, || {
                facility.seen.has(device, |notice| notice == noticed)
            })
            .await;
        }
        // The other devices are not delayed.
        facility.flows("m3", 5).await;
        if matches!(fault, "torn" | "slow") {
            facility.flows("m1", 5).await;
        }
        facility.fault("");
    }
    facility.flows("m1", 2).await;
    facility.flows("m2", 2).await;
    facility.kill_last().await;
    for device in ["m1", "m2", "m3"] {
        facility.check(device, false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_journal_or_a_killed_edge_did_not_store_is_stored_later() {
    let mut facility = Facility::new(60.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    facility.rtu("m2", MONITOR, "medmesh-monitor", 1);
    facility.simulate(Source::Physiology);
    for round in 0..12 {
        facility.bridge();
        facility.flows("m1", 3).await;
        *facility.journal.full.lock() = true;
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        let stored = facility.journal.samples.lock().len();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(facility.journal.samples.lock().len(), stored);
        *facility.journal.full.lock() = false;
        facility.flows("m2", 3).await;
        facility.kill_last().await;
    }
    facility.check("m1", false);
    facility.check("m2", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_stays_arrives_whole_and_says_when_it_is_done() {
    let mut facility = Facility::new(30_000.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    facility.rtu("m2", MONITOR, "medmesh-monitor", 1);
    let beds = [("m1", vec![132_539]), ("m2", vec![132_540])]
        .map(|(id, stays)| BedStays {
            bed: format!("bed-{id}"),
            stays,
        })
        .to_vec();
    facility.simulate(Source::Physionet {
        outcomes: None,
        archive: data("physionet2012/set-a.tar.gz"),
        beds,
    });
    facility.bridge();
    let done = facility.path("done");
    eventually("the replay ends", || done.exists()).await;
    facility.check("m1", true);
    facility.check("m2", true);
    let readings = emitted(&facility.path("sent.ndjson"), "m1").len()
        + emitted(&facility.path("sent.ndjson"), "m2").len();
    assert_eq!(
        fs::read_to_string(done).unwrap(),
        format!("{{\"readings\":{readings}}}\n")
    );
    assert!(readings > 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_raw_registers_keeps_gaps_and_zeros() {
    let mut facility = Facility::new(6_000.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    let csv = data("mimic3wdb-numerics/s00001-first16h.csv");
    let rows = fs::read_to_string(&csv).unwrap().lines().count() - 1;
    facility.bridge();
    facility.simulate(Source::Numerics { csv });
    let done = facility.path("done");
    eventually("the replay ends", || done.exists()).await;
    facility.check("m1", true);
    let numbers = facility.journal.numbers("m1");
    assert!(numbers.is_sorted_by(|a, b| a < b));
    assert_eq!(numbers.len(), rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_torn_down_and_starts_again_is_polled_in_its_next_epoch() {
    let mut facility = Facility::new(6_000.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    let csv = data("mimic3wdb-numerics/s00001-first16h.csv");
    facility.bridge();
    for epoch in 1..=3 {
        facility.simulate(Source::Numerics { csv: csv.clone() });
        eventually("samples of the epoch are stored", || {
            let numbers = facility.journal.numbers("m1");
            numbers.iter().filter(|(of, _)| *of == epoch).count() >= 10
        })
        .await;
        facility.kill_last().await;
    }
    facility.check("m1", false);
}

/// A line to an address that can be cut without either end being told.
async fn gate(listener: TcpListener, to: SocketAddr, open: Arc<AtomicBool>) {
    loop {
        let Ok((mut near, _)) = listener.accept().await else {
            continue;
        };
        let open = open.clone();
        tokio::spawn(async move {
            let mut far = None;
            let mut request = [0; 260];
            while let Ok(length @ 1..) = near.read(&mut request).await {
                if !open.load(Ordering::Relaxed) {
                    continue;
                }
                if far.is_none() {
                    far = tokio::net::TcpStream::connect(to).await.ok();
                }
                let Some(stream) = &mut far else { return };
                let mut answer = [0; 260];
                if stream.write_all(&request[..length]).await.is_err() {
                    return;
                }
                let Ok(length @ 1..) = stream.read(&mut answer).await else {
                    return;
                };
                if near.write_all(&answer[..length]).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_swallows_requests_is_given_up_and_the_device_is_found_again() {
    let mut facility = Facility::new(30.0);
    let address = facility.tcp("m1", MONITOR, "medmesh-monitor");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = listener.local_addr().unwrap();
    facility.devices[0].address = Some(format!("tcp://{through}"));
    let open = Arc::new(AtomicBool::new(true));
    let line = open.clone();
    facility.spawn(move |_| gate(listener, address, line));
    facility.simulate(Source::Physiology);
    facility.bridge();
    for _ in 0..2 {
        facility.flows("m1", 5).await;
        facility.seen.0.lock().clear();
        open.store(false, Ordering::Relaxed);
        eventually("the silence is noticed", || {
            facility.seen.has("m1", |notice| notice == Notice::Dead)
        })
        .await;
        open.store(true, Ordering::Relaxed);
    }
    facility.flows("m1", 5).await;
    facility.check("m1", false);
}

/// Answers every request with bytes that are wrong in some way.
async fn babble(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            continue;
        };
        let mut request = [0; 12];
        while stream.read_exact(&mut request).await.is_ok() {
            let mut answer: Vec<u8> = match rand::random_range(0..6) {
                0 => (0..rand::random_range(1..400))
                    .map(|_| rand::random())
                    .collect(),
                // A huge length.
                1 => vec![request[0], request[1], 0, 0, 0xff, 0xff, 1, 4, 2, 0, 0],
                // Fewer registers than were asked for, more bytes than it says, an unknown function, another unit.
                2 => vec![request[0], request[1], 0, 0, 0, 5, 1, 4, 2, 0, 0],
                3 => vec![request[0], request[1], 0, 0, 0, 7, 1, 4, 2, 0, 0, 0, 0],
                4 => vec![request[0], request[1], 0, 0, 0, 3, 1, 0x55, 1],
                _ => vec![request[0], request[1], 0, 0, 0, 5, 9, 4, 2, 0, 0],
            };
            answer.truncate(rand::random_range(1..=answer.len()));
            if stream.write_all(&answer).await.is_err() || rand::random() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_answers_are_counted_never_stored_and_harm_nobody_else() {
    let mut facility = Facility::new(30.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    for id in ["b1", "b2", "b3", "b4"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        facility.device(
            id,
            "medmesh-monitor",
            1,
            format!("tcp://{}", listener.local_addr().unwrap()),
        );
        facility.spawn(|_| babble(listener));
    }
    facility.simulate(Source::Physiology);
    facility.bridge();
    eventually("malformed answers are noticed", || {
        ["b1", "b2", "b3", "b4"]
            .iter()
            .all(|id| facility.seen.has(id, |notice| notice == Notice::Dead))
            && facility
                .seen
                .0
                .lock()
                .iter()
                .any(|(_, notice)| *notice == Notice::Malformed)
    })
    .await;
    facility.flows("m1", 20).await;
    assert!(!facility.tasks.last().unwrap().1.is_finished());
    for id in ["b1", "b2", "b3", "b4"] {
        assert_eq!(facility.journal.count(id), 0);
    }
    facility.check("m1", false);
}
