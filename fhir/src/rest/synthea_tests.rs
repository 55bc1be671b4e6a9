//! The bundles of Synthea (synthetic patients with their records) are loaded as transactions where identified data may be
//! held, and read back equal in meaning.
use super::*;
use crate::admit::Holding;
use crate::contract::fixture;
use flate2::read::GzDecoder;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

fn bundles() -> Vec<Value> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = std::env::var_os("MEDMESH_DATA").map_or_else(|| beside.into(), PathBuf::from);
    let files = std::fs::read_dir(data.join("fhir-r4/synthea-bundles")).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let mut text = String::new();
        let file = std::fs::File::open(path).unwrap();
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    paths.iter().map(read).collect()
}

/// The references of a value that are conditions.
fn conditions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let reference = members.get("reference").and_then(Value::as_str);
            found.extend(
                reference
                    .filter(|text| text.contains('?'))
                    .map(str::to_owned),
            );
            members.values().for_each(|value| conditions(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| conditions(value, found)),
        _ => {}
    }
}

/// The value with its references as they are here.
fn resolved(value: &Value, names: &BTreeMap<String, String>) -> Value {
    let member = |(name, value): (&String, &Value)| {
        let reference = value.as_str().filter(|_| name == "reference");
        let here = reference.and_then(|reference| names.get(reference));
        let value = match here {
            Some(here) => here.clone().into(),
            None => resolved(value, names),
        };
        (name.clone(), value)
    };
    match value {
        Value::Object(members) => {
            let members: Map<String, Value> = members.iter().map(member).collect();
            members.into()
        }
        Value::Array(list) => list.iter().map(|one| resolved(one, names)).collect(),
        other => other.clone(),
    }
}

pub fn without_what_the_server_says(mut resource: Value) -> Value {
    let members = resource.as_object_mut().unwrap();
    members.remove("id");
    if let Some(meta) = members.get_mut("meta").and_then(Value::as_object_mut) {
        meta.remove("versionId");
        meta.remove("lastUpdated");
        if meta.is_empty() {
            members.remove("meta");
        }
    }
    resource
}

/// Who and what the bundles refer to by an identifier, which Synthea has in bundles of their own.
fn referred_to(condition: &str) -> Value {
    let (kind, identifier) = condition.split_once("?identifier=").unwrap();
    let (system, value) = identifier.split_once('|').unwrap();
    let entry = json!({
        "resourceType": kind,
        "identifier": [{"system": system, "value": value}],
    });
    json!({"resource": entry, "request": {"method": "POST", "url": kind,
        "ifNoneExist": format!("identifier={system}|{value}")}})
}

pub async fn identified() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
    let (store, log): (_, Arc<access::Rows>) = (Arc::new(store), Arc::default());
    let api = FhirApi {
        holding: Arc::new(|| Holding::Identified),
        ..api_over(store.clone(), true, Arc::clone(&log), None)
    };
    let deliver = fixture::delivery(1, 0..1);
    store.apply(vec![deliver], Timestamp(1)).await.unwrap();
    Fixture {
        dir,
        router: api.router(),
        log,
        store,
    }
}

/// Where each entry is, by its response.
fn places(reply: &Value) -> Vec<String> {
    let entries = reply["entry"].as_array().unwrap().iter();
    let place = |entry: &Value| {
        let told = &entry["response"];
        assert_eq!(told["status"], "201 Created", "{entry}");
        let location = told["location"].as_str().unwrap();
        location.split("/_history").next().unwrap().to_owned()
    };
    entries.map(place).collect()
}

#[tokio::test]
#[cfg_attr(not(medmesh_data), ignore = "needs the bundles: MEDMESH_DATA")]
async fn the_bundles_of_synthea_load_as_transactions_and_are_read_back_equal_in_meaning() {
    let api = identified().await;
    let bundles = bundles();
    assert!(bundles.len() >= 7);
    let mut all = Vec::new();
    bundles
        .iter()
        .for_each(|bundle| conditions(bundle, &mut all));
    all.sort();
    all.dedup();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for some in all.chunks(100) {
        let entries: Vec<Value> = some.iter().map(|one| referred_to(one)).collect();
        let reply = api.bundle("transaction", &entries.into()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        names.extend(some.iter().cloned().zip(places(&reply.json())));
    }
    let mut stored = 0;
    for bundle in &bundles {
        let body = bundle.to_string();
        let reply = api.write(Method::POST, "/fhir", &[], &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let places = places(&reply.json());
        let entries = bundle["entry"].as_array().unwrap();
        assert_eq!(places.len(), entries.len());
        for (entry, place) in entries.iter().zip(&places) {
            names.insert(entry["fullUrl"].as_str().unwrap().to_owned(), place.clone());
        }
        let (mut observed, mut patient) = (0, String::new());
        for (entry, place) in entries.iter().zip(&places) {
            let read = api.get(&format!("/fhir/{place}")).await;
            assert_eq!(read.status, StatusCode::OK, "{place}");
            let expected = without_what_the_server_says(resolved(&entry["resource"], &names));
            let found = without_what_the_server_says(read.json());
            assert_eq!(found, expected, "{place}");
            assert!(!found.to_string().contains("\"reference\":\"urn:uuid:"));
            stored += 1;
            observed += usize::from(place.starts_with("Observation/"));
            if place.starts_with("Patient/") {
                patient = place.clone();
            }
        }
        let path = format!("/fhir/Observation?patient={patient}&_count=1000");
        assert_eq!(api.get(&path).await.ids().len(), observed, "{patient}");
    }
    assert!(stored >= 1_800, "{stored}");
    let count = api.get("/fhir/Observation?_summary=count").await.json();
    let observed = names
        .values()
        .filter(|place| place.starts_with("Observation/"));
    assert_eq!(count["total"], observed.count() + 1);
}
