//! The tables as text, of the definitions as JSON. Pure.
//!
//! One line is one element, value set or search parameter, so that a new version of the definitions shows as a
//! difference that a person can read. `fhir::r4` reads them.
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What stands before the name of every type and value set of FHIR.
const DEFINITION: &str = "http://hl7.org/fhir/StructureDefinition/";
/// A string of FHIRPath, which an attribute of XML has for a type.
const SYSTEM_STRING: &str = "http://hl7.org/fhirpath/System.String";

/// The types of R4 itself: no profiles, no models of something else, nothing of a later version.
pub(super) fn definitions(bundles: &[Value; 2]) -> impl Iterator<Item = &Value> {
    bundles.iter().flat_map(resources).filter(|resource| {
        text(resource, "resourceType") == "StructureDefinition"
            && text(resource, "derivation") != "constraint"
            && text(resource, "kind") != "logical"
            && text(resource, "fhirVersion") == "4.0.1"
    })
}

pub(super) fn resources(bundle: &Value) -> impl Iterator<Item = &Value> {
    list(bundle, "entry").iter().map(|entry| &entry["resource"])
}

pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The last step of a URL, without the version behind a bar.
fn short(url: &str) -> &str {
    let url = url.split('|').next().unwrap_or_default();
    url.rsplit('/').next().unwrap_or_default()
}

/// `Name Base kind`, then one line ` path min max types [=value set] [^] [!]` for each element of its own; `^` stands behind
/// what belongs to the summary of a resource, `!` behind what may change the meaning of what is beside it.
pub fn types(bundles: &[Value; 2]) -> Result<String> {
    let mut out = String::new();
    for definition in definitions(bundles) {
        let name = text(definition, "name");
        let base = short(text(definition, "baseDefinition"));
        let kind = match (text(definition, "kind"), definition["abstract"].as_bool()) {
            (_, Some(true)) => "abstract",
            ("resource", _) => "resource",
            ("primitive-type", _) => "primitive",
            _ => "complex",
        };
        let base = if base.is_empty() { "-" } else { base };
        out.push_str(&format!("{name} {base} {kind}\n"));
        if kind == "primitive" {
            continue;
        }
        for element in list(&definition["differential"], "element") {
            let Some(path) = text(element, "path").strip_prefix(&format!("{name}.")) else {
                continue;
            };
            out.push_str(&line(name, path, element)?);
        }
    }
    Ok(out)
}

fn line(name: &str, path: &str, element: &Value) -> Result<String> {
    let (min, max) = (element["min"].as_u64(), text(element, "max"));
    let min = min.with_context(|| format!("{name}.{path} has no least number"))?;
    ensure!(
        max == "1" || max == "*",
        "{name}.{path} may stand {max} times"
    );
    let types = match element["contentReference"].as_str() {
        Some(of) => {
            let of = of.strip_prefix(&format!("#{name}."));
            format!(
                "#{}",
                of.with_context(|| format!("{name}.{path} refers elsewhere"))?
            )
        }
        None => {
            let types = list(element, "type")
                .iter()
                .map(|kind| type_of(name, path, kind));
            types.collect::<Vec<_>>().join(",")
        }
    };
    let set = match text(&element["binding"], "strength") {
        "required" => format!(" ={}", short(text(&element["binding"], "valueSet"))),
        _ => String::new(),
    };
    let marked = |flag: &str, mark: &'static str| match element[flag].as_bool() {
        Some(true) => mark,
        _ => "",
    };
    let marks = [marked("isSummary", " ^"), marked("isModifier", " !")].concat();
    Ok(format!(" {path} {min} {max} {types}{set}{marks}\n"))
}

/// A type, with the types that a reference may lead to.
fn type_of(name: &str, path: &str, kind: &Value) -> String {
    let code = match (text(kind, "code"), name, path) {
        (SYSTEM_STRING, "Resource", "id") => "id",
        (SYSTEM_STRING, "Extension", "url") => "uri",
        (SYSTEM_STRING, ..) => "string",
        (code, ..) => code,
    };
    let targets = list(kind, "targetProfile").iter().filter_map(Value::as_str);
    let targets: Vec<&str> = targets
        .map(|url| url.strip_prefix(DEFINITION).unwrap_or(url))
        .collect();
    if code != "Reference" || targets.is_empty() || targets.contains(&"Resource") {
        return code.to_owned();
    }
    format!("{code}({})", targets.join("|"))
}

/// `=name`, then one line ` system code code …` for each code system of it. Value sets that the definitions do not list
/// (media types, currencies, units) are left out: nothing is said of their codes.
pub fn codes(profiles: &[Value; 2], sets: &[Value; 3]) -> Result<String> {
    let mut known: BTreeMap<&str, &Value> = BTreeMap::new();
    for resource in sets.iter().flat_map(resources) {
        known.insert(text(resource, "url"), resource);
    }
    let elements = definitions(profiles).flat_map(|one| list(&one["differential"], "element"));
    let bound: BTreeSet<&str> = elements
        .map(|element| &element["binding"])
        .filter(|binding| text(binding, "strength") == "required")
        .map(|binding| text(binding, "valueSet"))
        .map(|url| url.split('|').next().unwrap_or_default())
        .collect();
    let (mut out, mut names) = (String::new(), BTreeSet::new());
    for url in bound {
        ensure!(
            names.insert(short(url)),
            "two value sets are called {}",
            short(url)
        );
        let Some(systems) = known.get(url).and_then(|set| expanded(set, &known)) else {
            continue;
        };
        out.push_str(&format!("={}\n", short(url)));
        for (system, codes) in systems {
            let spaced = codes.iter().find(|code| code.contains(' '));
            ensure!(spaced.is_none(), "a code of {url} has a space: {spaced:?}");
            out.push_str(&format!(" {system} {}\n", codes.join(" ")));
        }
    }
    Ok(out)
}

type Systems<'a> = Vec<(&'a str, Vec<&'a str>)>;

/// The codes of a value set by system; none when it is not listed here.
fn expanded<'a>(set: &'a Value, known: &BTreeMap<&str, &'a Value>) -> Option<Systems<'a>> {
    let compose = &set["compose"];
    if !list(compose, "exclude").is_empty() {
        return None;
    }
    let mut systems = Systems::new();
    for include in list(compose, "include") {
        if !list(include, "filter").is_empty() || !list(include, "valueSet").is_empty() {
            return None;
        }
        let system = text(include, "system");
        let mut codes = Vec::new();
        match list(include, "concept") {
            [] => all_codes(list(known.get(system)?, "concept"), &mut codes),
            concepts => codes.extend(concepts.iter().map(|concept| text(concept, "code"))),
        }
        systems.push((system, codes));
    }
    Some(systems)
}

fn all_codes<'a>(concepts: &'a [Value], codes: &mut Vec<&'a str>) {
    for concept in concepts {
        codes.push(text(concept, "code"));
        all_codes(list(concept, "concept"), codes);
    }
}

/// One line of each search parameter of each type: type, name, kind, expression, targets of a reference, parts of a
/// composite as `name=expression;…`, with tabs between them.
pub fn search(profiles: &[Value; 2], bundle: &Value) -> Result<String> {
    let types: BTreeSet<&str> = definitions(profiles).map(|one| text(one, "name")).collect();
    let mut names = BTreeMap::new();
    for one in resources(bundle) {
        names.insert(text(one, "url"), text(one, "code"));
    }
    let mut lines = BTreeSet::new();
    for one in resources(bundle) {
        let bases = list(one, "base").iter().filter_map(Value::as_str);
        for base in bases.filter(|base| types.contains(base)) {
            let expression = of_base(base, text(one, "expression"));
            let targets = list(one, "target").iter().filter_map(Value::as_str);
            let targets: Vec<&str> = targets.filter(|target| types.contains(target)).collect();
            let mut parts = Vec::new();
            for part in list(one, "component") {
                let Some(name) = names.get(text(part, "definition")) else {
                    bail!("a part of {} is no search parameter", text(one, "url"));
                };
                parts.push(format!("{name}={}", text(part, "expression")));
            }
            let fields = [
                base,
                text(one, "code"),
                text(one, "type"),
                &expression,
                &targets.join("|"),
                &parts.join(";"),
            ];
            lines.insert(fields.join("\t").trim_end().to_owned() + "\n");
        }
    }
    Ok(lines.into_iter().collect())
}

/// One line of each type of each compartment: compartment, type, the parameters that put a resource into it.
pub fn compartments(profiles: &[Value; 2]) -> Result<String> {
    let types: BTreeSet<&str> = definitions(profiles).map(|one| text(one, "name")).collect();
    let mut lines = BTreeSet::new();
    let all = profiles.iter().flat_map(resources);
    for one in all.filter(|one| text(one, "resourceType") == "CompartmentDefinition") {
        let code = text(one, "code");
        ensure!(types.contains(code), "{code} is no compartment of R4");
        for resource in list(one, "resource") {
            let params: Vec<&str> = list(resource, "param")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let kind = text(resource, "code");
            if !params.is_empty() && types.contains(kind) {
                lines.insert(format!("{code} {kind} {}\n", params.join(" ")));
            }
        }
    }
    Ok(lines.into_iter().collect())
}

/// The parts of an expression that begin with the type; of one for every type, all of them.
fn of_base(base: &str, expression: &str) -> String {
    let parts: Vec<&str> = expression.split('|').map(str::trim).collect();
    let begins = |part: &&&str| {
        let rest = part.trim_start_matches('(').strip_prefix(base);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
    };
    let own: Vec<&str> = parts.iter().filter(begins).copied().collect();
    match own.is_empty() {
        true => parts.join(" | "),
        false => own.join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bundle(resource: Value) -> Value {
        json!({"entry": [{"resource": resource}]})
    }

    fn profiles() -> [Value; 2] {
        let definition = json!({
            "resourceType": "StructureDefinition", "name": "Thing", "kind": "resource", "abstract": false,
            "fhirVersion": "4.0.1", "derivation": "specialization",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/DomainResource",
            "differential": {"element": [
                {"path": "Thing", "min": 0, "max": "*"},
                {"path": "Thing.status", "min": 1, "max": "1", "type": [{"code": "code"}],
                 "binding": {"strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/states|4.0.1"}},
                {"path": "Thing.part.of", "min": 0, "max": "*", "contentReference": "#Thing.part"},
                {"path": "Thing.owner[x]", "min": 0, "max": "1", "type": [
                    {"code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Patient"]},
                    {"code": "string"}]},
            ]},
        });
        let later =
            json!({"resourceType": "StructureDefinition", "name": "Later", "fhirVersion": "4.3.0"});
        [bundle(definition), bundle(later)]
    }

    #[test]
    fn a_type_is_a_line_and_so_is_each_of_its_elements() {
        let expected = "Thing DomainResource resource\n status 1 1 code =states\n part.of 0 * #part\n owner[x] 0 1 Reference(Patient),string\n";
        assert_eq!(types(&profiles()).unwrap(), expected);
    }

    #[test]
    fn what_belongs_to_the_summary_is_marked_and_compartments_are_lines() {
        let definition = json!({
            "resourceType": "StructureDefinition", "name": "Thing", "kind": "resource", "fhirVersion": "4.0.1",
            "differential": {"element": [
                {"path": "Thing.name", "min": 0, "max": "1", "isSummary": true, "isModifier": true, "type": [{"code": "string"}]},
            ]},
        });
        let compartment = json!({
            "resourceType": "CompartmentDefinition", "code": "Thing",
            "resource": [{"code": "Thing", "param": ["a", "b"]}, {"code": "Unknown", "param": ["a"]}],
        });
        let profiles = [bundle(definition), bundle(compartment)];
        assert_eq!(
            types(&profiles).unwrap(),
            "Thing - resource\n name 0 1 string ^ !\n"
        );
        assert_eq!(compartments(&profiles).unwrap(), "Thing Thing a b\n");
    }

    #[test]
    fn a_required_value_set_is_listed_with_its_systems() {
        let set = json!({"url": "http://hl7.org/fhir/ValueSet/states", "compose": {"include": [{"system": "urn:s"}]}});
        let system = json!({"url": "urn:s", "concept": [{"code": "a", "concept": [{"code": "b"}]}, {"code": "c"}]});
        let sets = [bundle(set), bundle(system), json!({})];
        assert_eq!(
            codes(&profiles(), &sets).unwrap(),
            "=states\n urn:s a b c\n"
        );
        let nothing = [json!({}), json!({}), json!({})];
        assert_eq!(codes(&profiles(), &nothing).unwrap(), "");
    }

    #[test]
    fn a_search_parameter_has_the_expressions_of_its_type_alone() {
        let parameter = json!({
            "url": "u", "code": "owner", "base": ["Thing", "Unknown"], "type": "reference", "target": ["Thing"],
            "expression": "Thingy.owner | (Thing.owner as Reference) | Other.owner",
        });
        let line = search(&profiles(), &bundle(parameter)).unwrap();
        assert_eq!(
            line,
            "Thing\towner\treference\t(Thing.owner as Reference)\tThing\n"
        );
    }
}
