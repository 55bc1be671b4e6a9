//! Promises of searches by the parameters of R4, and of writes that hinge on what a search finds.
use super::Engine;
use super::searching::{BASE, CASES, NOW_MS, RESOURCES, STEP_MS};
use crate::json::Json;
use crate::query::{Context, Filter, Handling, Search, parse};
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

fn draft(text: &str, id: Option<&str>) -> Draft {
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

fn read(kind: &str, query: &str) -> Search {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs: Vec<(String, String)> = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let context = Context {
        now: NOW_MS,
        base: BASE,
        handling: Handling::Strict,
    };
    parse(Some(kind).filter(|kind| !kind.is_empty()), &pairs, context).unwrap()
}

fn find_of(search: Search, count: u16) -> Find {
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
async fn ids(store: &dyn ResourceStore, mut find: Find) -> Vec<String> {
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
