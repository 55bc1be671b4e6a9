//! Which numbering the events of subscriptions have: a word that is drawn anew whenever the region's store was put back to
//! an older state, after which numbers that were given are given again. A subscriber sees it in the status of its
//! subscription and in every notification, and knows by it that what it heard last may have been taken back.
//!
//! It is a file of its own: what is put back with the store would say that nothing was.
use federation::port::{PortError, PortErrorKind};
use parking_lot::RwLock;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use storage::file::{PRIVATE, replace};

/// The name of the file, in the folder of the node's data.
const FILE: &str = "numbering";
/// The word of a region that was never put back.
const FIRST: &str = "first";

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Numbering {
    path: PathBuf,
    word: Arc<RwLock<String>>,
}

impl Numbering {
    /// The one of a folder.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let word = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => FIRST.to_owned(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path,
            word: Arc::new(RwLock::new(word)),
        })
    }

    /// The word.
    #[must_use]
    pub fn word(&self) -> String {
        self.word.read().clone()
    }

    /// Another one, by 16 random bytes, from now on and after every start.
    ///
    /// # Errors
    /// [`PortError`]: it is not durable, and the former one holds.
    pub fn begin_anew(&self, random: [u8; 16]) -> Result<(), PortError> {
        let word = format!("{:032x}", u128::from_be_bytes(random));
        let replaced = replace(&self.path, word.as_bytes(), PRIVATE);
        replaced.map_err(|error| PortError {
            kind: PortErrorKind::Unavailable,
            op: "begin another numbering of events",
            source: Some(Box::new(error)),
        })?;
        *self.word.write() = word;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbering_that_began_anew_stays_so_and_is_unlike_any_before() {
        let dir = tempfile::tempdir().unwrap();
        let first = Numbering::open(dir.path()).unwrap();
        assert_eq!(first.word(), "first");
        first.begin_anew([1; 16]).unwrap();
        let again = Numbering::open(dir.path()).unwrap();
        assert_eq!(again.word(), first.word());
        again.begin_anew([2; 16]).unwrap();
        assert_ne!(again.word(), first.word());
    }
}
