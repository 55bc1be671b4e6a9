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
        ("age", "a", ""),
        ("chol", "mg/dL", ""),
        ("cp", "1", "categories = [1, 2, 3]"),
        ("num", "1", "categories = [0, 1, 2, 3]"),
        ("split", "1", "codes = { 0 = 0, 1 = 1 }"),
    ];
    let columns = columns.map(|(name, unit, values)| {
        format!("[[columns]]\nname = \"{name}\"\nunit = \"{unit}\"\nmissing = true\n{values}\n")
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
fn what_every_window_or_many_features_lack_is_said_in_few_words() {
    let windows = study(&[("table = \"heart\"", "table = \"heart\", windows = 13")]);
    let found = prepare(&windows, &table()).err().unwrap();
    let said: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(
        said[0],
        "data.features[0].name: the table has no column `age.1`, and 12 more of this kind"
    );
    let feature = "{ name = \"age\", unit = \"a\", missing = \"drop-record\" },";
    let many = (0..12).map(|at| feature.replace("age", &format!("x{at}")));
    let many = study(&[(feature, &many.collect::<String>())]);
    let found = prepare(&many, &table()).err().unwrap();
    assert_eq!(found.len(), 11);
    assert_eq!(
        found[10].to_string(),
        "data: has 2 keys more that do not fit"
    );
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

/// A study of a table of one measured column, of which a share is judged with; `more` is the rest of it.
fn of_one_column(share: f64, more: &str) -> Study {
    let text = STUDY
        .replace("evaluation = { test_column = \"split\" }", "")
        .replace(
            "name = \"heart\"",
            &format!("name = \"heart\"\nevaluation = {{ test_share = {share:?} }}"),
        );
    let (before, rest) = text.split_once("features = [").unwrap();
    let (_, after) = rest.split_once("], label").unwrap();
    let feature = "{ name = \"x\", unit = \"mm\", missing = \"drop-record\", scale = { centre = 0, width = 1 } }";
    toml::from_str(&format!(
        "{before}features = [{feature}], label{after}{more}"
    ))
    .unwrap()
}

/// Records of one measured column and a label.
fn of_values(values: &[(u32, u32)]) -> Table {
    let schema: Schema = toml::from_str(
        "equal_records = true\ncolumns = [{ name = \"x\", unit = \"mm\" }, { name = \"num\", unit = \"1\" }]",
    )
    .unwrap();
    let lines = values.iter().map(|(x, num)| format!("{x},{num}\n"));
    let text = "x,num\n".to_owned() + &lines.collect::<String>();
    import(&schema, &text).unwrap()
}

/// Who is trained with and who is judged with, each in the order of the values.
fn sides(study: &Study, values: &[(u32, u32)]) -> [Vec<u32>; 2] {
    let prepared = prepare(study, &of_values(values)).unwrap();
    [&prepared.train, &prepared.test].map(|records| {
        let mut side: Vec<_> = records.iter().map(|(row, _)| row[0] as u32).collect();
        side.sort_unstable();
        side
    })
}

#[test]
fn a_record_more_or_less_moves_no_other_between_training_and_judging() {
    let hidden = "privacy = { unit = \"record\", epsilon = 1.0, delta = 1e-3, clip = 1.0 }";
    for more in ["", hidden] {
        let study = of_one_column(0.3, more);
        // Every value of the second half is there twice.
        let all: Vec<(u32, u32)> = (0..200)
            .map(|at| (if at < 100 { at } else { 100 + at / 2 }, at % 2))
            .map(|(x, num)| if x < 100 { (x, num) } else { (x, 1) })
            .collect();
        let whole = sides(&study, &all);
        let judged = whole[1].len();
        assert!((40..=80).contains(&judged), "{judged}");
        for gone in [0, 5, 99, 120, 121, 199] {
            let mut fewer = all.clone();
            let (value, _) = fewer.remove(gone);
            let left = sides(&study, &fewer);
            let is_less_by_one = |side: usize| {
                let mut expected = whole[side].clone();
                let at = expected.iter().position(|of| *of == value);
                at.is_some_and(|at| {
                    expected.remove(at);
                    left[side] == expected && left[1 - side] == whole[1 - side]
                })
            };
            assert!(is_less_by_one(0) || is_less_by_one(1), "{gone}");
        }
        // Nor does the order in which they came.
        let turned: Vec<_> = all.iter().rev().copied().collect();
        assert_eq!(sides(&study, &turned), whole);
    }
    let mut seeded = of_one_column(0.3, "");
    seeded.training.seed += 1;
    let values: Vec<(u32, u32)> = (0..200).map(|at| (at, at % 2)).collect();
    assert_ne!(
        sides(&seeded, &values),
        sides(&of_one_column(0.3, ""), &values)
    );
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
            "data.features[2].categories: `cp` may be 3 by the facility's schema",
        ),
        (
            "\"mg/dL\", missing = \"mean\"",
            "\"mg/dL\", categories = [200, 201], missing = \"zero\"",
            "data.features[1].categories: the facility's schema names no categories of `chol`",
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
            "evaluation.test_column: the facility's schema does not say that `num` is 0 or 1",
        ),
        (
            "\"split\"",
            "\"chol\"",
            "evaluation.test_column: the facility's schema does not say that `chol` is 0 or 1",
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

/// Sixteen records: what each says in a column of categories and a measured one; nothing where it says nothing.
fn of_categories(said: impl Fn(u32) -> (String, String)) -> Table {
    let schema: Schema = toml::from_str(
        "equal_records = true\ncolumns = [{ name = \"cp\", unit = \"1\", categories = [1, 2, 3], missing = true }, { name = \"x\", unit = \"mm\", missing = true }, { name = \"num\", unit = \"1\" }, { name = \"split\", unit = \"1\", categories = [0, 1], missing = true }]",
    )
    .unwrap();
    let lines = (0..16).map(|at| {
        let (cp, x) = said(at);
        format!("{cp},{x},{},{}\n", at % 2, if at == 0 { "" } else { "0" })
    });
    let text = "cp,x,num,split\n".to_owned() + &lines.collect::<String>();
    import(&schema, &text).unwrap()
}

#[test]
fn what_a_facility_declines_tells_nothing_of_its_values() {
    let tables = [
        of_categories(|_| ("1".into(), "5".into())),
        // One has another category and an extreme value.
        of_categories(|at| match at {
            5 => ("3".into(), "1e300".into()),
            _ => ("1".into(), "5".into()),
        }),
        // Nobody has all that is asked for.
        of_categories(|at| match at % 2 {
            0 => (String::new(), "5".into()),
            _ => ("2".into(), String::new()),
        }),
    ];
    let asked = |named: &str, least: u32, unit: &str| -> Study {
        let text = STUDY.replace(
            "minimum_records = 11",
            &format!("minimum_records = {least}"),
        );
        let (before, rest) = text.split_once("features = [").unwrap();
        let (_, after) = rest.split_once("], label").unwrap();
        let features = format!(
            "{{ name = \"cp\", unit = \"1\", categories = {named}, missing = \"drop-record\" }}, {{ name = \"x\", unit = \"mm\", missing = \"drop-record\", scale = {{ centre = 5, width = 1e-37 }} }}"
        );
        let privacy =
            format!("privacy = {{ unit = \"{unit}\", epsilon = 1.0, delta = 1e-3, clip = 1.0 }}");
        toml::from_str(&format!(
            "{before}features = [{features}], label{after}{privacy}"
        ))
        .unwrap()
    };
    for unit in ["record", "facility"] {
        for (named, least, declined) in [
            ("[1, 2, 3]", 16, None),
            (
                "[1, 2, 3]",
                17,
                Some("data.minimum_records: the table has fewer than 17 records"),
            ),
            (
                "[1, 2]",
                16,
                Some(
                    "data.features[0].categories: `cp` may be 3 by the facility's schema, which is not among them",
                ),
            ),
        ] {
            for (at, table) in tables.iter().enumerate() {
                let found = prepare(&asked(named, least, unit), table);
                let said = found.as_ref().err().map(|found| found[0].to_string());
                assert_eq!(said.as_deref(), declined, "{unit}, table {at}");
                let Ok(prepared) = found else { continue };
                assert_eq!(prepared.counted, 16);
                // The first does not say whether it is judged with.
                let expected = if at == 2 { 0 } else { 15 };
                assert_eq!(prepared.train.len(), expected, "{unit}, table {at}");
                assert!(prepared.test.is_empty());
            }
        }
    }
    // Where nothing is promised those are counted that can be used.
    let text = STUDY.replace("minimum_records = 11", "minimum_records = 21");
    let open: Study = toml::from_str(&text).unwrap();
    let few = prepare(&open, &table()).err().unwrap();
    assert_eq!(
        few[0].to_string(),
        "data.minimum_records: fewer than 21 of the table's records have every value"
    );
    assert_eq!(prepare(&study(&[]), &table()).unwrap().counted, 20);
}

#[test]
fn extreme_values_are_no_reason_to_decline_where_facilities_are_hidden() {
    let hidden = "privacy = { unit = \"facility\", epsilon = 1.0, delta = 1e-3, clip = 1.0 }";
    let mut study = of_one_column(0.3, hidden);
    study.data.features[0].scale = None;
    let schema: Schema = toml::from_str(
        "equal_records = true\ncolumns = [{ name = \"x\", unit = \"mm\" }, { name = \"num\", unit = \"1\" }]",
    )
    .unwrap();
    // Their sum is beyond all numbers.
    let lines = (0..20).map(|at| format!("{},{}\n", if at < 15 { "1e308" } else { "5" }, at % 2));
    let text = "x,num\n".to_owned() + &lines.collect::<String>();
    let prepared = prepare(&study, &import(&schema, &text).unwrap()).unwrap();
    assert_eq!(prepared.train.len() + prepared.test.len(), 20);
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

/// A table of times and events, by what its schema says of them.
fn of_schema(unit: &str, least: &str, event: &str) -> Table {
    let schema = format!(
        "columns = [{{ name = \"age\", unit = \"a\" }}, {{ name = \"chol\", unit = \"mg/dL\" }}, {{ name = \"cp\", unit = \"1\", categories = [1, 2, 3] }}, {{ name = \"num\", {event} }}, {{ name = \"days\", unit = \"{unit}\", missing = true {least} }}]"
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
    let (least, event) = (", min = 0", "unit = \"1\", categories = [0, 1]");
    let prepared = prepare(&study, &of_schema("d", least, event)).unwrap();
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
    for (unit, least, event, expected) in [
        (
            "h",
            least,
            event,
            "data.label.time: is in days (`d`), and in h here",
        ),
        (
            "d",
            "",
            event,
            "data.label.time: the facility's schema does not say that `days` is never below 0, by `min = 0`",
        ),
        (
            "d",
            ", min = -5",
            event,
            "data.label.time: the facility's schema does not say that `days` is never below 0, by `min = 0`",
        ),
        (
            "d",
            least,
            "unit = \"mm[Hg]\"",
            "data.label.event: is 0 or 1, which has no unit (`1`), and `num` is in mm[Hg] here",
        ),
        (
            "d",
            least,
            "unit = \"1\", categories = [0, 1, 2]",
            "data.label.event: the facility's schema does not say that `num` is 0 or 1, by `categories = [0, 1]` or by `codes`",
        ),
    ] {
        let wrong = prepare(&study, &of_schema(unit, least, event))
            .err()
            .unwrap();
        assert_eq!(wrong[0].to_string(), expected);
        assert_eq!(wrong.len(), 1);
    }
}
