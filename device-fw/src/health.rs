//! What a device knows of its own health: fault bits that stay until they are read as cleared by a restart or a repair,
//! a power-on self-test, and a watchdog over its own loops. Pure: the time is an argument.

/// A set of fault bits, as shown in the health register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health(u16);

impl Health {
    /// No fault.
    pub const OK: Self = Self(0);
    /// The power-on self-test failed: no value of this device may be trusted.
    pub const SELF_TEST: Self = Self(1);
    /// A loop stopped and the watchdog restarted the device.
    pub const WATCHDOG: Self = Self(2);
    /// The sample window was full and samples were dropped.
    pub const OVERFLOW: Self = Self(4);
    /// A sensor does not answer.
    pub const SENSOR: Self = Self(8);
    /// The clock was never set: source times count from power-on.
    pub const CLOCK: Self = Self(16);

    /// The register's value.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The faults of a register's value; bits unknown to this version are kept.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other's faults.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the device's values may be used: everything but an overflow or an unset clock forbids it.
    #[must_use]
    pub const fn may_measure(self) -> bool {
        self.0 & (Self::SELF_TEST.0 | Self::SENSOR.0) == 0
    }
}

/// What the power-on self-test looks at.
#[derive(Clone, Copy, Debug)]
pub struct SelfTest {
    /// The program image matches its checksum.
    pub image: bool,
    /// The memory test passed.
    pub memory: bool,
    /// Every sensor answered.
    pub sensors: bool,
    /// The clock has been set.
    pub clock: bool,
    /// The last restart was the watchdog's.
    pub watchdog_restart: bool,
}

impl SelfTest {
    /// The faults to start with.
    #[must_use]
    pub const fn health(self) -> Health {
        let mut health = Health::OK;
        if !self.image || !self.memory {
            health = health.with(Health::SELF_TEST);
        }
        if !self.sensors {
            health = health.with(Health::SENSOR);
        }
        if !self.clock {
            health = health.with(Health::CLOCK);
        }
        if self.watchdog_restart {
            health = health.with(Health::WATCHDOG);
        }
        health
    }
}

/// Watches `N` loops: each must report within its limit, or the device must restart.
#[derive(Clone, Debug)]
pub struct Watchdog<const N: usize> {
    limits_ms: [u64; N],
    last_ms: [u64; N],
}

impl<const N: usize> Watchdog<N> {
    /// A watchdog that starts now; `limits_ms` is how long each loop may be silent.
    #[must_use]
    pub const fn new(now_ms: u64, limits_ms: [u64; N]) -> Self {
        Self {
            limits_ms,
            last_ms: [now_ms; N],
        }
    }

    /// A loop reports that it is alive. A loop that does not exist is ignored.
    pub fn feed(&mut self, index: usize, now_ms: u64) {
        if let Some(last) = self.last_ms.get_mut(index) {
            *last = now_ms;
        }
    }

    /// The first loop that has been silent for longer than its limit.
    #[must_use]
    pub fn starved(&self, now_ms: u64) -> Option<usize> {
        let mut loops = self.last_ms.iter().zip(&self.limits_ms);
        loops.position(|(last, limit)| now_ms.saturating_sub(*last) > *limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: SelfTest = SelfTest {
        image: true,
        memory: true,
        sensors: true,
        clock: true,
        watchdog_restart: false,
    };

    #[test]
    fn the_self_test_says_each_fault_and_whether_values_may_be_used() {
        for (test, health, may_measure) in [
            (GOOD, Health::OK, true),
            (
                SelfTest {
                    image: false,
                    ..GOOD
                },
                Health::SELF_TEST,
                false,
            ),
            (
                SelfTest {
                    memory: false,
                    ..GOOD
                },
                Health::SELF_TEST,
                false,
            ),
            (
                SelfTest {
                    sensors: false,
                    ..GOOD
                },
                Health::SENSOR,
                false,
            ),
            (
                SelfTest {
                    clock: false,
                    ..GOOD
                },
                Health::CLOCK,
                true,
            ),
            (
                SelfTest {
                    watchdog_restart: true,
                    ..GOOD
                },
                Health::WATCHDOG,
                true,
            ),
        ] {
            assert_eq!(test.health(), health);
            assert_eq!(test.health().may_measure(), may_measure);
        }
    }

    #[test]
    fn one_silent_loop_is_found_though_the_others_report() {
        let mut dog = Watchdog::new(0, [10, 100]);
        dog.feed(1, 50);
        assert_eq!(dog.starved(10), None);
        assert_eq!(dog.starved(11), Some(0));
        dog.feed(0, 140);
        assert_eq!(dog.starved(150), None);
        assert_eq!(dog.starved(151), Some(0));
        dog.feed(0, 151);
        assert_eq!(dog.starved(151), Some(1));
        dog.feed(7, 151);
    }
}
