//! Promises of Observations that clients write, which are found beside readings.
use super::{Engine, fixture};
use crate::bases::Bases;
use crate::json::Json;
use crate::query::{Context, Filter as Condition, Handling, parse_conditions};
use crate::search::{Filter, Query, Sort, SortKey};
use crate::store::{
    Change, Draft, Expect, Extent, FhirId, ResourceStore, ResourceType, Stored, Transacted,
    Transaction, Whose,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use types::Timestamp;

/// When clients write.
const NOW: Timestamp = Timestamp(1_700_000_009_000);
/// Readings beside what they write.
const READINGS: u32 = 24;
/// Observations that they write.
const WRITTEN: u32 = 12;

/// When Observation `number` is listed: between readings, or at its commit where it says no time.
fn time(number: u32) -> Timestamp {
    match number % 4 {
        3 => NOW,
        _ => fixture::START.plus_ms(i64::from(number) * 700),
    }
}

/// Observation `number` of a client: of patient 1 or of a group, with a time, a period, an instant of issue, or none. One of
/// a group is told by patient 2.
fn text(number: u32) -> String {
    let time = time(number).to_rfc3339();
    let time = match number % 4 {
        0 => format!(r#""effectiveDateTime":"{time}","#),
        1 => format!(r#""effectivePeriod":{{"start":"{time}"}},"#),
        2 => format!(r#""issued":"{time}","#),
        _ => String::new(),
    };
    let subject = match number % 2 {
        0 => format!("Patient/{}", fixture::patient(1, 1950).id()),
        _ => "Group/g".to_owned(),
    };
    let performer = match number {
        3 | 4 => {
            let patient = fixture::patient(2, 1950);
            format!(
                r#","performer":[{{"reference":"Patient/{}"}}]"#,
                patient.id()
            )
        }
        _ => String::new(),
    };
    format!(
        r#"{{"resourceType":"Observation","id":"o-{number}","status":"final",{time}"subject":{{"reference":"{subject}"}},
        "code":{{"coding":[{{"system":"http://x","code":"c{}"}},{{"system":"http://loinc.org","code":"8867-4"}}]}},
        "component":[{{"code":{{"coding":[{{"code":"part"}}]}},"valueQuantity":{{"value":{number},"unit":"mmHg"}}}}],
        "valueQuantity":{{"value":{number},"code":"/min","system":"http://unitsofmeasure.org"}}{performer}}}"#,
        number % 3
    )
}

fn draft(number: u32) -> Draft {
    let id: FhirId = format!("o-{number}").parse().unwrap();
    Draft::unjudged(ResourceType::Observation, id, &text(number), "").unwrap()
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

fn put(number: u32) -> Change {
    Change::Put {
        draft: draft(number),
        expect: Expect::Anything,
    }
}

async fn both(engine: &dyn Engine) -> Arc<dyn ResourceStore> {
    let store = engine.open().await;
    let delivery = fixture::delivery(1, 0..READINGS);
    store.apply(vec![delivery], Timestamp(1)).await.unwrap();
    transact(&*store, (0..WRITTEN).map(put).collect()).await;
    store
}

/// A condition on what clients wrote.
fn condition(query: &str) -> Condition {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs: Vec<(String, String)> = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let context = Context {
        now: NOW.0,
        base: Bases::of("https://own.example/fhir"),
        handling: Handling::Strict,
    };
    parse_conditions("Observation", &pairs, context).unwrap()
}

fn query(filters: Vec<Filter>, written: Option<&str>) -> Query {
    Query {
        filters,
        written: written.map(condition),
        ..Query::all(ResourceType::Observation)
    }
}

fn ids(found: &[Stored]) -> BTreeSet<String> {
    found.iter().map(|stored| stored.id.to_string()).collect()
}

pub async fn what_clients_observe_is_listed_among_readings_in_every_order(engine: &dyn Engine) {
    let store = both(engine).await;
    let mut times: BTreeMap<String, Timestamp> = BTreeMap::new();
    for number in 0..READINGS {
        let reading = fixture::observation(number);
        times.insert(reading.id().to_string(), reading.index().effective.unwrap());
    }
    for number in 0..WRITTEN {
        times.insert(format!("o-{number}"), time(number));
    }
    for key in [SortKey::Date, SortKey::Id, SortKey::LastUpdated] {
        for (descending, ids_descending) in [(false, false), (true, true), (true, false)] {
            let mut orders = Vec::new();
            for count in [1, 7, 1_000] {
                let sort = Sort {
                    ids_descending: match key {
                        SortKey::Date => ids_descending,
                        _ => descending,
                    },
                    ..Sort::by(key, descending)
                };
                let query = Query {
                    sort,
                    count,
                    ..query(Vec::new(), Some(""))
                };
                let found = fixture::all_pages(&*store, query).await;
                assert_eq!(found.len(), times.len(), "{key:?} {descending} {count}");
                assert_eq!(ids(&found), times.keys().cloned().collect());
                let place = |stored: &Stored| match key {
                    SortKey::Date => times[stored.id.as_str()].0,
                    SortKey::LastUpdated => stored.seq,
                    SortKey::Id => 0,
                };
                let ordered = |a: &&Stored, b: &&Stored| {
                    let by_id = a.id.as_str() < b.id.as_str();
                    match place(a).cmp(&place(b)) {
                        std::cmp::Ordering::Equal => by_id != sort.ids_descending,
                        order => order.is_lt() != descending,
                    }
                };
                let all: Vec<&Stored> = found.iter().collect();
                assert!(all.is_sorted_by(ordered), "{key:?} {descending} {count}");
                orders.push(found);
            }
            assert!(orders.iter().all(|one| *one == orders[0]));
        }
    }
}

pub async fn each_is_found_by_its_own_conditions(engine: &dyn Engine) {
    let store = both(engine).await;
    let patient = fixture::patient(1, 1950).id().clone();
    let of_patient = vec![Filter::Patient(vec![patient.clone()])];
    let readings = |holds: &dyn Fn(u32) -> bool| (0..READINGS).filter(|n| holds(*n)).count();
    let none = || vec![Filter::Id(Vec::new())];
    let of_1 = readings(&|number| number % 6 == 1);
    let like = |number: u32| fixture::reading(number).code == fixture::reading(3).code;
    let name = format!("patient={patient}");
    for (filters, written, expected) in [
        (Vec::new(), None, 24),
        (Vec::new(), Some(""), 36),
        (none(), Some(""), 12),
        (none(), None, 0),
        (of_patient.clone(), Some(name.as_str()), of_1 + 6),
        (none(), Some("patient=nobody"), 0),
        (none(), Some("code=c1"), 4),
        (none(), Some("code=http://x|c1,http://x|c2"), 8),
        (none(), Some("code=8867-4"), 12),
        (none(), Some("code:not=c1"), 8),
        (none(), Some("code=c1&value-quantity=gt5"), 2),
        (none(), Some("component-code=part"), 12),
        (none(), Some("component-code-value-quantity=part$gt8"), 3),
        (none(), Some("component-code-value-quantity=8867-4$gt8"), 0),
        (none(), Some("combo-code=part"), 12),
        (none(), Some("date:missing=true"), 6),
        (none(), Some("subject=Group/g"), 6),
        (none(), Some("_id=o-1,o-2"), 2),
        (
            vec![Filter::Code(vec![fixture::reading(3).code])],
            Some("code=c0"),
            readings(&like) + 4,
        ),
    ] {
        let query = Query {
            count: 5,
            ..query(filters, written)
        };
        let found = fixture::all_pages(&*store, query.clone()).await;
        assert_eq!(found.len(), expected, "{query:?}");
        assert_eq!(ids(&found).len(), expected, "{query:?}");
        let total = store.total(&query).await.unwrap();
        assert_eq!(usize::try_from(total).unwrap(), expected, "{query:?}");
    }
    // What is stored in other commits is not found.
    let mut last = query(Vec::new(), Some(""));
    let head = store.head().await.unwrap();
    last.within(vec![crate::axis::Commits {
        after: head - 2,
        until: Some(head),
    }]);
    let found = fixture::all_pages(&*store, last).await;
    assert_eq!(ids(&found), ["o-10", "o-11"].map(str::to_owned).into());
    // What a chain leads to may be thousands.
    let many: Vec<String> = (0..3_000).map(|number| format!("o-{number}")).collect();
    let many = Query {
        written: Some(Condition::Id(many)),
        ..query(none(), None)
    };
    assert_eq!(fixture::all_pages(&*store, many).await.len(), 12);
}

pub async fn what_clients_observe_is_counted_and_listed_with_their_patients(engine: &dyn Engine) {
    let store = both(engine).await;
    let kind = ResourceType::Observation;
    assert_eq!(store.counts().await.unwrap().of(kind), 36);
    let patient = fixture::patient(1, 1950).id().clone();
    // Numbers are of readings alone: what clients write may be larger than any engine's.
    let name = format!("patient={patient}");
    let both = query(vec![Filter::Patient(vec![patient.clone()])], Some(&name));
    let readings = query(both.filters.clone(), None);
    let measures = store.measures(&readings, 100).await.unwrap();
    assert!(!measures.is_empty());
    assert_eq!(
        store.measures(&both, 100).await.unwrap().len(),
        measures.len()
    );
    let (until, _) = store.last().await.unwrap();
    for (whose, written) in [
        (Whose::Everybody, 12),
        (Whose::AnyPatient, 7),
        (Whose::Of(vec![patient]), 6),
        // One that has no other subject, and one of patient 1 that patient 2 performed.
        (Whose::Of(vec![fixture::patient(2, 1950).id().clone()]), 2),
        (Whose::Of(vec![fixture::patient(3, 1950).id().clone()]), 0),
    ] {
        let extent = Extent {
            whose,
            ..Extent::of(kind, until, 1_000)
        };
        let page = store.extent(&extent).await.unwrap();
        let of_clients = page.resources.iter();
        let of_clients = of_clients.filter(|one| one.id.as_str().starts_with("o-"));
        assert_eq!(of_clients.count(), written, "{extent:?}");
    }
    // A change and a deletion are each one version more.
    let changed = text(0).replace("\"final\"", "\"amended\"");
    let changed = Draft::unjudged(kind, draft(0).id().clone(), &changed, "").unwrap();
    let expect = Expect::Version(1);
    let delete = Change::Delete {
        kind,
        id: draft(1).id().clone(),
        expect,
    };
    let put = Change::Put {
        draft: changed,
        expect,
    };
    transact(&*store, vec![put, delete]).await;
    assert_eq!(store.counts().await.unwrap().of(kind), 35);
    let all = fixture::all_pages(&*store, query(Vec::new(), Some(""))).await;
    assert_eq!(all.len(), 35);
    assert!(Json::parse(&all[0].json).is_ok());
    let amended = query(vec![Filter::Id(Vec::new())], Some("status=amended"));
    let amended = fixture::all_pages(&*store, amended).await;
    assert_eq!((amended.len(), amended[0].version), (1, 2));
}
