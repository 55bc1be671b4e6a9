//! The TLS files of a node, read and checked as one: authority, certificate, key and revocation list.
use super::TlsError;
use crate::identity::{Peer, Serial};
use rustls::{
    RootCertStore,
    client::WebPkiServerVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};
use types::Timestamp;
use x509_parser::{
    certificate::X509Certificate, num_bigint::BigUint, prelude::FromDer,
    revocation_list::CertificateRevocationList, time::ASN1Time,
};

/// The longest TLS file, in bytes: a revocation list of some 400,000 entries.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// Where the TLS files of a node are.
#[derive(Clone, Debug)]
pub struct TlsPaths {
    /// PEM of the mesh's certificate authorities.
    pub ca: PathBuf,
    /// PEM chain of the node, the leaf first.
    pub cert: PathBuf,
    /// PKCS#8 PEM key of the node.
    pub key: PathBuf,
    /// PEM of the authorities' revocation lists.
    pub crl: PathBuf,
}

/// The certificates that are revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    serials: HashSet<Serial>,
    number: BigUint,
}

impl Revocations {
    /// Whether a certificate is revoked.
    #[must_use]
    pub fn contains(&self, serial: &Serial) -> bool {
        self.serials.contains(serial)
    }

    /// How many certificates are revoked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.serials.len()
    }

    /// Whether no certificate is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty()
    }
}

/// The bytes of the files.
pub(super) struct Files {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
    crl: Vec<u8>,
}

/// What could be read of each file.
pub(super) struct Parts {
    pub(super) authorities: Result<Vec<CertificateDer<'static>>, ()>,
    pub(super) chain: Result<Vec<CertificateDer<'static>>, ()>,
    pub(super) lists: Result<Vec<CertificateRevocationListDer<'static>>, ()>,
    pub(super) key: Result<PrivateKeyDer<'static>, ()>,
}

/// What handshakes use.
pub(super) struct Material {
    /// The node's chain and key.
    pub(super) own: Arc<CertifiedKey>,
    /// What the node's certificate says of it.
    pub(super) me: Peer,
    /// Checks nodes that dial in.
    pub(super) nodes: Arc<dyn ClientCertVerifier>,
    /// Checks devices that dial in.
    pub(super) devices: Arc<dyn ClientCertVerifier>,
    /// Checks nodes that are dialled.
    pub(super) servers: Arc<WebPkiServerVerifier>,
    /// What the lists revoke.
    pub(super) revoked: Arc<Revocations>,
    /// Until when authority and lists hold.
    pub(super) ends: Ends,
}

/// Until when what a node's own certificate rests on holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The first authority's end.
    pub authority: Option<Timestamp>,
    /// When the first of the revocation lists must have been replaced.
    pub list: Option<Timestamp>,
}

impl Ends {
    fn of(authorities: &[CertificateDer<'_>], lists: &[CertificateRevocationListDer<'_>]) -> Self {
        let at = |time: ASN1Time| Timestamp(time.timestamp().saturating_mul(1_000));
        let authorities = authorities.iter().filter_map(|der| {
            let (_, read) = X509Certificate::from_der(der).ok()?;
            Some(at(read.validity().not_after))
        });
        let lists = lists.iter().filter_map(|der| {
            let (_, read) = CertificateRevocationList::from_der(der).ok()?;
            read.next_update().map(at)
        });
        Self {
            authority: authorities.min(),
            list: lists.min(),
        }
    }
}

impl Files {
    pub(super) fn read(paths: &TlsPaths) -> Result<Self, TlsError> {
        Ok(Self {
            ca: read(&paths.ca)?,
            cert: read(&paths.cert)?,
            key: read(&paths.key)?,
            crl: read(&paths.crl)?,
        })
    }

    /// Every authority; at least one.
    pub(super) fn authorities(
        &self,
        paths: &TlsPaths,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        pem_all(&self.ca, &paths.ca, "the PEM of a certificate authority")
    }

    /// The node's chain, the leaf first; at least that.
    pub(super) fn chain(&self, paths: &TlsPaths) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        pem_all(&self.cert, &paths.cert, "a PEM certificate")
    }

    /// Every revocation list; at least one.
    pub(super) fn lists(
        &self,
        paths: &TlsPaths,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        pem_all(&self.crl, &paths.crl, "a PEM revocation list")
    }

    /// The node's key.
    pub(super) fn key(&self, paths: &TlsPaths) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| content(&paths.key, "a PEM private key"))
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for file in [&self.ca, &self.cert, &self.key, &self.crl] {
            hash.update((file.len() as u64).to_be_bytes());
            hash.update(file);
        }
        hash.finalize().into()
    }

    pub(super) fn parse(
        &self,
        paths: &TlsPaths,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Material, TlsError> {
        let (authorities, chain) = (self.authorities(paths)?, self.chain(paths)?);
        let (lists, key) = (self.lists(paths)?, self.key(paths)?);
        let me = Peer::from_cert(&chain[0]).map_err(|source| TlsError::Identity {
            path: paths.cert.clone(),
            source,
        })?;
        let revoked = Arc::new(revocations(&lists, &authorities, &paths.crl)?);
        let ends = Ends::of(&authorities, &lists);
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        let roots = Arc::new(roots);
        let clients = || {
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
                .with_crls(lists.iter().cloned())
        };
        Ok(Material {
            own: Arc::new(CertifiedKey::from_der(chain, key, provider)?),
            me,
            nodes: clients().enforce_revocation_expiration().build()?,
            devices: clients().build()?,
            servers: WebPkiServerVerifier::builder_with_provider(
                Arc::clone(&roots),
                Arc::clone(provider),
            )
            .with_crls(lists.iter().cloned())
            .enforce_revocation_expiration()
            .build()?,
            revoked,
            ends,
        })
    }
}

impl Material {
    /// Refuses to become another holder, and to forget a revocation.
    pub(super) fn may_follow(&self, current: &Self) -> Result<(), TlsError> {
        if self.me.identity != current.me.identity {
            return Err(TlsError::OtherHolder {
                current: current.me.identity.to_uri(),
                found: self.me.identity.to_uri(),
            });
        }
        if self.revoked.number < current.revoked.number {
            return Err(TlsError::OlderList {
                found: format!("{:x}", self.revoked.number),
                current: format!("{:x}", current.revoked.number),
            });
        }
        Ok(())
    }
}

/// The serials of all lists; each list must be signed by one of the authorities. The number is the highest.
pub(super) fn revocations(
    lists: &[CertificateRevocationListDer<'_>],
    authorities: &[CertificateDer<'_>],
    path: &Path,
) -> Result<Revocations, TlsError> {
    let mut revoked = Revocations::default();
    for der in lists {
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|_| content(path, "a revocation list"))?;
        let signed = authorities.iter().any(|authority| {
            X509Certificate::from_der(authority)
                .is_ok_and(|(_, issuer)| list.verify_signature(issuer.public_key()).is_ok())
        });
        if !signed {
            return Err(TlsError::ListSignature { path: path.into() });
        }
        if let Some(number) = list.crl_number() {
            revoked.number = number.max(&revoked.number).clone();
        }
        let serials = list.iter_revoked_certificates();
        revoked
            .serials
            .extend(serials.map(|entry| Serial::new(entry.raw_serial())));
    }
    Ok(revoked)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "a TLS file has at most 16 MiB",
            ));
        }
        Ok(bytes)
    };
    read().map_err(|source| TlsError::Io {
        path: path.into(),
        source,
    })
}

/// Every PEM item of a kind; at least one.
fn pem_all<T: PemObject>(
    pem: &[u8],
    path: &Path,
    wanted: &'static str,
) -> Result<Vec<T>, TlsError> {
    let items: Result<Vec<T>, _> = T::pem_slice_iter(pem).collect();
    match items {
        Ok(items) if !items.is_empty() => Ok(items),
        _ => Err(content(path, wanted)),
    }
}

fn content(path: &Path, wanted: &'static str) -> TlsError {
    TlsError::Content {
        path: path.into(),
        wanted,
    }
}
