//! What a site sends, and what it does not tell.
use super::*;
use rand::{SeedableRng, rngs::StdRng};

const STUDY: &str = r#"
name = "heart"
sites = 4
data = { table = "heart", minimum_records = 40, maximum_records = 100, features = [{ name = "age", unit = "a", missing = "zero", scale = { centre = 54, width = 9 } }], label = { kind = "binary", column = "num" } }
model = { kind = "logistic" }
training = { rounds = 5, steps = 4, batch = 8, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
privacy = { unit = "record", epsilon = 2.0, delta = 1e-4, clip = 1.0 }
aggregation = { secure = true, quorum = 3, bound = 4.0 }
"#;
const HIDDEN: &str = "privacy = { unit = \"record\", epsilon = 2.0, delta = 1e-4, clip = 1.0 }\n";
const BOUND: &str = "bound = 4.0";

fn study(changes: &[(&str, &str)]) -> Study {
    let mut text = STUDY.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    toml::from_str(&text).unwrap()
}

fn records(count: usize) -> Records {
    let values = (0..count).map(|at| (at % 5) as f32 - 2.0).collect();
    Records::new(1, values, (0..count).map(|at| at % 5 > 2).collect()).unwrap()
}

fn sent(study: &Study, records: &Records) -> Vec<u32> {
    let plan = study.plan().unwrap();
    let mut random = StdRng::seed_from_u64(3);
    update(study, &plan, &[0.0, 0.0], records, &mut random).unwrap()
}

#[test]
fn the_number_of_a_sites_records_is_not_told_where_they_are_hidden() {
    let hidden = study(&[]);
    for count in [40, 41, 90] {
        assert_eq!(sent(&hidden, &records(count)).len(), 2, "no weight is sent");
    }
    let weighted = study(&[(BOUND, "bound = 4.0, weights = \"records\"")]);
    let found = weighted.problems();
    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .to_string()
            .starts_with("aggregation.weights: is `equal` where records are hidden")
    );
    // Without privacy the third number is the weight.
    let open = study(&[(HIDDEN, ""), (BOUND, "bound = 4.0, weights = \"records\"")]);
    assert_eq!(sent(&open, &records(50)).len(), 3);
}

#[test]
fn a_private_update_is_noised_and_one_without_privacy_follows_from_its_seed() {
    let open = study(&[(HIDDEN, "")]);
    assert_eq!(sent(&open, &records(50)), sent(&open, &records(50)));
    let (hidden, few) = (study(&[]), records(50));
    let plan = hidden.plan().unwrap();
    let draw = |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        update(&hidden, &plan, &[0.0, 0.0], &few, &mut random).unwrap()
    };
    let spread: std::collections::BTreeSet<_> = (0..20).map(draw).collect();
    assert_eq!(spread.len(), 20);
}

#[test]
fn training_that_leads_nowhere_tells_nothing_where_anything_is_hidden() {
    let far = |changes: &[(&str, &str)]| {
        let mut study = study(changes);
        let plan = study.plan().unwrap();
        study.training.learning_rate = 1e45;
        let mut random = StdRng::seed_from_u64(3);
        update(&study, &plan, &[0.0, 0.0], &records(50), &mut random)
    };
    let diverged = SiteError::Train(TrainError::Diverged(0));
    assert_eq!(far(&[(HIDDEN, "")]), Err(diverged));
    let unit = ("unit = \"record\"", "unit = \"facility\"");
    let sent = far(&[unit, (BOUND, "units = 65536")]);
    assert_eq!(sent.map(|numbers| numbers.len()), Ok(2));
    // It follows from noised sums, which a site that declines would not pay for.
    assert_eq!(far(&[]), Ok(vec![0, 0]));
    let beyond = |unit| moved(unit, &[3e38, 1.0], &[-3e38, 0.0]);
    assert_eq!(beyond(PrivacyUnit::Record), [0.0, 0.0]);
    assert_eq!(beyond(PrivacyUnit::None), [f32::INFINITY, 1.0]);
}
