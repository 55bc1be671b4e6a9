//! Instants in milliseconds, and the one mesh clock that `--speed` scales.
use alloc::string::String;
use chrono::{DateTime, SecondsFormat, Utc};
use core::{fmt, str::FromStr};

/// Text that is not an RFC 3339 instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is written like 2026-11-22T10:00:00Z")]
pub struct InvalidTimestamp;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Milliseconds in a day.
    pub const DAY_MS: i64 = 86_400_000;

    /// The earliest time of a reading that is stored anywhere: 1900. Shifts and replays of old records lie after it,
    /// nonsense before.
    pub const EARLIEST: Self = Self(-2_208_988_800_000);
    /// The first instant that is too late: 2200. An untrusted clock may be years ahead; its readings are flagged, not
    /// lost.
    pub const TOO_LATE: Self = Self(7_258_118_400_000);
    /// A shift moves dates by up to a year either way, and a leap day: what a source says must lie so far within the
    /// bounds, that what leaves the facility lies within them too.
    const MOST_SHIFTED_DAYS: i32 = 366;

    /// Whether a reading of this time is stored: from 1900 to 2199.
    #[must_use]
    pub const fn is_storable(self) -> bool {
        Self::EARLIEST.0 <= self.0 && self.0 < Self::TOO_LATE.0
    }

    /// Whether a source may say that it measured at this time: then it is storable however it is shifted.
    #[must_use]
    pub const fn is_measurable(self) -> bool {
        self.plus_days(-Self::MOST_SHIFTED_DAYS).is_storable()
            && self.plus_days(Self::MOST_SHIFTED_DAYS).is_storable()
    }

    /// This instant moved by whole days.
    #[must_use]
    pub const fn plus_days(self, days: i32) -> Self {
        Self(self.0.saturating_add(days as i64 * Self::DAY_MS))
    }

    /// This instant moved by milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; negative when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in UTC with exactly three decimals of a second.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self(time.timestamp_millis()))
            .map_err(|_| InvalidTimestamp)
    }
}

/// A clock that runs `speed` times as fast as real time since `real_origin`.
///
/// Device times, freshness, retention and FHIR times read it; TLS and tokens use real time.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshClock {
    /// The real instant at which both clocks met, ms since 1970.
    pub real_origin: Timestamp,
    /// The mesh instant at which both clocks met, ms since 1970.
    pub mesh_origin: Timestamp,
    /// Mesh seconds per real second.
    pub speed: f64,
}

impl MeshClock {
    /// The clock of real operation.
    pub const REAL: Self = Self {
        real_origin: Timestamp(0),
        mesh_origin: Timestamp(0),
        speed: 1.0,
    };

    /// The fastest clock: beyond it one real millisecond is more than a minute, the finest step of the replayed data.
    pub const MAX_SPEED: f64 = 60_000.0;

    /// The slowest clock: real time.
    pub const MIN_SPEED: f64 = 1.0;

    /// The mesh instant at a real one.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "ms within ±285,000 years are exact"
    )]
    pub fn at(&self, real: Timestamp) -> Timestamp {
        if self.speed == 1.0 {
            return self.mesh_origin.plus_ms(real.since(self.real_origin));
        }
        let elapsed = real.since(self.real_origin) as f64 * self.speed;
        self.mesh_origin.plus_ms(elapsed as i64)
    }

    /// Real milliseconds that `mesh_ms` mesh milliseconds last.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "ms within ±285,000 years are exact"
    )]
    pub fn real_ms(&self, mesh_ms: i64) -> i64 {
        (mesh_ms as f64 / self.speed) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_time_round_trips_with_its_milliseconds() {
        let time: Timestamp = "2026-11-22T10:00:00.007Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-22T10:00:00.007Z");
        assert_eq!("2026-11-22T12:00:00.007+02:00".parse(), Ok(time));
    }

    #[test]
    fn text_without_a_zone_or_with_an_impossible_date_is_refused() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "2026-13-45T10:00:00Z",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
        }
    }

    #[test]
    fn what_a_source_may_say_is_storable_after_any_shift() {
        for (text, measurable, storable) in [
            ("1899-12-31T23:59:59.999Z", false, false),
            ("1900-01-01T00:00:00Z", false, true),
            ("1901-01-01T23:59:59.999Z", false, true),
            ("1901-01-02T00:00:00Z", true, true),
            ("2198-12-30T23:59:59.999Z", true, true),
            ("2199-12-31T23:59:59.999Z", false, true),
            ("2200-01-01T00:00:00Z", false, false),
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time.is_measurable(), measurable, "{text}");
            assert_eq!(time.is_storable(), storable, "{text}");
            for days in [-365, 365] {
                let shifted = time.plus_days(days).is_storable();
                assert!(shifted || !measurable, "{text}");
            }
        }
    }

    #[test]
    fn sixty_times_speed_makes_a_minute_of_a_second() {
        let clock = MeshClock {
            real_origin: Timestamp(1_000),
            mesh_origin: Timestamp(50_000),
            speed: 60.0,
        };
        assert_eq!(clock.at(Timestamp(2_000)), Timestamp(110_000));
        assert_eq!(clock.real_ms(60_000), 1_000);
        assert_eq!(MeshClock::REAL.at(Timestamp(7)), Timestamp(7));
    }
}
