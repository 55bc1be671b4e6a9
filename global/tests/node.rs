//! The whole global node in this process: a regional node delivers over a real link, a client reads over HTTPS.
use federation::{
    audit::Signer,
    envelope::Envelope,
    identity::Identity,
    ledger::{Handlers, Ledger},
    link::{Door, Uplink, UplinkParts},
    pki::{Ca, LOCAL_NAMES, new_key_and_csr, signing_key, write_private, write_public},
    policy::Rules,
    port::Outbox,
    tls::{ReloadingTls, TimeSource, TlsPaths},
};
use medmesh_global::{
    catalog::{Catalog, DeviceFilter, sqlite::SqliteCatalog},
    config::{CatalogStore, GlobalConfig},
    run,
};
use messages::{AuditCheckpoint, DeviceRecord, DeviceRecords};
use node::{
    clock::Clock,
    config::{HttpsConfig, LogConfig, TlsFiles},
};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::{EnvelopeId, Place, Priority, Purpose};

/// How long a step may take on a busy machine.
const WITHIN: Duration = Duration::from_secs(30);

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn now() -> TimeSource {
    Arc::new(|| Clock::new(None).real())
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Gives a node its certificate and keys.
fn enrol(ca: &Ca, dir: &Path, place: &Place) -> TlsFiles {
    std::fs::create_dir_all(dir).unwrap();
    let mut rng = rand::rng();
    let (identity, time) = (Identity::Node(place.clone()), now()());
    let key = signing_key(&dir.join("signing.pem"), &mut rng).unwrap();
    let new = new_key_and_csr(&identity, Some(&key)).unwrap();
    let hour = Duration::from_secs(3_600);
    let code = ca
        .invite(&identity, &LOCAL_NAMES, hour, time, &mut rng)
        .unwrap();
    let cert = ca.enrol(&code, &new.csr_pem, time, &mut rng).unwrap();
    write_private(&dir.join("key.pem"), &new.key_pem).unwrap();
    write_public(&dir.join("cert.pem"), &cert).unwrap();
    TlsFiles {
        ca: ca.ca_path(),
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        signing_key: dir.join("signing.pem"),
        crl: ca.crl_path(),
    }
}

/// A region's side of the link to the global node.
fn region(dir: &Path, here: &str, files: &TlsFiles, global: SocketAddr) -> (Ledger, Uplink) {
    let here = place(here);
    let key = signing_key(&files.signing_key, &mut rand::rng()).unwrap();
    let ledger = Ledger::open(
        &dir.join(format!("{}.db", here.region().unwrap())),
        here.clone(),
        Rules::builtin().unwrap(),
        Signer::new(&here, key.clone()),
        now(),
    )
    .unwrap();
    let paths = TlsPaths {
        ca: files.ca.clone(),
        cert: files.cert.clone(),
        key: files.key.clone(),
        crl: files.crl.clone(),
        received: None,
        issued: None,
    };
    let tls = ReloadingTls::open(paths, true, now()).unwrap();
    let heads = Handlers::new().on::<AuditCheckpoint>(ledger.keeps_heads());
    let collect = Door {
        here: here.clone(),
        key,
        gate: Arc::new(ledger.clone()),
        inbox: Arc::new(ledger.inbox(heads)),
        tls: tls.clone(),
        outbox: None,
        bulk: None,
        authority: None,
        tap: None,
    };
    let parts = UplinkParts {
        urls: vec![format!("https://{global}")],
        here,
        there: Place::Global,
        outbox: Arc::new(ledger.clone()),
        collect: Some(Arc::new(collect)),
        bulk: None,
        audit: Arc::new(ledger.clone()),
        tls,
        time: now(),
        rng: StdRng::seed_from_u64(5),
        tap: None,
    };
    (ledger, Uplink::new(parts).unwrap())
}

fn records(count: u8) -> Envelope<DeviceRecords> {
    let device = |number: u8| DeviceRecord {
        catalog_id: vec![number; 16].into(),
        kind: "bedside-monitor".into(),
        model: "BM-7".into(),
        firmware: "1.4.2".into(),
        status: "active".into(),
        updated_ms: now()().0,
    };
    Envelope {
        from: place("regional/eu/eu"),
        to: Place::Global,
        purpose: Purpose::Operations,
        body: DeviceRecords {
            facility: "eu-f1".into(),
            region: "eu".into(),
            jurisdiction: "eu".into(),
            devices: (0..count).map(device).collect(),
        },
    }
}

fn start(
    dir: &Path,
    tls: TlsFiles,
    grpc: SocketAddr,
) -> (CancellationToken, JoinHandle<()>, PathBuf) {
    let config = GlobalConfig {
        data_dir: dir.join("global"),
        tls,
        authority: None,
        https: HttpsConfig::at(free_address()),
        grpc_listen: grpc,
        store: CatalogStore::Sqlite,
        log: LogConfig::default(),
        clock: None,
        clients: Vec::new(),
        policies: None,
        device_models: None,
        telemetry: None,
        local_mesh: true,
    };
    let catalog = config.data_dir.join("catalog.db");
    let stop = CancellationToken::new();
    let running = run(config, stop.clone());
    let handle = tokio::spawn(async { running.await.unwrap() });
    (stop, handle, catalog)
}

async fn delivered(ledger: &Ledger) {
    let deadline = Instant::now() + WITHIN;
    while ledger.depths(&Place::Global).await.unwrap().0 != [0, 0, 0] {
        assert!(Instant::now() < deadline, "not delivered");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_region_ships_is_in_the_catalog_also_when_the_node_was_away() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::init(&dir.path().join("ca"), now()()).unwrap();
    let global = enrol(&ca, &dir.path().join("global-tls"), &Place::Global);
    let files = enrol(&ca, &dir.path().join("eu-tls"), &place("regional/eu/eu"));
    let grpc = free_address();
    let (ledger, uplink) = region(dir.path(), "regional/eu/eu", &files, grpc);
    let unlink = CancellationToken::new();
    let linked = tokio::spawn(uplink.run(unlink.clone()));

    let ship = async |count, id| {
        let id = EnvelopeId::from_bytes([id; 16]);
        let shipped = ledger.ship(records(count), Priority::Live, id).await;
        assert!(matches!(
            shipped.unwrap(),
            federation::ledger::Shipped::Queued(_)
        ));
    };
    ship(2, 1).await;
    let (stop, running, catalog) = start(dir.path(), global.clone(), grpc);
    delivered(&ledger).await;
    stop.cancel();
    running.await.unwrap();
    ship(3, 2).await;
    let (stop, running, _) = start(dir.path(), global, grpc);
    delivered(&ledger).await;
    stop.cancel();
    running.await.unwrap();
    unlink.cancel();
    linked.await.unwrap();

    let catalog = SqliteCatalog::open(&catalog).unwrap();
    let page = catalog.devices(&DeviceFilter::default(), None, 10).await;
    let homes: Vec<_> = page
        .unwrap()
        .items
        .iter()
        .map(|device| device.home.to_string())
        .collect();
    assert_eq!(homes, ["eu/eu/eu-f1"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_region_gets_the_heads_of_the_others_from_the_global_node_and_not_its_own() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::init(&dir.path().join("ca"), now()()).unwrap();
    let global = enrol(&ca, &dir.path().join("global-tls"), &Place::Global);
    let grpc = free_address();
    let (stop, running, _) = start(dir.path(), global, grpc);
    let unlink = CancellationToken::new();
    let mut ledgers = Vec::new();
    for here in ["regional/eu/eu", "regional/us/us"] {
        let folder = dir.path().join(here.replace('/', "-"));
        let files = enrol(&ca, &folder, &place(here));
        let (ledger, uplink) = region(dir.path(), here, &files, grpc);
        ledger.begin_log().await.unwrap();
        tokio::spawn(uplink.run(unlink.clone()));
        ledgers.push((ledger, here));
    }
    for (ledger, here) in &ledgers {
        let (_, other) = ledgers.iter().find(|(_, other)| other != here).unwrap();
        let head_of = |place: &str| format!("medmesh/{place}\n");
        let deadline = Instant::now() + WITHIN;
        loop {
            let heads = ledger.heads().await.unwrap();
            assert!(!heads.iter().any(|note| note.starts_with(&head_of(here))));
            if heads.iter().any(|note| note.starts_with(&head_of(other))) {
                break;
            }
            assert!(Instant::now() < deadline, "{here} has no head of {other}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(ledger.gaps().await.unwrap().is_empty());
    }
    unlink.cancel();
    stop.cancel();
    running.await.unwrap();
}
