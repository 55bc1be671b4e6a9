//! Promises of searching and paging, held against a model in memory.
use super::{Engine, fixture};
use crate::axis::Commits;
use crate::search::{Filter, Interval, Query, Sort, SortKey};
use crate::store::{NewResource, ResourceType};
use types::{Category, Code, Timestamp};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Resources that [`fill`] commits before the readings.
const OTHERS: i64 = 2;

const SORTS: [SortKey; 3] = [SortKey::Date, SortKey::Id, SortKey::LastUpdated];

fn query(filters: Vec<Filter>, key: SortKey, descending: bool, count: u16) -> Query {
    Query {
        filters,
        sort: Sort::by(key, descending),
        count,
        ..Query::all(ResourceType::Observation)
    }
}

/// `place` is that in the order of commits.
fn holds(filter: &Filter, resource: &NewResource, place: i64) -> bool {
    let index = resource.index();
    let among = |ids: &[_], id: &Option<_>| id.as_ref().is_some_and(|id| ids.contains(id));
    match filter {
        Filter::Id(ids) => ids.contains(resource.id()),
        Filter::Patient(ids) => among(ids, &index.patient),
        Filter::Device(ids) => among(ids, &index.device),
        Filter::Subject { patients, devices } => {
            among(patients, &index.patient)
                || (index.patient.is_none() && among(devices, &index.device))
        }
        Filter::Code(codes) => index.code.is_some_and(|code| codes.contains(&code)),
        Filter::Category(list) => index.category.is_some_and(|one| list.contains(&one)),
        Filter::Date(intervals) => index
            .effective
            .is_some_and(|time| intervals.iter().any(|interval| interval.contains(time))),
        Filter::Updated(intervals) => intervals.iter().any(|interval| interval.contains(NOW)),
        // Everything is of one facility.
        Filter::Source(list) => list.contains(&fixture::source(1).fresh),
        Filter::Commits(list) => list.iter().any(|commits| {
            commits.after < place && commits.until.is_none_or(|until| place <= until)
        }),
    }
}

/// What a query finds in fixture readings `0..count`, applied in that order.
fn model(count: u32, query: &Query) -> Vec<String> {
    let mut found: Vec<(u32, NewResource)> = (0..count)
        .map(|number| (number, fixture::observation(number)))
        .filter(|(number, one)| {
            let place = OTHERS + 1 + i64::from(*number);
            query.filters.iter().all(|filter| holds(filter, one, place))
        })
        .collect();
    found.sort_by(|(a_at, a), (b_at, b)| match query.sort.key {
        SortKey::Id => a.id().cmp(b.id()),
        SortKey::LastUpdated => a_at.cmp(b_at),
        SortKey::Date => {
            let by_id = a.id().cmp(b.id());
            let mixed = query.sort.ids_descending != query.sort.descending;
            let by_id = if mixed { by_id.reverse() } else { by_id };
            a.index().effective.cmp(&b.index().effective).then(by_id)
        }
    });
    if query.sort.descending {
        found.reverse();
    }
    found
        .into_iter()
        .map(|(_, resource)| resource.id().to_string())
        .collect()
}

async fn ids(engine: &dyn Engine, query: Query) -> Vec<String> {
    let store = engine.open().await;
    let found = fixture::all_pages(&*store, query).await;
    found.iter().map(|stored| stored.id.to_string()).collect()
}

async fn fill(engine: &dyn Engine, count: u32) {
    let store = engine.open().await;
    // Other types share the engine's tables and must not be found.
    let others = vec![crate::store::Delivery {
        parcel: fixture::parcel(9_999),
        source: fixture::source(1),
        resources: vec![fixture::patient(1, 1950), fixture::device(1)],
    }];
    store.apply(others, NOW).await.unwrap();
    let delivery = fixture::delivery(1, 0..count);
    store.apply(vec![delivery], NOW).await.unwrap();
}

pub async fn every_order_shows_each_resource_once(engine: &dyn Engine) {
    fill(engine, 100).await;
    for key in SORTS {
        for descending in [false, true] {
            let query = query(Vec::new(), key, descending, 7);
            assert_eq!(
                ids(engine, query.clone()).await,
                model(100, &query),
                "{key:?}"
            );
        }
    }
}

pub async fn equal_times_are_in_the_order_of_ids_that_was_asked_for(engine: &dyn Engine) {
    fill(engine, 60).await;
    for descending in [false, true] {
        let mut query = query(Vec::new(), SortKey::Date, descending, 4);
        query.sort.ids_descending = !descending;
        let found = ids(engine, query.clone()).await;
        assert_eq!(found, model(60, &query), "{descending}");
    }
}

pub async fn a_page_of_one_and_a_page_of_everything_show_the_same(engine: &dyn Engine) {
    fill(engine, 30).await;
    for count in [1, 29, 30, 31, 1_000] {
        let query = query(Vec::new(), SortKey::Date, true, count);
        assert_eq!(
            ids(engine, query.clone()).await,
            model(30, &query),
            "{count}"
        );
    }
}

fn filters() -> Vec<Vec<Filter>> {
    let codes: Vec<Code> = Code::all().collect();
    let id = |number| fixture::observation(number).id().clone();
    let patient = |number| fixture::patient(number, 1950).id().clone();
    let device = |number| fixture::device(number).id().clone();
    let source = |number| fixture::source(number).fresh;
    let at = |ms: i64| Some(fixture::START.0 + ms);
    let span = |from, until| Interval { from, until };
    let commits = |after, until| Commits { after, until };
    vec![
        vec![Filter::Id(vec![id(3)])],
        vec![Filter::Id(vec![id(3), id(77), id(5_000)])],
        vec![Filter::Id(Vec::new())],
        vec![Filter::Patient(vec![patient(1)])],
        vec![Filter::Patient(vec![patient(1), patient(2)])],
        vec![
            Filter::Patient(vec![patient(1)]),
            Filter::Patient(vec![patient(2)]),
        ],
        vec![Filter::Device(vec![device(2)])],
        vec![Filter::Subject {
            patients: vec![patient(1)],
            devices: vec![device(2), device(3)],
        }],
        vec![Filter::Subject {
            patients: Vec::new(),
            devices: vec![device(1)],
        }],
        vec![Filter::Code(vec![codes[0]])],
        vec![Filter::Code(vec![codes[0], codes[7], codes[41]])],
        vec![Filter::Category(vec![Category::Laboratory])],
        vec![Filter::Category(vec![
            Category::Laboratory,
            Category::Survey,
        ])],
        vec![Filter::Date(vec![span(at(10_010), at(20_020))])],
        vec![Filter::Date(vec![
            span(None, at(10_010)),
            span(at(30_030), None),
        ])],
        vec![Filter::Date(vec![span(None, None)])],
        vec![Filter::Date(vec![span(at(20_020), at(20_020))])],
        vec![Filter::Updated(vec![span(Some(NOW.0), None)])],
        vec![Filter::Updated(vec![span(Some(NOW.0 + 1), None)])],
        vec![Filter::Commits(vec![commits(17, Some(90))])],
        vec![Filter::Commits(vec![
            commits(0, Some(5)),
            commits(150, None),
        ])],
        vec![Filter::Commits(vec![commits(7, Some(7))])],
        vec![Filter::Commits(Vec::new())],
        vec![Filter::Source(vec![source(1), source(2)])],
        vec![Filter::Source(vec![source(1)]), Filter::Id(vec![id(3)])],
        vec![Filter::Source(vec![source(2)])],
        vec![Filter::Source(Vec::new())],
        vec![
            Filter::Commits(vec![commits(60, None)]),
            Filter::Patient(vec![patient(1)]),
        ],
        vec![
            Filter::Patient(vec![patient(1)]),
            Filter::Code(vec![codes[1], codes[7]]),
            Filter::Date(vec![span(at(1), None)]),
            Filter::Date(vec![span(None, at(50_000))]),
        ],
    ]
}

pub async fn every_filter_finds_what_it_says(engine: &dyn Engine) {
    const COUNT: u32 = 200;
    fill(engine, COUNT).await;
    let store = engine.open().await;
    let mut found = 0;
    for filters in filters() {
        for key in SORTS {
            let query = query(filters.clone(), key, true, 13);
            let expected = model(COUNT, &query);
            assert_eq!(
                ids(engine, query.clone()).await,
                expected,
                "{filters:?} {key:?}"
            );
            let total = store.total(&query).await.unwrap();
            assert_eq!(total, u64::try_from(expected.len()).unwrap());
            found += expected.len();
        }
    }
    assert!(found > 500, "the filters find something");
}

/// Readings 100.. are written between the pages, at times before, among and after those of 0..100.
pub async fn paging_is_stable_while_others_write(engine: &dyn Engine) {
    fill(engine, 100).await;
    let store = engine.open().await;
    for (round, key) in (0..).zip(SORTS) {
        for descending in [false, true] {
            let mut query = query(Vec::new(), key, descending, 9);
            let old = model(100, &query);
            let mut seen = Vec::new();
            let mut number = 1_000 + round * 200 + u32::from(descending) * 100;
            loop {
                let page = store.search(&query).await.unwrap();
                seen.extend(page.resources.into_iter().map(|one| one.id.to_string()));
                number += 1;
                let delivery = fixture::delivery(number, number..number + 1);
                store.apply(vec![delivery], NOW).await.unwrap();
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
                assert!(seen.len() < 2_000, "pages end");
            }
            let of_old: Vec<_> = seen.into_iter().filter(|id| old.contains(id)).collect();
            assert_eq!(of_old, old, "{key:?} {descending}");
        }
    }
}

pub async fn commits_are_listed_in_their_order(engine: &dyn Engine) {
    let store = engine.open().await;
    for n in [7, 3, 5, 1] {
        store
            .apply(vec![fixture::delivery(n, n..n + 1)], NOW)
            .await
            .unwrap();
    }
    let expected: Vec<_> = [7, 3, 5, 1]
        .map(|n| fixture::observation(n).id().to_string())
        .into();
    let query = query(Vec::new(), SortKey::LastUpdated, false, 2);
    assert_eq!(ids(engine, query).await, expected);
}
