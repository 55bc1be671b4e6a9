//! What is said of all sites together.
use super::*;
use rand::{SeedableRng as _, rngs::StdRng};

#[test]
fn nothing_is_said_of_all_sites_together_where_they_have_too_few_records() {
    let text = r#"
name = "small"
sites = 2
data = { table = "t", minimum_records = 20, features = [{ name = "x", unit = "1", missing = "zero" }], label = { kind = "binary", column = "l" } }
model = { kind = "logistic" }
training = { rounds = 1, steps = 1, batch = 4, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
aggregation = { secure = true, quorum = 2, bound = 1.0 }
personalisation = { steps = 1, learning_rate = 0.1 }
"#;
    let study: Study = toml::from_str(text).unwrap();
    let mut random = StdRng::seed_from_u64(1);
    // Yes and no in two bins, of the model and of what the sites made of it.
    let mut told = |records: i64| {
        let mut sum = vec![0; numbers(&study)];
        for half in [0, Histogram::NUMBERS] {
            sum[half + 40] = records - 5;
            sum[half + 1_401] = 5;
        }
        pooled(&study, &sum, &mut random).unwrap()
    };
    let enough = told(SMALLEST_CELL as i64);
    assert_eq!(enough.model.unwrap().records, SMALLEST_CELL as u64);
    assert!(enough.curves.is_some() && enough.personal.is_some());
    assert_eq!(told(SMALLEST_CELL as i64 - 1), Pooled::default());
}

#[test]
fn pairs_of_as_many_subjects_as_a_table_has_are_all_counted_and_those_of_a_thousand_such_sites() {
    let text = r#"
name = "large"
sites = 1000
data = { table = "t", minimum_records = 20, features = [{ name = "x", unit = "1", missing = "zero" }], label = { kind = "survival", time = "d", event = "l" } }
model = { kind = "cox" }
training = { rounds = 1, steps = 1, batch = 4, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
aggregation = { secure = true, quorum = 2, bound = 1.0 }
evaluation = { resamples = 100 }
"#;
    let study: Study = toml::from_str(text).unwrap();
    // Everybody had the event, at a time of its own: each pair counts, and of four of them the model is right in three.
    let subjects = crate::table::MAX_RECORDS as u64;
    let pairs = subjects * (subjects - 1) / 2;
    let halves = pairs / 2 * 3;
    let mut site = parts::<SUBJECTS>(subjects).to_vec();
    for _ in 0..=study.evaluation.resamples {
        site.extend([parts::<PAIRS>(halves), parts(pairs)].concat());
    }
    assert_eq!(site.len(), numbers(&study));
    let back = site.split_at(SUBJECTS).1;
    assert_eq!(whole(&back[..PAIRS]), halves);
    assert_eq!(whole(&back[PAIRS..COMPARED]), pairs);
    let sum: Vec<i64> = site
        .iter()
        .map(|number| i64::from(*number) * 1_000)
        .collect();
    assert!(sum.iter().all(|number| *number <= i64::from(i32::MAX)));
    let mut random = StdRng::seed_from_u64(1);
    let found = pooled(&study, &sum, &mut random).unwrap();
    assert_eq!(found.subjects, subjects * 1_000);
    assert!(
        (found.concordance.unwrap() - 0.75).abs() < 1e-9,
        "{found:?}"
    );
}

#[test]
fn a_score_that_is_no_number_is_undecided_and_no_error_that_tells_of_its_record() {
    let hidden = vec![1; 9];
    let net = Net::of(&crate::study::Model::Mlp { hidden }, 1, 1);
    // Each layer is 1e37 of the one before, until the last one takes nothing of what is infinite.
    let mut parameters = [1e37, 0.0].repeat(9);
    parameters.extend([0.0, 0.0]);
    assert!(net.probability(&parameters, &[1.0]).is_nan());
    let labels = (0..12).map(|at| at % 2 == 0).collect();
    // One record grows without bound, and all others stay 0.
    let values = (0..12).map(|at| f32::from(u8::from(at == 5))).collect();
    let records = Records::new(1, values, labels).unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let judged = of(&net, &parameters, None, &records, (100, &mut random)).unwrap();
    assert_eq!(judged.numbers.iter().sum::<u32>(), 12);
    assert_eq!(judged.told.figures.unwrap().auroc, Some(0.5));
}
