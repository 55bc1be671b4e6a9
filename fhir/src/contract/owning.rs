//! Promises of who may write what: the first source of an id owns it.
use super::{Engine, fixture};
use crate::search::Query;
use crate::store::{
    Applied, Change, Delivery, Draft, Expect, NewResource, ResourceStore, ResourceType, Source,
    Transacted, Transaction,
};
use types::{FacilityPseudonym, Timestamp};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn of(source: u32, parcel: u32, resources: Vec<NewResource>) -> Delivery {
    Delivery {
        parcel: fixture::parcel(parcel),
        source: fixture::source(source),
        resources,
    }
}

fn written(written: u32) -> Applied {
    Applied {
        written,
        ..Applied::default()
    }
}

fn foreign(positions: &[u32]) -> Applied {
    Applied {
        foreign: positions.to_vec(),
        ..Applied::default()
    }
}

async fn apply(store: &dyn ResourceStore, delivery: Delivery) -> Applied {
    let mut applied = store.apply(vec![delivery], NOW).await.unwrap();
    applied.remove(0)
}

/// Reading 0 is of patient 0 and device 0.
fn stay() -> Vec<NewResource> {
    let own = vec![fixture::patient(0, 1950), fixture::device(0)];
    own.into_iter()
        .chain([0, 12, 24].map(fixture::observation))
        .collect()
}

pub async fn what_another_source_owns_is_not_written_and_nothing_of_that_delivery_is(
    engine: &dyn Engine,
) {
    let store = engine.open().await;
    assert_eq!(apply(&*store, of(1, 1, stay())).await, written(5));
    let before = store.counts().await.unwrap();
    let changed = fixture::patient(0, 1999);
    let own = fixture::patient(7, 1970);
    for (number, resources, positions) in [
        (2, vec![own.clone(), changed], vec![1]),
        (3, vec![own.clone(), fixture::device(0)], vec![1]),
        (4, vec![fixture::observation(12), own.clone()], vec![0]),
        (5, stay(), vec![0, 1, 2, 3, 4]),
    ] {
        for _ in 0..2 {
            let applied = apply(&*store, of(2, number, resources.clone())).await;
            assert_eq!(applied, foreign(&positions), "{number}");
        }
    }
    assert_eq!(store.counts().await.unwrap(), before);
    let kept = fixture::patient(0, 1950);
    let stored = store.read(kept.kind(), kept.id()).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.json.as_str()), (1, kept.json()));
    // Who was refused delivers what is its own, and the owner goes on.
    assert_eq!(apply(&*store, of(2, 6, vec![own])).await, written(1));
    let newer = vec![fixture::patient(0, 1951), fixture::observation(36)];
    assert_eq!(apply(&*store, of(1, 7, newer)).await, written(2));
}

pub async fn a_reading_of_a_patient_or_device_of_another_source_is_refused(engine: &dyn Engine) {
    let store = engine.open().await;
    let patient = vec![fixture::patient(0, 1950)];
    assert_eq!(apply(&*store, of(1, 1, patient)).await, written(1));
    let device = vec![fixture::device(1)];
    assert_eq!(apply(&*store, of(1, 2, device)).await, written(1));
    // Reading 12 is of patient 0 and device 0, reading 1 of patient 1 and device 1, reading 2 of neither.
    let readings = [2, 12, 1].map(fixture::observation).to_vec();
    let applied = apply(&*store, of(2, 3, readings)).await;
    assert_eq!(applied, foreign(&[1, 2]));
    assert_eq!(store.counts().await.unwrap().0, [0, 1, 1]);
    let readings = vec![fixture::observation(2)];
    assert_eq!(apply(&*store, of(2, 4, readings)).await, written(1));
}

pub async fn within_one_call_the_first_source_owns_and_the_others_are_applied(engine: &dyn Engine) {
    let store = engine.open().await;
    let deliveries = vec![
        of(1, 1, vec![fixture::patient(0, 1950)]),
        of(2, 2, vec![fixture::device(3), fixture::observation(0)]),
        of(2, 3, vec![fixture::device(3)]),
        of(1, 4, vec![fixture::device(3)]),
        of(1, 5, vec![fixture::patient(0, 1951)]),
    ];
    let applied = store.apply(deliveries, NOW).await.unwrap();
    let expected = [
        written(1),
        foreign(&[1]),
        written(1),
        foreign(&[0]),
        written(1),
    ];
    assert_eq!(applied, expected);
    assert_eq!(store.counts().await.unwrap().0, [0, 1, 1]);
}

async fn transact(store: &dyn ResourceStore, changes: Vec<Change>) {
    let transaction = Transaction {
        author: "writer".into(),
        now: NOW,
        changes,
        guards: Vec::new(),
    };
    let done = store.transact(transaction).await.unwrap();
    assert!(matches!(done, Transacted::Done(_)), "{done:?}");
}

pub async fn what_a_client_wrote_no_facility_takes_over_also_when_it_was_deleted(
    engine: &dyn Engine,
) {
    let store = engine.open().await;
    let theirs = [
        fixture::patient(0, 1950),
        fixture::device(0),
        fixture::observation(2),
    ];
    let text = |one: &NewResource| format!("{{\"resourceType\":\"{}\"}}", one.kind());
    let put = |one: &NewResource| Change::Put {
        draft: Draft::unjudged(one.kind(), one.id().clone(), &text(one), "").unwrap(),
        expect: Expect::Absent,
    };
    let delete = |one: &NewResource| Change::Delete {
        kind: one.kind(),
        id: one.id().clone(),
        expect: Expect::Present,
    };
    transact(&*store, theirs.iter().map(put).collect()).await;
    let mut parcel = 0;
    for is_there in [true, false] {
        if !is_there {
            transact(&*store, theirs.iter().map(delete).collect()).await;
        }
        let count = u64::from(is_there);
        assert_eq!(store.counts().await.unwrap().0, [count; 3]);
        // Reading 12 is of patient 0 and device 0.
        let also = [fixture::withdrawn(2), fixture::observation(12)];
        for one in theirs.iter().chain(&also) {
            parcel += 1;
            let own = fixture::patient(7, 1970);
            let applied = apply(&*store, of(1, parcel, vec![own, one.clone()])).await;
            assert_eq!(applied, foreign(&[1]), "{is_there} {}", one.json());
        }
        assert_eq!(store.counts().await.unwrap().0, [count; 3]);
        for one in &theirs {
            let stored = store.read(one.kind(), one.id()).await.unwrap();
            assert_eq!(stored.is_some(), is_there);
            assert!(stored.is_none_or(|stored| stored.json.len() < 100));
        }
    }
    // What is the client's own comes back, and other facilities go on.
    transact(&*store, theirs.iter().map(put).collect()).await;
    let own = vec![fixture::patient(7, 1970), fixture::observation(1)];
    assert_eq!(apply(&*store, of(1, 99, own)).await, written(2));
}

pub async fn a_source_keeps_the_pseudonym_that_it_was_offered_first(engine: &dyn Engine) {
    let first = fixture::source(1);
    for number in 1..=2 {
        let store = engine.open().await;
        let source = Source {
            fresh: FacilityPseudonym::from_bytes([u8::try_from(number).unwrap(); 16]),
            ..first.clone()
        };
        let resources = vec![fixture::patient(number, 1950), fixture::device(number)];
        let delivery = Delivery {
            source,
            ..of(1, number, resources)
        };
        assert_eq!(apply(&*store, delivery).await, written(2));
    }
    let other = vec![fixture::patient(3, 1950)];
    let store = engine.open().await;
    assert_eq!(apply(&*store, of(2, 3, other)).await, written(1));
    let found = fixture::all_pages(&*store, Query::all(ResourceType::Patient)).await;
    let source_of = |number: u32| {
        let id = fixture::patient(number, 1950);
        let stored = found.iter().find(|stored| stored.id == *id.id());
        stored.unwrap().source.unwrap()
    };
    assert_eq!(source_of(1), FacilityPseudonym::from_bytes([1; 16]));
    assert_eq!(source_of(2), source_of(1));
    assert_eq!(source_of(3), fixture::source(2).fresh);
    let device = fixture::device(2);
    let stored = store.read(device.kind(), device.id()).await.unwrap();
    assert_eq!(stored.unwrap().source, Some(source_of(1)));
    let past = fixture::patient(1, 1950);
    let past = store.vread(past.kind(), past.id(), 1).await.unwrap();
    assert_eq!(past.unwrap().source, Some(source_of(1)));
}
