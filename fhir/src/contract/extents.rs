//! Promises of what was there of a type at a commit.
use super::{Engine, fixture};
use crate::admit::Holding;
use crate::search::{Filter, Query};
use crate::store::{
    Change, Delivery, Draft, Expect, Extent, FhirId, NewResource, ResourceStore, ResourceType,
    Stored, Transaction, Whose,
};
use std::collections::{BTreeMap, BTreeSet};
use types::{Timestamp, Value};

fn basic() -> ResourceType {
    ResourceType::parse("Basic").unwrap()
}

fn id(number: u32) -> FhirId {
    format!("b-{}", number * 7_919 % 1_000).parse().unwrap()
}

async fn transact(store: &dyn ResourceStore, now: i64, changes: Vec<Change>) {
    let transaction = Transaction {
        author: "writer".into(),
        now: Timestamp(now),
        changes,
        guards: Vec::new(),
    };
    store.transact(transaction).await.unwrap();
}

fn put(number: u32, content: u32) -> Change {
    let text = format!(r#"{{"resourceType":"Basic","code":{{"text":"content {content}"}}}}"#);
    let draft = Draft::parse(&Holding::Identified, basic(), id(number), &text, "").unwrap();
    Change::Put {
        draft,
        expect: Expect::Anything,
    }
}

fn delete(number: u32) -> Change {
    Change::Delete {
        kind: basic(),
        id: id(number),
        expect: Expect::Anything,
    }
}

/// Every page; between two of them others write, where it is disturbed.
async fn walk(store: &dyn ResourceStore, mut extent: Extent, disturbed: bool) -> Vec<Stored> {
    let mut found = Vec::new();
    for n in 0..1_000 {
        let page = store.extent(&extent).await.unwrap();
        assert!(page.resources.len() <= usize::from(extent.count));
        found.extend(page.resources);
        extent.after = page.next;
        if extent.after.is_none() {
            return found;
        }
        if disturbed {
            // Changed, deleted, made anew and made at all.
            let changes = vec![put(n * 3, 3), delete(n * 3 + 1), put(40 + n, 3), put(20, 3)];
            transact(store, 3_000, changes).await;
        }
    }
    panic!("pages do not end");
}

/// The content of each resource, each of which is there once, in the order of ids.
fn contents(found: &[Stored]) -> BTreeMap<String, String> {
    let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
    assert!(ids.is_sorted() && ids.iter().collect::<BTreeSet<_>>().len() == ids.len());
    found
        .iter()
        .map(|one| (one.id.to_string(), one.json.clone()))
        .collect()
}

pub async fn what_was_there_at_a_commit_is_listed_once_whatever_is_written_meanwhile(
    engine: &dyn Engine,
) {
    let store = engine.open().await;
    assert_eq!(store.last().await.unwrap(), (0, Timestamp(0)));
    transact(&*store, 1_000, (0..30).map(|n| put(n, 1)).collect()).await;
    let (first, _) = store.last().await.unwrap();
    transact(&*store, 2_000, (0..10).map(|n| put(n, 2)).collect()).await;
    transact(&*store, 2_000, vec![delete(20), delete(21)]).await;
    let (until, stored) = store.last().await.unwrap();
    assert_eq!(stored, Timestamp(2_000));
    let at = |until: i64| Extent::of(basic(), until, 4);
    let before = contents(&walk(&*store, at(until), false).await);
    assert_eq!(before.len(), 28);
    let after = walk(&*store, at(until), true).await;
    assert_eq!(contents(&after), before);
    let earlier = contents(&walk(&*store, at(first), false).await);
    assert_eq!(earlier.len(), 30);
    assert!(earlier.values().all(|text| text.contains("content 1")));
    // What is new since a commit, and since a time; and what was deleted.
    for (after_commit, since) in [(first, None), (0, Some(Timestamp(2_000)))] {
        let since_then = Extent {
            after_commit,
            since,
            ..at(until)
        };
        let new = contents(&walk(&*store, since_then.clone(), false).await);
        let ids: BTreeSet<String> = new.into_keys().collect();
        assert_eq!(ids, (0..10).map(|n| id(n).to_string()).collect());
        let deleted = Extent {
            deleted: true,
            ..since_then
        };
        let gone = walk(&*store, deleted, false).await;
        let ids: BTreeSet<FhirId> = gone.iter().map(|one| one.id.clone()).collect();
        assert_eq!(ids, BTreeSet::from([id(20), id(21)]));
        assert!(gone.iter().all(Stored::is_deleted));
    }
    let nothing = Extent {
        deleted: true,
        ..at(first)
    };
    assert_eq!(walk(&*store, nothing, false).await, []);
}

fn deliver(number: u32, resources: Vec<NewResource>) -> Vec<Delivery> {
    vec![Delivery {
        parcel: fixture::parcel(number),
        source: fixture::source(1),
        resources,
    }]
}

pub async fn readings_of_some_patients_are_listed_whatever_was_withdrawn_since(
    engine: &dyn Engine,
) {
    let store = engine.open().await;
    let now = Timestamp(1_000);
    let readings = (0..60).map(fixture::observation).collect();
    store.apply(deliver(1, readings), now).await.unwrap();
    let (until, _) = store.last().await.unwrap();
    let of_patient = |number: u32| fixture::patient(number, 1950).id().clone();
    let extent = |whose| Extent {
        whose,
        ..Extent::of(ResourceType::Observation, until, 7)
    };
    let two = Whose::Of(vec![of_patient(1), of_patient(3)]);
    let many = (0..300).map(|n| format!("nobody-{n}").parse().unwrap());
    let many: Vec<FhirId> = many.chain([of_patient(1), of_patient(3)]).collect();
    let all = contents(&walk(&*store, extent(Whose::Everybody), false).await);
    assert_eq!(all.len(), 60);
    let any = walk(&*store, extent(Whose::AnyPatient), false).await;
    assert_eq!(contents(&any).len(), 50);
    let some = contents(&walk(&*store, extent(two.clone()), false).await);
    assert_eq!(some.len(), 20);
    let of_many = walk(&*store, extent(Whose::Of(many)), false).await;
    assert_eq!(contents(&of_many), some);
    // Reading 1 is of patient 1, reading 2 of patient 2: as they were, and the second may be beside.
    let withdrawn = vec![fixture::withdrawn(1), fixture::withdrawn(2)];
    store.apply(deliver(2, withdrawn), now).await.unwrap();
    let found = walk(&*store, extent(Whose::Everybody), false).await;
    assert_eq!(contents(&found), all);
    let (later, _) = store.last().await.unwrap();
    let of_later = Extent::of(ResourceType::Observation, later, 7);
    let found = contents(&walk(&*store, of_later, false).await);
    let changed = found.iter().filter(|(id, text)| all.get(*id) != Some(text));
    assert_eq!((found.len(), changed.count()), (60, 2));
    let found = contents(&walk(&*store, extent(two), false).await);
    assert!(some.iter().all(|(id, text)| found.get(id) == Some(text)));
    assert!(found.len() <= some.len() + 1);
}

pub async fn the_numbers_of_readings_are_those_of_their_texts(engine: &dyn Engine) {
    let store = engine.open().await;
    let now = Timestamp(1_000);
    let readings = (0..60).map(fixture::observation).collect();
    store.apply(deliver(1, readings), now).await.unwrap();
    let withdrawn = vec![fixture::withdrawn(13)];
    store.apply(deliver(2, withdrawn), now).await.unwrap();
    let query = Query {
        filters: vec![Filter::Patient(vec![
            fixture::patient(1, 1950).id().clone(),
        ])],
        ..Query::all(ResourceType::Observation)
    };
    let found = store.measures(&query, 1_000).await.unwrap();
    let mut found: Vec<String> = found.iter().map(|one| format!("{one:?}")).collect();
    let expected = (0..60).filter(|n| n % 6 == 1 && *n != 13).map(|number| {
        let reading = fixture::reading(number);
        let value = match &reading.value {
            Value::Quantity(text) => Some(text.to_string().parse::<f64>().unwrap()),
            _ => None,
        };
        crate::store::Measure {
            effective: Some(reading.effective),
            unit: value.map(|_| reading.unit.to_string()),
            value,
        }
    });
    let mut expected: Vec<String> = expected.map(|one| format!("{one:?}")).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert!(found.iter().any(|one| one.contains("value: None")));
    assert_eq!(store.measures(&query, 3).await.unwrap().len(), 3);
}
