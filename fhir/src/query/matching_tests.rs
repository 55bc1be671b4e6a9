//! From resources and queries to what is found, over extraction, parsing and matching together.
use super::*;
use crate::{
    bases::Bases,
    contract::searching::{BASE, CASES, NOW_MS, RESOURCES, STEP_MS},
    json::Json,
    query::{Context, Handling, compartment, extract, parse},
};

fn found(kind: &str, query: &str) -> Vec<String> {
    let trees: Vec<Json<'_>> = RESOURCES
        .iter()
        .map(|text| Json::parse(text).expect("JSON"))
        .collect();
    let rows: Vec<Vec<IndexRow>> = trees.iter().map(|tree| extract(tree, BASE)).collect();
    let all: Vec<Found<'_>> = trees
        .iter()
        .zip(&rows)
        .enumerate()
        .map(|(at, (tree, rows))| Found {
            resource_type: tree
                .object()
                .and_then(|object| object.text("resourceType"))
                .expect("a type"),
            id: tree
                .object()
                .and_then(|object| object.text("id"))
                .expect("an id"),
            last_updated: i64::try_from(at).expect("few") * STEP_MS,
            rows,
        })
        .collect();
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let context = Context {
        now: NOW_MS,
        base: Bases::of(BASE),
        handling: Handling::Strict,
    };
    let kind = Some(kind).filter(|kind| !kind.is_empty());
    let search =
        parse(kind, &pairs, context).unwrap_or_else(|problem| panic!("{query}: {problem}"));
    all.iter()
        .filter(|one| matches(&search, one, &all))
        .map(|one| one.id.to_owned())
        .collect()
}

#[test]
fn every_search_finds_what_was_found_by_hand() {
    let mut checked = 0;
    for (kind, query, expected) in CASES.iter().copied().flatten() {
        assert_eq!(&found(kind, query), expected, "{kind}?{query}");
        checked += 1;
    }
    assert!(checked > 130, "{checked}");
}

#[test]
fn a_compartment_has_what_refers_to_its_resource_and_the_resource_itself() {
    let patient = |kind: &str| compartment("Patient", "p1", kind);
    assert!(patient("Organization").is_none() && patient("Observation").is_some());
    let tree = Json::parse(RESOURCES[0]).expect("JSON");
    let rows = extract(&tree, BASE);
    let found = |id| Found {
        resource_type: "Patient",
        id,
        last_updated: 0,
        rows: &rows,
    };
    let filter = patient("Patient").expect("patients are in their own");
    assert!(holds(&filter, &found("p1"), &[]) && !holds(&filter, &found("p9"), &[]));
    let tree = Json::parse(RESOURCES[4]).expect("JSON");
    let rows = extract(&tree, BASE);
    let observation = Found {
        resource_type: "Observation",
        id: "a",
        last_updated: 0,
        rows: &rows,
    };
    assert!(holds(
        &patient("Observation").expect("in it"),
        &observation,
        &[]
    ));
    let other = compartment("Patient", "p2", "Observation").expect("in it");
    assert!(!holds(&other, &observation, &[]));
}
