//! Promises of what a page costs: what it shows, however much there is and however much of it is on the pages before. No
//! clock is looked at: an engine says how many blocks it read or how many instructions it carried out.
use super::Engine;
use super::finding::{draft, find_of, ids, read};
use super::fixture;
use crate::query::{Filter as Condition, compartment};
use crate::search::{Filter, Query, Sort, SortKey};
use crate::store::{
    Change, Delivery, Expect, Extent, Find, Guard, HistoryQuery, ResourceStore, ResourceType,
    Scope, Sights, Transaction,
};
use std::{collections::BTreeSet, ops::Range};
use types::Timestamp;

/// What an engine is asked for, one page of it.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A search by any parameter.
    Find(Find),
    /// What a change expects a search to find.
    Guard(Guard),
    /// A search of readings.
    Search(Query),
    /// What was there at a commit.
    Extent(Extent),
    /// Versions.
    History(HistoryQuery),
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Resources at first, and four times as many: of which one is found, of which pages are shown, and readings.
const CODED: [u32; 2] = [500, 2_000];
const RESOURCES: [u32; 2] = [1_000, 4_000];
const READINGS: [u32; 2] = [600, 2_400];
/// Resources on a page.
const PAGE: u16 = 10;
/// Resources before a later page: it is the fiftieth.
const BEFORE: u16 = 490;
/// Resources that one opening of a store writes: PostgreSQL's looks at its tables after more than that.
const CHUNK: usize = 200;

fn condition() -> ResourceType {
    ResourceType::parse("Condition").unwrap()
}

/// In no order of the numbers.
fn id(number: u32) -> String {
    format!("c-{:05}", number * 7_919 % 100_000)
}

/// Of one of four patients; of every third one it was the second patient who said it.
fn put(number: u32) -> Change {
    let asserter = match number % 3 {
        0 => r#","asserter":{"reference":"Patient/p-1"}"#,
        _ => "",
    };
    let text = format!(
        r#"{{"resourceType":"Condition","identifier":[{{"system":"urn:list","value":"n-{number}"}}],
        "clinicalStatus":{{"coding":[{{"system":"urn:status","code":"active"}}]}},
        "subject":{{"reference":"Patient/p-{}"}}{asserter}}}"#,
        number % 4
    );
    Change::Put {
        draft: draft(&text, Some(&id(number))),
        expect: Expect::Anything,
    }
}

async fn fill(engine: &dyn Engine, numbers: Range<u32>) {
    let all: Vec<u32> = numbers.collect();
    for chunk in all.chunks(CHUNK) {
        let transaction = Transaction {
            author: "writer".into(),
            now: NOW,
            changes: chunk.iter().map(|number| put(*number)).collect(),
            guards: Vec::new(),
        };
        let store = engine.open().await;
        store.transact(transaction).await.unwrap();
    }
}

/// Delivers readings in no order of their times.
async fn deliver(engine: &dyn Engine, parcel: u32, numbers: Range<u32>) {
    let (first, many) = (numbers.start, numbers.end - numbers.start);
    let resources = (0..many).map(|at| fixture::observation(first + at * 7_919 % many));
    let delivery = Delivery {
        parcel: fixture::parcel(parcel),
        source: fixture::source(1),
        resources: resources.collect(),
    };
    let store = engine.open().await;
    store.apply(vec![delivery], NOW).await.unwrap();
}

/// The same page behind so many resources.
async fn behind(store: &dyn ResourceStore, asked: &Asked, many: u16) -> Asked {
    let mut asked = asked.clone();
    match &mut asked {
        Asked::Find(find) => {
            let before = Find {
                count: many,
                ..find.clone()
            };
            find.after = store.find(&before).await.unwrap().next;
            assert!(find.after.is_some(), "{find:?}");
        }
        Asked::Search(query) => {
            let before = Query {
                count: many,
                ..query.clone()
            };
            query.after = store.search(&before).await.unwrap().next;
            assert!(query.after.is_some(), "{query:?}");
        }
        Asked::Extent(extent) => {
            let before = Extent {
                count: many,
                ..extent.clone()
            };
            extent.after = store.extent(&before).await.unwrap().next;
            assert!(extent.after.is_some(), "{extent:?}");
        }
        Asked::History(query) => {
            let before = HistoryQuery {
                count: many,
                ..query.clone()
            };
            query.after = store.history(&before).await.unwrap().next;
            assert!(query.after.is_some(), "{query:?}");
        }
        Asked::Guard(_) => {}
    }
    asked
}

/// The first page, and one behind so many resources.
async fn costs(engine: &dyn Engine, asked: &Asked, many: u16) -> [u64; 2] {
    let store = engine.open().await;
    let later = behind(&*store, asked, many).await;
    [engine.cost(asked).await, engine.cost(&later).await]
}

async fn cost_what_they_show(engine: &dyn Engine, asked: &[Asked], many: u16) {
    // One more than asked for tells whether there is a next page.
    let most = engine.most_of_a_row() * (u64::from(PAGE) + 1);
    for one in asked {
        for cost in costs(engine, one, many).await {
            assert!(cost <= most, "{cost} of {most}: {one:?}");
        }
    }
}

/// Searches by a parameter, and all of a patient, as `$everything` asks for it.
fn searches() -> Vec<Asked> {
    let by_status = find_of(read("Condition", "clinical-status=active"), PAGE);
    vec![Asked::Find(by_status), Asked::Find(everything())]
}

fn everything() -> Find {
    let own = compartment("Patient", "p-1", "Condition").unwrap();
    let all = Condition::All(vec![own, Condition::All(Vec::new())]);
    Find::of(condition(), Condition::All(vec![all]), PAGE)
}

pub async fn a_search_by_a_code_costs_what_it_finds_in_tables_that_nobody_looked_at(
    engine: &dyn Engine,
) {
    let by_code = read("Condition", "identifier=urn:list|n-77");
    let guard = Guard {
        of: 0,
        kind: condition(),
        filter: Condition::All(by_code.filters.clone()),
        sights: Sights::new(),
        found: None,
    };
    let find = find_of(by_code, PAGE);
    let asked = [Asked::Find(find.clone()), Asked::Guard(guard)];
    let mut filled = 0;
    for until in CODED {
        fill(engine, filled..until).await;
        filled = until;
        assert_eq!(ids(&*engine.open().await, find.clone()).await, [id(77)]);
        // One is found, and PostgreSQL knows nothing of its tables.
        let most = 2 * engine.most_of_a_row();
        for one in &asked {
            let cost = engine.cost(one).await;
            assert!(cost <= most, "of {until}: {cost} of {most}: {one:?}");
        }
    }
}

pub async fn a_page_costs_what_it_shows(engine: &dyn Engine) {
    let mut filled = 0;
    for until in RESOURCES {
        fill(engine, filled..until).await;
        filled = until;
        engine.settled().await;
        let (commit, _) = engine.open().await.last().await.unwrap();
        let history = |by_id| {
            Asked::History(HistoryQuery {
                scope: Scope::Type(condition()),
                commits: None,
                updated: None,
                there: None,
                by_id,
                after: None,
                count: PAGE,
            })
        };
        let mut asked = vec![
            Asked::Find(find_of(read("Condition", ""), PAGE)),
            Asked::Extent(Extent::of(condition(), commit, PAGE)),
            history(false),
            history(true),
        ];
        if engine.searches_by_the_page() {
            asked.extend(searches());
        }
        cost_what_they_show(engine, &asked, BEFORE).await;
    }
}

pub async fn a_page_of_readings_costs_what_it_shows(engine: &dyn Engine) {
    let sorted = |sort| {
        Asked::Search(Query {
            written: Some(Condition::All(Vec::new())),
            sort,
            count: PAGE,
            ..Query::all(ResourceType::Observation)
        })
    };
    let ids_ascend = Sort {
        ids_descending: false,
        ids_asked: true,
        ..Sort::by(SortKey::Date, true)
    };
    let of_patient = Query {
        filters: vec![Filter::Patient(vec![
            fixture::patient(1, 1950).id().clone(),
        ])],
        sort: Sort::by(SortKey::Date, true),
        count: PAGE,
        ..Query::all(ResourceType::Observation)
    };
    let asked = [
        sorted(Sort::by(SortKey::Date, true)),
        sorted(ids_ascend),
        sorted(Sort::by(SortKey::LastUpdated, true)),
        sorted(Sort::by(SortKey::Id, false)),
    ];
    let mut delivered = 0;
    for (parcel, until) in (0..).zip(READINGS) {
        deliver(engine, parcel, delivered..until).await;
        delivered = until;
        engine.settled().await;
        cost_what_they_show(engine, &asked, BEFORE).await;
        // A sixth of them are the patient's.
        cost_what_they_show(engine, &[Asked::Search(of_patient.clone())], 90).await;
    }
}

pub async fn a_page_of_a_search_costs_the_same_wherever_it_is(engine: &dyn Engine) {
    let [few, _] = RESOURCES;
    fill(engine, 0..few).await;
    engine.settled().await;
    for asked in searches() {
        let [first, later] = costs(engine, &asked, BEFORE).await;
        let most = 2 * first + engine.most_of_a_row();
        assert!(later <= most, "{later} of {most}: {asked:?}");
    }
    let found = ids(&*engine.open().await, everything()).await;
    let is_own = |number: &u32| number % 4 == 1 || number.is_multiple_of(3);
    let own: BTreeSet<String> = (0..few).filter(is_own).map(id).collect();
    assert!(found.iter().eq(&own), "{found:?}");
}
