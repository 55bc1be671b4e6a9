//! What every [`Journal`] promises, as one suite over each of them: the facility's store, and those in memory that tests use.
use crate::{Journal, RetainedMessage, Sample, SampleReading, Stored, Urgency};
use types::{AbsentReason, Decimal, Flags, Value};

fn sample(device: &str, seq: u64) -> Sample {
    let reading = |code: &str, unit: &str, value| SampleReading {
        code: code.parse().unwrap(),
        unit: unit.parse().unwrap(),
        value,
        flags: Flags::NONE,
    };
    let rate = Decimal::from_parts(seq.cast_signed(), -2);
    Sample {
        device: device.parse().unwrap(),
        epoch: 1,
        seq,
        source_time: "2026-11-22T10:00:00Z".parse().unwrap(),
        patient: None,
        urgency: Urgency::Routine,
        readings: vec![
            reading("8867-4", "/min", Value::Quantity(rate)),
            reading("2708-6", "%", Value::Absent(AbsentReason::Unknown)),
        ],
    }
}

/// What every journal does.
pub async fn a_journal(journal: &dyn Journal) {
    samples(journal).await;
    retained(journal).await;
}

async fn samples(journal: &dyn Journal) {
    let altered = |sequence| {
        let mut altered = sample("m1", sequence);
        altered.readings.pop();
        altered
    };
    assert_eq!(journal.append(sample("m1", 1)).await.unwrap(), Stored::New);
    let again = journal.append(sample("m1", 1)).await.unwrap();
    assert_eq!(again, Stored::Duplicate, "a sample is stored once");
    let batch = vec![
        sample("m1", 2),
        sample("m1", 1),
        sample("m1", 3),
        sample("m1", 2),
    ];
    let verdicts: Vec<_> = journal.append_batch(batch).await;
    let verdicts: Vec<_> = verdicts.into_iter().map(Result::unwrap).collect();
    let (new, same) = (Stored::New, Stored::Duplicate);
    assert_eq!(verdicts, [new, same, new, same], "each in its place");
    let conflict = journal.append(altered(1)).await;
    assert!(conflict.is_err(), "the same number says one thing for ever");
    assert_eq!(journal.append(altered(4)).await.unwrap(), Stored::New);
}

async fn retained(journal: &dyn Journal) {
    let topic = |name: &str| format!("devices/eu/eu-f1/{name}/status");
    for (name, payload) in [("m1", "here"), ("m2", "there"), ("m1", "gone")] {
        let message = RetainedMessage::plain(&topic(name), payload);
        journal.retain(message).await.unwrap();
    }
    let of = async |prefix: &str| {
        let kept = journal.retained(prefix).await.unwrap();
        let text = |it: &RetainedMessage| String::from_utf8(it.payload.clone()).unwrap();
        kept.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(
        of("devices/eu/eu-f1/m1/").await,
        ["gone"],
        "the last one of a topic"
    );
    assert_eq!(of("devices/eu/eu-f1/").await.len(), 2);
    let empty = RetainedMessage::plain(&topic("m1"), "");
    journal.retain(empty).await.unwrap();
    assert!(of("devices/eu/eu-f1/m1/").await.is_empty());
}
