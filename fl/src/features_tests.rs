//! What a study takes of a table, and what does not fit.
use super::*;
use crate::table::{Schema, import};

const STUDY: &str = r#"
name = "heart"
sites = 4
data = { table = "heart", minimum_records = 11, features = [
  { name = "age", unit = "a", missing = "drop-record" },
  { name = "chol", unit = "mg/dL", missing = "mean" },
  { name = "cp", unit = "1", categories = [1, 2, 3], missing = "drop-record" },
], label = { kind = "binary", column = "num" } }
model = { kind = "logistic" }
training = { rounds = 5, steps = 4, batch = 8, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
aggregation = { secure = false, quorum = 1 }
evaluation = { test_column = "split" }
"#;

fn table() -> Table {
    let columns = [
        ("age", "a"),
        ("chol", "mg/dL"),
        ("cp", "1"),
        ("num", "1"),
        ("split", "1"),
    ];
    let columns = columns.map(|(name, unit)| {
        format!("[[columns]]\nname = \"{name}\"\nunit = \"{unit}\"\nmissing = true\n")
    });
    let schema: Schema = toml::from_str(&columns.concat()).unwrap();
    let mut text = "age,chol,cp,num,split\n".to_owned();
    for record in 0..20 {
        let chol = if record == 3 {
            String::new()
        } else {
            (200 + record).to_string()
        };
        let (cp, num, split) = (1 + record % 3, record % 4, u32::from(record >= 15));
        text += &format!("{},{chol},{cp},{num},{split}\n", 40 + record);
    }
    // One record without age, one without label.
    text += ",250,1,0,0\n70,250,1,,0\n";
    import(&schema, &text).unwrap()
}

fn study(changes: &[(&str, &str)]) -> Study {
    let mut text = STUDY.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    toml::from_str(&text).unwrap()
}

#[test]
fn records_are_scaled_by_the_training_records_alone() {
    let prepared = prepare(&study(&[]), &table()).unwrap();
    assert_eq!((prepared.train.len(), prepared.test.len()), (15, 5));
    assert_eq!(prepared.left_out, 2);
    let rows: Vec<_> = prepared.train.iter().collect();
    for input in 0..4 {
        let values: Vec<f64> = rows.iter().map(|row| f64::from(row.0[input])).collect();
        let mean = values.iter().sum::<f64>() / 15.0;
        assert!(mean.abs() < 1e-6, "{input}: {mean}");
    }
    // The missing cholesterol is the mean; categories are one input for each but the first.
    assert_eq!(rows[3].0[1], 0.0);
    assert!(rows[1].0[2] > 0.0 && rows[1].0[3] < 0.0);
    assert_eq!(
        rows.iter().map(|row| row.1).collect::<Vec<_>>()[..5],
        [false, true, true, true, false]
    );
    let oldest = prepared.test.iter().map(|row| row.0[0]).fold(0.0, f32::max);
    assert!(oldest > 2.0, "by the training records' scale: {oldest}");
}

#[test]
fn a_share_of_each_label_is_kept_from_training_and_follows_from_the_seed() {
    let share = [("test_column = \"split\"", "test_share = 0.4")];
    let kept = |study: &Study| {
        let prepared = prepare(study, &table()).unwrap();
        let yes = prepared.test.iter().filter(|row| row.1).count();
        (
            yes,
            format!("{:?}", prepared.test.iter().collect::<Vec<_>>()),
        )
    };
    let first = kept(&study(&share));
    assert_eq!(first.0, 6, "of 15");
    assert_eq!(first, kept(&study(&share)));
    let other = study(&[share[0], ("batch = 8", "batch = 8, seed = 5")]);
    assert_ne!(first.1, kept(&other).1);
}

#[test]
fn what_does_not_fit_is_said_with_the_key_of_the_study() {
    for (from, to, expected) in [
        (
            "\"age\", unit = \"a\"",
            "\"aeg\", unit = \"a\"",
            "data.features[0].name: the table has no column `aeg`",
        ),
        (
            "column = \"num\"",
            "column = \"chol\"",
            "data.label.positive_above: is needed: `chol` is in mg/dL",
        ),
        (
            "mg/dL",
            "mmol/L",
            "data.features[1].unit: `chol` is in mg/dL here, not in mmol/L",
        ),
        (
            "[1, 2, 3]",
            "[1, 2]",
            "data.features[2].categories: `cp` has values here",
        ),
        (
            "column = \"num\"",
            "column = \"nun\"",
            "data.label.column: the table has no column `nun`",
        ),
        (
            "\"split\"",
            "\"spilt\"",
            "evaluation.test_column: the table has no column `spilt`",
        ),
        (
            "\"split\"",
            "\"num\"",
            "evaluation.test_column: has other values here than 0 and 1",
        ),
        (
            "minimum_records = 11",
            "minimum_records = 21",
            "data.minimum_records: fewer than 21",
        ),
    ] {
        let problems = prepare(&study(&[(from, to)]), &table()).err().unwrap();
        let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{expected} in {found:?}"
        );
    }
}

#[test]
fn where_records_are_hidden_no_number_of_a_record_depends_on_another() {
    let hidden = [
        (
            "evaluation =",
            "privacy = { unit = \"record\", epsilon = 1.0, delta = 1e-3, clip = 1.0 }\nevaluation =",
        ),
        (
            "\"a\", missing = \"drop-record\"",
            "\"a\", missing = \"drop-record\", scale = { centre = 50, width = 10 }",
        ),
        (
            "missing = \"mean\"",
            "missing = \"mean\", scale = { centre = 200, width = 50 }",
        ),
    ];
    let prepared = prepare(&study(&hidden), &table()).unwrap();
    let first: Vec<_> = prepared
        .train
        .iter()
        .take(2)
        .map(|row| row.0.to_vec())
        .collect();
    assert_eq!(first[0], [-1.0, 0.0, 0.0, 0.0]);
    assert_eq!(first[1], [-0.9, 0.02, 1.0, 0.0]);
    let found = study(&hidden[..1]).problems();
    let scales = found
        .iter()
        .filter(|problem| problem.path.ends_with("].scale"));
    assert_eq!(scales.count(), 2, "{found:?}");
}

#[test]
fn windows_of_a_record_are_columns_and_come_in_their_order_with_all_features_of_each() {
    let schema: Schema = toml::from_str(
        "columns = [{ name = \"hr.1\", unit = \"/min\" }, { name = \"hr.2\", unit = \"/min\" }, { name = \"t.1\", unit = \"Cel\" }, { name = \"t.2\", unit = \"Cel\" }, { name = \"num\", unit = \"1\" }]",
    )
    .unwrap();
    let mut text = "hr.1,hr.2,t.1,t.2,num\n".to_owned();
    for record in 0..20 {
        text += &format!("{},{},{},{},{}\n", record, 100 + record, 30, 31, record % 2);
    }
    let table = import(&schema, &text).unwrap();
    let features = "[{ name = \"hr\", unit = \"/min\", missing = \"zero\", scale = { centre = 0, width = 1 } }, { name = \"t\", unit = \"Cel\", missing = \"zero\", scale = { centre = 0, width = 1 } }]";
    let text = STUDY
        .replace("evaluation = { test_column = \"split\" }", "")
        .replace("kind = \"logistic\"", "kind = \"gru\", hidden = 3")
        .replace("table = \"heart\",", "table = \"heart\", windows = 2,");
    let (before, rest) = text.split_once("features = [").unwrap();
    let (_, after) = rest.split_once("], label").unwrap();
    let study: Study =
        toml::from_str(&format!("{before}features = {features}, label{after}")).unwrap();
    let prepared = prepare(&study, &table).unwrap();
    assert_eq!(prepared.train.inputs(), 4);
    for (row, _) in prepared.train.iter() {
        assert_eq!(row, [row[0], 30.0, row[0] + 100.0, 31.0]);
    }
    let model = crate::site::model(&study).unwrap();
    assert_eq!(
        (model.inputs(), model.parameters()),
        (4, 3 * 3 * (2 + 3 + 2) + 4)
    );
}

#[test]
fn a_survival_study_takes_times_in_days_and_events() {
    let text = STUDY
        .replace("evaluation = { test_column = \"split\" }", "")
        .replace("kind = \"logistic\"", "kind = \"cox\"")
        .replace(
            "{ kind = \"binary\", column = \"num\" }",
            "{ kind = \"survival\", time = \"days\", event = \"num\" }",
        );
    let study: Study = toml::from_str(&text).unwrap();
    let table = |unit: &str| {
        let schema = format!(
            "columns = [{{ name = \"age\", unit = \"a\" }}, {{ name = \"chol\", unit = \"mg/dL\" }}, {{ name = \"cp\", unit = \"1\" }}, {{ name = \"num\", unit = \"1\" }}, {{ name = \"days\", unit = \"{unit}\", missing = true }}]"
        );
        let rows = (0..22).map(|at| {
            let days = if at == 5 {
                String::new()
            } else {
                (at * 3).to_string()
            };
            format!(
                "{},{},{},{},{days}\n",
                40 + at,
                200 + at,
                1 + at % 3,
                at % 2
            )
        });
        let text = "age,chol,cp,num,days\n".to_owned() + &rows.collect::<String>();
        import(&toml::from_str::<Schema>(&schema).unwrap(), &text).unwrap()
    };
    let prepared = prepare(&study, &table("d")).unwrap();
    assert!(prepared.train.has_times() && prepared.test.has_times());
    assert_eq!(
        (
            prepared.train.len() + prepared.test.len(),
            prepared.left_out
        ),
        (21, 1)
    );
    let bytes = prepared.train.to_bytes();
    let read = Records::of_bytes(prepared.train.inputs(), true, &bytes).unwrap();
    assert!(read == prepared.train);
    let wrong = prepare(&study, &table("h")).err().unwrap();
    assert_eq!(
        wrong[0].to_string(),
        "data.label.time: is in days (`d`), and in h here"
    );
}
