//! TLS 1.3 of a node: certificates from files, read again when they change, and peers checked by their identity URI.
//!
//! A configuration that this module hands out follows the files for ever: each handshake asks for the certificate,
//! the authorities and the revocation list of that moment, so rotation and revocation need no restart. Connections
//! that are open when their peer's certificate is revoked or ends are told by [`ReloadingTls::cut`]. Sessions are
//! never resumed between mesh peers, since a resumed session would skip the checks.
//!
//! Not here: what an identity may do (`link`, the broker's access rules), and issuing (`pki`).
mod ends;
mod error;
mod examine;
mod lists;
mod material;
mod refused;
mod verify;

pub use ends::{End, ends, names};
pub use error::TlsError;
pub use examine::{lapsed, mismatches, paths, untrusted};
pub use lists::Revocations;
pub use material::{MAX_FILE_BYTES, TlsPaths, is_pair};
pub use refused::count_refused;
pub use verify::UnexpectedPeer;

use crate::identity::{Identity, Peer};
use ed25519_dalek::VerifyingKey;
use material::{Ends, Files, Material, Pair};
use parking_lot::{Mutex, RwLock};
use rustls::{
    ClientConfig, KeyLog, KeyLogFile, NoKeyLog, ServerConfig,
    client::{ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};
use std::{ffi::OsStr, fmt, future::Future, sync::Arc, time::Duration};
use storage::file::PRIVATE;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{Place, Timestamp};
use verify::{ExpectedNode, MeshClients};

/// How often the files are looked at: the time within which a revocation takes effect once its list has arrived.
pub const RELOAD_TICK: Duration = Duration::from_secs(1);
/// The longest sleep until a certificate's end is looked at again, since clocks are set.
const EXPIRY_LOOK: Duration = Duration::from_secs(60);
/// Variable that names a file for the secrets of TLS sessions.
const KEY_LOG_VARIABLE: &str = "SSLKEYLOGFILE";

/// Real time. TLS asks it for every certificate it checks.
pub type TimeSource = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why an open connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The peer's certificate is revoked.
    Revoked,
    /// The peer's certificate is past its end.
    Expired,
    /// The node stops.
    Stopped,
    /// Another connection took its place.
    Displaced,
    /// The peer did not begin what it came for in time.
    Silent,
}

/// The certificates of a node, as its files say now.
pub struct ReloadingTls {
    paths: TlsPaths,
    time: TimeSource,
    key_log: Arc<dyn KeyLog>,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    seen: Mutex<Seen>,
    /// One peer's lists are taken at a time.
    taking: Mutex<()>,
    revocations: watch::Sender<Arc<Revocations>>,
}

/// The files that were looked at last, and the pair that is in use.
struct Seen {
    digest: [u8; 32],
    pair: Pair,
}

/// What handshakes use at this moment.
struct Current(RwLock<Arc<Material>>);

impl Current {
    fn get(&self) -> Arc<Material> {
        Arc::clone(&self.0.read())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current(..)")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().own))
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().own))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ReloadingTls {
    /// Reads the files. An expired certificate of the node's own is taken: a facility must start without its link.
    ///
    /// # Errors
    /// When a file is missing or broken, key and certificate do not fit, the list is not the authority's, or
    /// `SSLKEYLOGFILE` is set outside a local mesh.
    pub fn open(
        paths: TlsPaths,
        local_mesh: bool,
        time: TimeSource,
    ) -> Result<Arc<Self>, TlsError> {
        let variable = std::env::var_os(KEY_LOG_VARIABLE);
        let key_log = key_log(local_mesh, variable.as_deref())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let files = Files::read(&paths)?;
        let material = files.parse(&paths, &provider, None)?;
        let (revocations, _) = watch::channel(Arc::clone(&material.revoked));
        Ok(Arc::new(Self {
            seen: Mutex::new(Seen {
                digest: files.digest(),
                pair: files.pair(),
            }),
            taking: Mutex::new(()),
            current: Arc::new(Current(RwLock::new(Arc::new(material)))),
            paths,
            time,
            key_log,
            provider,
            revocations,
        }))
    }

    /// What the node's own certificate says of it.
    #[must_use]
    pub fn me(&self) -> Peer {
        self.current.get().me.clone()
    }

    /// The signing key of the node at a place, by a certificate of it that came in a message (DER): one of the mesh, in its
    /// time and not revoked. None otherwise.
    #[must_use]
    pub fn signing_key_of(&self, place: &Place, certificate: &[u8]) -> Option<VerifyingKey> {
        let certificate = CertificateDer::from(certificate);
        let ms = u64::try_from((self.time)().0).ok()?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(ms));
        let nodes = Arc::clone(&self.current.get().nodes);
        nodes.verify_client_cert(&certificate, &[], now).ok()?;
        let peer = Peer::from_cert(&certificate).ok()?;
        peer.key
            .filter(|_| peer.identity == Identity::Node(place.clone()))
    }

    /// Whether a certificate (DER) is one of the mesh for a client, in its time and not revoked.
    #[must_use]
    pub fn takes_device(&self, certificate: &CertificateDer<'_>) -> bool {
        let devices = Arc::clone(&self.current.get().devices);
        let now = self.clock().current_time();
        now.is_some_and(|now| devices.verify_client_cert(certificate, &[], now).is_ok())
    }

    /// For links: clients are nodes of the mesh, neither revoked nor checked against an outdated list; HTTP/2.
    ///
    /// # Errors
    /// When the cryptographic provider lacks TLS 1.3.
    pub fn server_mtls(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = self.server_with(MeshClients::nodes(&self.current, &self.provider))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// For the broker: clients are devices, none of them revoked. A list past its date is still used, since a
    /// facility goes on without a network for longer than a list is valid. `or_without`: a client may have no certificate,
    /// and says otherwise who it is.
    ///
    /// # Errors
    /// When the cryptographic provider lacks TLS 1.3.
    pub fn server_mqtt(&self, or_without: bool) -> Result<Arc<ServerConfig>, TlsError> {
        let clients = MeshClients::devices(&self.current, &self.provider).or_without(or_without);
        self.server_with(clients).map(Arc::new)
    }

    /// For HTTPS: clients have no certificate; HTTP/1.1.
    ///
    /// # Errors
    /// When the cryptographic provider lacks TLS 1.3.
    pub fn server_https(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let own: Arc<dyn ResolvesServerCert> = Arc::clone(&self.current) as _;
        let mut config = self
            .server_builder()?
            .with_no_client_auth()
            .with_cert_resolver(own);
        config.key_log = Arc::clone(&self.key_log);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// For links: the server must be the node that stands at `expected`, not revoked; HTTP/2.
    ///
    /// # Errors
    /// When the cryptographic provider lacks TLS 1.3.
    pub fn client_mtls(&self, expected: &Place) -> Result<Arc<ClientConfig>, TlsError> {
        self.client(expected, b"h2")
    }

    /// For HTTPS at a node: the server must be the node that stands at `expected`, not revoked; HTTP/1.1.
    ///
    /// # Errors
    /// When the cryptographic provider lacks TLS 1.3.
    pub fn client_https(&self, expected: &Place) -> Result<Arc<ClientConfig>, TlsError> {
        self.client(expected, b"http/1.1")
    }

    fn client(&self, expected: &Place, protocol: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
        let own: Arc<dyn ResolvesClientCert> = Arc::clone(&self.current) as _;
        let verifier = ExpectedNode::new(&self.current, &self.provider, expected.clone());
        let provider = Arc::clone(&self.provider);
        let mut config = ClientConfig::builder_with_details(provider, self.clock())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(own);
        config.key_log = Arc::clone(&self.key_log);
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }

    /// Under which name a client of a node asks for any of them.
    #[must_use]
    pub fn server_name() -> ServerName<'static> {
        verify::node_name()
    }

    /// The revoked certificates; changes when a new list is taken.
    #[must_use]
    pub fn revocations(&self) -> watch::Receiver<Arc<Revocations>> {
        self.revocations.subscribe()
    }

    /// Takes revocation lists that a peer sent (DER), as far as they are newer than those in use and an authority of this
    /// node signed them. They are durable when this returns, and count at once. True when one was taken. Blocks.
    ///
    /// # Errors
    /// When they cannot be written; those in use stay.
    pub fn take_lists(&self, lists: &[impl AsRef<[u8]>]) -> Result<bool, TlsError> {
        let Some(path) = &self.paths.received else {
            return Ok(false);
        };
        let _turn = self.taking.lock();
        let files = Files::beside(&self.paths, &self.seen.lock().pair)?;
        let authorities = files.authorities(&self.paths)?;
        let mut newest = Revocations::clone(&self.current.get().revoked);
        let mut taken = false;
        for der in lists {
            let der = CertificateRevocationListDer::from(der.as_ref());
            match newest.add(&der, &authorities) {
                Ok(is_newer) => taken |= is_newer,
                Err(unfit) => {
                    metrics::counter!("medmesh_revocation_lists_total", "result" => "refused")
                        .increment(1);
                    tracing::warn!(?unfit, "a revocation list of a peer is not taken");
                }
            }
        }
        if !taken {
            return Ok(false);
        }
        let replaced = storage::file::replace(path, newest.pem().as_bytes(), PRIVATE);
        replaced.map_err(|source| TlsError::Io {
            path: path.clone(),
            source,
        })?;
        let before = self.me().serial;
        // What was found of the node's own files is no news to the watch any more.
        match self.look() {
            Err(error) if !self.current.get().revoked.is_same(&newest) => return Err(error),
            Err(error) => self.tell(Err(error), &mut None),
            Ok(_) if self.me().serial != before => self.tell(Ok(true), &mut None),
            Ok(_) => {}
        }
        metrics::counter!("medmesh_revocation_lists_total", "result" => "taken").increment(1);
        Ok(true)
    }

    /// Resolves when an open connection with `peer` has to be closed: its certificate is revoked or past its end.
    pub fn cut(&self, peer: &Peer) -> impl Future<Output = Cut> + Send + use<> {
        let mut revocations = self.revocations();
        let time = Arc::clone(&self.time);
        let (serial, not_after) = (peer.serial.clone(), peer.not_after);
        async move {
            loop {
                if revocations.borrow_and_update().contains(&serial) {
                    return Cut::Revoked;
                }
                let left = not_after.since(time());
                if left < 0 {
                    return Cut::Expired;
                }
                let left = Duration::from_millis(left.unsigned_abs().saturating_add(1));
                tokio::select! {
                    changed = revocations.changed() => if changed.is_err() {
                        return std::future::pending().await;
                    },
                    () = tokio::time::sleep(left.min(EXPIRY_LOOK)) => {}
                }
            }
        }
    }

    /// Looks at the files once and takes them over when they changed. True when they did.
    ///
    /// # Errors
    /// When the new files are refused; those in use stay. The same content is tried once, unless it was the TPM that failed.
    /// A certificate and key that cannot be read or used keep no newer list from counting.
    pub fn look(&self) -> Result<bool, TlsError> {
        let mut seen = self.seen.lock();
        let (files, unread) = match Files::read(&self.paths) {
            Ok(files) => (files, None),
            Err(error) => match Files::beside(&self.paths, &seen.pair) {
                Ok(files) => (files, Some(error)),
                Err(_) => return Err(error),
            },
        };
        let digest = files.digest();
        if seen.digest == digest {
            return unread.map_or(Ok(false), Err);
        }
        let current = self.current.get();
        let parsed = files.parse(&self.paths, &self.provider, Some(&current));
        if !matches!(parsed, Err(TlsError::Tpm(_))) {
            seen.digest = digest;
        }
        let following =
            parsed.and_then(|material| material.may_follow(&current).map(|()| material));
        match following {
            Ok(material) => {
                seen.pair = files.pair();
                self.take(material);
                unread.map_or(Ok(true), Err)
            }
            Err(error) => {
                let files = files.with(&seen.pair);
                let rest = files.parse(&self.paths, &self.provider, Some(&current));
                if let Ok(material) = rest
                    && material.may_follow(&current).is_ok()
                    && !material.revoked.is_same(&current.revoked)
                {
                    self.take(material);
                }
                Err(unread.unwrap_or(error))
            }
        }
    }

    fn take(&self, material: Material) {
        let revoked = Arc::clone(&material.revoked);
        *self.current.0.write() = Arc::new(material);
        self.revocations.send_replace(revoked);
    }

    /// Looks at the files every [`RELOAD_TICK`] until stopped. Run one such task per node.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut last_error = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_TICK) => {}
            }
            let this = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || this.look()).await;
            let Ok(looked) = looked else { return };
            self.tell(looked, &mut last_error);
            self.tell_ends((self.time)());
        }
    }

    /// Tells the metrics for how long certificate, authority and list hold.
    fn tell_ends(&self, now: Timestamp) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds of a few years are exact"
        )]
        let left = |end: Timestamp| (end.since(now) / 1_000) as f64;
        let Ends { authority, list } = self.current.get().ends;
        metrics::gauge!("medmesh_tls_certificate_left_seconds").set(left(self.me().not_after));
        if let Some(end) = authority {
            metrics::gauge!("medmesh_tls_authority_left_seconds").set(left(end));
        }
        if let Some(end) = list {
            metrics::gauge!("medmesh_tls_crl_left_seconds").set(left(end));
        }
    }

    fn tell(&self, looked: Result<bool, TlsError>, last_error: &mut Option<String>) {
        match looked {
            Ok(false) => {}
            Ok(true) => {
                *last_error = None;
                metrics::counter!("medmesh_tls_reloads_total", "result" => "taken").increment(1);
                let me = self.me();
                tracing::info!(serial = %me.serial, until = %me.not_after, "certificates reloaded");
            }
            Err(error) => {
                let text = error.to_string();
                if last_error.as_ref() != Some(&text) {
                    metrics::counter!("medmesh_tls_reloads_total", "result" => "refused")
                        .increment(1);
                    tracing::error!(error = text, "certificates refused, the former stay in use");
                    *last_error = Some(text);
                }
            }
        }
    }

    fn server_with(&self, clients: MeshClients) -> Result<ServerConfig, TlsError> {
        let own: Arc<dyn ResolvesServerCert> = Arc::clone(&self.current) as _;
        let mut config = self
            .server_builder()?
            .with_client_cert_verifier(Arc::new(clients))
            .with_cert_resolver(own);
        config.key_log = Arc::clone(&self.key_log);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn server_builder(
        &self,
    ) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError> {
        let provider = Arc::clone(&self.provider);
        Ok(ServerConfig::builder_with_details(provider, self.clock())
            .with_protocol_versions(&[&rustls::version::TLS13])?)
    }

    fn clock(&self) -> Arc<dyn TimeProvider> {
        Arc::new(TlsClock(Arc::clone(&self.time)))
    }
}

/// The key log that the environment asks for, if it may be had.
fn key_log(local_mesh: bool, variable: Option<&OsStr>) -> Result<Arc<dyn KeyLog>, TlsError> {
    match variable {
        None => Ok(Arc::new(NoKeyLog)),
        Some(_) if local_mesh => Ok(Arc::new(KeyLogFile::new())),
        Some(_) => Err(TlsError::KeyLog),
    }
}

struct TlsClock(TimeSource);

impl fmt::Debug for TlsClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsClock(..)")
    }
}

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = Duration::from_millis(u64::try_from((self.0)().0).ok()?);
        Some(UnixTime::since_unix_epoch(since))
    }
}

#[cfg(test)]
mod lists_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tpm_tests;
