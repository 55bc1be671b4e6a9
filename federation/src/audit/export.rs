//! An audit log as files of C2SP tlog-tiles (c2sp.org/tlog-tiles), so that whoever trusts no program of ours checks it by
//! another: the signed head, the key that verifies it, and the entries in bundles. Tiles of hashes are left out: they
//! follow from the entries.
use super::Log;
use crate::{
    db::DbError,
    note::{NoteError, TreeHead, verifier_key},
};
use ed25519_dalek::VerifyingKey;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Entries in a bundle (tlog-tiles, "Log entries").
const BUNDLE: u64 = 256;

/// Why a log was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read.
    #[error(transparent)]
    Db(#[from] DbError),
    /// There is no signed head.
    #[error("the log is empty")]
    Empty,
    /// The head is not signed by the log's key.
    #[error("signed head: {0}")]
    Note(#[from] NoteError),
    /// The log has fewer entries than its head says.
    #[error("the log has no entry {0}, which its head covers")]
    Missing(u64),
    /// An entry is longer than a bundle can say, which none of ours is.
    #[error("entry {0} is too long")]
    Long(u64),
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Writes the log into a directory, which is made: `checkpoint`, `key` and `tile/entries/…`. How many entries. It is written
/// beside its place and gets its name when it is whole and durable.
///
/// # Errors
/// [`ExportError`]; a directory that is there is not written to, and nothing of what was written stays.
pub fn export(log: &Log, origin: &str, key: &VerifyingKey, dir: &Path) -> Result<u64, ExportError> {
    let note = log.checkpoint()?.ok_or(ExportError::Empty)?;
    let size = TreeHead::open(&note, origin, key)?.size;
    let failed = |source| ExportError::File {
        path: dir.to_owned(),
        source,
    };
    if fs::symlink_metadata(dir).is_ok() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let stage = beside(dir).map_err(failed)?;
    fs::create_dir(&stage).map_err(failed)?;
    let key = format!("{}\n", verifier_key(origin, key));
    let done = fill(log, size, (key.as_str(), note.as_str()), &stage)
        .and_then(|()| storage::file::rename(&stage, dir).map_err(failed));
    if done.is_err() {
        // The disk may be full: what was written makes it so. Of a folder that has its name nothing is here.
        let _gone = fs::remove_dir_all(&stage);
    }
    done.map(|()| size)
}

/// The folder of this process beside a place, in which what shall be there is written.
fn beside(dir: &Path) -> io::Result<PathBuf> {
    let mut name = dir
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    Ok(dir.with_file_name(name))
}

/// Writes a log of so many entries, its key and its signed head, durably.
fn fill(log: &Log, size: u64, (key, note): (&str, &str), dir: &Path) -> Result<(), ExportError> {
    let mut written = Vec::new();
    for number in 0..size.div_ceil(BUNDLE) {
        let start = number * BUNDLE;
        let count = BUNDLE.min(size - start);
        let path = dir.join("tile/entries").join(name(number, count));
        write(&path, &bundle(log, start, count)?)?;
        written.push(path);
    }
    for (name, text) in [("key", key), ("checkpoint", note)] {
        let path = dir.join(name);
        write(&path, text.as_bytes())?;
        written.push(path);
    }
    // All of it was handed to the disk by now: the first of them waits for the others.
    written.iter().try_for_each(|path| {
        let synced = fs::File::open(path).and_then(|file| file.sync_all());
        synced.map_err(|source| ExportError::File {
            path: path.clone(),
            source,
        })
    })
}

/// Each entry behind its length in two bytes, the higher first.
fn bundle(log: &Log, start: u64, count: u64) -> Result<Vec<u8>, ExportError> {
    let leaves = log.leaves(start, count)?;
    let mut bytes = Vec::new();
    for (at, leaf) in (start..).zip(&leaves) {
        let length = u16::try_from(leaf.len()).map_err(|_| ExportError::Long(at))?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(leaf);
    }
    match leaves.len() as u64 {
        found if found < count => Err(ExportError::Missing(start + found)),
        _ => Ok(bytes),
    }
}

/// The path of bundle `number` below `tile/entries`: groups of three digits, all but the last behind an `x`; a bundle
/// that is not full says how many entries it has.
fn name(number: u64, count: u64) -> String {
    let mut path = format!("{:03}", number % 1_000);
    let mut rest = number / 1_000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    if count < BUNDLE {
        path.push_str(&format!(".p/{count}"));
    }
    path
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, bytes));
    written.map_err(|source| ExportError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_where_the_standard_says() {
        for (number, count, expected) in [
            (0, 256, "000"),
            (67, 112, "067.p/112"),
            (999, 256, "999"),
            (1_234_067, 256, "x001/x234/067"),
            (1_000, 1, "x001/000.p/1"),
        ] {
            assert_eq!(name(number, count), expected);
        }
    }
}
