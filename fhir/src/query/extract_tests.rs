//! What a resource is found by, and that no parameter of any type is left behind.
use super::*;
use crate::query::Canonical;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path as FilePath, PathBuf},
};

fn rows(text: &str) -> Vec<IndexRow> {
    extract(
        &Json::parse(text).expect("JSON"),
        "https://own.example/fhir",
    )
}

fn of<'r>(rows: &'r [IndexRow], code: &str) -> Vec<&'r Value> {
    rows.iter()
        .filter(|row| row.param == code)
        .map(|row| &row.value)
        .collect()
}

#[test]
fn every_expression_of_every_parameter_of_r4_is_read() {
    let mut read = 0;
    for kind in R4.resources() {
        for param in params(kind) {
            let compiled = compile(param).is_some();
            assert_eq!(
                compiled,
                !matches!(param.code, "_id" | "_lastUpdated"),
                "{kind} {}",
                param.code
            );
            assert_eq!(
                param.kind == Kind::Composite,
                !param.parts.is_empty(),
                "{kind} {}",
                param.code
            );
            read += 1;
        }
    }
    assert!(read > 2_000, "{read}");
}

#[test]
fn times_have_the_precision_that_they_are_written_with_and_open_ends() {
    let spans = |element: &str| {
        let text = format!(
            r#"{{"resourceType":"Observation","status":"final","code":{{"text":"c"}},{element}}}"#
        );
        let found = rows(&text);
        of(&found, "date").into_iter().cloned().collect::<Vec<_>>()
    };
    let date = |low, high| vec![Value::Date { low, high }];
    const DAY: i64 = 86_400_000;
    assert_eq!(
        spans(r#""effectiveDateTime":"1970""#),
        date(0, 365 * DAY - 1)
    );
    assert_eq!(
        spans(r#""effectiveInstant":"1970-01-01T00:00:01.5Z""#),
        date(1_500, 1_599)
    );
    assert_eq!(
        spans(r#""effectivePeriod":{"start":"1970-01-01"}"#),
        date(0, i64::MAX)
    );
    assert_eq!(
        spans(r#""effectivePeriod":{"end":"1970-01-01"}"#),
        date(i64::MIN, DAY - 1)
    );
    let timing = r#""effectiveTiming":{"event":["1970-01-03","1970-01-02"],"repeat":{"boundsPeriod":{"start":"1970-01-01","end":"1970-01-02"}}}"#;
    assert_eq!(spans(timing), date(0, 3 * DAY - 1));
    assert_eq!(spans(r#""effectivePeriod":{"id":"x"}"#), vec![]);
    assert_eq!(
        spans(r#""effectiveDateTime":"1970-99""#),
        vec![],
        "what cannot be read is found by nothing"
    );
}

#[test]
fn quantities_keep_their_unit_and_are_the_same_in_base_units() {
    let canonical = |element: &str| {
        let text = format!(
            r#"{{"resourceType":"Observation","status":"final","code":{{"text":"c"}},{element}}}"#
        );
        let found = rows(&text);
        of(&found, "value-quantity")
            .into_iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    let row = |low, high, canonical: Option<(f64, f64)>| {
        vec![Value::Quantity {
            low,
            high,
            system: canonical.map(|_| UCUM.to_owned()),
            code: canonical.map(|_| "mg/dL".to_owned()),
            unit: None,
            canonical: canonical.map(|(low, high)| Canonical {
                low,
                high,
                unit: "g.m-3".to_owned(),
            }),
        }]
    };
    let coded = r#""system":"http://unitsofmeasure.org","code":"mg/dL""#;
    assert_eq!(
        canonical(&format!(r#""valueQuantity":{{"value":5.40,{coded}}}"#)),
        row(5.4, 5.4, Some((54.0, 54.0)))
    );
    assert_eq!(
        canonical(&format!(
            r#""valueQuantity":{{"value":5.4,"comparator":">=",{coded}}}"#
        )),
        row(5.4, f64::INFINITY, Some((54.0, f64::INFINITY)))
    );
    let sampled = format!(
        r#""valueSampledData":{{"origin":{{"value":10,{coded}}},"period":1,"factor":0.5,"dimensions":1,"data":"2 E -4 U 6"}}"#
    );
    assert_eq!(canonical(&sampled), row(8.0, 13.0, Some((80.0, 130.0))));
    assert_eq!(
        canonical(r#""valueQuantity":{"value":1e1}"#),
        row(10.0, 10.0, None)
    );
    assert_eq!(canonical(r#""valueQuantity":{"unit":"mg"}"#), vec![]);
}

#[test]
fn the_parts_of_a_composite_are_those_that_its_parameters_find() {
    let found = rows(
        r#"{"resourceType":"DocumentReference","status":"current","relatesTo":[
            {"code":"replaces","target":{"reference":"DocumentReference/d1"}}]}"#,
    );
    let alone = [of(&found, "relatesto"), of(&found, "relation")].concat();
    assert_eq!(alone.len(), 2, "{found:?}");
    assert_eq!(of(&found, "relationship"), alone);
}

#[test]
fn contained_resources_and_what_is_elsewhere_are_told_apart() {
    let found = rows(
        r##"{"resourceType":"Encounter","status":"finished","class":{"code":"A"},"contained":[{"resourceType":"Patient","id":"x"}],
            "subject":{"reference":"#x"},"serviceProvider":{"reference":"https://own.example/fhir/Organization/1"},
            "basedOn":[{"reference":"urn:uuid:0-1"}],"episodeOfCare":[{"type":"EpisodeOfCare","identifier":{"value":"e"}}]}"##,
    );
    assert!(of(&found, "subject").is_empty());
    let reference = |resource_type: Option<&str>,
                     id: Option<&str>,
                     url: Option<&str>,
                     identifier: Option<&str>| {
        Value::Reference {
            resource_type: resource_type.map(str::to_owned),
            id: id.map(str::to_owned),
            version: None,
            url: url.map(str::to_owned),
            identifier: identifier.map(|value| (None, value.to_owned())),
        }
    };
    assert_eq!(
        of(&found, "service-provider"),
        [&reference(Some("Organization"), Some("1"), None, None)]
    );
    assert_eq!(
        of(&found, "based-on"),
        [&reference(None, None, Some("urn:uuid:0-1"), None)]
    );
    assert_eq!(
        of(&found, "episode-of-care"),
        [&reference(Some("EpisodeOfCare"), None, None, Some("e"))]
    );
}

#[test]
fn a_reference_that_only_names_something_is_not_missing_and_leads_nowhere() {
    let found = rows(
        r##"{"resourceType":"Condition","subject":{"display":"somebody"},"asserter":{"identifier":{"system":"s"}},
            "encounter":{"reference":"#e","display":"here"},"evidence":[{"detail":[{"id":"x"}]}]}"##,
    );
    let nowhere = Value::Reference {
        resource_type: None,
        id: None,
        version: None,
        url: None,
        identifier: None,
    };
    assert_eq!(of(&found, "subject"), [&nowhere]);
    assert_eq!(of(&found, "asserter"), [&nowhere]);
    for code in ["encounter", "evidence-detail"] {
        assert!(of(&found, code).is_empty(), "{code}");
    }
}

#[test]
fn of_many_values_each_has_one_row_however_often_it_stands() {
    let tags = |numbers: &mut dyn Iterator<Item = u32>| {
        let tags = numbers.map(|number| format!(r#"{{"system":"s","code":"c-{number}"}}"#));
        let tags: Vec<String> = tags.collect();
        let meta = format!(r#"{{"tag":[{}]}}"#, tags.join(","));
        rows(&format!(r#"{{"resourceType":"Basic","meta":{meta}}}"#))
    };
    let once = tags(&mut (0..500));
    assert_eq!(of(&once, "_tag").len(), 500);
    let thrice = tags(&mut (0..500).chain(0..40).chain((0..500).rev()));
    assert_eq!(of(&thrice, "_tag"), of(&once, "_tag"));
}

#[test]
fn a_value_that_stands_twice_has_one_row_and_what_is_no_resource_has_none() {
    let found = rows(r#"{"resourceType":"Patient","name":[{"given":["A","A"]},{"text":"A"}]}"#);
    assert_eq!(of(&found, "given").len(), 1);
    assert_eq!(of(&found, "name").len(), 1);
    for text in [
        "[]",
        "1",
        "{}",
        r#"{"resourceType":"Nothing"}"#,
        r#"{"resourceType":1}"#,
        r#"{"resourceType":"Organization","name":{},"address":"x","identifier":[null,1]}"#,
    ] {
        assert_eq!(rows(text), [], "{text}");
    }
}

fn json_files(dir: &FilePath, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("the reference data") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            json_files(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
}

/// Whether an element has a row: a reference to what is contained has none, nor has an attachment that stands for a
/// reference.
fn leads(kind: Kind, item: &Item<'_>) -> bool {
    match item {
        Item::Element(element)
            if kind == Kind::Reference && element.type_name() == "Attachment" =>
        {
            false
        }
        Item::Element(element) if kind == Kind::Reference && element.type_name() == "Reference" => {
            let is_named = child(element, "identifier").is_some();
            match element.member("reference") {
                Some(reference) => is_named || !reference.starts_with('#'),
                None => is_named || element.member("display").is_some(),
            }
        }
        _ => true,
    }
}

#[test]
#[cfg_attr(not(medmesh_data), ignore = "needs the examples: MEDMESH_DATA")]
fn every_parameter_whose_element_an_example_has_is_extracted_from_it() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = std::env::var_os("MEDMESH_DATA").map_or_else(|| beside.into(), PathBuf::from);
    let mut files = Vec::new();
    for part in ["us-core-examples", "fhir-test-cases-r4"] {
        json_files(&data.join("fhir-r4").join(part), &mut files);
    }
    let (mut present, mut extracted) = (BTreeSet::new(), BTreeMap::new());
    for file in &files {
        let text = std::fs::read_to_string(file).expect("an example");
        let Ok(json) = Json::parse(&text) else {
            continue;
        };
        let Some(kind) = json.object().and_then(|object| object.text("resourceType")) else {
            continue;
        };
        let found = extract(&json, "https://own.example/fhir");
        for compiled in compiled_of(kind) {
            let name = format!("{kind} {}", compiled.param.code);
            let values = compiled.path.evaluate(&json, Surroundings::default());
            let values =
                values.unwrap_or_else(|error| panic!("{}: {name}: {error}", file.display()));
            let rows = found
                .iter()
                .filter(|row| row.param == compiled.param.code)
                .count();
            let kind = compiled.param.kind;
            if kind != Kind::Composite && values.iter().any(|item| leads(kind, item)) {
                present.insert(name.clone());
            }
            *extracted.entry(name).or_insert(0) += rows;
        }
    }
    let missing: Vec<&String> = present
        .iter()
        .filter(|name| extracted.get(*name) == Some(&0))
        .collect();
    assert!(
        missing.is_empty(),
        "{missing:?} of {} parameters with an element",
        present.len()
    );
    let covered = extracted.values().filter(|rows| **rows > 0).count();
    eprintln!(
        "{covered} of {} parameters of the types of {} examples are extracted",
        extracted.len(),
        files.len()
    );
    assert!(covered > 250, "{covered}");
}
