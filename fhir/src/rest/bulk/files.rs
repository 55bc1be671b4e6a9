//! The folder of a job: its two records, and its files of lines.
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use storage::file::PRIVATE;

/// The folders below a folder, by name.
pub fn folders(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Keeps a record: durable when this returns.
pub fn keep(dir: &Path, name: &str, record: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(record)?;
    storage::file::replace(&dir.join(name), &text, PRIVATE).map(drop)
}

/// The record of that name.
pub fn kept<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(dir.join(name)).ok()?).ok()
}

/// Adds lines to what counts of a file: durable when this returns. What is beyond it was never told of, and is cut away.
/// False when the file is shorter than that: somebody else took of it.
pub fn append(path: &Path, counts: u64, lines: &[u8]) -> io::Result<bool> {
    let mut open = OpenOptions::new();
    let open = open.write(true).create(counts == 0).mode(PRIVATE);
    let mut file = match open.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    if file.metadata()?.len() < counts {
        return Ok(false);
    }
    file.set_len(counts)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(lines)?;
    file.sync_all()?;
    if counts == 0 {
        storage::file::sync_parent(path)?;
    }
    Ok(true)
}

/// A file, to read.
pub fn open(dir: &Path, name: &str) -> io::Result<File> {
    File::open(dir.join(name))
}

/// Removes a folder with everything in it; that it is not there is as good.
pub fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
