//! A text that somebody outside the node signed, and the key it is checked with: two files of a node's configuration.
use ed25519_dalek::{VerifyingKey, pkcs8::DecodePublicKey as _};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where a signed text and the key of its authority are.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignedFile {
    /// The signed note ([`crate::note`]).
    pub note: PathBuf,
    /// PEM of the public Ed25519 key of whoever signs it.
    pub authority: PathBuf,
}

/// Why a signed file is not read.
#[derive(Debug, thiserror::Error)]
pub enum SignedFileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The authority is no key.
    #[error("{} is not the PEM of an Ed25519 public key", .0.display())]
    NoKey(PathBuf),
}

impl SignedFile {
    /// The text of the note, unchecked, and the key to check it with.
    ///
    /// # Errors
    /// [`SignedFileError`].
    pub fn read(&self) -> Result<(String, VerifyingKey), SignedFileError> {
        let pem = text(&self.authority)?;
        let key = VerifyingKey::from_public_key_pem(&pem)
            .map_err(|_| SignedFileError::NoKey(self.authority.clone()))?;
        Ok((text(&self.note)?, key))
    }
}

fn text(path: &Path) -> Result<String, SignedFileError> {
    std::fs::read_to_string(path).map_err(|source| SignedFileError::Unreadable {
        path: path.to_owned(),
        source,
    })
}
