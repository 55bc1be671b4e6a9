//! What time it is when the machine's clock may be wrong: a floor under it that only rises.
//!
//! A facility may boot with no network and an empty clock battery. The floor is the latest of: when this binary was
//! built, the last time that the store kept, and when the newest lease was issued. Below it the clock is not
//! believed: time then runs on from the floor by the machine's monotonic clock, and what is measured carries
//! [`Flags::CLOCK_UNTRUSTED`](types::Flags::CLOCK_UNTRUSTED). A clock that is wrong in the other direction cannot be
//! told without a second source, and is not.
use node::clock::Clock;
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Instant,
};
use types::{MeshClock, Timestamp};

/// How far the clock may lie below the floor and still be believed: a step that time synchronisation makes.
pub const TOLERANCE_MS: i64 = 5_000;

/// An instant, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Real time.
    pub real: Timestamp,
    /// Mesh time.
    pub mesh: Timestamp,
    /// Whether the machine's clock is believed.
    pub trusted: bool,
}

/// A source of time.
pub trait Time: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Now;
}

/// Decides between the machine's clock and the floor, both real time; `elapsed_ms` has passed since the floor was
/// laid. Returns the time to use and whether it is the machine's.
#[must_use]
pub fn judge(system: Timestamp, floor: Timestamp, elapsed_ms: i64) -> (Timestamp, bool) {
    let floor = floor.plus_ms(elapsed_ms);
    if system.plus_ms(TOLERANCE_MS) >= floor {
        (system, true)
    } else {
        (floor, false)
    }
}

/// The machine's clock above its floor.
///
/// Every [`Clock`] that [`ClockGuard::clock`] gives out follows it, as of the last [`Time::now`].
pub struct ClockGuard {
    system: Clock,
    mesh: MeshClock,
    offset_ms: i64,
    floor: AtomicI64,
    correction: &'static AtomicI64,
    booted: Instant,
}

impl ClockGuard {
    /// A guard whose floor is `floor`. `offset_ms` falsifies the machine's clock, for tests of a wrong one.
    #[must_use]
    pub fn new(mesh: Option<MeshClock>, floor: Timestamp, offset_ms: i64) -> Self {
        Self {
            system: Clock::new(None),
            mesh: mesh.unwrap_or(MeshClock::REAL),
            offset_ms,
            floor: AtomicI64::new(floor.0),
            // One for each start of a node; clocks are copied everywhere and outlive any owner.
            correction: Box::leak(Box::default()),
            booted: Instant::now(),
        }
    }

    /// Raises the floor to an instant that is known to have passed, such as the one that the store kept.
    pub fn raise(&self, passed: Timestamp) {
        let laid = passed.plus_ms(-self.elapsed_ms());
        self.floor.fetch_max(laid.0, Ordering::Relaxed);
    }

    /// A clock that reads what this guard found.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.now();
        Clock::new(Some(self.mesh)).corrected_by(self.correction)
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.booted.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

impl Time for ClockGuard {
    fn now(&self) -> Now {
        let system = self.system.real();
        let floor = Timestamp(self.floor.load(Ordering::Relaxed));
        let (real, trusted) = judge(system.plus_ms(self.offset_ms), floor, self.elapsed_ms());
        self.correction.store(real.since(system), Ordering::Relaxed);
        Now {
            real,
            mesh: self.mesh.at(real),
            trusted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_below_the_floor_is_not_believed_and_time_runs_on_from_the_floor() {
        let floor = Timestamp(1_000_000);
        for (system, elapsed, expected) in [
            (2_000_000, 0, (2_000_000, true)),
            (996_000, 0, (996_000, true)),
            (994_999, 0, (1_000_000, false)),
            (0, 60_000, (1_060_000, false)),
            // Believed once it was set right.
            (1_070_000, 60_000, (1_070_000, true)),
        ] {
            let (time, trusted) = judge(Timestamp(system), floor, elapsed);
            assert_eq!((time.0, trusted), expected, "{system} after {elapsed}");
        }
    }

    #[test]
    fn the_floor_only_rises() {
        let guard = ClockGuard::new(None, Timestamp(0), 0);
        let ahead = guard.now().real.plus_ms(86_400_000);
        guard.raise(ahead);
        guard.raise(Timestamp(1));
        let now = guard.now();
        assert!(!now.trusted);
        assert!(now.real.since(ahead) >= 0);
    }

    #[test]
    fn a_falsified_clock_is_seen_through() {
        let floor = Clock::new(None).real();
        let guard = ClockGuard::new(None, floor, -10 * 365 * 86_400_000);
        assert!(!guard.now().trusted);
        assert!(guard.now().real >= floor);
        assert!(guard.clock().real() >= floor);
    }
}
