//! What earlier releases left behind: the stores of a facility, a region and the global node, and what went between them
//! on the wire, as files of each release (`tests/fixtures/RELEASE`). This release opens them, loses nothing, knows what it
//! knew, goes on where they stopped, and understands every byte that was sent.
//!
//! The files of the present release are written by this test when it is asked to (CONTRIBUTING.md), and never changed.
use anyhow::{Context, Result, ensure};
use federation::{
    envelope::{self, Intact},
    receipt,
    wire::{Parcel, Receipt},
};
use ingest::Urgency;
use medmesh_tests::sim::{
    clock,
    device::{Answer, Device},
    nodes::{Above, DEVICES, Ground, Opening, Upper, key},
    observe,
    wire::{Wire, values},
};
use messages::{DeviceRecord, DeviceRecords, ReadingBatch};
use prost::Message;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::Store;
use types::{Place, Timestamp};

/// Variable by which a new release's files are written: `MEDMESH_TEST_FIXTURES=write`.
const WRITE: &str = "MEDMESH_TEST_FIXTURES";
/// Samples that the region has when the files are made.
const DELIVERED: usize = 5;
/// Samples that wait at the facility then.
const WAITING: usize = 3;
/// Steps of the links after which everything has come to rest.
const ROUNDS: usize = 20;
/// Time between two of them, in ms.
const ROUND_MS: i64 = 1_000;
/// From the first sample of the files to their end, and some.
const LATER_MS: i64 = 120_000;
/// The hand and the generator of these tests, which no other test of this binary has.
const WORKER: usize = 1;
const WIRE: &str = "wire.json";

#[test]
fn what_every_release_left_behind_is_opened_and_goes_on() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    if std::env::var_os(WRITE).is_some_and(|value| value == "write") {
        let to = fixtures.join(env!("CARGO_PKG_VERSION"));
        ensure!(
            !to.exists(),
            "{} is there: it is never changed",
            to.display()
        );
        return runtime.block_on(write(&to));
    }
    let mut releases: Vec<PathBuf> = fs::read_dir(&fixtures)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    releases.sort();
    ensure!(!releases.is_empty(), "no release left anything behind");
    for release in releases {
        let of = || release.display().to_string();
        understood(&release).with_context(of)?;
        runtime.block_on(reopened(&release)).with_context(of)?;
    }
    Ok(())
}

/// A facility, its region and the global node, on folders of their own.
struct Mesh {
    dir: PathBuf,
    places: [Place; 3],
    store: Store,
    region: Upper,
    global: Upper,
    /// From the facility to the region, and from there to the global node.
    wires: [Wire; 2],
    draws: fn() -> [u8; 16],
    hand: &'static clock::Hand,
    /// When every line of this hand begins: the instant from which the device counts.
    begun: Timestamp,
    /// What went over the first wire, and the answers.
    sent: Vec<(Parcel, Receipt)>,
}

impl Mesh {
    async fn open(dir: &Path) -> Result<Self> {
        let (hand, entropy) = clock::begin(WORKER);
        let begun = hand.now();
        // Later than anything in the files of a release.
        hand.forward(LATER_MS);
        let places: [Place; 3] = [
            "edge/eu/eu/eu-f1".parse()?,
            "regional/eu/eu".parse()?,
            Place::Global,
        ];
        for name in ["edge", "region", "global"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let folders = ["edge", "region", "global"].map(|name| dir.join(name));
        let opening = |at: usize| -> Result<Opening<'_>> {
            Ok(Opening {
                place: &places[at],
                dir: &folders[at],
                rules: Ground::get()?.rules.clone(),
                hand,
                entropy,
            })
        };
        let (store, _) = opening(0)?.edge(&places[1]).await?;
        store.set_link(true);
        let region = opening(1)?.upper(Arc::default()).await?;
        let global = opening(2)?.upper(Arc::default()).await?;
        Ok(Self {
            dir: dir.into(),
            store,
            region,
            global,
            places,
            wires: [Wire::default(), Wire::default()],
            draws: hand.draws(),
            hand,
            begun,
            sent: Vec::new(),
        })
    }

    /// The facility's device measures and is answered, from its first sample on.
    async fn measure(&self, device: &mut Device, from: usize, count: usize) -> Result<Vec<Answer>> {
        for sample in from..from + count {
            let value = format!("60.{sample:05}");
            let at = self.begun.plus_ms(i64::try_from(sample)? * 1_000);
            device.measure(sample, &value, Urgency::Routine, at)?;
        }
        self.hand.forward(ROUND_MS);
        let answers = device.offer(&self.store).await;
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Everything that may move does.
    async fn settle(&mut self) {
        let [edge, region, _] = &self.places;
        for _ in 0..ROUNDS {
            self.hand.forward(ROUND_MS);
            let [up, further] = &mut self.wires;
            let doors = (&self.region.door, &self.global.door);
            up.send(&self.store, edge, doors.0, self.draws).await;
            let going = up.going.clone();
            up.deliver(edge, doors.0, 0).await;
            let answers = up.answered().to_vec();
            self.sent.extend(going.into_iter().zip(answers));
            up.answer(&self.store, doors.0).await;
            further
                .send(&self.region.ledger, region, doors.1, self.draws)
                .await;
            further.deliver(region, doors.1, 0).await;
            further.answer(&self.region.ledger, doors.1).await;
        }
    }

    fn values(&self) -> Result<Vec<String>> {
        let observed = observe::region(&self.dir.join("region"), &Default::default())?;
        Ok(observed.into_iter().map(|it| it.value).collect())
    }

    /// Tells the catalog of the facility's device.
    async fn list(&self) -> Result<()> {
        let entry = self.store.device(&DEVICES[0].parse()?).await;
        let entry = entry.ok().context("the facility knows its device")?;
        let records = DeviceRecords {
            facility: "eu-f1".into(),
            region: "eu".into(),
            jurisdiction: "eu".into(),
            devices: vec![DeviceRecord {
                catalog_id: entry.catalog_id.as_bytes().to_vec().into(),
                kind: entry.facts.kind.as_str().into(),
                model: String::new(),
                firmware: String::new(),
                status: "active".into(),
                updated_ms: self.begun.0,
            }],
        };
        self.store.ship_devices(records).await?;
        Ok(())
    }

    /// Whether the catalog has the facility's device.
    async fn is_in_the_catalog(&self) -> Result<bool> {
        let entry = self.store.device(&DEVICES[0].parse()?).await;
        let entry = entry.ok().context("the facility knows its device")?;
        let Above::Global(catalog) = &self.global.above else {
            return Ok(false);
        };
        Ok(catalog.device(entry.catalog_id).await?.is_some())
    }
}

/// Makes the files of this release.
async fn write(to: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut mesh = Mesh::open(dir.path()).await?;
    let mut device = Device::new(DEVICES[0])?;
    mesh.measure(&mut device, 1, DELIVERED).await?;
    mesh.list().await?;
    mesh.settle().await;
    mesh.measure(&mut device, DELIVERED + 1, WAITING).await?;
    let wire: Vec<_> = mesh
        .sent
        .iter()
        .map(|(parcel, receipt)| json!({"parcel": hex::encode(parcel.encode_to_vec()), "receipt": hex::encode(receipt.encode_to_vec())}))
        .collect();
    mesh.store.close().await;
    drop(mesh);
    // A store that closes writes its log into its file; here that is seen to.
    let fhir = rusqlite::Connection::open(dir.path().join("region").join("fhir.db"))?;
    fhir.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    drop(fhir);
    for name in ["edge", "region", "global"] {
        fs::create_dir_all(to.join(name))?;
        for entry in fs::read_dir(dir.path().join(name))? {
            let from = entry?.path();
            let file = from.file_name().context("a file")?;
            let is_log = [".db-wal", ".db-shm"];
            if is_log
                .iter()
                .any(|end| from.to_string_lossy().ends_with(end))
            {
                continue;
            }
            fs::copy(&from, to.join(name).join(file))?;
        }
    }
    fs::write(to.join(WIRE), serde_json::to_string_pretty(&json!(wire))?)?;
    Ok(())
}

/// Every parcel and receipt of the release says to this one what it said then.
fn understood(release: &Path) -> Result<()> {
    let wire: Vec<Value> = serde_json::from_str(&fs::read_to_string(release.join(WIRE))?)?;
    let bytes = |value: &Value| -> Result<Vec<u8>> {
        Ok(hex::decode(value.as_str().context("hexadecimal")?)?)
    };
    let region: Place = "regional/eu/eu".parse()?;
    let mut seen = BTreeSet::new();
    for one in &wire {
        let (sent, answered) = (bytes(&one["parcel"])?, bytes(&one["receipt"])?);
        let (parcel, said) = (Parcel::decode(&sent[..])?, Receipt::decode(&answered[..])?);
        ensure!(parcel.encode_to_vec() == sent && said.encode_to_vec() == answered);
        receipt::verify(&said, &key(&region).verifying_key())?;
        ensure!(said.id == parcel.id && said.stored == parcel.count);
        let intact = Intact::new(parcel.clone()).context("a body of its digest")?;
        if parcel.kind == "ReadingBatch" {
            let batch = envelope::open::<ReadingBatch>(&intact)?;
            ensure!(u32::try_from(batch.readings.len())? == parcel.count);
            seen.extend(values(&batch).map(str::to_owned));
        }
    }
    ensure!(seen == expected(1..=DELIVERED), "{seen:?}");
    Ok(())
}

fn expected(samples: impl Iterator<Item = usize>) -> BTreeSet<String> {
    samples.map(|sample| format!("60.{sample:05}")).collect()
}

/// The nodes of the release start as this one, know what they knew, deliver what waited, and take what is new.
async fn reopened(release: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    for name in ["edge", "region", "global"] {
        fs::create_dir_all(dir.path().join(name))?;
        for entry in fs::read_dir(release.join(name))? {
            let from = entry?.path();
            let file = from.file_name().context("a file")?;
            fs::copy(&from, dir.path().join(name).join(file))?;
        }
    }
    let mut mesh = Mesh::open(dir.path()).await?;
    ensure!(mesh.values()?.len() == DELIVERED, "the region's readings");
    ensure!(mesh.is_in_the_catalog().await?, "the catalog's device");
    for ledger in [&mesh.region.ledger, &mesh.global.ledger] {
        ensure!(ledger.verify().await? > 1, "an audit log");
    }
    // The device counts from its first sample again: the facility knows every one by its place and content.
    let mut device = Device::new(DEVICES[0])?;
    let all = DELIVERED + WAITING;
    let known = mesh.measure(&mut device, 1, all).await?;
    ensure!(known == vec![Answer::Known; all], "{known:?}");
    let new = mesh.measure(&mut device, all + 1, 1).await?;
    ensure!(new == [Answer::Stored], "{new:?}");
    mesh.settle().await;
    let there = mesh.values()?;
    let once: BTreeSet<_> = there.iter().cloned().collect();
    ensure!(
        once.len() == there.len() && once == expected(1..=all + 1),
        "{there:?}"
    );
    ensure!(mesh.store.gaps().await?.is_empty(), "nothing was lost");
    mesh.store.close().await;
    Ok(())
}
