//! Stays of a real store, from beds and samples to the records of a study.
use super::*;
use crate::{
    facility::{Changes, Facility},
    freshness::Monitor,
};
use ingest::{Journal as _, Sample, SampleReading};
use parking_lot::Mutex;
use rand::{SeedableRng as _, rngs::StdRng};
use std::sync::Arc;
use store::clockguard::Time as _;
use store::deid::PatientRecord;
use store::{
    BedFact, Store,
    testbed::{Hand, hand, options, sample},
};
use tempfile::TempDir;
use types::Phi;

/// When the store's clock begins: 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp(1_767_225_600_000);

const STUDY: &str = r#"
name = "icu"
sites = 2
model = { kind = "logistic" }
data = { stays = { hours = 2 }, minimum_records = 11, features = [
  { name = "age", unit = "a", missing = "mean", scale = { centre = 0.0, width = 1.0 } },
  { name = "hr", code = "8867-4", unit = "/min", summaries = ["mean", "last"], missing = "mean", scale = { centre = 0.0, width = 1.0 } },
  { name = "hr-count", code = "8867-4", unit = "/min", summaries = ["count"], missing = "zero", scale = { centre = 0.0, width = 1.0 } },
], label = { kind = "binary", code = "urn:medmesh:code|in-hospital-death" } }
training = { rounds = 1, steps = 1, batch = 4, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
aggregation = { secure = false, quorum = 1, bound = 1.0 }
"#;

fn study() -> Study {
    toml::from_str(STUDY).unwrap()
}

fn reading(code: &str, unit: &str, value: &str) -> SampleReading {
    SampleReading {
        code: code.parse().unwrap(),
        unit: unit.parse().unwrap(),
        value: Value::Quantity(value.parse().unwrap()),
        flags: Flags::NONE,
    }
}

/// Patient `at` lies in the bed for three hours from hour `4 * at` on; heart rates at the first three hours, one of them a
/// failure of the device, and the outcome at the end.
async fn lies(store: &Store, time: &Hand, at: i64, seq: &mut u64) {
    let begun = START.plus_ms(at * 4 * 3_600_000);
    let record = PatientRecord {
        facility_id: Some(Phi::new(format!("q-{at}"))),
        birth_date: Some(Phi::new(format!("{}", 1950 + at))),
        ..PatientRecord::default()
    };
    for (from, patient) in [(begun, Some(record)), (begun.plus_ms(3 * 3_600_000), None)] {
        let fact = BedFact {
            bed: "bed-1".into(),
            from,
            patient,
            by: "nurse".into(),
        };
        store.enter(fact).await.unwrap();
    }
    let values = [
        (0, reading("8867-4", "/min", &format!("{}", 60 + at))),
        (1, reading("8867-4", "/min", "999")),
        (60, reading("8867-4", "/min", &format!("{}", 70 + at))),
        (130, reading("8867-4", "/min", "200")),
        (
            179,
            reading(
                "urn:medmesh:code|in-hospital-death",
                "1",
                if at % 3 == 0 { "1" } else { "0" },
            ),
        ),
    ];
    for (minute, reading) in values {
        *seq += 1;
        let source_time = begun.plus_ms(minute * 60_000);
        // It comes in when it is measured.
        time.forward(source_time.since(time.now().mesh));
        let sample = Sample {
            source_time,
            readings: vec![reading],
            ..sample("m1", *seq)
        };
        store.append(sample).await.unwrap();
    }
}

async fn facility(dir: &TempDir, stays: i64) -> Facility {
    let time = hand();
    let mut options = options(dir.path(), time.clone());
    options.beds.clear();
    let store = Store::open(options).unwrap();
    let mut seq = 0;
    for at in 0..stays {
        lies(&store, &time, at, &mut seq).await;
    }
    Facility {
        store,
        monitor: Arc::new(Mutex::new(Monitor::new([], 10))),
        changes: Changes::default(),
    }
}

fn span(from_hour: i64, until_hour: i64) -> Span {
    let at = |hour: i64| START.plus_ms(hour * 3_600_000);
    Span {
        from: at(from_hour),
        until: at(until_hour),
    }
}

/// The records of a study by age: inputs and label.
fn rows(prepared: &Prepared) -> Vec<(Vec<f32>, bool)> {
    let all = prepared.train.iter().chain(prepared.test.iter());
    let mut rows: Vec<_> = all.map(|(row, label)| (row.to_vec(), label)).collect();
    rows.sort_by(|one, other| other.0[0].total_cmp(&one.0[0]));
    rows
}

#[tokio::test]
async fn a_study_learns_the_first_hours_of_each_stay_and_its_outcome_from_what_came_through_devices()
 {
    let dir = TempDir::new().unwrap();
    let facility = facility(&dir, 14).await;
    let found = prepared(&facility, &study(), span(0, 80)).await.unwrap();
    let found = found.unwrap();
    let rows = rows(&found);
    assert_eq!(rows.len(), 14);
    for (at, (row, died)) in (0_u8..).zip(&rows) {
        let shift = f32::from(at);
        // Two readings: what was no heart rate, and what came after the first two hours, are none.
        assert_eq!(row[..], [76.0 - shift, 65.0 + shift, 70.0 + shift, 2.0]);
        assert_eq!(*died, at.is_multiple_of(3), "{at}");
    }
    // As of an earlier instant there are fewer stays, and as many where something of the first was deleted.
    let earlier = prepared(&facility, &study(), span(0, 48)).await.unwrap();
    assert_eq!(self::rows(&earlier.unwrap()).len(), 12);
    let kept = prepared(&facility, &study(), span(1, 80)).await.unwrap();
    let kept = kept.unwrap();
    assert_eq!(self::rows(&kept), rows[1..]);
    // Who is judged with follows from the patient alone.
    let side =
        |prepared: &Prepared| -> Vec<f32> { prepared.test.iter().map(|(row, _)| row[0]).collect() };
    let mut before = side(&found);
    before.retain(|age| *age < 76.0);
    assert_eq!(side(&kept), before);
}

#[tokio::test]
async fn models_over_windows_learn_from_the_hours_of_each_stay_in_their_order() {
    let dir = TempDir::new().unwrap();
    let facility = facility(&dir, 14).await;
    for kind in [
        "kind = \"gru\", hidden = 3",
        "kind = \"tcn\", channels = [3], kernel = 2",
    ] {
        let text = STUDY
            .replace("kind = \"logistic\"", kind)
            .replace("hours = 2 ", "hours = 3, window_hours = 1 ")
            .replace(
                "last\"], missing = \"mean\"",
                "last\"], missing = \"carry-forward\"",
            );
        let study: Study = toml::from_str(&text).unwrap();
        let plan = study.plan().unwrap();
        let found = prepared(&facility, &study, span(0, 80)).await.unwrap();
        let found = found.unwrap();
        for (at, (row, _)) in (0_u8..).zip(rows(&found)) {
            let shift = f32::from(at);
            let age = 76.0 - shift;
            // Age, mean and last of the hour, and how many.
            let hours = [
                [age, 60.0 + shift, 60.0 + shift, 1.0],
                [age, 70.0 + shift, 70.0 + shift, 1.0],
                [age, 200.0, 200.0, 1.0],
            ];
            assert_eq!(row, hours.concat(), "{at}");
        }
        let mut random = StdRng::seed_from_u64(3);
        let start = fl::site::model(&study).unwrap().initial(&mut random);
        let sent = fl::site::update(&study, &plan, &start, &found.train, &mut random).unwrap();
        assert_eq!(sent.len() as u64, plan.parameters, "{kind}");
        assert!(sent.iter().any(|number| *number != 0), "{kind}");
    }
    // What a stay has no reading for is what the hour before says.
    let text = STUDY.replace("hours = 2 ", "hours = 4, window_hours = 1 ");
    let text = text.replace(
        "last\"], missing = \"mean\"",
        "last\"], missing = \"carry-forward\"",
    );
    let study: Study = toml::from_str(&text).unwrap();
    let found = prepared(&facility, &study, span(0, 80)).await.unwrap();
    for (row, _) in rows(&found.unwrap()) {
        // A record of a model without windows has them in a row, and no reading came in the fourth hour.
        assert_eq!(row.len(), 4 * 4);
        assert!(
            row.iter().filter(|value| **value == 200.0).count() == 4,
            "{row:?}"
        );
    }
}

#[tokio::test]
async fn readings_that_do_not_fit_are_an_answer_that_says_why() {
    let dir = TempDir::new().unwrap();
    let facility = facility(&dir, 3).await;
    let answer = async |changes: &[(&str, &str)]| {
        let mut text = STUDY.to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        let study: Study = toml::from_str(&text).unwrap();
        let found = prepared(&facility, &study, span(0, 80)).await.unwrap();
        let said = found.err().unwrap_or_default();
        said.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(
        answer(&[]).await,
        "data.minimum_records: fewer than 11 of the facility's stays have every value"
    );
    assert_eq!(
        answer(&[("urn:medmesh:code|in-hospital-death", "9269-2")]).await,
        "data.label.code: no stay here has a reading of `9269-2`"
    );
    assert_eq!(
        answer(&[
            ("code = \"8867-4\", unit = \"/min\", summaries = [\"mean\", \"last\"], missing = \"mean\"",
             "code = \"2345-7\", unit = \"mg/dL\", summaries = [\"mean\"], missing = \"drop-record\""),
        ])
        .await,
        "data.features[1].code: no stay here has a reading of `2345-7`"
    );
    let bed = |from: i64| START.plus_ms(from * 3_600_000);
    let glucose = Sample {
        source_time: bed(0).plus_ms(600_000),
        readings: vec![reading("2345-7", "mmol/L", "5.5")],
        ..sample("m1", 1_000)
    };
    facility.store.append(glucose).await.unwrap();
    assert_eq!(
        answer(&[("{ name = \"age\"", "{ name = \"sugar\", code = \"2345-7\", unit = \"mg/dL\", summaries = [\"mean\"], missing = \"mean\" },\n { name = \"age\"")]).await,
        "data.features[0].unit: readings of `2345-7` are in mmol/L here, not in mg/dL"
    );
}

#[tokio::test]
async fn a_study_looks_at_the_facility_as_it_was_when_the_study_first_came() {
    let dir = TempDir::new().unwrap();
    let facility = facility(&dir, 0).await;
    let ask = async |study: &'static str, at: i64| {
        let read =
            move |commit: &mut store::Commit<'_, '_>| as_of(commit.tx(), study, Timestamp(at));
        facility.store.in_commit(read).await.unwrap()
    };
    assert_eq!(ask("icu-1", 7).await, Timestamp(7));
    assert_eq!(ask("icu-1", 9).await, Timestamp(7));
    assert_eq!(ask("icu-2", 9).await, Timestamp(9));
}

#[tokio::test]
async fn a_study_looks_at_no_stay_of_who_has_opted_out() {
    let dir = TempDir::new().unwrap();
    let facility = facility(&dir, 14).await;
    let records = async || {
        let prepared = prepared(&facility, &study(), span(0, 200)).await.unwrap();
        rows(&prepared.unwrap()).len()
    };
    let all = records().await;
    let before = facility.store.research_choices();
    let id = facility.store.local_ids().patient("q-3");
    let named = || [id.as_str().to_owned()].into();
    let opt_out = async |out| facility.store.opt_out(out, named()).await.unwrap();
    assert_eq!(opt_out(named()).await, 1);
    assert_ne!(
        facility.store.research_choices(),
        before,
        "what is kept is made anew"
    );
    assert_eq!(records().await, all - 1);
    assert_eq!(withheld(&facility, span(0, 200)).await.unwrap(), 1);
    assert_eq!(opt_out([].into()).await, 1);
    assert_eq!(records().await, all);
}
