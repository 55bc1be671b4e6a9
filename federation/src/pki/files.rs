//! Files that hold keys and certificates: written whole or not at all, and keys readable by their owner alone.
use super::PkiError;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Private keys: the owner reads and writes.
pub const PRIVATE: u32 = 0o600;
/// Certificates and lists: everybody reads.
pub const PUBLIC: u32 = 0o644;

/// Replaces a file by a whole new one that is durable when this returns.
///
/// # Errors
/// When the directory cannot be written; the former file stays.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let written = beside(path, bytes, mode).and_then(|temporary| {
        fs::rename(&temporary, path)?;
        sync_parent(path)
    });
    written.map_err(|source| PkiError::io(path, source))
}

/// Makes a file that must not exist yet, durable when this returns. False when it exists: nothing was changed.
///
/// # Errors
/// When the directory cannot be written.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<bool, PkiError> {
    let made = beside(path, bytes, mode).and_then(|temporary| {
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        match linked {
            Ok(()) => sync_parent(path).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    });
    made.map_err(|source| PkiError::io(path, source))
}

/// Reads a private key's file.
///
/// # Errors
/// When it cannot be read, or anybody but its owner may read or write it.
pub fn read_private(path: &Path) -> Result<String, PkiError> {
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
    read(path)
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
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| PkiError::io(path, source))
}

/// Writes a durable file beside `path`, of this process and thread alone.
fn beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<std::path::PathBuf> {
    let thread = format!("{:?}", std::thread::current().id());
    let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{digits}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(temporary)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
