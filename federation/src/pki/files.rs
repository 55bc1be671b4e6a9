//! Files that hold keys and certificates: written whole or not at all, and keys readable by their owner alone.
use super::PkiError;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
pub use storage::file::{PRIVATE, PUBLIC};
use types::Secret;

/// Replaces a file by a whole new one that is durable when this returns.
///
/// # Errors
/// When the directory cannot be written; the former file stays.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    storage::file::replace(path, bytes, mode)
        .map(drop)
        .map_err(|source| PkiError::io(path, source))
}

/// Replaces a file that every user of this machine reads: the authority's certificate and revocation list.
///
/// # Errors
/// When the directory cannot be written; the former file stays.
pub fn replace_for_all(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    storage::file::replace_for_all(path, bytes).map_err(|source| PkiError::io(path, source))
}

/// Makes a file that must not exist yet, with the permission bits `mode` of Unix (such as 0o600), durable when this
/// returns. False when it exists: nothing was changed.
///
/// # Errors
/// When the directory cannot be written.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<bool, PkiError> {
    storage::file::create(path, bytes, mode).map_err(|source| PkiError::io(path, source))
}

/// Reads a private key's file.
///
/// # Errors
/// When it cannot be read, or anybody but its owner may read or write it.
pub fn read_private(path: &Path) -> Result<Secret<String>, PkiError> {
    let mode = fs::metadata(path)
        .map_err(|source| PkiError::io(path, source))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(PkiError::KeyExposed {
            path: path.into(),
            mode: mode & 0o777,
        });
    }
    read(path).map(Secret::new)
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::io(path, source))
}

/// Makes a directory for its owner alone; one that exists stays as it is.
///
/// # Errors
/// When it cannot be made.
pub fn private_dir(path: &Path) -> Result<(), PkiError> {
    storage::file::private_dir(path).map_err(|source| PkiError::io(path, source))
}
