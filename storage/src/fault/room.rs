//! Disks that can be full, or of which a process loses hold: folders below which no file grows while there is no room, and
//! nothing is written any more after so many fsyncs, as if the process had been killed there. They need not be named to
//! SQLite: every file of the process is looked at when it is opened, and one of no such folder is SQLite's own business.
use crate::vfs::{self, Disks, File, Verdict};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

/// What SQLite knows the file system by.
const NAME: &str = "medmesh-room";

/// What each disk can do, by its folder.
static ROOMS: Mutex<Option<HashMap<PathBuf, Arc<Can>>>> = Mutex::new(None);

/// What a disk can do.
struct Can {
    full: AtomicBool,
    /// Fsyncs until its process loses hold of it.
    syncs: AtomicI64,
}

impl Can {
    fn is_lost(&self) -> bool {
        self.syncs.load(Ordering::SeqCst) <= 0
    }
}

/// The room of a disk, while it is held.
pub struct Room {
    folder: PathBuf,
    can: Arc<Can>,
}

impl Room {
    /// The room of all files below a folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(|| vfs::register(NAME, &Rooms, true));
        let can = Arc::new(Can {
            full: AtomicBool::new(false),
            syncs: AtomicI64::new(i64::MAX),
        });
        let mut rooms = ROOMS.lock();
        let rooms = rooms.get_or_insert_default();
        rooms.insert(folder.into(), can.clone());
        Self {
            folder: folder.into(),
            can,
        }
    }

    /// The process loses hold of it after so many more fsyncs, `i64::MAX` for never: what was written until then stays.
    pub fn lose_after(&self, syncs: i64) {
        self.can.syncs.store(syncs, Ordering::SeqCst);
    }

    /// Whether the process has lost hold of it.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.can.is_lost()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.can.full.load(Ordering::SeqCst)
    }

    /// Takes or gives room.
    pub fn set_full(&self, full: bool) {
        self.can.full.store(full, Ordering::SeqCst);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(rooms) = ROOMS.lock().as_mut() {
            rooms.remove(&self.folder);
        }
    }
}

struct Rooms;

impl Disks for Rooms {
    fn open(&self, name: &str) -> Option<Arc<dyn File>> {
        let rooms = ROOMS.lock();
        let rooms = rooms.as_ref()?;
        let folders = Path::new(name).ancestors();
        let can = folders.filter_map(|folder| rooms.get(folder)).next()?;
        Some(Arc::new(Inside(can.clone())))
    }

    fn delete(&self, _: &str) -> Verdict {
        Verdict::Done
    }
}

/// A file on such a disk.
struct Inside(Arc<Can>);

impl File for Inside {
    fn write(&self, _: usize, _: &[u8], grows: &dyn Fn() -> bool) -> Verdict {
        if self.0.is_lost() {
            Verdict::Failed
        } else if self.0.full.load(Ordering::SeqCst) && grows() {
            Verdict::Full
        } else {
            Verdict::Done
        }
    }

    fn truncate(&self, _: usize) -> Verdict {
        if self.0.is_lost() {
            Verdict::Failed
        } else {
            Verdict::Done
        }
    }

    fn sync(&self) -> Verdict {
        if self.0.syncs.fetch_sub(1, Ordering::SeqCst) > 0 {
            Verdict::Done
        } else {
            Verdict::Failed
        }
    }
}
