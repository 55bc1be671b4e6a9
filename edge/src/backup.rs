//! What a backup needs of a facility's encrypted store: a copy of one instant, a test, its log, and the mark of a restore.
//! None of it shows anything of what is stored.
use federation::{
    audit::{Log, Signer},
    port::PortError,
    restored,
};
use rusqlite::Connection;
use std::path::Path;
use store::{self, StoreError, StoreErrorKind};
use types::{Place, Timestamp};

fn open(data_dir: &Path, key_file: &Path) -> Result<Connection, StoreError> {
    let key = store::read_facility_key(key_file)?;
    store::open_beside(data_dir, &key)
}

/// The names of a facility's encrypted files: its store, and the copy of it that its FHIR stands on.
pub const FILES: [&str; 2] = [store::Store::FILE, crate::fhir::FILE];

fn open_file(data_dir: &Path, key_file: &Path, name: &str) -> Result<Connection, StoreError> {
    let key = store::read_facility_key(key_file)?;
    store::open_file(data_dir, &key, name)
}

/// Writes what an encrypted file ([`FILES`]) of a data directory holds at one instant into a new file, encrypted as it is.
///
/// # Errors
/// The file cannot be opened with that key, or the new one not be written.
pub fn copy(data_dir: &Path, key_file: &Path, name: &str, to: &Path) -> Result<(), StoreError> {
    let store = open_file(data_dir, key_file, name)?;
    storage::copy::copy(&store, to).map_err(|error| unreadable("copy the store", &error))
}

/// What is wrong with an encrypted file ([`FILES`]) of a data directory; none when it is whole.
///
/// # Errors
/// The file cannot be opened with that key.
pub fn fault(data_dir: &Path, key_file: &Path, name: &str) -> Result<Option<String>, StoreError> {
    let store = open_file(data_dir, key_file, name)?;
    storage::copy::fault(&store).map_err(|error| unreadable("look through the store", &error))
}

/// The audit log of the store.
///
/// # Errors
/// The store cannot be opened with that key, or holds no log.
pub fn log(data_dir: &Path, key_file: &Path) -> Result<Log, StoreError> {
    Ok(Log::of(open(data_dir, key_file)?)?)
}

/// Says in the store's audit log that it was put back ([`restored::mark`]).
///
/// # Errors
/// [`PortError`] when the log cannot be written.
pub fn mark(
    data_dir: &Path,
    key_file: &Path,
    here: &Place,
    signer: &Signer,
    now: Timestamp,
) -> Result<(), PortError> {
    let mut store = open(data_dir, key_file).map_err(PortError::of("mark a restore"))?;
    restored::mark(&mut store, here, signer, now).map(drop)
}

/// The engine's words may quote what is stored.
fn unreadable(op: &'static str, error: &rusqlite::Error) -> StoreError {
    tracing::debug!(code = ?error.sqlite_error_code(), op, "the engine failed");
    StoreError::new(StoreErrorKind::Unavailable, op)
}
