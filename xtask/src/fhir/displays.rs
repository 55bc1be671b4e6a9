//! The table of what HL7's code systems call their codes, of the definitions as JSON. Pure.
use super::tables::{definitions, list, resources, text};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// With what the URIs of code systems begin that HL7 publishes under CC0.
const HL7: [&str; 2] = ["http://hl7.org/fhir/", "http://terminology.hl7.org/"];

/// `=system`, then one line ` code<tab>display` for each code that has one: of the systems of HL7 in any value set to which
/// an element of R4 is bound, however strongly.
pub fn displays(profiles: &[Value; 2], sets: &[Value; 3]) -> Result<String> {
    let mut known: BTreeMap<&str, &Value> = BTreeMap::new();
    for resource in sets.iter().flat_map(resources) {
        known.insert(text(resource, "url"), resource);
    }
    let mut out = String::new();
    for system in systems(profiles, &known) {
        let Some(definition) = known.get(system) else {
            continue;
        };
        let mut lines = Vec::new();
        named(list(definition, "concept"), &mut lines);
        if lines.is_empty() {
            continue;
        }
        out.push_str(&format!("={system}\n"));
        for (code, display) in lines {
            let is_a_line = |text: &str| !text.contains(['\t', '\n', '\r']);
            ensure!(
                is_a_line(code) && is_a_line(display),
                "the display of {code} of {system} is no line"
            );
            out.push_str(&format!(" {code}\t{display}\n"));
        }
    }
    Ok(out)
}

/// The code systems of HL7 in the value sets to which elements are bound, and in those of which these are made.
fn systems<'a>(profiles: &'a [Value; 2], known: &BTreeMap<&str, &'a Value>) -> BTreeSet<&'a str> {
    let elements = definitions(profiles).flat_map(|one| list(&one["differential"], "element"));
    let mut open: Vec<&str> = elements
        .map(|element| unversioned(text(&element["binding"], "valueSet")))
        .collect();
    let (mut seen, mut systems) = (BTreeSet::new(), BTreeSet::new());
    while let Some(url) = open.pop() {
        let Some(set) = known.get(url).filter(|_| seen.insert(url)) else {
            continue;
        };
        for include in list(&set["compose"], "include") {
            let system = text(include, "system");
            if HL7.iter().any(|begin| system.starts_with(begin)) {
                systems.insert(system);
            }
            let others = list(include, "valueSet").iter().filter_map(Value::as_str);
            open.extend(others.map(unversioned));
        }
    }
    systems
}

fn unversioned(url: &str) -> &str {
    url.split('|').next().unwrap_or_default()
}

fn named<'a>(concepts: &'a [Value], lines: &mut Vec<(&'a str, &'a str)>) {
    for concept in concepts {
        let display = text(concept, "display").trim();
        if !display.is_empty() {
            lines.push((text(concept, "code"), display));
        }
        named(list(concept, "concept"), lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_codes_of_a_system_to_which_an_element_is_bound_are_listed_with_what_they_are_called() {
        let of = |resource: Value| json!({"entry": [{"resource": resource}]});
        let definition = json!({
            "resourceType": "StructureDefinition", "name": "Thing", "kind": "resource", "fhirVersion": "4.0.1",
            "differential": {"element": [{"path": "Thing.kind",
                "binding": {"strength": "example", "valueSet": "http://hl7.org/fhir/ValueSet/kinds|4.0.1"}}]},
        });
        let bound = json!({"url": "http://hl7.org/fhir/ValueSet/kinds", "compose": {"include": [
            {"valueSet": ["http://hl7.org/fhir/ValueSet/others"]}, {"system": "urn:somebody"}]}});
        let other = json!({"url": "http://hl7.org/fhir/ValueSet/others", "compose": {"include": [
            {"system": "http://hl7.org/fhir/kind"}]}});
        let system = json!({"url": "http://hl7.org/fhir/kind", "concept": [
            {"code": "a", "display": "Kind A ", "concept": [{"code": "b", "display": "Kind B"}]}, {"code": "c"}]});
        let unbound = json!({"url": "http://hl7.org/fhir/unbound", "concept": [{"code": "a", "display": "A"}]});
        let somebodys = json!({"url": "urn:somebody", "concept": [{"code": "a", "display": "A"}]});
        let all = [bound, other, system, unbound, somebodys];
        let entries: Vec<Value> = all.map(|one| json!({"resource": one})).into();
        let sets = [json!({"entry": entries}), json!({}), json!({})];
        let table = displays(&[of(definition), json!({})], &sets).unwrap();
        assert_eq!(table, "=http://hl7.org/fhir/kind\n a\tKind A\n b\tKind B\n");
    }
}
