//! Blobs over a link, and over one that is cut every five seconds, beside the same bytes in one bare gRPC stream over the same
//! TLS: real ledgers, files and certificates in this process, a gigabyte a run.
//!
//! What the blob has and the stream has not: each chunk is asked for, allowed, written to a file, and the whole is hashed and
//! synced before it counts.
mod bare;

use crate::{
    Bed,
    report::{Aim, Figure, Report},
};
use anyhow::{Result, ensure};
use ed25519_dalek::SigningKey;
use federation::{
    audit::Signer,
    blobs::{self, Blobs, Descriptor, Files, Held},
    identity::Identity,
    ledger::{Handlers, Ledger},
    link::{self, Door, Uplink, UplinkParts},
    pki::{self, Ca, LOCAL_NAMES},
    policy::Rules,
    tls::{ReloadingTls, TimeSource, TlsPaths},
};
use medmesh_tests::wait;
use node::clock::Clock;
use rand::{SeedableRng, rngs::StdRng};
use std::{
    fs,
    io::{Read, Write as _},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use types::{DataClass, Place, Purpose};

/// How large the blob is, in MiB, when nothing else is said.
const MIB: u64 = 1_024;
/// Says another size.
const SIZE: &str = "MEDMESH_TEST_BLOB_MIB";
/// How long a connection lives.
const CUT_EVERY: Duration = Duration::from_secs(5);
/// For a slow machine.
const PATIENCE: Duration = Duration::from_secs(1_200);
const REGION: &str = "regional/us/us";
const EDGE: &str = "edge/us/us/us-f1";
const DURABILITY: &str = "fsync of the whole blob, after its digest was checked";

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let mib = std::env::var(SIZE).ok().and_then(|mib| mib.parse().ok());
    let size = mib.unwrap_or(MIB) << 20;
    let (mut ours, mut cut, mut floor, mut grown) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
    let mut disk = Vec::new();
    for _ in 0..bed.runs {
        floor.push(bare::stream(size).await?);
        disk.push(written(size)?);
        let before = crate::node::resident_mib(std::process::id())?;
        ours.push(blob(size, None).await?);
        cut.push(blob(size, Some(CUT_EVERY)).await?);
        let after = crate::node::resident_mib(std::process::id())?;
        grown = grown.max(after - before);
    }
    let mib = size >> 20;
    let note = format!("memory of both ends grew by {grown:.0} MiB at most");
    report.add(
        Figure::new(format!("blob of {mib} MiB"), "MiB/s", DURABILITY, ours)
            .beside("a bare gRPC stream of such chunks", &floor)
            .aim(Aim::RatioAtLeast(0.5))
            .bound("one chunk is under way at a time, so that no alarm waits behind two: each costs a round of both ends"),
    );
    let what = format!("blob of {mib} MiB, cut every 5 s");
    report.add(
        Figure::new(what, "MiB/s", DURABILITY, cut)
            .beside("the same bytes written to a file and synced", &disk)
            .note(note),
    );
    Ok(())
}

/// The floor of the disk: the bytes written to a file in chunks, and synced: MiB a second.
fn written(size: u64) -> Result<f64> {
    let dir = tempfile::tempdir()?;
    let mut file = fs::File::create(dir.path().join("floor"))?;
    let chunk = vec![7; blobs::CHUNK_BYTES];
    let began = Instant::now();
    for at in (0..size).step_by(blobs::CHUNK_BYTES) {
        let left = usize::try_from(size - at)?.min(chunk.len());
        file.write_all(chunk.get(..left).unwrap_or_default())?;
    }
    file.sync_all()?;
    Ok(rate(size, began))
}

#[expect(clippy::cast_precision_loss, reason = "a count of bytes")]
fn rate(bytes: u64, since: Instant) -> f64 {
    bytes as f64 / f64::from(1 << 20) / since.elapsed().as_secs_f64()
}

/// An authority and what it issued.
struct Authority {
    dir: tempfile::TempDir,
    ca: Ca,
}

struct Holder {
    place: Place,
    key: SigningKey,
    tls: Arc<ReloadingTls>,
}

fn time() -> TimeSource {
    let clock = Clock::new(None);
    Arc::new(move || clock.real())
}

impl Authority {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let ca = Ca::init(&dir.path().join("ca"), Clock::new(None).real())?;
        Ok(Self { dir, ca })
    }

    fn holder(&self, place: &str, seed: u8) -> Result<Holder> {
        let place: Place = place.parse()?;
        let identity = Identity::Node(place.clone());
        let key = SigningKey::from_bytes(&[seed; 32]);
        let new = pki::new_key_and_csr(&identity, Some(&key))?;
        let (now, ttl) = (Clock::new(None).real(), Duration::from_secs(60));
        let mut rng = StdRng::seed_from_u64(seed.into());
        let code = self
            .ca
            .invite(&identity, &LOCAL_NAMES, ttl, now, &mut rng)?;
        let issued = self.ca.enrol(&code, &new.csr_pem, now, &mut rng)?;
        let at = |end: &str| self.dir.path().join(format!("{seed}.{end}"));
        fs::write(at("pem"), issued)?;
        pki::write_private(&at("key"), &new.key_pem)?;
        let paths = TlsPaths {
            ca: self.ca.ca_path(),
            cert: at("pem"),
            key: at("key"),
            crl: self.ca.crl_path(),
            received: None,
            issued: None,
        };
        let tls = ReloadingTls::open(paths, true, time())?;
        Ok(Holder { place, key, tls })
    }
}

/// A node's ledger with its blobs.
struct Node {
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
}

impl Node {
    async fn of(dir: &Path, holder: &Holder) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let ledger = Ledger::open(
            &dir.join("ledger.db"),
            holder.place.clone(),
            Rules::builtin()?,
            Signer::new(&holder.place, holder.key.clone()),
            time(),
        )?;
        ledger.begin_log().await?;
        let files = Arc::new(Files::open(&dir.join("blobs"))?);
        let blobs = Arc::new(Blobs::new(ledger.clone(), files));
        Ok(Self { ledger, blobs })
    }

    fn door(&self, holder: &Holder) -> Door {
        Door {
            here: holder.place.clone(),
            key: holder.key.clone(),
            gate: Arc::new(self.ledger.clone()),
            inbox: Arc::new(self.ledger.inbox(Handlers::new())),
            tls: holder.tls.clone(),
            outbox: Some(Arc::new(self.ledger.clone())),
            bulk: Some(self.blobs.clone()),
            authority: None,
            tap: None,
        }
    }
}

/// Bytes that are drawn as they are read.
struct Drawn(StdRng);

impl Read for Drawn {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        rand::RngCore::fill_bytes(&mut self.0, into);
        Ok(into.len())
    }
}

/// Sends a blob from a region to a facility, over connections that live so long if it is said: MiB a second.
async fn blob(size: u64, cut_every: Option<Duration>) -> Result<f64> {
    let authority = Authority::new()?;
    let (us, f1) = (authority.holder(REGION, 1)?, authority.holder(EDGE, 2)?);
    let at = |name: &str| authority.dir.path().join(name);
    let (region, facility) = (
        Node::of(&at("region"), &us).await?,
        Node::of(&at("facility"), &f1).await?,
    );
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    let serving = tokio::spawn(link::serve(listener, region.door(&us), stop.clone()));
    let cut = TcpListener::bind("127.0.0.1:0").await?;
    // A line that holds is the server's own, as the bare stream's is.
    let address = cut_every.map_or(Ok(server), |_| cut.local_addr())?;
    let cutting = cut_every.map(|every| tokio::spawn(cut_connections(cut, server, every)));
    let descriptor = make(&region, &f1.place, size).await?;
    let uplink = Uplink::new(UplinkParts {
        urls: vec![format!("https://{address}")],
        here: f1.place.clone(),
        there: us.place.clone(),
        outbox: Arc::new(facility.ledger.clone()),
        collect: None,
        bulk: Some(facility.blobs.clone()),
        audit: Arc::new(facility.ledger.clone()),
        tls: f1.tls.clone(),
        time: time(),
        rng: StdRng::seed_from_u64(5),
        tap: None,
    })?;
    let began = Instant::now();
    let running = tokio::spawn(uplink.run(stop.clone()));
    let from = us.place.clone();
    let want = move |commit: &mut federation::ledger::Commit<'_>| {
        blobs::want(commit.tx(), descriptor, &from, "bench")
    };
    facility.ledger.commit("want", want).await?;
    facility.blobs.stir();
    let files = facility.blobs.files().clone();
    let whole = || async {
        let held = files.held(descriptor.digest).ok()?;
        (held == Held::Whole).then_some(())
    };
    wait::until("the blob is whole", PATIENCE, whole).await?;
    let rate = rate(size, began);
    stop.cancel();
    running.await?;
    if let Some(cutting) = cutting {
        cutting.abort();
    }
    serving.await??;
    Ok(rate)
}

/// Puts a blob in at the region, and grants it.
async fn make(region: &Node, to: &Place, size: u64) -> Result<Descriptor> {
    let drawn = Drawn(StdRng::seed_from_u64(7)).take(size);
    let put = region.blobs.files().put_in(drawn)?;
    let (descriptor, to) = (put.descriptor, to.clone());
    ensure!(descriptor.size == size, "all of it was put in");
    let grant = move |commit: &mut federation::ledger::Commit<'_>| {
        blobs::keep(commit.tx(), descriptor, "bench")?;
        let how = (DataClass::Firmware, Purpose::Operations);
        blobs::grant(commit.tx(), descriptor.digest, &to, how)
    };
    region.ledger.commit("grant", grant).await?;
    region.blobs.stir();
    Ok(descriptor)
}

/// Passes connections on, each for so long.
async fn cut_connections(listener: TcpListener, to: SocketAddr, every: Duration) {
    while let Ok((mut near, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut far = TcpStream::connect(to).await?;
            // Without it each chunk waits for a delayed acknowledgement, which no wire does.
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            let passed = copy_bidirectional(&mut near, &mut far);
            let _cut = tokio::time::timeout(every, passed).await;
            std::io::Result::Ok(())
        });
    }
}
