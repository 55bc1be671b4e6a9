//! What a device keeps through a loss of power: small files, each replaced whole and durably, so that whoever is switched off at
//! any moment has the old one or the new one.
use super::SimError;
use serde::{Serialize, de::DeserializeOwned};
use std::{io, path::Path};

/// Files of a device are its user's alone.
const MODE: u32 = 0o600;

/// Keeps it. It is durable when this returns.
pub(super) fn put(path: &Path, what: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(what).map_err(io::Error::other)?;
    storage::file::replace(path, &bytes, MODE).map(drop)
}

/// What a file says; nothing yet when there is none.
pub(super) fn get<T: DeserializeOwned + Default>(path: &Path) -> Result<T, SimError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(source) => return Err(SimError::io(path.display().to_string())(source)),
    };
    serde_json::from_slice(&bytes).map_err(|error| SimError::Data {
        path: path.into(),
        problem: error.to_string(),
    })
}
