//! Every example of the specification and of US Core is stored and read back equal in meaning.
use super::*;
use crate::json::Object;
use crate::sqlite::SqliteStore;
use crate::store::{Change, Expect, ResourceStore, Transacted, Transaction};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use types::Timestamp;

fn files() -> Vec<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = std::env::var_os("MEDMESH_DATA").map_or_else(|| beside.into(), PathBuf::from);
    let mut found = Vec::new();
    for part in ["us-core-examples", "fhir-test-cases-r4"] {
        json_files(&data.join("fhir-r4").join(part), &mut found);
    }
    found
}

fn json_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            json_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "json") {
            found.push(path);
        }
    }
}

/// The members by their names, without what the server says of a resource.
fn meaning(object: &Object<'_>) -> BTreeMap<String, String> {
    let members = object.0.iter().filter(|(name, _)| name != "id");
    let texts = members.map(|(name, value)| {
        let value = match (name.as_ref(), value) {
            ("meta", Json::Object(meta)) => {
                let kept = meta
                    .0
                    .iter()
                    .filter(|(name, _)| name != "versionId" && name != "lastUpdated");
                Json::Object(Object(kept.cloned().collect()))
            }
            _ => value.clone(),
        };
        (name.to_string(), format!("{value:?}"))
    });
    texts
        .filter(|(name, text)| name != "meta" || text != "Object(Object([]))")
        .collect()
}

#[tokio::test]
#[cfg_attr(not(medmesh_data), ignore = "needs the examples: MEDMESH_DATA")]
async fn every_example_that_is_r4_is_stored_and_read_back_equal_in_meaning() {
    let texts: Vec<String> = files()
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let mut originals = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        if let Ok(kind) = r4::validate(text) {
            let id: FhirId = format!("example-{number}").parse().unwrap();
            originals.push((ResourceType::parse(kind).unwrap(), id, text));
        }
    }
    // All but the ten that are not R4, which are listed where that is judged.
    assert!(texts.len() > 300, "{}", texts.len());
    assert_eq!(originals.len() + 10, texts.len());
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
    let changes = originals.iter().map(|(kind, id, text)| Change::Put {
        draft: Draft::parse(&Holding::Identified, *kind, id.clone(), text, "").unwrap(),
        expect: Expect::Absent,
    });
    let transaction = Transaction {
        author: "loader".into(),
        now: Timestamp(1),
        changes: changes.collect(),
        guards: Vec::new(),
    };
    let done = store.transact(transaction).await.unwrap();
    assert!(matches!(done, Transacted::Done(done) if done.len() == originals.len()));
    for (kind, id, text) in &originals {
        let stored = store.read(*kind, id).await.unwrap().unwrap();
        let (stored, original) = (
            Json::parse(&stored.json).unwrap(),
            Json::parse(text).unwrap(),
        );
        let (stored, original) = (stored.object().unwrap(), original.object().unwrap());
        assert_eq!(stored.text("id"), Some(id.as_str()));
        assert_eq!(meaning(stored), meaning(original), "{kind}/{id}");
    }
}
