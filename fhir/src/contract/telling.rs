//! Promises of subscriptions: an event is there with the change that it is of, or not at all.
use super::{Engine, fixture};
use crate::store::{
    Change, Delivery, Draft, Expect, FhirId, ResourceStore, ResourceType, Transacted, Transaction,
};
use crate::subscription::{
    Channel, Content, Event, MAX_SUBSCRIPTIONS, Progress, SUBSCRIPTION, Spec, Standing, Status,
    Watching, What,
};
use std::{collections::BTreeMap, sync::Arc};
use types::Timestamp;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn kind(name: &str) -> ResourceType {
    ResourceType::parse(name).unwrap()
}

fn id(text: &str) -> FhirId {
    text.parse().unwrap()
}

fn draft(of: &str, name: &str, text: &str) -> Draft {
    Draft::unjudged(kind(of), id(name), text, "").unwrap()
}

/// A subscription to a filter.
fn subscription(name: &str, of: &str, conditions: &str, watched: bool) -> Change {
    subscription_by(name, of, conditions, watched, false)
}

/// The same, whose events are fetched where it says so.
fn subscription_by(
    name: &str,
    of: &str,
    conditions: &str,
    watched: bool,
    is_fetched: bool,
) -> Change {
    let topic = match of {
        "Observation" => "urn:medmesh:topic:observation-changed",
        _ => "urn:medmesh:topic:resource-changed",
    };
    let spec = Spec {
        author: "reader".into(),
        topic: topic.into(),
        filters: vec![(of.to_owned(), conditions.to_owned())],
        types: BTreeMap::from([(of.to_owned(), Vec::new())]),
        base: String::new(),
        other_bases: Vec::new(),
        written: NOW.0,
        channel: Channel::RestHook {
            endpoint: "https://ehr.example/".into(),
            headers: Vec::new(),
            heartbeat_s: None,
            timeout_s: 1,
            max_count: 10,
        },
        content: Content::Empty,
        end: None,
    };
    let status = if watched { "requested" } else { "off" };
    let text = format!("{{\"resourceType\":\"Subscription\",\"status\":\"{status}\"}}");
    Change::Put {
        draft: draft(SUBSCRIPTION, name, &text).with_watching(Watching {
            spec: spec.to_text(),
            status: if watched {
                Status::Requested
            } else {
                Status::Off
            },
            watched,
            is_fetched,
        }),
        expect: Expect::Anything,
    }
}

fn basic(name: &str, code: &str) -> Change {
    let text = format!(
        "{{\"resourceType\":\"Basic\",\"code\":{{\"coding\":[{{\"system\":\"http://x\",\"code\":\"{code}\"}}]}}}}"
    );
    Change::Put {
        draft: draft("Basic", name, &text),
        expect: Expect::Anything,
    }
}

fn delete(of: &str, name: &str) -> Change {
    Change::Delete {
        kind: kind(of),
        id: id(name),
        expect: Expect::Anything,
    }
}

async fn transact(store: &dyn ResourceStore, changes: Vec<Change>) -> Transacted {
    let transaction = Transaction {
        author: "writer".into(),
        now: NOW,
        changes,
        guards: Vec::new(),
    };
    store.transact(transaction).await.unwrap()
}

async fn standing(store: &dyn ResourceStore, name: &str) -> Standing {
    let all = store.event_store().subscriptions().await.unwrap();
    let mut found = all.into_iter().filter(|one| one.id == Some(id(name)));
    found.next().unwrap()
}

async fn events(store: &dyn ResourceStore, name: &str) -> Vec<Event> {
    let key = standing(store, name).await.key;
    let found = store.event_store().events(key, 0, u64::MAX, 1_000).await;
    found.unwrap()
}

pub async fn every_change_that_is_watched_has_its_event_and_what_was_not_done_has_none(
    engine: &dyn Engine,
) {
    let (store, other): (Arc<_>, Arc<_>) = (engine.open().await, engine.open().await);
    transact(&*store, vec![basic("before", "a")]).await;
    transact(&*store, vec![subscription("s", "Basic", "code=a", true)]).await;
    // Another store over the same database sees what is watched.
    transact(&*other, vec![basic("one", "a"), basic("two", "b")]).await;
    let refused = Change::Put {
        draft: draft("Basic", "one", "{\"resourceType\":\"Basic\"}"),
        expect: Expect::Absent,
    };
    let unmet = transact(&*store, vec![basic("three", "a"), refused]).await;
    assert!(matches!(unmet, Transacted::Unmet { at: 1, .. }));
    transact(&*store, vec![basic("one", "a")]).await;
    transact(&*other, vec![basic("two", "a"), basic("one", "b")]).await;
    transact(
        &*store,
        vec![delete("Basic", "two"), delete("Basic", "one")],
    )
    .await;
    let found = events(&*other, "s").await;
    let told: Vec<_> = found
        .iter()
        .map(|one| (one.number, one.id.to_string(), one.version, one.what))
        .collect();
    let expected = [
        (1, "one".to_owned(), 1, What::Create),
        (2, "two".to_owned(), 2, What::Update),
        (3, "two".to_owned(), 3, What::Delete),
    ];
    assert_eq!(told, expected);
    assert!(found.iter().all(|one| one.at == NOW));
    let seqs: Vec<i64> = found.iter().map(|one| one.seq).collect();
    assert!(seqs.is_sorted());
    let now = standing(&*store, "s").await;
    assert_eq!(
        (now.number, now.delivered, now.waits_since),
        (3, 0, Some(NOW))
    );
}

pub async fn what_clients_observe_has_its_events(engine: &dyn Engine) {
    let store = engine.open().await;
    let panel = |name: &str, code: &str| Change::Put {
        draft: draft(
            "Observation",
            name,
            &format!(
                "{{\"resourceType\":\"Observation\",\"component\":[{{\"code\":{{\"coding\":[{{\"code\":\"{code}\"}}]}}}}]}}"
            ),
        ),
        expect: Expect::Anything,
    };
    let all = vec![
        subscription("of-part", "Observation", "component-code=a", true),
        subscription("of-all", "Observation", "", true),
    ];
    transact(&*store, all).await;
    let delivery = fixture::delivery(1, 0..1);
    store.apply(vec![delivery], NOW).await.unwrap();
    transact(&*store, vec![panel("one", "a"), panel("two", "b")]).await;
    transact(&*store, vec![panel("one", "b")]).await;
    transact(&*store, vec![delete("Observation", "two")]).await;
    let told = async |name: &str| -> Vec<(String, What)> {
        let found = events(&*store, name).await;
        let of_clients = found.iter().filter(|one| one.id.as_str().len() == 3);
        of_clients
            .map(|one| (one.id.to_string(), one.what))
            .collect()
    };
    let created = ("one".to_owned(), What::Create);
    assert_eq!(told("of-part").await, std::slice::from_ref(&created));
    let two = |what| ("two".to_owned(), what);
    let changed = ("one".to_owned(), What::Update);
    let all = [created, two(What::Create), changed, two(What::Delete)];
    assert_eq!(told("of-all").await, all);
}

pub async fn readings_that_are_delivered_have_their_events_and_foreign_deliveries_none(
    engine: &dyn Engine,
) {
    let store = engine.open().await;
    let one = fixture::observation(3);
    let patient = one.index().patient.clone().unwrap();
    let conditions = format!("patient={patient}");
    let all = vec![
        subscription("of-patient", "Observation", &conditions, true),
        subscription("of-all", "Observation", "", true),
        subscription(
            "of-value",
            "Observation",
            "value-quantity=lt-1000000000000",
            true,
        ),
        subscription("off", "Observation", "", false),
    ];
    transact(&*store, all).await;
    let first = fixture::delivery(1, 0..20);
    let mut foreign = fixture::delivery(2, 20..25);
    foreign.source = fixture::source(2);
    foreign.resources.push(fixture::observation(3));
    let again = Delivery {
        parcel: fixture::parcel(3),
        ..fixture::delivery(3, 15..25)
    };
    let of_patient = (0..25)
        .map(fixture::observation)
        .filter(|one| one.index().patient.as_ref() == Some(&patient))
        .count();
    let applied = store.apply(vec![first, foreign, again], NOW).await.unwrap();
    assert!(!applied[1].foreign.is_empty());
    let told = events(&*store, "of-all").await;
    let numbers: Vec<u64> = told.iter().map(|one| one.number).collect();
    assert_eq!(numbers, (1..=25).collect::<Vec<_>>());
    for (event, number) in told.iter().zip(0..) {
        assert_eq!(event.id, *fixture::observation(number).id());
        let stored = store.vread(event.kind, &event.id, event.version).await;
        assert_eq!(stored.unwrap().unwrap().seq, event.seq);
    }
    assert_eq!(events(&*store, "of-patient").await.len(), of_patient);
    assert!(of_patient > 0 && of_patient < 25);
    assert!(events(&*store, "of-value").await.is_empty());
    assert!(events(&*store, "off").await.is_empty());
}

pub async fn what_was_taken_stays_so_and_a_deleted_subscription_leaves_nothing(
    engine: &dyn Engine,
) {
    let store = engine.open().await;
    transact(&*store, vec![subscription("s", "Basic", "", true)]).await;
    for name in ["a", "b", "c"] {
        transact(&*store, vec![basic(name, "a")]).await;
    }
    let key = standing(&*store, "s").await.key;
    let of = store.event_store();
    let progress = Progress::default().failed(NOW);
    of.keep_progress(key, 2, &progress).await.unwrap();
    of.keep_progress(key, 1, &progress).await.unwrap();
    drop(store);
    let store = engine.open().await;
    let now = standing(&*store, "s").await;
    assert_eq!((now.delivered, &now.progress), (2, &progress));
    let of = store.event_store();
    of.forget_events(key, 1).await.unwrap();
    let left = events(&*store, "s").await;
    assert_eq!(
        left.iter().map(|one| one.number).collect::<Vec<_>>(),
        [2, 3]
    );
    // What waited while it was off is behind a gap, and is not sent.
    transact(&*store, vec![subscription("s", "Basic", "", false)]).await;
    transact(&*store, vec![basic("a", "b")]).await;
    transact(&*store, vec![subscription("s", "Basic", "", true)]).await;
    let now = standing(&*store, "s").await;
    assert_eq!((now.number, now.delivered, now.waits_since), (3, 3, None));
    assert_eq!((now.key, now.progress), (key, Progress::default()));
    transact(&*store, vec![delete(SUBSCRIPTION, "s")]).await;
    transact(
        &*store,
        vec![basic("a", "c"), subscription("s", "Basic", "", true)],
    )
    .await;
    let anew = standing(&*store, "s").await;
    assert!(anew.key != key && anew.number == 0);
    of.forget_events(key, 3).await.unwrap();
    let all = of.subscriptions().await.unwrap();
    assert_eq!(
        all.iter().map(|one| one.key).collect::<Vec<_>>(),
        [anew.key]
    );
}

pub async fn there_are_so_many_subscriptions_and_one_more_is_not_taken(engine: &dyn Engine) {
    let store = engine.open().await;
    let many = |from: usize, until: usize| {
        let each = from..until;
        each.map(|at| subscription(&format!("s-{at}"), "Basic", "code=a", true))
            .collect::<Vec<_>>()
    };
    let done = transact(&*store, many(0, MAX_SUBSCRIPTIONS)).await;
    assert!(matches!(done, Transacted::Done(_)));
    let unmet = transact(&*store, many(MAX_SUBSCRIPTIONS, MAX_SUBSCRIPTIONS + 1)).await;
    assert!(matches!(unmet, Transacted::Unmet { .. }));
    let off = transact(&*store, vec![subscription("s-1", "Basic", "", false)]).await;
    assert!(
        matches!(off, Transacted::Done(_)),
        "what is there can be changed"
    );
}

pub async fn where_more_events_wait_than_may_a_subscription_is_watched_no_longer(
    engine: &dyn Engine,
) {
    const MOST: u64 = 3;
    let store = engine.open_bounded(MOST).await;
    assert_eq!(store.event_store().most_pending(), MOST);
    transact(&*store, vec![subscription("sent", "Basic", "", true)]).await;
    let fetched = subscription_by("fetched", "Basic", "", true, true);
    transact(&*store, vec![fetched]).await;
    let mut change = 0;
    let mut changes = async |count: u32| {
        for _ in 0..count {
            change += 1;
            transact(&*store, vec![basic("a", &format!("{change}"))]).await;
        }
    };
    changes(3).await;
    let of_sent = async || standing(&*store, "sent").await;
    assert!(of_sent().await.watched, "so many may wait");
    // What was taken waits no longer.
    let key = of_sent().await.key;
    let progress = Progress::taken(NOW);
    let kept = store.event_store().keep_progress(key, 2, &progress).await;
    kept.unwrap();
    changes(2).await;
    let now = of_sent().await;
    assert_eq!((now.number, now.watched), (5, true));
    changes(3).await;
    let now = of_sent().await;
    assert_eq!(
        (now.number, now.watched),
        (6, false),
        "one more than may wait"
    );
    let fetched = standing(&*store, "fetched").await;
    assert_eq!((fetched.number, fetched.watched), (8, true));
}
