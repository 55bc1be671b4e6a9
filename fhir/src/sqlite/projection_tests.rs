//! The copy of a facility's store.
use super::*;
use crate::{
    admit::Holding,
    contract::fixture,
    store::{Change, Expect, Unmet},
    store::{ResourceStore as _, Transacted, Transaction},
};

fn projection(steps: Vec<Step>, place: &str) -> Projection {
    Projection {
        steps,
        place: place.into(),
        max_bytes: 1 << 30,
        now: Timestamp(1_000),
    }
}

fn draft(kind: &str, id: &str, text: &str) -> Draft {
    let (kind, id) = (ResourceType::parse(kind).unwrap(), id.parse().unwrap());
    Draft::parse(&Holding::Identified, kind, id, text, "").unwrap()
}

fn stay(id: &str, status: &str) -> Draft {
    let text = format!(
        r#"{{"resourceType":"Encounter","status":"{status}","class":{{"code":"IMP"}},"subject":{{"reference":"Patient/p"}}}}"#
    );
    draft("Encounter", id, &text)
}

#[tokio::test]
async fn steps_that_are_done_twice_change_nothing_and_the_place_is_kept_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fhir.db");
    let store = SqliteStore::open(&path).unwrap();
    let steps: Vec<Step> = (0..10)
        .map(|n| Step::Reading(fixture::observation(n)))
        .collect();
    for _ in 0..2 {
        let projection = projection(steps.clone(), "7");
        store.project(projection).await.unwrap();
    }
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.of(ResourceType::Observation), 10);
    let gone: Vec<Step> = (0..3)
        .map(|n| Step::Gone(fixture::observation(n).id().clone()))
        .collect();
    for _ in 0..2 {
        store.project(projection(gone.clone(), "8")).await.unwrap();
    }
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.of(ResourceType::Observation), 7);
    assert_eq!(store.marks(PLACE).await.unwrap().as_deref(), Some("8"));
}

#[tokio::test]
async fn a_reading_that_was_withdrawn_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
    let steps = [
        fixture::observation(1),
        fixture::withdrawn(1),
        fixture::observation(1),
    ];
    let steps = steps.map(Step::Reading).into();
    store.project(projection(steps, "1")).await.unwrap();
    let one = fixture::observation(1);
    let stored = store.read(one.kind(), one.id()).await.unwrap().unwrap();
    assert_eq!(stored.version, 2);
    assert_eq!(stored.json, fixture::withdrawn(1).json());
}

#[tokio::test]
async fn stays_that_are_none_any_more_are_deleted_and_nobody_else_changes_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
    let stays = |stays: Vec<Draft>| Step::Stays {
        patient: "p".parse().unwrap(),
        stays,
    };
    let first = stays(vec![stay("a", "finished"), stay("b", "in-progress")]);
    let then = stays(vec![stay("b", "finished")]);
    store.project(projection(vec![first], "1")).await.unwrap();
    store.project(projection(vec![then], "2")).await.unwrap();
    let kind = ResourceType::parse("Encounter").unwrap();
    let read = async |id: &str| store.read(kind, &id.parse().unwrap()).await.unwrap();
    assert!(read("a").await.is_none());
    assert_eq!(read("b").await.unwrap().version, 2);
    // Also what has ended stays the facility's.
    for id in ["a", "b"] {
        let put = Change::Put {
            draft: stay(id, "cancelled"),
            expect: Expect::Anything,
        };
        let why = Unmet::Delivered;
        assert_eq!(write(&store, put).await, Transacted::Unmet { at: 0, why });
    }
}

async fn write(store: &SqliteStore, change: Change) -> Transacted {
    let transaction = Transaction {
        author: "ehr".into(),
        now: Timestamp(2_000),
        changes: vec![change],
        guards: Vec::new(),
    };
    store.transact(transaction).await.unwrap()
}

#[tokio::test]
async fn what_a_client_wrote_the_facility_does_not_take_over_also_when_it_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
    let reading = fixture::observation(1);
    let own = Draft::unjudged(
        reading.kind(),
        reading.id().clone(),
        "{\"resourceType\":\"Observation\"}",
        "",
    );
    let own = own.unwrap();
    let put = |draft: &Draft| Change::Put {
        draft: draft.clone(),
        expect: Expect::Absent,
    };
    let readings = vec![
        Step::Reading(reading.clone()),
        Step::Gone(reading.id().clone()),
    ];
    let stays = vec![Step::Known(stay("a", "finished"))];
    for (draft, steps) in [(own, readings), (stay("a", "planned"), stays)] {
        let (kind, id) = (draft.kind(), draft.id().clone());
        let done = write(&store, put(&draft)).await;
        assert!(matches!(done, Transacted::Done(_)), "{done:?}");
        for is_there in [true, false] {
            let steps = steps.clone();
            store.project(projection(steps, "1")).await.unwrap();
            let there = store.read(kind, &id).await.unwrap();
            assert_eq!(there.is_some(), is_there, "{kind}");
            assert!(there.is_none_or(|one| one.json == draft.json()), "{kind}");
            let delete = Change::Delete {
                kind,
                id: id.clone(),
                expect: Expect::Anything,
            };
            assert!(matches!(write(&store, delete).await, Transacted::Done(_)));
        }
        // Theirs again.
        let done = write(&store, put(&draft)).await;
        assert!(matches!(done, Transacted::Done(_)), "{done:?}");
    }
}

#[tokio::test]
async fn above_its_size_the_oldest_readings_go_and_what_clients_wrote_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
    let known = Step::Known(stay("a", "finished"));
    let steps = (0..50).map(|n| Step::Reading(fixture::observation(n)));
    let steps = std::iter::once(known).chain(steps).collect();
    let small = Projection {
        max_bytes: 1,
        ..projection(steps, "1")
    };
    store.project(small).await.unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.of(ResourceType::Observation), 0);
    let kind = ResourceType::parse("Encounter").unwrap();
    let there = store.read(kind, &"a".parse().unwrap()).await.unwrap();
    assert!(there.is_some());
}
