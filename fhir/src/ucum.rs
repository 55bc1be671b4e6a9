//! Units of UCUM as they are used in medicine, in base units: so that `5.4 g` and `5400 mg` are found by each other.
//!
//! Case-sensitive codes (UCUM 2.1 c/s). Factors are exact fractions; a unit whose factor is none (`deg`), a scale that is
//! no proportion (`[pH]`, `B`), a procedure's unit (`[IU]`, `[arb'U]`) is a base of its own: it is the same as itself alone.
//! So is an amount: `mol` is not 6 × 10^23. What is not known has no base units, and is compared as it stands.
mod table;

use crate::fhirpath::Decimal;
use std::fmt::Write as _;

/// Characters of a unit.
const MAX_CHARS: usize = 64;
/// Parentheses within each other.
const MAX_DEPTH: u8 = 8;

/// A factor: `num / den × 10^exp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Factor {
    num: i128,
    den: i128,
    exp: i32,
}

impl Factor {
    const ONE: Self = Self {
        num: 1,
        den: 1,
        exp: 0,
    };

    const fn of(num: i128, den: i128, exp: i32) -> Self {
        Self { num, den, exp }
    }

    fn times(self, other: Self) -> Option<Self> {
        let crossed = (divisor(self.num, other.den), divisor(other.num, self.den));
        Some(Self {
            num: (self.num / crossed.0).checked_mul(other.num / crossed.1)?,
            den: (self.den / crossed.1).checked_mul(other.den / crossed.0)?,
            exp: self.exp.checked_add(other.exp)?,
        })
    }

    const fn inverse(self) -> Self {
        Self {
            num: self.den,
            den: self.num,
            exp: -self.exp,
        }
    }
}

/// The greatest common divisor, at least 1.
const fn divisor(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    if a == 0 { 1 } else { a }
}

/// A unit in base units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    factor: Factor,
    /// Base units with their powers, sorted by name, none with 0.
    bases: Vec<(String, i32)>,
    /// What is added in kelvin after the factor, for `Cel` and `[degF]` alone: a fraction.
    offset: Option<(i128, i128)>,
}

impl Unit {
    /// Reads a code; none when something in it is not known.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        if code.len() > MAX_CHARS {
            return None;
        }
        if let Some(special) = table::special(code) {
            return Some(special);
        }
        let mut reader = Reader { rest: code };
        let unit = reader.term(0)?;
        reader.rest.is_empty().then_some(unit)
    }

    fn plain(factor: Factor, base: &str) -> Self {
        Self {
            factor,
            bases: vec![(base.to_owned(), 1)],
            offset: None,
        }
    }

    const fn number(factor: Factor) -> Self {
        Self {
            factor,
            bases: Vec::new(),
            offset: None,
        }
    }

    fn times(mut self, other: &Self) -> Option<Self> {
        self.factor = self.factor.times(other.factor)?;
        for (base, power) in &other.bases {
            match self.bases.binary_search_by(|(known, _)| known.cmp(base)) {
                Ok(at) => {
                    let known = self.bases.get_mut(at)?;
                    known.1 = known.1.checked_add(*power)?;
                }
                Err(at) => self.bases.insert(at, (base.clone(), *power)),
            }
        }
        self.bases.retain(|(_, power)| *power != 0);
        Some(self)
    }

    fn inverse(mut self) -> Self {
        self.factor = self.factor.inverse();
        for (_, power) in &mut self.bases {
            *power = -*power;
        }
        self
    }

    fn power(&self, exponent: i32) -> Option<Self> {
        let mut result = Self::number(Factor::ONE);
        for _ in 0..exponent.unsigned_abs() {
            result = result.times(self)?;
        }
        Some(if exponent < 0 {
            result.inverse()
        } else {
            result
        })
    }

    /// The base units as text, such as `g.m-3`; `1` where there is none.
    #[must_use]
    pub fn dimension(&self) -> String {
        let mut text = String::new();
        for (base, power) in &self.bases {
            let dot = if text.is_empty() { "" } else { "." };
            let _infallible = match power {
                1 => write!(text, "{dot}{base}"),
                power => write!(text, "{dot}{base}{power}"),
            };
        }
        if text.is_empty() {
            "1".to_owned()
        } else {
            text
        }
    }

    /// A number of this unit in base units, as near as a double can be: the same double for the same quantity, where
    /// its digits can be multiplied exactly.
    #[must_use]
    pub fn base_value(&self, number: Decimal) -> f64 {
        self.exact(number).unwrap_or_else(|| {
            let Factor { num, den, exp } = self.factor;
            let factor = Decimal::new(num, -exp).to_f64() / Decimal::from_digits(den).to_f64();
            let (up, down) = self.offset.unwrap_or((0, 1));
            number.to_f64() * factor
                + Decimal::from_digits(up).to_f64() / Decimal::from_digits(down).to_f64()
        })
    }

    fn exact(&self, number: Decimal) -> Option<f64> {
        let number = number.normal();
        let Factor { num, den, exp } = self.factor;
        let common = divisor(number.digits().checked_abs()?, den);
        let (mut digits, mut den) = ((number.digits() / common).checked_mul(num)?, den / common);
        let mut scale = number.scale().checked_sub(exp)?;
        if let Some((up, down)) = self.offset {
            // number + up / down, over one denominator.
            let step = 10_i128.checked_pow(u32::try_from(scale.max(0)).ok()?)?;
            if scale < 0 {
                digits = digits.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
                scale = 0;
            }
            let added = up.checked_mul(den)?.checked_mul(step)?;
            digits = digits.checked_mul(down)?.checked_add(added)?;
            den = den.checked_mul(down)?;
        }
        let common = divisor(digits.checked_abs()?, den);
        let (digits, den) = (digits / common, den / common);
        // 2 and 5 in the denominator are places behind the point.
        let mut rest = den;
        let (mut digits, mut scale) = (digits, scale);
        for (prime, other) in [(2, 5), (5, 2)] {
            while rest % prime == 0 {
                rest /= prime;
                digits = digits.checked_mul(other)?;
                scale = scale.checked_add(1)?;
            }
        }
        let upper = Decimal::new(digits, scale).normal().to_f64();
        Some(if rest == 1 {
            upper
        } else {
            upper / Decimal::from_digits(rest).to_f64()
        })
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn term(&mut self, depth: u8) -> Option<Unit> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut unit = match self.take("/") {
            true => self.component(depth)?.inverse(),
            false => self.component(depth)?,
        };
        loop {
            unit = if self.take(".") {
                unit.times(&self.component(depth)?)?
            } else if self.take("/") {
                unit.times(&self.component(depth)?.inverse())?
            } else {
                return Some(unit);
            };
        }
    }

    fn component(&mut self, depth: u8) -> Option<Unit> {
        if self.take("(") {
            let unit = self.term(depth + 1)?;
            return self.take(")").then_some(unit);
        }
        if self.rest.starts_with('{') {
            return self.annotation().then(|| Unit::number(Factor::ONE));
        }
        let end = self.atom_end();
        let (text, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let unit = read_atom(text)?;
        if self.rest.starts_with('{') && !self.annotation() {
            return None;
        }
        Some(unit)
    }

    /// What stands in braces says nothing about the size.
    fn annotation(&mut self) -> bool {
        match self.rest.find('}').and_then(|end| self.rest.get(end + 1..)) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Where the unit in hand ends; what stands in brackets is part of it.
    fn atom_end(&self) -> usize {
        let mut in_brackets = false;
        for (at, c) in self.rest.char_indices() {
            match c {
                '[' => in_brackets = true,
                ']' => in_brackets = false,
                '.' | '/' | '(' | ')' | '{' if !in_brackets => return at,
                _ => {}
            }
        }
        self.rest.len()
    }
}

/// `mm3`, `10*9`, `s-1`, `100`.
fn read_atom(text: &str) -> Option<Unit> {
    if let Some(exponent) = text
        .strip_prefix("10*")
        .or_else(|| text.strip_prefix("10^"))
    {
        let exp = if exponent.is_empty() {
            1
        } else {
            small(exponent)?
        };
        return Some(Unit::number(Factor::of(1, 1, exp)));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i128 = text.parse().ok()?;
        return (number > 0 && text.len() <= 12).then(|| Unit::number(Factor::of(number, 1, 0)));
    }
    if let Some(unit) = read_symbol(text) {
        return Some(unit);
    }
    let bare = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let bare = bare.strip_suffix(['-', '+']).unwrap_or(bare);
    let exponent = small(text.get(bare.len()..)?)?;
    read_symbol(bare)?.power(exponent)
}

/// A whole number of at most two digits.
fn small(text: &str) -> Option<i32> {
    let number = text.strip_prefix('+').unwrap_or(text);
    (number.len() <= 3)
        .then(|| number.parse().ok())
        .flatten()
        .filter(|number: &i32| (-30..=30).contains(number))
}

fn read_symbol(text: &str) -> Option<Unit> {
    if let Some(unit) = table::unit(text) {
        return Some(unit.0);
    }
    for (prefix, exp) in table::PREFIXES {
        let found = text.strip_prefix(prefix).and_then(table::unit);
        if let Some((unit, true)) = found {
            return unit.times(&Unit::number(Factor::of(1, 1, *exp)));
        }
    }
    // A unit of somebody's own procedure.
    let is_own = text.len() > 2 && text.starts_with('[') && text.ends_with(']');
    is_own.then(|| Unit::plain(Factor::ONE, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(number: &str, unit: &str) -> (f64, String) {
        let read = Unit::parse(unit).unwrap_or_else(|| panic!("{unit}"));
        (
            read.base_value(Decimal::parse(number).unwrap_or_else(|| panic!("{number}"))),
            read.dimension(),
        )
    }

    #[test]
    fn the_same_quantity_is_the_same_number_of_base_units() {
        for (one, other) in [
            (("5.4", "g"), ("5400", "mg")),
            (("5.4", "mg/dL"), ("54", "mg/L")),
            (("1", "mL/min"), ("60", "mL/h")),
            (("0.1", "L"), ("100", "mL")),
            (("0.1", "L"), ("100", "cm3")),
            (("7.2", "mmol/L"), ("7.2", "umol/mL")),
            (("37", "Cel"), ("310.15", "K")),
            (("98.6", "[degF]"), ("37", "Cel")),
            (("-40", "[degF]"), ("-40", "Cel")),
            (("1", "[lb_av]"), ("453.59237", "g")),
            (("70", "[in_i]"), ("177.8", "cm")),
            (("2", "[ft_i]"), ("24", "[in_i]")),
            (("10", "mm[Hg]"), ("1.33322", "kPa")),
            (("98", "%"), ("0.98", "1")),
            (("5", "10*9/L"), ("5000", "/uL")),
            (("5", "10*9/L"), ("5", "10*3/mm3")),
            (("80", "/min"), ("80", "{beats}/min")),
            (("80", "{beats}/min"), ("80", "1/min")),
            (("3", "U/L"), ("3", "umol/min/L")),
            (("2", "k[IU]/L"), ("2", "[IU]/mL")),
            (("5", "m/s2"), ("5", "m.s-2")),
            (("1", "kg/m2"), ("1", "kg.m-2")),
            (("2", "wk"), ("14", "d")),
            (("1", "meq/L"), ("1", "mmol/L")),
            (("1", "ug/kg/min"), ("1", "ug/(kg.min)")),
            (("1", "mL/min/{1.73_m2}"), ("1", "mL/min")),
            (("3.6", "km/h"), ("1", "m/s")),
            (("1", "N"), ("1", "kg.m.s-2")),
            (("120", "J/s"), ("120", "W")),
            (("1", "L/min"), ("1", "l/min")),
        ] {
            assert_eq!(
                base(one.0, one.1),
                base(other.0, other.1),
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn units_that_measure_something_else_differ() {
        for (one, other) in [
            ("g", "L"),
            ("[IU]", "mol"),
            ("[pH]", "1"),
            ("Cel", "m"),
            ("mol/L", "/L"),
            ("[arb'U]", "[IU]"),
        ] {
            assert_ne!(base("1", one).1, base("1", other).1, "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_unit_has_no_base_units() {
        for text in [
            "",
            "xyz",
            "mg/",
            "/",
            "mg//L",
            "(mg",
            "{a",
            "m[",
            "kmin",
            "mg dL",
            "mmHg",
            "10*99",
            "é",
            "m99",
            "((((((((((m))))))))))",
        ] {
            assert_eq!(Unit::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_multiplied_exactly_come_near() {
        let (value, _) = base("1234567890123456789012345678.9", "[lb_av]");
        assert!((value / 5.6e29 - 1.0).abs() < 0.01, "{value}");
        assert!(base("1e400", "kg").0.is_infinite());
    }
}
