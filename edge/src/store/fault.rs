//! A disk with faults, for tests: what reached the platter is kept apart from what was only written.
//!
//! The model of a disk: a write is pending until an fsync of its file, which makes it durable. An fsync that fails
//! loses what was pending for good, although reads still show it (Linux marks such pages clean). At a power loss any
//! part of what is pending may have reached the platter, in any order, the last write torn.
#![cfg(test)]

#[cfg(test)]
mod tests;
mod vfs;

use parking_lot::Mutex;
use std::{collections::BTreeMap, path::Path};

pub(super) use vfs::register;

/// What a step on the disk comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    /// `SQLITE_FULL`: ENOSPC.
    Full,
    /// `SQLITE_IOERR_…`: EIO, EROFS, or the power is off.
    Failed,
}

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
                bytes[*at..end].copy_from_slice(written);
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
pub(super) enum Survivors {
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
    pub(super) const ALL: [Self; 4] = [
        Self::None,
        Self::AllTorn,
        Self::FirstHalfTorn,
        Self::SecondHalf,
    ];

    fn of(self, pending: &[Op]) -> Vec<Op> {
        let half = pending.len().div_ceil(2);
        let (kept, torn) = match self {
            Self::None => (&pending[..0], false),
            Self::AllTorn => (pending, true),
            Self::FirstHalfTorn => (&pending[..half], true),
            Self::SecondHalf => (&pending[half..], false),
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
pub(super) struct Faults(Mutex<Disk>);

impl Faults {
    pub(super) fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    pub(super) fn set_read_only(&self, read_only: bool) {
        self.0.lock().read_only = read_only;
    }

    pub(super) fn fail_syncs(&self, count: u32) {
        self.0.lock().failing_syncs = count;
    }

    pub(super) fn fail_power_at(&self, write: u64) {
        self.0.lock().power_fails_at = Some(write);
    }

    pub(super) fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// Writes what a machine would find after a power loss at this instant.
    pub(super) fn after_power_loss(&self, survivors: Survivors, to: &Path) {
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
