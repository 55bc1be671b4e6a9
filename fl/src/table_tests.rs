//! Files as they come, and what is said of bad ones.
use super::*;

const SCHEMA: &str = r#"
key = "record"
missing = ["", "?"]
ignore = ["slope"]

[[columns]]
name = "age"
unit = "a"
min = 0
max = 120

[[columns]]
name = "chol"
unit = "mg/dL"
missing = true

[[columns]]
name = "cp"
unit = "1"
categories = [1, 2, 3, 4]

[[columns]]
name = "split"
unit = "1"
codes = { train = 0, test = 1 }
"#;

fn schema(changes: &[(&str, &str)]) -> Schema {
    let mut text = SCHEMA.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    toml::from_str(&text).unwrap()
}

fn rows(table: &Table) -> Vec<Vec<Option<f64>>> {
    let columns: Vec<Vec<_>> = (0..table.columns().len())
        .map(|at| table.column(at).collect())
        .collect();
    (0..table.records())
        .map(|row| columns.iter().map(|column| column[row]).collect())
        .collect()
}

/// What is said of a file, joined.
fn said(schema: &Schema, text: &str) -> String {
    let faults = import(schema, text).unwrap_err();
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

const GOOD: &str =
    "record,age,chol [mg/dL],cp,split,slope\na,63,233,1,train,2\nb,54.5,?,4,test,?\n";

#[test]
fn a_good_file_becomes_its_records_in_order() {
    let table = import(&schema(&[]), GOOD).unwrap();
    let expected = vec![
        vec![Some(63.0), Some(233.0), Some(1.0), Some(0.0)],
        vec![Some(54.5), None, Some(4.0), Some(1.0)],
    ];
    assert_eq!(rows(&table), expected);
    // As a spreadsheet writes it: a mark before, carriage returns, quotes, other order, empty lines.
    let other = "\u{feff}\"split\",record,\"cp\",chol,age,slope\r\ntrain,a,1, 233 ,\"63\",2\r\n\r\ntest,\"b\",4,,5.45e1,\"x,\n\"\"y\"\r\n";
    assert_eq!(rows(&import(&schema(&[]), other).unwrap()), expected);
    let names = schema(&[(
        "ignore",
        "names = [\"record\", \"age\", \"chol\", \"cp\", \"split\", \"slope\"]\nignore",
    )]);
    let without_header = GOOD.split_once('\n').unwrap().1;
    assert_eq!(rows(&import(&names, without_header).unwrap()), expected);
}

#[test]
fn a_stored_table_reads_back_and_half_a_record_is_none() {
    let table = import(&schema(&[]), GOOD).unwrap();
    for bytes in [1, 40, 1 << 20] {
        let parts: Vec<_> = table.parts(bytes).collect();
        assert_eq!(parts.len(), if bytes < 64 { 2 } else { 1 });
        let columns = table.columns().to_vec();
        let back = Table::of_parts(columns.clone(), parts.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(rows(&back), rows(&table));
        let short = parts.iter().map(|part| &part[..part.len() - 1]);
        assert!(Table::of_parts(columns.clone(), short).is_none());
        let short = parts.iter().map(|part| &part[..part.len() - 8]);
        assert!(Table::of_parts(columns, short).is_none());
    }
    assert_eq!(format!("{table:?}").matches("63").count(), 0, "{table:?}");
    let chol = table.summaries()[1].clone();
    assert_eq!((chol.present, chol.missing, chol.mean), (1, 1, Some(233.0)));
}

#[test]
fn every_fault_is_said_with_its_line_and_column_and_nothing_of_a_record() {
    for (from, to, expected) in [
        ("54.5", "old", "3: column \"age\": is not a number"),
        ("54.5", "54,5", "3: has 7 cells, not 6"),
        ("54.5", "\"54,5\"", "3: column \"age\": is not a number"),
        ("54.5", "inf", "3: column \"age\": is not a number"),
        ("54.5", "NaN", "3: column \"age\": is not a number"),
        ("54.5", "1e999", "3: column \"age\": is not a number"),
        ("54.5", "545", "3: column \"age\": is above 120 a"),
        ("54.5", "-1", "3: column \"age\": is below 0 a"),
        ("54.5", "", "3: column \"age\": has no value"),
        (
            ",4,test",
            ",5,test",
            "3: column \"cp\": is none of 1, 2, 3, 4",
        ),
        (",4,test", ",1.5,test", "3: column \"cp\": is none of"),
        (
            "test",
            "tset",
            "3: column \"split\": is none of test, train",
        ),
        (
            "\nb,",
            "\na,",
            "3: column \"record\": identifies records, and is the same in line 2",
        ),
        (
            "\nb,",
            "\n,",
            "3: column \"record\": identifies records, and is empty",
        ),
        (
            "[mg/dL]",
            "[mmol/L]",
            "1: column \"chol\": is in mmol/L, and in the schema in mg/dL",
        ),
        (
            "[mg/dL]",
            "(mmol/L)",
            "1: column \"chol\": is in mmol/L, and in the schema in mg/dL",
        ),
        (
            "age,",
            "aeg,",
            "1: column \"aeg\": is number 2 of the file and not in the schema",
        ),
        ("age,", "aeg,", "1: column \"age\": is missing"),
        (
            "slope",
            "age",
            "1: column \"age\": is there twice, as number 2 and number 6",
        ),
        ("record", "id", "1: column \"record\": is missing"),
        (",?\n", ",\"?\n", "3: a quote begins here and does not end"),
        (",?\n", ",\"?\"x\n", "3: text follows a quote that ended"),
        (",?\n", "\n", "3: has 5 cells, not 6"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let found = said(&schema(&[]), &text);
        assert!(found.contains(expected), "{expected} in {found:?}");
    }
}

#[test]
fn what_is_no_table_is_refused_and_no_fault_repeats_a_cell() {
    let secret = said(&schema(&[]), &GOOD.replacen("54.5", "Jane Doe", 1));
    assert!(!secret.contains("Jane"), "{secret}");
    for other in [";", "\t", "|"] {
        let text = format!("age{other}chol\n1{other}2\n");
        let found = said(&schema(&[]), &text);
        assert!(
            found.starts_with("1: cells are separated by commas"),
            "{found}"
        );
    }
    let returns = GOOD.replace('\n', "\r");
    assert_eq!(
        said(&schema(&[]), &returns),
        "1: lines end with a carriage return alone; write line feeds"
    );
    assert!(said(&schema(&[]), "").contains("1: the file has no header line"));
    let header = GOOD.split_once('\n').unwrap().0;
    assert!(said(&schema(&[]), header).contains("the file has no records"));
}

#[test]
fn every_fault_of_a_file_is_found_and_a_hundred_are_told() {
    let found = said(
        &schema(&[]),
        &GOOD.replacen("63", "x", 1).replacen("54.5", "y", 1),
    );
    assert_eq!(found.lines().count(), 2, "{found}");
    let mut text = GOOD.to_owned();
    for record in 0..300 {
        text += &format!("r{record},x,y,9,none,\n");
    }
    assert_eq!(import(&schema(&[]), &text).unwrap_err().len(), MAX_FAULTS);
}

#[test]
fn equal_records_without_a_key_are_refused_unless_the_schema_says_that_there_are_some() {
    let keyless = [
        ("key = \"record\"\n", ""),
        ("[\"slope\"]", "[\"slope\", \"record\"]"),
    ];
    let text = GOOD.to_owned() + "c,63,233,1,train,1\n";
    let found = said(&schema(&keyless), &text);
    assert_eq!(
        found,
        "4: is the same record as line 2; name a `key`, or write `equal_records = true`"
    );
    let mut allowed = schema(&keyless);
    allowed.equal_records = true;
    assert_eq!(import(&allowed, &text).unwrap().records(), 3);
}

/// What is said of a schema with one change.
fn wrong(from: &str, to: &str, expected: &str) {
    let problems = schema(&[(from, to)]).problems();
    let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(
        found.iter().any(|problem| problem.starts_with(expected)),
        "{expected} in {found:?}"
    );
}

#[test]
fn a_schema_that_contradicts_itself_is_none() {
    for (to, expected) in [
        (
            "test = 1 }\ncategories = [0, 2]",
            "columns[3].codes: `test` is none of 0, 2",
        ),
        (
            "test = 1 }\nmax = 0.5",
            "columns[3].codes: `test` is above 0.5 1",
        ),
        (
            "test = 1, '?' = 2 }",
            "columns[3].codes: has `?`, which is one of `missing`",
        ),
    ] {
        wrong("test = 1 }", to, expected);
    }
}

#[test]
fn every_problem_of_a_schema_is_said_with_its_key() {
    assert_eq!(schema(&[]).problems(), []);
    for (from, to, expected) in [
        (
            "name = \"chol\"",
            "name = \"age\"",
            "columns[1].name: `age` is named twice",
        ),
        (
            "name = \"chol\"",
            "name = \"ch ol\"",
            "columns[1].name: has 1 to 64",
        ),
        (
            "unit = \"mg/dL\"",
            "unit = \"mg per dL\"",
            "columns[1].unit: is a UCUM unit",
        ),
        ("min = 0", "min = 121", "columns[0].min: is above `max`"),
        (
            "[1, 2, 3, 4]",
            "[1, 2, 1]",
            "columns[2].categories[2]: names a value twice",
        ),
        (
            "[1, 2, 3, 4]",
            "[1]",
            "columns[2].categories: has from 2 to 100",
        ),
        (
            "test = 1 }",
            "test = nan }",
            "columns[3].codes: are 100 finite numbers",
        ),
        (
            "[\"slope\"]",
            "[\"age\"]",
            "ignore: `age` is one of `columns`",
        ),
        (
            "key = \"record\"",
            "key = \"age\"",
            "key: `age` is one of `columns`",
        ),
        (
            "ignore",
            "names = [\"age\", \"cp\", \"hdl\"]\nignore",
            "names: `hdl` is not in",
        ),
        (
            "ignore",
            "names = [\"age\", \"cp\", \"hdl\"]\nignore",
            "names: lacks `chol`",
        ),
    ] {
        wrong(from, to, expected);
    }
    assert!(toml::from_str::<Schema>("columns = []\nsurprise = 1").is_err());
    assert_eq!(
        toml::from_str::<Schema>("columns = []")
            .unwrap()
            .problems()
            .len(),
        1
    );
}
