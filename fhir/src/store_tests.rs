//! Tests of what all engines share: stamping, decisions, conflict lists.
use super::*;
use crate::axis::Commits;
use crate::contract::fixture;

const INSTANT: &str = "1970-01-01T00:00:00.000003Z";

fn stored(json: &str) -> Stored {
    Stored {
        kind: ResourceType::Device,
        id: "d".parse().unwrap(),
        version: 3,
        seq: 9,
        updated: Timestamp(0),
        source: None,
        json: json.to_owned(),
    }
}

#[test]
fn version_and_time_are_added_and_every_other_character_stays() {
    const STAMP: &str = r#""versionId":"3","lastUpdated":"1970-01-01T00:00:00.000003Z""#;
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
        // As what is stored begins.
        (
            r#"{"resourceType":"Device","id":"d"}"#,
            format!(r#"{{"resourceType":"Device","id":"d","meta":{{{STAMP}}}}}"#),
        ),
        (
            r#"{"resourceType":"Device","id":"d","x":[ 1E5 ]}"#,
            format!(r#"{{"resourceType":"Device","id":"d","meta":{{{STAMP}}},"x":[ 1E5 ]}}"#),
        ),
        (
            r#"{"resourceType":"Device","id":"d","meta":{ "tag":[]},"x":1}"#,
            format!(r#"{{"resourceType":"Device","id":"d","meta":{{{STAMP}, "tag":[]}},"x":1}}"#),
        ),
        (
            r#"{"resourceType":"Device","id":"d","meta":{ }}"#,
            format!(r#"{{"resourceType":"Device","id":"d","meta":{{{STAMP} }}}}"#),
        ),
        (
            r#"{"resourceType":"Device","id":"d","x":1,"meta":{"tag":[]}}"#,
            format!(r#"{{"resourceType":"Device","id":"d","x":1,"meta":{{{STAMP},"tag":[]}}}}"#),
        ),
        (
            r#"{"resourceType":"Device","id":"d","contained":[{"meta":{}}],"x":1}"#,
            format!(
                r#"{{"resourceType":"Device","id":"d","meta":{{{STAMP}}},"contained":[{{"meta":{{}}}}],"x":1}}"#
            ),
        ),
    ] {
        assert_eq!(stored(json).stamped(INSTANT).unwrap().get(), expected);
    }
}

#[test]
fn what_is_stored_and_is_no_object_is_corrupt() {
    for json in ["", "[]", "{\"id\":"] {
        assert_eq!(
            stored(json).stamped(INSTANT).unwrap_err().kind,
            Kind::Corrupt
        );
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
        let known = known.map(|(version, json)| known_of(version, json, Some("a")));
        assert_eq!(decide(known.as_ref(), new, "a"), expected);
        if known.is_some() {
            assert_eq!(decide(known.as_ref(), new, "b"), Decision::Foreign);
        }
    }
}

fn known_of(version: u32, json: &str, source: Option<&str>) -> Known {
    Known {
        version,
        json: json.to_owned(),
        source: source.map(str::to_owned),
    }
}

#[test]
fn what_was_stored_before_sources_were_kept_is_adopted_by_who_writes_it_first() {
    let patient = fixture::patient(1, 1950);
    let same = known_of(4, patient.json(), None);
    assert_eq!(decide(Some(&same), &patient, "a"), Decision::Adopt);
    let other = known_of(4, "other", None);
    assert_eq!(decide(Some(&other), &patient, "a"), Decision::Write(5));
}

#[test]
fn the_facility_is_shown_as_the_source() {
    let stored = Stored {
        source: Some(types::FacilityPseudonym::from_bytes([0xab; 16])),
        ..stored(r#"{"id":"d"}"#)
    };
    let source = format!(r#""source":"urn:medmesh:facility:{}""#, "ab".repeat(16));
    assert!(stored.stamped(INSTANT).unwrap().get().contains(&source));
}

#[tokio::test]
async fn a_store_of_the_first_version_keeps_its_resources_and_they_are_adopted() {
    use crate::sqlite::SqliteStore;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fhir.db");
    let store = SqliteStore::open(&path).unwrap();
    let delivery = |source, parcel| Delivery {
        source: fixture::source(source),
        ..fixture::delivery(parcel, 0..3)
    };
    store
        .apply(vec![delivery(1, 1)], Timestamp(1))
        .await
        .unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    // What versions 2 to 10 add is taken away.
    let back = "DROP INDEX history_order; DROP INDEX history_type; ALTER TABLE resource DROP COLUMN author;
        ALTER TABLE history DROP COLUMN author; ALTER TABLE resource DROP COLUMN source; DROP TABLE facility;
        ALTER TABLE history DROP COLUMN seq; DROP TABLE reader; PRAGMA user_version = 1";
    connection.execute_batch(&without_index()).unwrap();
    connection.execute_batch(back).unwrap();
    drop(connection);
    let store = SqliteStore::open(&path).unwrap();
    let first = fixture::observation(0);
    let read = async || store.read(first.kind(), first.id()).await.unwrap().unwrap();
    assert_eq!(read().await.source, None);
    let adopted = store.apply(vec![delivery(2, 2)], Timestamp(2)).await;
    assert_eq!(adopted.unwrap(), [Applied::default()]);
    assert_eq!(read().await.source, Some(fixture::source(2).fresh));
    let refused = store.apply(vec![delivery(1, 3)], Timestamp(3)).await;
    assert_eq!(refused.unwrap()[0].foreign, [0, 1, 2]);
}

/// What takes away what versions 5 and 6 add.
fn without_index() -> String {
    let tables = crate::query::sql::TABLES.iter();
    let drops = tables.map(|table| format!("DROP TABLE {};", table.name));
    drops.collect::<String>() + WITHOUT_SUBSCRIPTIONS
}

/// What takes away what versions 6, 8, 9 and 10 add.
const WITHOUT_SUBSCRIPTIONS: &str = "DROP INDEX resource_written; DROP INDEX history_others; \
     DROP INDEX resource_withdrawn; DROP TABLE index_rule; DROP TABLE index_job; \
     ALTER TABLE history DROP COLUMN posted; \
     ALTER TABLE head DROP COLUMN watching; DROP TABLE subscription; DROP TABLE event;";

#[tokio::test]
async fn a_store_from_before_subscriptions_keeps_its_index_and_gets_them() {
    use crate::sqlite::SqliteStore;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fhir.db");
    let store = SqliteStore::open(&path).unwrap();
    let patient = fixture::patient(1, 1950);
    let delivery = Delivery {
        resources: vec![patient.clone()],
        ..fixture::delivery(1, 0..0)
    };
    store.apply(vec![delivery], Timestamp(1)).await.unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let codes = "DROP INDEX index_token_0; CREATE INDEX index_token_0 ON index_token(type, param, code, system, id);";
    let back = format!("{WITHOUT_SUBSCRIPTIONS} {codes} PRAGMA user_version = 5");
    connection.execute_batch(&back).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let of_codes = "SELECT sql FROM sqlite_master WHERE name = 'index_token_0'";
    let index: String = connection
        .query_row(of_codes, [], |row| row.get(0))
        .unwrap();
    assert!(
        index.ends_with("(type, param, code, id, system)"),
        "{index}"
    );
    drop(connection);
    let all = store.event_store().subscriptions().await.unwrap();
    assert!(all.is_empty());
    let everything = crate::query::Filter::All(Vec::new());
    let of_patients = Find::of(patient.kind(), everything.clone(), 10);
    let found = store.find(&of_patients).await;
    assert_eq!(found.unwrap().resources.len(), 1);
    // It was made by the first rules, and is made anew while it is searched.
    assert_eq!(store.reindex("").await.unwrap(), Some(0));
    assert_eq!(store.reindex("").await.unwrap(), None);
    assert_eq!(store.count(&of_patients).await.unwrap(), 1);
    // What clients observe is listed by an index that it has now.
    let query = crate::search::Query {
        written: Some(everything),
        ..crate::search::Query::all(ResourceType::Observation)
    };
    assert_eq!(store.search(&query).await.unwrap().resources, []);
}

#[tokio::test]
async fn what_clients_wrote_before_there_was_an_index_is_found_by_it_afterwards() {
    use crate::admit::Holding;
    use crate::bases::Bases;
    use crate::query::{Context, Filter, Handling, parse};
    use crate::sqlite::SqliteStore;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fhir.db");
    let store = SqliteStore::open(&path).unwrap();
    let kind = ResourceType::parse("Basic").unwrap();
    let text = r#"{"resourceType":"Basic","code":{"coding":[{"system":"s","code":"c"}]}}"#;
    let changes = ["a", "b"].map(|id| Change::Put {
        draft: Draft::parse(&Holding::Identified, kind, id.parse().unwrap(), text, "").unwrap(),
        expect: Expect::Absent,
    });
    let transaction = Transaction {
        author: "writer".into(),
        now: Timestamp(1),
        changes: changes.into(),
        guards: Vec::new(),
    };
    store.transact(transaction).await.unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let back = format!("{} PRAGMA user_version = 4", without_index());
    connection.execute_batch(&back).unwrap();
    drop(connection);
    let store = SqliteStore::open(&path).unwrap();
    let context = Context {
        now: 0,
        base: Bases::of(""),
        handling: Handling::Strict,
    };
    for (code, count) in [("s|c", 2), ("s|d", 0)] {
        let pairs = [("code".to_owned(), code.to_owned())];
        let search = parse(Some("Basic"), &pairs, context).unwrap();
        let find = Find::of(kind, Filter::All(search.filters), 10);
        assert_eq!(store.count(&find).await.unwrap(), count);
        let found = store.find(&find).await.unwrap();
        assert_eq!(u64::try_from(found.resources.len()).unwrap(), count);
    }
}

#[test]
fn a_history_of_everything_reads_none_of_the_servers_own_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fhir.db");
    drop(crate::sqlite::SqliteStore::open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    let query = HistoryQuery {
        scope: Scope::Everything,
        commits: Some(Commits {
            after: 0,
            until: Some(1_000),
        }),
        updated: None,
        there: None,
        by_id: false,
        after: None,
        count: 10,
    };
    let sql = crate::sql::history(crate::query::sql::Dialect::Sqlite, &query);
    let explain = format!("EXPLAIN QUERY PLAN {}", sql.text);
    let mut statement = connection.prepare(&explain).unwrap();
    let binds = rusqlite::params_from_iter(&sql.binds);
    let plan = statement.query_map(binds, |row| row.get::<_, String>(3));
    let plan: Vec<String> = plan.unwrap().collect::<rusqlite::Result<_>>().unwrap();
    assert!(
        plan.iter().any(|step| step.contains("history_others")),
        "{plan:?}"
    );
}

#[test]
fn a_withdrawn_reading_is_the_last_version_of_it() {
    let (reading, gone) = (fixture::observation(1), fixture::withdrawn(1));
    for (known, new, expected) in [
        (None, &gone, Decision::Write(1)),
        (Some((1, reading.json())), &gone, Decision::Write(2)),
        (Some((2, gone.json())), &gone, Decision::Same),
        (Some((2, gone.json())), &reading, Decision::Same),
        (
            Some((2, gone.json())),
            &fixture::withdrawn(2),
            Decision::Same,
        ),
    ] {
        let known = known.map(|(version, json)| known_of(version, json, Some("a")));
        assert_eq!(decide(known.as_ref(), new, "a"), expected);
        if known.is_some() {
            assert_eq!(decide(known.as_ref(), new, "b"), Decision::Foreign);
        }
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
    let newer = crate::sqlite::SCHEMA_VERSION + 1;
    connection
        .pragma_update(None, "user_version", newer)
        .unwrap();
    let refused = crate::sqlite::SqliteStore::open(&path)
        .map(drop)
        .unwrap_err();
    assert_eq!(refused.kind, Kind::Refused);
}
