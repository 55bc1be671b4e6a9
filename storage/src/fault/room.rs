//! Disks that can be full: folders below which no file grows while there is no room. They need not be named to SQLite:
//! every file of the process is looked at when it is opened, and one of no such folder is SQLite's own business.
use super::Verdict;
use crate::vfs::{self, Disks, File};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
};

/// What SQLite knows the file system by.
const NAME: &str = "medmesh-room";

/// Whether each disk is full, by its folder.
static ROOMS: Mutex<Option<HashMap<PathBuf, Arc<AtomicBool>>>> = Mutex::new(None);

/// The room of a disk, while it is held.
pub struct Room {
    folder: PathBuf,
    full: Arc<AtomicBool>,
}

impl Room {
    /// The room of all files below a folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(|| vfs::register(NAME, &Rooms, true));
        let full = Arc::new(AtomicBool::new(false));
        let mut rooms = ROOMS.lock();
        let rooms = rooms.get_or_insert_default();
        rooms.insert(folder.into(), full.clone());
        Self {
            folder: folder.into(),
            full,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Takes or gives room.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
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
        let full = folders.filter_map(|folder| rooms.get(folder)).next()?;
        Some(Arc::new(Inside(full.clone())))
    }

    fn delete(&self, _: &str) -> Verdict {
        Verdict::Done
    }
}

/// A file on a disk that can be full.
struct Inside(Arc<AtomicBool>);

impl File for Inside {
    fn write(&self, _: usize, _: &[u8], grows: &dyn Fn() -> bool) -> Verdict {
        if self.0.load(Ordering::SeqCst) && grows() {
            Verdict::Full
        } else {
            Verdict::Done
        }
    }

    fn truncate(&self, _: usize) -> Verdict {
        Verdict::Done
    }

    fn sync(&self) -> Verdict {
        Verdict::Done
    }
}
