//! What can be measured and in which unit: closed tables, so that neither a code nor a unit can carry free text.
use core::{fmt, str::FromStr};

/// A code that is not in the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the code is not in the table of known codes (types/src/code.rs)")]
pub struct UnknownCode;

/// A unit that is not in the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the unit is not in the table of known UCUM units (types/src/code.rs)")]
pub struct UnknownUnit;

/// FHIR R4 `Observation.category`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// `vital-signs`.
    VitalSigns,
    /// `laboratory`.
    Laboratory,
    /// `survey`.
    Survey,
    /// `procedure`.
    Procedure,
    /// A storage condition, of no patient: `urn:medmesh:category|environment`.
    Environment,
}

impl Category {
    /// The code within [`Category::system`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VitalSigns => "vital-signs",
            Self::Laboratory => "laboratory",
            Self::Survey => "survey",
            Self::Procedure => "procedure",
            Self::Environment => "environment",
        }
    }

    /// The code system.
    #[must_use]
    pub const fn system(self) -> &'static str {
        match self {
            Self::Environment => "urn:medmesh:category",
            Self::VitalSigns | Self::Laboratory | Self::Survey | Self::Procedure => {
                "http://terminology.hl7.org/CodeSystem/observation-category"
            }
        }
    }
}

/// How often a value of a code is expected, and so when the last one is no longer fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Once in a stay, such as a height: it never goes stale.
    Once,
    /// As often as its device says.
    AsDevice,
    /// Not more often than this, in ms, even where its device says so.
    Every(i64),
}

/// What is known of a code.
#[derive(Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// [`Code::LOINC`] or [`Code::MEDMESH`].
    pub system: &'static str,
    /// The code in its system.
    pub code: &'static str,
    /// The name shown to people.
    pub display: &'static str,
    /// The unit it is usually reported in (UCUM).
    pub unit: &'static str,
    /// FHIR R4 `Observation.category`.
    pub category: Category,
    /// How often a value is expected.
    pub expected: Expected,
    /// Whether readings of it are of the facility alone, and never leave it: sender and receiver both refuse them.
    pub of_facility_alone: bool,
}

impl CodeInfo {
    /// The same row, of what is measured once in a stay.
    const fn once(self) -> Self {
        Self {
            expected: Expected::Once,
            ..self
        }
    }

    /// The same row, of what never leaves its facility.
    const fn of_facility_alone(self) -> Self {
        Self {
            of_facility_alone: true,
            ..self
        }
    }

    /// When a last value stops being fresh, in ms, given when its device's values do; none: never.
    #[must_use]
    pub const fn stale_after_ms(&self, device_ms: i64) -> Option<i64> {
        match self.expected {
            Expected::Once => None,
            Expected::AsDevice => Some(device_ms),
            Expected::Every(ms) if ms > device_ms => Some(ms),
            Expected::Every(_) => Some(device_ms),
        }
    }
}

/// What a reading measures: a row of the table of known codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u8);

impl Code {
    /// The LOINC code system.
    pub const LOINC: &'static str = "http://loinc.org";
    /// The code system of what LOINC does not name.
    pub const MEDMESH: &'static str = "urn:medmesh:code";

    /// The row.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "`all` alone makes codes, one of each row"
    )]
    pub fn info(self) -> &'static CodeInfo {
        &TABLE[usize::from(self.0)]
    }

    /// Every known code.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).take(TABLE.len()).map(Self)
    }

    /// The code of that system and name.
    ///
    /// # Errors
    /// [`UnknownCode`] when the table has no such row.
    pub fn of(system: &str, code: &str) -> Result<Self, UnknownCode> {
        Self::all()
            .find(|known| known.info().system == system && known.info().code == code)
            .ok_or(UnknownCode)
    }
}

/// `8867-4` for LOINC, `urn:medmesh:code|mechanical-ventilation` for the mesh's own codes.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.info();
        if info.system == Self::LOINC {
            f.write_str(info.code)
        } else {
            write!(f, "{}|{}", info.system, info.code)
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        match text.split_once('|') {
            Some((system, code)) => Self::of(system, code),
            None => Self::of(Self::LOINC, text),
        }
    }
}

/// A unit of the Unified Code for Units of Measure: a row of the table of known units.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit(u8);

impl Unit {
    /// The UCUM system of FHIR quantities.
    pub const SYSTEM: &'static str = "http://unitsofmeasure.org";

    /// The UCUM code.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "`all` and the table of codes alone make units, of rows that there are"
    )]
    pub fn as_str(self) -> &'static str {
        UNITS[usize::from(self.0)]
    }

    /// Every known unit.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).take(UNITS.len()).map(Self)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Unit {
    type Err = UnknownUnit;

    fn from_str(text: &str) -> Result<Self, UnknownUnit> {
        Self::all()
            .find(|unit| unit.as_str() == text)
            .ok_or(UnknownUnit)
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
                alloc::string::String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    )*};
}
text_serde!(Code, Unit);

const UNITS: &[&str] = &[
    "/min", "mm[Hg]", "Cel", "%", "1", "{score}", "mL", "[pH]", "meq/L", "mmol/L", "mg/dL",
    "10*3/uL", "g/dL", "U/L", "ug/L", "cm", "kg", "mL/h", "L/min", "V", "A", "W", "Hz",
];

const fn row(
    system: &'static str,
    code: &'static str,
    display: &'static str,
    unit: &'static str,
    category: Category,
) -> CodeInfo {
    CodeInfo {
        system,
        code,
        display,
        unit,
        category,
        expected: match category {
            Category::VitalSigns | Category::Environment => Expected::AsDevice,
            // A laboratory or a person reports when there is something to report: once a day is often.
            Category::Laboratory | Category::Survey | Category::Procedure => {
                Expected::Every(crate::Timestamp::DAY_MS)
            }
        },
        of_facility_alone: false,
    }
}

const fn vital(code: &'static str, display: &'static str, unit: &'static str) -> CodeInfo {
    row(Code::LOINC, code, display, unit, Category::VitalSigns)
}

const fn lab(code: &'static str, display: &'static str, unit: &'static str) -> CodeInfo {
    row(Code::LOINC, code, display, unit, Category::Laboratory)
}

/// New rows go to the end: the position is the value of [`Code`] within one build, never stored or sent.
const TABLE: &[CodeInfo] = &[
    vital("8867-4", "Heart rate", "/min"),
    vital("8889-8", "Heart rate by pulse oximetry", "/min"),
    vital("9279-1", "Respiratory rate", "/min"),
    vital("2708-6", "Oxygen saturation in arterial blood", "%"),
    vital(
        "59408-5",
        "Oxygen saturation in arterial blood by pulse oximetry",
        "%",
    ),
    vital("8310-5", "Body temperature", "Cel"),
    vital("76215-3", "Invasive systolic blood pressure", "mm[Hg]"),
    vital("76213-8", "Invasive diastolic blood pressure", "mm[Hg]"),
    vital("76214-6", "Invasive mean blood pressure", "mm[Hg]"),
    vital(
        "76534-7",
        "Systolic blood pressure by noninvasive",
        "mm[Hg]",
    ),
    vital(
        "76535-4",
        "Diastolic blood pressure by noninvasive",
        "mm[Hg]",
    ),
    vital("76536-2", "Mean blood pressure by noninvasive", "mm[Hg]"),
    vital("8302-2", "Body height", "cm").once(),
    vital("29463-7", "Body weight", "kg").once(),
    vital("3150-6", "Inhaled oxygen concentration", "1"),
    row(
        Code::LOINC,
        "9269-2",
        "Glasgow coma score total",
        "{score}",
        Category::Survey,
    ),
    row(
        Code::MEDMESH,
        "mechanical-ventilation",
        "Mechanical ventilation",
        "1",
        Category::Procedure,
    ),
    vital("9187-6", "Urine output", "mL"),
    lab("2744-1", "pH of arterial blood", "[pH]"),
    lab(
        "2703-7",
        "Oxygen partial pressure in arterial blood",
        "mm[Hg]",
    ),
    lab(
        "2019-8",
        "Carbon dioxide partial pressure in arterial blood",
        "mm[Hg]",
    ),
    lab("4544-3", "Hematocrit of blood by automated count", "%"),
    lab("2823-3", "Potassium in serum or plasma", "meq/L"),
    lab("2951-2", "Sodium in serum or plasma", "meq/L"),
    lab("1963-8", "Bicarbonate in serum or plasma", "mmol/L"),
    lab("2601-3", "Magnesium in serum or plasma", "mmol/L"),
    lab("3094-0", "Urea nitrogen in serum or plasma", "mg/dL"),
    lab("2160-0", "Creatinine in serum or plasma", "mg/dL"),
    lab("1975-2", "Bilirubin.total in serum or plasma", "mg/dL"),
    lab("2345-7", "Glucose in serum or plasma", "mg/dL"),
    lab("2093-3", "Cholesterol in serum or plasma", "mg/dL"),
    lab("2524-7", "Lactate in serum or plasma", "mmol/L"),
    lab(
        "6690-2",
        "Leukocytes in blood by automated count",
        "10*3/uL",
    ),
    lab("777-3", "Platelets in blood by automated count", "10*3/uL"),
    lab("1751-7", "Albumin in serum or plasma", "g/dL"),
    lab("6768-6", "Alkaline phosphatase in serum or plasma", "U/L"),
    lab(
        "1742-6",
        "Alanine aminotransferase in serum or plasma",
        "U/L",
    ),
    lab(
        "1920-8",
        "Aspartate aminotransferase in serum or plasma",
        "U/L",
    ),
    lab("10839-9", "Troponin I.cardiac in serum or plasma", "ug/L"),
    lab("6598-7", "Troponin T.cardiac in serum or plasma", "ug/L"),
    row(
        Code::MEDMESH,
        "storage-temperature",
        "Storage temperature",
        "Cel",
        Category::Environment,
    ),
    row(
        Code::MEDMESH,
        "relative-humidity",
        "Relative humidity",
        "%",
        Category::Environment,
    ),
    row(
        Code::MEDMESH,
        "line-voltage",
        "Line voltage",
        "V",
        Category::Environment,
    ),
    row(
        Code::MEDMESH,
        "line-current",
        "Line current",
        "A",
        Category::Environment,
    ),
    row(
        Code::MEDMESH,
        "active-power",
        "Active power",
        "W",
        Category::Environment,
    ),
    row(
        Code::MEDMESH,
        "line-frequency",
        "Line frequency",
        "Hz",
        Category::Environment,
    ),
    // The day of a death is an identifier (45 CFR 164.514(b)(2)(i)(C)), and a reading has a time: neither it nor a shifted
    // one that many other records of a death would give away leaves the facility.
    row(
        Code::MEDMESH,
        "in-hospital-death",
        "Death in hospital, said at the end of a stay",
        "1",
        Category::Survey,
    )
    .once()
    .of_facility_alone(),
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec::Vec};

    #[test]
    fn every_code_round_trips_and_has_a_known_unit() {
        for code in Code::all() {
            assert_eq!(code.to_string().parse(), Ok(code));
            assert!(code.info().unit.parse::<Unit>().is_ok(), "{code}");
        }
    }

    #[test]
    fn a_height_never_goes_stale_and_a_laboratory_value_not_within_a_day() {
        let after = |code: &str, device_ms| {
            let code: Code = code.parse().unwrap();
            code.info().stale_after_ms(device_ms)
        };
        let day = crate::Timestamp::DAY_MS;
        assert_eq!(after("8302-2", 1), None);
        assert_eq!(after("29463-7", 1), None);
        assert_eq!(after("8867-4", 5), Some(5));
        assert_eq!(after("2951-2", 5), Some(day));
        assert_eq!(after("2951-2", 2 * day), Some(2 * day));
    }

    #[test]
    fn of_all_that_is_measured_the_outcome_of_a_stay_alone_never_leaves_its_facility() {
        let kept: Vec<_> = Code::all()
            .filter(|code| code.info().of_facility_alone)
            .map(|code| code.to_string())
            .collect();
        assert_eq!(kept, ["urn:medmesh:code|in-hospital-death"]);
    }

    #[test]
    fn free_text_is_neither_a_code_nor_a_unit() {
        assert_eq!("Jane Doe".parse::<Code>(), Err(UnknownCode));
        assert_eq!("mmHg for Jane Doe".parse::<Unit>(), Err(UnknownUnit));
    }
}
