//! What the facility's own side reads of the store.
use super::*;
use crate::page::{AlarmsAsked, Page, SeriesAsked, Whose};

/// From the beginning of what is measured here to its end.
fn all_of(whose: Whose) -> SeriesAsked {
    SeriesAsked {
        whose,
        code: None,
        from: Timestamp(START - 60_000),
        until: Timestamp(START + 86_400_000),
        after: None,
        limit: 1_000,
    }
}

fn at(seq: u64, ms: i64) -> Sample {
    Sample {
        source_time: Timestamp(START + ms),
        ..sample("m1", seq)
    }
}

/// The numbers that the heart rates of a page say, in its order.
fn rates(page: &Page) -> Vec<String> {
    let rates = page
        .points
        .iter()
        .filter_map(|point| match &point.reading.value {
            Value::Quantity(decimal) => Some(decimal.to_string()),
            Value::Absent(_) => None,
        });
    rates.collect()
}

#[tokio::test]
async fn a_series_is_in_the_order_of_its_source_times_whatever_its_pages() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    // What is late, what counts down, and what was measured in the same millisecond.
    for (seq, ms) in [
        (1, 0),
        (2, 2_000),
        (3, 1_000),
        (9, 3_000),
        (8, 3_000),
        (4, 9_000),
    ] {
        store.append(at(seq, ms)).await.unwrap();
    }
    let expected = ["0.01", "0.03", "0.02", "0.08", "0.09", "0.04"];
    let device = || Whose::Device("m1".parse().unwrap());
    let whole = store.look_at_series(all_of(device())).await.unwrap();
    assert_eq!(
        (rates(&whole), whole.next),
        (expected.map(String::from).to_vec(), None)
    );
    for limit in 1..=7 {
        let (mut seen, mut asked) = (Vec::new(), all_of(device()));
        asked.limit = limit;
        loop {
            let page = store.look_at_series(asked.clone()).await.unwrap();
            seen.extend(rates(&page));
            asked.after = page.next;
            if asked.after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "pages of {limit}");
    }
    let part = SeriesAsked {
        from: Timestamp(START + 1_000),
        until: Timestamp(START + 3_000),
        code: Some("8867-4".parse().unwrap()),
        ..all_of(device())
    };
    let part = store.look_at_series(part).await.unwrap();
    assert_eq!(part.points.len(), 2, "from is in it, until is not");
    assert_eq!(rates(&part), ["0.03", "0.02"]);
}

#[tokio::test]
async fn a_series_is_of_whom_it_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    store.append(at(1, 0)).await.unwrap();
    // Twelve hours later nobody lies in bed-1.
    store.append(at(2, 43_200_000)).await.unwrap();
    let named = Sample {
        patient: Some(Phi::new("p-2".into())),
        ..sample("lab", 3)
    };
    store.append(named).await.unwrap();
    let patient = |id: &str| Whose::Patient(Phi::new(id.into()));
    for (whose, expected) in [
        (patient("p-1"), &["0.01"][..]),
        (patient("p-2"), &["0.03"]),
        (patient("p-3"), &[]),
        (Whose::Bed("bed-1".into()), &["0.01", "0.02"]),
        (Whose::Bed("bed-2".into()), &[]),
        (Whose::Device("lab".parse().unwrap()), &["0.03"]),
        (Whose::Device("m9".parse().unwrap()), &[]),
    ] {
        let page = store.look_at_series(all_of(whose.clone())).await.unwrap();
        assert_eq!(rates(&page), expected, "{whose:?}");
    }
}

#[tokio::test]
async fn beds_show_who_lies_there_with_what_was_measured_of_them() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    store.append(at(1, 0)).await.unwrap();
    store.append(at(2, 1_000)).await.unwrap();
    let beds = store.look_at_beds(Timestamp(START + 2_000)).await.unwrap();
    assert_eq!(beds.len(), 1);
    assert_eq!(beds[0].bed, "bed-1");
    assert_eq!(beds[0].patient, Some(Phi::new("p-1".into())));
    assert_eq!(beds[0].since, Some(Timestamp(START - 86_400_000)));
    let (device, values) = &beds[0].devices[0];
    assert_eq!((device.as_str(), values.len()), ("m1", 2));
    let (_, rate) = values
        .iter()
        .find(|(_, v)| v.code.to_string() == "8867-4")
        .unwrap();
    assert_eq!(rate.value, Value::Quantity("0.02".parse().unwrap()));
    // After the discharge, nothing of the patient before is shown.
    let beds = store
        .look_at_beds(Timestamp(START + 50_000_000))
        .await
        .unwrap();
    assert_eq!(beds[0].patient, None);
    assert!(beds[0].devices[0].1.is_empty());
}

#[tokio::test]
async fn alarms_come_in_pages_whoever_raised_them() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    store.append(at(1, 0)).await.unwrap();
    for seq in 2..5 {
        let alarm = Sample {
            urgency: Urgency::Alarm,
            ..at(seq, 1_000)
        };
        store.append(alarm).await.unwrap();
    }
    let mut asked = AlarmsAsked {
        from: Timestamp(START),
        until: Timestamp(START + 60_000),
        after: None,
        limit: 2,
    };
    let first = store.look_at_alarms(asked).await.unwrap();
    assert_eq!(rates(&first), ["0.02", "0.03"]);
    assert!(first.points.iter().all(|point| point.alarm));
    asked.after = first.next;
    let second = store.look_at_alarms(asked).await.unwrap();
    assert_eq!(
        (rates(&second), second.next),
        (vec!["0.04".to_owned()], None)
    );
    store.close().await;
    let closed = store.look_at_alarms(asked).await.unwrap_err();
    assert_eq!(closed.kind, StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn it_is_known_of_whom_and_of_what_something_was_ever_stored() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let device = |id: &str| Whose::Device(id.parse().unwrap());
    let patient = |id: &str| Whose::Patient(Phi::new(id.into()));
    assert!(!store.knows(patient("p-9")).await.unwrap());
    let named = Sample {
        patient: Some(Phi::new("p-9".into())),
        ..at(1, 0)
    };
    store.append(named).await.unwrap();
    for (whose, known) in [
        (device("m1"), true),
        (device("nope"), false),
        (patient("p-9"), true),
        (patient("nobody"), false),
        (Whose::Bed("b99".into()), false),
    ] {
        let shown = format!("{whose:?}");
        assert_eq!(store.knows(whose).await.unwrap(), known, "{shown}");
    }
}
