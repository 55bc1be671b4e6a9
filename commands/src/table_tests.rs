//! Tables: what is wrong with one, and what it lets through.
use super::*;

fn monitor() -> Table {
    Table::built_in(DeviceKind::BedsideMonitor)
}

fn object(text: &str) -> Map<String, Json> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_built_in_table_is_good_and_names_what_is_asked_of_it() {
    for (kind, text) in BUILT_IN {
        let table = Table::read(text).unwrap();
        assert!(!table.0.is_empty(), "{kind:?}");
        assert!(table.entry("identify").is_some(), "{kind:?}");
    }
    for name in ["set-interval", "set-alarm-limits", "identify", "restart"] {
        assert!(monitor().entry(name).is_some(), "{name}");
    }
    let probe = Table::built_in(DeviceKind::ColdChain);
    let refused = probe.check("identify", &Map::new()).unwrap_err();
    assert_eq!(refused.reason, Reason::UnknownCommand);
    assert_eq!(refused.detail, "the device takes no command");
    let one = Map::from_iter([("x".to_owned(), 1.into())]);
    let refused = monitor().check("identify", &one).unwrap_err();
    assert_eq!(refused.detail, "identify takes no parameter");
    assert!(monitor().entry("set-alarm-limits").unwrap().safety);
    assert!(!monitor().entry("set-interval").unwrap().safety);
}

const LIMITS: &str = "set-alarm-limits";
const HIGH: &str = "/parameters/heart-rate-high";
const INTERVAL: &str = "/parameters/interval";

/// Name, parameters, and what is wrong.
type Case = (&'static str, &'static str, Option<(&'static str, Reason)>);

const INTERVALS: &[Case] = &[
    ("set-interval", r#"{"interval":"5s"}"#, None),
    ("set-interval", r#"{"interval":"5000ms"}"#, None),
    (
        "set-interval",
        r#"{"interval":"0s"}"#,
        Some((INTERVAL, Reason::OverRange)),
    ),
    (
        "set-interval",
        r#"{"interval":"9d"}"#,
        Some((INTERVAL, Reason::OverRange)),
    ),
    (
        "set-interval",
        r#"{"interval":5}"#,
        Some((INTERVAL, Reason::WrongType)),
    ),
    (
        "set-interval",
        r#"{"interval":"5"}"#,
        Some((INTERVAL, Reason::WrongType)),
    ),
    (
        "set-interval",
        "{}",
        Some((INTERVAL, Reason::WrongParameters)),
    ),
    (
        "set-interval",
        r#"{"interval":"5s","x":1}"#,
        Some(("/parameters/x", Reason::WrongParameters)),
    ),
    ("identify", "{}", None),
    (
        "self-destruct",
        "{}",
        Some(("/name", Reason::UnknownCommand)),
    ),
];

const ALARM_LIMITS: &[Case] = &[
    (LIMITS, r#"{"heart-rate-high":130}"#, None),
    (
        LIMITS,
        r#"{"heart-rate-high":{"value":130,"unit":"/min"}}"#,
        None,
    ),
    (
        LIMITS,
        r#"{"heart-rate-high":{"value":130,"unit":"%"}}"#,
        Some((HIGH, Reason::WrongType)),
    ),
    (
        LIMITS,
        r#"{"heart-rate-high":130.5}"#,
        Some((HIGH, Reason::WrongType)),
    ),
    (
        LIMITS,
        r#"{"heart-rate-high":301}"#,
        Some((HIGH, Reason::OverRange)),
    ),
    (
        LIMITS,
        r#"{"heart-rate-high":"130"}"#,
        Some((HIGH, Reason::WrongType)),
    ),
    (
        LIMITS,
        r#"{"heart-rate-low":130,"heart-rate-high":120}"#,
        Some(("/parameters/heart-rate-low", Reason::OverRange)),
    ),
    (LIMITS, "{}", Some(("/parameters", Reason::WrongParameters))),
];

#[test]
fn a_parameter_is_of_its_type_its_unit_and_its_range() {
    for (name, parameters, expected) in INTERVALS.iter().chain(ALARM_LIMITS) {
        let wrong = monitor().check(name, &object(parameters)).err();
        let wrong = wrong
            .as_ref()
            .map(|misuse| (misuse.field.as_str(), misuse.reason));
        assert_eq!(wrong, *expected, "{name} {parameters}");
    }
}

#[test]
fn a_decimal_is_compared_to_its_last_digit() {
    let table = Table::read(
        "[[command]]\nname = \"set-rate\"\n[[command.parameters]]\nname = \"rate\"\ntype = \"decimal\"\n\
         unit = \"%\"\nrange = [0.5, 100]\n",
    );
    let table = table.unwrap();
    for (number, good) in [
        ("0.5", true),
        ("100.00", true),
        ("1e2", true),
        ("100.0000000000001", false),
        ("0.49999999999999999", false),
        ("1e300", false),
        ("-1", false),
        ("123456789012345678901234567890", false),
    ] {
        let parameters = object(&format!("{{\"rate\":{number}}}"));
        assert_eq!(
            table.check("set-rate", &parameters).is_ok(),
            good,
            "{number}"
        );
    }
}

#[test]
fn what_was_checked_is_admitted_as_it_is_signed_and_nothing_else_is() {
    let checked = monitor().check("set-interval", &object(r#"{"interval":"5000ms"}"#));
    let checked = checked.unwrap();
    assert!(monitor().admit("set-interval", &checked).is_ok());
    let unusual = BTreeMap::from([("interval".into(), Value::Text("5000ms".into()))]);
    assert_eq!(
        monitor().admit("set-interval", &unusual),
        Err(Reason::WrongType)
    );
    let over = BTreeMap::from([("interval".into(), Value::Text("90d".into()))]);
    assert_eq!(
        monitor().admit("set-interval", &over),
        Err(Reason::OverRange)
    );
}

#[test]
fn a_property_and_the_parameters_that_set_it_are_each_others_inverse() {
    let table = monitor();
    let entry = table.setter("interval").unwrap();
    let parameters = entry.parameters_for(&json!("30s")).unwrap();
    assert_eq!(
        entry.property_of(&parameters),
        Some(("interval", json!("30s")))
    );
    assert_eq!(entry.parameters_for(&json!("0s")).unwrap_err().field, "");
    let limits = table.entry("set-alarm-limits").unwrap();
    let value = json!({"heart-rate-high": 130});
    let parameters = limits.parameters_for(&value).unwrap();
    assert_eq!(
        limits.property_of(&parameters),
        Some(("alarm-limits", value))
    );
}

#[test]
fn a_limit_that_is_given_alone_goes_with_those_that_the_device_has() {
    let table = monitor();
    let limits = table.entry(LIMITS).unwrap();
    let over = Err(Reason::OverRange);
    for (given, stands, expected) in [
        (
            r#"{"heart-rate-low":150}"#,
            Some(r#"{"heart-rate-high":140}"#),
            over,
        ),
        (
            r#"{"heart-rate-low":140}"#,
            Some(r#"{"heart-rate-high":140}"#),
            over,
        ),
        (
            r#"{"heart-rate-low":139}"#,
            Some(r#"{"heart-rate-high":140}"#),
            Ok(()),
        ),
        (
            r#"{"heart-rate-high":60}"#,
            Some(r#"{"heart-rate-low":60,"spo2-low":90}"#),
            over,
        ),
        (
            r#"{"heart-rate-high":61}"#,
            Some(r#"{"heart-rate-low":60,"spo2-low":90}"#),
            Ok(()),
        ),
        // What is given replaces what stands.
        (
            r#"{"heart-rate-high":180,"heart-rate-low":150}"#,
            Some(r#"{"heart-rate-high":140,"heart-rate-low":60}"#),
            Ok(()),
        ),
        (
            r#"{"spo2-low":95}"#,
            Some(r#"{"heart-rate-high":140}"#),
            Ok(()),
        ),
        (r#"{"heart-rate-low":150}"#, None, Ok(())),
        (r#"{"heart-rate-low":150}"#, Some("\"5s\""), Ok(())),
    ] {
        let given = table.check(LIMITS, &object(given)).unwrap();
        let stands: Option<Json> = stands.map(|text| serde_json::from_str(text).unwrap());
        let found = limits.goes_with(&given, stands.as_ref());
        assert_eq!(found, expected, "{given:?} {stands:?}");
    }
}

#[test]
fn every_problem_of_a_table_is_said_with_its_key() {
    let text = r#"
        [[command]]
        name = "a"
        [[command]]
        name = "a"
        property = "p"
        [[command.parameters]]
        name = "x"
        type = "decimal"
        unit = "furlong"
        range = [5, 1]
        below = "y"
        [[command.parameters]]
        name = "w"
        type = "choice"
        unit = "s"
        [[command.parameters]]
        name = "s"
        type = "span"
        range = [1, 2]
        [[command.write]]
        parameter = "none"
        address = 65535
        words = 3
        [[command.write]]
        constant = 1
        address = 7
        [[command.write]]
        constant = 1
        address = 8
        joined = true
        [[command.write]]
        constant = 1
        address = 10
        joined = true
    "#;
    let file: File = toml::from_str(text).unwrap();
    let problems = file.command.problems();
    let keys: Vec<&str> = problems.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "command[1].name",
            "command[1].parameters[0].range",
            "command[1].parameters[0].unit",
            "command[1].parameters[0].below",
            "command[1].parameters[1].unit",
            "command[1].parameters[1].values",
            "command[1].parameters[2].range",
            "command[1].write[0].words",
            "command[1].write[0].address",
            "command[1].write[0].parameter",
            "command[1].write[3].joined",
        ]
    );
}
