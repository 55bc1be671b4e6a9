//! A TLS key in the TPM of its machine: what is in the key's file is a number, of which the TPM makes the key, and nobody
//! else can.
//!
//! Whoever reads the file and may use the TPM can sign with the key while they are on the machine; they cannot take it
//! along, and a backup or a disk that is stolen has no key in it. When the TPM is cleared, its keys are gone.
//!
//! A signature takes as long as the TPM thinks, and the TPM does one thing at a time. Of a device the key stays loaded; a
//! simulator serves one connection, and is let go of after each signature.
use super::{OWNER, Signature, Tpm, TpmError, wire};
use parking_lot::Mutex;
use rand::CryptoRng;
use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    pki_types::{SubjectPublicKeyInfoDer, alg_id},
    sign::{Signer, SigningKey, public_key_to_spki},
};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::runtime::{Handle, RuntimeFlavor};

/// How a key's file begins that is no key.
const HEAD: &str = "medmesh-tpm-key/1";
/// Handshakes that wait for a signature at once. Each holds a thread meanwhile, of which the runtime has some 500, and
/// whoever dials can make the node sign. A TPM makes 5 to 20 signatures in a second: the last of these has its own within
/// the time of a handshake.
const MAX_WAITING: usize = 16;

/// A P-256 key that signs by ECDSA with SHA-256.
#[derive(Clone)]
pub struct TpmKey(Arc<Inner>);

struct Inner {
    tpm: PathBuf,
    /// What tells it from other keys of the TPM. It is no secret.
    number: [u8; 32],
    point: [u8; wire::POINT_BYTES],
    loaded: Mutex<Option<(Tpm, u32)>>,
    /// Handshakes that wait for a signature.
    waiting: AtomicUsize,
}

/// One of the handshakes that may wait.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn of(waiting: &'a AtomicUsize) -> Option<Self> {
        let turn = Self(waiting);
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        (before < MAX_WAITING).then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl TpmKey {
    /// Has a TPM make another key.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn draw(tpm: &Path, rng: &mut impl CryptoRng) -> Result<Self, TpmError> {
        let mut number = [0; 32];
        rng.fill_bytes(&mut number);
        Self::load(tpm.to_owned(), number)
    }

    /// The key of a file's text; none where the text is not of one in a TPM.
    ///
    /// # Errors
    /// When the TPM does not make it.
    pub fn read(text: &str) -> Option<Result<Self, TpmError>> {
        let (tpm, number) = parts(text)?;
        Some(Self::load(tpm, number))
    }

    /// In which TPM the key of a file's text is; none where the text is not of one in a TPM.
    #[must_use]
    pub fn place(text: &str) -> Option<PathBuf> {
        parts(text).map(|(tpm, _)| tpm)
    }

    /// Whether a file's text is of this key.
    pub(crate) fn is_of(&self, text: &str) -> bool {
        parts(text).is_some_and(|(tpm, number)| tpm == self.0.tpm && number == self.0.number)
    }

    /// What its file holds.
    #[must_use]
    pub fn text(&self) -> String {
        let number = hex::encode(self.0.number);
        format!("{HEAD}\ntpm {}\nnumber {number}\n", self.0.tpm.display())
    }

    fn load(tpm: PathBuf, number: [u8; 32]) -> Result<Self, TpmError> {
        let (opened, handle, public) = aside(|| opened(&tpm, &number))?;
        let point = wire::point(wire::SIGNS, &public);
        let point = point.ok_or_else(|| opened.not_understood())?;
        let key = Inner {
            tpm,
            number,
            point,
            loaded: Mutex::new(None),
            waiting: AtomicUsize::new(0),
        };
        key.keep(opened, handle);
        Ok(Self(Arc::new(key)))
    }

    /// Signs a message, as DER (RFC 3279 §2.2.3).
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let digest = Sha256::digest(message).into();
        let signed = aside(|| self.0.sign(&digest))?;
        let body = signed.map(|number| integer(&number)).concat();
        Ok([&[0x30, body.len() as u8][..], &body].concat())
    }
}

/// Waits for a TPM; other tasks of the thread go on elsewhere meanwhile.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// A TPM with the key loaded: its handle and its public area.
fn opened(path: &Path, number: &[u8; 32]) -> Result<(Tpm, u32, Vec<u8>), TpmError> {
    let mut tpm = Tpm::open(path)?;
    let template = wire::public_area(wire::SIGNS, number, &[0; 32]);
    let (handle, public) = tpm.primary(OWNER, &template)?;
    Ok((tpm, handle, public))
}

impl Inner {
    fn sign(&self, digest: &[u8; 32]) -> Result<Signature, TpmError> {
        let mut loaded = self.loaded.lock();
        if let Some((mut tpm, handle)) = loaded.take() {
            // A machine that slept, or a resource manager that began anew, has forgotten it.
            if let Ok(signature) = tpm.sign(handle, digest) {
                *loaded = Some((tpm, handle));
                return Ok(signature);
            }
        }
        drop(loaded);
        let (mut tpm, handle, _) = opened(&self.tpm, &self.number)?;
        let signature = tpm.sign(handle, digest);
        self.keep(tpm, handle);
        signature
    }

    fn keep(&self, mut tpm: Tpm, handle: u32) {
        if tpm.is_shared() {
            *self.loaded.lock() = Some((tpm, handle));
        } else {
            let _gone_with_the_connection = tpm.flush(handle);
        }
    }
}

/// The TPM and the number in a file's text.
fn parts(text: &str) -> Option<(PathBuf, [u8; 32])> {
    let mut lines = text.strip_prefix(HEAD)?.trim().lines();
    let tpm = lines.next()?.strip_prefix("tpm ")?;
    let mut number = [0; 32];
    hex::decode_to_slice(lines.next()?.strip_prefix("number ")?, &mut number).ok()?;
    lines.next().is_none().then(|| (tpm.into(), number))
}

/// A number of 32 bytes as an INTEGER of DER (X.690 §8.3): no zeros in front but the one that keeps it positive.
fn integer(number: &[u8; wire::WORD_BYTES]) -> Vec<u8> {
    let last = number.len() - 1;
    let zeros = number.iter().take(last).take_while(|byte| **byte == 0);
    let mut digits: Vec<u8> = number.iter().copied().skip(zeros.count()).collect();
    if digits.first().is_some_and(|first| first & 0x80 != 0) {
        digits.insert(0, 0);
    }
    [&[2, digits.len() as u8][..], &digits].concat()
}

impl fmt::Debug for TpmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TpmKey({})", self.0.tpm.display())
    }
}

impl SigningKey for TpmKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let ours = SignatureScheme::ECDSA_NISTP256_SHA256;
        offered
            .contains(&ours)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P256, self.0.point))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TpmKey {
    /// Of too many handshakes at once some fail, and not the node.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let Some(_turn) = Turn::of(&self.0.waiting) else {
            let says = format!("{MAX_WAITING} handshakes wait for the TPM already");
            return Err(rustls::Error::General(says));
        };
        Self::sign(self, message).map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

impl rcgen::PublicKeyData for TpmKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for TpmKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).map_err(|error| {
            tracing::error!(%error, "the TPM does not sign");
            rcgen::Error::RemoteKeyError
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixListener, thread};

    #[test]
    fn while_as_many_handshakes_wait_as_may_the_next_is_refused_and_does_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let tpm = dir.path().join("tpm.sock");
        // It takes every command and answers none.
        let silent = UnixListener::bind(&tpm).unwrap();
        let key = TpmKey(Arc::new(Inner {
            tpm,
            number: [1; 32],
            point: [4; wire::POINT_BYTES],
            loaded: Mutex::new(None),
            waiting: AtomicUsize::new(0),
        }));
        let sign = |key: &TpmKey| Signer::sign(key, b"hello").unwrap_err().to_string();
        let waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let key = key.clone();
                thread::spawn(move || sign(&key))
            })
            .collect();
        while key.0.waiting.load(Ordering::Relaxed) < MAX_WAITING {
            thread::yield_now();
        }
        for _ in 0..2 {
            let said = sign(&key);
            assert!(said.contains("wait for the TPM"), "{said}");
        }
        drop(silent);
        for one in waiting {
            let said = one.join().unwrap();
            assert!(said.contains("tpm.sock"), "{said}");
        }
        // Their turns are free again.
        assert_eq!(key.0.waiting.load(Ordering::Relaxed), 0);
        let said = sign(&key);
        assert!(said.contains("tpm.sock"), "{said}");
    }

    #[test]
    fn a_number_in_der_is_positive_and_has_no_zeros_in_front() {
        let word = |end: &[u8]| wire::word(end).unwrap();
        for (number, der) in [
            (word(&[]), vec![2, 1, 0]),
            (word(&[1]), vec![2, 1, 1]),
            (word(&[0x80]), vec![2, 2, 0, 0x80]),
            (word(&[0x7f, 0xff]), vec![2, 2, 0x7f, 0xff]),
            ([0xff; 32], [&[2, 33, 0][..], &[0xff; 32]].concat()),
        ] {
            assert_eq!(integer(&number), der);
        }
    }

    #[test]
    fn the_file_of_a_key_names_its_tpm_and_its_number_and_anything_else_is_none() {
        let number = "ab".repeat(32);
        let good = format!("{HEAD}\ntpm /dev/a b\nnumber {number}\n");
        assert_eq!(parts(&good), Some(("/dev/a b".into(), [0xab; 32])));
        for bad in [
            String::new(),
            "-----BEGIN PRIVATE KEY-----".to_owned(),
            good.replace('1', "2"),
            good.replace("number", "nummer"),
            good.replace("abab", "ab"),
            format!("{good}more\n"),
            format!("{HEAD}\nnumber {number}\n"),
        ] {
            assert_eq!(parts(&bad), None, "{bad}");
        }
    }
}
