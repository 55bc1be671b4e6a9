//! FHIR R4 `date` search: a value has the precision it is written with and stands for all instants of it.
//!
//! A stored time is an instant of one millisecond, so every prefix is a union of half-open intervals.
use chrono::{DateTime, Months, NaiveDate, NaiveTime};
use types::Timestamp;

/// Instants from `from` up to but without `until`, ms since 1970; none is unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The first instant.
    pub from: Option<i64>,
    /// The first instant after it.
    pub until: Option<i64>,
}

impl Interval {
    /// Whether the instant is in it.
    #[must_use]
    pub fn contains(&self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= time.0) && self.until.is_none_or(|until| time.0 < until)
    }
}

/// The instants that a prefixed date stands for (FHIR R4 search.html#prefix, resource value = one instant).
pub fn intervals(text: &str, now: Timestamp) -> Option<Vec<Interval>> {
    let prefix_len = text
        .bytes()
        .take(2)
        .take_while(u8::is_ascii_lowercase)
        .count();
    let (prefix, date) = text.split_at(prefix_len);
    let (from, until) = period(date)?;
    let one = |from, until| Some(vec![Interval { from, until }]);
    match prefix {
        "" | "eq" => one(Some(from), Some(until)),
        "ne" => Some(vec![
            Interval {
                from: None,
                until: Some(from),
            },
            Interval {
                from: Some(until),
                until: None,
            },
        ]),
        "gt" | "sa" => one(Some(until), None),
        "lt" | "eb" => one(None, Some(from)),
        "ge" => one(Some(from), None),
        "le" => one(None, Some(until)),
        // "10% of the gap between now and the date"
        "ap" => {
            let margin = now.since(Timestamp(from)).saturating_abs() / 10;
            one(
                Some(from.saturating_sub(margin)),
                Some(until.saturating_add(margin)),
            )
        }
        _ => None,
    }
}

/// First instant, and first instant after, of a date or a time without a prefix.
pub fn period(text: &str) -> Option<(i64, i64)> {
    match text.split_once('T') {
        Some((day, time)) => moment(day, time),
        None => days(text),
    }
}

fn days(text: &str) -> Option<(i64, i64)> {
    let digits = |part: &str, len: usize| -> Option<u32> {
        (part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse().ok())?
    };
    let mut parts = text.split('-');
    let year = i32::try_from(digits(parts.next()?, 4)?).ok()?;
    let (month, day) = (parts.next(), parts.next());
    if parts.next().is_some() {
        return None;
    }
    let number = |part: Option<&str>| part.map_or(Some(1), |part| digits(part, 2));
    let first = NaiveDate::from_ymd_opt(year, number(month)?, number(day)?)?;
    let after = match (month, day) {
        (None, _) => first.checked_add_months(Months::new(12))?,
        (Some(_), None) => first.checked_add_months(Months::new(1))?,
        (Some(_), Some(_)) => first.succ_opt()?,
    };
    let ms = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
    Some((ms(first), ms(after)))
}

/// `hh:mm`, `hh:mm:ss` or `hh:mm:ss.f…`, with a zone; without one it is UTC. A form-encoded `+` comes as a space.
fn moment(day: &str, time: &str) -> Option<(i64, i64)> {
    let zone_at = time.find(['Z', '+', '-', ' ']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let zone = match zone {
        "" => "Z".to_owned(),
        _ => zone.replace(' ', "+"),
    };
    let (clock, length) = match clock.len() {
        5 => (format!("{clock}:00"), 60_000),
        8 => (clock.to_owned(), 1_000),
        10 => (clock.to_owned(), 100),
        11 => (clock.to_owned(), 10),
        _ => (clock.to_owned(), 1),
    };
    let from = DateTime::parse_from_rfc3339(&format!("{day}T{clock}{zone}"))
        .ok()?
        .timestamp_millis();
    Some((from, from + length))
}
