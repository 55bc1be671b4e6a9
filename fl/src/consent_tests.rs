//! A coordinator that lies about any one thing gets nothing.
use super::*;
use crate::{ledger::Budget, privacy::Delta};

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
fn each_thing_that_is_not_allowed_is_named() {
    let data = said(&[("name = \"age\"", "name = \"postcode\"")], EU, 2.0, 50);
    assert_eq!(data, [Objection::Data("heart.postcode".into())]);
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
