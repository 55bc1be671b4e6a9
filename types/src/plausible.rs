//! In which units a code is measured, and between which values: one table for every door.
//!
//! A unit that is not of the code is no reading at all (FHIR R4 fixes the units of vital signs:
//! observation-vitalsigns.html, table of "magic values"). A value outside its range is one, and is marked
//! ([`Flags::IMPLAUSIBLE_FOR_CODE`]): devices do say heart rate 0 and pH 735. The ranges are wide on purpose, between
//! what has been survived and what a sensor can show at all; they are no alarm limits and no reference ranges.
use crate::{AbsentReason, Code, Flags, Unit, Value};

/// The lowest and the highest plausible value of a code in a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plausible {
    /// The unit (UCUM).
    pub unit: &'static str,
    /// The lowest plausible value.
    pub low: f64,
    /// The highest plausible value.
    pub high: f64,
}

/// So many times the largest plausible magnitude, a number measures nothing: it is a number of something else, such as
/// of a record, and does not leave its facility. The largest artefacts of real monitors stay far below.
const NOT_A_MEASUREMENT: f64 = 100.0;
/// What is not plausible does not leave with more than five digits before the point: record numbers have six and more.
const SHORT: f64 = 99_999.0;
/// Significant digits with which a number leaves its facility: more than any device measures, and fewer than a record
/// number behind the point of a plausible value would need.
pub const SIGNIFICANT_DIGITS: usize = 7;

impl Code {
    /// The units in which it is measured, each with its range; the first is that of its row.
    #[must_use]
    pub fn plausible(self) -> &'static [Plausible] {
        let info = self.info();
        let row = RANGES.iter().find(|(code, _)| *code == info.code);
        row.map_or(&[], |(_, ranges)| ranges)
    }

    /// Whether it is ever measured in that unit.
    #[must_use]
    pub fn is_measured_in(self, unit: Unit) -> bool {
        self.range_in(unit).is_some()
    }

    /// What a reader must know of a value of it: nothing, or that it is outside what is plausible.
    #[must_use]
    pub fn flags_of(self, unit: Unit, value: &Value) -> Flags {
        match (value, self.range_in(unit)) {
            (Value::Absent(_), _) => Flags::NONE,
            (Value::Quantity(decimal), Some(range))
                if (range.low..=range.high).contains(&decimal.approximate()) =>
            {
                Flags::NONE
            }
            (Value::Quantity(_), _) => Flags::IMPLAUSIBLE_FOR_CODE,
        }
    }

    /// The value as it may leave its facility: a number far beyond everything that can be measured does not, and none
    /// has more than [`SIGNIFICANT_DIGITS`]. The facility keeps what the device said. A receiver does the same, as not
    /// every sender need have done it.
    #[must_use]
    pub fn leaving(self, unit: Unit, value: Value) -> Value {
        match (value, self.range_in(unit)) {
            (Value::Quantity(decimal), Some(range)) => {
                let widest = range.low.abs().max(range.high.abs());
                let most = widest.max((widest * NOT_A_MEASUREMENT).min(SHORT));
                if decimal.approximate().abs() <= most {
                    Value::Quantity(decimal.rounded(SIGNIFICANT_DIGITS))
                } else {
                    Value::Absent(AbsentReason::Error)
                }
            }
            (value, _) => value,
        }
    }

    fn range_in(self, unit: Unit) -> Option<&'static Plausible> {
        self.plausible()
            .iter()
            .find(|range| range.unit == unit.as_str())
    }
}

const fn range(unit: &'static str, low: f64, high: f64) -> Plausible {
    Plausible { unit, low, high }
}

const RATE: &[Plausible] = &[range("/min", 0.0, 350.0)];
const SATURATION: &[Plausible] = &[range("%", 0.0, 100.0)];
const PRESSURE: &[Plausible] = &[range("mm[Hg]", 0.0, 400.0)];
const ELECTROLYTE_NA: &[Plausible] = &[range("meq/L", 80.0, 220.0), range("mmol/L", 80.0, 220.0)];
const ELECTROLYTE_K: &[Plausible] = &[range("meq/L", 0.5, 15.0), range("mmol/L", 0.5, 15.0)];
const TROPONIN: &[Plausible] = &[range("ug/L", 0.0, 5_000.0)];
const ENZYME: &[Plausible] = &[range("U/L", 0.0, 50_000.0)];

/// By code; the first unit of each is that of its row in the table of codes.
const RANGES: &[(&str, &[Plausible])] = &[
    ("8867-4", RATE),
    ("8889-8", RATE),
    ("9279-1", &[range("/min", 0.0, 150.0)]),
    ("2708-6", SATURATION),
    ("59408-5", SATURATION),
    ("8310-5", &[range("Cel", 20.0, 46.0)]),
    ("76215-3", PRESSURE),
    ("76213-8", PRESSURE),
    ("76214-6", PRESSURE),
    ("76534-7", PRESSURE),
    ("76535-4", PRESSURE),
    ("76536-2", PRESSURE),
    ("8302-2", &[range("cm", 20.0, 280.0)]),
    ("29463-7", &[range("kg", 0.2, 650.0)]),
    ("3150-6", &[range("1", 0.15, 1.0), range("%", 15.0, 100.0)]),
    ("9269-2", &[range("{score}", 3.0, 15.0)]),
    ("mechanical-ventilation", &[range("1", 0.0, 1.0)]),
    ("9187-6", &[range("mL", 0.0, 20_000.0)]),
    ("2744-1", &[range("[pH]", 6.3, 8.0)]),
    ("2703-7", &[range("mm[Hg]", 1.0, 800.0)]),
    ("2019-8", &[range("mm[Hg]", 1.0, 250.0)]),
    ("4544-3", &[range("%", 2.0, 80.0)]),
    ("2823-3", ELECTROLYTE_K),
    ("2951-2", ELECTROLYTE_NA),
    (
        "1963-8",
        &[range("mmol/L", 1.0, 80.0), range("meq/L", 1.0, 80.0)],
    ),
    (
        "2601-3",
        &[
            range("mmol/L", 0.1, 15.0),
            range("meq/L", 0.2, 30.0),
            range("mg/dL", 0.2, 36.0),
        ],
    ),
    (
        "3094-0",
        &[range("mg/dL", 0.0, 400.0), range("mmol/L", 0.0, 145.0)],
    ),
    ("2160-0", &[range("mg/dL", 0.0, 60.0)]),
    ("1975-2", &[range("mg/dL", 0.0, 100.0)]),
    (
        "2345-7",
        &[range("mg/dL", 1.0, 3_000.0), range("mmol/L", 0.05, 170.0)],
    ),
    (
        "2093-3",
        &[range("mg/dL", 5.0, 2_500.0), range("mmol/L", 0.1, 65.0)],
    ),
    (
        "2524-7",
        &[range("mmol/L", 0.0, 60.0), range("mg/dL", 0.0, 540.0)],
    ),
    ("6690-2", &[range("10*3/uL", 0.0, 1_500.0)]),
    ("777-3", &[range("10*3/uL", 0.0, 5_000.0)]),
    ("1751-7", &[range("g/dL", 0.1, 10.0)]),
    ("6768-6", ENZYME),
    ("1742-6", ENZYME),
    ("1920-8", ENZYME),
    ("10839-9", TROPONIN),
    ("6598-7", TROPONIN),
    ("storage-temperature", &[range("Cel", -200.0, 100.0)]),
    ("relative-humidity", &[range("%", 0.0, 100.0)]),
    ("line-voltage", &[range("V", 0.0, 1_000.0)]),
    ("line-current", &[range("A", -10_000.0, 10_000.0)]),
    // As many digits as a number may have before the point: what draws more is no device of a ward.
    ("active-power", &[range("W", -SHORT, SHORT)]),
    ("line-frequency", &[range("Hz", 0.0, 1_000.0)]),
    ("in-hospital-death", &[range("1", 0.0, 1.0)]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn judged(code: &str, unit: &str, value: &str) -> (bool, Flags) {
        let (code, unit): (Code, Unit) = (code.parse().unwrap(), unit.parse().unwrap());
        let value = Value::Quantity(value.parse().unwrap());
        (code.is_measured_in(unit), code.flags_of(unit, &value))
    }

    #[test]
    fn every_code_has_a_range_in_the_unit_of_its_row_and_every_range_a_code_and_a_known_unit() {
        assert_eq!(Code::all().count(), RANGES.len());
        for code in Code::all() {
            let ranges = code.plausible();
            assert_eq!(
                ranges.first().map(|range| range.unit),
                Some(code.info().unit),
                "{code}"
            );
            for range in ranges {
                assert!(range.unit.parse::<Unit>().is_ok(), "{code}");
                assert!(range.low < range.high, "{code}");
            }
        }
    }

    #[test]
    fn no_code_lets_a_number_of_six_digits_before_its_point_leave() {
        for code in Code::all() {
            for range in code.plausible() {
                let unit: Unit = range.unit.parse().unwrap();
                for number in ["100000", "-100000", "654321", "1234567.8"] {
                    let value = Value::Quantity(number.parse().unwrap());
                    let left = code.leaving(unit, value);
                    assert_eq!(left, Value::Absent(AbsentReason::Error), "{code} {number}");
                }
            }
        }
    }

    #[test]
    fn a_unit_of_another_dimension_is_none_of_the_code() {
        for (code, unit) in [("8867-4", "kg"), ("8310-5", "%"), ("2951-2", "mg/dL")] {
            assert!(!judged(code, unit, "60").0, "{code} in {unit}");
        }
        for (code, unit) in [
            ("8867-4", "/min"),
            ("2951-2", "mmol/L"),
            ("2951-2", "meq/L"),
        ] {
            assert!(judged(code, unit, "60").0, "{code} in {unit}");
        }
    }

    #[test]
    fn what_is_outside_its_range_is_marked_and_the_ends_are_within() {
        let marked = Flags::IMPLAUSIBLE_FOR_CODE;
        for (code, unit, value, flags) in [
            ("59408-5", "%", "120", marked),
            ("59408-5", "%", "100", Flags::NONE),
            ("8867-4", "/min", "-5", marked),
            ("8867-4", "/min", "0", Flags::NONE),
            ("2951-2", "mmol/L", "987658016444", marked),
            ("2951-2", "mmol/L", "140.0", Flags::NONE),
            ("2744-1", "[pH]", "735", marked),
            ("8310-5", "Cel", "-17.8", marked),
        ] {
            assert_eq!(judged(code, unit, value).1, flags, "{code} {value}");
        }
        let code: Code = "8867-4".parse().unwrap();
        let unit: Unit = "/min".parse().unwrap();
        assert_eq!(
            code.flags_of(unit, &Value::Absent(AbsentReason::Unknown)),
            Flags::NONE
        );
    }

    #[test]
    fn a_number_that_measures_nothing_does_not_leave_and_an_artefact_does() {
        for (code, unit, value, leaves) in [
            ("2951-2", "mmol/L", "987658016444", false),
            ("2951-2", "mmol/L", "132539", false),
            ("2744-1", "[pH]", "735", true),
            ("8310-5", "Cel", "-17.8", true),
            ("8302-2", "cm", "431.8", true),
            ("6768-6", "U/L", "4999999", false),
            ("6768-6", "U/L", "99999", true),
            ("9187-6", "mL", "198765", false),
            ("8867-4", "/min", "60.078051120123456789012345678", false),
            ("8867-4", "/min", "60.07805", true),
        ] {
            let (code, unit): (Code, Unit) = (code.parse().unwrap(), unit.parse().unwrap());
            let left = code.leaving(unit, Value::Quantity(value.parse().unwrap()));
            let same = matches!(&left, Value::Quantity(it) if it.to_string() == value);
            assert_eq!(same, leaves, "{code} {value}");
        }
    }
}
