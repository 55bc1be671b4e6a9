//! Studies as they are written, what they come to, and what is said of bad ones.
use super::*;

/// Heart disease at four hospitals: FLamby's features.
const HEART: &str = r#"
name = "heart"
regions = ["us"]
sites = 4

[data]
table = "heart"
minimum_records = 46
features = [
  { name = "age", unit = "a", missing = "drop-record", scale = { centre = 54, width = 9 } },
  { name = "sex", unit = "1", missing = "drop-record", scale = { centre = 0.5, width = 0.5 } },
  { name = "cp", unit = "1", categories = [1, 2, 3, 4], missing = "drop-record" },
  { name = "trestbps", unit = "mm[Hg]", missing = "drop-record", scale = { centre = 130, width = 18 } },
  { name = "chol", unit = "mg/dL", missing = "drop-record", scale = { centre = 240, width = 50 } },
  { name = "fbs", unit = "1", missing = "drop-record", scale = { centre = 0.5, width = 0.5 } },
  { name = "restecg", unit = "1", categories = [0, 1, 2], missing = "drop-record" },
  { name = "thalach", unit = "/min", missing = "drop-record", scale = { centre = 145, width = 25 } },
  { name = "exang", unit = "1", missing = "drop-record", scale = { centre = 0.5, width = 0.5 } },
  { name = "oldpeak", unit = "mm", missing = "drop-record", scale = { centre = 1, width = 1 } },
]
label = { kind = "binary", column = "num" }

[model]
kind = "logistic"

[training]
rounds = 15
steps = 100
batch = 4
learning_rate = 0.01
strategy = { kind = "fed-avg" }

[aggregation]
secure = true
quorum = 3
bound = 10.0
"#;

fn study(changes: &[(&str, &str)]) -> Study {
    let mut text = HEART.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    toml::from_str(&text).unwrap()
}

/// The problems as `path: message`, joined.
fn said(changes: &[(&str, &str)]) -> String {
    let lines: Vec<_> = study(changes)
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    lines.join("\n")
}

const RECORD: &str = "[aggregation]";
const WITH_RECORD: &str =
    "[privacy]\nunit = \"record\"\nepsilon = 1.0\ndelta = 1e-4\nclip = 1.0\n[aggregation]";
const WITH_FACILITY: &str =
    "[privacy]\nunit = \"facility\"\nepsilon = 8.0\ndelta = 1e-4\nclip = 1.0\n[aggregation]";

#[test]
fn a_good_study_comes_to_its_parameters_bits_and_losses() {
    let plan = study(&[]).plan().unwrap();
    assert_eq!((plan.inputs, plan.parameters), (13, 14));
    assert_eq!((plan.update_bytes, plan.dropouts), (56, 1));
    assert_eq!(plan.spend, None);
    let bits = plan.bits.unwrap();
    assert_eq!((bits.largest, bits.needed), (4 << 18, 22));
}

#[test]
fn the_noise_of_a_study_follows_from_its_budget() {
    let spend = study(&[(RECORD, WITH_RECORD)])
        .plan()
        .unwrap()
        .spend
        .unwrap();
    // 46 records less 30 per cent are 32; 4 of them a step; 15 rounds of 100 steps.
    assert_eq!((spend.sampling, spend.steps), (0.125, 1_500));
    assert!(spend.epsilon <= 1.0 && spend.epsilon > 0.98, "{spend:?}");
    let facility = [(RECORD, WITH_FACILITY), ("bound = 10.0", "units = 65536")];
    let plan = study(&facility).plan().unwrap();
    let spend = plan.spend.unwrap();
    assert_eq!((spend.sampling, spend.steps), (1.0, 15));
    assert!(plan.bits.unwrap().needed > 20);
}

#[test]
fn numbers_that_could_overflow_are_refused_with_the_arithmetic() {
    // With every site at its bound: 2^31 − 1 is the largest sum.
    for (sites, quorum, units, fits) in [
        (10, 6, 1_u64 << 22, true),
        (100, 51, 1 << 22, true),
        (511, 256, 1 << 22, true),
        (512, 257, 1 << 22, false),
        (1000, 501, 1 << 21, true),
        (1024, 513, 1 << 21, false),
    ] {
        let (sites, quorum) = (format!("sites = {sites}"), format!("quorum = {quorum}"));
        let bound = format!("bound = 10.0\nunits = {units}");
        let found = said(&[
            ("sites = 4", &sites),
            ("quorum = 3", &quorum),
            ("bound = 10.0", &bound),
        ]);
        if fits {
            assert_eq!(found, "");
        } else {
            assert!(found.starts_with("aggregation.units: "), "{found}");
            assert!(found.contains("need 33 bits"), "{found}");
        }
    }
}

#[test]
fn every_problem_is_said_with_its_key() {
    let found = said(&[
        ("sites = 4", "sites = 1"),
        ("minimum_records = 46", "minimum_records = 10"),
        ("name = \"age\"", "name = \"num\""),
        ("unit = \"mm[Hg]\"", "unit = \"\""),
        ("[0, 1, 2]", "[0, 1, 1]"),
        ("steps = 100", "steps = 100\nepochs = 1"),
        ("learning_rate = 0.01", "learning_rate = nan"),
        ("quorum = 3", "quorum = 2"),
        (
            "kind = \"fed-avg\"",
            "kind = \"fed-adam\", server_learning_rate = 0.1, beta_1 = 1.0",
        ),
    ]);
    for path in [
        "sites",
        "data.minimum_records",
        "data.features[0].name",
        "data.features[3].unit",
        "data.features[6].categories[2]",
        "training",
        "training.learning_rate",
        "training.strategy.beta_1",
    ] {
        assert!(found.contains(&format!("{path}: ")), "{path} in {found}");
    }
}

#[test]
fn numbers_that_no_model_can_hold_are_refused_with_their_key() {
    for (from, to, expected) in [
        (
            "bound = 10.0",
            "bound = 1e300",
            "aggregation.bound: is from 1e-9 to 1e9, not 1e300",
        ),
        (
            "bound = 10.0",
            "bound = 1e-300",
            "aggregation.bound: is from 1e-9",
        ),
        (
            "learning_rate = 0.01",
            "learning_rate = 1e-300",
            "training.learning_rate: is too large or too small a number",
        ),
        (
            "centre = 54, width = 9",
            "centre = 1e300, width = 9",
            "scale.centre: is no finite number of single precision",
        ),
        (
            "centre = 54, width = 9",
            "centre = 54, width = 1e-300",
            "scale.width: is too large or too small a number",
        ),
    ] {
        let found = said(&[(from, to)]);
        assert!(found.contains(expected), "{expected} in {found:?}");
    }
}

#[test]
fn what_excludes_each_other_is_refused() {
    for (changes, expected) in [
        (
            vec![("kind = \"fed-avg\"", "kind = \"median\"")],
            "training.strategy.kind: `median` has to see single updates",
        ),
        (
            vec![("secure = true", "secure = false"), (RECORD, WITH_FACILITY)],
            "aggregation.secure: is true where facilities are hidden",
        ),
        (
            vec![
                ("bound = 10.0", "weights = \"records\""),
                (RECORD, WITH_FACILITY),
            ],
            "aggregation.weights: is `equal` where facilities are hidden",
        ),
        (vec![("bound = 10.0", "")], "aggregation.bound: is the norm"),
        (
            vec![("quorum = 3", "quorum = 2")],
            "aggregation.quorum: two sets of 2 of 4 members",
        ),
        (
            vec![("quorum = 3", "quorum = 3\ncolluders = 2")],
            "aggregation.quorum: with 2 colluders",
        ),
        (
            vec![("kind = \"logistic\"", "kind = \"cox\"")],
            "model.kind: `cox` and a label of kind `survival`",
        ),
        (
            vec![("kind = \"logistic\"", "kind = \"gru\"\nhidden = 8")],
            "model.kind: looks at windows",
        ),
        (
            vec![(
                "kind = \"logistic\"",
                "kind = \"mlp\"\nhidden = [4096, 4096, 4096]",
            )],
            "model: has ",
        ),
    ] {
        let found = said(&changes);
        assert!(found.contains(expected), "{expected} in {found:?}");
    }
}

#[test]
fn a_budget_that_cannot_be_kept_is_refused_with_the_arithmetic() {
    for (from, to, expected) in [
        (
            "epsilon = 1.0",
            "epsilon = 0.1",
            "privacy.epsilon: 0.1 for 1500 steps at a sampling probability of 0.125000 needs a noise of",
        ),
        (
            "epsilon = 1.0",
            "epsilon = 70333",
            "privacy.epsilon: 70333 promises nothing, and 100 is the most",
        ),
        (
            "epsilon = 1.0\n",
            "",
            "privacy.epsilon: is needed for the unit `record`",
        ),
        (
            "delta = 1e-4",
            "delta = 0.05",
            "privacy.delta: is below 1/46",
        ),
        (
            "delta = 1e-4",
            "delta = 1e-20",
            "privacy.delta: a delta is from",
        ),
        (
            "clip = 1.0",
            "clip = -1.0",
            "privacy.clip: is a number above 0",
        ),
        (
            "unit = \"record\"",
            "unit = \"none\"",
            "privacy.epsilon: promises nothing",
        ),
    ] {
        let changed = WITH_RECORD.replacen(from, to, 1);
        let found = said(&[(RECORD, &changed)]);
        assert!(found.contains(expected), "{expected} in {found:?}");
    }
    let large = said(&[(RECORD, WITH_RECORD), ("batch = 4", "batch = 40")]);
    assert!(
        large.contains("training.batch: 40 records are expected"),
        "{large}"
    );
}

#[test]
fn features_of_stays_have_codes_units_and_summaries() {
    let heart = study(&[]);
    let mut stays: Study = toml::from_str(&HEART.replacen(
        "table = \"heart\"",
        "stays = { hours = 48, window_hours = 6 }",
        1,
    ))
    .unwrap();
    assert_eq!(heart.data.windows(), 1);
    assert_eq!(stays.data.windows(), 8);
    let without = stays
        .problems()
        .iter()
        .filter(|p| p.path.ends_with(".code"))
        .count();
    assert_eq!(without, 8, "all but age and sex");
    let feature = |unit: &str| {
        let text = format!(
            "name = \"heart-rate\"\nunit = \"{unit}\"\ncode = \"8867-4\"\nsummaries = [\"mean\", \"last\"]\nmissing = \"mean\""
        );
        toml::from_str::<Feature>(&text).unwrap()
    };
    stays.data.features = vec![feature("/min")];
    stays.data.label = Label::Binary {
        column: None,
        code: Some("urn:medmesh:code|in-hospital-death".parse().unwrap()),
        positive_above: None,
    };
    assert_eq!(stays.problems(), []);
    assert_eq!(stays.data.inputs(), 2);
    stays.data.features = vec![feature("Hz")];
    let found = stays.problems();
    assert_eq!(
        found[0].to_string(),
        "data.features[0].unit: is /min for 8867-4, not Hz"
    );
}

#[test]
fn unknown_keys_are_no_study() {
    for (from, to) in [
        ("sites = 4", "sites = 4\nsurprise = 1"),
        ("steps = 100", "steps = 100\nnoise = 0.0"),
        ("quorum = 3", "quorum = 3\nnoise_multiplier = 1.0"),
        ("kind = \"fed-avg\"", "kind = \"fed-best\""),
    ] {
        let text = HEART.replacen(from, to, 1);
        assert!(toml::from_str::<Study>(&text).is_err(), "{to}");
    }
}

#[test]
fn coarse_numbers_need_as_many_bits_as_their_sum_whatever_the_number_of_sites() {
    for (sites, quorum, bits, needed) in [
        (10, 6, 8, 12),
        (100, 51, 8, 15),
        (1000, 501, 8, 18),
        (10, 6, 4, 8),
        (100, 51, 4, 11),
        (1000, 501, 4, 14),
    ] {
        let (sites, quorum) = (format!("sites = {sites}"), format!("quorum = {quorum}"));
        let bound = format!("bound = 10.0\ncompression = {{ bits = {bits}, range = 0.5 }}");
        let plan = study(&[
            ("sites = 4", &sites),
            ("quorum = 3", &quorum),
            ("bound = 10.0", &bound),
        ])
        .plan()
        .unwrap();
        assert_eq!(plan.bits.unwrap().needed, needed, "{sites} {bits}");
        assert_eq!(
            plan.update_bytes,
            (plan.parameters * u64::from(needed)).div_ceil(8)
        );
    }
}

#[test]
fn options_that_do_not_go_together_are_refused_with_their_key() {
    for (changes, expected) in [
        (
            vec![(
                "bound = 10.0",
                "bound = 10.0\ncompression = { bits = 5, range = 0.5 }",
            )],
            "aggregation.compression.bits: is 8 or 4, not 5",
        ),
        (
            vec![
                ("bound = 10.0", "compression = { bits = 8, range = 0.5 }"),
                (RECORD, WITH_FACILITY),
            ],
            "aggregation.compression: is too coarse",
        ),
        (
            vec![("kind = \"fed-avg\"", "kind = \"median\"")],
            "training.strategy.kind: `median` has to see single updates",
        ),
        (
            vec![
                ("steps = 100", "epochs = 1"),
                (
                    "kind = \"fed-avg\"",
                    "kind = \"scaffold\", server_learning_rate = 1.0",
                ),
            ],
            "training.steps: is needed for `scaffold`",
        ),
        (
            vec![("kind = \"logistic\"", "kind = \"gru\"\nhidden = 2")],
            "model.kind: looks at windows: give `data.windows`",
        ),
        (
            vec![(
                "name = \"age\", unit = \"a\", missing = \"drop-record\"",
                "name = \"age\", unit = \"a\", missing = \"carry-forward\"",
            )],
            "data.features[0].missing: is `carry-forward` of windows",
        ),
    ] {
        let found = said(&changes);
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn a_study_that_makes_no_sense_is_not_taken_and_can_be_read_where_it_runs_already() {
    let trimmed = [
        ("kind = \"fed-avg\"", "kind = \"trimmed-mean\", share = 0.2"),
        ("secure = true", "secure = false"),
    ];
    let study = study(&trimmed);
    assert_eq!(study.problems().len(), 1);
    study.plan().unwrap();
}

#[test]
fn columns_and_shares_that_do_not_go_together_are_refused_with_their_key() {
    for (changes, expected) in [
        (
            vec![(
                "bound = 10.0",
                "bound = 10.0\n[evaluation]\ntest_column = \"num\"",
            )],
            "evaluation.test_column: is the label",
        ),
        (
            vec![(
                "bound = 10.0",
                "bound = 10.0\n[evaluation]\ntest_column = \"sex\"",
            )],
            "evaluation.test_column: is a feature too",
        ),
        (
            vec![
                (
                    "kind = \"binary\", column = \"num\"",
                    "kind = \"survival\", time = \"num\", event = \"num\"",
                ),
                ("kind = \"logistic\"", "kind = \"cox\""),
            ],
            "data.label.event: is `label.time`",
        ),
        (
            vec![
                ("kind = \"fed-avg\"", "kind = \"trimmed-mean\", share = 0.2"),
                ("secure = true", "secure = false"),
            ],
            "training.strategy.share: of a quorum of 3 is less than one at either end, so that nothing is left out: at least 0.334",
        ),
        (
            vec![
                ("minimum_records = 46", "minimum_records = 25"),
                (
                    "bound = 10.0",
                    "bound = 10.0\n[evaluation]\ntest_share = 0.14",
                ),
            ],
            "evaluation.test_share: 3 sites (`aggregation.quorum`) x 3 of 25 records (`data.minimum_records`) are 9 to judge with, and figures are told of 11 at least",
        ),
        (
            vec![(
                "[aggregation]",
                "[personalisation]\nsteps = 0\nlearning_rate = 0.1\n\n[aggregation]",
            )],
            "personalisation.steps: is from 1",
        ),
    ] {
        let found = said(&changes);
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn options_that_change_nothing_or_undo_a_strategy_are_refused_with_their_key() {
    let open = ("secure = true", "secure = false");
    let windows = ("table = \"heart\"", "table = \"heart\"\nwindows = 12");
    let test = "bound = 10.0\n[evaluation]\ntest_column = \"sex.12\"";
    for (changes, expected) in [
        (
            vec![
                ("\"fed-avg\"", "\"median\""),
                open,
                ("quorum = 3", "quorum = 2"),
            ],
            "aggregation.quorum: of 2 updates the median is the mean",
        ),
        (
            vec![(
                "\"fed-avg\"",
                "\"fed-adagrad\", server_learning_rate = 0.1, beta_2 = 0.9",
            )],
            "training.strategy.beta_2: is of `fed-adam` and `fed-yogi`",
        ),
        (
            vec![(
                "bound = 10.0",
                "bound = 10.0\ncompression = { bits = 8, range = 10.5 }",
            )],
            "aggregation.compression.range: is 1.05e1, and an update is cut to a norm of 1e1",
        ),
        (
            vec![("[0, 1, 2]", "[0, 9007199254740993]")],
            "data.features[6].categories[1]: is 9007199254740992 at most",
        ),
        (
            vec![windows, ("column = \"num\"", "column = \"age.1\"")],
            "data.features[0].name: has the label as one of its windows",
        ),
        (
            vec![windows, ("bound = 10.0", test)],
            "evaluation.test_column: is a feature too",
        ),
    ] {
        let found = said(&changes);
        assert!(found.contains(expected), "{expected}: {found}");
    }
    // Thirteen inputs in a thousand windows are fewer than a hundred thousand numbers, and 102 are more.
    let longest = ("table = \"heart\"", "table = \"heart\"\nwindows = 1000");
    assert_eq!(said(&[longest]), "");
    let categories: Vec<_> = (0..=91).map(|of: u32| of.to_string()).collect();
    let many = format!("[{}]", categories.join(", "));
    let found = said(&[longest, ("[0, 1, 2]", &many)]);
    assert!(
        found.contains("data.features: make 102 inputs x 1000 windows = 102000 numbers"),
        "{found}"
    );
    // A column beside the windows is none of them.
    assert_eq!(said(&[windows, ("\"num\"", "\"age.13\"")]), "");
    let adagrad = "\"fed-adagrad\", server_learning_rate = 0.1, tau = 0.01";
    assert_eq!(said(&[("\"fed-avg\"", adagrad)]), "");
}

#[test]
fn a_model_that_fits_no_parcel_is_refused_with_everything_else_that_is_wrong() {
    for (hidden, path) in [
        (
            "[1000, 1000]",
            "aggregation.secure: the 1016001 numbers of an update are more",
        ),
        ("[4096, 4096, 4096]", "model: has 33624065 parameters"),
    ] {
        let found = said(&[
            (
                "kind = \"logistic\"",
                &format!("kind = \"mlp\"\nhidden = {hidden}"),
            ),
            ("secure = true", "secure = false"),
            (
                "quorum = 3",
                "quorum = 9\ncompression = { bits = 8, range = 0.1 }",
            ),
        ]);
        for expected in [
            path,
            "aggregation.compression: the ",
            "aggregation.quorum: is from 1 to",
        ] {
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }
}

#[test]
fn a_round_in_which_sites_train_in_turn_has_time_for_each_of_them() {
    let times = "[deadlines]\naccept_seconds = 60\ntrain_seconds = 100\nexchange_seconds = 10\n";
    let text = HEART.to_owned() + times;
    let mean: Study = toml::from_str(&text).unwrap();
    assert_eq!(mean.round_ms(), 190_000);
    let in_turn =
        text.replacen("fed-avg", "cyclic", 1)
            .replacen("secure = true", "secure = false", 1);
    let in_turn: Study = toml::from_str(&in_turn).unwrap();
    // Of four sites three may be silent for as long as they may train.
    assert_eq!(in_turn.round_ms(), 490_000);
}
