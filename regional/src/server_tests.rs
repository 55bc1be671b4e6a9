//! A whole region on real sockets: a facility delivers over the link, a client asks over HTTPS.
use super::*;
use crate::config::FhirStore;
use crate::decode::tests::batch;
use crate::registry::Filter;
use ::node::config::TlsFiles;
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey};
use federation::{
    audit::{Decision, Entry, Log},
    envelope::Envelope,
    identity::Identity,
    ledger::Shipped,
    pki::{Ca, LOCAL_NAMES, new_key_and_csr, write_private, write_public},
    port::{Depths, Outbox},
};
use messages::{DeviceRecord, DeviceRecords};
use node::config::{HttpsConfig, LogConfig};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use std::path::Path;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use types::{EnvelopeId, Priority, Purpose, Secret};

/// After this the condition of a test will not come true any more.
const DEADLINE: Duration = Duration::from_secs(60);

/// Enrols the node at `place` and writes its files below the directory.
pub(crate) fn enrol(ca: &Ca, dir: &Path, place: &Place, seed: u8) -> TlsFiles {
    let mut rng = StdRng::seed_from_u64(u64::from(seed));
    let now = Clock::new(None).real();
    let identity = Identity::Node(place.clone());
    let key = SigningKey::from_bytes(&[seed; 32]);
    let code = ca.invite(&identity, &LOCAL_NAMES, DEADLINE, now, &mut rng);
    let new = new_key_and_csr(&identity, Some(&key)).unwrap();
    let cert = ca.enrol(&code.unwrap(), &new.csr_pem, now, &mut rng);
    let at = |name: &str| dir.join(format!("{seed}-{name}"));
    let signing = key.to_pkcs8_pem(Default::default()).unwrap();
    write_public(&at("cert.pem"), &cert.unwrap()).unwrap();
    write_private(&at("key.pem"), &new.key_pem).unwrap();
    let signing = Secret::new(signing.to_string());
    write_private(&at("signing.pem"), &signing).unwrap();
    write_public(&at("crl.pem"), &ca.crl_pem(now).unwrap()).unwrap();
    TlsFiles {
        ca: ca.ca_path(),
        cert: at("cert.pem"),
        key: at("key.pem"),
        signing_key: at("signing.pem"),
        crl: at("crl.pem"),
    }
}

/// Files that nobody reads.
pub(crate) fn files(dir: &Path) -> TlsFiles {
    let at = |name: &str| dir.join(name);
    TlsFiles {
        ca: at("ca.pem"),
        cert: at("cert.pem"),
        key: at("key.pem"),
        signing_key: at("signing.pem"),
        crl: at("crl.pem"),
    }
}

pub(crate) fn config(dir: &TempDir, tls: TlsFiles) -> RegionalConfig {
    RegionalConfig {
        jurisdiction: "eu".parse().unwrap(),
        region: "eu".parse().unwrap(),
        data_dir: dir.path().join("region"),
        tls,
        https: HttpsConfig::at("127.0.0.1:0".parse().unwrap()),
        grpc_listen: "127.0.0.1:0".parse().unwrap(),
        uplink_url: "https://127.0.0.1:1".into(),
        store: FhirStore::Sqlite,
        log: LogConfig::default(),
        pair: None,
        clock: None,
        clients: Vec::new(),
        research_clients: Vec::new(),
        policies: None,
        deid_profile: None,
        device_models: None,
        metrics: None,
        enrolment: None,
        subscriptions: crate::config::SubscriptionsConfig::default(),
        audit_events: crate::config::AuditEventsConfig::default(),
        rate: None,
        telemetry: None,
        local_mesh: true,
    }
}

/// A facility: its ledger as outbox, and its link, running until stopped.
fn facility(dir: &TempDir, tls: &TlsFiles, grpc: SocketAddr, stop: &CancellationToken) -> Ledger {
    let here: Place = "edge/eu/eu/eu-f1".parse().unwrap();
    let time: TimeSource = Arc::new(|| Clock::new(None).real());
    let key = load_signing_key(&tls.signing_key).unwrap();
    let rules = Rules::builtin().unwrap();
    let signer = Signer::new(&here, key);
    let path = dir.path().join("edge.db");
    let ledger = Ledger::open(&path, here.clone(), rules, signer, time.clone()).unwrap();
    let uplink = Uplink::new(UplinkParts {
        urls: vec![format!("https://{grpc}")],
        here,
        there: "regional/eu/eu".parse().unwrap(),
        outbox: Arc::new(ledger.clone()),
        collect: None,
        bulk: None,
        audit: Arc::new(ledger.clone()),
        tls: ReloadingTls::open(paths(tls), true, time.clone()).unwrap(),
        time,
        rng: StdRng::seed_from_u64(1),
        tap: None,
    });
    tokio::spawn(uplink.unwrap().run(stop.clone()));
    ledger
}

async fn ship<T: messages::Body>(ledger: &Ledger, purpose: Purpose, id: u8, body: T) {
    let envelope = Envelope {
        from: "edge/eu/eu/eu-f1".parse().unwrap(),
        to: "regional/eu/eu".parse().unwrap(),
        purpose,
        body,
    };
    let id = EnvelopeId::from_bytes([id; 16]);
    let shipped = ledger.ship(envelope, Priority::Live, id).await.unwrap();
    assert!(matches!(shipped, Shipped::Queued(_)), "{shipped:?}");
}

/// Waits until nothing waits for a receipt.
async fn delivered(ledger: &Ledger) {
    let region: Place = "regional/eu/eu".parse().unwrap();
    let wait = async {
        while ledger.depths(&region).await.unwrap() != Depths::default() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait)
        .await
        .expect("receipts come");
}

/// Status line, headers and body of a GET.
async fn get(ca: &Path, address: SocketAddr, path: &str) -> String {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut tls = connector.connect(name, tcp).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_facility_delivers_is_stored_across_a_restart_and_shown_to_nobody_without_a_token() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::init(&dir.path().join("ca"), Clock::new(None).real()).unwrap();
    let region = enrol(&ca, dir.path(), &"regional/eu/eu".parse().unwrap(), 1);
    let edge = enrol(&ca, dir.path(), &"edge/eu/eu/eu-f1".parse().unwrap(), 2);
    let (stop, stop_edge) = (CancellationToken::new(), CancellationToken::new());
    let node = start(config(&dir, region.clone()), stop.clone())
        .await
        .unwrap()
        .unwrap();
    let (https, grpc) = (node.https, node.grpc);
    let ledger = facility(&dir, &edge, grpc, &stop_edge);
    ship(&ledger, Purpose::Care, 1, batch()).await;
    ship(&ledger, Purpose::Operations, 2, records()).await;
    delivered(&ledger).await;
    for (path, expected) in [
        ("/ready", "HTTP/1.1 200"),
        ("/fhir/metadata", "HTTP/1.1 200"),
        ("/fhir/.well-known/smart-configuration", "HTTP/1.1 200"),
        ("/api/v1/openapi.json", "HTTP/1.1 200"),
        ("/fhir/Observation", "HTTP/1.1 401"),
        ("/api/v1/devices", "HTTP/1.1 401"),
        ("/metrics", "HTTP/1.1 401"),
    ] {
        let answer = get(&region.ca, https, path).await;
        assert!(answer.starts_with(expected), "{path}: {answer}");
    }
    stop.cancel();
    node.tasks.join(shutdown::GRACE).await.unwrap();
    // The same files and addresses again: the facility's link comes back by itself.
    let stop = CancellationToken::new();
    let mut again = config(&dir, region);
    again.grpc_listen = grpc;
    let node = start(again, stop.clone()).await.unwrap().unwrap();
    let mut more = batch();
    more.readings.truncate(2);
    more.readings[0].uid = vec![9; 16].into();
    ship(&ledger, Purpose::Care, 3, more).await;
    delivered(&ledger).await;
    stop.cancel();
    stop_edge.cancel();
    node.tasks.join(shutdown::GRACE).await.unwrap();
    let store = SqliteStore::open(&dir.path().join("region/fhir.db")).unwrap();
    assert_eq!(store.counts().await.unwrap().0, [4, 1, 1]);
    let log = Log::open(&dir.path().join("region/ledger.db")).unwrap();
    let rows = log.list(0, 1_000).unwrap();
    let asked = |(_, entry): &&(u64, Entry)| entry.decision() == Decision::ReadUnauthenticated;
    let asked: Vec<u32> = rows
        .iter()
        .filter(asked)
        .map(|(_, row)| row.count())
        .collect();
    assert_eq!(asked, [1]);
    let registry = Registry::open(&dir.path().join("region/region.db")).unwrap();
    assert_eq!(
        registry
            .devices(Filter::default(), None, 9)
            .await
            .unwrap()
            .len(),
        1
    );
}

fn records() -> DeviceRecords {
    DeviceRecords {
        facility: "eu-f1".into(),
        region: "eu".into(),
        jurisdiction: "eu".into(),
        devices: vec![DeviceRecord {
            catalog_id: vec![1; 16].into(),
            kind: "cold-chain".into(),
            model: "XY-MD02".into(),
            firmware: String::new(),
            status: "active".into(),
            updated_ms: 10,
        }],
    }
}
