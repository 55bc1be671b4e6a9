//! The newest timeline on which a node has worked with its PostgreSQL, in a file beside the node's other state: after a
//! restart it works with an older one no more than before. A primary that comes back after another server was promoted takes
//! writes and knows nothing of it, and may be all that a node reaches that has just begun.
use crate::store::{Kind, StoreError};
use parking_lot::Mutex;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use storage::file;

/// What the file is called.
pub const TIMELINE_FILE: &str = "postgres-timeline";

/// With what a node has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worked {
    /// The system identifier: the same for a server and its copies.
    pub system: i64,
    /// PostgreSQL begins a new one with each promotion.
    pub timeline: i32,
}

impl Worked {
    /// Whether a server that takes writes was left behind: another copy was promoted since.
    #[must_use]
    pub const fn is_before(&self, now: &Self) -> bool {
        self.system == now.system && self.timeline < now.timeline
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Newest {
    path: Option<PathBuf>,
    worked: Mutex<Option<Worked>>,
}

impl Newest {
    /// For whoever keeps none: in memory alone.
    #[must_use]
    pub fn nowhere() -> Arc<Self> {
        Arc::new(Self {
            path: None,
            worked: Mutex::new(None),
        })
    }

    /// That of a node with this data directory.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a file that cannot be read.
    pub fn of(data_dir: &Path) -> Result<Arc<Self>, StoreError> {
        let path = data_dir.join(TIMELINE_FILE);
        let worked = read(&path).map_err(|source| StoreError {
            kind: Kind::Refused,
            op: "open: the file postgres-timeline",
            source: Some(Box::new(source)),
        })?;
        Ok(Arc::new(Self {
            path: Some(path),
            worked: Mutex::new(worked),
        }))
    }

    /// With what was worked last.
    #[must_use]
    pub fn worked(&self) -> Option<Worked> {
        *self.worked.lock()
    }

    /// Keeps with what is worked from now on, durably. False where that is older than what was worked with: nothing is kept.
    pub(super) fn keep(&self, now: Worked) -> io::Result<bool> {
        let mut worked = self.worked.lock();
        if *worked == Some(now) {
            return Ok(true);
        }
        if worked.is_some_and(|worked| now.is_before(&worked)) {
            return Ok(false);
        }
        if let Some(path) = &self.path {
            let text = format!("system {}\ntimeline {}\n", now.system, now.timeline);
            file::replace(path, text.as_bytes(), file::PRIVATE)?;
        }
        *worked = Some(now);
        Ok(true)
    }
}

/// What such a file says; none where there is no file.
fn read(path: &Path) -> io::Result<Option<Worked>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let said = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().map(str::trim)
    };
    let worked = || {
        Some(Worked {
            system: said("system ")?.parse().ok()?,
            timeline: said("timeline ")?.parse().ok()?,
        })
    };
    worked().map(Some).ok_or_else(|| {
        let says = format!("{}: no system and no timeline is in it", path.display());
        io::Error::new(io::ErrorKind::InvalidData, says)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn on(timeline: i32) -> Worked {
        Worked {
            system: -7,
            timeline,
        }
    }

    #[test]
    fn a_node_that_was_started_again_knows_the_newest_timeline_and_works_with_no_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = Newest::of(dir.path()).unwrap();
        assert_eq!(first.worked(), None);
        assert!(first.keep(on(1)).unwrap() && first.keep(on(3)).unwrap());
        assert!(!first.keep(on(2)).unwrap());
        let again = Newest::of(dir.path()).unwrap();
        assert_eq!(again.worked(), Some(on(3)));
        assert!(!again.keep(on(2)).unwrap() && again.keep(on(3)).unwrap());
        // Another system has timelines of its own.
        let other = Worked {
            system: 8,
            timeline: 1,
        };
        assert!(again.keep(other).unwrap());
        assert_eq!(Newest::of(dir.path()).unwrap().worked(), Some(other));
    }

    #[test]
    fn a_file_that_says_nothing_is_refused_and_what_is_not_kept_is_not_worked_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TIMELINE_FILE);
        for text in ["", "system 7\n", "system x\ntimeline 1\n", "timeline 1\n"] {
            fs::write(&path, text).unwrap();
            let refused = Newest::of(dir.path()).unwrap_err();
            assert_eq!(refused.kind, Kind::Refused, "{text:?}");
        }
        fs::remove_file(&path).unwrap();
        let newest = Newest::of(dir.path()).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(newest.keep(on(1)).is_err());
        assert_eq!(newest.worked(), None);
    }
}
