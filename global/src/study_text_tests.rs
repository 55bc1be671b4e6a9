//! What is wrong with the text of a study, by its key.
use super::*;

/// Without a budget, which takes a moment to be worked out.
const STUDY: &str = r#"
name = "heart"
sites = 4
data = { table = "heart", minimum_records = 40, features = [{ name = "age", unit = "a", missing = "zero", scale = { centre = 54, width = 9 } }], label = { kind = "binary", column = "num" } }
model = { kind = "logistic" }
training = { rounds = 5, steps = 4, batch = 8, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
aggregation = { secure = true, quorum = 3, bound = 4.0 }
"#;

fn said(changes: &[(&str, &str)]) -> Vec<String> {
    let mut text = STUDY.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let found = read_study(&text).err().unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

/// What is said of a study with one change.
fn check(from: &str, to: &str, expected: &str) {
    let found = said(&[(from, to)]);
    let is_said = found.iter().any(|line| line.contains(expected));
    assert!(is_said, "{expected} in {found:?}");
}

#[test]
fn each_thing_that_is_wrong_with_a_study_is_said_with_its_key() {
    assert_eq!(said(&[]), Vec::<String>::new());
    for (from, to, expected) in [
        ("sites = 4", "sites = 4\nsurprise = 1", "surprise: "),
        (
            "sites = 4",
            "sites = 4\nregions = []",
            "regions: names no region; left out, it is every one",
        ),
        ("\"num\"", "\"num\", colour = 1", "data.label"),
        ("rounds = 5", "rounds = \"many\"", "training.rounds: "),
        (
            "rounds = 5",
            "rounds = -1",
            "training.rounds: expected a whole number from 0 to 4294967295",
        ),
        ("quorum = 3", "quorum = 5", "aggregation.quorum: "),
        ("records = 40", "records = 2", "data.minimum_records: is "),
        (
            "records = 40",
            "records = 1000001",
            "data.minimum_records: is 1000000 at most",
        ),
        (
            "sites = 4",
            "sites = 99999999999999999999",
            "line 3 is not TOML: expected a value that TOML has: a whole number is of 64 bits",
        ),
        ("\"a\"", "\"years old\"", "features[0].unit: is a UCUM unit"),
        ("4.0", "4.0, units = 2000000000", "aggregation.units: "),
        ("name = \"heart\"", "name = ", "line 2 is not TOML"),
        (
            "\"num\"",
            "\"num\", colour = 1",
            "data.label.colour: is not a key",
        ),
        ("\"logistic\"", "\"forest\"", "model.kind: expected one of"),
        (
            "\"logistic\"",
            "\"gru\", hidden = \"x\"",
            "model.hidden: expected a whole number from 0 to 4294967295",
        ),
        ("\"logistic\"", "\"gru\"", "model.hidden: is missing"),
        (
            "\"fed-avg\"",
            "\"fed-best\"",
            "training.strategy.kind: expected one of",
        ),
        (
            "\"fed-avg\"",
            "\"fed-prox\", mu = \"x\"",
            "training.strategy.mu: expected a number",
        ),
        ("\"binary\"", "\"ternary\"", "data.label.kind: expected"),
        (
            "kind = \"logistic\"",
            "kind = \"mlp\", hidden = [4096, 4096, 4096]",
            "has 33574913 parameters, and 25000000 at most can be sent",
        ),
    ] {
        check(from, to, expected);
    }
}

#[test]
fn what_has_another_shape_is_said_without_types_of_rust() {
    let scale = "{ centre = 54, width = 9 }";
    for (from, to, expected) in [
        (
            "{ kind = \"fed-avg\" }",
            "1",
            "training.strategy: expected a table",
        ),
        (scale, "5", "data.features[0].scale: expected a table"),
        (scale, "[1]", "data.features[0].scale: expected a table"),
        ("\"logistic\"", "5", "model.kind: expected a string"),
        (
            "\"logistic\"",
            "\"mlp\", hidden = 5",
            "model.hidden: expected a list",
        ),
    ] {
        check(from, to, expected);
    }
}

#[test]
fn a_budget_that_is_none_is_refused_with_its_key() {
    let head = |epsilon: &str, delta: &str| {
        format!(
            "sites = 4\nprivacy = {{ unit = \"record\", epsilon = {epsilon}, delta = {delta}, clip = 1.0 }}"
        )
    };
    for (epsilon, delta, expected) in [
        ("-1", "1e-4", "privacy.epsilon: is a number above 0, not -1"),
        (
            "2",
            "1e-300",
            "privacy.delta: a delta is from 1e-15 to 0.1, not 1e-300",
        ),
    ] {
        check("sites = 4", &head(epsilon, delta), expected);
    }
}

#[test]
fn what_follows_from_a_key_that_is_wrong_is_not_said_too() {
    let name = "data.table: a name has 1 to 32 characters";
    let test = (
        "bound = 4.0 }",
        "bound = 4.0 }\nevaluation = { test_column = \"split\" }",
    );
    let found = said(&[("\"heart\", min", "\"../x\", min"), test]);
    assert!(found.len() == 1 && found[0].starts_with(name), "{found:?}");
    let windows = ("\"heart\", min", "\"heart\", windows = 1000000, min");
    let found = said(&[windows, ("\"logistic\"", "\"gru\", hidden = 4")]);
    let expected = ["data.windows: expected a whole number from 0 to 65535"];
    assert_eq!(found, expected);
    let found = said(&[("sites = 4", "sites = 4\nregions = [1, 2]")]);
    let expected = [
        "regions[0]: expected a string",
        "regions[1]: expected a string",
    ];
    assert_eq!(found, expected);
    let found = said(&[("sites = 4", "sites = 4\nregions = [\"eu\", \"us\", \"eu\"]")]);
    assert_eq!(found, ["regions[2]: names a region twice"]);
    // Nothing follows from what is not there.
    let none = read_study("").unwrap_err();
    let said_at = |problem: &Problem| problem.message != "is missing";
    assert_eq!(none.into_iter().find(said_at), None);
    let twice = said(&[("sites = 4", "sites = 4\nsites = 5")]);
    assert_eq!(twice, ["line 4 is not TOML: duplicate key at `sites`"]);
    let unit =
        "sites = 4\nprivacy = { unit = \"record\", epsilon = inf, delta = 1e-4, clip = 1.0 }";
    let mut found = said(&[("sites = 4", unit)]);
    found.retain(|line| line.starts_with("privacy.epsilon"));
    assert_eq!(found, ["privacy.epsilon: is a number above 0, not inf"]);
    let found = said(&[("bound = 4.0", "bound = inf")]);
    assert_eq!(
        found,
        ["aggregation.bound: a clip is a norm above 0, not inf"]
    );
    let share = "bound = 4.0 }\nevaluation = { test_share = -1 }";
    let found = said(&[("bound = 4.0 }", share)]);
    assert_eq!(
        found,
        ["evaluation.test_share: is from 0.05 to 0.9, not -1"]
    );
    let stays = ("table = \"heart\"", "stays = { hours = 24 }");
    let code = (
        "unit = \"a\"",
        "code = \"8867-4\", summaries = [\"mean\"], unit = \"\"",
    );
    let mut found = said(&[stays, code]);
    found.retain(|line| line.starts_with("data.features[0].unit"));
    assert_eq!(found.len(), 1, "{found:?}");
    // What is wrong besides is said.
    let both = said(&[("table = \"heart\", min", "tabel = \"heart\", min")]);
    assert!(
        both.iter()
            .any(|line| line.starts_with("data: has exactly one of")),
        "{both:?}"
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let found = said(&[
        ("sites = 4", "sites = 4\nsurprise = 1"),
        ("rounds = 5", "rounds = \"many\""),
        ("quorum = 3", "quorum = 9"),
        ("\"logistic\"", "\"forest\", trees = 9"),
        ("\"fed-avg\"", "\"fed-best\""),
        ("\"num\"", "\"num\", positive_above = \"x\""),
    ]);
    let mut paths: Vec<_> = found
        .iter()
        .filter_map(|line| line.split(": ").next())
        .collect();
    paths.sort_unstable();
    let expected = [
        "aggregation.quorum",
        "data.label.positive_above",
        "model.kind",
        "surprise",
        "training.rounds",
        "training.strategy.kind",
    ];
    assert_eq!(paths, expected, "{found:?}");
}

#[test]
fn a_study_that_is_good_and_cannot_be_run_is_refused_where_it_is_checked() {
    let stays = "stays = { hours = 24 }, minimum_records";
    let found = said(&[("table = \"heart\", minimum_records", stays)]);
    let why = order::read(&STUDY.replacen("table = \"heart\", minimum_records", stays, 1));
    assert_eq!(found.is_empty(), why.is_ok(), "{found:?}");
    let large = ("\"logistic\"", "\"mlp\", hidden = [1000, 1000]");
    let found = said(&[
        large,
        ("secure = true", "secure = false"),
        ("quorum = 3", "quorum = 9"),
    ]);
    for path in [
        "aggregation.secure: the 1004001 numbers of",
        "aggregation.quorum: ",
    ] {
        assert!(found.iter().any(|line| line.starts_with(path)), "{found:?}");
    }
    let long = "#".repeat(order::MAX_STUDY_BYTES + 1);
    let said = read_study(&long).unwrap_err();
    assert!(said[0].to_string().contains("at most 65536 bytes"));
}

#[test]
fn regions_and_facilities_that_a_mesh_has_not_are_named() {
    let known = [("us", 4), ("eu", 1)].map(|(region, have)| (region.parse().unwrap(), have));
    let known: BTreeMap<RegionId, usize> = known.into_iter().collect();
    let said = |regions: &str| {
        let named = match regions {
            "" => String::new(),
            named => format!("regions = {named}"),
        };
        let text = STUDY.replace("sites = 4", &format!("sites = 4\n{named}"));
        let (study, _) = read_study(&text).unwrap();
        let found = lacking(&study, &known);
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let few = "sites: 4 facilities of each region are asked, and `eu` has 1";
    assert_eq!(said("[\"us\"]"), Vec::<String>::new());
    // Without a list it is every region.
    assert_eq!(said(""), [few]);
    assert_eq!(
        said("[\"apac\", \"eu\"]"),
        [
            "regions[0]: `apac` is no region of the mesh, which has eu, us",
            few
        ]
    );
}

/// Every key of a study.
const PAGE: &str = include_str!("../../docs/study.md");

/// The words between backticks.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_page_of_every_key_shows_good_studies_and_leaves_none_out() {
    let shown: Vec<_> = PAGE.split("```toml\n").skip(1).collect();
    assert_eq!(shown.len(), 2);
    for text in shown {
        let (text, _) = text.split_once("\n```").unwrap();
        assert_eq!(read_study(text).err(), None);
    }
    let mut keys = std::collections::BTreeSet::new();
    for (from, to) in [
        ("sites = 4", "sites = 4\nx = 1"),
        ("table = \"heart\"", "x = 1, table = \"heart\""),
        ("table = \"heart\"", "stays = { x = 1 }"),
        ("name = \"age\"", "x = 1, name = \"age\""),
        ("centre = 54", "x = 1, centre = 54"),
        ("\"binary\"", "\"binary\", x = 1"),
        ("\"binary\", column = \"num\"", "\"survival\", x = 1"),
        ("\"logistic\"", "\"mlp\", x = 1"),
        ("\"logistic\"", "\"gru\", x = 1"),
        ("\"logistic\"", "\"tcn\", x = 1"),
        ("\"logistic\"", "\"best\""),
        ("rounds = 5", "x = 1, rounds = 5"),
        ("\"fed-avg\"", "\"best\""),
        ("\"fed-avg\"", "\"fed-prox\", x = 1"),
        ("\"fed-avg\"", "\"fed-adam\", x = 1"),
        ("\"fed-avg\"", "\"scaffold\", x = 1"),
        ("\"fed-avg\"", "\"trimmed-mean\", x = 1"),
        ("\"fed-avg\"", "\"norm-bound\", x = 1"),
        ("sites = 4", "sites = 4\nprivacy = { x = 1 }"),
        (
            "sites = 4",
            "sites = 4\nprivacy = { unit = \"none\", adaptive = { x = 1 } }",
        ),
        ("secure = true", "x = 1, secure = true"),
        ("4.0", "4.0, compression = { x = 1 }"),
        ("sites = 4", "sites = 4\ndeadlines = { x = 1 }"),
        ("sites = 4", "sites = 4\nevaluation = { x = 1 }"),
        ("sites = 4", "sites = 4\npersonalisation = { x = 1 }"),
    ] {
        let found = said(&[(from, to)]);
        let expected = found
            .iter()
            .find_map(|line| line.split_once("expected "))
            .map(|(_, expected)| words(expected).map(str::to_owned).collect::<Vec<_>>());
        keys.extend(expected.unwrap_or_else(|| panic!("{to}: {found:?}")));
    }
    assert!(keys.len() > 70, "{}", keys.len());
    let named: Vec<_> = words(PAGE).collect();
    let left_out = |key: &&String| {
        let quoted = named.contains(&key.as_str());
        !quoted && !PAGE.contains(&format!("[{key}]"))
    };
    assert_eq!(keys.iter().find(left_out), None);
}
