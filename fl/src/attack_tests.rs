//! Attacks on what a site sends, which have to fail where privacy is promised: a build whose noise is switched off does not
//! pass. Each is tried without the promise as well, where it has to succeed, so that it is known to be one.
use crate::{
    net::Net,
    privacy::clip::Clip,
    site,
    study::{Model, Study},
    train::{LocalPlan, PrivateStep, Records, train_privately},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const EPSILON: f64 = 1.0;
const DELTA: f64 = 1e-4;
/// How often each side of a guess is drawn: the standard deviation of a rate is 0.04 at most.
const TRIALS: usize = 150;

fn study(private: bool) -> Study {
    let privacy = if private {
        format!(
            "privacy = {{ unit = \"record\", epsilon = {EPSILON:?}, delta = {DELTA:?}, clip = 1.0 }}"
        )
    } else {
        String::new()
    };
    let text = format!(
        r#"name = "small"
sites = 4
data = {{ table = "t", minimum_records = 40, features = [{{ name = "x", unit = "1", missing = "zero", scale = {{ centre = 0, width = 1 }} }}, {{ name = "canary", unit = "1", missing = "zero", scale = {{ centre = 0, width = 1 }} }}], label = {{ kind = "binary", column = "l" }} }}
model = {{ kind = "logistic" }}
training = {{ rounds = 1, steps = 2, batch = 28, learning_rate = 1.0, strategy = {{ kind = "fed-avg" }} }}
aggregation = {{ secure = true, quorum = 3, bound = 16.0 }}
{privacy}"#
    );
    toml::from_str(&text).unwrap()
}

/// Forty records, of which one alone has the second feature, or none has.
fn records(with_canary: bool) -> Records {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for at in 0..40 {
        let x = (at % 9) as f32 / 4.0 - 1.0;
        let canary = if at == 0 && with_canary { 1.0 } else { 0.0 };
        values.extend([x, canary]);
        labels.push(x > 0.0);
    }
    Records::new(2, values, labels).unwrap()
}

/// The best guess of whether the record was in, by how far the update moved its feature's weight: the difference of true
/// and false positives.
fn advantage(private: bool) -> f64 {
    let study = study(private);
    let plan = study.plan().unwrap();
    let moved = |with_canary: bool| -> Vec<f64> {
        let records = records(with_canary);
        let mut random = StdRng::seed_from_u64(u64::from(with_canary) + 11);
        let one = |_| {
            let start = [0.0; 3];
            let sent = site::update(&study, &plan, &start, &records, &mut random).unwrap();
            f64::from(sent[1].cast_signed().unsigned_abs())
        };
        (0..TRIALS).map(one).collect()
    };
    let (with, without) = (moved(true), moved(false));
    let rate = |of: &[f64], at: f64| of.iter().filter(|v| **v >= at).count() as f64 / TRIALS as f64;
    let guesses = with.iter().chain(&without);
    let best = guesses.map(|at| rate(&with, *at) - rate(&without, *at));
    best.fold(0.0, f64::max)
}

#[test]
fn nobody_can_tell_whether_a_record_was_in_a_private_update_better_than_its_epsilon_says() {
    let open = advantage(false);
    assert!(open > 0.95, "the attack works without privacy: {open}");
    let hidden = advantage(true);
    // (ε, δ)-privacy bounds the advantage by (e^ε − 1 + 2δ)/(e^ε + 1); the best of many guesses is tried on the draws
    // that it was chosen by, so four deviations are allowed.
    let most = (EPSILON.exp() - 1.0 + 2.0 * DELTA) / (EPSILON.exp() + 1.0);
    assert!(hidden < most + 0.24, "{hidden} {most}");
}

/// The cosine of a record and of what is read off the step that a model took on it alone: the weights' gradient divided by
/// the bias's is the record itself, clipped or not.
fn read_off(noise_multiplier: f64) -> f64 {
    const INPUTS: usize = 30;
    let model = Net::of(&Model::Logistic {}, INPUTS, 1);
    let clip = Clip::new(1.0, 1 << 20, INPUTS + 1).unwrap();
    let private = PrivateStep::new(clip, noise_multiplier, 1.0).unwrap();
    let plan = LocalPlan {
        steps: 1,
        batch: 1,
        learning_rate: 1.0,
        proximal: 0.0,
    };
    let mut random = StdRng::seed_from_u64(21);
    let mut total = 0.0;
    for _ in 0..40 {
        let record: Vec<f32> = (0..INPUTS)
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        let records = Records::new(INPUTS, record.clone(), vec![true]).unwrap();
        let start = vec![0.0; INPUTS + 1];
        let end = train_privately(&model, &start, &records, &plan, &private, &mut random).unwrap();
        let (weights, bias) = end.split_at(INPUTS);
        let sign = f64::from(bias[0].signum());
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let lengths = (dot(weights, weights) * dot(&record, &record)).sqrt();
        total += sign * dot(weights, &record) / lengths;
    }
    total / 40.0
}

#[test]
fn a_record_cannot_be_read_off_the_gradient_that_it_made() {
    let open = read_off(1e-4);
    assert!(open > 0.99, "the attack works without noise: {open}");
    // With the noise of a study of ε = 1, the direction is nearly that of the noise: the cosine of two random directions
    // in 30 dimensions has a deviation of 0.18, its mean of forty one of 0.03.
    let spend = study(true).plan().unwrap().spend.unwrap();
    let hidden = read_off(spend.noise_multiplier);
    assert!(hidden < 0.3, "{hidden} at {}", spend.noise_multiplier);
}

/// A study of one full step, in which the presence of each facility is hidden, or nothing.
fn of_facilities(private: bool) -> Study {
    let (privacy, bound) = if private {
        let given = format!(
            "privacy = {{ unit = \"facility\", epsilon = {EPSILON:?}, delta = {DELTA:?}, clip = 1.0 }}"
        );
        (given, "units = 65536")
    } else {
        (String::new(), "bound = 1.0, units = 65536")
    };
    let text = format!(
        r#"name = "small"
sites = 4
data = {{ table = "t", minimum_records = 40, features = [{{ name = "x", unit = "1", missing = "zero" }}, {{ name = "y", unit = "1", missing = "zero" }}], label = {{ kind = "binary", column = "l" }} }}
model = {{ kind = "logistic" }}
training = {{ rounds = 1, steps = 1, batch = 40, learning_rate = 10.0, strategy = {{ kind = "fed-avg" }} }}
aggregation = {{ secure = true, quorum = 3, {bound} }}
{privacy}"#
    );
    toml::from_str(&text).unwrap()
}

/// Forty records from which something is learnt, or nothing: then the update is zero.
fn of_facility(is_there: bool) -> Records {
    let one = |at: usize| {
        if is_there && at.is_multiple_of(2) {
            1.0
        } else {
            0.0
        }
    };
    let values = (0..40).flat_map(|at| [one(at), 0.0]).collect();
    let labels = (0..40).map(|at: usize| at.is_multiple_of(2)).collect();
    Records::new(2, values, labels).unwrap()
}

/// The best guess of whether a facility took part in a quorum, by its own direction in the sum.
fn advantage_of_facility(private: bool) -> f64 {
    let study = of_facilities(private);
    let plan = study.plan().unwrap();
    let summed = |is_there: bool| -> Vec<f64> {
        let mut random = StdRng::seed_from_u64(u64::from(is_there) + 31);
        let sum = |_| {
            let members = [is_there, false, false].map(of_facility);
            let mut sent = members.iter().map(|records| {
                let numbers = site::update(&study, &plan, &[0.0; 3], records, &mut random).unwrap();
                f64::from(numbers[0].cast_signed())
            });
            sent.by_ref().sum()
        };
        (0..TRIALS).map(sum).collect()
    };
    let (with, without) = (summed(true), summed(false));
    let rate = |of: &[f64], at: f64| of.iter().filter(|v| **v >= at).count() as f64 / TRIALS as f64;
    let best = with.iter().map(|at| rate(&with, *at) - rate(&without, *at));
    best.fold(0.0, f64::max)
}

#[test]
fn nobody_can_tell_whether_a_facility_took_part_in_a_sum_better_than_its_epsilon_says() {
    let open = advantage_of_facility(false);
    assert!(open > 0.99, "the attack works without privacy: {open}");
    let hidden = advantage_of_facility(true);
    let most = (EPSILON.exp() - 1.0 + 2.0 * DELTA) / (EPSILON.exp() + 1.0);
    assert!(hidden < most + 0.24, "{hidden} {most}");
}
