//! A coordinator that lies about any one thing gets nothing.
use super::*;
use crate::large::Vector;
use crate::{
    ledger::Budget,
    privacy::{Delta, Event},
};
use serde_json::Value;

const STUDY: &str = r#"
name = "heart"
sites = 4
data = { table = "heart", minimum_records = 40, features = [{ name = "age", unit = "a", missing = "mean", scale = { centre = 54, width = 9 } }], label = { kind = "binary", column = "num" } }
model = { kind = "logistic" }
training = { rounds = 5, steps = 4, batch = 8, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
privacy = { unit = "record", epsilon = 2.0, delta = 1e-4, clip = 1.0 }
aggregation = { secure = true, quorum = 3, bound = 4.0 }
"#;

fn study(changes: &[(&str, &str)]) -> Study {
    let mut text = STUDY.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    toml::from_str(&text).unwrap()
}

fn allowance() -> Allowance {
    Allowance {
        data: vec!["heart.age".into(), "heart.num".into()],
        jurisdictions: vec![Jurisdiction::Eu],
        minimum_records: 50,
        minimum_participants: 3,
        single_updates: false,
        without_privacy: false,
        judging: true,
        models: vec!["logistic".into()],
        code: Vec::new(),
    }
}

fn ledger(epsilon: f64) -> Ledger {
    let delta = Delta::new(1e-4).unwrap();
    Ledger::new(Budget { epsilon, delta }).unwrap()
}

/// What is said to a study whose coordinator says the truth about what it comes to.
fn said(changes: &[(&str, &str)], place: &str, epsilon: f64, records: u32) -> Vec<Objection> {
    let study = study(changes);
    let plan = study.plan().unwrap();
    let offer = Offer {
        study: &study,
        plan: &plan,
        aggregator: &place.parse().unwrap(),
        rounds_left: study.training.rounds,
    };
    objections(&offer, &allowance(), &ledger(epsilon), records)
}

const EU: &str = "regional/eu/eu";

#[test]
fn a_study_within_everything_that_is_allowed_meets_no_objection() {
    assert_eq!(said(&[], EU, 2.0, 50), []);
}

#[test]
fn a_coordinator_that_lies_about_what_a_study_comes_to_is_refused() {
    let study = study(&[]);
    let truth = study.plan().unwrap();
    let place = EU.parse().unwrap();
    let mut lies = vec![truth.clone(); 6];
    lies[0].spend.as_mut().unwrap().epsilon /= 2.0;
    lies[1].spend.as_mut().unwrap().noise_multiplier *= 2.0;
    lies[2].spend.as_mut().unwrap().steps -= 1;
    lies[3].spend = None;
    lies[4].parameters += 1;
    lies[5].dropouts += 1;
    for plan in &lies {
        let offer = Offer {
            study: &study,
            plan,
            aggregator: &place,
            rounds_left: 5,
        };
        let found = objections(&offer, &allowance(), &ledger(2.0), 50);
        assert!(matches!(found[..], [Objection::Plan(_)]), "{found:?}");
    }
    let bad = self::study(&[("quorum = 3", "quorum = 1")]);
    let offer = Offer {
        study: &bad,
        plan: &truth,
        aggregator: &place,
        rounds_left: 5,
    };
    let found = objections(&offer, &allowance(), &ledger(2.0), 50);
    assert!(matches!(&found[..], [Objection::Plan(why)] if why.starts_with("aggregation.quorum")));
}

#[test]
fn each_window_of_a_feature_is_a_column_that_has_to_be_allowed() {
    let windows = ("table = \"heart\"", "table = \"heart\", windows = 2");
    // That `heart.age` is allowed says nothing of `heart.age.1`, which may be anything.
    let found = said(&[windows], EU, 2.0, 50);
    assert_eq!(found, [Objection::Data("heart.age.1".into())]);
    let study = study(&[windows]);
    let mut allowed = allowance();
    allowed.data.push("heart.age.1".into());
    assert_eq!(
        data(&study, &allowed),
        [Objection::Data("heart.age.2".into())]
    );
    allowed.data.push("heart.age.2".into());
    assert_eq!(data(&study, &allowed), []);
}

#[test]
fn each_thing_that_is_not_allowed_is_named() {
    let data = said(&[("name = \"age\"", "name = \"postcode\"")], EU, 2.0, 50);
    assert_eq!(data, [Objection::Data("heart.postcode".into())]);
    let judged = (
        "aggregation =",
        "evaluation = { test_column = \"sex\" }\naggregation =",
    );
    let found = said(&[judged], EU, 2.0, 50);
    assert_eq!(found, [Objection::Data("heart.sex".into())]);
    let table = said(&[("table = \"heart\"", "table = \"other\"")], EU, 2.0, 50);
    assert_eq!(table.len(), 2, "{table:?}");
    let law = said(&[], "regional/us/us", 2.0, 50);
    assert_eq!(law, [Objection::Jurisdiction("us".into())]);
    let nowhere = said(&[], "global", 2.0, 50);
    assert_eq!(nowhere, [Objection::Jurisdiction("none".into())]);
    assert!(matches!(
        said(&[], EU, 2.0, 49)[..],
        [Objection::Records(_)]
    ));
    assert!(matches!(said(&[], EU, 1.0, 50)[..], [Objection::Budget(_)]));
    let few = said(
        &[("sites = 4", "sites = 2"), ("quorum = 3", "quorum = 2")],
        EU,
        2.0,
        50,
    );
    assert!(matches!(few[..], [Objection::Participants(_)]));
    let open = said(&[("secure = true", "secure = false")], EU, 2.0, 50);
    assert_eq!(open, [Objection::SingleUpdates]);
    let few = [
        ("minimum_records = 40", "minimum_records = 11"),
        ("batch = 8", "batch = 4"),
    ];
    assert!(matches!(
        &said(&few, EU, 2.0, 50)[..],
        [Objection::Plan(why)] if why.starts_with("evaluation.test_share: 3 sites (`aggregation.quorum`) x 3 of 11 records")
    ));
    let none = "privacy = { unit = \"none\" }";
    let line = "privacy = { unit = \"record\", epsilon = 2.0, delta = 1e-4, clip = 1.0 }";
    assert_eq!(said(&[(line, none)], EU, 2.0, 50), [Objection::NoPrivacy]);
}

#[test]
fn what_other_studies_have_spent_counts() {
    let study = study(&[]);
    let plan = study.plan().unwrap();
    let spend = plan.spend.unwrap();
    let event = Event::new(spend.sampling, spend.noise_multiplier, spend.steps).unwrap();
    let mut ledger = ledger(2.5);
    ledger.debit("other/1", event).unwrap();
    let offer = Offer {
        study: &study,
        plan: &plan,
        aggregator: &EU.parse().unwrap(),
        rounds_left: 5,
    };
    let found = objections(&offer, &allowance(), &ledger, 50);
    assert!(matches!(found[..], [Objection::Budget(_)]), "{found:?}");
}

#[test]
fn what_was_debited_of_a_study_is_not_counted_again_in_its_later_rounds() {
    let study = study(&[]);
    let plan = study.plan().unwrap();
    let spend = plan.spend.unwrap();
    let mut ledger = ledger(2.0);
    let one = Event::new(spend.sampling, spend.noise_multiplier, spend.steps / 5).unwrap();
    let aggregator = EU.parse().unwrap();
    for round in 1..=5 {
        let offer = Offer {
            study: &study,
            plan: &plan,
            aggregator: &aggregator,
            rounds_left: 6 - round,
        };
        assert_eq!(objections(&offer, &allowance(), &ledger, 50), []);
        ledger.debit(&format!("heart/{round}/1"), one).unwrap();
    }
    let again = Offer {
        study: &study,
        plan: &plan,
        aggregator: &aggregator,
        rounds_left: 1,
    };
    let said = objections(&again, &allowance(), &ledger, 50);
    assert!(matches!(&said[..], [Objection::Budget(_)]), "{said:?}");
}

#[test]
fn a_facility_whose_ledger_was_put_back_spends_nothing_and_takes_part_in_what_costs_nothing() {
    let (allowed, place) = (
        Allowance {
            without_privacy: true,
            ..allowance()
        },
        EU.parse().unwrap(),
    );
    let line = "privacy = { unit = \"record\", epsilon = 2.0, delta = 1e-4, clip = 1.0 }";
    for (changes, rounds_left, is_declined) in [
        (&[][..], 5, true),
        // Judging.
        (&[][..], 0, false),
        (&[(line, "")][..], 5, false),
    ] {
        let study = study(changes);
        let plan = study.plan().unwrap();
        let offer = Offer {
            study: &study,
            plan: &plan,
            aggregator: &place,
            rounds_left,
        };
        let found = objections(&offer, &allowed, &ledger(2.0).doubted(true), 50);
        let said: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), usize::from(is_declined), "{said:?}");
        assert!(
            said.iter()
                .all(|why| why.contains("put back to an older state")),
            "{said:?}"
        );
    }
}

#[test]
fn a_facility_that_lets_nobody_judge_says_so_before_anything_is_learnt() {
    let study = study(&[]);
    let plan = study.plan().unwrap();
    let offer = Offer {
        study: &study,
        plan: &plan,
        aggregator: &EU.parse().unwrap(),
        rounds_left: 5,
    };
    let allowed = Allowance {
        judging: false,
        ..allowance()
    };
    let said = objections(&offer, &allowed, &ledger(2.0), 50);
    assert_eq!(said, [Objection::Judging]);
}

#[test]
fn a_study_that_hides_facilities_costs_the_ledger_of_records_what_one_record_may_change() {
    let hidden = [
        ("unit = \"record\"", "unit = \"facility\""),
        ("bound = 4.0", "units = 65536"),
    ];
    let study = study(&hidden);
    let plan = study.plan().unwrap();
    assert!(plan.spend.unwrap().epsilon <= 2.0);
    // Twice as far as a facility moves the sum: an epsilon of 4.5 for the 2 of a facility.
    let found = said(&hidden, EU, 4.0, 50);
    let [Objection::Budget(why)] = &found[..] else {
        panic!("{found:?}");
    };
    assert!(why.starts_with("epsilon would be 4."), "{why}");
    assert_eq!(said(&hidden, EU, 5.0, 50), []);
    // Round by round it comes to the same, and then nothing is left.
    let mut ledger = ledger(4.7);
    let one = plan.spend.unwrap().event(&study, 1).unwrap().unwrap();
    for round in 1..=5 {
        let name = format!("heart/{round}/1");
        ledger.debit(&name, one).unwrap();
    }
    assert!(ledger.spent() > 4.0, "{}", ledger.spent());
    assert!(ledger.debit("heart/6/1", one).is_err());
}

/// The paths of everything in a value that has no parts.
fn leaves(value: &Value, path: &str) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(parts) => parts.iter().map(|(key, of)| (key.clone(), of)).collect(),
        Value::Array(parts) => (0..).map(|at: usize| at.to_string()).zip(parts).collect(),
        _ => return vec![path.to_owned()],
    };
    let each = below.into_iter();
    each.flat_map(|(key, of)| leaves(of, &format!("{path}/{key}")))
        .collect()
}

/// Signs as the global node does.
fn signed(mut order: RoundOrder, seed: u8) -> RoundOrder {
    let pair = key(seed);
    order.signature = Some(pair.sign(&order.signed()).as_ref().to_vec());
    order
}

fn key(seed: u8) -> ring::signature::Ed25519KeyPair {
    ring::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn order() -> RoundOrder {
    RoundOrder {
        key: crate::order::RoundKey {
            study: "heart-1".parse().unwrap(),
            round: 1,
            attempt: 1,
        },
        text: STUDY.into(),
        aim: Aim::Train,
        model: vec![0.0; 2],
        large: None,
        code: Some("c0de".into()),
        signature: None,
    }
}

#[test]
fn a_region_that_changes_any_field_of_a_signed_order_gets_nothing() {
    use ring::signature::KeyPair as _;
    let (allowance, ledger, aggregator) = (allowance(), ledger(2.0), EU.parse().unwrap());
    let pair = key(1);
    let here = Standpoint {
        aggregator: &aggregator,
        key: Some(pair.public_key().as_ref()),
        code: "c0de",
        allowance: &allowance,
        ledger: &ledger,
        records: Some(50),
        answered: false,
    };
    let good = signed(order(), 1);
    assert_eq!(objections_to(&good, &here), []);
    let lie = |change: &dyn Fn(&mut RoundOrder)| {
        let mut order = good.clone();
        change(&mut order);
        objections_to(&order, &here)
    };
    let lies: [&dyn Fn(&mut RoundOrder); 13] = [
        &|order| order.key.study = "heart-2".parse().unwrap(),
        &|order| order.key.round = 2,
        &|order| order.key.attempt = 2,
        &|order| order.aim = Aim::Judge,
        &|order| order.text = order.text.replace("epsilon = 2.0", "epsilon = 1.9"),
        &|order| order.text = order.text.replace("clip = 1.0", "clip = 9.0"),
        &|order| order.text = order.text.replace("quorum = 3", "quorum = 4"),
        &|order| order.model[1] = 1e-9,
        &|order| {
            order.large = Some(Vector {
                sha256: [7; 32],
                bytes: 8,
            })
        },
        &|order| order.code = None,
        &|order| order.code = Some("other".into()),
        &|order| order.signature = None,
        &|order| order.signature = Some(vec![0; 64]),
    ];
    for (at, change) in lies.iter().enumerate() {
        assert_eq!(lie(change), [Objection::Signature], "{at}");
    }
    // Whatever there is in an order, now or one day.
    let whole = serde_json::to_value(&good).unwrap();
    let mut changed = 0;
    for path in leaves(&whole, "") {
        let mut lie = whole.clone();
        let leaf = lie.pointer_mut(&path).unwrap();
        *leaf = match &*leaf {
            Value::String(text) => format!("{text}1").into(),
            Value::Number(number) => (number.as_f64().unwrap() as u64 + 1).into(),
            Value::Bool(is) => (!is).into(),
            other => panic!("{path} is {other}"),
        };
        // What is no order any more does not come so far.
        let Ok(lie) = serde_json::from_value::<RoundOrder>(lie) else {
            continue;
        };
        assert_ne!(lie, good, "{path}");
        assert_eq!(objections_to(&lie, &here), [Objection::Signature], "{path}");
        changed += 1;
    }
    // Three words of its key, the text, two numbers of the model, the code, and the bytes of the signature.
    assert!(changed >= 60, "{changed}");
    // Signed by another node than the global one.
    assert_eq!(
        objections_to(&signed(order(), 2), &here),
        [Objection::Signature]
    );
}

#[test]
fn a_global_node_that_lies_about_any_field_gets_nothing_either() {
    let (mut allowance, ledger, aggregator) = (allowance(), ledger(2.0), EU.parse().unwrap());
    let said = |order: &RoundOrder, allowance: &Allowance, answered| {
        let here = Standpoint {
            aggregator: &aggregator,
            key: None,
            code: "c0de",
            allowance,
            ledger: &ledger,
            records: Some(50),
            answered,
        };
        objections_to(order, &here)
    };
    assert_eq!(said(&order(), &allowance, false), []);
    assert_eq!(said(&order(), &allowance, true), [Objection::Answered]);
    let mut other = order();
    other.code = Some("other".into());
    assert!(matches!(
        said(&other, &allowance, false)[..],
        [Objection::Code(_)]
    ));
    let mlp = "kind = \"mlp\", hidden = [4]";
    other = order();
    other.text = STUDY.replace("kind = \"logistic\"", mlp);
    let found = said(&other, &allowance, false);
    let [Objection::Model(what)] = &found[..] else {
        panic!("{found:?}");
    };
    // Its shape may be allowed by its digest, and then no other shape.
    allowance.models = vec![what.split(' ').next_back().unwrap().into()];
    assert_eq!(said(&other, &allowance, false), []);
    other.text = STUDY.replace("kind = \"logistic\"", "kind = \"mlp\", hidden = [5]");
    assert!(matches!(
        said(&other, &allowance, false)[..],
        [Objection::Model(_)]
    ));
    allowance.code = vec!["an older one".into()];
    allowance.models = Allowance::every_model();
    assert!(matches!(
        said(&order(), &allowance, false)[..],
        [Objection::Code(_)]
    ));
    other.text = "name = 3".into();
    assert!(matches!(
        said(&other, &allowance, false)[..],
        [Objection::Plan(_)]
    ));
}

#[test]
fn readings_of_stays_are_allowed_by_their_own_name_or_one_by_one_and_not_with_every_table() {
    let study = study(&[
        ("table = \"heart\"", "stays = { hours = 48 }"),
        (
            "name = \"age\", unit = \"a\"",
            "name = \"hr\", code = \"8867-4\", unit = \"/min\", summaries = [\"mean\"]",
        ),
        (
            "column = \"num\"",
            "code = \"urn:medmesh:code|in-hospital-death\"",
        ),
    ]);
    let death = "urn:medmesh:code|in-hospital-death";
    for (allowed, refused) in [
        (vec!["*"], vec!["8867-4", death]),
        (vec!["8867-4"], vec![death]),
        (vec!["8867-4", death], vec![]),
        (vec![Allowance::READINGS], vec![]),
    ] {
        let allowance = Allowance {
            data: allowed.iter().map(ToString::to_string).collect(),
            ..allowance()
        };
        let found = data(&study, &allowance);
        let refused = refused.into_iter().map(str::to_owned).map(Objection::Data);
        assert_eq!(found, refused.collect::<Vec<_>>(), "{allowed:?}");
    }
}
