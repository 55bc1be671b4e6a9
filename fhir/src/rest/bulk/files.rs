//! The folder of a job: its two records, and its files of lines. Where another node is to go on with it, everything is in
//! chunks elsewhere too ([`storage::chunks`]), before it is on this disk.
use parking_lot::{Mutex, MutexGuard};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use storage::{chunks::Chunks, file::PRIVATE};

/// The file of what was asked for.
pub const ASKED: &str = "asked.json";
/// The file of how far it is.
pub const DONE: &str = "done.json";
/// The beginning of the names of chunks.
const PREFIX: &str = "bulk/";
/// The file that says that what was here alone is kept elsewhere: a folder that is not there was deleted since then.
const KEPT: &str = "kept";
/// Bytes of a file that are put elsewhere at once.
const PIECE_BYTES: usize = 1 << 20;
/// One file at a time is brought here or grows: what is brought is not put in the place of what grew meanwhile.
static TURN: Mutex<()> = Mutex::new(());

/// The folder of one job.
#[derive(Clone)]
pub struct Folder {
    dir: PathBuf,
    kept: Option<Arc<dyn Chunks>>,
}

/// The folders of jobs below a folder. Those that are kept elsewhere are brought here first, but for their lines, and those
/// that are not any more are removed.
pub fn folders(dir: &Path, kept: Option<&Arc<dyn Chunks>>) -> io::Result<Vec<(String, Folder)>> {
    let here = || -> io::Result<Vec<(String, Folder)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let name = entry.file_name().to_string_lossy().into_owned();
                found.push((name, Folder::new(entry.path(), kept.cloned())));
            }
        }
        Ok(found)
    };
    let Some(chunks) = kept else {
        return here();
    };
    let marker = dir.join(KEPT);
    if !marker.try_exists()? {
        let listed = chunks.list(PREFIX)?;
        for (_, folder) in here()? {
            let record = folder.name(ASKED);
            if listed.iter().all(|(name, _)| *name != record) {
                folder.keep_all()?;
            }
        }
        storage::file::create(&marker, b"", PRIVATE)?;
    }
    let listed = chunks.list(PREFIX)?;
    let of = |name: &str| {
        let (id, file) = name.strip_prefix(PREFIX)?.split_once('/')?;
        Some((id.to_owned(), file == ASKED))
    };
    let parts: Vec<(String, bool)> = listed.iter().filter_map(|(name, _)| of(name)).collect();
    let begun = parts.iter().filter(|(_, is_record)| *is_record);
    let ids: BTreeSet<String> = begun.map(|(id, _)| id.clone()).collect();
    let mut others: BTreeSet<String> = parts.into_iter().map(|(id, _)| id).collect();
    others.extend(here()?.into_iter().map(|(id, _)| id));
    // What never began, and what a node had begun to remove.
    for id in others.difference(&ids) {
        Folder::new(dir.join(id), kept.cloned()).remove()?;
    }
    for id in &ids {
        Folder::new(dir.join(id), kept.cloned()).bring()?;
    }
    here()
}

impl Folder {
    /// At a path, and elsewhere.
    pub const fn new(dir: PathBuf, kept: Option<Arc<dyn Chunks>>) -> Self {
        Self { dir, kept }
    }

    /// The name of its job.
    pub fn id(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is there still.
    pub fn exists(&self) -> bool {
        self.dir.exists()
    }

    fn name(&self, file: &str) -> String {
        format!("{PREFIX}{}/{file}", self.id())
    }

    /// Keeps a record: durable when this returns.
    pub fn keep(&self, name: &str, record: &impl Serialize) -> io::Result<()> {
        self.put(name, &serde_json::to_vec(record)?)
    }

    /// Keeps a file as a whole: durable when this returns.
    pub fn put(&self, name: &str, text: &[u8]) -> io::Result<()> {
        if let Some(chunks) = &self.kept {
            chunks.put(&self.name(name), 0, text)?;
        }
        storage::file::replace(&self.dir.join(name), text, PRIVATE).map(drop)
    }

    /// The record of that name.
    pub fn kept<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.dir.join(name)).ok()?).ok()
    }

    /// Adds lines to what counts of a file: durable when this returns. What is beyond it was never told of, and is cut away.
    /// False when the file is shorter than that: somebody else took of it.
    pub fn append(&self, name: &str, counts: u64, lines: &[u8]) -> io::Result<bool> {
        let turn = TURN.lock();
        if !self.brought(name, counts, &turn)? {
            return Ok(false);
        }
        self.keep_lines(name, counts, lines)?;
        let path = self.dir.join(name);
        let mut open = OpenOptions::new();
        let open = open.write(true).create(counts == 0).mode(PRIVATE);
        let mut file = open.open(&path)?;
        file.set_len(counts)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(lines)?;
        file.sync_all()?;
        if counts == 0 {
            storage::file::sync_parent(&path)?;
        }
        Ok(true)
    }

    /// Keeps bytes of a file elsewhere from an offset on, in pieces: what shows several at once holds no more than that.
    fn keep_lines(&self, name: &str, mut at: u64, lines: &[u8]) -> io::Result<()> {
        let Some(chunks) = &self.kept else {
            return Ok(());
        };
        for piece in lines.chunks(PIECE_BYTES) {
            chunks.put(&self.name(name), at, piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether so many bytes of a file are here, of which those that are elsewhere are brought.
    pub fn has(&self, name: &str, counts: u64) -> io::Result<bool> {
        // Who reads what is here waits for nobody.
        Ok(self.length(name)? >= counts || self.brought(name, counts, &TURN.lock())?)
    }

    /// Bytes of a file that are here.
    fn length(&self, name: &str) -> io::Result<u64> {
        match fs::metadata(self.dir.join(name)) {
            Ok(data) => Ok(data.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn brought(&self, name: &str, counts: u64, _turn: &MutexGuard<'_, ()>) -> io::Result<bool> {
        if self.length(name)? >= counts {
            return Ok(true);
        }
        if let Some(chunks) = &self.kept {
            let new = self.dir.join(format!("new-{name}"));
            let mut open = OpenOptions::new();
            let open = open.write(true).create(true).truncate(true).mode(PRIVATE);
            let mut file = open.open(&new)?;
            let mut write = |bytes: &[u8]| file.write_all(bytes);
            chunks.show(&self.name(name), &mut write)?;
            file.sync_all()?;
            storage::file::rename(&new, &self.dir.join(name))?;
        }
        Ok(self.length(name)? >= counts)
    }

    /// A file of which so many bytes count, to read.
    pub fn open(&self, name: &str, counts: u64) -> io::Result<File> {
        match self.has(name, counts)? {
            true => File::open(self.dir.join(name)),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Removes it with everything in it; that it is not there is as good. What is elsewhere goes before what is here, so that
    /// whoever finds it here may ask again; and first of all the record without which there is no job.
    pub fn remove(&self) -> io::Result<()> {
        if let Some(chunks) = &self.kept {
            let own = chunks.list(&self.name(""))?;
            let mut names: Vec<String> = own.into_iter().map(|(name, _)| name).collect();
            names.sort_by_key(|name| *name != self.name(ASKED));
            chunks.remove(&names)?;
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps elsewhere what is here.
    fn keep_all(&self) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        // With that record there is a job: last.
        names.sort_by_key(|name| name == ASKED);
        for name in names {
            self.keep_lines(&name, 0, &fs::read(self.dir.join(&name))?)?;
        }
        Ok(())
    }

    /// Has the records here be those that are elsewhere. Lines that were left by another course of the job are not its own.
    fn bring(&self) -> io::Result<()> {
        let Some(chunks) = &self.kept else {
            return Ok(());
        };
        let text = |name: &str| -> io::Result<Option<Vec<u8>>> {
            let mut text = Vec::new();
            let mut see = |bytes: &[u8]| {
                text.extend_from_slice(bytes);
                Ok(())
            };
            let shown = chunks.show(&self.name(name), &mut see)?;
            Ok(shown.map(|_| text))
        };
        let (Some(asked), Some(done)) = (text(ASKED)?, text(DONE)?) else {
            return Ok(());
        };
        let same =
            |name: &str, text: &[u8]| fs::read(self.dir.join(name)).is_ok_and(|own| own == text);
        if same(ASKED, &asked) && same(DONE, &done) {
            return Ok(());
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        storage::file::private_dir(&self.dir)?;
        for (name, text) in [(DONE, done), (ASKED, asked)] {
            storage::file::replace(&self.dir.join(name), &text, PRIVATE)?;
        }
        storage::file::sync_parent(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read as _, os::unix::fs::MetadataExt as _, thread};
    use storage::chunks::memory::Memory;

    const NAME: &str = "Condition.1.ndjson";
    const READERS: usize = 8;
    const ROUNDS: usize = 50;

    fn read(folder: &Folder, counts: u64) -> Vec<u8> {
        let mut all = Vec::new();
        let file = folder.open(NAME, counts).unwrap();
        file.take(counts).read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn what_is_added_is_kept_in_pieces() {
        let (dir, chunks) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
        let path = dir.path().join("job");
        storage::file::private_dir(&path).unwrap();
        let folder = Folder::new(path, Some(chunks.clone()));
        assert!(folder.append(NAME, 0, b"first").unwrap());
        let lines = vec![b'x'; 2 * PIECE_BYTES + 1];
        assert!(folder.append(NAME, 5, &lines).unwrap());
        let mut pieces = Vec::new();
        let mut see = |bytes: &[u8]| {
            pieces.push(bytes.len());
            Ok(())
        };
        chunks.show(&folder.name(NAME), &mut see).unwrap();
        assert_eq!(pieces, [5, PIECE_BYTES, PIECE_BYTES, 1]);
        assert_eq!(read(&folder, 5 + lines.len() as u64)[5..], lines);
    }

    #[test]
    fn what_several_read_at_once_and_another_adds_to_is_brought_here_whole() {
        let (dir, chunks) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
        let lines = vec![b'x'; 100_000];
        let counts = lines.len() as u64;
        for round in 0..ROUNDS {
            let path = dir.path().join(round.to_string());
            storage::file::private_dir(&path).unwrap();
            let folder = Folder::new(path, Some(chunks.clone()));
            chunks.put(&folder.name(NAME), 0, &lines).unwrap();
            thread::scope(|scope| {
                for _ in 0..READERS {
                    scope.spawn(|| assert!(read(&folder, counts) == lines));
                }
                scope.spawn(|| assert!(folder.append(NAME, counts, b"more").unwrap()));
            });
            let all = [&lines[..], b"more"].concat();
            assert!(fs::read(folder.dir.join(NAME)).unwrap() == all);
            assert!(read(&folder, counts + 4) == all);
            let mode = fs::metadata(folder.dir.join(NAME)).unwrap().mode();
            assert_eq!(mode & 0o777, PRIVATE);
        }
    }
}
