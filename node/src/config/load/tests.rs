//! A configuration is read whole: every fault is found at once, and no value is quoted.
use super::*;
use crate::quantity::{Size, Span};
use serde::Deserialize;
use std::net::SocketAddr;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    name: String,
    listen: SocketAddr,
    limit: Size,
    #[serde(default)]
    store: Store,
    beds: Vec<Bed>,
    tls: Tls,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Store {
    retention: Option<Span>,
    count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bed {
    bed: String,
    #[serde(default)]
    number: u8,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    ca: PathBuf,
}

impl Validate for Sample {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.name.len() > 8 {
            problems.push(Problem::new("name", "is longer than 8"));
        }
        problems.extend(super::super::file("tls.ca", &self.tls.ca));
        problems.extend(
            (self.beds.iter().any(|b| b.bed.is_empty() || b.number > 9))
                .then(|| Problem::new("beds", "a bed is wrong")),
        );
        problems
    }
}

/// A table that says by a key what it is, one that is checked as a whole, and a list of the first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kinds {
    #[allow(dead_code, reason = "what is read is not looked at")]
    shape: Shape,
    #[allow(dead_code, reason = "what is read is not looked at")]
    pair: Pair,
    #[serde(default)]
    shapes: Vec<Shape>,
    count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "lowercase")]
#[allow(dead_code, reason = "what is read is not looked at")]
enum Shape {
    Round { radius: u32, centre: Vec<u32> },
    Square { side: u32 },
}

#[derive(Debug, Deserialize)]
struct Raw {
    high: u32,
    low: u32,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Raw")]
struct Pair;

impl TryFrom<Raw> for Pair {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        if raw.low <= raw.high {
            Ok(Self)
        } else {
            Err("low is above high")
        }
    }
}

impl Validate for Kinds {
    fn problems(&self) -> Vec<Problem> {
        let bad = |what: &str, bad: bool| bad.then(|| Problem::new(what, "is too many"));
        let all = [
            bad("shapes", self.shapes.len() > 2),
            bad("count", self.count > 9),
        ];
        all.into_iter().flatten().collect()
    }

    fn stand_ins() -> Vec<Value> {
        let square = [
            ("kind", Value::String("square".into())),
            ("side", Value::Integer(1)),
        ];
        let square = square.map(|(key, value)| (key.to_owned(), value));
        vec![Value::Table(square.into_iter().collect())]
    }
}

#[test]
fn a_fault_within_a_table_that_says_what_it_is_is_reported_with_its_key_and_the_rest_is_read_too() {
    let good =
        "count = 10\nshape = { kind = \"square\", side = 2 }\npair = { low = 1, high = 2 }\n";
    for (from, to, expected) in [
        ("", "", &["count"][..]),
        ("side = 2", "side = \"two\"", &["shape.side", "count"]),
        (
            "side = 2",
            "sides = 2",
            &["shape.sides", "shape.side", "count"],
        ),
        ("\"square\"", "\"cube\"", &["shape.kind", "count"]),
        ("kind = \"square\", side", "side", &["shape.kind", "count"]),
        (
            "\"square\", side = 2",
            "\"round\", centre = [1, \"x\"], radius = -1",
            &["shape.centre", "shape.radius", "count"],
        ),
        ("low = 1", "low = 3", &["pair", "count"]),
        ("low = 1", "low = \"x\"", &["pair.low", "count"]),
        (
            "pair",
            "shapes = [{ kind = \"cube\" }, { kind = \"square\", side = -1 }, { kind = \"square\", side = 1 }]\npair",
            &["shapes[0].kind", "shapes[1].side", "shapes", "count"],
        ),
    ] {
        let text = good.replacen(from, to, 1);
        let found = parse::<Kinds>(&text, []).unwrap_err();
        let paths: Vec<_> = found.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, expected, "{text} {found:?}");
    }
}

fn check(text: &str, overrides: &[(&str, &str)]) -> Result<Sample, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    let overrides = overrides.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    load(&path, overrides)
        .map_err(|error: ConfigError| error.problems.iter().map(ToString::to_string).collect())
}

const GOOD: &str = r#"
name = "n"
listen = "127.0.0.1:8443"
limit = "4KiB"
beds = [{ bed = "b1" }, { bed = "b2", number = 2 }]
store = { count = 3 }
tls = { ca = "/dev/null" }
"#;

fn good() -> String {
    let ca = std::env::current_exe().unwrap();
    GOOD.replace("/dev/null", ca.to_str().unwrap())
}

#[test]
fn a_good_file_is_read() {
    let config = check(&good(), &[]).unwrap();
    assert_eq!((config.limit, config.beds.len()), (Size(4096), 2));
    assert_eq!((config.store.count, config.listen.port()), (3, 8443));
}

#[test]
fn every_problem_is_reported_with_its_key_path() {
    let text = r#"
name = "far too long a name"
listen = "nowhere"
limit = 4
extra = true
beds = [{ bed = 7 }, { bed = "b2", numbr = 2 }, { number = 1 }]
store = { count = -1, retention = "7 days" }
"#;
    let problems = check(text, &[]).unwrap_err();
    let mut paths: Vec<_> = problems
        .iter()
        .map(|p| p.split(':').next().unwrap().to_owned())
        .collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "beds[0].bed",
            "beds[1].numbr",
            "beds[2].bed",
            "extra",
            "limit",
            "listen",
            "name",
            "store.count",
            "store.retention",
            "tls",
        ],
        "{problems:#?}"
    );
    let listen = "listen: expected an IP address and a port, such as 0.0.0.0:8443";
    assert!(
        problems.iter().any(|problem| problem == listen),
        "{problems:#?}"
    );
}

#[test]
fn a_problem_never_quotes_the_value() {
    let text = good()
        .replace("name = \"n\"", "name = [\"Jane Doe\"]")
        .replace("bed = \"b1\"", "bed = \"b1\", number = \"MRN-0042\"")
        .replace("limit = \"4KiB\"", "limit = \"s3cr3t\"");
    let problems = check(&text, &[]).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    for secret in ["Jane", "MRN", "s3cr3t"] {
        assert!(!problems.concat().contains(secret), "{problems:?}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let config = check(
        &good(),
        &[
            ("MEDMESH_LIMIT", "1MiB"),
            ("MEDMESH_STORE__RETENTION", "2d"),
            ("MEDMESH_STORE__COUNT", "9"),
            ("MEDMESH_BEDS", "[{ bed = 'x' }]"),
        ],
    )
    .unwrap();
    assert_eq!((config.limit, config.store.count), (Size(1 << 20), 9));
    assert_eq!(config.store.retention, Some(Span::ms(2 * 86_400_000)));
    assert_eq!(config.beds[0].bed, "x");
}

#[test]
fn a_wrong_override_is_a_problem_of_its_key() {
    let problems = check(
        &good(),
        &[("MEDMESH_STOR__COUNT", "1"), ("MEDMESH_NAME__X", "1")],
    );
    let problems = problems.unwrap_err();
    assert!(problems[0].starts_with("name.x: "), "{problems:?}");
    assert!(problems[1].starts_with("stor: "), "{problems:?}");
}

#[test]
fn an_override_cannot_smuggle_in_a_second_key() {
    assert_eq!(
        override_value("1\nname = 2"),
        Value::String("1\nname = 2".into())
    );
}

#[test]
fn text_that_is_not_toml_is_one_problem_with_its_line() {
    let problems = check("name = \"n\"\nlisten = = 1\n", &[]).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("line 2 is not TOML"),
        "{problems:?}"
    );
}

#[test]
fn a_key_that_stands_twice_is_named_and_no_value_is() {
    for (text, expected) in [
        (
            "name = \"n\"\nname = \"Jane\"\n",
            "line 2 is not TOML: duplicate key at `name`",
        ),
        (
            "[store]\ncount = 1\n[store]\n",
            "line 3 is not TOML: duplicate key at `store`",
        ),
        (
            "tls = { ca = 1, ca = 2 }\n",
            "line 1 is not TOML: duplicate key at `ca`",
        ),
    ] {
        assert_eq!(check(text, &[]).unwrap_err(), [expected]);
    }
    let value = check("name = Jane\n", &[]).unwrap_err();
    assert!(!value.concat().contains("Jane"), "{value:?}");
}

#[test]
fn a_missing_file_is_a_problem() {
    let error = load::<Sample>(Path::new("/nonexistent/x.toml"), []).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn what_is_no_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path(), Path::new("/dev/zero")] {
        let error = load::<Sample>(path, []).unwrap_err();
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}

#[test]
fn variables_of_the_parent_the_build_and_the_tests_are_no_keys() {
    for (name, expected) in [
        ("MEDMESH_LOG__FILTER", true),
        ("MEDMESH_DATA_DIR", true),
        ("MEDMESH_PARENT", false),
        (crate::listeners::VARIABLE, false),
        (crate::renewal::COUNT_VARIABLE, false),
        ("MEDMESH_DATA", false),
        ("MEDMESH_DANGEROUS_CLOCK_OFFSET", false),
        ("MEDMESH_TEST_POSTGRES", false),
        ("PATH", false),
    ] {
        assert_eq!(is_override(name), expected, "{name}");
    }
}
