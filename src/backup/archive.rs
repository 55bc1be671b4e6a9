//! The archive inside a backup: files under relative names (POSIX ustar with GNU long names), written and read in one pass.
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};
use storage::file::{PRIVATE, private_dir};
use tar::{Archive, Builder, EntryType, Header};

/// Writes an archive.
pub struct Writer<W: Write>(Builder<W>);

impl<W: Write> Writer<W> {
    /// An archive without entries.
    pub fn new(out: W) -> Self {
        Self(Builder::new(out))
    }

    /// Adds a file of these bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.append(name, bytes.len() as u64, bytes)
    }

    /// Adds a file as long as it is now: what is appended to it meanwhile is left out.
    ///
    /// # Errors
    /// When it cannot be read or written, or is cut short meanwhile.
    pub fn file(&mut self, name: &str, path: &Path) -> Result<()> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        self.append(name, length, file.take(length))
    }

    fn append(&mut self, name: &str, length: u64, from: impl Read) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(PRIVATE);
        header.set_size(length);
        let mut counted = Counted { from, read: 0 };
        self.0
            .append_data(&mut header, name, &mut counted)
            .with_context(|| name.to_owned())?;
        ensure!(
            counted.read == length,
            "{name}: was cut short while it was read"
        );
        Ok(())
    }

    /// Ends the archive, and gives back what was written to.
    ///
    /// # Errors
    /// When the end cannot be written.
    pub fn finish(self) -> Result<W> {
        Ok(self.0.into_inner()?)
    }
}

struct Counted<R> {
    from: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.read += read as u64;
        Ok(read)
    }
}

/// Writes every file of an archive below a folder, for this user alone, and reads it to its very end.
///
/// # Errors
/// When it cannot be read or written, or holds what a backup never does: a link, or a name that leads out of the folder.
pub fn extract(mut from: impl Read, to: &Path) -> Result<()> {
    let mut archive = Archive::new(&mut from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let kind = entry.header().entry_type();
        if kind != EntryType::Regular || !is_below(&name) {
            bail!("{}: is nothing that a backup holds", name.display());
        }
        let path = to.join(&name);
        private_dir(path.parent().unwrap_or(to))?;
        let mut open = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut open, PRIVATE);
        let mut file = open
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| name.display().to_string())?;
        io::copy(&mut entry, &mut file)?;
        file.sync_all()?;
    }
    // What is behind the archive is the end of the stream, which says that nothing was cut off.
    io::copy(&mut from, &mut io::sink())?;
    Ok(())
}

fn is_below(name: &Path) -> bool {
    let mut parts = name.components();
    name.components().count() > 0 && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Every file below a folder, with its path from there, in order. Links, pipes and sockets are left out.
///
/// # Errors
/// When a folder cannot be read, or is deeper or larger than any of a node's.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    /// Folders within each other.
    const MAX_DEPTH: usize = 8;
    /// Files of a node: mostly blobs.
    const MAX_FILES: usize = 1 << 20;
    let mut found = Vec::new();
    let mut left = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = left.pop() {
        let at = dir.join(&below);
        ensure!(depth <= MAX_DEPTH, "{}: too deep", at.display());
        for entry in fs::read_dir(&at).with_context(|| at.display().to_string())? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, below.join(entry.file_name()));
            if kind.is_dir() {
                left.push((path, depth + 1));
            } else if kind.is_file() {
                found.push(path);
                ensure!(
                    found.len() <= MAX_FILES,
                    "{}: too many files",
                    dir.display()
                );
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_out_and_nothing_leaves_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("data/{}/x", "long-".repeat(40));
        let mut writer = Writer::new(Vec::new());
        writer.bytes("a.txt", b"one").unwrap();
        writer.bytes(&long, b"two").unwrap();
        let bytes = writer.finish().unwrap();
        extract(&bytes[..], dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join(&long)).unwrap(), b"two");
        let found = files(dir.path()).unwrap();
        assert_eq!(found, [PathBuf::from("a.txt"), PathBuf::from(long)]);
        assert!(
            extract(&bytes[..], dir.path()).is_err(),
            "nothing is written over"
        );
        for name in ["../out", "/abs", "a/../../out"] {
            let mut header = Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(EntryType::Regular);
            header.set_size(0);
            header.set_cksum();
            let bytes = [header.as_bytes().as_slice(), &[0; 1_024]].concat();
            let other = tempfile::tempdir().unwrap();
            assert!(
                extract(&bytes[..], &other.path().join("in")).is_err(),
                "{name}"
            );
            assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
        }
    }
}
