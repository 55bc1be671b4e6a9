//! Keys that are not TLS keys: a node's Ed25519 signing key, and a client's P-384 key for signed assertions.
use super::{PkiError, files};
use ed25519_dalek::{
    SigningKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, spki::der::pem::LineEnding},
};
use rand::CryptoRng;
use std::path::{Path, PathBuf};
use types::Secret;

/// A client's key pair for SMART Backend Services (ES384).
pub struct ClientKey {
    /// PKCS#8 PEM of the private key.
    pub private_pem: Secret<String>,
    /// SubjectPublicKeyInfo PEM of the public key.
    pub public_pem: String,
}

/// Draws a P-384 key pair (from the operating system's random source).
///
/// # Errors
/// When the random source fails.
pub fn new_client_key() -> Result<ClientKey, PkiError> {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
    Ok(ClientKey {
        private_pem: Secret::new(pair.serialize_pem()),
        public_pem: pair.public_key_pem(),
    })
}

/// Loads the key with which a node signs receipts and audit checkpoints, and makes it when there is none.
///
/// Of two processes that make it at once both get the same key.
///
/// # Errors
/// When the file cannot be read or made, is open to others than its owner, or is not a PKCS#8 Ed25519 key.
pub fn signing_key(path: &Path, rng: &mut impl CryptoRng) -> Result<SigningKey, PkiError> {
    if !path.exists() {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let pem = SigningKey::from_bytes(&seed)
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| PkiError::NotAKey { path: path.into() })?;
        files::create(path, pem.as_bytes(), files::PRIVATE)?;
    }
    load_signing_key(path)
}

/// The key pair of an authority that signs notes (leases) in the directory of the certificate authority, made when it
/// is not there: `NAME.key`, and `NAME.pem` with the public key, whose path is returned.
///
/// # Errors
/// As [`signing_key`], and when the public key cannot be written.
pub fn note_authority(
    dir: &Path,
    name: &str,
    rng: &mut impl CryptoRng,
) -> Result<(SigningKey, PathBuf), PkiError> {
    let key = signing_key(&dir.join(format!("{name}.key")), rng)?;
    let path = dir.join(format!("{name}.pem"));
    let pem = key
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .map_err(|_| PkiError::NotAKey { path: path.clone() })?;
    files::replace(&path, pem.as_bytes(), files::PUBLIC)?;
    Ok((key, path))
}

/// Writes the public part of a node's signing key, for those who check what it signed without its certificate.
///
/// # Errors
/// As [`load_signing_key`], and when the public key cannot be written.
pub fn publish_signing_key(signing_key: &Path, to: &Path) -> Result<(), PkiError> {
    let key = load_signing_key(signing_key)?.verifying_key();
    let pem = key
        .to_public_key_pem(LineEnding::LF)
        .map_err(|_| PkiError::NotAKey { path: to.into() })?;
    files::replace(to, pem.as_bytes(), files::PUBLIC)
}

/// Loads the key with which a node signs receipts and audit checkpoints.
///
/// # Errors
/// When the file cannot be read, is open to others than its owner, or is not a PKCS#8 Ed25519 key.
pub fn load_signing_key(path: &Path) -> Result<SigningKey, PkiError> {
    SigningKey::from_pkcs8_pem(files::read_private(path)?.reveal())
        .map_err(|_| PkiError::NotAKey { path: path.into() })
}
