//! The search parameters that FHIR R4 defines and this server does not offer (hl7.org/fhir/R4/searchparameter-registry).
//!
//! A client that uses one means a filter. To ignore it would answer with resources that it does not ask for, those of
//! other patients among them; so it is refused, unless the client says that it would rather have it ignored
//! (`Prefer: handling=lenient`).
use crate::store::ResourceType;

/// Of every resource type.
const EVERY: &[&str] = &[
    "_content",
    "_filter",
    "_has",
    "_list",
    "_profile",
    "_query",
    "_security",
    "_tag",
    "_text",
];
const OBSERVATION: &[&str] = &[
    "based-on",
    "code-value-concept",
    "code-value-date",
    "code-value-quantity",
    "code-value-string",
    "combo-code",
    "combo-code-value-concept",
    "combo-code-value-quantity",
    "combo-data-absent-reason",
    "combo-value-concept",
    "combo-value-quantity",
    "component-code",
    "component-code-value-concept",
    "component-code-value-quantity",
    "component-data-absent-reason",
    "component-value-concept",
    "component-value-quantity",
    "data-absent-reason",
    "derived-from",
    "encounter",
    "focus",
    "has-member",
    "method",
    "part-of",
    "performer",
    "specimen",
    "status",
    "value-concept",
    "value-date",
    "value-quantity",
    "value-string",
    "category",
    "code",
    "date",
    "device",
    "identifier",
    "patient",
    "subject",
];
const PATIENT: &[&str] = &[
    "active",
    "address",
    "address-city",
    "address-country",
    "address-postalcode",
    "address-state",
    "address-use",
    "birthdate",
    "death-date",
    "deceased",
    "email",
    "family",
    "gender",
    "general-practitioner",
    "given",
    "identifier",
    "language",
    "link",
    "name",
    "organization",
    "phone",
    "phonetic",
    "telecom",
];
const DEVICE: &[&str] = &[
    "device-name",
    "identifier",
    "location",
    "manufacturer",
    "model",
    "organization",
    "patient",
    "status",
    "type",
    "udi-carrier",
    "udi-di",
    "url",
];

/// Whether a name that is not offered filters in FHIR R4: a parameter, with a modifier (`code:not`) or as the
/// beginning of a chain (`patient.gender`).
pub fn filters(kind: ResourceType, name: &str) -> bool {
    let base = name.split([':', '.']).next().unwrap_or_default();
    let own = match kind {
        ResourceType::Observation => OBSERVATION,
        ResourceType::Patient => PATIENT,
        ResourceType::Device => DEVICE,
    };
    EVERY.contains(&base) || own.contains(&base)
}
