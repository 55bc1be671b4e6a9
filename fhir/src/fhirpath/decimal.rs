//! Decimal numbers as they are written: their digits and where the point is, so that `1.50` has two places.
use std::{cmp::Ordering, fmt};

/// Significant digits that are kept: more than any measurement has.
const MAX_DIGITS: usize = 30;
/// Greatest power of ten, either way, that a number may be written with.
const MAX_EXPONENT: i32 = 400;
/// Places of a quotient behind the point.
const QUOTIENT_PLACES: i32 = 12;

/// `digits` × 10^−`scale`.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: i128,
    scale: i32,
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Self {
            digits: i128::from(number),
            scale: 0,
        }
    }
}

impl Decimal {
    /// `digits` × 10^−`scale`.
    #[must_use]
    pub const fn new(digits: i128, scale: i32) -> Self {
        Self { digits, scale }
    }

    /// A whole number.
    #[must_use]
    pub const fn from_digits(digits: i128) -> Self {
        Self { digits, scale: 0 }
    }

    /// Reads a number of JSON, or one with a `+`; none when it has more than 30 digits or a power of ten above 400.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (sign, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, places) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let ends_in_point = mantissa.ends_with('.');
        if whole.is_empty() || ends_in_point || !all_digits(whole) || !all_digits(places) {
            return None;
        }
        let digits = format!("{whole}{places}");
        let significant = digits.trim_start_matches('0');
        if significant.len() > MAX_DIGITS || exponent.abs() > MAX_EXPONENT {
            return None;
        }
        let digits: i128 = if significant.is_empty() {
            0
        } else {
            significant.parse().ok()?
        };
        Some(Self {
            digits: sign * digits,
            scale: i32::try_from(places.len()).ok()?.checked_sub(exponent)?,
        })
    }

    /// Of a double, to the digits that tell it from every other.
    #[must_use]
    pub fn of_f64(number: f64) -> Option<Self> {
        Self::parse(&format!("{number:e}"))
    }

    /// The nearest double.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        let text = format!("{}e{}", self.digits, -i64::from(self.scale));
        text.parse().unwrap_or(f64::NAN)
    }

    /// The whole number, when it is one of 64 bits.
    #[must_use]
    pub fn to_i64(self) -> Option<i64> {
        let plain = self.normal();
        i64::try_from(plain.digits.checked_mul(power(-plain.scale)?)?).ok()
    }

    /// Places behind the point; negative where the last digit stands for tens and more.
    #[must_use]
    pub const fn scale(self) -> i32 {
        self.scale
    }

    /// The digits, without the point.
    #[must_use]
    pub const fn digits(self) -> i128 {
        self.digits
    }

    /// Half of what one more in the last place adds.
    #[must_use]
    pub const fn half_unit(self) -> Self {
        Self {
            digits: 5,
            scale: self.scale.saturating_add(1),
        }
    }

    /// Without zeros at the end of the places behind the point, and none before it.
    #[must_use]
    pub fn normal(self) -> Self {
        let Self {
            mut digits,
            mut scale,
        } = self;
        if digits == 0 {
            return Self { digits, scale: 0 };
        }
        while digits % 10 == 0 {
            digits /= 10;
            scale -= 1;
        }
        Self { digits, scale }
    }

    /// Both with the same number of places.
    fn aligned(self, other: Self) -> Option<(i128, i128, i32)> {
        let scale = self.scale.max(other.scale);
        let own = self.digits.checked_mul(power(scale - self.scale)?)?;
        let theirs = other.digits.checked_mul(power(scale - other.scale)?)?;
        Some((own, theirs, scale))
    }

    /// The sum, unless it has too many digits.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let (own, theirs, scale) = self.aligned(other)?;
        Some(Self::new(own.checked_add(theirs)?, scale))
    }

    /// The difference.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.negative())
    }

    /// The product.
    #[must_use]
    pub fn times(self, other: Self) -> Option<Self> {
        let digits = self.digits.checked_mul(other.digits)?;
        Some(Self::new(digits, self.scale.checked_add(other.scale)?))
    }

    /// The quotient, to twelve places; none where the divisor is 0.
    #[must_use]
    pub fn over(self, other: Self) -> Option<Self> {
        let (own, theirs, _) = self.normal().aligned(other.normal())?;
        let scaled = own.checked_mul(power(QUOTIENT_PLACES)?)?;
        let digits = scaled.checked_div(theirs)?;
        Some(Self::new(digits, QUOTIENT_PLACES).normal())
    }

    /// How often the other fits in whole, towards 0, and what is left.
    #[must_use]
    pub fn div_rem(self, other: Self) -> Option<(Self, Self)> {
        let (own, theirs, scale) = self.aligned(other)?;
        let whole = own.checked_div(theirs)?;
        Some((
            Self::new(whole, 0),
            Self::new(own.checked_rem(theirs)?, scale),
        ))
    }

    /// With the other sign.
    #[must_use]
    pub const fn negative(self) -> Self {
        Self {
            digits: self.digits.saturating_neg(),
            scale: self.scale,
        }
    }

    /// Without a sign.
    #[must_use]
    pub const fn absolute(self) -> Self {
        Self {
            digits: self.digits.saturating_abs(),
            scale: self.scale,
        }
    }

    /// The nearest with so many places; halves go away from 0.
    #[must_use]
    pub fn rounded(self, places: u8) -> Option<Self> {
        let places = i32::from(places);
        if self.scale <= places {
            return Some(self);
        }
        let step = power(self.scale - places)?;
        let half = step / 2;
        let away = if self.digits < 0 { -half } else { half };
        Some(Self::new(self.digits.checked_add(away)? / step, places))
    }

    /// The greatest whole number that is not above.
    #[must_use]
    pub fn floor(self) -> Option<Self> {
        if self.scale <= 0 {
            return Some(self);
        }
        Some(Self::new(self.digits.div_euclid(power(self.scale)?), 0))
    }

    /// The whole number towards 0.
    #[must_use]
    pub fn truncated(self) -> Option<Self> {
        if self.scale <= 0 {
            return Some(self);
        }
        Some(Self::new(self.digits / power(self.scale)?, 0))
    }
}

fn power(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, theirs) = (self.normal(), other.normal());
        match own.aligned(theirs) {
            Some((own, theirs, _)) => own.cmp(&theirs),
            // So far apart that doubles tell them apart too.
            None => own.to_f64().total_cmp(&theirs.to_f64()),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scale < -MAX_EXPONENT || self.scale > MAX_EXPONENT {
            return write!(out, "{}e{}", self.digits, -i64::from(self.scale));
        }
        if self.scale <= 0 {
            let zeros = if self.digits == 0 {
                0
            } else {
                self.scale.unsigned_abs() as usize
            };
            return write!(out, "{}{}", self.digits, "0".repeat(zeros));
        }
        let places = self.scale.unsigned_abs() as usize;
        let digits = format!(
            "{:0>width$}",
            self.digits.unsigned_abs(),
            width = places + 1
        );
        let (whole, rest) = digits
            .split_at_checked(digits.len() - places)
            .unwrap_or(("0", ""));
        let sign = if self.digits < 0 { "-" } else { "" };
        write!(out, "{sign}{whole}.{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn a_decimal_keeps_its_places_and_is_equal_by_its_value() {
        for text in ["0", "1.50", "-0.05", "100", "12345678901234567890.123"] {
            assert_eq!(of(text).to_string(), text);
        }
        assert_eq!(of("1e2").to_string(), "100");
        assert_eq!((of("1e2").scale(), of("100").scale()), (-2, 0));
        assert_eq!(of("1e2"), of("100.0"));
        assert!(of("-1e300") < of("0.1") && of("1e300") > of("1e-300"));
        for refused in [
            "",
            ".5",
            "1.",
            "1e",
            "--1",
            "1e401",
            "1234567890123456789012345678901",
            "0x1",
            "1 ",
        ] {
            assert_eq!(Decimal::parse(refused), None, "{refused}");
        }
    }

    #[test]
    fn arithmetic_is_that_of_decimals_and_never_overflows() {
        assert_eq!(of("0.1").plus(of("0.2")), Some(of("0.3")));
        assert_eq!(
            of("1").over(of("3")).map(|third| third.to_string()),
            Some("0.333333333333".into())
        );
        assert_eq!(of("1").over(of("0")), None);
        assert_eq!(of("-5.5").div_rem(of("2")), Some((of("-2"), of("-1.5"))));
        assert_eq!(of("2.345").rounded(2), Some(of("2.35")));
        assert_eq!(of("-1.5").floor(), Some(of("-2")));
        assert_eq!(
            of("123456789012345678901234567890")
                .times(of("1e9"))
                .map(|_| ()),
            Some(())
        );
        let great = of("999999999999999999999999999999");
        assert_eq!(great.times(great), None);
        assert_eq!(of("1e300").plus(of("1e-300")), None);
        assert_eq!(of("12.0").to_i64(), Some(12));
        assert_eq!(of("1e30").to_i64(), None);
    }
}
