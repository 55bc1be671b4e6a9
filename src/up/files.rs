//! Files that are replaced as a whole, so that a reader never sees half of one.
use anyhow::{Context, Result};
use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

/// For everybody on this machine.
const PUBLIC: u32 = 0o644;
/// For the owner alone.
const SECRET: u32 = 0o600;

/// Replaces a file, atomically.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes, PUBLIC)
}

/// Replaces a file that its owner alone may read, atomically.
pub fn replace_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes, SECRET)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let at = || path.display().to_string();
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .with_context(at)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(at)?;
    fs::rename(&new, path).with_context(at)
}
