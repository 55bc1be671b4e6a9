//! What a round costs a facility.
use super::*;

const STUDY: &str = r#"
name = "heart"
sites = 4
data = { table = "heart", minimum_records = 40, features = [{ name = "age", unit = "a", missing = "zero", scale = { centre = 54, width = 9 } }], label = { kind = "binary", column = "num" } }
model = { kind = "logistic" }
training = { rounds = 5, steps = 4, batch = 8, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
privacy = { unit = "record", epsilon = 2.0, delta = 1e-4, clip = 1.0 }
aggregation = { secure = true, quorum = 3, bound = 4.0 }
"#;

fn round(text: String, (number, aim): (u32, Aim)) -> MemberRound {
    let order = RoundOrder {
        key: crate::order::RoundKey {
            study: "heart-1".parse().unwrap(),
            round: number,
            attempt: 2,
        },
        text,
        aim,
        model: vec![0.0; 2],
        large: None,
        code: None,
        signature: None,
    };
    let region = "regional/us/us".parse().unwrap();
    MemberRound::begin(order, &region, Member(2), [1; 32]).unwrap()
}

#[test]
fn a_round_is_paid_for_by_what_one_record_may_change_of_it_whoever_is_hidden() {
    let facility = STUDY
        .replace("\"record\"", "\"facility\"")
        .replace("bound = 4.0", "units = 65536");
    let nobody = STUDY.replace(
        "privacy = { unit = \"record\", epsilon = 2.0, delta = 1e-4, clip = 1.0 }",
        "",
    );
    for (text, steps, part) in [(STUDY.to_owned(), 4, 1.0), (facility, 1, 0.5)] {
        let training = round(text.clone(), (3, Aim::Train));
        let (study, plan) = training.order().read().unwrap();
        let spend = plan.spend.unwrap();
        let (name, event) = training.spends(&study, &plan).unwrap().unwrap();
        assert_eq!((name.as_str(), event.steps()), ("heart-1/3/2", steps));
        assert_eq!(event.sampling(), spend.sampling);
        assert_eq!(event.noise_multiplier(), spend.noise_multiplier * part);
        let judging = round(text, (6, Aim::Judge));
        assert_eq!(judging.spends(&study, &plan), Ok(None));
    }
    let open = round(nobody, (3, Aim::Train));
    let (study, plan) = open.order().read().unwrap();
    assert_eq!(open.spends(&study, &plan), Ok(None));
}
