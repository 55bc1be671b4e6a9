//! What the tests of TLS and link share: a real authority in a directory, a clock to set, and odd certificates.
use crate::{
    identity::Identity,
    pki::{self, Ca, LOCAL_NAMES, Reason},
    tls::{ReloadingTls, TimeSource, TlsPaths},
};
use ed25519_dalek::SigningKey;
use rand::{SeedableRng, rngs::StdRng};
use rcgen::{CertificateParams, CustomExtension, Issuer, KeyPair, SanType};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use types::{Place, Secret, Timestamp};

/// The instant at which every test begins.
pub const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// After this the condition of a test will not come true any more.
const DEADLINE: Duration = Duration::from_secs(30);

/// An authority, and a clock that stands until it is set.
pub struct Testbed {
    pub dir: tempfile::TempDir,
    pub ca: Ca,
    pub now: Arc<AtomicI64>,
    files: AtomicU64,
}

/// Certificate, key and signing key of a node or device.
#[derive(Clone)]
pub struct Holder {
    pub identity: Identity,
    pub paths: TlsPaths,
    pub key: SigningKey,
}

pub fn place(text: &str) -> Place {
    text.parse().unwrap()
}

pub fn node(text: &str) -> Identity {
    Identity::Node(place(text))
}

pub fn device() -> Identity {
    "spiffe://medmesh/device/us/us/us-f1/lab-1".parse().unwrap()
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

impl Testbed {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(&dir.path().join("ca"), NOW).unwrap();
        Self {
            dir,
            ca,
            now: Arc::new(AtomicI64::new(NOW.0)),
            files: AtomicU64::new(0),
        }
    }

    pub fn time(&self) -> TimeSource {
        let now = Arc::clone(&self.now);
        Arc::new(move || Timestamp(now.load(Ordering::SeqCst)))
    }

    fn file(&self) -> PathBuf {
        let n = self.files.fetch_add(1, Ordering::SeqCst);
        self.dir.path().join(format!("{n}.pem"))
    }

    fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.files.fetch_add(1, Ordering::SeqCst))
    }

    /// Enrols a holder.
    pub fn holder(&self, identity: &Identity) -> Holder {
        let key = SigningKey::from_bytes(&[self.files.load(Ordering::SeqCst) as u8 + 1; 32]);
        let (pem, private) = self.certificate(identity, &key);
        self.files(identity, key, &pem, &private)
    }

    fn certificate(&self, identity: &Identity, key: &SigningKey) -> (String, Secret<String>) {
        let mut rng = self.rng();
        let (names, node_key) = match identity {
            Identity::Node(_) => (&LOCAL_NAMES[..], Some(key)),
            Identity::Device { .. } => (&[][..], None),
        };
        let ttl = Duration::from_secs(60);
        let code = self.ca.invite(identity, names, ttl, NOW, &mut rng);
        let new = pki::new_key_and_csr(identity, node_key).unwrap();
        let pem = self.ca.enrol(&code.unwrap(), &new.csr_pem, NOW, &mut rng);
        (pem.unwrap(), new.key_pem)
    }

    /// Gives a holder another certificate and key, in the same files.
    pub fn renew(&self, holder: &Holder) {
        let (pem, private) = self.certificate(&holder.identity, &holder.key);
        pki::write_private(&holder.paths.key, &private).unwrap();
        pki::write_public(&holder.paths.cert, &pem).unwrap();
    }

    /// Signs whatever is asked, with the authority's key: what a holder of a broken or foreign request would have.
    pub fn odd(&self, names: Vec<SanType>, from: Timestamp, until: Timestamp) -> Holder {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let read = |name| std::fs::read_to_string(self.dir.path().join("ca").join(name)).unwrap();
        let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
        let mut params = CertificateParams::default();
        let instant = |at: Timestamp| x509_parser::time::ASN1Time::from_timestamp(at.0 / 1_000);
        params.not_before = instant(from).unwrap().to_datetime();
        params.not_after = instant(until).unwrap().to_datetime();
        params.subject_alt_names = names;
        let dns = pki::NODE_DNS.try_into().unwrap();
        params.subject_alt_names.push(SanType::DnsName(dns));
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = SigningKey::from_bytes(&[200; 32]);
        let content = [&[0x04, 32], &key.verifying_key().as_bytes()[..]].concat();
        params.custom_extensions = vec![CustomExtension::from_oid_content(
            &crate::identity::NODE_KEY_OID,
            content,
        )];
        let pem = params.signed_by(&pair, &issuer).unwrap().pem();
        let private = Secret::new(pair.serialize_pem());
        self.files(&node("global"), key, &pem, &private)
    }

    fn files(
        &self,
        identity: &Identity,
        key: SigningKey,
        pem: &str,
        private: &Secret<String>,
    ) -> Holder {
        let paths = TlsPaths {
            ca: self.ca.ca_path(),
            cert: self.file(),
            key: self.file(),
            crl: self.ca.crl_path(),
            received: None,
            issued: None,
        };
        pki::write_public(&paths.cert, pem).unwrap();
        pki::write_private(&paths.key, private).unwrap();
        Holder {
            identity: identity.clone(),
            paths,
            key,
        }
    }

    /// The holder's TLS.
    pub fn tls(&self, holder: &Holder) -> Arc<ReloadingTls> {
        ReloadingTls::open(holder.paths.clone(), true, self.time()).unwrap()
    }

    /// Revokes what the holder has; the list is written.
    pub fn revoke(&self, holder: &Holder) {
        let serial = self.tls(holder).me().serial;
        self.ca.revoke(&serial, Reason::KeyCompromise, NOW).unwrap();
    }
}

/// Waits until something is true.
pub async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !is() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
