//! What is watched is found as a search would find it, and what is not taken is tried ever more seldom.
use super::retry::{KEPT_MS, RETRIED_MS};
use super::*;
use crate::contract::fixture;
use crate::query::Found;
use crate::store::rows_of;
use std::collections::{BTreeMap, BTreeSet};
use types::Timestamp;

fn spec(conditions: &str) -> String {
    let spec = Spec {
        author: "a".into(),
        topic: "urn:medmesh:topic:observation-created".into(),
        filters: vec![("Observation".into(), conditions.into())],
        types: BTreeMap::from([("Observation".into(), Vec::new())]),
        base: String::new(),
        other_bases: Vec::new(),
        written: 0,
        channel: Channel::Fetched,
        content: Content::Empty,
        end: None,
    };
    spec.to_text()
}

#[test]
fn of_many_subscriptions_those_are_found_whose_filter_holds_and_no_reading_is_passed_over() {
    let patient = |n: u32| fixture::observation(n).index().patient.clone();
    let patients: BTreeSet<_> = (0..200)
        .filter_map(patient)
        .map(|id| id.to_string())
        .collect();
    let mut asked: Vec<String> = patients.iter().map(|id| format!("patient={id}")).collect();
    let of_patients = asked.len();
    asked.extend((0..40).map(|n| format!("code={}-{n}", 10_000 + n)));
    for more in [
        "code=8867-4",
        "category=vital-signs",
        "value-quantity=gt50",
        "code=http://loinc.org|8867-4",
    ] {
        asked.push(more.to_owned());
    }
    let asked: Vec<(i64, String)> = (0..).zip(asked.iter().map(|text| spec(text))).collect();
    let each = |n: usize| Watches::of(asked.get(n).map(|(key, text)| (*key, text.as_str())));
    let alone: Vec<Watches> = (0..asked.len()).map(each).collect();
    let together = Watches::of(asked.iter().map(|(key, text)| (*key, text.as_str())));
    let mut told = 0;
    for number in 0..60 {
        let reading = fixture::observation(number);
        let rows = rows_of(reading.json(), None);
        let found = Found {
            resource_type: "Observation",
            id: reading.id().as_str(),
            last_updated: 0,
            rows: &rows,
        };
        let mut expected = Vec::new();
        for watches in &alone {
            let keys = watches.find(What::Create, &found);
            // The look before is never wrongly no.
            assert!(keys.is_empty() || watches.may_find(&reading));
            expected.extend(keys);
        }
        told += expected.len();
        assert_eq!(together.find(What::Create, &found), expected, "{number}");
        assert!(together.find(What::Delete, &found).is_empty());
    }
    assert!(told > 60, "{told}");
    assert!(
        !each(of_patients).may_find(&fixture::observation(1)),
        "a code that it does not have"
    );
}

#[test]
fn attempts_become_seldom_and_end_long_before_events_are_forgotten() {
    let mut now = Timestamp(0);
    let mut progress = Progress::taken(now);
    let mut attempts = 0;
    while !progress.is_given_up(now, RETRIED_MS) {
        progress = progress.failed(now);
        assert!(progress.due > now.0 && progress.due <= now.0 + 3_600_000);
        now = Timestamp(progress.due);
        attempts += 1;
    }
    assert!((168..200).contains(&attempts), "{attempts}");
    assert_eq!(Progress::of_text(&progress.to_text()), progress);
    const { assert!(KEPT_MS >= 2 * RETRIED_MS) };
}
