//! Files that are replaced as a whole, so that a reader never sees half of one.
use anyhow::{Context, Result};
use std::path::Path;
use storage::file::{PRIVATE, PUBLIC};

/// Replaces a file, atomically.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes, PUBLIC)
}

/// Replaces a file that its owner alone may read, atomically.
pub fn replace_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes, PRIVATE)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let written = storage::file::replace(path, bytes, mode);
    written
        .map(drop)
        .with_context(|| path.display().to_string())
}
