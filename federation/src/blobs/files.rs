//! The bytes of blobs, as files of a folder: `DIGEST.part` while they come, `DIGEST` once they were checked as a whole.
use super::{
    Descriptor, Digest,
    kept::{At, Kept},
    spared::{PutIn, Spared, Sweep},
};
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};
use storage::chunks::Chunks;

/// Bytes that are read at once to be checked.
const PIECE_BYTES: usize = 1 << 20;
/// The ending of what is not whole.
const PART: &str = "part";
/// Blobs that are kept open while they come: one from each of so many senders. Another one is opened for every chunk.
const MAX_ARRIVING: usize = 64;
/// Bytes that come before what came is brought to the disk meanwhile, so that the end of a blob waits for little.
const SYNC_BYTES: u64 = 32 << 20;
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
pub struct Files {
    dir: PathBuf,
    spared: Arc<Mutex<Spared>>,
    /// Chunks are taken one after the other. What comes is kept open, and hashed as it comes.
    turn: Mutex<BTreeMap<Digest, Arriving>>,
    /// Where the bytes are beside this disk, if another node is to follow this one.
    kept: Option<Kept>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("dir", &self.dir).finish()
    }
}

/// A blob that is coming, in this run of the node.
struct Arriving {
    file: File,
    /// Bytes of it that are in the file.
    have: u64,
    /// Over these bytes; none when some of them came in an earlier run: then the file is read once all of it is there.
    hasher: Option<Context>,
    /// Bytes that are on the disk, or on their way there.
    synced: u64,
    /// The way there.
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Files {
    /// The folder at a path, which is made when it is absent, for this user alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Self::open_kept(dir, None)
    }

    /// As [`Files::open`]; with `chunks`, every byte that counts is there too, and what is there and not on this disk is
    /// brought here when it is asked for.
    ///
    /// # Errors
    /// As [`Files::open`]; what is kept cannot be read or written.
    pub fn open_kept(dir: &Path, chunks: Option<Arc<dyn Chunks>>) -> io::Result<Self> {
        storage::file::private_dir(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            // Put in by a node that ended before it was named.
            if name.is_some_and(|name| name.starts_with(NEW)) {
                fs::remove_file(&path)?;
            }
        }
        let kept = chunks.map(|chunks| Kept::open(chunks, dir, PART));
        Ok(Self {
            kept: kept.transpose()?,
            dir: dir.to_owned(),
            spared: Arc::default(),
            turn: Mutex::default(),
        })
    }

    /// Has this disk have what is kept elsewhere of a blob.
    fn bring(&self, digest: Digest) -> io::Result<()> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let (whole, part) = (self.whole(digest), self.part(digest));
        let new = self.dir.join(format!("{NEW}{digest}"));
        let at = At {
            new: &new,
            part: &part,
            whole: &whole,
        };
        kept.bring(digest, at)
    }

    /// Keeps a file that was made here elsewhere, unless all of it is kept: of what a row may name nothing is taken away to be
    /// put once more.
    fn keep(&self, descriptor: Descriptor, file: &mut File) -> io::Result<()> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        self.bring(descriptor.digest)?;
        if self.whole(descriptor.digest).try_exists()? && kept.has(descriptor)? {
            return Ok(());
        }
        file.seek(SeekFrom::Start(0))?;
        kept.put_file(descriptor.digest, file)
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
        self.bring(digest)?;
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
        let mut turn = self.turn.lock();
        self.spared.lock().touch(digest);
        let mut arriving = match turn.remove(&digest) {
            Some(arriving) => arriving,
            None => match self.held(digest)? {
                Held::Part(have) => self.reopen(digest, have)?,
                Held::Whole => return Ok(Taken::Whole),
            },
        };
        let (have, end) = (arriving.have, offset.saturating_add(chunk.len() as u64));
        if offset != have || end > size || (chunk.is_empty() && size > 0) {
            keep(&mut turn, digest, arriving);
            return Ok(Taken::Next(have.min(size)));
        }
        if let Some(kept) = &self.kept
            && let Err(error) = kept.put(digest, offset, chunk)
        {
            // What is on the disk is there too: it goes on from here.
            keep(&mut turn, digest, arriving);
            return Err(error);
        }
        arriving.append(chunk)?;
        if end < size {
            self.synced(digest, arriving.sync_meanwhile())?;
            keep(&mut turn, digest, arriving);
            return Ok(Taken::Next(end));
        }
        self.synced(digest, arriving.wait_for_sync())?;
        let came = match arriving.hasher {
            Some(hasher) => named(hasher)?,
            None => hash_all(&mut arriving.file)?.digest,
        };
        self.show(digest, came, &arriving.file)
    }

    /// What the disk refused once it says nothing of afterwards, and may not have: nothing is kept of such a blob.
    fn synced(&self, digest: Digest, done: io::Result<()>) -> io::Result<()> {
        if done.is_err() {
            fs::remove_file(self.part(digest))?;
        }
        done
    }

    /// Opens what came of a blob, to go on.
    fn reopen(&self, digest: Digest, have: u64) -> io::Result<Arriving> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(self.part(digest))?;
        Ok(Arriving {
            file,
            have,
            hasher: (have == 0).then(|| Context::new(&SHA256)),
            synced: have,
            syncing: None,
        })
    }

    /// How far a blob has come. One of which all came, and that the node had no time to check before it ended, is checked
    /// now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn settle(&self, descriptor: Descriptor) -> io::Result<Taken> {
        let Descriptor { digest, size } = descriptor;
        let mut turn = self.turn.lock();
        match self.held(digest)? {
            Held::Whole => {
                turn.remove(&digest);
                Ok(Taken::Whole)
            }
            Held::Part(have) if have < size || size == 0 => Ok(Taken::Next(have)),
            Held::Part(_) => {
                turn.remove(&digest);
                let mut file = File::open(self.part(digest))?;
                let came = hash_all(&mut file)?.digest;
                self.show(digest, came, &file)
            }
        }
    }

    /// Shows what came as a whole, if it is what its name says, once it is durable.
    fn show(&self, digest: Digest, came: Digest, file: &File) -> io::Result<Taken> {
        if came != digest {
            if let Some(kept) = &self.kept {
                kept.forget(digest)?;
            }
            fs::remove_file(self.part(digest))?;
            return Ok(Taken::Broken);
        }
        self.synced(digest, file.sync_all())?;
        storage::file::rename(&self.part(digest), &self.whole(digest))?;
        Ok(Taken::Whole)
    }

    /// Bytes of a whole blob from an offset, at most `most`; none when it is not whole here, or ends before.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, digest: Digest, offset: u64, most: usize) -> io::Result<Option<Vec<u8>>> {
        self.bring(digest)?;
        let mut file = match File::open(self.whole(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(left) = file.metadata()?.len().checked_sub(offset) else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(offset))?;
        let left = usize::try_from(left).unwrap_or(most);
        let mut bytes = Vec::with_capacity(left.min(most));
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
    pub fn put_in(&self, mut from: impl Read) -> io::Result<PutIn> {
        let mut file = tempfile(&self.dir)?;
        let descriptor = copied(&mut from, &mut file.1)?;
        file.1.sync_all()?;
        *self
            .spared
            .lock()
            .held
            .entry(descriptor.digest)
            .or_default() += 1;
        let put = PutIn {
            spared: Arc::clone(&self.spared),
            descriptor,
        };
        if let Err(error) = self.keep(descriptor, &mut file.1) {
            fs::remove_file(&file.0)?;
            return Err(error);
        }
        storage::file::rename(&file.0, &self.whole(descriptor.digest))?;
        Ok(put)
    }

    /// Begins to delete what nothing refers to: ask the rows what is left, and then [`Files::delete_but`].
    pub fn sweep(&self) -> Sweep {
        Sweep::begin(&self.spared)
    }

    /// Deletes every file but those of `left`: how many.
    ///
    /// # Errors
    /// The folder cannot be read; what cannot be deleted is left to the next time.
    pub fn delete_but(&self, left: &BTreeSet<Digest>, _began: Sweep) -> io::Result<usize> {
        let mut turn = self.turn.lock();
        let is_left = |digest: &Digest| left.contains(digest) || self.spared.lock().has(digest);
        turn.retain(|digest, _| is_left(digest));
        let mut deleted = 0;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let digest = name.and_then(|name| Digest::read(&hex::decode(name).ok()?));
            let Some(digest) = digest else {
                continue;
            };
            // Whoever puts it in again meanwhile waits, and then finds that it is gone.
            let spared = self.spared.lock();
            if !left.contains(&digest) && !spared.has(&digest) {
                fs::remove_file(&path)?;
                deleted += 1;
            }
        }
        if let Some(kept) = &self.kept {
            kept.sweep(is_left)?;
        }
        Ok(deleted)
    }
}

impl Arriving {
    /// Writes what comes next.
    fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(chunk) {
            // What was written in part would be taken for what came.
            let _shorter = self.file.set_len(self.have);
            return Err(error);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(chunk);
        }
        self.have += chunk.len() as u64;
        Ok(())
    }

    /// Begins to bring to the disk what came, if that is enough and nothing is on its way.
    ///
    /// # Errors
    /// What was on its way did not get there, or nothing can be sent.
    fn sync_meanwhile(&mut self) -> io::Result<()> {
        let on_its_way = self.syncing.as_ref().is_some_and(|it| !it.is_finished());
        if on_its_way || self.have - self.synced < SYNC_BYTES {
            return Ok(());
        }
        self.wait_for_sync()?;
        let file = self.file.try_clone()?;
        let sync = move || file.sync_data();
        let syncing = thread::Builder::new().name("blob sync".to_owned());
        self.syncing = Some(syncing.spawn(sync)?);
        self.synced = self.have;
        Ok(())
    }

    /// Waits for what is on its way to the disk.
    ///
    /// # Errors
    /// It did not get there.
    fn wait_for_sync(&mut self) -> io::Result<()> {
        match self.syncing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(done)) => done,
            Some(Err(_)) => Err(io::Error::other("the thread that syncs a blob panicked")),
        }
    }
}

fn keep(turn: &mut BTreeMap<Digest, Arriving>, digest: Digest, arriving: Arriving) {
    if turn.len() < MAX_ARRIVING {
        turn.insert(digest, arriving);
    }
}

fn named(hasher: Context) -> io::Result<Digest> {
    Digest::read(hasher.finish().as_ref()).ok_or_else(|| io::ErrorKind::InvalidData.into())
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
    copied(from, &mut io::sink())
}

/// Name and length of what is read to its end and written meanwhile.
fn copied(from: &mut impl Read, to: &mut impl io::Write) -> io::Result<Descriptor> {
    let (mut hasher, mut size) = (Context::new(&SHA256), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match from.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hasher.update(bytes);
        to.write_all(bytes)?;
        size += read as u64;
    }
    let digest = named(hasher)?;
    Ok(Descriptor { digest, size })
}

/// Name and length of a file, from its beginning.
fn hash_all(file: &mut File) -> io::Result<Descriptor> {
    file.seek(SeekFrom::Start(0))?;
    hash(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::repeat_n;

    /// A folder, and a blob of so many bytes of which some came, into a file that takes every byte and cannot be synced.
    fn refusing(size: usize, came: usize) -> (tempfile::TempDir, Files, Descriptor) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let all: Vec<u8> = repeat_n(7, size).collect();
        let descriptor = hash(&mut all.as_slice()).unwrap();
        let first = all.get(..came).unwrap();
        let taken = files.take(descriptor, 0, first).unwrap();
        assert_eq!(taken, Taken::Next(came as u64));
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let digest = descriptor.digest;
        files.turn.lock().get_mut(&digest).unwrap().file = null;
        (dir, files, descriptor)
    }

    #[test]
    fn nothing_is_kept_of_a_blob_that_the_disk_refuses_at_its_end() {
        let (_dir, files, descriptor) = refusing(4, 2);
        files.take(descriptor, 2, &[7; 2]).unwrap_err();
        assert_eq!(files.held(descriptor.digest).unwrap(), Held::Part(0));
        let again = files.take(descriptor, 0, &[7; 4]).unwrap();
        assert_eq!(again, Taken::Whole);
    }

    #[test]
    fn nothing_is_kept_of_a_blob_that_the_disk_refuses_on_its_way() {
        let step = usize::try_from(SYNC_BYTES).unwrap();
        let (_dir, files, descriptor) = refusing(3 * step, 1);
        let chunk = vec![7; step];
        let first = files.take(descriptor, 1, &chunk).unwrap();
        assert_eq!(first, Taken::Next(SYNC_BYTES + 1));
        let digest = descriptor.digest;
        let on_its_way = || {
            let turn = files.turn.lock();
            let syncing = turn.get(&digest).unwrap().syncing.as_ref();
            !syncing.unwrap().is_finished()
        };
        while on_its_way() {
            thread::yield_now();
        }
        let second = files.take(descriptor, SYNC_BYTES + 1, &chunk);
        second.unwrap_err();
        assert_eq!(files.held(digest).unwrap(), Held::Part(0));
    }

    #[test]
    fn what_is_put_in_or_comes_while_the_rows_are_asked_is_not_swept() {
        let dir = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::open(dir.path()).unwrap());
        let all: Vec<u8> = repeat_n(7, 4).collect();
        let came = hash(&mut all.as_slice()).unwrap();
        let nothing = BTreeSet::new();
        // The rows were asked, then a row named each, and then the answer comes.
        let (first, second) = (files.sweep(), files.sweep());
        let put = files.put_in(&b"put in"[..]).unwrap();
        let digest = put.descriptor.digest;
        assert_eq!(files.take(came, 0, &all).unwrap(), Taken::Whole);
        drop(put);
        assert_eq!(files.delete_but(&nothing, first).unwrap(), 0);
        assert_eq!(files.delete_but(&nothing, second).unwrap(), 0);
        assert_eq!(files.held(digest).unwrap(), Held::Whole);
        assert_eq!(files.held(came.digest).unwrap(), Held::Whole);
        // The next one knows the rows.
        let held = files.put_in(&b"put in"[..]).unwrap();
        assert_eq!(files.delete_but(&nothing, files.sweep()).unwrap(), 1);
        drop(held);
        assert_eq!(files.delete_but(&nothing, files.sweep()).unwrap(), 1);
    }
}
