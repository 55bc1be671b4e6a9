//! Both kinds of patch, on the text of resources.
use super::*;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p","active":true,"name":[{"family":"A","given":["x","y"],"_given":[null,{"id":"g"}]}],"birthDate":"1970","deceasedBoolean":false,"multipleBirthInteger":2,"extension":[{"url":"u","valueDecimal":1.50}]}"#;

fn patched(patch: &str) -> Result<String, PatchError> {
    json_patch(PATIENT, patch)
}

#[test]
fn every_operation_of_json_patch_does_what_rfc_6902_says() {
    for (patch, found) in [
        (
            r#"[{"op":"add","path":"/gender","value":"male"}]"#,
            r#""gender":"male"}"#,
        ),
        (
            r#"[{"op":"add","path":"/active","value":false}]"#,
            r#""active":false"#,
        ),
        (
            r#"[{"op":"add","path":"/name/0/given/1","value":"z"}]"#,
            r#"["x","z","y"]"#,
        ),
        (
            r#"[{"op":"add","path":"/name/0/given/-","value":"z"}]"#,
            r#"["x","y","z"]"#,
        ),
        (
            r#"[{"op":"remove","path":"/name/0/given/0"}]"#,
            r#""given":["y"]"#,
        ),
        (
            r#"[{"op":"replace","path":"/birthDate","value":"1971"}]"#,
            r#""birthDate":"1971""#,
        ),
        (
            r#"[{"op":"copy","from":"/name/0/family","path":"/name/0/text"}]"#,
            r#""text":"A"}"#,
        ),
        (
            r#"[{"op":"move","from":"/name/0/family","path":"/name/0/text"}]"#,
            r#""_given":[null,{"id":"g"}],"text":"A"}"#,
        ),
        (
            r#"[{"op":"test","path":"/extension/0/valueDecimal","value":1.5},{"op":"add","path":"/a~1b~0","value":1e2}]"#,
            r#""a/b~":1e2"#,
        ),
        (
            r#"[{"op":"add","path":"/x","value":{"b":[]}},{"op":"add","path":"/x/b/0","value":"\u0001\""}]"#,
            r#""x":{"b":["\u0001\""]}"#,
        ),
    ] {
        let text = patched(patch).unwrap_or_else(|error| panic!("{patch}: {error}"));
        assert!(text.contains(found), "{patch}: {text}");
        assert!(text.contains("1.50"), "the text of a number stays");
    }
}

#[test]
fn what_a_json_patch_leaves_empty_is_taken_away_when_all_is_done() {
    const CONTACT: &str =
        r#"{"resourceType":"Patient","id":"p","contact":[{"name":{"text":"a"}}],"link":[]}"#;
    for (patch, expected) in [
        (
            r#"[{"op":"remove","path":"/contact/0"}]"#,
            r#"{"resourceType":"Patient","id":"p","link":[]}"#,
        ),
        (
            r#"[{"op":"remove","path":"/contact/0/name/text"}]"#,
            r#"{"resourceType":"Patient","id":"p","link":[]}"#,
        ),
        (
            r#"[{"op":"move","from":"/contact/0/name","path":"/name"}]"#,
            r#"{"resourceType":"Patient","id":"p","link":[],"name":{"text":"a"}}"#,
        ),
        (
            r#"[{"op":"remove","path":"/contact/0"},{"op":"add","path":"/contact/-","value":1}]"#,
            r#"{"resourceType":"Patient","id":"p","contact":[1],"link":[]}"#,
        ),
    ] {
        assert_eq!(json_patch(CONTACT, patch).unwrap(), expected, "{patch}");
    }
    // Of several that are emptied none is passed over, in whichever order.
    let several = r#"{"resourceType":"Patient","id":"p","contact":[{"name":{"text":"a"}},{"gender":"male"},{"name":{"text":"b"}},{"name":{"text":"c"}}]}"#;
    let remove = |at: u8| format!(r#"{{"op":"remove","path":"/contact/{at}/name"}}"#);
    let left = r#"{"resourceType":"Patient","id":"p","contact":[{"gender":"male"}]}"#;
    for order in [[0, 2, 3], [3, 2, 0], [2, 0, 3]] {
        let patch = format!("[{}]", order.map(remove).join(","));
        assert_eq!(json_patch(several, &patch).unwrap(), left, "{patch}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_json_patch_that_cannot_be_read_or_applied_names_its_operation_and_changes_nothing() {
    for (patch, is_malformed, place) in [
        ("{", true, "patch"),
        ("{}", true, "patch"),
        (r#"[1]"#, true, "operation 1"),
        (r#"[{"op":"add","path":"/x"}]"#, true, "operation 1"),
        (
            r#"[{"op":"add","path":"x","value":1}]"#,
            true,
            "operation 1",
        ),
        (
            r#"[{"op":"add","path":"/~2","value":1}]"#,
            true,
            "operation 1",
        ),
        (
            r#"[{"op":"merge","path":"/x","value":1}]"#,
            true,
            "operation 1",
        ),
        (
            r#"[{"op":"add","path":"/x","value":1},{"op":"remove","path":"/nothing"}]"#,
            false,
            "operation 2",
        ),
        (
            r#"[{"op":"add","path":"/name/0/given/3","value":"z"}]"#,
            false,
            "operation 1",
        ),
        (
            r#"[{"op":"add","path":"/name/0/given/01","value":"z"}]"#,
            false,
            "operation 1",
        ),
        (
            r#"[{"op":"add","path":"/no/where","value":"z"}]"#,
            false,
            "operation 1",
        ),
        (
            r#"[{"op":"replace","path":"/gender","value":"male"}]"#,
            false,
            "operation 1",
        ),
        (
            r#"[{"op":"move","from":"/name","path":"/name/0/x"}]"#,
            false,
            "operation 1",
        ),
        (
            r#"[{"op":"test","path":"/active","value":false}]"#,
            false,
            "operation 1",
        ),
        (
            r#"[{"op":"test","path":"/active","value":"true"}]"#,
            false,
            "operation 1",
        ),
        (r#"[{"op":"remove","path":""}]"#, false, "operation 1"),
        (
            r#"[{"op":"replace","path":"/id","value":"q"}]"#,
            false,
            "id",
        ),
        (
            r#"[{"op":"remove","path":"/resourceType"}]"#,
            false,
            "resourceType",
        ),
        (
            r#"[{"op":"replace","path":"","value":{"resourceType":"Device","id":"p"}}]"#,
            false,
            "resourceType",
        ),
    ] {
        match patched(patch) {
            Err(PatchError::Malformed { place: found, .. }) => {
                assert_eq!((is_malformed, found.as_str()), (true, place), "{patch}")
            }
            Err(PatchError::Unprocessable { place: found, .. }) => {
                assert_eq!((is_malformed, found.as_str()), (false, place), "{patch}")
            }
            Ok(text) => panic!("{patch}: {text}"),
        }
    }
}

#[test]
fn copies_of_copies_end_before_they_fill_the_memory() {
    let big = format!("\"{}\"", "x".repeat(1 << 20));
    let mut operations = vec![format!(r#"{{"op":"add","path":"/x","value":[{big}]}}"#)];
    operations.extend((0..40).map(|_| r#"{"op":"copy","from":"/x","path":"/x/-"}"#.to_owned()));
    let patch = format!("[{}]", operations.join(","));
    assert!(matches!(
        patched(&patch),
        Err(PatchError::Unprocessable { .. })
    ));
}

/// One operation of FHIRPath Patch, with its parts as JSON.
fn fhirpath(parts: &str) -> Result<String, PatchError> {
    let patch = format!(
        r#"{{"resourceType":"Parameters","parameter":[{{"name":"operation","part":[{parts}]}}]}}"#
    );
    fhirpath_patch(PATIENT, &patch)
}

fn part(name: &str, value: &str) -> String {
    format!(r#"{{"name":"{name}",{value}}}"#)
}

fn operation(kind: &str, path: &str, others: &[(&str, &str)]) -> String {
    let mut parts = vec![
        part("type", &format!(r#""valueCode":"{kind}""#)),
        part("path", &format!(r#""valueString":"{path}""#)),
    ];
    parts.extend(others.iter().map(|(name, value)| part(name, value)));
    parts.join(",")
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn every_operation_of_fhirpath_patch_does_what_r4_says() {
    for (parts, found) in [
        (
            operation(
                "add",
                "Patient",
                &[
                    ("name", r#""valueString":"gender""#),
                    ("value", r#""valueCode":"male""#),
                ],
            ),
            r#""gender":"male"}"#,
        ),
        (
            operation(
                "add",
                "Patient",
                &[
                    ("name", r#""valueString":"contact""#),
                    (
                        "value",
                        r#""part":[{"name":"name","valueHumanName":{"text":"c"}},{"name":"relationship","valueCodeableConcept":{"text":"r"}}]"#,
                    ),
                ],
            ),
            r#""contact":[{"name":{"text":"c"},"relationship":[{"text":"r"}]}]"#,
        ),
        (
            operation(
                "add",
                "Patient.name[0]",
                &[
                    ("name", r#""valueString":"given""#),
                    ("value", r#""valueString":"z""#),
                ],
            ),
            r#""given":["x","y","z"],"_given":[null,{"id":"g"},null]"#,
        ),
        (
            operation(
                "add",
                "Patient.birthDate",
                &[
                    ("name", r#""valueString":"extension""#),
                    ("value", r#""valueExtension":{"url":"v"}"#),
                ],
            ),
            r#""_birthDate":{"extension":[{"url":"v"}]}"#,
        ),
        (
            operation(
                "add",
                "Patient.extension.where(url = 'u')",
                &[
                    ("name", r#""valueString":"id""#),
                    ("value", r#""valueString":"e""#),
                ],
            ),
            r#""valueDecimal":1.50,"id":"e"}"#,
        ),
        (
            operation(
                "insert",
                "Patient.name.given",
                &[
                    ("index", r#""valueInteger":0"#),
                    ("value", r#""valueString":"z""#),
                ],
            ),
            r#""given":["z","x","y"],"_given":[null,null,{"id":"g"}]"#,
        ),
        (
            operation("delete", "Patient.birthDate", &[]),
            r#""_given":[null,{"id":"g"}]}],"deceasedBoolean""#,
        ),
        (
            operation("delete", "Patient.gender", &[]),
            r#""active":true"#,
        ),
        (
            operation("delete", "Patient.name.given[1]", &[]),
            r#""given":["x"],"_given":[null]"#,
        ),
        (
            operation("delete", "Patient.extension", &[]),
            r#""multipleBirthInteger":2}"#,
        ),
        (
            operation(
                "replace",
                "Patient.birthDate",
                &[("value", r#""valueDate":"1971""#)],
            ),
            r#""birthDate":"1971""#,
        ),
        (
            operation(
                "replace",
                "Patient.deceased",
                &[("value", r#""valueDateTime":"2001""#)],
            ),
            r#""deceasedDateTime":"2001""#,
        ),
        (
            operation(
                "replace",
                "Patient.name.where(family = 'A').given.first()",
                &[("value", r#""valueString":"z""#)],
            ),
            r#""given":["z","y"]"#,
        ),
        (
            operation(
                "move",
                "Patient.name.given",
                &[
                    ("source", r#""valueInteger":1"#),
                    ("destination", r#""valueInteger":0"#),
                ],
            ),
            r#""given":["y","x"],"_given":[{"id":"g"},null]"#,
        ),
    ] {
        let text = fhirpath(&parts).unwrap_or_else(|error| panic!("{parts}: {error}"));
        assert!(text.contains(found), "{parts}: {text}");
    }
    let text = fhirpath(&operation("delete", "Patient.extension", &[])).expect("one extension");
    assert!(
        !text.contains("extension"),
        "a list that is empty goes too: {text}"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_fhirpath_patch_that_cannot_be_read_or_applied_names_its_operation() {
    for (parts, is_malformed) in [
        (operation("merge", "Patient", &[]), true),
        (
            operation(
                "add",
                "Patient",
                &[
                    ("name", r#""valueString":"gender""#),
                    ("value", r#""valueCode":"male""#),
                    ("value", r#""valueCode":"female""#),
                ],
            ),
            true,
        ),
        (
            operation(
                "add",
                "Patient.",
                &[
                    ("name", r#""valueString":"gender""#),
                    ("value", r#""valueCode":"male""#),
                ],
            ),
            true,
        ),
        (
            operation("add", "Patient", &[("value", r#""valueCode":"male""#)]),
            true,
        ),
        (
            operation("add", "Patient", &[("name", r#""valueString":"gender""#)]),
            true,
        ),
        (
            operation(
                "add",
                "Patient",
                &[
                    ("name", r#""valueString":"active""#),
                    ("value", r#""valueBoolean":true"#),
                ],
            ),
            false,
        ),
        (
            operation(
                "add",
                "Patient",
                &[
                    ("name", r#""valueString":"deceased""#),
                    ("value", r#""valueDateTime":"2001""#),
                ],
            ),
            false,
        ),
        (
            operation(
                "add",
                "Patient",
                &[
                    ("name", r#""valueString":"nothing""#),
                    ("value", r#""valueBoolean":true"#),
                ],
            ),
            false,
        ),
        (
            operation(
                "add",
                "Patient.name.given",
                &[
                    ("name", r#""valueString":"id""#),
                    ("value", r#""valueString":"z""#),
                ],
            ),
            false,
        ),
        (
            operation(
                "add",
                "Patient.name.given[0]",
                &[
                    ("name", r#""valueString":"id""#),
                    ("value", r#""valueString":"z""#),
                ],
            ),
            false,
        ),
        (
            operation(
                "insert",
                "Patient.name.given",
                &[
                    ("index", r#""valueInteger":9"#),
                    ("value", r#""valueString":"z""#),
                ],
            ),
            false,
        ),
        (
            operation(
                "insert",
                "Patient.contact",
                &[
                    ("index", r#""valueInteger":0"#),
                    ("value", r#""valueString":"z""#),
                ],
            ),
            false,
        ),
        (operation("delete", "Patient.name.given", &[]), false),
        (operation("delete", "Patient", &[]), false),
        (
            operation(
                "replace",
                "Patient.gender",
                &[("value", r#""valueCode":"male""#)],
            ),
            false,
        ),
        (
            operation("replace", "Patient.id", &[("value", r#""valueId":"q""#)]),
            false,
        ),
        (
            operation("replace", "1 + 1", &[("value", r#""valueId":"q""#)]),
            false,
        ),
        (
            operation(
                "move",
                "Patient.name.given",
                &[
                    ("source", r#""valueInteger":1"#),
                    ("destination", r#""valueInteger":5"#),
                ],
            ),
            false,
        ),
        (
            operation(
                "move",
                "Patient.birthDate",
                &[
                    ("source", r#""valueInteger":1"#),
                    ("destination", r#""valueInteger":5"#),
                ],
            ),
            false,
        ),
    ] {
        match fhirpath(&parts) {
            Err(PatchError::Malformed { .. }) => assert!(is_malformed, "{parts}"),
            Err(PatchError::Unprocessable { problem, .. }) => {
                assert!(!is_malformed, "{parts}: {problem}")
            }
            Ok(text) => panic!("{parts}: {text}"),
        }
    }
}
