//! The rules of R4 over several elements that guard what is stored, each by its key in the definitions.
//!
//! Not all of R4's: those that only advise, those that need other resources, and those of definitions (profiles,
//! operations, capability statements, maps, tests) are left out.
mod clinical;
mod data_types;
mod forms;
mod others;
mod shapes;
#[cfg(test)]
mod tests;

use crate::json::{Json, Object};
use clinical::CLINICAL;
use data_types::DATA_TYPES;
pub use data_types::{NO_COMPARATOR, simple};
use forms::FORMS;
use others::OTHERS;
use shapes::{BUNDLE, ENTRY, EXTENSION, QUANTITY, REPEAT, observation, problem};
use std::collections::HashSet;

/// A rule that holds of an object.
#[derive(Debug)]
pub struct Rule {
    /// Its key in the definitions.
    pub key: &'static str,
    /// The element that is told; the object itself where it is empty.
    pub element: &'static str,
    holds: fn(&Object<'_>) -> bool,
    /// The rule in words.
    pub words: &'static str,
}

impl Rule {
    /// Whether an object of the rule's shape keeps it.
    pub fn holds(&self, object: &Object<'_>) -> bool {
        (self.holds)(object)
    }
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

/// Whether one of the members is there, whatever its type when it is a choice.
fn any(object: &Object<'_>, elements: &[&str]) -> bool {
    elements.iter().any(|element| has(object, element))
}

/// Whether an element is there. `value[x]` stands for each of its types.
fn has(object: &Object<'_>, element: &str) -> bool {
    match element.strip_suffix("[x]") {
        None => object.has(element),
        Some(base) => object.0.iter().any(|(name, _)| {
            let name = match name.as_bytes() {
                [b'_', ..] => name.trim_start_matches('_'),
                _ => name,
            };
            let rest = name.as_bytes().strip_prefix(base.as_bytes());
            rest.is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_uppercase))
        }),
    }
}

/// Whether just one of the members is there.
fn only(object: &Object<'_>, elements: &[&str]) -> bool {
    let given = elements.iter().filter(|element| has(object, element));
    given.count() == 1
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

/// The rules of a shape.
pub fn rules_of(shape: &str) -> &'static [Rule] {
    match shape {
        "Quantity" => QUANTITY,
        "Observation" | "Observation.component" | "Observation.referenceRange" => {
            observation(shape)
        }
        "Bundle" => BUNDLE,
        "Bundle.entry" => ENTRY,
        "Timing.repeat" => REPEAT,
        "Condition" | "AllergyIntolerance" => problem(shape),
        "Extension" => EXTENSION,
        _ => {
            let mut others = [OTHERS, CLINICAL, FORMS, DATA_TYPES].into_iter().flatten();
            let found = others.find(|(known, _)| *known == shape);
            found.map_or(&[], |(_, rules)| *rules)
        }
    }
}

/// What holds of a resource within another, and its own element that it is told of.
pub const CONTAINED: &[Rule] = &[
    rule(
        "dom-2",
        "contained",
        |one| !one.has("contained"),
        "what is contained contains nothing",
    ),
    rule(
        "dom-4",
        "meta",
        |one| !in_meta(one, &["versionId", "lastUpdated"]),
        "what is contained has no version and no time of its own",
    ),
    rule(
        "dom-5",
        "meta",
        |one| !in_meta(one, &["security"]),
        "what is contained has no security label of its own",
    ),
];

fn in_meta(object: &Object<'_>, names: &[&str]) -> bool {
    let meta = object.get("meta").and_then(Json::object);
    meta.is_some_and(|meta| any(meta, names))
}

/// FHIR R4 dom-3, in words.
pub const UNUSED: &str = "what is contained is referred to, or refers to its container";

/// The places of what a resource contains without a use: nothing in it refers to them, nor they to it.
pub fn unused(object: &Object<'_>) -> Vec<usize> {
    let contained: Vec<&Object<'_>> = object.each("contained").filter_map(Json::object).collect();
    if contained.is_empty() {
        return Vec::new();
    }
    let mut local = HashSet::new();
    for (_, value) in &object.0 {
        local_references(value, &mut local);
    }
    let is_unused = |one: &&Object<'_>| {
        let mut own = HashSet::new();
        for (_, value) in &one.0 {
            local_references(value, &mut own);
        }
        let is_referred_to = one.text("id").is_some_and(|id| local.contains(id));
        !is_referred_to && !own.contains("")
    };
    let unused = (0..).zip(&contained).filter(|(_, one)| is_unused(one));
    unused.map(|(index, _)| index).collect()
}

/// FHIR R4 references.html#contained, in words.
pub const DOUBLED: &str = "an id stands once among what is contained";

/// The places of what a resource contains under an id that another one has before it.
pub fn doubled(object: &Object<'_>) -> Vec<usize> {
    let contained = object.each("contained");
    let ids = contained.map(|one| one.object().and_then(|one| one.text("id")));
    let mut known = HashSet::new();
    let all = (0..).zip(ids);
    let doubled = all.filter(|(_, id)| id.is_some_and(|id| !known.insert(id)));
    doubled.map(|(index, _)| index).collect()
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
