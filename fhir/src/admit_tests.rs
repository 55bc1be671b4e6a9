//! Tests of what may enter a region: what identifies is found wherever it hides.
use super::*;
use serde_json::{Value, json};

const REGION: Holding = Holding::Pseudonymous { year: 2000 };
const SOMEBODY: &str = "Patient/0123456789abcdef0123456789abcdef";

fn told(resource: &Value) -> Vec<String> {
    let text = resource.to_string();
    let tree = Json::parse(&text).unwrap();
    let told = REGION.judge(&tree);
    told.into_iter().map(|one| one.expression).collect()
}

#[test]
fn a_coded_finding_about_a_pseudonym_is_taken() {
    for resource in [
        json!({
            "resourceType": "Condition",
            "clinicalStatus": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active",
            }]},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]},
            "subject": {"reference": SOMEBODY, "type": "Patient"},
            "onsetAge": {"value": 1079, "unit": "mo", "system": "http://unitsofmeasure.org", "code": "mo"},
            "abatementRange": {"low": {"value": 88}, "high": {"value": 89.5}},
            "identifier": [{
                "system": "urn:ietf:rfc:3986",
                "value": "urn:uuid:11111111-2222-4333-8444-555555555555",
            }],
        }),
        json!({
            "resourceType": "RiskAssessment", "status": "final", "subject": {"reference": SOMEBODY},
            "prediction": [{"probabilityDecimal": 0.125}],
        }),
        json!({
            "resourceType": "Observation", "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
            "subject": {"reference": SOMEBODY},
            "valueQuantity": {"value": 72.50, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
            "_status": {"extension": [{
                "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown",
            }]},
        }),
        json!({
            "resourceType": "Observation", "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "valueQuantity": {"value": 120, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
        }),
        json!({
            "resourceType": "Observation", "status": "final",
            "category": [{
                "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                    "code": "vital-signs", "display": "vital signs",
                }],
                "text": "Vital Signs",
            }],
            "code": {
                "coding": [{"system": "http://loinc.org", "code": "8480-6", "display": "Systolic blood pressure"}],
                "text": "Systolic blood pressure",
            },
        }),
        json!({"resourceType": "Patient", "gender": "female", "birthDate": "1950", "deceasedBoolean": true}),
        json!({
            "resourceType": "Observation", "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "11524-6"}]},
            "valueSampledData": {"origin": {"value": 0}, "period": 4, "dimensions": 1, "data": "1 -2.5 E 3e2"},
        }),
    ] {
        assert_eq!(told(&resource), [""; 0], "{resource}");
    }
}

#[test]
fn each_element_that_identifies_is_named() {
    let patient = json!({
        "resourceType": "Patient",
        "text": {"status": "generated", "div": "<div xmlns='http://www.w3.org/1999/xhtml'>Ada</div>"},
        "identifier": [{"system": "http://hospital.example/mrn", "value": "4711"}],
        "name": [{"family": "Lovelace"}], "telecom": [{"system": "phone", "value": "1"}],
        "birthDate": "1915-12-10", "deceasedDateTime": "1999-11-27",
        "address": [{"city": "London"}], "photo": [{"data": "QQ=="}],
        "contact": [{"gender": "male"}],
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": "x"}}],
    });
    let mut found = told(&patient);
    found.sort();
    assert_eq!(
        found,
        [
            "Patient.address",
            "Patient.birthDate",
            "Patient.contact",
            "Patient.deceased",
            "Patient.extension[0]",
            "Patient.identifier[0]",
            "Patient.name",
            "Patient.photo",
            "Patient.telecom",
            "Patient.text",
        ]
    );
}

/// Members of an Observation, and the element of it that is refused.
const HIDDEN: &[(&str, &str)] = &[
    (r#"{"valueString": "Ada Lovelace"}"#, "value"),
    (r#"{"note": [{"text": "called Ada"}]}"#, "note[0].text"),
    (
        r#"{"note": [{"authorString": "Ada", "text": "Delivered late: true of its time, not of when it came."}]}"#,
        "note[0].author",
    ),
    (
        r#"{"contained": [{"resourceType": "Patient", "id": "p1", "name": [{"text": "Ada"}]}]}"#,
        "contained[0].name",
    ),
    (
        r#"{"contained": [{"resourceType": "Binary", "id": "b1", "contentType": "text/plain", "data": "QQ=="}]}"#,
        "contained[0]",
    ),
    (
        r#"{"contained": [{"resourceType": "Device", "id": "ada-lovelace"}]}"#,
        "contained[0].id",
    ),
    (
        r#"{"contained": [{"resourceType": "Device", "id": "d1", "meta": {"versionId": "lovelace"}}]}"#,
        "contained[0].meta.versionId",
    ),
    (r#"{"subject": {"display": "Ada"}}"#, "subject.display"),
    (
        r#"{"subject": {"reference": "Patient/lovelace"}}"#,
        "subject.reference",
    ),
    (
        r#"{"subject": {"reference": "https://hospital.example/Patient/1"}}"#,
        "subject.reference",
    ),
    (
        r#"{"subject": {"identifier": {"system": "urn:mrn", "value": "1"}}}"#,
        "subject.identifier",
    ),
    (r#"{"valueCodeableConcept": {"text": "Ada"}}"#, "value"),
    (
        r#"{"valueCodeableConcept": {"coding": [{"system": "urn:oid:1.2.3", "code": "4711"}]}}"#,
        "value.coding[0]",
    ),
    (
        r#"{"valueCodeableConcept": {"coding": [{"code": "4711"}]}}"#,
        "value.coding[0]",
    ),
    (
        r#"{"valueCodeableConcept": {"coding": [{"system": "http://loinc.org", "code": "Lovelace"}]}}"#,
        "value.coding[0]",
    ),
    (
        r#"{"valueCodeableConcept": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Ada"}]}}"#,
        "value.coding[0]",
    ),
    // The name of another code, of an unknown one, with a word more, and beside no code that it is of.
    (
        r#"{"valueCodeableConcept": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Systolic blood pressure"}]}}"#,
        "value.coding[0]",
    ),
    (
        r#"{"valueCodeableConcept": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "ada", "display": "Vital Signs"}]}}"#,
        "value.coding[0]",
    ),
    (
        r#"{"valueCodeableConcept": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs", "display": "Vital Signs of Ada"}]}}"#,
        "value.coding[0]",
    ),
    (
        r#"{"valueCodeableConcept": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "Ada"}}"#,
        "value.text",
    ),
    (
        r#"{"valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}], "text": "Heart rate"}}"#,
        "value.text",
    ),
    (
        r#"{"valueQuantity": {"value": 1, "unit": "of Ada"}}"#,
        "value",
    ),
    (
        r#"{"valueQuantity": {"value": 1, "unit": "Ada", "code": "Ada"}}"#,
        "value",
    ),
    (
        r#"{"valueQuantity": {"value": 1, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "kPa"}}"#,
        "value",
    ),
    (
        r#"{"valueSampledData": {"origin": {"value": 0}, "period": 4, "dimensions": 1, "data": "Ada"}}"#,
        "value.data",
    ),
    (
        r#"{"_status": {"extension": [{"url": "http://ada", "valueString": "Ada"}]}}"#,
        "status.extension[0]",
    ),
    (r#"{"_status": {"id": "lovelace"}}"#, "status.id"),
    (
        r#"{"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueString": "Ada"}]}"#,
        "extension[0].value",
    ),
    (
        r#"{"meta": {"source": "urn:medmesh:facility:0"}}"#,
        "meta.source",
    ),
    (
        r#"{"meta": {"profile": ["http://hospital.example/of/ada"]}}"#,
        "meta.profile[0]",
    ),
    (
        r#"{"meta": {"tag": [{"system": "http://hospital.example", "code": "ada"}]}}"#,
        "meta.tag[0]",
    ),
    (
        r#"{"component": [{"valueString": "Ada"}]}"#,
        "component[0].value",
    ),
    (
        r#"{"implicitRules": "http://hospital.example/rules"}"#,
        "implicitRules",
    ),
    (
        r#"{"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "ada"}]}"#,
        "extension[0].value",
    ),
    (r#"{"language": "en-x-ada"}"#, "language"),
    (r#"{"language": "lovelace"}"#, "language"),
    (
        r#"{"code": {"coding": [{"system": "http://loinc.org", "code": "30525-0"}]}, "valueQuantity": {"value": 1080, "system": "http://unitsofmeasure.org", "code": "mo"}}"#,
        "value",
    ),
    (
        r#"{"code": {"coding": [{"system": "http://snomed.info/sct", "code": "1"}, {"system": "http://loinc.org", "code": "29553-5"}]}, "valueInteger": 90}"#,
        "value",
    ),
    (
        r#"{"component": [{"code": {"coding": [{"system": "http://loinc.org", "code": "39016-1"}]}, "valueRange": {"low": {"value": 80}, "high": {"value": 91}}}]}"#,
        "component[0].value",
    ),
    (
        r#"{"valueQuantity": {"value": 90, "system": "http://unitsofmeasure.org", "code": "a"}}"#,
        "value",
    ),
    (
        r#"{"code": {"coding": [{"system": "http://loinc.org", "code": "21112-8"}]}, "valueDateTime": "1950-03-04"}"#,
        "value",
    ),
    (
        r#"{"code": {"coding": [{"system": "http://loinc.org", "code": "81954-0"}]}, "valuePeriod": {"start": "1999-03"}}"#,
        "value",
    ),
];

/// Other resources, and the element of each that is refused.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        r#"{"resourceType": "Encounter", "id": "a", "hospitalization": {"id": "Ada"}}"#,
        "Encounter.hospitalization.id",
    ),
    (
        r#"{"resourceType": "QuestionnaireResponse", "item": [{"linkId": "1", "answer": [{"valueString": "Ada"}]}]}"#,
        "QuestionnaireResponse.item[0].answer[0].value",
    ),
    (
        r#"{"resourceType": "QuestionnaireResponse", "item": [{"answer": [{"valueAttachment": {"data": "QQ=="}}]}]}"#,
        "QuestionnaireResponse.item[0].answer[0].value.data",
    ),
    (
        r#"{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "photo": [{"url": "x"}]}}]}"#,
        "Bundle.entry[0].resource.photo",
    ),
    (r#"{"resourceType": "Binary", "data": "QQ=="}"#, "Binary"),
    (
        r#"{"resourceType": "Location", "position": {"longitude": 1, "latitude": 2}}"#,
        "Location.position",
    ),
    (
        r#"{"resourceType": "Device", "serialNumber": "A1"}"#,
        "Device.serialNumber",
    ),
    (
        r#"{"resourceType": "Condition", "onsetAge": {"value": 91, "system": "http://unitsofmeasure.org", "code": "a"}}"#,
        "Condition.onset",
    ),
    (
        r#"{"resourceType": "Condition", "onsetAge": {"value": 1080, "system": "http://unitsofmeasure.org", "code": "mo"}}"#,
        "Condition.onset",
    ),
    (
        r#"{"resourceType": "Condition", "abatementAge": {"value": 4700, "system": "http://unitsofmeasure.org", "code": "wk"}}"#,
        "Condition.abatement",
    ),
    (
        r#"{"resourceType": "Procedure", "performedAge": {"value": 89, "comparator": ">", "system": "http://unitsofmeasure.org", "code": "a"}}"#,
        "Procedure.performed",
    ),
    (
        r#"{"resourceType": "Condition", "onsetRange": {"low": {"value": 91, "system": "http://unitsofmeasure.org", "code": "a"}}}"#,
        "Condition.onset",
    ),
    (
        r#"{"resourceType": "FamilyMemberHistory", "deceasedRange": {"low": {"value": 80}, "high": {"value": 95}}}"#,
        "FamilyMemberHistory.deceased",
    ),
    (
        r#"{"resourceType": "FamilyMemberHistory", "condition": [{"onsetRange": {"high": {"value": 33000, "system": "http://unitsofmeasure.org", "code": "d"}}}]}"#,
        "FamilyMemberHistory.condition[0].onset",
    ),
    (
        r#"{"resourceType": "Condition", "identifier": [{"system": "urn:ietf:rfc:3986", "value": "urn:uuid:c232ab00-9414-11ec-b3c8-9f6bdeced846"}]}"#,
        "Condition.identifier[0]",
    ),
    (
        r#"{"resourceType": "FamilyMemberHistory", "bornPeriod": {"start": "1950-01-02"}}"#,
        "FamilyMemberHistory.born",
    ),
    (
        r#"{"resourceType": "QuestionnaireResponse", "item": [{"linkId": "/21112-8", "answer": [{"valueDate": "1950-03-04"}]}]}"#,
        "QuestionnaireResponse.item[0].answer",
    ),
    (
        r#"{"resourceType": "QuestionnaireResponse", "item": [{"linkId": "30525-0", "answer": [{"valueDecimal": 90.5}]}]}"#,
        "QuestionnaireResponse.item[0].answer",
    ),
    (
        r#"{"resourceType": "RiskAssessment", "prediction": [{"whenRange": {"low": {"value": 91}}}]}"#,
        "RiskAssessment.prediction[0].when",
    ),
    (
        r#"{"resourceType": "Patient", "communication": [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "x-ada"}]}}]}"#,
        "Patient.communication[0].language.coding[0]",
    ),
    (
        r#"{"resourceType": "DiagnosticReport", "presentedForm": [{"contentType": "text/plain", "title": "Ada"}]}"#,
        "DiagnosticReport.presentedForm[0].title",
    ),
];

#[test]
fn what_identifies_is_found_wherever_it_hides() {
    for (members, place) in HIDDEN {
        let mut observation = json!({"resourceType": "Observation", "status": "final"});
        let members: Value = serde_json::from_str(members).unwrap();
        for (name, value) in members.as_object().unwrap() {
            observation[name] = value.clone();
        }
        let expected = [format!("Observation.{place}")];
        assert_eq!(told(&observation), expected, "{members}");
    }
    for (resource, place) in ELSEWHERE {
        let resource: Value = serde_json::from_str(resource).unwrap();
        assert_eq!(told(&resource), [*place], "{resource}");
    }
}

#[test]
fn an_observed_age_below_90_and_the_year_of_a_birth_are_taken() {
    let coded = |code: &str| json!({"coding": [{"system": "http://loinc.org", "code": code}]});
    let years =
        |value: f64| json!({"value": value, "system": "http://unitsofmeasure.org", "code": "a"});
    for (code, name, value) in [
        ("30525-0", "valueQuantity", years(89.9)),
        ("29553-5", "valueInteger", json!(89)),
        (
            "39016-1",
            "valueRange",
            json!({"low": years(80.0), "high": years(89.0)}),
        ),
        ("21112-8", "valueDateTime", json!("1950")),
        // No age: a heart rate, and a day on which something was observed.
        ("8867-4", "valueInteger", json!(95)),
        ("8665-2", "valueDateTime", json!("1999-03-04")),
    ] {
        let observation = json!({
            "resourceType": "Observation", "status": "final", "language": "pt-BR",
            "code": coded(code), name: value,
        });
        assert_eq!(told(&observation), [""; 0], "{observation}");
    }
}

#[test]
fn a_facility_takes_what_is_r4_and_an_id_of_the_mesh_is_nobody_elses() {
    let patient = json!({"resourceType": "Patient", "name": [{"text": "Ada"}]}).to_string();
    assert!(
        Holding::Identified
            .judge(&Json::parse(&patient).unwrap())
            .is_empty()
    );
    for (kind, id, taken) in [
        (ResourceType::Patient, "lovelace", true),
        // What a device may be called is a device's.
        (ResourceType::Device, "lovelace", false),
        (ResourceType::Device, "Pump.7", true),
        (
            ResourceType::Device,
            "a1111111-2222-4333-8444-555555555555",
            true,
        ),
        // Longer than any name of a device.
        (
            ResourceType::Device,
            "a1111111-2222-1333-8444-555555555555",
            true,
        ),
    ] {
        assert_eq!(Holding::Identified.takes_id(kind, id), taken, "{id}");
    }
    for (id, taken) in [
        ("11111111-2222-4333-8444-555555555555", true),
        ("11111111-2222-4333-A444-555555555555", true),
        // Of a time and a network card, of a time, of a name, and made up.
        ("c232ab00-9414-11ec-b3c8-9f6bdeced846", false),
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", false),
        ("2ed6657d-e927-568b-95e1-2665a8aea6a2", false),
        ("00000000-0000-0000-0000-000019500101", false),
        ("0123456789abcdef0123456789abcdef", false),
        ("lovelace", false),
        ("1", false),
    ] {
        assert_eq!(REGION.takes_id(ResourceType::Patient, id), taken, "{id}");
    }
}
