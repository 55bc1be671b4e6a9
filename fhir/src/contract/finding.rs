//! Promises of searches by the parameters of R4, and of writes that hinge on what a search finds.
use super::Engine;
use super::fixture;
use super::searching::{BASE, CASES, NOW_MS, RESOURCES, STEP_MS};
use crate::bases::Bases;
use crate::json::Json;
use crate::query::{Context, Filter, Handling, Search, parse};
use crate::search::{Filter as Column, Interval};
use crate::store::{
    Change, Draft, Expect, FhirId, Find, FindPlace, Guard, MAX_PAGE, ResourceStore, ResourceType,
    Sights, Transacted, Transaction, Unmet,
};
use std::{collections::BTreeSet, sync::Arc};
use types::Timestamp;

/// Clients that write by one condition at once.
const CLIENTS: u32 = 64;
/// Times that they do.
const ROUNDS: u32 = 4;
/// Readings that are looked at.
const READINGS: u32 = 60;

pub(super) fn draft(text: &str, id: Option<&str>) -> Draft {
    let json = Json::parse(text).unwrap();
    let of = |name| json.object().and_then(|object| object.text(name));
    let kind = ResourceType::parse(of("resourceType").unwrap()).unwrap();
    let id = id.or(of("id")).unwrap().parse().unwrap();
    Draft::unjudged(kind, id, text, BASE).unwrap()
}

async fn put(store: &dyn ResourceStore, now: i64, draft: Draft, guards: Vec<Guard>) -> Transacted {
    let expect = Expect::Anything;
    let transaction = Transaction {
        author: "writer".into(),
        now: Timestamp(now),
        changes: vec![Change::Put { draft, expect }],
        guards,
    };
    store.transact(transaction).await.unwrap()
}

pub(super) fn read(kind: &str, query: &str) -> Search {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs: Vec<(String, String)> = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let context = Context {
        now: NOW_MS,
        base: Bases::of(BASE),
        handling: Handling::Strict,
    };
    parse(Some(kind).filter(|kind| !kind.is_empty()), &pairs, context).unwrap()
}

pub(super) fn find_of(search: Search, count: u16) -> Find {
    Find {
        types: search.types,
        filter: Filter::All(search.filters),
        sort: search.sort,
        marks: None,
        sights: Sights::new(),
        after: None,
        count,
    }
}

/// Every id that a search finds, page by page.
pub(super) async fn ids(store: &dyn ResourceStore, mut find: Find) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let page = store.find(&find).await.unwrap();
        assert!(page.resources.len() <= usize::from(find.count));
        found.extend(page.resources.iter().map(|stored| stored.id.to_string()));
        find.after = page.next;
        if find.after.is_none() {
            return found;
        }
    }
}

pub async fn every_search_finds_what_was_found_by_hand(engine: &dyn Engine) {
    let store = engine.open().await;
    for (now, text) in (0..).map(|at| at * STEP_MS).zip(RESOURCES) {
        put(&*store, now, draft(text, None), Vec::new()).await;
    }
    let cases: Vec<_> = CASES.iter().flat_map(|list| list.iter()).collect();
    for (kind, query, expected) in cases {
        let find = find_of(read(kind, query), MAX_PAGE);
        let count = store.count(&find).await.unwrap();
        let found: BTreeSet<String> = ids(&*store, find).await.into_iter().collect();
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{kind}?{query}");
        assert_eq!(
            usize::try_from(count).unwrap(),
            expected.len(),
            "{kind}?{query}"
        );
    }
}

/// Some have no date and some no code; many are equal in both.
fn condition(number: u32) -> Draft {
    let mut text =
        String::from(r#"{"resourceType":"Condition","subject":{"reference":"Patient/p"}"#);
    if !number.is_multiple_of(5) {
        text.push_str(&format!(r#","recordedDate":"20{:02}""#, number % 4));
    }
    if !number.is_multiple_of(3) {
        text.push_str(&format!(
            r#","code":{{"coding":[{{"code":"c{}"}}]}}"#,
            number % 2
        ));
    }
    text.push('}');
    draft(&text, Some(&format!("c-{number:03}")))
}

pub async fn pages_of_every_order_show_each_resource_once(engine: &dyn Engine) {
    let store = engine.open().await;
    for number in 0..40 {
        put(
            &*store,
            i64::from(number / 3),
            condition(number),
            Vec::new(),
        )
        .await;
    }
    for sort in [
        "_id",
        "-_id",
        "recorded-date",
        "-recorded-date",
        "code,-recorded-date",
        "-code,recorded-date,-_id",
        "_lastUpdated",
        "-_lastUpdated,code",
        "subject",
    ] {
        let search = || read("Condition", &format!("subject=Patient/p&_sort={sort}"));
        let all = ids(&*store, find_of(search(), MAX_PAGE)).await;
        let each: BTreeSet<&String> = all.iter().collect();
        assert_eq!((all.len(), each.len()), (40, 40), "{sort}");
        for count in [1, 7] {
            assert_eq!(ids(&*store, find_of(search(), count)).await, all, "{sort}");
        }
    }
    let dated = ids(
        &*store,
        find_of(read("Condition", "_sort=-recorded-date"), 40),
    )
    .await;
    let date = |id: &String| {
        let number: u32 = id.trim_start_matches("c-").parse().unwrap();
        (!number.is_multiple_of(5)).then_some(number % 4)
    };
    let dates: Vec<Option<u32>> = dated.iter().map(date).collect();
    assert!(
        dates.is_sorted_by(|a, b| a >= b),
        "none comes last: {dates:?}"
    );
    let marks = Find {
        marks: Some(vec![10, 20]),
        ..find_of(read("Condition", "_sort=-_lastUpdated"), 3)
    };
    let seen = ids(&*store, marks).await;
    assert_eq!(seen.len(), 20, "nothing behind the last mark is found");
    let first: BTreeSet<&String> = seen.iter().take(10).collect();
    assert!(first.iter().all(|id| id.as_str() >= "c-010"), "{first:?}");
    assert!(seen.iter().take(10).is_sorted(), "within a mark by id");
    pages_of_marks_are_the_same_whatever_their_length(&*store).await;
}

/// What is found by a token may be read in the order of ids, mark by mark, where pages are short.
async fn pages_of_marks_are_the_same_whatever_their_length(store: &dyn ResourceStore) {
    let kind = "Condition";
    let code = Sights::from([(kind, Filter::All(read(kind, "code=c1").filters))]);
    for (query, sights, found) in [
        ("code=c1", Sights::new(), 10),
        ("code=c1,c0&subject=Patient/p", Sights::new(), 20),
        ("subject=Patient/p", code, 10),
    ] {
        for sort in ["_lastUpdated", "-_lastUpdated", "-_lastUpdated,-_id"] {
            for marks in [vec![30], vec![2, 9, 10, 30], vec![25, 30]] {
                let of = |count| Find {
                    marks: Some(marks.clone()),
                    sights: sights.clone(),
                    ..find_of(read(kind, &format!("{query}&_sort={sort}")), count)
                };
                let all = ids(store, of(MAX_PAGE)).await;
                let case = format!("{query} {sort} {marks:?}");
                assert_eq!(all.len(), found, "{case}");
                for count in [1, 2, 5, 10] {
                    assert_eq!(ids(store, of(count)).await, all, "{case} {count}");
                }
            }
        }
    }
}

pub async fn what_was_changed_or_deleted_is_found_by_what_it_is_now(engine: &dyn Engine) {
    let store = engine.open().await;
    let kind = ResourceType::parse("Basic").unwrap();
    let text = |code: &str| {
        format!(r#"{{"resourceType":"Basic","id":"b","code":{{"coding":[{{"code":"{code}"}}]}}}}"#)
    };
    let found = async |code: &str| {
        let search = read("Basic", &format!("code={code}"));
        ids(&*store, find_of(search, 10)).await.len()
    };
    put(&*store, 1, draft(&text("old"), None), Vec::new()).await;
    assert_eq!((found("old").await, found("new").await), (1, 0));
    put(&*store, 2, draft(&text("new"), None), Vec::new()).await;
    assert_eq!((found("old").await, found("new").await), (0, 1));
    let delete = Transaction {
        author: "writer".into(),
        now: Timestamp(3),
        changes: vec![Change::Delete {
            kind,
            id: "b".parse().unwrap(),
            expect: Expect::Anything,
        }],
        guards: Vec::new(),
    };
    store.transact(delete).await.unwrap();
    assert_eq!((found("old").await, found("new").await), (0, 0));
}

/// One client: creates unless a search finds one. Whether it created, and which there is.
async fn create_if_none(store: Arc<dyn ResourceStore>, round: u32, client: u32) -> (bool, FhirId) {
    let kind = ResourceType::parse("Basic").unwrap();
    let text = format!(
        r#"{{"resourceType":"Basic","code":{{"text":"{client}"}},"identifier":[{{"system":"s","value":"{round}"}}]}}"#
    );
    let search = read("Basic", &format!("identifier=s|{round}"));
    let filter = Filter::All(search.filters);
    let id = format!("b-{round}-{client}");
    loop {
        let page = store.find(&Find::of(kind, filter.clone(), 2)).await;
        let found = page.unwrap().resources;
        assert!(found.len() < 2, "{found:?}");
        if let Some(one) = found.into_iter().next() {
            return (false, one.id);
        }
        let guard = Guard {
            of: 0,
            kind,
            filter: filter.clone(),
            sights: Sights::new(),
            found: None,
        };
        match put(&*store, 1, draft(&text, Some(&id)), vec![guard]).await {
            Transacted::Done(_) => return (true, id.parse().unwrap()),
            Transacted::Unmet { why, .. } => assert_eq!(why, Unmet::Search),
        }
    }
}

pub async fn of_many_that_create_by_one_condition_one_creates_and_all_find_it(engine: &dyn Engine) {
    let store = engine.open().await;
    for round in 0..ROUNDS {
        let clients = (0..CLIENTS)
            .map(|client| tokio::spawn(create_if_none(Arc::clone(&store), round, client)));
        let clients: Vec<_> = clients.collect();
        let mut created = Vec::new();
        let mut seen = BTreeSet::new();
        for client in clients {
            let (is_new, id) = client.await.unwrap();
            created.extend(is_new.then(|| id.clone()));
            seen.insert(id);
        }
        assert_eq!((created.len(), seen.len()), (1, 1), "round {round}");
        assert!(seen.contains(&created[0]));
    }
    let all = find_of(read("Basic", ""), MAX_PAGE);
    assert_eq!(store.count(&all).await.unwrap(), u64::from(ROUNDS));
}

pub async fn a_write_is_done_only_where_a_search_finds_what_is_expected(engine: &dyn Engine) {
    let store = engine.open().await;
    let kind = ResourceType::parse("Basic").unwrap();
    let text = r#"{"resourceType":"Basic","code":{"coding":[{"code":"c"}]}}"#;
    let guard = |found: Option<&str>| Guard {
        of: 0,
        kind,
        filter: Filter::All(read("Basic", "code=c").filters),
        sights: Sights::new(),
        found: found.map(|id| id.parse().unwrap()),
    };
    let unmet = Transacted::Unmet {
        at: 0,
        why: Unmet::Search,
    };
    for (id, found, is_done) in [
        ("a", Some("a"), false),
        ("a", None, true),
        ("a", None, false),
        ("a", Some("b"), false),
        ("a", Some("a"), true),
        ("b", Some("a"), true),
        ("c", Some("a"), false),
        ("c", None, false),
    ] {
        let done = put(&*store, 1, draft(text, Some(id)), vec![guard(found)]).await;
        assert_eq!(done != unmet, is_done, "{id} {found:?}");
    }
    let place = FindPlace {
        keys: Vec::new(),
        kind,
        id: "a".parse().unwrap(),
    };
    let behind = Find {
        after: Some(place),
        ..find_of(read("Basic", "code=c"), 10)
    };
    assert_eq!(ids(&*store, behind).await, ["b"]);
}

/// Readings of five patients and of none, by four devices, and a report on one of them.
async fn with_readings(engine: &dyn Engine) -> Arc<dyn ResourceStore> {
    let store = engine.open().await;
    let mut delivery = fixture::delivery(1, 0..READINGS);
    let patients = (0..5).map(|number| fixture::patient(number, 1950));
    delivery.resources.extend(patients);
    delivery.resources.extend((0..4).map(fixture::device));
    store.apply(vec![delivery], Timestamp(1)).await.unwrap();
    let report = format!(
        r#"{{"resourceType":"DiagnosticReport","status":"final","code":{{"text":"r"}},"result":[{{"reference":"Observation/{}"}}]}}"#,
        fixture::observation(7).id()
    );
    put(&*store, 2, draft(&report, Some("r")), Vec::new()).await;
    store
}

/// Readings with the code of another one.
fn coded(number: u32) -> Filter {
    Filter::Column(Column::Code(vec![fixture::reading(number).code]))
}

/// Readings of a device.
fn of_device(number: u32) -> Filter {
    let device = fixture::device(number).id().clone();
    Filter::Column(Column::Device(vec![device]))
}

fn has(reference: &str, inner: Filter) -> Filter {
    Filter::HasReading {
        reference: crate::query::param("Observation", reference).unwrap(),
        inner: Box::new(inner),
    }
}

/// Ids of the patients, or of the devices, of the readings of which something holds.
fn of_readings(patients: bool, holds: &dyn Fn(u32) -> bool) -> BTreeSet<String> {
    let held = (0..READINGS).filter(|number| holds(*number) && (!patients || number % 6 != 5));
    let id = |number: u32| match patients {
        true => fixture::patient(number % 6, 1950).id().to_string(),
        false => fixture::device(number % 4).id().to_string(),
    };
    held.map(id).collect()
}

/// What is asked of a type, and what that finds, by hand.
fn asked() -> Vec<(&'static str, Filter, BTreeSet<String>)> {
    let of = fixture::reading;
    let is_like_7 = |number: u32| of(number).code == of(7).code;
    let last = of(READINGS - 6).effective;
    let since_last = Filter::Column(Column::Date(vec![Interval {
        from: Some(last.0),
        until: None,
    }]));
    let like_7 = of_readings(true, &is_like_7);
    vec![
        ("Patient", has("patient", coded(7)), like_7.clone()),
        (
            "Patient",
            has("subject", since_last),
            of_readings(true, &|number| of(number).effective >= last),
        ),
        (
            "Patient",
            has("patient", of_device(1)),
            of_readings(true, &|number| number % 4 == 1),
        ),
        (
            "Patient",
            has("patient", Filter::All(vec![coded(7), of_device(0)])),
            of_readings(true, &|number| is_like_7(number) && number % 4 == 0),
        ),
        (
            "Patient",
            Filter::Not(Box::new(has("patient", coded(7)))),
            &of_readings(true, &|_| true) - &like_7,
        ),
        (
            "Device",
            has("device", coded(7)),
            of_readings(false, &is_like_7),
        ),
        (
            "Device",
            has("subject", coded(5)),
            of_readings(false, &|number| {
                of(number).code == of(5).code && number % 6 == 5
            }),
        ),
        ("Device", has("patient", coded(7)), BTreeSet::new()),
    ]
}

pub async fn readings_are_looked_at_by_their_columns_from_what_they_refer_to(engine: &dyn Engine) {
    let store = with_readings(engine).await;
    for (kind, filter, expected) in asked() {
        let find = Find::of(ResourceType::parse(kind).unwrap(), filter, 2);
        let count = store.count(&find).await.unwrap();
        assert_eq!(count, expected.len() as u64, "{find:?}");
        let found: BTreeSet<String> = ids(&*store, find.clone()).await.into_iter().collect();
        assert_eq!(found, expected, "{find:?}");
    }
    let report = ResourceType::parse("DiagnosticReport").unwrap();
    for (column, count) in [
        (coded(7), 1),
        (coded(8), 0),
        (of_device(3), 1),
        (of_device(2), 0),
    ] {
        let filter = Filter::Chain {
            param: crate::query::param("DiagnosticReport", "result").unwrap(),
            targets: vec![("Observation", column)],
        };
        let found = store.count(&Find::of(report, filter.clone(), 2)).await;
        assert_eq!(found.unwrap(), count, "{filter:?}");
    }
}
