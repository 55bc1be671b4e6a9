//! De-identification: what of a patient, a device and a time may leave the facility, as pure functions.
//!
//! By allow-list: [`clinical_patient`] and [`clinical_device`] build the messages of the wire field by field, and what
//! has no field there does not travel. For each kind of identifier of 45 CFR 164.514(b)(2)(i) one function below says
//! what is left of it; for most, that is nothing. A type with `Phi` in it cannot be a message at all.
//!
//! What it is not: a judgement on free text. No free text is read here, none has a field on the wire; codes and units
//! come from closed tables (`types::Code`, `types::Unit`).
//!
//! Random bytes are arguments. Pseudonyms and reading ids are 16 of them, wrapped by `from_bytes`: nothing is derived
//! from the patient ((b)(2)(i)(R), 164.514(c)).
//!
//! In a build with `cfg(medmesh_unguarded)` the functions let identifiers through, so that a test can prove that its
//! search for leaked identifiers finds them. Such a build is refused in release.

use federation::profile::Profile;
use messages::{ClinicalDevice, ClinicalPatient};
use types::{CareUnit, Decimal, DeviceKind, DevicePseudonym, PatientPseudonym, Phi, Timestamp};

/// What a facility may know of a patient. Nothing of it can be serialized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatientRecord {
    /// The facility's own patient id.
    pub facility_id: Option<Phi<String>>,
    /// Names, also of relatives.
    pub name: Option<Phi<String>>,
    /// FHIR AdministrativeGender.
    pub gender: Option<Phi<String>>,
    /// Date of birth: YYYY-MM-DD, YYYY-MM or YYYY.
    pub birth_date: Option<Phi<String>>,
    /// The kind of care unit: a code of [`CareUnit`].
    pub care_unit: Option<Phi<String>>,
    /// Height in cm, a decimal: of the facility alone.
    pub height_cm: Option<Phi<String>>,
    /// Weight in kg, a decimal: of the facility alone.
    pub weight_kg: Option<Phi<String>>,
    /// Street and city.
    pub address: Option<Phi<String>>,
    /// ZIP code, of 5 or 9 digits.
    pub zip: Option<Phi<String>>,
    /// Telephone number.
    pub phone: Option<Phi<String>>,
    /// Fax number.
    pub fax: Option<Phi<String>>,
    /// Electronic mail address.
    pub email: Option<Phi<String>>,
    /// Social security number.
    pub social_security: Option<Phi<String>>,
    /// Medical record number.
    pub mrn: Option<Phi<String>>,
    /// Health plan beneficiary number.
    pub health_plan: Option<Phi<String>>,
    /// Account number.
    pub account: Option<Phi<String>>,
    /// Certificate or licence number.
    pub licence: Option<Phi<String>>,
    /// Vehicle identifier, serial number or plate.
    pub vehicle: Option<Phi<String>>,
    /// Serial number of a device that is tied to the patient.
    pub device_serial: Option<Phi<String>>,
    /// Web address.
    pub url: Option<Phi<String>>,
    /// IP address.
    pub ip: Option<Phi<String>>,
    /// Biometric identifier.
    pub biometric: Option<Phi<String>>,
    /// Full-face photograph or the like.
    pub photo: Option<Phi<String>>,
    /// Notes and any other identifying number, characteristic or code.
    pub other: Option<Phi<String>>,
}

/// The one place where this module opens PHI.
#[expect(
    clippy::disallowed_methods,
    reason = "de-identification reads what it removes"
)]
fn open(identifier: Option<&Phi<String>>) -> Option<&str> {
    identifier.map(|phi| phi.expose().as_str())
}

/// What is left of an identifier that is removed: nothing.
fn removed(identifier: Option<&Phi<String>>) -> Option<String> {
    if cfg!(medmesh_unguarded) {
        open(identifier).map(str::to_owned)
    } else {
        None
    }
}

macro_rules! removed {
    ($($(#[$doc:meta])* $name:ident($field:ident)),* $(,)?) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(record: &PatientRecord) -> Option<String> {
                removed(record.$field.as_ref())
            }
        )*

        /// What is left of the identifiers that are removed: nothing.
        fn remains(record: &PatientRecord) -> String {
            let left = [$($name(record)),*, removed(record.facility_id.as_ref()), removed(record.birth_date.as_ref()), removed(record.zip.as_ref())];
            left.into_iter().flatten().collect::<Vec<_>>().join("|")
        }

        #[cfg(test)]
        #[cfg(not(medmesh_unguarded))]
        const REMOVED: &[(&str, fn(&PatientRecord) -> Option<String>)] = &[$((stringify!($name), $name)),*];
    };
}

removed! {
    /// 45 CFR 164.514(b)(2)(i)(A), names: removed.
    names(name),
    /// 45 CFR 164.514(b)(2)(i)(B), street address, city, county, precinct: removed. Of the ZIP code see [`zip3`].
    addresses(address),
    /// 45 CFR 164.514(b)(2)(i)(D), telephone numbers: removed.
    telephone_numbers(phone),
    /// 45 CFR 164.514(b)(2)(i)(E), fax numbers: removed.
    fax_numbers(fax),
    /// 45 CFR 164.514(b)(2)(i)(F), electronic mail addresses: removed.
    email_addresses(email),
    /// 45 CFR 164.514(b)(2)(i)(G), social security numbers: removed.
    social_security_numbers(social_security),
    /// 45 CFR 164.514(b)(2)(i)(H), medical record numbers: removed.
    medical_record_numbers(mrn),
    /// 45 CFR 164.514(b)(2)(i)(I), health plan beneficiary numbers: removed.
    health_plan_numbers(health_plan),
    /// 45 CFR 164.514(b)(2)(i)(J), account numbers: removed.
    account_numbers(account),
    /// 45 CFR 164.514(b)(2)(i)(K), certificate and license numbers: removed.
    licence_numbers(licence),
    /// 45 CFR 164.514(b)(2)(i)(L), vehicle identifiers and serial numbers, license plates: removed.
    vehicle_identifiers(vehicle),
    /// 45 CFR 164.514(b)(2)(i)(M), device identifiers and serial numbers: removed. In their place a device has a random
    /// pseudonym that the device catalog does not know.
    device_identifiers(device_serial),
    /// 45 CFR 164.514(b)(2)(i)(N), web universal resource locators: removed.
    urls(url),
    /// 45 CFR 164.514(b)(2)(i)(O), internet protocol addresses: removed.
    ip_addresses(ip),
    /// 45 CFR 164.514(b)(2)(i)(P), biometric identifiers, finger and voice prints: removed.
    biometric_identifiers(biometric),
    /// 45 CFR 164.514(b)(2)(i)(Q), full-face photographs and comparable images: removed.
    photographs(photo),
    /// 45 CFR 164.514(b)(2)(i)(R), any other unique identifying number, characteristic or code, and all free text:
    /// removed. The facility's own patient id is replaced by a random pseudonym, which (R) and 164.514(c) permit.
    other_identifiers(other),
}

/// The longest height or weight, in bytes.
const MAX_MEASURE: usize = 16;
/// FHIR R4 AdministrativeGender.
const GENDERS: [&str; 4] = ["male", "female", "other", "unknown"];

/// The longest text of a patient's record, in bytes.
const MAX_RECORD_TEXT: usize = 256;

/// Whether what is entered of a patient can be kept: an id of 1 to `max_id` bytes, and no text beyond a bound. The
/// reason names the field and never quotes it.
///
/// # Errors
/// The reason.
pub fn check_record(record: &PatientRecord) -> Result<(), &'static str> {
    if !open(record.facility_id.as_ref()).is_some_and(ingest::patient_id::is_one) {
        return Err("patient: an id of 1 to 64 bytes without control or invisible characters");
    }
    let text: fn(&str) -> bool = |text| text.len() <= MAX_RECORD_TEXT;
    for (field, fits, reason) in [
        (&record.name, text, "name: at most 256 bytes"),
        (&record.mrn, text, "mrn: at most 256 bytes"),
        (
            &record.birth_date,
            is_date,
            "birth_date: a date that there is, as YYYY-MM-DD, YYYY-MM or YYYY",
        ),
        (
            &record.gender,
            is_gender,
            "gender: male, female, other or unknown",
        ),
        (
            &record.height_cm,
            is_measure,
            "height_cm: a decimal number above 0",
        ),
        (
            &record.weight_kg,
            is_measure,
            "weight_kg: a decimal number above 0",
        ),
        (
            &record.care_unit,
            is_care_unit,
            "care_unit: CCU, CSRU, MICU or SICU",
        ),
    ] {
        if !open(field.as_ref()).is_none_or(fits) {
            return Err(reason);
        }
    }
    Ok(())
}

/// Whether it is a FHIR R4 `date`: so written, and there.
fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut part = |digits: usize, range: std::ops::RangeInclusive<u32>| {
        parts.next().map(|part| {
            let plain = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
            plain && part.parse().is_ok_and(|number| range.contains(&number))
        })
    };
    let (year, month, day) = (part(4, 1..=9_999), part(2, 1..=12), part(2, 1..=31));
    let good = |part: Option<bool>| part.unwrap_or(true);
    let is_written = year == Some(true) && good(month) && good(day) && parts.next().is_none();
    // A month has its own days: FHIR would have nothing of a 31st of April.
    let is_there = || format!("{text}T00:00:00Z").parse::<Timestamp>().is_ok();
    is_written && (day.is_none() || is_there())
}

fn is_gender(text: &str) -> bool {
    GENDERS.contains(&text)
}

fn is_measure(text: &str) -> bool {
    let digits = |text: &str| text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    let plain = text.len() <= MAX_MEASURE && !text.starts_with('-');
    plain && text.parse::<Decimal>().is_ok() && digits(text)
}

fn is_care_unit(text: &str) -> bool {
    CareUnit::parse(text).is_some()
}

/// The ZIP3 areas of 20,000 people or fewer by the 2000 census, which are said as 000: the list of the Department
/// of Health and Human Services in its guidance on de-identification (26 November 2012), "geographic subdivisions".
pub const RESTRICTED_ZIP3: [&str; 17] = [
    "036", "059", "063", "102", "203", "556", "692", "790", "821", "823", "830", "831", "878",
    "879", "884", "890", "893",
];

/// 45 CFR 164.514(b)(2)(i)(B), ZIP codes: the first three digits, or `000` for areas of 20,000 people or fewer; nothing
/// of what is no ZIP code. The wire has no field for it yet.
#[must_use]
pub fn zip3(zip: &Phi<String>) -> Option<String> {
    let text = open(Some(zip))?;
    let (five, rest) = text.split_at_checked(5)?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let plus_four = rest.strip_prefix('-').unwrap_or(rest);
    let complete = rest.is_empty() || (plus_four.len() == 4 && digits(plus_four));
    if !digits(five) || !complete {
        return None;
    }
    let area = &five[..3];
    let area = if RESTRICTED_ZIP3.contains(&area) {
        "000"
    } else {
        area
    };
    Some(area.to_owned())
}
/// 45 CFR 164.514(b)(2)(i)(C), dates of birth and ages: the year alone, and 0 for ages of 90 or more, and for what
/// is no date. It counts calendar years, so that who turns 90 within this year is pooled for all of it.
#[must_use]
pub fn birth_year(birth_date: &Phi<String>, now: Timestamp) -> u32 {
    let year = open(Some(birth_date)).and_then(year_of);
    year.filter(|year| types::may_tell_birth_year(*year, now))
        .unwrap_or(0)
}

/// The year of a FHIR `date` (YYYY, YYYY-MM, YYYY-MM-DD) or of the beginning of a time.
fn year_of(text: &str) -> Option<u32> {
    let (year, rest) = text.split_at_checked(4)?;
    let plausible = rest.is_empty() || rest.starts_with('-');
    if plausible && year.bytes().all(|byte| byte.is_ascii_digit()) {
        year.parse().ok()
    } else {
        None
    }
}

/// FHIR R4 AdministrativeGender: not one of the 18 identifiers. One of its four codes, or empty; never other text.
#[must_use]
pub fn gender(gender: &Phi<String>) -> &'static str {
    let text = open(Some(gender)).unwrap_or_default();
    GENDERS.into_iter().find(|code| *code == text).unwrap_or("")
}

/// The kind of care unit: not one of the 18 identifiers. One of the codes of [`CareUnit`], or empty; never other text.
#[must_use]
pub fn care_unit(unit: &Phi<String>) -> &'static str {
    open(Some(unit))
        .and_then(CareUnit::parse)
        .map_or("", CareUnit::as_str)
}

/// How far the dates of one patient are moved: a random constant of whole days, never 0, up to a year either way.
/// Intervals and the time of day are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shift(i32);

impl Shift {
    /// The furthest shift, in days.
    pub const MAX_DAYS: i32 = 365;

    /// Draws a shift from random bytes: uniform over the 730 values. None when the bytes hold no acceptable number,
    /// which happens once in 10^33 draws: then draw again with new bytes.
    #[must_use]
    pub fn draw(random: &[u8; 32]) -> Option<Self> {
        const VALUES: u16 = 2 * Shift::MAX_DAYS as u16;
        const ACCEPTED: u16 = u16::MAX - (u16::MAX % VALUES + 1) % VALUES;
        let (pairs, _) = random.as_chunks::<2>();
        let drawn = pairs
            .iter()
            .map(|pair| u16::from_le_bytes(*pair))
            .find(|number| *number <= ACCEPTED)?;
        let days = i32::from(drawn % VALUES) - Self::MAX_DAYS;
        Some(Self(if days < 0 { days } else { days + 1 }))
    }

    /// The shift of that many days, as stored; none for what [`Shift::draw`] never gives.
    #[must_use]
    pub fn from_days(days: i32) -> Option<Self> {
        (days != 0 && days.abs() <= Self::MAX_DAYS).then_some(Self(days))
    }

    /// Whole days.
    #[must_use]
    pub const fn days(self) -> i32 {
        self.0
    }
}

/// 45 CFR 164.514(b)(2)(i)(C), dates directly related to an individual: moved by the patient's constant. Under the
/// signed profile `limited` (164.514(e)(2) leaves dates in a limited data set) they stay.
#[must_use]
pub fn shift(time: Timestamp, profile: Profile, shift: Shift) -> Timestamp {
    match profile {
        Profile::Shifted if cfg!(not(medmesh_unguarded)) => time.plus_days(shift.days()),
        Profile::Shifted | Profile::Limited => time,
    }
}

/// All that the region learns of a patient: a random pseudonym, gender, year of birth, kind of care unit.
#[must_use]
pub fn clinical_patient(
    pseudonym: PatientPseudonym,
    record: &PatientRecord,
    now: Timestamp,
) -> ClinicalPatient {
    let left = remains(record);
    let gender = record.gender.as_ref().map_or("", gender);
    ClinicalPatient {
        pseudonym: pseudonym.as_bytes().to_vec().into(),
        gender: if left.is_empty() {
            gender.to_owned()
        } else {
            left
        },
        birth_year: record
            .birth_date
            .as_ref()
            .map_or(0, |date| birth_year(date, now)),
        care_unit: record.care_unit.as_ref().map_or("", care_unit).to_owned(),
    }
}

/// All that the region learns of a device in clinical data: a random pseudonym and its kind.
#[must_use]
pub fn clinical_device(
    pseudonym: DevicePseudonym,
    kind: DeviceKind,
    serial: Option<&Phi<String>>,
) -> ClinicalDevice {
    ClinicalDevice {
        pseudonym: pseudonym.as_bytes().to_vec().into(),
        kind: removed(serial).unwrap_or_else(|| kind.as_str().to_owned()),
    }
}

#[cfg(test)]
#[cfg(not(medmesh_unguarded))]
#[path = "deid_tests.rs"]
mod tests;
