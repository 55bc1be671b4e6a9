//! Promises of writing and reading.
use super::{Engine, fixture};
use crate::search::Query;
use crate::store::{Applied, Delivery, FhirId, Kind, MAX_APPLY, NewResource, ResourceType};
use std::collections::BTreeSet;
use types::Timestamp;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn one(parcel: u32, resources: Vec<NewResource>) -> Vec<Delivery> {
    vec![Delivery {
        parcel: fixture::parcel(parcel),
        source: fixture::source(1),
        resources,
    }]
}

fn applied(written: u32, conflicts: &[u32]) -> Vec<Applied> {
    vec![Applied {
        written,
        conflicts: conflicts.to_vec(),
        ..Applied::default()
    }]
}

/// The texts of the fixture readings hold decimals such as 72.50, 1E5 and 18 digits with two places.
pub async fn what_is_applied_is_read_back_byte_for_byte(engine: &dyn Engine) {
    let store = engine.open().await;
    let resources: Vec<_> = (0..300).map(fixture::observation).collect();
    let written = store.apply(one(1, resources.clone()), NOW).await.unwrap();
    assert_eq!(written, applied(300, &[]));
    for new in &resources {
        let stored = store.read(new.kind(), new.id()).await.unwrap().unwrap();
        assert_eq!((stored.version, stored.updated), (1, NOW));
        assert_eq!((stored.kind, &stored.id), (new.kind(), new.id()));
        assert_eq!(stored.json, new.json());
    }
}

pub async fn what_is_not_there_is_none(engine: &dyn Engine) {
    let store = engine.open().await;
    let new = fixture::observation(1);
    store.apply(one(1, vec![new.clone()]), NOW).await.unwrap();
    let other: FhirId = "x".parse().unwrap();
    assert_eq!(store.read(new.kind(), &other).await.unwrap(), None);
    assert_eq!(
        store.read(ResourceType::Device, new.id()).await.unwrap(),
        None
    );
    assert_eq!(store.vread(new.kind(), new.id(), 2).await.unwrap(), None);
    assert_eq!(store.vread(new.kind(), new.id(), 0).await.unwrap(), None);
    assert!(
        store
            .vread(new.kind(), new.id(), 1)
            .await
            .unwrap()
            .is_some()
    );
}

pub async fn nothing_delivered_is_nothing_applied(engine: &dyn Engine) {
    let store = engine.open().await;
    assert_eq!(store.apply(Vec::new(), NOW).await.unwrap(), Vec::new());
    assert_eq!(
        store.apply(one(1, Vec::new()), NOW).await.unwrap(),
        applied(0, &[])
    );
    assert_eq!(store.counts().await.unwrap().0, [0, 0, 0]);
    let page = store
        .search(&Query::all(ResourceType::Patient))
        .await
        .unwrap();
    assert_eq!((page.resources, page.next), (Vec::new(), None));
}

pub async fn the_same_parcel_twice_is_one(engine: &dyn Engine) {
    let store = engine.open().await;
    let twice = vec![fixture::delivery(1, 0..5), fixture::delivery(1, 0..5)];
    let results = store.apply(twice, NOW).await.unwrap();
    assert_eq!(results, [applied(5, &[]), applied(0, &[])].concat());
    let later = store
        .apply(vec![fixture::delivery(1, 0..5)], NOW.plus_ms(9))
        .await;
    assert_eq!(later.unwrap(), applied(0, &[]));
    assert_eq!(
        store.counts().await.unwrap().of(ResourceType::Observation),
        5
    );
}

pub async fn the_same_reading_in_another_parcel_is_one(engine: &dyn Engine) {
    let store = engine.open().await;
    store
        .apply(vec![fixture::delivery(1, 0..5)], NOW)
        .await
        .unwrap();
    let again = store
        .apply(vec![fixture::delivery(2, 0..7)], NOW.plus_ms(9))
        .await;
    assert_eq!(again.unwrap(), applied(2, &[]));
    let first = fixture::observation(0);
    let stored = store.read(first.kind(), first.id()).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.updated), (1, NOW));
    assert_eq!(
        store.counts().await.unwrap().of(ResourceType::Observation),
        7
    );
}

/// The id of one reading with the value of another.
fn forged(id_of: u32, rest_of: u32) -> NewResource {
    let (id, rest) = (fixture::observation(id_of), fixture::observation(rest_of));
    let json = rest.json().replace(rest.id().as_str(), id.id().as_str());
    NewResource::parse(json).unwrap()
}

pub async fn another_content_of_a_reading_is_a_conflict_and_the_rest_is_applied(
    engine: &dyn Engine,
) {
    let store = engine.open().await;
    store
        .apply(vec![fixture::delivery(1, 0..3)], NOW)
        .await
        .unwrap();
    let resources = vec![
        fixture::observation(10),
        forged(1, 11),
        fixture::observation(2),
        forged(10, 12),
    ];
    let results = store.apply(one(2, resources), NOW).await.unwrap();
    assert_eq!(results, applied(1, &[1, 3]));
    let kept = fixture::observation(1);
    let stored = store.read(kept.kind(), kept.id()).await.unwrap().unwrap();
    assert_eq!(stored.json, kept.json());
    assert_eq!(
        store.counts().await.unwrap().of(ResourceType::Observation),
        4
    );
}

pub async fn another_content_of_a_patient_is_a_new_version_and_the_old_one_stays(
    engine: &dyn Engine,
) {
    let store = engine.open().await;
    let versions = [fixture::patient(1, 1950), fixture::patient(1, 1951)];
    let mut number = 0;
    for (patient, written) in [(0, 1), (0, 0), (1, 1), (1, 0)] {
        number += 1;
        let now = NOW.plus_ms(i64::from(number));
        let results = store
            .apply(one(number, vec![versions[patient].clone()]), now)
            .await;
        assert_eq!(results.unwrap(), applied(written, &[]));
    }
    let id = versions[0].id();
    let current = store
        .read(ResourceType::Patient, id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((current.version, current.updated), (2, NOW.plus_ms(3)));
    for (version, patient) in [(1, &versions[0]), (2, &versions[1])] {
        let stored = store
            .vread(ResourceType::Patient, id, version)
            .await
            .unwrap();
        let stored = stored.unwrap();
        assert_eq!(
            (stored.version, stored.json.as_str()),
            (version, patient.json())
        );
    }
    assert_eq!(store.counts().await.unwrap().of(ResourceType::Patient), 1);
    let found = fixture::all_pages(&*store, Query::all(ResourceType::Patient)).await;
    assert_eq!(found, [current]);
}

pub async fn a_parcel_that_comes_again_does_not_bring_an_old_patient_back(engine: &dyn Engine) {
    let store = engine.open().await;
    let (old, new) = (fixture::patient(1, 1950), fixture::patient(1, 1951));
    store.apply(one(1, vec![old.clone()]), NOW).await.unwrap();
    store.apply(one(2, vec![new.clone()]), NOW).await.unwrap();
    store.apply(one(1, vec![old]), NOW).await.unwrap();
    let current = store.read(new.kind(), new.id()).await.unwrap().unwrap();
    assert_eq!((current.version, current.json.as_str()), (2, new.json()));
}

pub async fn versions_within_one_call_follow_each_other(engine: &dyn Engine) {
    let store = engine.open().await;
    let deliveries = vec![
        Delivery {
            parcel: fixture::parcel(1),
            source: fixture::source(1),
            resources: vec![fixture::patient(1, 1950), fixture::patient(1, 1951)],
        },
        Delivery {
            parcel: fixture::parcel(2),
            source: fixture::source(1),
            resources: vec![fixture::patient(1, 1952), fixture::device(3)],
        },
    ];
    let results = store.apply(deliveries, NOW).await.unwrap();
    assert_eq!(results, [applied(2, &[]), applied(2, &[])].concat());
    let last = fixture::patient(1, 1952);
    for version in 1..=3 {
        let stored = store.vread(last.kind(), last.id(), version).await.unwrap();
        assert_eq!(stored.unwrap().version, version);
    }
    assert_eq!(store.counts().await.unwrap().0, [0, 1, 1]);
}

pub async fn the_largest_batch_is_applied_and_one_more_is_refused(engine: &dyn Engine) {
    let store = engine.open().await;
    let max = u32::try_from(MAX_APPLY).unwrap();
    let too_many = vec![fixture::delivery(1, 0..max), fixture::delivery(2, 0..1)];
    let refused = store.apply(too_many, NOW).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Refused);
    assert_eq!(store.counts().await.unwrap().0, [0, 0, 0]);
    let results = store.apply(vec![fixture::delivery(1, 0..max)], NOW).await;
    assert_eq!(results.unwrap(), applied(max, &[]));
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.of(ResourceType::Observation), u64::from(max));
}

/// Both deliver every reading, in parcels of their own, one in reverse.
pub async fn two_writers_at_once_lose_and_double_nothing(engine: &dyn Engine) {
    const PARCELS: u32 = 20;
    let (a, b) = (engine.open().await, engine.open().await);
    let forth = async {
        let mut written = 0;
        for n in 0..PARCELS {
            let delivery = fixture::delivery(n, n * 10..n * 10 + 10);
            written += a.apply(vec![delivery], NOW).await.unwrap()[0].written;
        }
        written
    };
    let back = async {
        let mut written = 0;
        for n in (0..PARCELS).rev() {
            let delivery = fixture::delivery(1_000 + n, n * 10..n * 10 + 10);
            written += b.apply(vec![delivery], NOW).await.unwrap()[0].written;
        }
        written
    };
    let (forth, back) = tokio::join!(forth, back);
    assert_eq!(forth + back, PARCELS * 10);
    let found = fixture::all_pages(&*a, Query::all(ResourceType::Observation)).await;
    let ids: BTreeSet<_> = found.iter().map(|stored| stored.id.clone()).collect();
    assert_eq!(found.len(), 200);
    assert_eq!(ids.len(), 200);
    assert_eq!(b.counts().await.unwrap().of(ResourceType::Observation), 200);
}

pub async fn a_store_that_is_opened_again_holds_everything(engine: &dyn Engine) {
    let before = {
        let store = engine.open().await;
        store
            .apply(vec![fixture::delivery(1, 0..50)], NOW)
            .await
            .unwrap();
        fixture::all_pages(&*store, Query::all(ResourceType::Observation)).await
    };
    let store = engine.open().await;
    let after = fixture::all_pages(&*store, Query::all(ResourceType::Observation)).await;
    assert_eq!(before.len(), 50);
    assert_eq!(before, after);
    let again = store
        .apply(vec![fixture::delivery(1, 0..50)], NOW)
        .await
        .unwrap();
    assert_eq!(again, applied(0, &[]));
}

/// The future is dropped after ever more polls: before it is sent, under way, and done.
pub async fn a_call_that_is_dropped_is_applied_wholly_or_not_at_all(engine: &dyn Engine) {
    let store = engine.open().await;
    for n in 0..30 {
        let call = store.apply(vec![fixture::delivery(n, n * 20..n * 20 + 20)], NOW);
        tokio::select! {
            biased;
            result = call => drop(result.unwrap()),
            () = yields(n) => {}
        }
    }
    // A write of our own is behind all of theirs: whatever was sent is done by then.
    store
        .apply(vec![fixture::delivery(999, 0..0)], NOW)
        .await
        .unwrap();
    let found = fixture::all_pages(&*store, Query::all(ResourceType::Observation)).await;
    let ids: BTreeSet<_> = found.iter().map(|stored| stored.id.clone()).collect();
    for n in 0..30 {
        let there = (n * 20..n * 20 + 20)
            .filter(|reading| ids.contains(fixture::observation(*reading).id()))
            .count();
        assert!(there == 0 || there == 20, "parcel {n}: {there} of 20");
    }
    let counted = store.counts().await.unwrap().of(ResourceType::Observation);
    assert_eq!(counted, u64::try_from(ids.len()).unwrap());
    // And each can be sent again.
    for n in 0..30 {
        let delivery = fixture::delivery(n, n * 20..n * 20 + 20);
        store.apply(vec![delivery], NOW).await.unwrap();
    }
    assert_eq!(
        store.counts().await.unwrap().of(ResourceType::Observation),
        600
    );
}

async fn yields(times: u32) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Everything that the grammar of an id allows and an engine could trip over.
pub async fn ids_of_every_shape_are_kept_apart(engine: &dyn Engine) {
    let store = engine.open().await;
    let longest = "z".repeat(64);
    let ids = [
        "-",
        "--",
        ".",
        "..",
        "0",
        "00",
        "a",
        "A",
        "NULL",
        "1e5",
        longest.as_str(),
    ];
    let template = fixture::device(1);
    let resources: Vec<_> = ids
        .iter()
        .map(|id| NewResource::parse(template.json().replace(template.id().as_str(), id)).unwrap())
        .collect();
    let results = store.apply(one(1, resources), NOW).await.unwrap();
    assert_eq!(results[0].written, u32::try_from(ids.len()).unwrap());
    let found = fixture::all_pages(&*store, Query::all(ResourceType::Device)).await;
    let found: Vec<_> = found.iter().map(|stored| stored.id.as_str()).collect();
    let mut sorted = ids;
    sorted.sort_unstable();
    assert_eq!(found, sorted, "by bytes");
}

/// Of every version, the past ones too.
pub async fn commits_are_numbered_in_their_order_and_stay_so(engine: &dyn Engine) {
    async fn numbers(engine: &dyn Engine) -> Vec<i64> {
        let store = engine.open().await;
        let patient = fixture::patient(1, 1950);
        let mut numbers = Vec::new();
        for version in [1, 2] {
            let stored = store.vread(patient.kind(), patient.id(), version).await;
            numbers.push(stored.unwrap().unwrap().seq);
        }
        let device = fixture::device(1);
        let stored = store.read(device.kind(), device.id()).await.unwrap();
        numbers.push(stored.unwrap().seq);
        numbers.push(store.head().await.unwrap());
        numbers
    }
    {
        let store = engine.open().await;
        assert_eq!(store.head().await.unwrap(), 0);
        for (n, resource) in [
            (1, fixture::patient(1, 1950)),
            (2, fixture::patient(1, 1951)),
            (3, fixture::device(1)),
        ] {
            store.apply(one(n, vec![resource]), NOW).await.unwrap();
        }
    }
    let first = numbers(engine).await;
    assert!(first.iter().zip(&first[1..3]).all(|(a, b)| a < b));
    assert_eq!(first[2], first[3], "the last commit is the head");
    assert_eq!(numbers(engine).await, first);
}

pub async fn what_was_kept_last_for_a_reader_is_found_again(engine: &dyn Engine) {
    {
        let store = engine.open().await;
        assert_eq!(store.marks("a").await.unwrap(), None);
        for (reader, marks) in [("a", "1"), ("b", "2"), ("a", "1,3"), ("a'; --", "")] {
            store.keep_marks(reader, marks.to_owned()).await.unwrap();
        }
    }
    let store = engine.open().await;
    for (reader, marks) in [("a", "1,3"), ("b", "2"), ("a'; --", "")] {
        let kept = store.marks(reader).await.unwrap();
        assert_eq!(kept.as_deref(), Some(marks), "{reader}");
    }
    assert_eq!(store.head().await.unwrap(), 0, "no resource was written");
}

pub async fn last_updated_never_goes_back(engine: &dyn Engine) {
    let store = engine.open().await;
    for (n, now) in [(1, 50), (2, 20), (3, 60)] {
        let now = NOW.plus_ms(now);
        store
            .apply(one(n, vec![fixture::device(n)]), now)
            .await
            .unwrap();
    }
    for (n, expected) in [(1, 50), (2, 50), (3, 60)] {
        let device = fixture::device(n);
        let stored = store
            .read(device.kind(), device.id())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stored.updated, NOW.plus_ms(expected));
    }
}
