//! A disk with faults under SQLite, for tests: what reached the platter is kept apart from what was only written.
//!
//! The model of a disk: a write is pending until an fsync of its file, which makes it durable. An fsync that fails
//! loses what was pending for good, although reads still show it (Linux marks such pages clean). At a power loss any
//! part of what is pending may have reached the platter, in any order, the last write torn.
//!
//! And disks that can be full, of which nothing else is simulated ([`Room`]).
use crate::vfs::{self, Disks, File, Verdict};
use parking_lot::Mutex;
use std::{collections::BTreeMap, path::Path, sync::Arc};

mod room;
pub use room::Room;

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Op {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, written) => {
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(place) = bytes.get_mut(*at..end) {
                    place.copy_from_slice(written);
                }
            }
            Self::Truncate(size) => bytes.resize(*size, 0),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Image {
    durable: Vec<u8>,
    pending: Vec<Op>,
    /// As a reader sees it.
    size: usize,
}

/// Which part of what was pending reached the platter.
#[derive(Clone, Copy, Debug)]
pub enum Survivors {
    /// Nothing.
    None,
    /// Everything, the last write torn.
    AllTorn,
    /// The first half, the last of it torn.
    FirstHalfTorn,
    /// The second half: the disk reordered.
    SecondHalf,
}

impl Survivors {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::None,
        Self::AllTorn,
        Self::FirstHalfTorn,
        Self::SecondHalf,
    ];

    fn of(self, pending: &[Op]) -> Vec<Op> {
        let (first, second) = pending.split_at(pending.len().div_ceil(2));
        let (kept, torn) = match self {
            Self::None => (&[][..], false),
            Self::AllTorn => (pending, true),
            Self::FirstHalfTorn => (first, true),
            Self::SecondHalf => (second, false),
        };
        let mut kept = kept.to_vec();
        if let (true, Some(Op::Write(_, bytes))) = (torn, kept.last_mut()) {
            bytes.truncate(bytes.len() / 2);
        }
        kept
    }
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<String, Image>,
    /// Writes and truncations so far.
    writes: u64,
    /// The power fails at this write.
    power_fails_at: Option<u64>,
    off: bool,
    /// No file may grow.
    full: bool,
    /// No write succeeds.
    read_only: bool,
    /// So many fsyncs fail.
    failing_syncs: u32,
}

impl Disk {
    fn file(&mut self, name: &str) -> &mut Image {
        self.files.entry(name.into()).or_default()
    }

    fn change(&mut self, name: &str, op: Op) -> Verdict {
        self.writes += 1;
        let torn = self.power_fails_at == Some(self.writes);
        if self.off || self.read_only {
            return Verdict::Failed;
        }
        let full = self.full;
        let image = self.file(name);
        let size = match &op {
            Op::Write(at, bytes) => image.size.max(at + bytes.len()),
            Op::Truncate(size) => *size,
        };
        if full && size > image.size {
            return Verdict::Full;
        }
        image.size = size;
        image.pending.push(op);
        self.off = torn;
        if torn { Verdict::Failed } else { Verdict::Done }
    }

    fn sync(&mut self, name: &str) -> Verdict {
        if self.off {
            return Verdict::Failed;
        }
        let fails = self.failing_syncs > 0;
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        let image = self.file(name);
        let pending = std::mem::take(&mut image.pending);
        if fails {
            return Verdict::Failed;
        }
        for op in pending {
            op.apply(&mut image.durable);
        }
        Verdict::Done
    }
}

/// A disk that a test holds in its hand.
#[derive(Default)]
pub struct Faults(Arc<Mutex<Disk>>);

/// A file on it.
struct Tracked {
    disk: Arc<Mutex<Disk>>,
    name: String,
}

impl File for Tracked {
    fn write(&self, at: usize, bytes: &[u8], _: &dyn Fn() -> bool) -> Verdict {
        let op = Op::Write(at, bytes.to_vec());
        self.disk.lock().change(&self.name, op)
    }

    fn truncate(&self, size: usize) -> Verdict {
        self.disk.lock().change(&self.name, Op::Truncate(size))
    }

    fn sync(&self) -> Verdict {
        self.disk.lock().sync(&self.name)
    }
}

impl Disks for Faults {
    fn open(&self, name: &str) -> Option<Arc<dyn File>> {
        let (disk, name) = (self.0.clone(), name.to_owned());
        Some(Arc::new(Tracked { disk, name }))
    }

    fn delete(&self, name: &str) -> Verdict {
        let mut disk = self.0.lock();
        if disk.off {
            return Verdict::Failed;
        }
        disk.files.remove(name);
        Verdict::Done
    }
}

/// Registers a file system of SQLite of that name, on a disk with faults. It stays for the life of the process.
///
/// # Panics
/// When SQLite does not take it.
pub fn register(name: &'static str) -> &'static Faults {
    let faults: &'static Faults = Box::leak(Box::default());
    vfs::register(name, faults, false);
    faults
}

impl Faults {
    /// No file may grow, or it may again.
    pub fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// No write succeeds, or it does again.
    pub fn set_read_only(&self, read_only: bool) {
        self.0.lock().read_only = read_only;
    }

    /// So many fsyncs fail from now on.
    pub fn fail_syncs(&self, count: u32) {
        self.0.lock().failing_syncs = count;
    }

    /// The power fails at this write.
    pub fn fail_power_at(&self, write: u64) {
        self.0.lock().power_fails_at = Some(write);
    }

    /// Whether the power has failed.
    pub fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// Writes what a machine would find after a power loss at this instant.
    ///
    /// # Panics
    /// When the directory cannot be written.
    pub fn after_power_loss(&self, survivors: Survivors, to: &Path) {
        for (name, image) in &self.0.lock().files {
            let mut bytes = image.durable.clone();
            for op in survivors.of(&image.pending) {
                op.apply(&mut bytes);
            }
            if bytes.is_empty() {
                continue;
            }
            let name = Path::new(name).file_name().unwrap();
            std::fs::write(to.join(name), bytes).unwrap();
        }
    }
}
