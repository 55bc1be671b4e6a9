//! Dates, times and instants with the precision that they are written with.
use chrono::{Datelike as _, Months, NaiveDate, TimeDelta};
use std::{cmp::Ordering, fmt};

/// Which of the three types of FHIRPath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are FHIRPath's")]
pub enum MomentKind {
    Date,
    DateTime,
    Time,
}

/// The last part that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the parts")]
pub enum Precision {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    /// Seconds, with what is behind their point.
    Second,
}

/// A date, an instant or a time of day.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Its type.
    pub kind: MomentKind,
    /// The last part that is written.
    pub precision: Precision,
    /// The first day of it; of a time of day, the first day of the count.
    day: NaiveDate,
    /// Milliseconds since that day began.
    clock: i64,
    /// Digits of a second behind its point that are written.
    fraction: u8,
    /// Minutes east of UTC, where a zone is written.
    zone: Option<i32>,
}

const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;

/// `len` digits at the start of a text, as a number, and what follows.
fn digits(text: &str, len: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(len)?;
    let all = number.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| number.parse().ok())
        .flatten()
        .map(|number| (number, rest))
}

impl Moment {
    /// Reads a date, or a date and a time (FHIR R4 dateTime, and FHIRPath's literals without `@`): any precision, and a
    /// zone or none behind a time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, mut rest) = digits(text, 4)?;
        let (mut month, mut day, mut precision) = (1, 1, Precision::Year);
        if let Some(after) = rest.strip_prefix('-') {
            (month, rest) = digits(after, 2)?;
            precision = Precision::Month;
            if let Some(after) = rest.strip_prefix('-') {
                (day, rest) = digits(after, 2)?;
                precision = Precision::Day;
            }
        }
        let year = i32::try_from(year).ok().filter(|year| *year > 0)?;
        let mut moment = Self {
            kind: MomentKind::Date,
            precision,
            day: NaiveDate::from_ymd_opt(year, month, day)?,
            clock: 0,
            fraction: 0,
            zone: None,
        };
        let Some(clock) = rest.strip_prefix('T') else {
            return rest.is_empty().then_some(moment);
        };
        moment.kind = MomentKind::DateTime;
        if clock.is_empty() {
            return Some(moment);
        }
        if precision != Precision::Day {
            return None;
        }
        let at = clock.find(['Z', '+', '-']).unwrap_or(clock.len());
        let (clock, zone) = clock.split_at_checked(at)?;
        moment.read_clock(clock)?;
        moment.zone = read_zone(zone)?;
        Some(moment)
    }

    /// Reads a time of day: `hh`, `hh:mm`, `hh:mm:ss` or `hh:mm:ss.f…`.
    #[must_use]
    pub fn parse_time(text: &str) -> Option<Self> {
        let mut moment = Self {
            kind: MomentKind::Time,
            precision: Precision::Hour,
            day: NaiveDate::default(),
            clock: 0,
            fraction: 0,
            zone: None,
        };
        moment.read_clock(text)?;
        Some(moment)
    }

    /// An instant, in UTC.
    #[must_use]
    pub fn of_ms(ms: i64) -> Option<Self> {
        let days = TimeDelta::try_days(ms.div_euclid(DAY_MS))?;
        Some(Self {
            kind: MomentKind::DateTime,
            precision: Precision::Second,
            day: NaiveDate::default().checked_add_signed(days)?,
            clock: ms.rem_euclid(DAY_MS),
            fraction: 3,
            zone: Some(0),
        })
    }

    fn read_clock(&mut self, text: &str) -> Option<()> {
        let (hour, mut rest) = digits(text, 2)?;
        let (mut minute, mut second) = (0, 0);
        self.precision = Precision::Hour;
        if let Some(after) = rest.strip_prefix(':') {
            (minute, rest) = digits(after, 2)?;
            self.precision = Precision::Minute;
            if let Some(after) = rest.strip_prefix(':') {
                (second, rest) = digits(after, 2)?;
                self.precision = Precision::Second;
            }
        }
        let mut ms = 0;
        if let (Precision::Second, Some(fraction)) = (self.precision, rest.strip_prefix('.')) {
            if fraction.is_empty()
                || fraction.len() > 9
                || !fraction.bytes().all(|byte| byte.is_ascii_digit())
            {
                return None;
            }
            let padded = format!("{fraction:0<3}");
            ms = digits(&padded, 3)?.0;
            self.fraction = u8::try_from(fraction.len()).ok()?;
            rest = "";
        }
        // A leap second is the first of the next minute.
        if !rest.is_empty() || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        self.clock = i64::from((hour * 60 + minute) * 60 + second) * 1_000 + i64::from(ms);
        Some(())
    }

    /// The first and the last millisecond since 1970 that it stands for; in UTC where it has no zone.
    #[must_use]
    pub fn span(&self) -> (i64, i64) {
        let start = self.start();
        let length = match (self.precision, self.fraction) {
            (Precision::Year, _) => self.until(12),
            (Precision::Month, _) => self.until(1),
            (Precision::Day, _) => DAY_MS,
            (Precision::Hour, _) => 60 * MINUTE_MS,
            (Precision::Minute, _) => MINUTE_MS,
            (Precision::Second, 0) => 1_000,
            (Precision::Second, 1) => 100,
            (Precision::Second, 2) => 10,
            (Precision::Second, _) => 1,
        };
        (start, start + length - 1)
    }

    fn start(&self) -> i64 {
        let days = self
            .day
            .signed_duration_since(NaiveDate::default())
            .num_days();
        days * DAY_MS + self.clock - i64::from(self.zone.unwrap_or(0)) * MINUTE_MS
    }

    fn until(&self, months: u32) -> i64 {
        let after = self.day.checked_add_months(Months::new(months));
        after.map_or(DAY_MS, |after| {
            after.signed_duration_since(self.day).num_days() * DAY_MS
        })
    }

    /// The parts down to a precision, in UTC where a zone is written.
    fn parts(&self) -> [i64; 6] {
        let shifted = match self.zone {
            Some(_) if self.precision > Precision::Day => {
                Self::of_ms(self.start()).unwrap_or(*self)
            }
            _ => *self,
        };
        [
            i64::from(shifted.day.year()),
            i64::from(shifted.day.month()),
            i64::from(shifted.day.day()),
            shifted.clock / (60 * MINUTE_MS),
            shifted.clock / MINUTE_MS % 60,
            shifted.clock % MINUTE_MS,
        ]
    }

    /// How two stand in time; none where their precisions, or a zone that only one has, leave it open
    /// (FHIRPath 2.0 §6.1, §6.2).
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        if (self.kind == MomentKind::Time) != (other.kind == MomentKind::Time) {
            return None;
        }
        let timed =
            |moment: &Self| moment.precision > Precision::Day && moment.kind != MomentKind::Time;
        if timed(self) && timed(other) && self.zone.is_some() != other.zone.is_some() {
            return None;
        }
        let common = self.precision.min(other.precision) as usize;
        for (own, theirs) in self.parts().iter().zip(other.parts()).take(common + 1) {
            match own.cmp(&theirs) {
                Ordering::Equal => {}
                different => return Some(different),
            }
        }
        (self.precision == other.precision).then_some(Ordering::Equal)
    }

    /// Whether both are the same to the same precision (FHIRPath `~`).
    #[must_use]
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.compare(other) == Some(Ordering::Equal)
    }

    /// So much later, in units of the calendar; none where the unit is none of them.
    #[must_use]
    pub fn later(&self, count: i64, unit: &str) -> Option<Self> {
        let unit = unit.strip_suffix('s').unwrap_or(unit);
        let mut later = *self;
        let months = |count: i64| -> Option<NaiveDate> {
            let months = Months::new(u32::try_from(count.unsigned_abs()).ok()?);
            match count < 0 {
                true => self.day.checked_sub_months(months),
                false => self.day.checked_add_months(months),
            }
        };
        let ms = match unit {
            "year" | "a" => {
                later.day = months(count.checked_mul(12)?)?;
                0
            }
            "month" | "mo" => {
                later.day = months(count)?;
                0
            }
            "week" | "wk" => count.checked_mul(7 * DAY_MS)?,
            "day" | "d" => count.checked_mul(DAY_MS)?,
            "hour" | "h" => count.checked_mul(60 * MINUTE_MS)?,
            "minute" | "min" => count.checked_mul(MINUTE_MS)?,
            "second" | "" => count.checked_mul(1_000)?,
            "millisecond" | "m" => count,
            _ => return None,
        };
        let clock = later.clock.checked_add(ms)?;
        later.clock = clock.rem_euclid(DAY_MS);
        if self.kind != MomentKind::Time {
            let days = TimeDelta::try_days(clock.div_euclid(DAY_MS))?;
            later.day = later.day.checked_add_signed(days)?;
        }
        if self.precision <= Precision::Day {
            later.clock = 0;
        }
        (1..=9999).contains(&later.day.year()).then_some(later)
    }

    /// The date alone.
    #[must_use]
    pub fn date(&self) -> Self {
        Self {
            kind: MomentKind::Date,
            precision: self.precision.min(Precision::Day),
            clock: 0,
            fraction: 0,
            zone: None,
            ..*self
        }
    }

    /// As a DateTime.
    #[must_use]
    pub const fn date_time(mut self) -> Self {
        self.kind = MomentKind::DateTime;
        self
    }

    /// The time of day alone.
    #[must_use]
    pub fn time(&self) -> Self {
        Self {
            kind: MomentKind::Time,
            day: NaiveDate::default(),
            zone: None,
            ..*self
        }
    }
}

/// Minutes east of UTC; none where nothing is written.
#[expect(
    clippy::option_option,
    reason = "the outer none says that it cannot be read"
)]
fn read_zone(text: &str) -> Option<Option<i32>> {
    let (sign, rest) = match (text, text.strip_prefix('+'), text.strip_prefix('-')) {
        ("", ..) => return Some(None),
        ("Z", ..) => return Some(Some(0)),
        (_, Some(rest), _) => (1, rest),
        (_, _, Some(rest)) => (-1, rest),
        _ => return None,
    };
    let (hour, rest) = digits(rest, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let minutes = i32::try_from(hour * 60 + minute).ok()?;
    (rest.is_empty() && minute < 60 && hour <= 14).then_some(Some(sign * minutes))
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != MomentKind::Time {
            write!(out, "{:04}", self.day.year())?;
            if self.precision >= Precision::Month {
                write!(out, "-{:02}", self.day.month())?;
            }
            if self.precision >= Precision::Day {
                write!(out, "-{:02}", self.day.day())?;
            }
            if self.precision <= Precision::Day {
                return Ok(());
            }
            out.write_str("T")?;
        }
        write!(out, "{:02}", self.clock / (60 * MINUTE_MS))?;
        if self.precision >= Precision::Minute {
            write!(out, ":{:02}", self.clock / MINUTE_MS % 60)?;
        }
        if self.precision >= Precision::Second {
            write!(out, ":{:02}", self.clock / 1_000 % 60)?;
            if self.fraction > 0 {
                write!(out, ".{:03}", self.clock % 1_000)?;
            }
        }
        match self.zone {
            Some(0) => out.write_str("Z"),
            Some(minutes) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                let minutes = minutes.unsigned_abs();
                write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Option<(i64, i64)> {
        Moment::parse(text).map(|moment| moment.span())
    }

    #[test]
    fn a_moment_stands_for_all_that_its_precision_leaves_open() {
        assert_eq!(span("1970"), Some((0, 365 * DAY_MS - 1)));
        assert_eq!(span("1972-02"), Some((761 * DAY_MS, 790 * DAY_MS - 1)));
        assert_eq!(span("1970-01-02"), Some((DAY_MS, 2 * DAY_MS - 1)));
        assert_eq!(span("1970-01-01T01:00"), Some((3_600_000, 3_659_999)));
        assert_eq!(span("1970-01-01T01:00:00+01:00"), Some((0, 999)));
        assert_eq!(span("1970-01-01T00:00:00.5Z"), Some((500, 599)));
        assert_eq!(span("1970-01-01T00:00:00.1234Z"), Some((123, 123)));
        assert_eq!(span("1969-12-31T23:59:60Z"), Some((0, 999)));
        for refused in [
            "",
            "70",
            "1970-1",
            "1970-13",
            "1970-02-29",
            "1970-01-01T24:00",
            "1970-01-01T1:00",
            "1970T10:00",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00+1:00",
            "1970-01-01 00:00",
            "0000",
            "1970-01-01T00:00:00é",
        ] {
            assert_eq!(span(refused), None, "{refused}");
        }
    }

    #[test]
    fn what_precision_or_a_missing_zone_leaves_open_is_not_compared() {
        let compare = |a: &str, b: &str| {
            let (a, b) = (Moment::parse(a).expect(a), Moment::parse(b).expect(b));
            a.compare(&b)
        };
        assert_eq!(compare("2012", "2012"), Some(Ordering::Equal));
        assert_eq!(compare("2012", "2012-05"), None);
        assert_eq!(compare("2012", "2013-05"), Some(Ordering::Less));
        assert_eq!(
            compare("2012-05-01T10:00:00Z", "2012-05-01T11:00:00+01:00"),
            Some(Ordering::Equal)
        );
        assert_eq!(compare("2012-05-01T10:00:00Z", "2012-05-01T10:00:00"), None);
        assert_eq!(
            compare("2012-05-01T10:00:00.0", "2012-05-01T10:00:00"),
            Some(Ordering::Equal)
        );
    }

    #[test]
    fn a_moment_is_written_as_it_was_read_and_moves_along_the_calendar() {
        for text in [
            "2012",
            "2012-05",
            "2012-05-31",
            "2012-05-31T10:00",
            "2012-05-31T10:00:01.250+05:30",
        ] {
            assert_eq!(Moment::parse(text).expect(text).to_string(), text);
        }
        let later = |text: &str, count, unit| {
            Moment::parse(text)
                .and_then(|moment| moment.later(count, unit))
                .map(|later| later.to_string())
        };
        assert_eq!(
            later("2012-01-31", 1, "month").as_deref(),
            Some("2012-02-29")
        );
        assert_eq!(
            later("2012-01-31T23:00:00Z", 2, "hours").as_deref(),
            Some("2012-02-01T01:00:00Z")
        );
        assert_eq!(later("2012", -1, "year").as_deref(), Some("2011"));
        assert_eq!(later("9999-12-31", 1, "day"), None);
        assert_eq!(later("2012-01-31", i64::MAX, "weeks"), None);
    }
}
