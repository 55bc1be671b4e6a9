//! How true a value is of now: a lattice, so that a value made of several is as fresh as the least fresh of them.
use crate::Timestamp;

/// How true a value is of now, the freshest first.
///
/// Only a `Live` value may become an early-warning input or a control input. A `Stale` one yields
/// `dataAbsentReason` and an alarm; a `Historical` one is true of its own time only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// Measured within the limit.
    Live,
    /// The last known value, older than the limit: something should have come and has not.
    Stale,
    /// Delivered late: measured longer ago than the limit when it came in.
    Historical,
    /// There is no value.
    Absent,
}

/// When a value stops being fresh, in milliseconds of mesh time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshnessLimits {
    /// A value this old when it comes in, or older, is historical.
    pub late_after_ms: i64,
    /// A last value this old, or older, is stale.
    pub stale_after_ms: i64,
}

impl Freshness {
    /// A source time further ahead of the facility's clock than this is flagged, in ms of mesh time: a day. A device
    /// that says local time for UTC is up to 14 hours ahead, and what it measures is of now all the same; a clock that
    /// is further ahead was never set.
    pub const MAX_AHEAD_MS: i64 = Timestamp::DAY_MS;

    /// Whether a source time lies so far in the future that the clock which gave it is wrong.
    #[must_use]
    pub const fn is_ahead(source: Timestamp, now: Timestamp) -> bool {
        source.since(now) > Self::MAX_AHEAD_MS
    }

    /// How fresh a value measured at `source` is when it comes in at `now`.
    #[must_use]
    pub const fn on_arrival(source: Timestamp, now: Timestamp, limits: FreshnessLimits) -> Self {
        if now.since(source) < limits.late_after_ms {
            Self::Live
        } else {
            Self::Historical
        }
    }

    /// How fresh the last known value is at `now`; `None` when there never was one. A source time in the future would
    /// keep it fresh until then: whoever keeps it takes the earlier one of source time and arrival.
    #[must_use]
    pub const fn of_last(
        source: Option<Timestamp>,
        now: Timestamp,
        limits: FreshnessLimits,
    ) -> Self {
        match source {
            None => Self::Absent,
            Some(source) if now.since(source) < limits.stale_after_ms => Self::Live,
            Some(_) => Self::Stale,
        }
    }

    /// The freshness of a value made of both: the less fresh one (the lattice's meet).
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        self.max(other)
    }

    /// Whether a score, an alarm limit or a controller may use the value.
    #[must_use]
    pub const fn may_control(self) -> bool {
        match self {
            Self::Live => true,
            Self::Stale | Self::Historical | Self::Absent => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Freshness::{Absent, Historical, Live, Stale};

    const LIMITS: FreshnessLimits = FreshnessLimits {
        late_after_ms: 10,
        stale_after_ms: 20,
    };

    #[test]
    fn a_value_at_its_limit_is_no_longer_fresh() {
        let now = Timestamp(100);
        for (age, expected) in [(0, Live), (9, Live), (10, Historical), (-5, Live)] {
            assert_eq!(
                Freshness::on_arrival(now.plus_ms(-age), now, LIMITS),
                expected
            );
        }
        for (age, expected) in [(19, Live), (20, Stale)] {
            assert_eq!(
                Freshness::of_last(Some(now.plus_ms(-age)), now, LIMITS),
                expected
            );
        }
        assert_eq!(Freshness::of_last(None, now, LIMITS), Absent);
    }

    #[test]
    fn a_source_time_beyond_the_bound_is_ahead() {
        let now = Timestamp(100);
        for (ahead, expected) in [
            (Freshness::MAX_AHEAD_MS, false),
            (Freshness::MAX_AHEAD_MS + 1, true),
            (-1, false),
            (i64::MAX, true),
        ] {
            assert_eq!(Freshness::is_ahead(now.plus_ms(ahead), now), expected);
        }
    }

    #[test]
    fn a_combined_value_is_as_fresh_as_its_least_fresh_part() {
        let all = [Live, Stale, Historical, Absent];
        for a in all {
            assert_eq!(a.meet(a), a);
            for b in all {
                assert_eq!(a.meet(b), b.meet(a));
                assert_eq!(a.meet(b).may_control(), a.may_control() && b.may_control());
                for c in all {
                    assert_eq!(a.meet(b).meet(c), a.meet(b.meet(c)));
                }
            }
        }
    }
}
