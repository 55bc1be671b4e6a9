//! Files of which every byte that counts is elsewhere too, in chunks: what is too large for a table and no SQLite file. Which
//! of them there are, and how far each goes, is known there as well, so that another node goes on where this one ended.
use std::io;

/// Where chunks of files are kept beside the disk. Its steps block. A node that may not write any more puts and removes
/// nothing, and is told so.
pub trait Chunks: Send + Sync {
    /// Keeps the bytes of a file from an offset on, durably. What was kept of it from there on is no part of it any more.
    ///
    /// # Errors
    /// They may be kept or not: put them again.
    fn put(&self, file: &str, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Shows the bytes of a file, from its first one to its last one: how many. None when nothing of it is kept. Who changes it
    /// meanwhile has it shown as a mixture, or as torn.
    ///
    /// # Errors
    /// They cannot be read, a part of them is missing, or what `see` says.
    fn show(
        &self,
        file: &str,
        see: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
    ) -> io::Result<Option<u64>>;

    /// The files whose names begin so, each with its length in bytes.
    ///
    /// # Errors
    /// They cannot be read.
    fn list(&self, prefix: &str) -> io::Result<Vec<(String, u64)>>;

    /// Removes files, in their order; one that is not there is removed already.
    ///
    /// # Errors
    /// They may be there still, or be shorter: the last bytes of a file go first.
    fn remove(&self, files: &[String]) -> io::Result<()>;
}

/// Puts chunks together that follow each other, by their offsets: one that begins within the one before takes its place from
/// there on.
#[derive(Default)]
pub struct Joined {
    last: Option<(u64, Vec<u8>)>,
    shown: u64,
}

impl Joined {
    /// The next chunk by its offset `at`, in bytes from the beginning of the file.
    ///
    /// # Errors
    /// Something before it is missing, or what `see` says.
    pub fn next(
        &mut self,
        at: u64,
        bytes: Vec<u8>,
        see: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.show(Some(at), see)?;
        if self.shown != at {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.last = Some((at, bytes));
        Ok(())
    }

    /// There are no more: how many bytes there were.
    ///
    /// # Errors
    /// What `see` says.
    pub fn end(mut self, see: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        self.show(None, see)?;
        Ok(self.shown)
    }

    fn show(
        &mut self,
        until: Option<u64>,
        see: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some((at, bytes)) = self.last.take() else {
            return Ok(());
        };
        let most = until.and_then(|until| usize::try_from(until.saturating_sub(at)).ok());
        let bytes = bytes
            .get(..most.unwrap_or(bytes.len()).min(bytes.len()))
            .unwrap_or_default();
        see(bytes)?;
        self.shown = at.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

/// Chunks in memory, and whether they can be put, for tests.
#[cfg(feature = "fault")]
pub mod memory {
    use super::{Chunks, Joined};
    use parking_lot::Mutex;
    use std::{
        collections::BTreeMap,
        io,
        sync::atomic::{AtomicBool, Ordering},
    };

    /// Chunks by file and offset.
    #[derive(Default)]
    pub struct Memory {
        files: Mutex<BTreeMap<String, BTreeMap<u64, Vec<u8>>>>,
        refuses: AtomicBool,
    }

    impl Memory {
        /// From now on nothing can be put or removed, or everything can.
        pub fn refuses(&self, refuses: bool) {
            self.refuses.store(refuses, Ordering::SeqCst);
        }

        fn may(&self) -> io::Result<()> {
            match self.refuses.load(Ordering::SeqCst) {
                true => Err(io::Error::other("another node writes")),
                false => Ok(()),
            }
        }
    }

    impl Chunks for Memory {
        fn put(&self, file: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
            self.may()?;
            let mut files = self.files.lock();
            let chunks = files.entry(file.to_owned()).or_default();
            chunks.retain(|had, _| *had < at);
            chunks.insert(at, bytes.to_vec());
            Ok(())
        }

        fn show(
            &self,
            file: &str,
            see: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
        ) -> io::Result<Option<u64>> {
            let Some(chunks) = self.files.lock().get(file).cloned() else {
                return Ok(None);
            };
            let mut joined = Joined::default();
            for (at, bytes) in chunks {
                joined.next(at, bytes, see)?;
            }
            joined.end(see).map(Some)
        }

        fn list(&self, prefix: &str) -> io::Result<Vec<(String, u64)>> {
            let files = self.files.lock();
            let own = files.iter().filter(|(name, _)| name.starts_with(prefix));
            let length = |chunks: &BTreeMap<u64, Vec<u8>>| {
                let last = chunks.last_key_value();
                last.map_or(0, |(at, bytes)| at + bytes.len() as u64)
            };
            Ok(own
                .map(|(name, chunks)| (name.clone(), length(chunks)))
                .collect())
        }

        fn remove(&self, files: &[String]) -> io::Result<()> {
            self.may()?;
            let mut all = self.files.lock();
            all.retain(|name, _| !files.contains(name));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(chunks: &[(u64, &str)]) -> io::Result<String> {
        let (mut joined, mut all) = (Joined::default(), Vec::new());
        let mut see = |bytes: &[u8]| {
            all.extend_from_slice(bytes);
            Ok(())
        };
        for (at, text) in chunks {
            joined.next(*at, text.as_bytes().to_vec(), &mut see)?;
        }
        let length = joined.end(&mut see)?;
        assert_eq!(length, all.len() as u64);
        Ok(String::from_utf8(all).unwrap())
    }

    #[test]
    fn chunks_that_follow_each_other_are_a_file_and_a_hole_is_none() {
        assert_eq!(joined(&[]).unwrap(), "");
        assert_eq!(joined(&[(0, "")]).unwrap(), "");
        assert_eq!(joined(&[(0, "ab"), (2, "c"), (3, "de")]).unwrap(), "abcde");
        assert_eq!(joined(&[(0, "abcd"), (2, "XY")]).unwrap(), "abXY");
        for holes in [&[(1, "a")][..], &[(0, "a"), (2, "b")]] {
            let error = joined(holes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{holes:?}");
        }
    }
}
