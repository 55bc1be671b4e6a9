//! The store-and-forward ring: samples wait here until the master has acknowledged them.
//!
//! A sample is shown until it is acknowledged by its (epoch, seq), which the master does only once it is durable
//! elsewhere. So a master that dies loses nothing, and an acknowledgement that comes twice removes nothing twice.
//! The storage is the caller's and fixed; nothing is allocated.
use crate::signal::Sample;

/// What became of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The oldest sample was removed.
    Removed,
    /// It was removed before: nothing changed.
    Again,
    /// It names a sample that is not shown: nothing changed.
    Unknown,
}

/// A full ring did not take a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A ring of samples over fixed storage.
#[derive(Clone, Debug)]
pub struct Window<S> {
    slots: S,
    head: usize,
    len: usize,
    last_acked: Option<(u32, u64)>,
    dropped: u64,
    version: u16,
}

impl<S: AsRef<[Sample]> + AsMut<[Sample]>> Window<S> {
    /// An empty ring; its capacity is the storage's length.
    pub const fn new(slots: S) -> Self {
        Self {
            slots,
            head: 0,
            len: 0,
            last_acked: None,
            dropped: 0,
            version: 0,
        }
    }

    /// Adds a sample, or leaves it with the caller, who holds it back and tries again.
    ///
    /// # Errors
    /// [`Full`].
    pub fn push(&mut self, sample: Sample) -> Result<(), Full> {
        let slots = self.slots.as_mut();
        if self.len == slots.len() {
            return Err(Full);
        }
        let at = (self.head + self.len) % slots.len();
        *slots.get_mut(at).ok_or(Full)? = sample;
        self.len += 1;
        if self.len == 1 {
            self.version = self.version.wrapping_add(1);
        }
        Ok(())
    }

    /// Adds a sample or, when the ring is full, counts it as dropped: a device that cannot hold back measuring keeps
    /// the older samples, and shows the fault. Says whether it was added.
    pub fn push_or_drop(&mut self, sample: Sample) -> bool {
        let added = self.push(sample).is_ok();
        self.dropped += u64::from(!added);
        added
    }

    /// The oldest sample.
    #[must_use]
    pub fn front(&self) -> Option<&Sample> {
        if self.len == 0 {
            return None;
        }
        self.slots.as_ref().get(self.head)
    }

    /// How many samples wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the next [`Window::push`] would fail.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len == self.slots.as_ref().len()
    }

    /// How many samples were dropped.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Changes whenever another sample is shown: the value of both guard registers.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// The master has made a sample durable.
    pub fn acknowledge(&mut self, epoch: u32, seq: u64) -> Ack {
        match self.front() {
            Some(front) if (front.epoch, front.seq) == (epoch, seq) => {}
            _ if self.last_acked == Some((epoch, seq)) => return Ack::Again,
            _ => return Ack::Unknown,
        }
        self.head = (self.head + 1) % self.slots.as_ref().len();
        self.len -= 1;
        self.last_acked = Some((epoch, seq));
        self.version = self.version.wrapping_add(1);
        Ack::Removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn sample(seq: u64) -> Sample {
        Sample {
            epoch: 1,
            seq,
            ..Sample::default()
        }
    }

    #[test]
    fn a_sample_is_shown_until_it_is_acknowledged_by_its_own_number() {
        let mut window = Window::new([Sample::default(); 2]);
        assert_eq!(window.push(sample(1)), Ok(()));
        assert_eq!(window.push(sample(2)), Ok(()));
        assert_eq!(window.push(sample(3)), Err(Full));
        for (epoch, seq, outcome) in [
            (1, 2, Ack::Unknown),
            (2, 1, Ack::Unknown),
            (1, 1, Ack::Removed),
            (1, 1, Ack::Again),
            (1, 2, Ack::Removed),
            (1, 3, Ack::Unknown),
        ] {
            assert_eq!(window.acknowledge(epoch, seq), outcome, "{epoch} {seq}");
        }
        assert!(window.is_empty());
    }

    #[test]
    fn a_device_that_cannot_hold_back_keeps_the_older_samples_and_counts_the_lost_ones() {
        let mut window = Window::new([Sample::default(); 1]);
        assert!(window.push_or_drop(sample(1)));
        assert!(!window.push_or_drop(sample(2)));
        assert_eq!((window.dropped(), window.front().unwrap().seq), (1, 1));
    }

    #[test]
    fn a_ring_without_storage_takes_nothing() {
        let storage: [Sample; 0] = [];
        let mut window = Window::new(storage);
        assert_eq!(window.push(sample(1)), Err(Full));
        assert_eq!(window.front(), None);
        assert_eq!(window.acknowledge(1, 1), Ack::Unknown);
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_bounded_queue_and_the_guard_changes_with_the_shown_sample(steps in prop::collection::vec(any::<bool>(), 0..200)) {
            let mut window = Window::new([Sample::default(); 5]);
            let mut model = VecDeque::new();
            let mut next = 0;
            for push in steps {
                let (shown, version) = (window.front().copied(), window.version());
                if push {
                    next += 1;
                    let room = model.len() < 5;
                    prop_assert_eq!(window.push(sample(next)).is_ok(), room);
                    if room {
                        model.push_back(next);
                    }
                } else if let Some(seq) = model.pop_front() {
                    prop_assert_eq!(window.acknowledge(1, seq), Ack::Removed);
                }
                prop_assert_eq!(window.len(), model.len());
                prop_assert_eq!(window.front().map(|front| front.seq), model.front().copied());
                prop_assert_eq!(window.version() != version, window.front().copied() != shown);
            }
        }
    }
}
