//! What a study takes of stays.
use super::*;
use types::CareUnit;

const STUDY: &str = r#"
name = "icu"
sites = 2
model = { kind = "logistic" }
data = { stays = { hours = 48 }, minimum_records = 11, features = [
  { name = "age", unit = "a", missing = "mean", scale = { centre = 0.0, width = 1.0 } },
  { name = "care-unit", unit = "1", categories = [1, 2, 3, 4], missing = "zero" },
  { name = "hr", code = "8867-4", unit = "/min", summaries = ["mean", "min", "max", "first", "last"], missing = "mean", scale = { centre = 80.0, width = 10.0, limit = 3.0 } },
  { name = "hr-count", code = "8867-4", unit = "/min", summaries = ["count"], missing = "zero", scale = { centre = 0.0, width = 1.0 } },
  { name = "hr-trend", code = "8867-4", unit = "/min", summaries = ["trend"], missing = "zero", scale = { centre = 0.0, width = 1.0 } },
], label = { kind = "binary", code = "urn:medmesh:code|in-hospital-death" } }
training = { rounds = 1, steps = 1, batch = 4, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
aggregation = { secure = false, quorum = 2, bound = 1.0 }
evaluation = { test_share = 0.6 }
"#;

fn text(changes: &[(&str, &str)]) -> String {
    let mut text = STUDY.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    text
}

fn study(changes: &[(&str, &str)]) -> Study {
    toml::from_str(&text(changes)).unwrap()
}

fn measured(code: &str, hours: f64, value: f64) -> Measured {
    let code: Code = code.parse().unwrap();
    Measured {
        code,
        unit: code.info().unit.parse().unwrap(),
        at_ms: (hours * HOUR_MS as f64) as i64,
        value,
    }
}

/// Stay `at`: heart rates at hours 0, 1, 2 and 50, an outcome at hour 51.
fn stay(at: u64) -> Stay {
    let base = 60.0 + at as f64;
    let heart = [
        (0.0, base),
        (1.0, base + 3.0),
        (2.0, base + 3.0),
        (50.0, 300.0),
    ];
    let mut readings: Vec<_> = heart
        .into_iter()
        .map(|(hours, value)| measured("8867-4", hours, value))
        .collect();
    let died = f64::from(u8::from(at.is_multiple_of(3)));
    readings.push(measured("urn:medmesh:code|in-hospital-death", 51.0, died));
    Stay {
        patient: at,
        facts: Facts {
            age: Some(at as f64),
            care_unit: Some(CareUnit::Medical),
            ..Facts::default()
        },
        readings,
    }
}

fn prepared(study: &Study, stays: &[Stay]) -> Result<Prepared, Vec<Problem>> {
    let mut table = StayTable::of(study).unwrap();
    stays.iter().for_each(|stay| table.push(stay));
    table.prepare()
}

fn rows(prepared: &Prepared) -> Vec<(Vec<f32>, bool)> {
    let all = prepared.train.iter().chain(prepared.test.iter());
    let mut rows: Vec<_> = all.map(|(row, label)| (row.to_vec(), label)).collect();
    rows.sort_by(|one, other| one.0[0].total_cmp(&other.0[0]));
    rows
}

#[test]
fn features_are_of_the_first_hours_and_the_label_of_the_whole_stay() {
    let study = study(&[]);
    assert_eq!(study.problems(), []);
    let stays: Vec<_> = (0..20).map(stay).collect();
    let found = prepared(&study, &stays).unwrap();
    let (row, died) = &rows(&found)[6];
    assert!(died);
    let scaled = |value: f32| (value - 80.0) / 10.0;
    let expected = [
        6.0,
        0.0,
        1.0,
        0.0,
        scaled(68.0),
        scaled(66.0),
        scaled(69.0),
        scaled(66.0),
        scaled(69.0),
        3.0,
        1.5,
    ];
    for (have, want) in row.iter().zip(expected) {
        assert!((have - want).abs() < 1e-6, "{row:?}");
    }
    assert_eq!(row.len(), study.inputs());
    // The most widths that a value counts.
    let mut far = stay(0);
    far.readings[0].value = 200.0;
    let stays: Vec<_> = std::iter::once(far).chain((1..20).map(stay)).collect();
    assert_eq!(rows(&prepared(&study, &stays).unwrap())[0].0[6], 3.0);
}

#[test]
fn windows_are_rows_of_what_was_measured_in_each_and_a_missing_one_is_carried_forward() {
    let study = study(&[
        ("hours = 48", "hours = 6, window_hours = 2"),
        ("kind = \"logistic\"", "kind = \"gru\", hidden = 2"),
        (
            ", summaries = [\"mean\", \"min\", \"max\", \"first\", \"last\"], missing = \"mean\"",
            ", summaries = [\"last\"], missing = \"carry-forward\"",
        ),
    ]);
    assert_eq!(study.problems(), []);
    let stays: Vec<_> = (0..20).map(stay).collect();
    let found = prepared(&study, &stays).unwrap();
    let (row, _) = &rows(&found)[5];
    let windows: Vec<_> = row.chunks(study.data.inputs()).collect();
    assert_eq!(windows.len(), 3);
    let (first, second) = ((68.0_f32 - 80.0) / 10.0, (68.0_f32 - 80.0) / 10.0);
    assert_eq!(windows[0], [5.0, 0.0, 1.0, 0.0, first, 2.0, 3.0]);
    assert_eq!(windows[1], [5.0, 0.0, 1.0, 0.0, second, 1.0, 0.0]);
    assert_eq!(windows[2], [5.0, 0.0, 1.0, 0.0, second, 0.0, 0.0]);
}

#[test]
fn what_is_taken_of_readings_is_what_it_is_called_and_nothing_of_none() {
    let some = [(0, 4.0), (HOUR_MS, 8.0), (3 * HOUR_MS, 6.0)];
    for (summary, of_some, of_none) in [
        (Summary::Mean, Some(6.0), None),
        (Summary::Min, Some(4.0), None),
        (Summary::Max, Some(8.0), None),
        (Summary::First, Some(4.0), None),
        (Summary::Last, Some(6.0), None),
        (Summary::Count, Some(3.0), Some(0.0)),
    ] {
        assert_eq!(summary.of(&some), of_some, "{summary:?}");
        assert_eq!(summary.of(&[]), of_none, "{summary:?}");
    }
    let line = [(0, 1.0), (HOUR_MS, 3.0), (4 * HOUR_MS, 9.0)];
    assert!((Summary::Trend.of(&line).unwrap() - 2.0).abs() < 1e-12);
    assert_eq!(Summary::Trend.of(&[(5, 1.0), (5, 2.0)]), None);
    assert_eq!(Summary::Trend.of(&[]), None);
}

#[test]
fn two_stays_of_a_patient_are_on_the_same_side_and_later_ones_move_nobody() {
    let study = study(&[]);
    let again = |at: u64| Stay {
        patient: at % 10,
        ..stay(at)
    };
    let stays: Vec<_> = (0..40).map(again).collect();
    let sides = |stays: &[Stay]| -> BTreeSet<(u64, bool)> {
        let found = prepared(&study, stays).unwrap();
        let of = |records: &crate::train::Records, side| -> Vec<(u64, bool)> {
            records
                .iter()
                .map(|(row, _)| (row[0] as u64 % 10, side))
                .collect()
        };
        [of(&found.train, false), of(&found.test, true)]
            .concat()
            .into_iter()
            .collect()
    };
    let all = sides(&stays);
    assert_eq!(all.len(), 10, "{all:?}");
    assert_eq!(sides(&stays[..20]), all);
}

#[test]
fn a_stay_without_an_outcome_is_no_record() {
    let mut stays: Vec<_> = (0..20).map(stay).collect();
    for stay in &mut stays[..4] {
        stay.readings.pop();
    }
    assert_eq!(rows(&prepared(&study(&[]), &stays).unwrap()).len(), 16);
    let few = prepared(&study(&[]), &stays[..12]).err().unwrap();
    assert_eq!(few[0].path, "data.minimum_records");
}

#[test]
fn where_something_is_promised_it_is_not_told_how_many_stays_have_a_reading() {
    let hidden = [(
        "aggregation =",
        "privacy = { unit = \"record\", epsilon = 1.0, delta = 1e-3, clip = 1.0 }\naggregation =",
    )];
    let mut stays: Vec<_> = (0..12).map(stay).collect();
    for stay in &mut stays {
        stay.readings.pop();
    }
    let found = prepared(&study(&hidden), &stays).unwrap();
    assert_eq!((found.counted, found.train.len()), (12, 0));
    let few = prepared(&study(&hidden), &stays[..10]).err().unwrap();
    assert_eq!(
        few[0].to_string(),
        "data.minimum_records: the facility has fewer than 11 stays"
    );
}

/// A change of the study, the key that is wrong then, and what is said.
const WRONG: &[((&str, &str), &str, &str)] = &[
    (
        ("unit = \"a\"", "unit = \"mo\""),
        "data.features[0].unit",
        "is a for age",
    ),
    (
        ("name = \"age\"", "name = \"hair\""),
        "data.features[0].code",
        "only age, sex, height, weight, care-unit",
    ),
    (
        (
            "summaries = [\"count\"]",
            "summaries = [\"count\", \"mean\"]",
        ),
        "data.features[3].summaries",
        "a feature of their own",
    ),
    (
        (
            "summaries = [\"count\"]",
            "summaries = [\"count\", \"trend\"]",
        ),
        "data.features[3].summaries",
        "a feature of their own",
    ),
    (
        ("summaries = [\"count\"]", "summaries = []"),
        "data.features[3].summaries",
        "says what is taken",
    ),
    (
        ("limit = 3.0", "limit = 0.0"),
        "data.features[2].scale.limit",
        "is from 1",
    ),
    (
        ("unit = \"/min\"", "unit = \"1\""),
        "data.features[2].unit",
        "is /min for 8867-4",
    ),
    (
        (
            "code = \"urn:medmesh:code|in-hospital-death\"",
            "column = \"died\"",
        ),
        "data.label",
        "has exactly a `code`",
    ),
    (
        (
            "code = \"urn:medmesh:code|in-hospital-death\"",
            "code = \"8867-4\"",
        ),
        "data.features[2].code",
        "is the label",
    ),
    (
        ("stays = { hours = 48 }", "table = \"t\""),
        "data.label",
        "has exactly a `column`",
    ),
    (
        (
            "kind = \"binary\", code = \"urn:medmesh:code|in-hospital-death\"",
            "kind = \"survival\", time = \"t\", event = \"e\"",
        ),
        "data.label.kind",
        "is `binary` for stays",
    ),
    (
        (
            "missing = \"mean\", scale = { centre = 0.0, width = 1.0 }",
            "missing = \"mean\", summaries = [\"mean\"], scale = { centre = 0.0, width = 1.0 }",
        ),
        "data.features[0].summaries",
        "`code` is not given",
    ),
];

#[test]
fn what_is_wrong_with_features_of_stays_is_said_with_its_key() {
    for (change, key, said) in WRONG {
        let problems = study(&[*change]).problems();
        let found = problems
            .iter()
            .any(|problem| problem.path == *key && problem.message.contains(*said));
        assert!(found, "{change:?}: {problems:?}");
    }
    let unknown = toml::from_str::<Study>(&text(&[("8867-4", "1-1")]));
    assert!(unknown.unwrap_err().to_string().contains("code"));
}
