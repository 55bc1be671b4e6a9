//! What a region takes, as lists. Whatever is in none of them is refused by its data type.
use super::forms::{is_absence, is_language, is_link_id, is_note, is_samples, is_topic};
use super::{Rule, is_code, is_digits, is_reference};
use crate::r4::R4;
use crate::subscription::is_reason;

/// Resource types that are nothing without what identifies: files, documents, persons apart from their records, what
/// was sent to whom, and what keeps other resources whole.
pub const TYPES: [&str; 7] = [
    "Binary",
    "DocumentManifest",
    "DocumentReference",
    "Media",
    "MessageHeader",
    "Person",
    "RelatedPerson",
];

/// Systems of codes, as the beginnings of their URIs.
pub const SYSTEMS: [&str; 21] = [
    "http://hl7.org/fhir/",
    "http://terminology.hl7.org/",
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://unitsofmeasure.org",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://hl7.org/fhir/sid/icd-10",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "http://hl7.org/fhir/sid/cvx",
    "http://hl7.org/fhir/sid/ndc",
    "http://www.whocc.no/atc",
    "http://fdasis.nlm.nih.gov",
    "http://www.ama-assn.org/go/cpt",
    "http://ncimeta.nci.nih.gov",
    "http://dicom.nema.org/resources/ontology/DCM",
    "urn:iso:std:iso:11073:10101",
    "urn:iso:std:iso:3166",
    "urn:iso:std:iso:4217",
    "urn:ietf:bcp:47",
    "urn:medmesh:",
    "https://nahdo.org/sopt",
];

/// Other URIs that say what something follows, as their beginnings.
pub const URIS: [&str; 2] = ["http://www.hl7.org/", "http://hl7.org/"];

/// Systems of identifiers that are drawn at random, each a UUID.
pub const IDENTIFIERS: [&str; 2] = ["urn:medmesh:analysis", "urn:medmesh:study"];

/// Extensions whose values are codes.
pub const EXTENSIONS: [&str; 1] = ["http://hl7.org/fhir/StructureDefinition/data-absent-reason"];

const PERSON: &str = "a person is not described here beyond sex, year of birth and codes";
const WHERE: &str = "a place on the map is not taken";
const SERVERS: &str = "the server says this";
/// Why text is refused.
pub const WORDS: &str = "text that somebody typed is not taken";

/// What becomes of elements, by the type or path that they are of (`*` is any) and their name. The first that fits.
pub const ELEMENTS: &[(&str, &str, Rule)] = &[
    // Checked with the codes of the concept.
    ("CodeableConcept", "text", Rule::Any),
    ("*", "text", Rule::If(is_note, WORDS)),
    (
        "Meta",
        "versionId",
        Rule::If(|text| is_digits(text, 9), "a version is a number"),
    ),
    ("Meta", "source", Rule::Never(SERVERS)),
    ("Patient", "name", Rule::Never(PERSON)),
    ("Patient", "telecom", Rule::Never(PERSON)),
    ("Patient", "address", Rule::Never(PERSON)),
    ("Patient", "photo", Rule::Never(PERSON)),
    ("Patient", "contact", Rule::Never(PERSON)),
    ("Practitioner", "name", Rule::Never(PERSON)),
    ("Practitioner", "telecom", Rule::Never(PERSON)),
    ("Practitioner", "address", Rule::Never(PERSON)),
    ("Practitioner", "photo", Rule::Never(PERSON)),
    ("FamilyMemberHistory", "name", Rule::Never(PERSON)),
    ("*", "birthDate", Rule::Year),
    ("Condition", "onset", Rule::Age),
    ("Condition", "abatement", Rule::Age),
    ("AllergyIntolerance", "onset", Rule::Age),
    ("Procedure", "performed", Rule::Age),
    ("FamilyMemberHistory", "age", Rule::Age),
    ("FamilyMemberHistory.condition", "onset", Rule::Age),
    ("RiskAssessment.prediction", "when", Rule::Age),
    ("Patient", "deceased", Rule::Year),
    ("FamilyMemberHistory", "born", Rule::Year),
    ("FamilyMemberHistory", "deceased", Rule::Year),
    ("Location", "position", Rule::Never(WHERE)),
    ("Location", "address", Rule::Never(WHERE)),
    (
        "Reference",
        "reference",
        Rule::If(
            is_reference,
            "a reference leads to a resource of this region by Type/id, with an id that says nothing",
        ),
    ),
    (
        "Reference",
        "type",
        Rule::If(
            |text| R4.is_resource(text),
            "a type of resource is expected",
        ),
    ),
    ("Extension", "url", Rule::Any),
    (
        "Extension",
        "value",
        Rule::If(is_absence, "a code of why there is no value is expected"),
    ),
    // `text/cql` is one; what is written in it is not taken.
    (
        "Expression",
        "language",
        Rule::If(is_code, "a code has no spaces and 64 characters at most"),
    ),
    (
        "*",
        "language",
        Rule::If(is_language, "a language is taken as en or pt-BR"),
    ),
    // What else a Subscription says is judged as what it is (`crate::subscription::Spec`).
    (
        "Subscription",
        "criteria",
        Rule::If(is_topic, "the canonical URL of a topic is taken"),
    ),
    (
        "Subscription",
        "reason",
        Rule::If(
            is_topic,
            "of text the canonical URL of the topic alone is taken",
        ),
    ),
    (
        "Subscription",
        "error",
        Rule::If(is_reason, "the server says this"),
    ),
    ("Subscription", "contact", Rule::Never(PERSON)),
    ("Subscription.channel", "endpoint", Rule::Any),
    ("Subscription.channel", "header", Rule::Any),
    // Checked with the rest of the coding.
    ("Coding", "display", Rule::Any),
    (
        "SampledData",
        "data",
        Rule::If(is_samples, "samples are numbers"),
    ),
    (
        "QuestionnaireResponse.item",
        "linkId",
        Rule::If(is_link_id, "items are numbered, such as 1.2"),
    ),
    (
        "Questionnaire.item",
        "linkId",
        Rule::If(is_link_id, "items are numbered, such as 1.2"),
    ),
    // The text beside a code repeats it; see the rule over the quantity.
    ("Quantity", "unit", Rule::Any),
    ("SimpleQuantity", "unit", Rule::Any),
    ("Age", "unit", Rule::Any),
    ("Duration", "unit", Rule::Any),
    ("Count", "unit", Rule::Any),
    ("Distance", "unit", Rule::Any),
    // Checked with the rest of the identifier.
    ("Identifier", "value", Rule::Any),
    ("Identifier", "system", Rule::Any),
];
