//! The few FHIR R4 elements that the mesh emits, as types that write JSON and keep the text of decimals.
//!
//! Not a FHIR model: nothing here reads JSON, and an element that the mesh does not emit does not exist
//! (docs/decisions/001-own-fhir-builders.md).
use serde::Serialize;
use serde_json::value::RawValue;

/// FHIR R4 Observation, as emitted.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "resourceType", rename_all = "camelCase")]
pub struct Observation {
    /// The reading's id.
    pub id: String,
    /// Profile and flags.
    #[serde(skip_serializing_if = "Meta::is_empty")]
    pub meta: Meta,
    /// The reading's id as a business identifier.
    pub identifier: Vec<Identifier>,
    /// `final`, `preliminary` or `entered-in-error`.
    pub status: &'static str,
    /// One category.
    pub category: Vec<Concept>,
    /// What was measured.
    pub code: Concept,
    /// The patient; the device itself where there is none.
    pub subject: Reference,
    /// Source time, RFC 3339 in UTC with milliseconds.
    pub effective_date_time: String,
    /// The value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_quantity: Option<Quantity>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_absent_reason: Option<Concept>,
    /// Why the reading is in doubt, from a closed list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub note: Vec<Annotation>,
    /// The device that measured.
    pub device: Reference,
}

/// FHIR R4 Patient, as emitted: a pseudonym and three coarse facts.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "resourceType", rename_all = "camelCase")]
pub struct Patient {
    /// The pseudonym.
    pub id: String,
    /// The label of pseudonymised data, and the kind of care unit as a tag.
    #[serde(skip_serializing_if = "Meta::is_empty")]
    pub meta: Meta,
    /// Nothing in a guarded build; see the region's build without a guard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identifier: Vec<Identifier>,
    /// FHIR R4 AdministrativeGender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    /// The year alone: a FHIR `date` may be partial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<String>,
}

/// FHIR R4 Device, as emitted: a pseudonym and a kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "resourceType", rename_all = "camelCase")]
pub struct Device {
    /// The pseudonym.
    pub id: String,
    /// Nothing yet.
    #[serde(skip_serializing_if = "Meta::is_empty")]
    pub meta: Meta,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Concept,
}

/// FHIR R4 Meta without version and time, which the store adds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Meta {
    /// Profiles that the resource claims.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profile: Vec<&'static str>,
    /// Security labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security: Vec<Coding>,
    /// Flags of the reading.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<Coding>,
}

impl Meta {
    fn is_empty(&self) -> bool {
        self.profile.is_empty() && self.security.is_empty() && self.tag.is_empty()
    }
}

/// FHIR R4 Identifier.
#[derive(Clone, Debug, Serialize)]
pub struct Identifier {
    /// A URI.
    pub system: &'static str,
    /// Unique within the system.
    pub value: String,
}

/// FHIR R4 Annotation, of the text alone.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Annotation {
    /// From a closed list.
    pub text: &'static str,
}

/// FHIR R4 CodeableConcept with one coding and no text.
#[derive(Clone, Debug, Serialize)]
pub struct Concept {
    /// One coding.
    pub coding: [Coding; 1],
}

/// FHIR R4 Coding.
#[derive(Clone, Debug, Serialize)]
pub struct Coding {
    /// A URI.
    pub system: &'static str,
    /// The code in the system.
    pub code: &'static str,
    /// The name shown to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<&'static str>,
}

impl Coding {
    /// A coding without a display.
    #[must_use]
    pub const fn new(system: &'static str, code: &'static str) -> Self {
        Self {
            system,
            code,
            display: None,
        }
    }

    /// The concept of this coding alone.
    #[must_use]
    pub const fn concept(self) -> Concept {
        Concept { coding: [self] }
    }
}

/// FHIR R4 Reference, literal and relative.
#[derive(Clone, Debug, Serialize)]
pub struct Reference {
    /// `Type/id`.
    pub reference: String,
}

/// FHIR R4 Quantity in UCUM.
#[derive(Clone, Debug, Serialize)]
pub struct Quantity {
    /// A JSON number whose text is the device's.
    pub value: Box<RawValue>,
    /// The unit shown to people: the UCUM code.
    pub unit: &'static str,
    /// UCUM.
    pub system: &'static str,
    /// The UCUM code.
    pub code: &'static str,
}
