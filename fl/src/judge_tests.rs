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
