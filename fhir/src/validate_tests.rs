//! Tests of validation: one change of a valid resource, one fault at one place.
use super::*;
use crate::contract::fixture;
use proptest::prelude::*;

/// A valid Observation with a flag, a quantity and a patient.
fn observation() -> String {
    (0..1_000)
        .map(fixture::observation)
        .find(|one| one.json().contains("historical") && one.json().contains("\"value\":72.50"))
        .map(|one| one.json().to_owned())
        .unwrap()
}

fn faults(json: &str) -> Vec<(String, Fault)> {
    let issues = validate(json).err().unwrap_or_default();
    issues
        .into_iter()
        .map(|issue| (issue.location, issue.fault))
        .collect()
}

/// Replaces the member `name` of the top level.
fn with(json: &str, name: &str, value: &str) -> String {
    let raw: &RawValue = serde_json::from_str(json).unwrap();
    let members = Members::of(raw).unwrap();
    let text = |(member, old): &(String, &RawValue)| {
        let value = if member == name { value } else { old.get() };
        format!("\"{member}\":{value}")
    };
    let members: Vec<_> = members.0.iter().map(text).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn what_the_mapping_emits_may_be_stored() {
    for number in 0..100 {
        assert!(validate(fixture::observation(number).json()).is_ok());
    }
    assert!(validate(fixture::patient(1, 1950).json()).is_ok());
    assert!(validate(fixture::device(1).json()).is_ok());
}

/// Top-level element, its new value, the place that is reported, the fault.
const WRONG: &[(&str, &str, &str, Fault)] = &[
    ("id", "\"a b\"", "id", Fault::InvalidId),
    ("id", "\"\"", "id", Fault::InvalidId),
    ("id", "7", "id", Fault::WrongType),
    ("status", "\"amended\"", "status", Fault::UnknownCode),
    ("status", "null", "status", Fault::WrongType),
    (
        "effectiveDateTime",
        "\"2026-13-45T00:00:00Z\"",
        "effectiveDateTime",
        Fault::InvalidDate,
    ),
    (
        "effectiveDateTime",
        "\"2026-11-22T10:00:00\"",
        "effectiveDateTime",
        Fault::InvalidDate,
    ),
    (
        "effectiveDateTime",
        "\"2026\"",
        "effectiveDateTime",
        Fault::InvalidDate,
    ),
    (
        "subject",
        "{\"reference\":\"Jane Doe\"}",
        "subject.reference",
        Fault::InvalidReference,
    ),
    (
        "subject",
        "{\"reference\":\"Group/1\"}",
        "subject.reference",
        Fault::InvalidReference,
    ),
    (
        "subject",
        "{\"reference\":\"Patient/a/b\"}",
        "subject.reference",
        Fault::InvalidReference,
    ),
    ("subject", "{}", "subject.reference", Fault::Missing),
    (
        "device",
        "{\"reference\":\"Patient/1\"}",
        "device.reference",
        Fault::InvalidReference,
    ),
    (
        "device",
        "{\"reference\":\"Device/1\",\"display\":\"Jane\"}",
        "device",
        Fault::UnknownElement,
    ),
    ("category", "[]", "category", Fault::Empty),
    ("category", "{}", "category", Fault::WrongType),
    (
        "identifier",
        "[{\"system\":\"urn:mrn\",\"value\":\"1\"}]",
        "identifier[0].system",
        Fault::InvalidId,
    ),
    (
        "identifier",
        "[{\"system\":\"urn:medmesh:reading\",\"value\":\"Jane Doe\"}]",
        "identifier[0].value",
        Fault::InvalidId,
    ),
    (
        "code",
        "{\"coding\":[{\"system\":\"http://loinc.org\",\"code\":\"0-0\"}]}",
        "code.coding[0].code",
        Fault::UnknownCode,
    ),
    (
        "code",
        "{\"coding\":[{\"system\":\"http://loinc.org\",\"code\":\"8867-4\",\"display\":\"Jane Doe\"}]}",
        "code.coding[0].code",
        Fault::UnknownCode,
    ),
    (
        "code",
        "{\"coding\":[{\"system\":\"http://loinc.org\",\"code\":\"8867-4\"}],\"text\":\"Jane\"}",
        "code",
        Fault::UnknownElement,
    ),
    (
        "meta",
        "{\"tag\":[{\"system\":\"urn:medmesh:flag\",\"code\":\"jane\"}]}",
        "meta.tag[0].code",
        Fault::UnknownCode,
    ),
    (
        "meta",
        "{\"versionId\":\"7\"}",
        "meta",
        Fault::UnknownElement,
    ),
    (
        "meta",
        "{\"profile\":[\"http://jane.example\"]}",
        "meta.profile[0]",
        Fault::UnknownCode,
    ),
];

#[test]
fn one_wrong_element_is_one_issue_at_its_place() {
    let valid = observation();
    for (name, value, location, fault) in WRONG {
        let found = faults(&with(&valid, name, value));
        assert_eq!(
            found,
            [(format!("Observation.{location}"), *fault)],
            "{name} {value}"
        );
    }
}

#[test]
fn a_quantity_has_an_exact_decimal_and_a_known_unit() {
    let quantity = |value: &str, unit: &str| {
        format!(
            "{{\"value\":{value},\"unit\":\"{unit}\",\"system\":\"http://unitsofmeasure.org\",\"code\":\"{unit}\"}}"
        )
    };
    let valid = observation();
    for (value, unit, expected) in [
        ("72.50", "/min", None),
        ("-0", "/min", None),
        ("\"72.50\"", "/min", Some(("value", Fault::InvalidDecimal))),
        ("null", "/min", Some(("value", Fault::InvalidDecimal))),
        (
            "123456789012345678901234567890123",
            "/min",
            Some(("value", Fault::InvalidDecimal)),
        ),
    ] {
        let found = faults(&with(&valid, "valueQuantity", &quantity(value, unit)));
        let expected =
            expected.map(|(at, fault)| (format!("Observation.valueQuantity.{at}"), fault));
        assert_eq!(found, Vec::from_iter(expected), "{value} {unit}");
    }
    let found = faults(&with(
        &valid,
        "valueQuantity",
        &quantity("1", "beats of Jane"),
    ));
    let unknown = |at: &str| {
        (
            format!("Observation.valueQuantity.{at}"),
            Fault::UnknownUnit,
        )
    };
    assert_eq!(found, [unknown("unit"), unknown("code")]);
}

#[test]
fn a_value_and_a_reason_exclude_and_need_each_other() {
    let valid = observation();
    let reason = r#""dataAbsentReason":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/data-absent-reason","code":"unknown"}]},"#;
    let at = valid.find("\"valueQuantity\"").unwrap();
    let both = format!("{}{reason}{}", &valid[..at], &valid[at..]);
    let end = valid.find("\"device\":").unwrap();
    let neither = format!("{}{}", &valid[..at], &valid[end..]);
    let expected = ("Observation.valueQuantity".to_owned(), Fault::ValueOrReason);
    assert_eq!(faults(&both), std::slice::from_ref(&expected));
    assert_eq!(faults(&neither), [expected]);
}

#[test]
fn nothing_that_is_not_listed_comes_in() {
    let valid = observation();
    let open = valid.strip_suffix('}').unwrap();
    for (json, location, fault) in [
        (
            format!("{open},\"comment\":\"Jane Doe\"}}"),
            "Observation",
            Fault::UnknownElement,
        ),
        (
            format!("{open},\"status\":\"final\"}}"),
            "Observation",
            Fault::Duplicate,
        ),
        (
            "{\"resourceType\":\"Person\",\"id\":\"1\"}".into(),
            "Resource",
            Fault::UnknownType,
        ),
        ("{\"id\":\"1\"}".into(), "Resource", Fault::UnknownType),
        ("[]".into(), "Resource", Fault::NotJson),
        ("{\"resourceType\"".into(), "Resource", Fault::NotJson),
        (
            " ".repeat(MAX_RESOURCE_BYTES + 1),
            "Resource",
            Fault::TooLong,
        ),
        (
            "{\"resourceType\":\"Patient\",\"id\":\"1\",\"birthDate\":\"1950-02-03\"}".into(),
            "Patient.birthDate",
            Fault::InvalidDate,
        ),
        (
            "{\"resourceType\":\"Patient\",\"id\":\"1\",\"gender\":\"Jane\"}".into(),
            "Patient.gender",
            Fault::UnknownCode,
        ),
        (
            "{\"resourceType\":\"Patient\",\"id\":\"1\",\"name\":[]}".into(),
            "Patient",
            Fault::UnknownElement,
        ),
        (
            "{\"resourceType\":\"Device\",\"id\":\"1\"}".into(),
            "Device.type",
            Fault::Missing,
        ),
    ] {
        assert_eq!(faults(&json), [(location.to_owned(), fault)], "{json}");
    }
}

#[test]
fn notes_and_tags_are_from_closed_lists() {
    let valid = observation();
    for (json, location, fault) in [
        (
            with(&valid, "note", "[{\"text\":\"Jane Doe\"}]"),
            "Observation.note[0].text",
            Fault::UnknownCode,
        ),
        (
            with(
                &valid,
                "note",
                &format!("[{{\"text\":\"{}\",\"authorString\":\"Jane\"}}]", FLAGS[0].2),
            ),
            "Observation.note[0]",
            Fault::UnknownElement,
        ),
        (
            "{\"resourceType\":\"Patient\",\"id\":\"1\",\"meta\":{\"tag\":[{\"system\":\"urn:medmesh:care-unit\",\"code\":\"Jane\"}]}}".into(),
            "Patient.meta.tag[0].code",
            Fault::UnknownCode,
        ),
        (
            "{\"resourceType\":\"Patient\",\"id\":\"1\",\"meta\":{\"tag\":[{\"system\":\"urn:medmesh:flag\",\"code\":\"historical\"}]}}".into(),
            "Patient.meta.tag[0].code",
            Fault::UnknownCode,
        ),
    ] {
        assert_eq!(faults(&json), [(location.to_owned(), fault)], "{json}");
    }
}

#[test]
fn every_fault_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|one| one.as_str()).collect();
    assert_eq!(names.len(), Fault::ALL.len());
}

proptest! {
    #[test]
    fn no_text_panics_and_none_of_it_is_repeated(text in ".{0,200}") {
        let issues = validate(&text).unwrap_err();
        prop_assert!(!issues.is_empty());
        let json = with(&observation(), "status", &serde_json::to_string(&text).unwrap());
        for issue in validate(&json).err().unwrap_or_default() {
            prop_assert_eq!(issue.location, "Observation.status");
        }
    }
}
