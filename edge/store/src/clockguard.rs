//! What time it is when the machine's clock may be wrong: a floor under it that only rises, and a ceiling above that.
//!
//! A facility may boot with no network and an empty clock battery. The floor is the latest of: when this binary was
//! built, the last time that the store kept, and when the newest lease or the node's certificate was issued. Below it
//! the clock is not believed, and neither is it more than [`MAX_AHEAD_MS`] above it. Time then runs on from the floor
//! by the machine's monotonic clock, and what is measured carries
//! [`Flags::CLOCK_UNTRUSTED`](types::Flags::CLOCK_UNTRUSTED). A node that really was away for so long is believed again
//! once it has a new lease or certificate: they are the second source.
//!
//! What is not seen: a clock that is ahead by less than that. And as long as the clock is not believed, the time for
//! which the node had no power has not passed.
use node::clock::Clock;
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Instant,
};
use types::{MeshClock, Timestamp};

/// How far the clock may lie below the floor and still be believed: a step that time synchronisation makes.
pub const TOLERANCE_MS: i64 = 5_000;

/// How far the clock may lie above the floor and still be believed. A node that was without power for longer has no
/// valid certificate any more, so it needs a new one anyway, and that raises the floor.
pub const MAX_AHEAD_MS: i64 = federation::pki::NODE_DAYS as i64 * Timestamp::DAY_MS;

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
    if (-TOLERANCE_MS..=MAX_AHEAD_MS).contains(&system.since(floor)) {
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
    fn a_clock_below_the_floor_or_far_above_it_is_not_believed_and_time_runs_on_from_the_floor() {
        let floor = Timestamp(1_000_000);
        for (system, elapsed, expected) in [
            (2_000_000, 0, (2_000_000, true)),
            (996_000, 0, (996_000, true)),
            (994_999, 0, (1_000_000, false)),
            (0, 60_000, (1_060_000, false)),
            // Believed once it was set right.
            (1_070_000, 60_000, (1_070_000, true)),
            (
                1_000_000 + MAX_AHEAD_MS,
                0,
                (1_000_000 + MAX_AHEAD_MS, true),
            ),
            (1_000_001 + MAX_AHEAD_MS, 0, (1_000_000, false)),
            (i64::MAX, 60_000, (1_060_000, false)),
        ] {
            let (time, trusted) = judge(Timestamp(system), floor, elapsed);
            assert_eq!((time.0, trusted), expected, "{system} after {elapsed}");
        }
    }

    #[test]
    fn the_floor_only_rises() {
        let now = Clock::new(None).real();
        let guard = ClockGuard::new(None, now, 0);
        assert!(guard.now().trusted);
        let ahead = now.plus_ms(Timestamp::DAY_MS);
        guard.raise(ahead);
        guard.raise(Timestamp(1));
        let now = guard.now();
        assert!(!now.trusted);
        assert!(now.real.since(ahead) >= 0);
    }

    #[test]
    fn a_falsified_clock_is_seen_through_in_either_direction() {
        let floor = Clock::new(None).real();
        for years in [-10, 10] {
            let guard = ClockGuard::new(None, floor, years * 365 * Timestamp::DAY_MS);
            assert!(!guard.now().trusted);
            for real in [guard.now().real, guard.clock().real()] {
                assert!((0..60_000).contains(&real.since(floor)), "{years}");
            }
        }
    }
}
