//! The TLS files of a node, read and checked as one: authority, certificate, key and revocation list.
use super::{
    TlsError,
    lists::{Revocations, Unfit},
};
use crate::{
    identity::Peer,
    tpm::{TpmError, TpmKey},
};
use rustls::{
    RootCertStore,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};
use types::{Secret, Timestamp};
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList,
    time::ASN1Time,
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
    /// Where newer lists are kept that peers sent (PEM); none when none are taken.
    pub received: Option<PathBuf>,
    /// The list that an authority on the same machine writes (PEM).
    pub issued: Option<PathBuf>,
}

/// The file of a data directory in which lists of peers are kept.
const RECEIVED: &str = "revocations.pem";

impl TlsPaths {
    /// With the lists that the node of this data directory takes from its peers.
    #[must_use]
    pub fn keeping(mut self, data_dir: &Path) -> Self {
        self.received = Some(data_dir.join(RECEIVED));
        self
    }

    /// With what the authority in a directory of this machine issues.
    #[must_use]
    pub fn beside(mut self, authority: Option<&Path>) -> Self {
        self.issued = authority.map(crate::pki::crl_file);
        self
    }
}

/// The bytes of the files.
pub(super) struct Files {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Secret<Vec<u8>>,
    crl: Vec<u8>,
    /// Lists that are there beside it, or not.
    more: Vec<Vec<u8>>,
}

/// A certificate's file and its key's.
#[derive(Clone)]
pub(super) struct Pair {
    cert: Vec<u8>,
    key: Secret<Vec<u8>>,
}

/// A node's TLS key, as its file has it.
pub(super) enum OwnKey {
    /// The file is the key.
    File(PrivateKeyDer<'static>),
    /// It is in the TPM that the file names.
    Tpm(TpmKey),
}

/// What could be read of each file.
pub(super) struct Parts {
    pub(super) authorities: Result<Vec<CertificateDer<'static>>, ()>,
    pub(super) chain: Result<Vec<CertificateDer<'static>>, ()>,
    pub(super) lists: Result<Vec<CertificateRevocationListDer<'static>>, ()>,
    pub(super) key: Result<OwnKey, ()>,
}

/// What handshakes use.
pub(super) struct Material {
    /// The node's chain and key.
    pub(super) own: Arc<CertifiedKey>,
    /// The key, where it is in a TPM.
    tpm: Option<TpmKey>,
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
    /// SHA-256 of each authority's certificate.
    known: Vec<[u8; 32]>,
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
    fn of(authorities: &[CertificateDer<'_>], revoked: &Revocations) -> Self {
        let at = |time: ASN1Time| Timestamp(time.timestamp().saturating_mul(1_000));
        let authorities = authorities.iter().filter_map(|der| {
            let (_, read) = X509Certificate::from_der(der).ok()?;
            Some(at(read.validity().not_after))
        });
        let lists = revoked.lists().filter_map(|der| {
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
    /// A pair that was being replaced when the node was stopped is put in place first. Who may not do so reads what is
    /// there.
    pub(super) fn read(paths: &TlsPaths) -> Result<Self, TlsError> {
        let _still_beside = crate::pki::renewal::settle(&paths.cert, &paths.key);
        Self::of(paths, || {
            Ok(Pair {
                cert: read(&paths.cert)?,
                key: Secret::new(read(&paths.key)?),
            })
        })
    }

    /// The files beside a pair that is in use, whatever the pair's own files are.
    pub(super) fn beside(paths: &TlsPaths, pair: &Pair) -> Result<Self, TlsError> {
        Self::of(paths, || Ok(pair.clone()))
    }

    fn of(
        paths: &TlsPaths,
        pair: impl FnOnce() -> Result<Pair, TlsError>,
    ) -> Result<Self, TlsError> {
        let ca = read(&paths.ca)?;
        let Pair { cert, key } = pair()?;
        Ok(Self {
            ca,
            cert,
            key,
            crl: read(&paths.crl)?,
            more: [&paths.received, &paths.issued]
                .into_iter()
                .flatten()
                .filter_map(|path| read(path).ok())
                .collect(),
        })
    }

    /// The node's certificate and its key.
    pub(super) fn pair(&self) -> Pair {
        Pair {
            cert: self.cert.clone(),
            key: self.key.clone(),
        }
    }

    /// The same files with another pair.
    pub(super) fn with(self, pair: &Pair) -> Self {
        Self {
            cert: pair.cert.clone(),
            key: pair.key.clone(),
            ..self
        }
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

    /// The newest list of each authority. What lies beside the node's own file counts as far as an authority signed it: a
    /// peer sends it again.
    pub(super) fn revocations(
        &self,
        paths: &TlsPaths,
        authorities: &[CertificateDer<'_>],
    ) -> Result<Revocations, TlsError> {
        let mut newest = revocations(&self.lists(paths)?, authorities, &paths.crl)?;
        for pem in &self.more {
            for der in CertificateRevocationListDer::pem_slice_iter(pem).flatten() {
                let _unfit = newest.add(&der, authorities);
            }
        }
        Ok(newest)
    }

    /// The node's key.
    pub(super) fn key(&self, paths: &TlsPaths) -> Result<OwnKey, TlsError> {
        own_key(self.key.reveal())?.ok_or_else(|| content(&paths.key, "a PEM private key"))
    }

    /// The same; a TPM is not asked again for the key that is in use.
    fn key_after(&self, current: Option<&Material>, paths: &TlsPaths) -> Result<OwnKey, TlsError> {
        let text = str::from_utf8(self.key.reveal());
        let loaded = current.and_then(|current| current.tpm.as_ref());
        match (loaded, text) {
            (Some(loaded), Ok(text)) if loaded.is_of(text) => Ok(OwnKey::Tpm(loaded.clone())),
            _ => self.key(paths),
        }
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let more = self.more.iter();
        for file in [&self.ca, &self.cert, self.key.reveal(), &self.crl]
            .into_iter()
            .chain(more)
        {
            hash.update((file.len() as u64).to_be_bytes());
            hash.update(file);
        }
        hash.finalize().into()
    }

    /// What handshakes are to use after what they use now.
    pub(super) fn parse(
        &self,
        paths: &TlsPaths,
        provider: &Arc<CryptoProvider>,
        current: Option<&Material>,
    ) -> Result<Material, TlsError> {
        let (authorities, chain) = (self.authorities(paths)?, self.chain(paths)?);
        let key = self.key_after(current, paths)?;
        let tpm = match &key {
            OwnKey::Tpm(key) => Some(key.clone()),
            OwnKey::File(_) => None,
        };
        let leaf = chain.first();
        let leaf = leaf.ok_or_else(|| content(&paths.cert, "a PEM certificate"))?;
        let me = Peer::from_cert(leaf).map_err(|source| TlsError::Identity {
            path: paths.cert.clone(),
            source,
        })?;
        let revoked = Arc::new(self.revocations(paths, &authorities)?);
        let ends = Ends::of(&authorities, &revoked);
        let known = authorities.iter().map(|der| Sha256::digest(der).into());
        let known = known.collect();
        let lists: Vec<_> = revoked.lists().cloned().collect();
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
            own: Arc::new(key.certified(chain, provider)?),
            tpm,
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
            known,
            ends,
        })
    }
}

impl OwnKey {
    /// The key with its chain.
    ///
    /// # Errors
    /// When it is not the key of the leaf.
    pub(super) fn certified(
        self,
        chain: Vec<CertificateDer<'static>>,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, rustls::Error> {
        match self {
            Self::File(der) => CertifiedKey::from_der(chain, der, provider),
            Self::Tpm(key) => {
                let certified = CertifiedKey::new(chain, Arc::new(key));
                certified.keys_match().map(|()| certified)
            }
        }
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
        match current.revoked.forgotten_by(&self.revoked, &self.known) {
            None => Ok(()),
            Some((current, found)) => Err(TlsError::OlderList {
                found: format!("{found:x}"),
                current: format!("{current:x}"),
            }),
        }
    }
}

/// The newest of these lists; each must be signed by one of the authorities.
pub(super) fn revocations(
    lists: &[CertificateRevocationListDer<'_>],
    authorities: &[CertificateDer<'_>],
    path: &Path,
) -> Result<Revocations, TlsError> {
    let mut newest = Revocations::default();
    for der in lists {
        newest.add(der, authorities).map_err(|unfit| match unfit {
            Unfit::NotAList => content(path, "a revocation list"),
            Unfit::NotSigned => TlsError::ListSignature { path: path.into() },
        })?;
    }
    Ok(newest)
}

/// Whether the key of which this is the file's text is the certificate's.
#[must_use]
pub fn is_pair(certificate: &CertificateDer<'static>, key: &Secret<String>) -> bool {
    let key = own_key(key.reveal().as_bytes()).ok().flatten();
    let (chain, provider) = (vec![certificate.clone()], ring::default_provider());
    key.is_some_and(|key| key.certified(chain, &provider).is_ok())
}

/// The key of a file's text; none where it is none.
fn own_key(text: &[u8]) -> Result<Option<OwnKey>, TpmError> {
    if let Some(key) = str::from_utf8(text).ok().and_then(TpmKey::read) {
        return key.map(OwnKey::Tpm).map(Some);
    }
    Ok(PrivateKeyDer::from_pem_slice(text).ok().map(OwnKey::File))
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
