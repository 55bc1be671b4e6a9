//! The bytes of blobs, as files of a folder: `DIGEST.part` while they come, `DIGEST` once they were checked as a whole.
use super::{Descriptor, Digest};
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes that are read at once to be checked.
const PIECE_BYTES: usize = 1 << 20;
/// The ending of what is not whole.
const PART: &str = "part";
/// The beginning of the name of what is being put in.
const NEW: &str = "new-";

/// How much of a blob is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// All of it, checked.
    Whole,
    /// So many bytes from its beginning, unchecked.
    Part(u64),
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The next one is wanted at this offset.
    Next(u64),
    /// All of it is here now, checked and durable.
    Whole,
    /// All of it came, and it is not what its name says: nothing of it is kept.
    Broken,
}

/// The folder. Its steps block; one at a time works on a blob.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    /// Blobs that were put in and that no row names yet, by how many hold them: no sweep takes them.
    held: Mutex<BTreeMap<Digest, usize>>,
    /// Chunks are taken one after the other.
    turn: Mutex<()>,
}

/// A blob that was put in, until the row that names it is durable: then this is dropped.
#[derive(Debug)]
pub struct PutIn {
    files: Arc<Files>,
    /// What it is.
    pub descriptor: Descriptor,
}

impl Drop for PutIn {
    fn drop(&mut self) {
        let mut held = self.files.held.lock();
        if let Some(count) = held.get_mut(&self.descriptor.digest) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.descriptor.digest);
            }
        }
    }
}

impl Files {
    /// The folder at a path, which is made when it is absent, for this user alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        storage::file::private_dir(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            // Put in by a node that ended before it was named.
            if name.is_some_and(|name| name.starts_with(NEW)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            held: Mutex::default(),
            turn: Mutex::default(),
        })
    }

    fn whole(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    fn part(&self, digest: Digest) -> PathBuf {
        self.whole(digest).with_extension(PART)
    }

    /// How much of a blob is here.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn held(&self, digest: Digest) -> io::Result<Held> {
        if self.whole(digest).try_exists()? {
            return Ok(Held::Whole);
        }
        match fs::metadata(self.part(digest)) {
            Ok(data) => Ok(Held::Part(data.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Held::Part(0)),
            Err(error) => Err(error),
        }
    }

    /// Takes the next chunk of a blob. One that does not begin where the last one ended changes nothing.
    ///
    /// # Errors
    /// It cannot be written: nothing of it counts.
    pub fn take(&self, descriptor: Descriptor, offset: u64, chunk: &[u8]) -> io::Result<Taken> {
        let Descriptor { digest, size } = descriptor;
        let _turn = self.turn.lock();
        let Held::Part(have) = self.held(digest)? else {
            return Ok(Taken::Whole);
        };
        let end = offset.saturating_add(chunk.len() as u64);
        if offset != have || end > size || (chunk.is_empty() && size > 0) {
            return Ok(Taken::Next(have.min(size)));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(self.part(digest))?;
        if let Err(error) = file.write_all(chunk) {
            // What was written in part would be taken for what came.
            let _shorter = file.set_len(have);
            return Err(error);
        }
        if end < size {
            return Ok(Taken::Next(end));
        }
        self.check(digest, file)
    }

    /// How far a blob has come. One of which all came, and that the node had no time to check before it ended, is checked
    /// now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn settle(&self, descriptor: Descriptor) -> io::Result<Taken> {
        let Descriptor { digest, size } = descriptor;
        let _turn = self.turn.lock();
        match self.held(digest)? {
            Held::Whole => Ok(Taken::Whole),
            Held::Part(have) if have < size || size == 0 => Ok(Taken::Next(have)),
            Held::Part(_) => self.check(digest, File::open(self.part(digest))?),
        }
    }

    /// Checks what came as a whole, and shows it.
    fn check(&self, digest: Digest, mut file: File) -> io::Result<Taken> {
        file.seek(SeekFrom::Start(0))?;
        if hash(&mut file)?.digest != digest {
            drop(file);
            fs::remove_file(self.part(digest))?;
            return Ok(Taken::Broken);
        }
        file.sync_all()?;
        storage::file::rename(&self.part(digest), &self.whole(digest))?;
        Ok(Taken::Whole)
    }

    /// Bytes of a whole blob from an offset, at most `most`; none when it is not whole here, or ends before.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, digest: Digest, offset: u64, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(self.whole(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if offset > file.metadata()?.len() {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The file of a blob, if it is whole here.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn path(&self, digest: Digest) -> io::Result<Option<PathBuf>> {
        let whole = matches!(self.held(digest)?, Held::Whole);
        Ok(whole.then(|| self.whole(digest)))
    }

    /// A blob, to be read from its beginning.
    ///
    /// # Errors
    /// Not found when it is not whole here; it cannot be read.
    pub fn reader(&self, digest: Digest) -> io::Result<File> {
        File::open(self.path(digest)?.ok_or(io::ErrorKind::NotFound)?)
    }

    /// Puts a blob in that was made here. Until what comes back is dropped no sweep takes it: keep that until the row that
    /// names it is durable ([`super::keep`]).
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn put_in(self: &Arc<Self>, mut from: impl Read) -> io::Result<PutIn> {
        let mut file = tempfile(&self.dir)?;
        io::copy(&mut from, &mut file.1)?;
        file.1.seek(SeekFrom::Start(0))?;
        let descriptor = hash(&mut file.1)?;
        file.1.sync_all()?;
        *self.held.lock().entry(descriptor.digest).or_default() += 1;
        let put = PutIn {
            files: Arc::clone(self),
            descriptor,
        };
        storage::file::rename(&file.0, &self.whole(descriptor.digest))?;
        Ok(put)
    }

    /// Deletes every file but those of `left` and those that were just put in: how many.
    ///
    /// # Errors
    /// The folder cannot be read; what cannot be deleted is left to the next time.
    pub fn sweep(&self, left: &BTreeSet<Digest>) -> io::Result<usize> {
        let _turn = self.turn.lock();
        let mut deleted = 0;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let digest = name.and_then(|name| Digest::read(&hex::decode(name).ok()?));
            let Some(digest) = digest else {
                continue;
            };
            if !left.contains(&digest) && !self.held.lock().contains_key(&digest) {
                fs::remove_file(&path)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// A new file of a name that is no digest's.
fn tempfile(dir: &Path) -> io::Result<(PathBuf, File)> {
    let mut name = [0; 8];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut name);
    let path = dir.join(format!("{NEW}{}", hex::encode(name)));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    Ok((path, file))
}

/// Name and length of what can be read.
///
/// # Errors
/// It cannot be read.
pub fn hash(from: &mut impl Read) -> io::Result<Descriptor> {
    let (mut hasher, mut size) = (Context::new(&SHA256), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece)?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hasher.update(bytes);
        size += read as u64;
    }
    let digest = Digest::read(hasher.finish().as_ref());
    let digest = digest.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Descriptor { digest, size })
}
