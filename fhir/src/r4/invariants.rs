//! The rules of R4 over several elements that guard what is stored, each by its key in the definitions.
//!
//! Not all of R4's: those that only advise, and those of definitions (profiles, operations), are left out.
mod others;
mod shapes;

use crate::json::{Json, Object};
use others::OTHERS;
use shapes::{BUNDLE, ENTRY, EXTENSION, QUANTITY, REPEAT, observation, problem};
use std::collections::HashSet;

/// A rule that holds of an object: its key, the element that is told, the test, and the rule in words.
struct Rule {
    key: &'static str,
    element: &'static str,
    holds: fn(&Object<'_>) -> bool,
    words: &'static str,
}

const fn rule(
    key: &'static str,
    element: &'static str,
    holds: fn(&Object<'_>) -> bool,
    words: &'static str,
) -> Rule {
    Rule {
        key,
        element,
        holds,
        words,
    }
}

/// The rules that an object of a shape breaks: key, element and words.
pub fn broken<'a>(
    shape: &str,
    object: &'a Object<'a>,
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> + use<'a> {
    let broken = rules_of(shape).iter().filter(|rule| !(rule.holds)(object));
    broken.map(|rule| (rule.key, rule.element, rule.words))
}

/// Whether one of the members is there, whatever its type when it is a choice.
fn any(object: &Object<'_>, elements: &[&str]) -> bool {
    elements.iter().any(|element| has(object, element))
}

/// Whether an element is there. `value[x]` stands for each of its types.
fn has(object: &Object<'_>, element: &str) -> bool {
    match element.strip_suffix("[x]") {
        None => object.has(element),
        Some(base) => object.0.iter().any(|(name, _)| {
            let rest = name.trim_start_matches('_').strip_prefix(base);
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
        }),
    }
}

/// What the first is there for needs the second.
fn needs(object: &Object<'_>, first: &str, second: &str) -> bool {
    !has(object, first) || has(object, second)
}

/// The codes of a concept.
fn codes<'a>(object: &'a Object<'a>, element: &str) -> Vec<&'a str> {
    let concepts = object.each(element).filter_map(Json::object);
    let codings = concepts
        .flat_map(|concept| concept.each("coding"))
        .filter_map(Json::object);
    codings.filter_map(|coding| coding.text("code")).collect()
}

fn number(object: &Object<'_>, element: &str) -> Option<f64> {
    match object.get(element)? {
        Json::Number(text) => text.parse().ok(),
        _ => None,
    }
}

fn rules_of(shape: &str) -> &'static [Rule] {
    match shape {
        "Quantity" | "Age" | "Count" | "Distance" | "Duration" => QUANTITY,
        "Observation" | "Observation.component" | "Observation.referenceRange" => {
            observation(shape)
        }
        "Bundle" => BUNDLE,
        "Bundle.entry" => ENTRY,
        "Timing.repeat" => REPEAT,
        "Condition" | "AllergyIntolerance" => problem(shape),
        "Extension" => EXTENSION,
        _ => {
            let others = OTHERS.iter().find(|(known, _)| *known == shape);
            others.map_or(&[], |(_, rules)| *rules)
        }
    }
}

/// The rules of a resource about what it contains, and about what contains it: key, path below it, and words.
pub fn of_resource(
    object: &Object<'_>,
    is_contained: bool,
) -> Vec<(&'static str, String, &'static str)> {
    let mut broken = Vec::new();
    if is_contained {
        let meta = object.get("meta").and_then(Json::object);
        let meta = |names: &[&str]| meta.is_some_and(|meta| any(meta, names));
        if object.has("contained") {
            broken.push((
                "dom-2",
                ".contained".into(),
                "what is contained contains nothing",
            ));
        }
        if meta(&["versionId", "lastUpdated"]) {
            broken.push((
                "dom-4",
                ".meta".into(),
                "what is contained has no version and no time of its own",
            ));
        }
        if meta(&["security"]) {
            broken.push((
                "dom-5",
                ".meta".into(),
                "what is contained has no security label of its own",
            ));
        }
        return broken;
    }
    let contained: Vec<&Object<'_>> = object.each("contained").filter_map(Json::object).collect();
    if contained.is_empty() {
        return broken;
    }
    let mut local = HashSet::new();
    for (_, value) in &object.0 {
        local_references(value, &mut local);
    }
    for (index, one) in contained.iter().enumerate() {
        let mut own = HashSet::new();
        for (_, value) in &one.0 {
            local_references(value, &mut own);
        }
        let is_referred_to = one.text("id").is_some_and(|id| local.contains(id));
        if !is_referred_to && !own.contains("") {
            broken.push((
                "dom-3",
                format!(".contained[{index}]"),
                "what is contained is referred to, or refers to its container",
            ));
        }
    }
    broken
}

/// What follows `#` in every text of a value that begins so.
fn local_references<'a>(value: &'a Json<'_>, found: &mut HashSet<&'a str>) {
    match value {
        Json::Text(text) => found.extend(text.strip_prefix('#')),
        Json::List(list) => list.iter().for_each(|value| local_references(value, found)),
        Json::Object(object) => object
            .0
            .iter()
            .for_each(|(_, value)| local_references(value, found)),
        _ => {}
    }
}
