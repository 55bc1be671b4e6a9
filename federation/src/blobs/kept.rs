//! The bytes of blobs beside the disk ([`storage::chunks`]), for a node that another one follows: a chunk is there before
//! it counts, and a blob that is there and not on this disk is brought here when somebody asks for it.
use super::{CHUNK_BYTES, Descriptor, Digest};
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
    sync::Arc,
};
use storage::{
    chunks::Chunks,
    file::{self, PRIVATE},
};

/// The beginning of the names.
const PREFIX: &str = "blobs/";
/// The file of a folder that says that what it had by itself is kept: what it has besides since then was removed, or is not whole.
const KEPT: &str = "kept";

/// Chunks of blobs.
pub(super) struct Kept {
    chunks: Arc<dyn Chunks>,
    /// The blobs of which something is kept, and whether this disk is known to have as much of each.
    there: Mutex<BTreeMap<Digest, bool>>,
    /// Something is put, or what is needed no longer is removed.
    turn: Mutex<()>,
    /// One blob at a time is brought here.
    bringing: Mutex<()>,
}

/// Where a blob is in a folder: what comes of it from elsewhere, what came of it in part, and all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) new: &'a Path,
    pub(super) part: &'a Path,
    pub(super) whole: &'a Path,
}

impl Kept {
    /// What is kept. What a folder has whole is put there, once for each folder. From then on it is the folder that follows:
    /// what it has whole and is not kept as long is removed, and so is what came of one in part that nobody was told of.
    pub(super) fn open(chunks: Arc<dyn Chunks>, dir: &Path, part: &str) -> io::Result<Self> {
        let is_new = !dir.join(KEPT).try_exists()?;
        let listed: BTreeMap<Digest, u64> = chunks
            .list(PREFIX)?
            .into_iter()
            .filter_map(|(name, length)| Some((digest(name.strip_prefix(PREFIX)?)?, length)))
            .collect();
        let kept = Self {
            chunks,
            there: Mutex::new(listed.keys().map(|digest| (*digest, false)).collect()),
            turn: Mutex::default(),
            bringing: Mutex::default(),
        };
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|name| name.to_str());
            let Some(digest) = stem.and_then(digest) else {
                continue;
            };
            let is_part = path.extension().is_some_and(|end| end == part);
            let is_followed = match listed.get(&digest) {
                Some(length) => is_part || fs::metadata(&path)?.len() == *length,
                None => false,
            };
            match (is_part, is_followed) {
                (_, true) => {}
                (false, false) if is_new => kept.put_file(digest, &mut File::open(&path)?)?,
                _ => fs::remove_file(&path)?,
            }
        }
        if is_new {
            file::create(&dir.join(KEPT), b"", PRIVATE)?;
        }
        Ok(kept)
    }

    /// Keeps a chunk, in pieces: what reads or removes several at once has so much in hand, however fast the line was.
    pub(super) fn put(&self, digest: Digest, at: u64, chunk: &[u8]) -> io::Result<()> {
        let _turn = self.turn.lock();
        let (name, mut pieces) = (name(digest), chunk.chunks(CHUNK_BYTES));
        // Of an empty one too there is a piece.
        let first = pieces.next().unwrap_or_default();
        self.chunks.put(&name, at, first)?;
        let mut at = at + first.len() as u64;
        for piece in pieces {
            self.chunks.put(&name, at, piece)?;
            at += piece.len() as u64;
        }
        self.there.lock().insert(digest, true);
        Ok(())
    }

    /// Whether all of a blob is kept.
    pub(super) fn has(&self, Descriptor { digest, size }: Descriptor) -> io::Result<bool> {
        let _turn = self.turn.lock();
        let name = name(digest);
        let listed = self.chunks.list(&name)?;
        Ok(listed.contains(&(name, size)))
    }

    /// Keeps a whole file, from where it stands.
    pub(super) fn put_file(&self, digest: Digest, file: &mut File) -> io::Result<()> {
        let (mut at, mut chunk) = (0, Vec::with_capacity(CHUNK_BYTES));
        loop {
            chunk.clear();
            io::Read::by_ref(file)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut chunk)?;
            // Of an empty one too there is a chunk.
            if chunk.is_empty() && at > 0 {
                return Ok(());
            }
            self.put(digest, at, &chunk)?;
            if chunk.len() < CHUNK_BYTES {
                return Ok(());
            }
            at += chunk.len() as u64;
        }
    }

    /// Has this disk have what is kept of a blob, once in a run of the node; what is there in part is replaced. Who asks for
    /// what is here waits for nobody: of gigabytes it takes minutes.
    pub(super) fn bring(&self, digest: Digest, at: At<'_>) -> io::Result<()> {
        if !self.is_missing(digest) {
            return Ok(());
        }
        let _bringing = self.bringing.lock();
        if !self.is_missing(digest) {
            return Ok(());
        }
        if !at.whole.try_exists()? {
            return self.copy(digest, at);
        }
        if let Some(there) = self.there.lock().get_mut(&digest) {
            *there = true;
        }
        Ok(())
    }

    /// Whether something is kept that this disk is not known to have.
    fn is_missing(&self, digest: Digest) -> bool {
        self.there.lock().get(&digest) == Some(&false)
    }

    fn copy(&self, digest: Digest, at: At<'_>) -> io::Result<()> {
        let mut hasher = Context::new(&SHA256);
        let mut file = File::create(at.new)?;
        let mut write = |bytes: &[u8]| {
            hasher.update(bytes);
            file.write_all(bytes)
        };
        let shown = self.chunks.show(&name(digest), &mut write)?;
        file.sync_all()?;
        let mut there = self.there.lock();
        let missing = there.get_mut(&digest).filter(|there| !**there);
        let (Some(missing), Some(_)) = (missing, shown) else {
            // It was removed meanwhile, or put anew.
            return fs::remove_file(at.new);
        };
        file::rename(at.new, at.part)?;
        if hasher.finish().as_ref() == digest.as_bytes() {
            file::rename(at.part, at.whole)?;
        }
        *missing = true;
        Ok(())
    }

    /// Nothing is kept of a blob that is not what its name says.
    pub(super) fn forget(&self, digest: Digest) -> io::Result<()> {
        self.chunks.remove(&[name(digest)])?;
        self.there.lock().remove(&digest);
        Ok(())
    }

    /// Keeps those alone that are left, which is asked of each again before it goes: nothing is put meanwhile.
    pub(super) fn sweep(&self, is_left: impl Fn(&Digest) -> bool) -> io::Result<()> {
        let all: Vec<Digest> = self.there.lock().keys().copied().collect();
        for digest in all {
            let _turn = self.turn.lock();
            if !is_left(&digest) {
                self.forget(digest)?;
            }
        }
        Ok(())
    }
}

fn name(digest: Digest) -> String {
    format!("{PREFIX}{digest}")
}

fn digest(text: &str) -> Option<Digest> {
    Digest::read(&hex::decode(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::{Descriptor, Files, Held, Taken, hash};
    use super::*;
    use std::collections::BTreeSet;
    use storage::chunks::memory::Memory;
    use tempfile::TempDir;

    const CHUNK: usize = 1_000;

    /// Two nodes of a region, of which one at a time writes.
    struct Two {
        dir: TempDir,
        chunks: Arc<Memory>,
    }

    impl Two {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let chunks = Arc::default();
            Self { dir, chunks }
        }

        /// A node takes over.
        fn at(&self, node: &str) -> Arc<Files> {
            let kept: Arc<dyn Chunks> = self.chunks.clone();
            let files = Files::open_kept(&self.dir.path().join(node), Some(kept));
            Arc::new(files.unwrap())
        }

        fn there(&self) -> Vec<u64> {
            let listed = self.chunks.list(PREFIX).unwrap();
            listed.into_iter().map(|(_, length)| length).collect()
        }
    }

    fn blob(bytes: usize) -> (Vec<u8>, Descriptor) {
        let all: Vec<u8> = (0..bytes).map(|n| n.to_le_bytes()[0] ^ 7).collect();
        let descriptor = hash(&mut all.as_slice()).unwrap();
        (all, descriptor)
    }

    fn take(files: &Files, (all, descriptor): &(Vec<u8>, Descriptor), chunk: usize) -> Taken {
        let from = chunk * CHUNK;
        let bytes = &all[from..all.len().min(from + CHUNK)];
        files.take(*descriptor, from as u64, bytes).unwrap()
    }

    #[test]
    fn what_came_at_one_node_is_gone_on_with_at_the_other_and_back() {
        let (two, blob) = (Two::new(), blob(3 * CHUNK + 1));
        let next = |chunk: usize| Taken::Next((chunk * CHUNK) as u64);
        assert_eq!(take(&two.at("a"), &blob, 0), next(1));
        let b = two.at("b");
        assert_eq!(b.settle(blob.1).unwrap(), next(1));
        assert_eq!(take(&b, &blob, 1), next(2));
        assert_eq!(take(&b, &blob, 2), next(3));
        // Of what the first node has there is less than of what it is told.
        let a = two.at("a");
        assert_eq!(a.settle(blob.1).unwrap(), next(3));
        assert_eq!(take(&a, &blob, 3), Taken::Whole);
        let b = two.at("b");
        let all = b.read(blob.1.digest, 0, 1 << 20).unwrap();
        assert_eq!(all, Some(blob.0));
        assert_eq!(b.held(blob.1.digest).unwrap(), Held::Whole);
    }

    #[test]
    fn a_chunk_that_is_not_kept_elsewhere_is_not_taken() {
        let (two, blob) = (Two::new(), blob(2 * CHUNK));
        let a = two.at("a");
        two.chunks.refuses(true);
        let first = &blob.0[..CHUNK];
        assert!(a.take(blob.1, 0, first).is_err());
        assert_eq!(a.settle(blob.1).unwrap(), Taken::Next(0));
        assert!(a.put_in(first).is_err());
        two.chunks.refuses(false);
        assert_eq!(take(&a, &blob, 0), Taken::Next(CHUNK as u64));
        assert_eq!(take(&a, &blob, 1), Taken::Whole);
    }

    #[test]
    fn a_chunk_is_kept_in_pieces_however_long_it_is() {
        let (two, (all, descriptor)) = (Two::new(), blob(4 * CHUNK_BYTES + 1));
        let taken = two.at("a").take(descriptor, 0, &all).unwrap();
        assert_eq!(taken, Taken::Whole);
        let mut pieces = Vec::new();
        let mut see = |bytes: &[u8]| {
            pieces.push(bytes.len());
            Ok(())
        };
        let shown = two.chunks.show(&name(descriptor.digest), &mut see);
        assert_eq!(shown.unwrap(), Some(descriptor.size));
        assert_eq!(pieces, [&[CHUNK_BYTES; 4][..], &[1]].concat());
    }

    #[test]
    fn what_is_put_in_at_one_node_is_at_the_other_until_nothing_refers_to_it() {
        for bytes in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1] {
            let two = Two::new();
            let (all, descriptor) = blob(bytes);
            let put = two.at("a").put_in(all.as_slice()).unwrap();
            assert_eq!(put.descriptor, descriptor);
            assert_eq!(two.there(), [bytes as u64]);
            let b = two.at("b");
            let mut read = Vec::new();
            let mut reader = b.reader(descriptor.digest).unwrap();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == all, "{bytes}");
            b.delete_but(&BTreeSet::from([descriptor.digest]), b.sweep())
                .unwrap();
            assert_eq!(two.there(), [bytes as u64]);
            b.delete_but(&BTreeSet::new(), b.sweep()).unwrap();
            assert!(two.there().is_empty());
            assert!(b.reader(descriptor.digest).is_err());
        }
    }

    #[test]
    fn what_a_node_had_alone_is_kept_once_it_is_one_of_two() {
        let (two, whole, part) = (Two::new(), blob(3 * CHUNK), blob(2 * CHUNK));
        let alone = Arc::new(Files::open(&two.dir.path().join("a")).unwrap());
        drop(alone.put_in(whole.0.as_slice()).unwrap());
        take(&alone, &part, 0);
        let a = two.at("a");
        assert_eq!(two.there(), [whole.0.len() as u64]);
        // Its sender sends the rest from where the region has it.
        assert_eq!(a.settle(part.1).unwrap(), Taken::Next(0));
        let b = two.at("b");
        assert_eq!(b.held(whole.1.digest).unwrap(), Held::Whole);
        // One that is the other one's alone is not removed since this one came first.
        let (late, own) = (Files::open(&two.dir.path().join("late")), blob(CHUNK));
        drop(Arc::new(late.unwrap()).put_in(own.0.as_slice()).unwrap());
        let late = two.at("late");
        assert_eq!(late.held(own.1.digest).unwrap(), Held::Whole);
        assert_eq!(two.at("a").held(own.1.digest).unwrap(), Held::Whole);
    }

    #[test]
    fn what_is_put_in_again_is_not_taken_apart_for_that() {
        let (two, blob) = (Two::new(), blob(2 * CHUNK_BYTES + 1));
        let (a, b) = (two.at("a"), two.at("b"));
        drop(a.put_in(blob.0.as_slice()).unwrap());
        let c = two.at("c");
        two.chunks.refuses(true);
        // It is kept: nothing is to be put, also where it is on no disk yet.
        for files in [&a, &c] {
            let put = files.put_in(blob.0.as_slice()).unwrap();
            assert_eq!(put.descriptor, blob.1);
            assert_eq!(files.held(blob.1.digest).unwrap(), Held::Whole);
        }
        assert_eq!(two.there(), [blob.1.size]);
        // One that began before it was there knows nothing of it.
        assert!(b.put_in(blob.0.as_slice()).is_err());
    }

    #[test]
    fn what_a_node_has_is_put_there_once_and_what_was_removed_meanwhile_does_not_come_back() {
        let (two, gone, stays) = (Two::new(), blob(CHUNK), blob(CHUNK + 1));
        drop(two.at("a").put_in(gone.0.as_slice()).unwrap());
        drop(two.at("a").put_in(stays.0.as_slice()).unwrap());
        let b = two.at("b");
        b.delete_but(&BTreeSet::from([stays.1.digest]), b.sweep())
            .unwrap();
        let a = two.at("a");
        assert_eq!(two.there(), [stays.1.size]);
        assert_eq!(a.held(gone.1.digest).unwrap(), Held::Part(0));
        assert_eq!(a.held(stays.1.digest).unwrap(), Held::Whole);
    }

    #[test]
    fn a_blob_of_which_some_was_removed_is_whole_nowhere() {
        let (two, blob) = (Two::new(), blob(2 * CHUNK));
        drop(two.at("a").put_in(blob.0.as_slice()).unwrap());
        // As the node leaves it that ends while it removes what nothing refers to.
        let name = name(blob.1.digest);
        two.chunks.put(&name, 0, &blob.0[..CHUNK]).unwrap();
        for node in ["a", "b"] {
            let files = two.at(node);
            assert_eq!(files.held(blob.1.digest).unwrap(), Held::Part(1_000));
        }
    }

    #[test]
    fn nothing_is_kept_of_a_blob_that_is_not_what_its_name_says() {
        let (two, mut blob) = (Two::new(), blob(2 * CHUNK));
        blob.0[3] ^= 1;
        let a = two.at("a");
        take(&a, &blob, 0);
        assert_eq!(take(&a, &blob, 1), Taken::Broken);
        assert!(two.there().is_empty());
        let found = two.at("b").settle(blob.1).unwrap();
        assert_eq!(found, Taken::Next(0));
    }
}
