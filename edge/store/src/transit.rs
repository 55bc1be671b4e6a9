//! How long a sample takes from its arrival to the region's signed receipt, by which it can be queried there.
//!
//! Measured for what goes out at once: alarms and live parcels, each from the arrival of its first sample. It lives in
//! memory and is a figure, not a promise: a restart forgets what is under way.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use types::Priority;

/// Parcels under way that are remembered, some 50 bytes each; beyond it the measurement has gaps.
const MAX_UNDER_WAY: usize = 16_384;

/// A parcel that has been committed: its place in the order, and when its first sample arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departed {
    pub priority: Priority,
    pub seq: i64,
    pub arrived: Instant,
}

/// The parcels under way.
#[derive(Debug, Default)]
pub(super) struct Transit(BTreeMap<(u8, i64), Instant>);

impl Transit {
    /// A parcel was committed.
    pub(super) fn depart(&mut self, parcel: Departed) {
        if parcel.priority != Priority::Backlog && self.0.len() < MAX_UNDER_WAY {
            let key = (parcel.priority.rank(), parcel.seq);
            self.0.insert(key, parcel.arrived);
        }
    }

    /// A receipt for it came; how long it took, once.
    pub(super) fn receipted(&mut self, rank: u32, seq: u64, now: Instant) -> Option<Duration> {
        let key = (u8::try_from(rank).ok()?, i64::try_from(seq).ok()?);
        let arrived = self.0.remove(&key)?;
        Some(now.saturating_duration_since(arrived))
    }

    /// The link broke: what comes later waited for it, which says nothing of the way.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(priority: Priority, seq: i64, arrived: Instant) -> Departed {
        Departed {
            priority,
            seq,
            arrived,
        }
    }

    #[test]
    fn a_parcel_is_measured_once_and_backlog_never() {
        let (start, mut transit) = (Instant::now(), Transit::default());
        let later = start + Duration::from_millis(7);
        transit.depart(parcel(Priority::Live, 1, start));
        transit.depart(parcel(Priority::Backlog, 1, start));
        let rank = |priority: Priority| u32::from(priority.rank());
        assert_eq!(transit.receipted(rank(Priority::Backlog), 1, later), None);
        assert_eq!(transit.receipted(rank(Priority::Alarm), 1, later), None);
        let took = transit.receipted(rank(Priority::Live), 1, later);
        assert_eq!(took, Some(Duration::from_millis(7)));
        assert_eq!(transit.receipted(rank(Priority::Live), 1, later), None);
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let (now, mut transit) = (Instant::now(), Transit::default());
        for seq in 0..=MAX_UNDER_WAY as i64 {
            transit.depart(parcel(Priority::Live, seq, now));
        }
        assert_eq!(transit.0.len(), MAX_UNDER_WAY);
        transit.clear();
        assert!(transit.0.is_empty());
    }
}
