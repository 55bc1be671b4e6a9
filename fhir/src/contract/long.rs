//! Promises of pages that end by their bytes, and of transactions over what is long.
use super::Engine;
use crate::admit::Holding;
use crate::query::{self, Filter};
use crate::search::{Query, Sort, SortKey};
use crate::store::{
    Change, Draft, Expect, Extent, FhirId, Find, HistoryQuery, MAX_PAGE, MAX_PAGE_BYTES,
    ResourceStore, ResourceType, Scope, Stored, Transacted, Transaction, Written,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use types::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_009_000);
/// Resources of each type.
const COUNT: u32 = 12;
/// Bytes of one, of which a page has room for seven.
const LONG: usize = 600_000;

fn basic() -> ResourceType {
    ResourceType::parse("Basic").unwrap()
}

fn id(number: u32) -> FhirId {
    format!("l-{number:02}").parse().unwrap()
}

/// A resource of so many bytes of one letter, in strings that are short enough for R4.
fn draft(kind: ResourceType, number: u32, (letter, bytes): (&str, usize)) -> Draft {
    let coding = format!(r#"{{"display":"{}"}}"#, letter.repeat(bytes / 8));
    let codings = vec![coding; 8].join(",");
    let status = match kind == ResourceType::Observation {
        true => r#""status":"final","#,
        false => "",
    };
    let text = format!(r#"{{"resourceType":"{kind}",{status}"code":{{"coding":[{codings}]}}}}"#);
    Draft::parse(&Holding::Identified, kind, id(number), &text, "").unwrap()
}

fn put(kind: ResourceType, number: u32, content: (&str, usize)) -> Change {
    Change::Put {
        draft: draft(kind, number, content),
        expect: Expect::Anything,
    }
}

async fn transact(store: &dyn ResourceStore, changes: Vec<Change>) -> Vec<Written> {
    let transaction = Transaction {
        author: "writer".into(),
        now: NOW,
        changes,
        guards: Vec::new(),
    };
    match store.transact(transaction).await.unwrap() {
        Transacted::Done(written) => written,
        unmet => panic!("{unmet:?}"),
    }
}

/// The first of a type is longer than a page.
async fn fill(store: &dyn ResourceStore, kind: ResourceType) {
    let bytes = |number| match number {
        0 => MAX_PAGE_BYTES + 8,
        _ => LONG,
    };
    let changes = (0..COUNT).map(|number| put(kind, number, ("a", bytes(number))));
    transact(store, changes.collect()).await;
}

/// Each page ends with the resource that reaches the bytes of a page, or with the last of all, and each resource is on one.
fn check(pages: &[Vec<Stored>], what: &str) {
    let bytes = |all: &[Stored]| all.iter().map(|one| one.json.len()).sum::<usize>();
    assert!((2..=3).contains(&pages.len()), "{what}: {}", pages.len());
    for (at, page) in pages.iter().enumerate() {
        let (_, before) = page.split_last().unwrap();
        assert!(bytes(before) < MAX_PAGE_BYTES, "{what}");
        let is_last = at + 1 == pages.len();
        assert!(is_last || bytes(page) >= MAX_PAGE_BYTES, "{what}");
    }
    let ids: BTreeSet<&FhirId> = pages.iter().flatten().map(|one| &one.id).collect();
    let count = pages.iter().map(Vec::len).sum::<usize>();
    let all = usize::try_from(COUNT).unwrap();
    assert_eq!((ids.len(), count), (all, all), "{what}");
}

async fn found(store: &dyn ResourceStore, mut find: Find) -> Vec<Vec<Stored>> {
    let mut pages = Vec::new();
    while pages.len() < 100 {
        let page = store.find(&find).await.unwrap();
        pages.push(page.resources);
        find.after = page.next;
        if find.after.is_none() {
            break;
        }
    }
    pages
}

async fn searched(store: &dyn ResourceStore, mut query: Query) -> Vec<Vec<Stored>> {
    let mut pages = Vec::new();
    while pages.len() < 100 {
        let page = store.search(&query).await.unwrap();
        pages.push(page.resources);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    pages
}

async fn versions(store: &dyn ResourceStore, mut query: HistoryQuery) -> Vec<Vec<Stored>> {
    let mut pages = Vec::new();
    while pages.len() < 100 {
        let page = store.history(&query).await.unwrap();
        pages.push(page.versions);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    pages
}

async fn extents(store: &dyn ResourceStore, mut extent: Extent) -> Vec<Vec<Stored>> {
    let mut pages = Vec::new();
    while pages.len() < 100 {
        let page = store.extent(&extent).await.unwrap();
        pages.push(page.resources);
        extent.after = page.next;
        if extent.after.is_none() {
            break;
        }
    }
    pages
}

pub async fn a_page_ends_by_its_bytes_and_the_next_one_goes_on_behind_it(engine: &dyn Engine) {
    let store = engine.open().await;
    fill(&*store, basic()).await;
    fill(&*store, ResourceType::Observation).await;
    let (head, _) = store.last().await.unwrap();
    let by_time = |descending| query::Sort {
        by: query::SortBy::LastUpdated,
        descending,
    };
    for (sort, marks) in [
        (Vec::new(), None),
        (vec![by_time(true)], None),
        (vec![by_time(false)], Some(vec![head / 2, head])),
    ] {
        let find = Find {
            sort,
            marks,
            ..Find::of(basic(), Filter::All(Vec::new()), MAX_PAGE)
        };
        check(&found(&*store, find).await, "find");
    }
    for key in [SortKey::Id, SortKey::LastUpdated, SortKey::Date] {
        let query = Query {
            written: Some(Filter::All(Vec::new())),
            sort: Sort::by(key, false),
            count: MAX_PAGE,
            ..Query::all(ResourceType::Observation)
        };
        check(&searched(&*store, query).await, "search");
    }
    for by_id in [false, true] {
        let query = HistoryQuery {
            scope: Scope::Type(basic()),
            commits: None,
            updated: None,
            there: None,
            by_id,
            after: None,
            count: MAX_PAGE,
        };
        check(&versions(&*store, query).await, "history");
    }
    for kind in [basic(), ResourceType::Observation] {
        let extent = Extent::of(kind, head, MAX_PAGE);
        check(&extents(&*store, extent).await, "extent");
    }
}

pub async fn what_is_long_makes_a_new_version_by_another_content_alone(engine: &dyn Engine) {
    let store = engine.open().await;
    let long = |letter| vec![put(basic(), 1, (letter, LONG))];
    for (changes, version) in [
        (long("a"), 1),
        (long("a"), 1),
        // As long as what is there.
        (long("b"), 2),
        (long("b"), 2),
        (vec![put(basic(), 1, ("b", LONG + 8))], 3),
        (long("b"), 4),
    ] {
        let written = transact(&*store, changes).await;
        assert_eq!(written[0].version, version);
    }
    let (store, id) = (engine.open().await, id(1));
    let delete = Change::Delete {
        kind: basic(),
        id: id.clone(),
        expect: Expect::Version(4),
    };
    assert_eq!(transact(&*store, vec![delete]).await[0].version, 5);
    assert_eq!(store.read(basic(), &id).await.unwrap(), None);
}

pub async fn of_many_who_look_at_once_each_gets_its_own_however_long_it_is(engine: &dyn Engine) {
    const CLIENTS: u32 = 64;
    let store = engine.open().await;
    let bytes = |number: u32| if number % 2 == 0 { 800 } else { 80_000 };
    let changes = (0..8).map(|number| put(basic(), number, ("a", bytes(number))));
    transact(&*store, changes.collect()).await;
    let clients = (0..CLIENTS).map(|client| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.look(basic(), &id(client % 10)).await.unwrap().0 })
    });
    for (client, looked) in (0..).zip(clients.collect::<Vec<_>>()) {
        let number: u32 = client % 10;
        let found = looked.await.unwrap().map(|stored| stored.json);
        let there = (number < 8).then(|| draft(basic(), number, ("a", bytes(number))));
        let expected = there.map(|draft| draft.json().to_owned());
        assert!(found == expected, "{number}");
    }
}
