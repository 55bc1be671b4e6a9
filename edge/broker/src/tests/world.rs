//! A facility to test in: an authority, certificates of good and of wrong devices, a journal and a running broker.
use super::journal::{Kept, MemoryJournal, Mood};
use super::recorder;
use super::wire::{Connect, PATIENCE, Raw};
use crate::{Broker, BrokerConfig, BrokerLimits, Viewers};
use federation::{
    identity::Identity,
    pki::{Ca, LOCAL_NAMES, new_key_and_csr, signing_key},
    tls::{ReloadingTls, TlsPaths},
};
use node::clock::Clock;
use rand::{SeedableRng, rngs::StdRng};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{collections::HashMap, fs, path::PathBuf, sync::Arc, sync::LazyLock, time::Duration};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use types::DeviceKind;

pub(super) const LAB: &str = "spiffe://medmesh/device/us/us/us-f1/lab-1";
pub(super) const OTHER: &str = "spiffe://medmesh/device/us/us/us-f1/lab-2";
pub(super) const PREFIX: &str = "devices/us/us-f1/lab-1/";
pub(super) const TELEMETRY: &str = "devices/us/us-f1/lab-1/telemetry";
pub(super) const ALARM: &str = "devices/us/us-f1/lab-1/alarm";
pub(super) const STATUS: &str = "devices/us/us-f1/lab-1/status";
pub(super) const COMMAND: &str = "devices/us/us-f1/lab-1/command";

/// A certificate authority with what it issued.
pub(super) struct Authority {
    dir: tempfile::TempDir,
    /// Tests share an authority, and a certificate is issued once.
    issuing: parking_lot::Mutex<()>,
    pub(super) ca: Ca,
}

impl Authority {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(&dir.path().join("ca"), Clock::new(None).real()).unwrap();
        let issuing = parking_lot::Mutex::default();
        let authority = Self { dir, issuing, ca };
        authority.issue("spiffe://medmesh/edge/us/us/us-f1", &LOCAL_NAMES);
        authority
    }

    /// Issues a certificate, once per identity.
    fn issue(&self, identity: &str, names: &[&str]) -> (String, String) {
        let _one_at_a_time = self.issuing.lock();
        let stem = self.dir.path().join(identity.replace(['/', ':'], "_"));
        let (cert, key) = (stem.with_extension("pem"), stem.with_extension("key"));
        if !cert.exists() {
            let seed = identity
                .bytes()
                .fold(7, |seed: u64, byte| seed.wrapping_mul(31) ^ u64::from(byte));
            let mut rng = StdRng::seed_from_u64(seed);
            let now = Clock::new(None).real();
            let holder: Identity = identity.parse().unwrap();
            let signing = (!names.is_empty())
                .then(|| signing_key(&self.dir.path().join("node.key"), &mut rng).unwrap());
            let new = new_key_and_csr(&holder, signing.as_ref()).unwrap();
            let ttl = Duration::from_secs(60);
            let code = self.ca.invite(&holder, names, ttl, now, &mut rng).unwrap();
            let issued = self.ca.enrol(&code, &new.csr_pem, now, &mut rng).unwrap();
            federation::pki::write_private(&key, &new.key_pem).unwrap();
            fs::write(&cert, issued).unwrap();
        }
        (
            fs::read_to_string(cert).unwrap(),
            fs::read_to_string(key).unwrap(),
        )
    }

    pub(super) fn cert_pem(&self, identity: &str) -> String {
        self.issue(identity, &[]).0
    }

    /// The authority's certificate and a device's certificate and key, as files.
    pub(super) fn files(&self, identity: &str) -> [PathBuf; 3] {
        self.issue(identity, &[]);
        let stem = self.dir.path().join(identity.replace(['/', ':'], "_"));
        [
            self.ca.ca_path(),
            stem.with_extension("pem"),
            stem.with_extension("key"),
        ]
    }

    /// TLS of a device, or of nobody.
    pub(super) fn client(&self, identity: Option<&str>) -> Arc<ClientConfig> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(self.ca.ca_pem())).unwrap();
        let builder = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (cert, key) = self.issue(identity, &[]);
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(vec![der(&cert)], key)
                    .unwrap()
            }
        })
    }

    fn node_tls(&self) -> Arc<ReloadingTls> {
        let stem = self.dir.path().join("spiffe___medmesh_edge_us_us_us-f1");
        let paths = TlsPaths {
            ca: self.ca.ca_path(),
            cert: stem.with_extension("pem"),
            key: stem.with_extension("key"),
            crl: self.ca.crl_path(),
            received: None,
            issued: None,
        };
        let clock = Clock::new(None);
        ReloadingTls::open(paths, true, Arc::new(move || clock.real())).unwrap()
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

static AUTHORITY: LazyLock<parking_lot::Mutex<Arc<Authority>>> =
    LazyLock::new(|| parking_lot::Mutex::new(Arc::new(Authority::new())));

/// A broker and what surrounds it.
pub(super) struct World {
    pub(super) authority: Arc<Authority>,
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) broker: Broker,
    pub(super) tls: Arc<ReloadingTls>,
    pub(super) stop: CancellationToken,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(BrokerLimits::default()).await
    }

    /// The authority that tests share, with what it issued.
    pub(super) fn shared_authority() -> Arc<Authority> {
        Arc::clone(&AUTHORITY.lock())
    }

    pub(super) async fn with(limits: BrokerLimits) -> Self {
        let authority = Self::shared_authority();
        Self::of(authority, Arc::default(), limits).await
    }

    pub(super) async fn of(
        authority: Arc<Authority>,
        journal: Arc<MemoryJournal>,
        limits: BrokerLimits,
    ) -> Self {
        Self::heard_by(super::viewing::viewers(), authority, journal, limits).await
    }

    /// The same with other viewers.
    pub(super) async fn heard_by(
        viewers: Viewers,
        authority: Arc<Authority>,
        journal: Arc<MemoryJournal>,
        limits: BrokerLimits,
    ) -> Self {
        recorder::install();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = authority.node_tls();
        let config = BrokerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            jurisdiction: "us".parse().unwrap(),
            region: "us".parse().unwrap(),
            facility: "us-f1".parse().unwrap(),
            viewers,
            limits,
        };
        let devices = ["lab-1", "lab-2"].map(|id| (id.parse().unwrap(), DeviceKind::LabAnalyser));
        let stop = CancellationToken::new();
        let broker = Broker::start(
            config,
            Arc::clone(&tls),
            Arc::new(HashMap::from(devices)),
            Arc::clone(&journal) as _,
            stop.clone(),
        )
        .await
        .unwrap();
        Self {
            authority,
            journal,
            broker,
            tls,
            stop,
        }
    }

    /// TLS of a device.
    pub(super) fn client(&self, identity: &str) -> Arc<ClientConfig> {
        self.authority.client(Some(identity))
    }

    /// A TLS connection of a device; the handshake's end is not waited for by TLS 1.3 clients.
    pub(super) async fn dial(&self, identity: &str) -> Raw {
        self.dial_with(self.client(identity)).await
    }

    /// A TLS connection with or without a certificate.
    pub(super) async fn dial_with(&self, config: Arc<ClientConfig>) -> Raw {
        let tcp = TcpStream::connect(self.broker.local_addr()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        Raw::new(connector.connect(name, tcp).await.unwrap())
    }

    /// Connects; the CONNACK's session present.
    pub(super) async fn join(&self, connect: Connect) -> (Raw, bool) {
        let identity = if connect.id == "lab-2" { OTHER } else { LAB };
        let mut raw = self.dial(identity).await;
        raw.send(&connect.bytes()).await;
        let connack = raw.next().await.expect("closed instead of CONNACK");
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        (raw, connack[2] == 1)
    }

    /// A clean session of lab-1.
    pub(super) async fn lab(&self, level: u8) -> Raw {
        self.join(Connect::new(level, "lab-1")).await.0
    }

    pub(super) fn mood(&self, mood: Mood) {
        self.journal.mood.send_replace(mood);
    }

    /// Waits until what the journal keeps is so.
    pub(super) async fn until(&self, what: &str, so: impl Fn(&Kept) -> bool) {
        until(what, || so(&self.journal.kept.lock())).await;
    }
}

/// Waits until something is so.
pub(super) async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A message of one reading.
pub(super) fn sample(seq: u64) -> String {
    valued(seq, "140.0")
}

pub(super) fn valued(seq: u64, value: &str) -> String {
    format!(
        r#"{{"epoch":1,"seq":{seq},"time":"2026-11-22T10:00:00Z","readings":[{{"code":"2951-2","value":{value},"unit":"mmol/L"}}]}}"#
    )
}
