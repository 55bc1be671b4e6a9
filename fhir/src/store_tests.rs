//! Tests of what all engines share: stamping, decisions, conflict lists.
use super::*;
use crate::contract::fixture;

fn stored(json: &str) -> Stored {
    Stored {
        kind: ResourceType::Device,
        id: "d".parse().unwrap(),
        version: 3,
        updated: Timestamp(0),
        json: json.to_owned(),
    }
}

#[test]
fn version_and_time_are_added_and_every_other_character_stays() {
    const STAMP: &str = r#""versionId":"3","lastUpdated":"1970-01-01T00:00:00.000Z""#;
    for (json, expected) in [
        (
            r#"{"id":"d","x":1E5}"#,
            format!(r#"{{"id":"d","meta":{{{STAMP}}},"x":1E5}}"#),
        ),
        (
            r#"{"id":"d","meta":{"tag":[{"code":"a b"}]},"x":72.50}"#,
            format!(r#"{{"id":"d","meta":{{{STAMP},"tag":[{{"code":"a b"}}]}},"x":72.50}}"#),
        ),
        (
            r#"{"meta":{},"id":"d"}"#,
            format!(r#"{{"meta":{{{STAMP}}},"id":"d"}}"#),
        ),
        (
            r#"{"meta": { } ,"id":"d"}"#,
            format!(r#"{{"meta":{{{STAMP}}},"id":"d"}}"#),
        ),
    ] {
        assert_eq!(stored(json).stamped().unwrap().get(), expected);
    }
}

#[test]
fn what_is_stored_and_is_no_object_is_corrupt() {
    for json in ["", "[]", "{\"id\":"] {
        assert_eq!(stored(json).stamped().unwrap_err().kind, Kind::Corrupt);
    }
}

#[test]
fn readings_never_change_and_patients_do() {
    let reading = fixture::observation(1);
    let patient = fixture::patient(1, 1950);
    for (known, new, expected) in [
        (None, &reading, Decision::Write(1)),
        (Some((1, reading.json())), &reading, Decision::Same),
        (Some((1, "other")), &reading, Decision::Conflict),
        (None, &patient, Decision::Write(1)),
        (Some((4, patient.json())), &patient, Decision::Same),
        (Some((4, "other")), &patient, Decision::Write(5)),
    ] {
        assert_eq!(decide(known, new), expected);
    }
}

#[test]
fn conflicts_round_trip_through_their_text() {
    for list in [vec![], vec![0], vec![3, 17, 40_000]] {
        assert_eq!(conflicts_of(&conflicts_text(&list)), list);
    }
}

#[test]
fn a_schema_that_is_newer_than_this_binary_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fhir.db");
    drop(crate::sqlite::SqliteStore::open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    let refused = crate::sqlite::SqliteStore::open(&path)
        .map(drop)
        .unwrap_err();
    assert_eq!(refused.kind, Kind::Refused);
}
