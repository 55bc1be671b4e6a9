//! Tests of the question whether a text is R4.
use super::*;
use Fault::{CodeInvalid, Invalid, Invariant, Required, Structure, Value};
use std::path::{Path, PathBuf};

fn found(text: &str) -> Vec<(Fault, String)> {
    let issues = validate(text).err().unwrap_or_default();
    let place = |issue: Issue| (issue.fault, issue.expression);
    issues.into_iter().map(place).collect()
}

const OBSERVATION: &str = r#""resourceType":"Observation","status":"final","code":{"text":"x"}"#;

#[test]
fn the_tables_know_every_resource_type_its_elements_value_sets_and_search_parameters() {
    assert_eq!(R4.resources().len(), 146);
    assert!(
        R4.is_resource("Observation")
            && !R4.is_resource("DomainResource")
            && !R4.is_resource("Period")
    );
    let shape = R4.shape_of("Observation").unwrap();
    for (member, element) in [
        ("valueQuantity", "value"),
        ("component", "component"),
        ("meta", "meta"),
        ("modifierExtension", "modifierExtension"),
    ] {
        assert_eq!(shape.fields[member].element, element);
    }
    let mut required = shape.required.clone();
    required.sort_unstable();
    assert_eq!(required, ["code", "status"]);
    assert!(R4.set("observation-status").unwrap().has_code("final"));
    let params = R4.params_of("Observation");
    let date = params.iter().find(|param| param.name == "date").unwrap();
    assert_eq!(
        (date.kind, date.expression),
        ("date", "Observation.effective")
    );
    for shape in R4.resources().iter().filter_map(|name| R4.shape_of(name)) {
        for field in shape.fields.values() {
            if let Kind::Object(at) = field.kind {
                assert!(
                    !R4.shape(at).unwrap().fields.is_empty(),
                    "{}.{}",
                    shape.name,
                    field.element
                );
            }
        }
    }
}

/// A member of an Observation, the fault, and what follows the type in its path.
const FAULTS: &[(&str, Fault, &str)] = &[
    (r#""colour":"red""#, Structure, ""),
    (r#""status_":1"#, Structure, ""),
    (r#""issued":"2024""#, Value, ".issued"),
    (
        r#""subject":{"reference":"Foo/1"}"#,
        Value,
        ".subject.reference",
    ),
    (
        r#""subject":{"reference":"Patient"}"#,
        Value,
        ".subject.reference",
    ),
    (
        r#""subject":{"reference":"/Patient/1"}"#,
        Value,
        ".subject.reference",
    ),
    (
        r#""subject":{"reference":"Patient/a b"}"#,
        Value,
        ".subject.reference",
    ),
    (
        r#""subject":{"reference":"Patient/1/2"}"#,
        Value,
        ".subject.reference",
    ),
    (
        r#""subject":{"reference":"Patient/1/_history/"}"#,
        Value,
        ".subject.reference",
    ),
    (
        r##""contained":[{"resourceType":"Patient","id":"p"},{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}"##,
        Invariant,
        ".contained[1].id",
    ),
    (r#""effectiveDateTime":"2024-02-30""#, Value, ".effective"),
    (r#""valueQuantity":{"value":"1"}"#, Value, ".value.value"),
    (
        r#""valueQuantity":{"value":1,"code":"kg"}"#,
        Invariant,
        ".value",
    ),
    (
        r#""valueString":"a","valueBoolean":true"#,
        Structure,
        ".value",
    ),
    (
        r#""component":[{"code":{"text":"y"}},{"valueInteger":1}]"#,
        Required,
        ".component[1].code",
    ),
    (
        r#""component":{"code":{"text":"y"}}"#,
        Structure,
        ".component",
    ),
    (r#""component":[]"#, Structure, ".component"),
    (
        r#""subject":[{"reference":"Patient/1"}]"#,
        Structure,
        ".subject",
    ),
    (
        r#""subject":{"reference":"Medication/1"}"#,
        Structure,
        ".subject",
    ),
    (
        r#""subject":{"reference":"Patient/1","type":"Group"}"#,
        Structure,
        ".subject.type",
    ),
    (r##""subject":{"reference":"#p"}"##, Invariant, ".subject"),
    (
        r#""valueRange":{"low":{"value":1,"comparator":">"}}"#,
        Invariant,
        ".value.low",
    ),
    (
        r#""valueSampledData":{"origin":{"value":1,"comparator":"<"},"period":1,"dimensions":1}"#,
        Invariant,
        ".value.origin",
    ),
    (r#""subject":{}"#, Invariant, ".subject"),
    (
        r#""valueString":"a","dataAbsentReason":{"text":"b"}"#,
        Invariant,
        ".dataAbsentReason",
    ),
    (
        r#""note":[{"text":"a","time":"12:00:00"}]"#,
        Value,
        ".note[0].time",
    ),
    (
        r#""referenceRange":[{"appliesTo":[{"text":"a"}]}]"#,
        Invariant,
        ".referenceRange[0]",
    ),
    (
        r#""effectivePeriod":{"start":"2024-02","end":"2024-01"}"#,
        Invariant,
        ".effective",
    ),
    (
        r#""extension":[{"valueString":"a"}]"#,
        Required,
        ".extension[0].url",
    ),
    (r#""extension":[{"url":"u"}]"#, Invariant, ".extension[0]"),
    (
        r#""contained":[{"resourceType":"Patient","id":"p"}]"#,
        Invariant,
        ".contained[0]",
    ),
    (r#""_issued":{"value":1}"#, Structure, ".issued"),
    (r#""_subject":{"id":"a"}"#, Structure, ""),
    (
        r#""text":{"status":"generated","div":"<p/>"}"#,
        Value,
        ".text.div",
    ),
    (
        r#""text":{"status":"made","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">a</div>"}"#,
        CodeInvalid,
        ".text.status",
    ),
    (r#""issued":null"#, Value, ".issued"),
];

#[test]
fn each_fault_is_told_with_the_path_of_its_element() {
    assert_eq!(validate(&format!("{{{OBSERVATION}}}")), Ok("Observation"));
    for (rest, fault, place) in FAULTS {
        let expected = vec![(*fault, format!("Observation{place}"))];
        assert_eq!(
            found(&format!("{{{OBSERVATION},{rest}}}")),
            expected,
            "{rest}"
        );
    }
}

#[test]
fn what_is_no_resource_of_r4_is_told_as_a_whole() {
    for (text, fault, place) in [
        ("", Invalid, "Resource"),
        ("[]", Structure, "Resource"),
        ("{}", Structure, "Resource"),
        (r#"{"resourceType":"Period"}"#, Structure, "Resource"),
        (
            r#"{"resourceType":"DomainResource"}"#,
            Structure,
            "Resource",
        ),
        (
            r#"{"resourceType":"Patient","id":"a","id":"b"}"#,
            Invalid,
            "Resource",
        ),
        (
            r#"{"resourceType":"Observation","status":"done","code":{"text":"x"}}"#,
            CodeInvalid,
            "Observation.status",
        ),
        (
            r#"{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Patient"}}]}"#,
            Invariant,
            "Bundle.entry",
        ),
        (
            r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","gender":"x"}}]}"#,
            CodeInvalid,
            "Bundle.entry[0].resource.gender",
        ),
    ] {
        assert_eq!(found(text), [(fault, place.to_owned())], "{text}");
    }
}

#[test]
fn what_r4_allows_is_not_refused() {
    for rest in [
        r#""_issued":{"extension":[{"url":"u","valueCode":"unknown"}]}"#,
        r#""valueQuantity":{"value":1.50,"_unit":{"id":"a"}}"#,
        r#""focus":[{"reference":"Medication/1"}],"subject":{"reference":"https://a.example/Medication/1"}"#,
        r##""contained":[{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}"##,
        r#""subject":{"reference":"urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}"#,
        r#""subject":{"reference":"Patient/1/_history/2"}"#,
        r#""subject":{"reference":"Patient?identifier=http://a/b|1"}"#,
        r#""meta":{"profile":["http://a.example/p"],"tag":[{"system":"s","code":"c"}]}"#,
        r#""effectiveTiming":{"repeat":{"frequency":1,"period":1,"periodUnit":"d"}}"#,
        r#""modifierExtension":[{"url":"u","extension":[{"url":"v","valueDecimal":1}]}]"#,
    ] {
        let text = format!("{{{OBSERVATION},{rest}}}");
        assert_eq!(found(&text), [], "{rest}");
    }
    let names =
        r#"{"resourceType":"Patient","name":[{"given":["a",null],"_given":[null,{"id":"b"}]}]}"#;
    assert_eq!(found(names), []);
    let uneven = r#"{"resourceType":"Patient","name":[{"given":["a","b"],"_given":[null]}]}"#;
    assert_eq!(
        found(uneven),
        [(Fault::Structure, "Patient.name[0].given".to_owned())]
    );
}

#[test]
fn entries_of_a_list_have_what_its_mode_lets_them_have() {
    for (mode, entry, fault) in [
        ("working", r#""deleted":true,"#, true),
        ("changes", r#""deleted":true,"#, false),
        ("snapshot", r#""date":"2020","#, true),
        ("working", r#""date":"2020","#, false),
        ("snapshot", "", false),
    ] {
        let text = format!(
            r#"{{"resourceType":"List","status":"current","mode":"{mode}","entry":[
                {{{entry}"item":{{"display":"x"}}}}]}}"#
        );
        let expected = [(Invariant, "List.entry".to_owned())];
        let expected = &expected[..usize::from(fault)];
        assert_eq!(found(&text), expected, "{mode} {entry}");
    }
}

#[test]
fn a_resource_with_many_faults_tells_a_bounded_number() {
    let entries = vec!["{}"; 10 * MAX_ISSUES].join(",");
    let text = format!(r#"{{"resourceType":"Patient","name":[{entries}]}}"#);
    assert_eq!(found(&text).len(), MAX_ISSUES);
}

fn json_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            json_files(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            found.push(path);
        }
    }
}

/// The examples that are not R4, and the first fault of each. HL7's validator says the same of them, but of the three
/// with [`TARGET`], which are the specification's own: it does not look at the type that a reference names.
const WRONG: &[(&str, Fault, &str)] = &[
    (
        "bundle-questionnaire.json",
        Required,
        "Questionnaire.item[0].item[0].linkId",
    ),
    (
        "bundle-with-no-type.json",
        Value,
        "Bundle.entry[0].resource.text.div",
    ),
    (
        "capabilitystatement-example.json",
        Value,
        "CapabilityStatement.url",
    ),
    ("codesystem-example.json", Invariant, "CodeSystem"),
    (
        "deviceusestatement-example.json",
        TARGET,
        "DeviceUseStatement.reasonReference[0]",
    ),
    ("devicemetric-example.json", TARGET, "DeviceMetric.parent"),
    (
        "diagnosticreport-cbc.json",
        Required,
        "DiagnosticReport.text.div",
    ),
    (
        "medicationrequest0301.json",
        TARGET,
        "MedicationRequest.dispenseRequest.performer",
    ),
    (
        "operationdefinition-example.json",
        Value,
        "OperationDefinition.base",
    ),
    (
        "r4-caredove-bundle.json",
        Value,
        "Bundle.entry[0].resource.id",
    ),
];
const TARGET: Fault = Structure;

/// The examples that HL7's validator alone refuses, and what it looks at that R4's definitions do not say.
const HL7_ALONE: &[(&str, &str)] = &[
    ("DocumentReference-adi-dnr.json", "extensions of R5"),
    ("DocumentReference-living-will.json", "extensions of R5"),
    ("DocumentReference-polst.json", "extensions of R5"),
    (
        "Questionnaire-AUDIT-C.json",
        "a code system that it does not know",
    ),
    (
        "Questionnaire-TAPS.json",
        "a code system that it does not know",
    ),
    (
        "Questionnaire-exercise-vital-sign.json",
        "a code system that it does not know",
    ),
    (
        "Questionnaire-hunger-vital-sign-example.json",
        "a code system that it does not know",
    ),
    (
        "Questionnaire-phq-9-example.json",
        "a code system that it does not know",
    ),
    (
        "Questionnaire-prapare-example.json",
        "a code system that it does not know",
    ),
    (
        "implementationguide-example.json",
        "what HL7 asks of its own guides",
    ),
    (
        "medicationdispense0301.json",
        "codes of a value set that is not required",
    ),
    (
        "medicationstatementexample1.json",
        "codes of a value set that is not required",
    ),
    (
        "structuredefinition-example-composition.json",
        "the structure that it is made from",
    ),
    ("structuremap-example.json", "the program that a map is"),
];

fn reference_data() -> PathBuf {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let root = std::env::var("MEDMESH_DATA").unwrap_or_else(|_| shared.into());
    Path::new(&root).join("fhir-r4")
}

#[test]
#[cfg_attr(not(medmesh_data), ignore = "needs the examples: MEDMESH_DATA")]
fn the_examples_of_the_specification_and_of_us_core_are_judged_as_they_are() {
    let mut files = Vec::new();
    for part in ["us-core-examples", "fhir-test-cases-r4"] {
        json_files(&reference_data().join(part), &mut files);
    }
    assert!(files.len() > 300, "{}", files.len());
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        match validate(&text) {
            Ok(_) => right.push(name),
            Err(issues) => wrong.push((name, issues[0].fault, issues[0].expression.clone())),
        }
    }
    wrong.sort_by_key(|(name, ..)| *name);
    let mut expected: Vec<_> = WRONG
        .iter()
        .map(|(name, fault, place)| (*name, *fault, (*place).to_owned()))
        .collect();
    expected.sort_by_key(|(name, ..)| *name);
    assert_eq!(wrong, expected);
    for (name, looks_at) in HL7_ALONE {
        assert!(right.contains(name), "{name}: {looks_at}");
    }
}

#[test]
#[cfg_attr(not(medmesh_data), ignore = "needs the bundles: MEDMESH_DATA")]
fn the_bundles_of_synthea_are_r4() {
    let mut judged = 0;
    for entry in std::fs::read_dir(reference_data().join("synthea-bundles")).unwrap() {
        let path = entry.unwrap().path();
        let unpacked = std::process::Command::new("gzip")
            .arg("-dc")
            .arg(&path)
            .output()
            .unwrap();
        let text = String::from_utf8(unpacked.stdout).unwrap();
        assert_eq!(validate(&text), Ok("Bundle"), "{}", path.display());
        judged += 1;
    }
    assert!(judged > 0);
}

#[test]
fn what_the_mesh_itself_emits_is_r4() {
    use crate::contract::fixture;
    for number in 0..60 {
        let reading = fixture::observation(number);
        assert_eq!(
            validate(reading.json()),
            Ok("Observation"),
            "{}",
            reading.json()
        );
    }
    assert_eq!(validate(fixture::patient(1, 1950).json()), Ok("Patient"));
    assert_eq!(validate(fixture::device(1).json()), Ok("Device"));
}
