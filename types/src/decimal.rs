//! Decimals that keep their text: 72.50 stays 72.50 from the device's register to the FHIR resource.
use alloc::{
    format,
    string::{String, ToString},
};
use core::{fmt, str::FromStr};

/// Text outside the grammar of a FHIR R4 `decimal`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a decimal is a JSON number of at most {max} characters", max = Decimal::MAX_LEN)]
pub struct InvalidDecimal;

/// An exact decimal with its precision, as text (FHIR R4 `decimal`: `-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?`).
///
/// Two decimals are equal when their texts are: 72.5 and 72.50 differ in precision, which FHIR keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal(String);

impl Decimal {
    /// The longest text, in characters: 18 digits (FHIR R4 asks for at least that), sign, point and exponent.
    pub const MAX_LEN: usize = 32;
    /// The largest power of ten of the first digit, and with a minus the smallest of the last: what a device's binary
    /// number of 64 bits can hold. Whoever calculates with 1e999999999 runs out of memory.
    pub const MAX_EXPONENT: i32 = 400;

    /// `mantissa` × 10^`exponent`, written with the digits that the exponent implies: (7250, -2) is 72.50.
    /// A positive exponent is written as such: (11, 3) is 11e3.
    #[must_use]
    pub fn from_parts(mantissa: i64, exponent: i8) -> Self {
        let sign = if mantissa < 0 { "-" } else { "" };
        let digits = mantissa.unsigned_abs().to_string();
        if exponent > 0 {
            return Self(format!("{sign}{digits}e{exponent}"));
        }
        let places = usize::from(exponent.unsigned_abs());
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        let point = if places == 0 { "" } else { "." };
        Self(format!("{sign}{whole}{point}{fraction}"))
    }

    /// The text, a JSON number.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The mantissa and the power of ten that this text stands for: the inverse of [`Decimal::from_parts`]
    /// where no exponent is written. `None` when the mantissa does not fit.
    #[must_use]
    pub fn to_parts(&self) -> Option<(i64, i8)> {
        let (number, exponent) = self.0.split_once(['e', 'E']).unwrap_or((&self.0, "0"));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let mantissa = format!("{whole}{fraction}").parse().ok()?;
        let exponent: i32 = exponent.parse().ok()?;
        let places = i32::try_from(fraction.len()).ok()?;
        Some((mantissa, i8::try_from(exponent.checked_sub(places)?).ok()?))
    }

    /// The same with at most so many significant digits: halves are rounded away from zero. What has no more keeps its
    /// text.
    #[must_use]
    pub fn rounded(&self, digits: usize) -> Self {
        let (sign, text) = match self.0.strip_prefix('-') {
            Some(text) => ("-", text),
            None => ("", &self.0[..]),
        };
        let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, ""));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0').len();
        let Some(dropped) = significant
            .checked_sub(digits)
            .filter(|dropped| *dropped > 0)
        else {
            return self.clone();
        };
        let (kept, rest) = all.split_at(all.len() - dropped);
        let kept = if rest.as_bytes().first().is_some_and(|digit| *digit >= b'5') {
            one_more(kept)
        } else {
            kept.to_string()
        };
        let exponent = match exponent {
            "" => String::new(),
            exponent => format!("e{exponent}"),
        };
        // What was rounded away left of the point is zeros.
        let Some(places) = fraction.len().checked_sub(dropped) else {
            let zeros = "0".repeat(dropped - fraction.len());
            return Self(format!("{sign}{}{zeros}{exponent}", plain(&kept)));
        };
        let (whole, fraction) = kept.split_at(kept.len() - places);
        let point = if places == 0 { "" } else { "." };
        Self(format!("{sign}{}{point}{fraction}{exponent}", plain(whole)))
    }

    /// The nearest binary number, for comparison with a range. Never for output.
    #[must_use]
    pub fn approximate(&self) -> f64 {
        // The grammar above is a subset of what `f64` parses, so this cannot fail; NaN is outside every range.
        self.0.parse().unwrap_or(f64::NAN)
    }
}

impl FromStr for Decimal {
    type Err = InvalidDecimal;

    fn from_str(text: &str) -> Result<Self, InvalidDecimal> {
        if text.len() <= Self::MAX_LEN && is_json_number(text.as_bytes()) && is_bounded(text) {
            Ok(Self(text.to_string()))
        } else {
            Err(InvalidDecimal)
        }
    }
}

/// The next number after one that is written in digits.
fn one_more(digits: &str) -> String {
    let nines = digits.len() - digits.trim_end_matches('9').len();
    let (head, tail) = digits.split_at(digits.len() - nines);
    let zeros = "0".repeat(tail.len());
    match head.char_indices().next_back() {
        None => format!("1{zeros}"),
        Some((at, last)) => {
            let next = last.to_digit(10).map_or(0, |digit| digit + 1);
            format!("{}{next}{zeros}", &head[..at])
        }
    }
}

/// Without zeros before the first digit, as JSON wants it.
fn plain(whole: &str) -> &str {
    match whole.trim_start_matches('0') {
        "" => "0",
        plain => plain,
    }
}

/// Whether the exponent of a JSON number is within [`Decimal::MAX_EXPONENT`].
fn is_bounded(number: &str) -> bool {
    let number = number.trim_start_matches('-');
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let places = |digits: &str| i32::try_from(digits.len()).unwrap_or(i32::MAX);
    exponent.parse::<i32>().is_ok_and(|exponent| {
        exponent.saturating_add(places(whole) - 1) <= Decimal::MAX_EXPONENT
            && exponent.saturating_sub(places(fraction)) >= -Decimal::MAX_EXPONENT
    })
}

fn is_json_number(text: &[u8]) -> bool {
    let digits = |from: &mut usize| {
        let start = *from;
        while text.get(*from).is_some_and(u8::is_ascii_digit) {
            *from += 1;
        }
        *from - start
    };
    let mut at = usize::from(text.first() == Some(&b'-'));
    let leading_zero = text.get(at) == Some(&b'0');
    let whole = digits(&mut at);
    if whole == 0 || (leading_zero && whole > 1) {
        return false;
    }
    if text.get(at) == Some(&b'.') {
        at += 1;
        if digits(&mut at) == 0 {
            return false;
        }
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        if digits(&mut at) == 0 {
            return false;
        }
    }
    at == text.len()
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_rounded_to_so_many_digits_and_one_that_has_no_more_keeps_its_text() {
        for (text, rounded) in [
            ("60.078051120123456789012345678", "60.07805"),
            ("7.3900000000000006", "7.390000"),
            ("72.50", "72.50"),
            ("0.000", "0.000"),
            ("1234567", "1234567"),
            ("123456789", "123456800"),
            ("-123456750.5", "-123456800"),
            ("999999.96", "1000000.0"),
            ("99999995", "100000000"),
            ("0.00012345675", "0.0001234568"),
            ("0.99999999", "1.0000000"),
            ("1.23456789e5", "1.234568e5"),
            ("12345678E-3", "12345680e-3"),
        ] {
            let decimal: Decimal = text.parse().unwrap();
            let seen = decimal.rounded(7);
            assert_eq!(seen.as_str(), rounded, "{text}");
            assert_eq!(seen.as_str().parse(), Ok(seen.clone()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn rounding_is_idempotent_and_stays_near(mantissa: i64, exponent in -12i8..4) {
            let decimal = Decimal::from_parts(mantissa, exponent);
            let rounded = decimal.rounded(7);
            let again = rounded.rounded(7);
            prop_assert_eq!(again.as_str(), rounded.as_str());
            let (before, after) = (decimal.approximate(), rounded.approximate());
            prop_assert!((before - after).abs() <= before.abs() * 5.1e-7, "{decimal} {rounded}");
        }
    }

    #[test]
    fn parts_are_written_with_the_digits_that_the_exponent_implies() {
        for (mantissa, exponent, text) in [
            (7250, -2, "72.50"),
            (73, 0, "73"),
            (-178, -1, "-17.8"),
            (5, -2, "0.05"),
            (0, -1, "0.0"),
            (11, 3, "11e3"),
        ] {
            let decimal = Decimal::from_parts(mantissa, exponent);
            assert_eq!(decimal.as_str(), text);
            assert_eq!(decimal.to_parts(), Some((mantissa, exponent)));
        }
    }

    #[test]
    fn text_outside_the_grammar_is_refused() {
        for text in [
            "",
            "-",
            "+1",
            ".5",
            "5.",
            "01",
            "1e",
            "1e+",
            "NaN",
            "Infinity",
            "1,5",
            " 1",
            "0x10",
            "123456789012345678901234567890123",
            "1e999999999",
            "1e-999999999",
            "1e99999999999999999999",
            "10e400",
            "1.5e-400",
        ] {
            assert_eq!(text.parse::<Decimal>(), Err(InvalidDecimal), "{text:?}");
        }
    }

    #[test]
    fn the_bounds_of_the_exponent_are_within() {
        for text in [
            "1e400",
            "1e-400",
            "123456789012345678",
            "0.123456789012345678",
            "-0",
            "0.0",
        ] {
            assert!(text.parse::<Decimal>().is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_a_number_and_keeps_its_text(text in "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?") {
            let decimal: Decimal = text.parse().unwrap();
            prop_assert_eq!(decimal.as_str(), &text);
            prop_assert!(decimal.approximate().is_finite());
        }
    }
}
