//! From pseudonymous readings to FHIR R4 resources. Pure: the same reading always makes the same bytes.
//!
//! The input is neutral to the wire; whoever decodes the wire has checked ids, codes and units by then, because
//! these types cannot hold anything else.
use crate::model::{Annotation, Quantity, Reference};
use crate::model::{Coding, Concept, Device, Identifier, Meta, Observation, Patient};
use crate::store::{NewResource, Rejected};
use serde::Serialize;
use serde_json::value::RawValue;
use types::{
    AbsentReason, CareUnit, Category, Code, Decimal, DeviceKind, DevicePseudonym, Flags,
    PatientPseudonym, ReadingUid, Timestamp, Unit, Value,
};

/// The system of `Observation.identifier`.
pub const READING_SYSTEM: &str = "urn:medmesh:reading";
/// The system of `Observation.meta.tag`.
pub const FLAG_SYSTEM: &str = "urn:medmesh:flag";
/// The system of `Device.type`.
pub const DEVICE_KIND_SYSTEM: &str = "urn:medmesh:device-kind";
/// The system of `Observation.dataAbsentReason`.
pub const ABSENT_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/data-absent-reason";
/// The system of the label `PSEUDED` (pseudonymised) of FHIR R4 security labels.
pub const SECURITY_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
/// The label of pseudonymised data.
pub const PSEUDONYMISED: &str = "PSEUDED";

/// Every flag, its code in [`FLAG_SYSTEM`], and what `Observation.note` says of it: the one place where a reading is
/// marked, whichever door it came through. The notes are a closed list; no other text is ever stored.
pub const FLAGS: [(Flags, &str, &str); 4] = [
    (
        Flags::IMPLAUSIBLE,
        "implausible",
        "Implausible: outside the valid range of the device.",
    ),
    (
        Flags::IMPLAUSIBLE_FOR_CODE,
        "implausible-for-code",
        "Implausible: outside the plausible range of what is measured.",
    ),
    (
        Flags::CLOCK_UNTRUSTED,
        "clock-untrusted",
        "The time is in doubt: the clock was not trusted.",
    ),
    (
        Flags::HISTORICAL,
        "historical",
        "Delivered late: true of its time, not of when it came.",
    ),
];

/// Every category of `types`.
pub(crate) const CATEGORIES: [Category; 5] = [
    Category::VitalSigns,
    Category::Laboratory,
    Category::Survey,
    Category::Procedure,
    Category::Environment,
];

/// `Observation.status` of a reading that was withdrawn (FHIR R4 ObservationStatus).
pub const WITHDRAWN: &str = "entered-in-error";

/// The FHIR R4 base profile of vital signs.
pub const VITAL_SIGNS: &str = "http://hl7.org/fhir/StructureDefinition/vitalsigns";

/// Codes with a FHIR R4 vital-signs profile of their own, its unit, and the profile.
pub const PROFILES: [(&str, &str, &str); 6] = [
    (
        "8867-4",
        "/min",
        "http://hl7.org/fhir/StructureDefinition/heartrate",
    ),
    (
        "9279-1",
        "/min",
        "http://hl7.org/fhir/StructureDefinition/resprate",
    ),
    (
        "2708-6",
        "%",
        "http://hl7.org/fhir/StructureDefinition/oxygensat",
    ),
    (
        "8310-5",
        "Cel",
        "http://hl7.org/fhir/StructureDefinition/bodytemp",
    ),
    (
        "8302-2",
        "cm",
        "http://hl7.org/fhir/StructureDefinition/bodyheight",
    ),
    (
        "29463-7",
        "kg",
        "http://hl7.org/fhir/StructureDefinition/bodyweight",
    ),
];

/// A reading as clinical data outside the facility knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClinicalReading {
    /// Unique to the reading.
    pub uid: ReadingUid,
    /// Whose; none for a reading of facility equipment.
    pub patient: Option<PatientPseudonym>,
    /// What measured.
    pub device: DevicePseudonym,
    /// What was measured.
    pub code: Code,
    /// In which unit.
    pub unit: Unit,
    /// The value, or why there is none.
    pub value: Value,
    /// Source time, shifted where there is a patient.
    pub effective: Timestamp,
    /// What a reader must know.
    pub flags: Flags,
    /// Whether it was attributed to the wrong patient and taken back.
    pub withdrawn: bool,
}

/// FHIR R4 AdministrativeGender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gender {
    /// `male`.
    Male,
    /// `female`.
    Female,
    /// `other`.
    Other,
    /// `unknown`.
    Unknown,
}

impl Gender {
    /// Every gender.
    pub const ALL: [Self; 4] = [Self::Male, Self::Female, Self::Other, Self::Unknown];

    /// The code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Male => "male",
            Self::Female => "female",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }

    /// The gender of that code.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|gender| gender.as_str() == text)
    }
}

/// A patient as the region knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClinicalPatient {
    /// The pseudonym.
    pub pseudonym: PatientPseudonym,
    /// If known.
    pub gender: Option<Gender>,
    /// Year of birth; none when unknown or when the age is 90 or more (45 CFR 164.514(b)(2)(i)(C)).
    pub birth_year: Option<u16>,
    /// The kind of care unit, if known.
    pub care_unit: Option<CareUnit>,
}

/// A device as clinical data knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClinicalDevice {
    /// The pseudonym.
    pub pseudonym: DevicePseudonym,
    /// What it is.
    pub kind: DeviceKind,
}

/// `Observation.status`.
///
/// What the edge could not vouch for is `preliminary` ("may be incomplete or unverified", FHIR R4
/// ObservationStatus): a value outside the device's valid range or what is plausible for its code, a time of an untrusted clock, a value that had
/// gone stale. A client that filters on `final`, as clients do, then never takes such a reading for a fact.
/// Everything else is `final`, late delivery and a measured absence included: nothing better will follow.
#[must_use]
pub fn status(value: &Value, flags: Flags) -> &'static str {
    let unverified = flags.contains(Flags::IMPLAUSIBLE)
        || flags.contains(Flags::IMPLAUSIBLE_FOR_CODE)
        || flags.contains(Flags::CLOCK_UNTRUSTED)
        || *value == Value::Absent(AbsentReason::Stale);
    if unverified { "preliminary" } else { "final" }
}

/// `Observation.meta.profile`: the narrowest vital-signs profile that a reading of a patient conforms to.
#[must_use]
pub fn profile(code: Code, unit: Unit, of_patient: bool) -> Option<&'static str> {
    let info = code.info();
    if info.category != Category::VitalSigns || !of_patient {
        return None;
    }
    match PROFILES.iter().find(|(own, ..)| *own == info.code) {
        // The code demands its profile and the profile its unit; in another unit none is claimed.
        Some((_, own_unit, url)) => (unit.as_str() == *own_unit).then_some(*url),
        None => Some(VITAL_SIGNS),
    }
}

/// The Observation of a reading.
#[must_use]
pub fn observation(reading: &ClinicalReading) -> Observation {
    let patient = reading.patient.map(|patient| patient.to_string());
    observation_of(reading, (patient, reading.device.to_string()))
}

/// The Observation of a reading of a patient and a device that have other ids where it is shown, as at their facility. The
/// pseudonyms are not looked at, but for whether there is a patient.
#[must_use]
pub fn observation_of(
    reading: &ClinicalReading,
    (patient, device): (Option<String>, String),
) -> Observation {
    let info = reading.code.info();
    let uid = reading.uid.to_string();
    let device = format!("Device/{device}");
    let subject = match &patient {
        Some(patient) => format!("Patient/{patient}"),
        None => device.clone(),
    };
    let (value_quantity, data_absent_reason) = match &reading.value {
        Value::Quantity(decimal) => (Some(quantity(decimal, reading.unit)), None),
        Value::Absent(reason) => (
            None,
            Some(Coding::new(ABSENT_SYSTEM, reason.as_str()).concept()),
        ),
    };
    Observation {
        id: uid.clone(),
        meta: Meta {
            profile: profile(reading.code, reading.unit, patient.is_some())
                .into_iter()
                .collect(),
            security: Vec::new(),
            tag: tags(reading.flags),
        },
        identifier: vec![Identifier {
            system: READING_SYSTEM,
            value: uid,
        }],
        status: if reading.withdrawn {
            WITHDRAWN
        } else {
            status(&reading.value, reading.flags)
        },
        category: vec![Coding::new(info.category.system(), info.category.as_str()).concept()],
        code: Concept {
            coding: [Coding {
                system: info.system,
                code: info.code,
                display: Some(info.display),
            }],
        },
        subject: Reference { reference: subject },
        effective_date_time: reading.effective.to_rfc3339(),
        value_quantity,
        data_absent_reason,
        note: notes(reading.flags),
        device: Reference { reference: device },
    }
}

/// The Patient of a pseudonym.
#[must_use]
pub fn patient(patient: &ClinicalPatient) -> Patient {
    Patient {
        id: patient.pseudonym.to_string(),
        meta: Meta {
            security: vec![Coding::new(SECURITY_SYSTEM, PSEUDONYMISED)],
            tag: patient.care_unit.iter().map(care_unit).collect(),
            ..Meta::default()
        },
        identifier: Vec::new(),
        gender: patient.gender.map(|gender| gender.as_str().to_owned()),
        birth_date: patient.birth_year.map(|year| format!("{year:04}")),
    }
}

fn care_unit(unit: &CareUnit) -> Coding {
    Coding::new(CareUnit::SYSTEM, unit.as_str())
}

/// The Device of a pseudonym.
#[must_use]
pub fn device(device: &ClinicalDevice) -> Device {
    Device {
        id: device.pseudonym.to_string(),
        meta: Meta::default(),
        kind: Coding::new(DEVICE_KIND_SYSTEM, device.kind.as_str()).concept(),
    }
}

/// Writes a resource and passes it through the same door as any other: [`NewResource::parse`].
///
/// # Errors
/// [`Rejected`] when the mapping made something that may not be stored: a fault of ours.
pub fn resource(model: &impl Serialize) -> Result<NewResource, Rejected> {
    let json = serde_json::to_string(model).map_err(|_| Rejected::not_json())?;
    NewResource::parse(json)
}

fn tags(flags: Flags) -> Vec<Coding> {
    FLAGS
        .iter()
        .filter(|(flag, ..)| flags.contains(*flag))
        .map(|(_, code, _)| Coding::new(FLAG_SYSTEM, code))
        .collect()
}

fn notes(flags: Flags) -> Vec<Annotation> {
    FLAGS
        .iter()
        .filter(|(flag, ..)| flags.contains(*flag))
        .map(|(.., text)| Annotation { text })
        .collect()
}

fn quantity(value: &Decimal, unit: Unit) -> Quantity {
    Quantity {
        value: raw_number(value),
        unit: unit.as_str(),
        system: Unit::SYSTEM,
        code: unit.as_str(),
    }
}

/// The text as it is: `serde_json::Number` would write 1E5 as 1e+5.
fn raw_number(value: &Decimal) -> Box<RawValue> {
    // A `Decimal` is a JSON number by construction, so the first branch is always taken.
    RawValue::from_string(value.as_str().to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
