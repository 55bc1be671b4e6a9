//! Durations and sizes in configuration: a number with its unit, such as `250ms`, `5s`, `7d` or `64MiB`.
use std::{fmt, str::FromStr, time::Duration};

/// A duration without a unit, or with an unknown one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a duration as a whole number and a unit: 250ms, 5s, 2m, 1h or 7d")]
pub struct InvalidSpan;

/// A size without a unit, or with an unknown one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a size as a whole number and a unit: 512B, 64KiB, 64MiB, 2GiB or 1TiB")]
pub struct InvalidSize;

/// A duration, written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes, written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SPAN_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("ms", 1),
    ("m", 60_000),
    ("s", 1_000),
];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Span {
    /// A span of milliseconds.
    #[must_use]
    pub const fn ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// The span in milliseconds.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        scaled(text, SPAN_UNITS).map(Self::ms).ok_or(InvalidSpan)
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        scaled(text, SIZE_UNITS).map(Self).ok_or(InvalidSize)
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The largest unit that divides `value` exactly.
fn unscaled(value: u64, units: &[(&'static str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let divides = |(_, factor): &&(_, u64)| value != 0 && value.is_multiple_of(*factor);
    let best = units.iter().filter(divides).max_by_key(|unit| unit.1);
    let (name, factor) = best.or(units.last()).copied().unwrap_or(("", 1));
    write!(f, "{}{name}", value / factor)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if !ms.is_multiple_of(1_000) {
            return write!(f, "{ms}ms");
        }
        unscaled(ms, SPAN_UNITS, f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unscaled(self.0, SIZE_UNITS, f)
    }
}

macro_rules! text_serde {
    ($($name:ident),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    )*};
}
text_serde!(Span, Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_and_a_size_round_trip_with_their_units() {
        for text in ["250ms", "5s", "2m", "1h", "7d", "1500ms", "90s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["512B", "64KiB", "64MiB", "2GiB", "1025GiB", "1TiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "5y"] {
            assert_eq!(text.parse::<Span>(), Err(InvalidSpan), "{text}");
            assert_eq!(text.parse::<Size>(), Err(InvalidSize), "{text}");
        }
    }
}
