//! What a sweep of blobs does not take: what was put in and no row names yet, and what is put in or comes while the rows are
//! asked what is left.
use super::{Descriptor, Digest};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What no sweep takes, whatever the rows said when they were asked.
#[derive(Debug, Default)]
pub(super) struct Spared {
    /// Blobs that were put in and that no row names yet, by how many hold them.
    pub(super) held: BTreeMap<Digest, usize>,
    /// Sweeps that are under way.
    sweeps: usize,
    /// What was put in or came since the first of them began: a row may name it that was not there when that one asked.
    recent: BTreeSet<Digest>,
}

impl Spared {
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.held.contains_key(digest) || self.recent.contains(digest)
    }

    pub(super) fn touch(&mut self, digest: Digest) {
        if self.sweeps > 0 {
            self.recent.insert(digest);
        }
    }
}

/// A blob that was put in, until the row that names it is durable: then this is dropped.
#[derive(Debug)]
pub struct PutIn {
    pub(super) spared: Arc<Mutex<Spared>>,
    /// What it is.
    pub descriptor: Descriptor,
}

impl Drop for PutIn {
    fn drop(&mut self) {
        let digest = self.descriptor.digest;
        let mut spared = self.spared.lock();
        spared.touch(digest);
        if let Some(count) = spared.held.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                spared.held.remove(&digest);
            }
        }
    }
}

/// Files that nothing refers to are about to be deleted ([`super::Files::delete_but`]). It is made before the rows are asked
/// what is left, and spares what is put in or comes from then on.
#[must_use]
pub struct Sweep {
    spared: Arc<Mutex<Spared>>,
}

impl Sweep {
    pub(super) fn begin(spared: &Arc<Mutex<Spared>>) -> Self {
        spared.lock().sweeps += 1;
        Self {
            spared: Arc::clone(spared),
        }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        let mut spared = self.spared.lock();
        spared.sweeps -= 1;
        if spared.sweeps == 0 {
            spared.recent.clear();
        }
    }
}
