//! Training that is the same each time, that protects, and that reaches the published figures on real records.
use super::*;
use crate::study::Model;
use rand::{Rng as _, SeedableRng, rngs::StdRng};

fn logistic(inputs: usize) -> Net {
    Net::of(&Model::Logistic {}, inputs, 1)
}

/// Records whose label is yes where the first input is above the second.
fn records(count: usize) -> Records {
    let mut random = StdRng::seed_from_u64(1);
    let values: Vec<f32> = (0..2 * count)
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    let labels = values.chunks(2).map(|pair| pair[0] > pair[1]).collect();
    Records::new(2, values, labels).unwrap()
}

const PLAN: LocalPlan = LocalPlan {
    steps: 200,
    batch: 8,
    learning_rate: 0.5,
    proximal: 0.0,
};

fn accuracy(model: &Net, parameters: &[f32], records: &Records) -> f64 {
    let right = records
        .iter()
        .filter(|(record, label)| (model.probability(parameters, record) >= 0.5) == *label);
    right.count() as f64 / records.len() as f64
}

#[test]
fn training_learns_and_follows_from_its_seed() {
    let model = Net::of(&Model::Mlp { hidden: vec![8] }, 2, 1);
    let start = model.initial(&mut StdRng::seed_from_u64(2));
    let records = records(200);
    let run = |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        train(&model, &start, &records, &PLAN, &mut random).unwrap()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
    assert!(accuracy(&model, &run(3), &records) > 0.9);
}

#[test]
fn the_proximal_term_holds_a_site_near_the_global_model() {
    let (model, records) = (logistic(2), records(100));
    let far = |proximal| {
        let plan = LocalPlan { proximal, ..PLAN };
        let mut random = StdRng::seed_from_u64(5);
        let trained = train(&model, &[0.0; 3], &records, &plan, &mut random).unwrap();
        trained.iter().map(|v| v * v).sum::<f32>().sqrt()
    };
    assert!(far(0.5) < 0.7 * far(0.0));
}

#[test]
fn no_records_leave_a_model_as_it_is_and_noise_is_added_all_the_same() {
    let (model, mut random) = (logistic(2), StdRng::seed_from_u64(3));
    let nobody = Records::new(2, vec![], vec![]).unwrap();
    assert!(nobody.is_empty() && nobody.to_bytes().is_empty());
    assert!(Records::of_bytes(2, false, &[]).unwrap() == nobody);
    let timed = Records::survival(2, vec![], vec![], vec![]).unwrap();
    assert!(timed.has_times() && Records::of_bytes(2, true, &[]).unwrap() == timed);
    let start = [0.5, -0.5, 0.25];
    let trained = train(&model, &start, &nobody, &PLAN, &mut random).unwrap();
    assert_eq!(trained, start);
    let clip = Clip::new(1.0, 1 << 20, 3).unwrap();
    let private = PrivateStep::new(clip, 2.0, 0.25).unwrap();
    let noised = train_privately(&model, &start, &nobody, &PLAN, &private, &mut random).unwrap();
    assert!(noised.iter().zip(start).all(|(to, from)| *to != from));
}

#[test]
fn records_and_models_that_do_not_go_together_are_refused() {
    assert!(matches!(
        Records::new(2, vec![0.0; 3], vec![true]),
        Err(TrainError::Shape { .. })
    ));
    assert!(matches!(
        Records::new(0, vec![], vec![]),
        Err(TrainError::Shape { .. })
    ));
    let nan = Records::new(2, vec![0.0, 1.0, 2.0, f32::NAN], vec![true, false]);
    assert_eq!(
        nan.err(),
        Some(TrainError::NotFinite {
            record: 1,
            input: 1
        })
    );
    let (records, mut random) = (records(20), StdRng::seed_from_u64(1));
    let model = logistic(2);
    let short = train(&model, &[0.0; 2], &records, &PLAN, &mut random);
    assert_eq!(short, Err(TrainError::Model(3)));
    let nan = train(&model, &[0.0, f32::NAN, 0.0], &records, &PLAN, &mut random);
    assert_eq!(nan, Err(TrainError::Model(3)));
    let other = train(&logistic(3), &[0.0; 4], &records, &PLAN, &mut random);
    assert!(matches!(other, Err(TrainError::Shape { .. })));
    let wild = LocalPlan {
        learning_rate: 1e39,
        ..PLAN
    };
    let diverged = train(&model, &[0.0; 3], &records, &wild, &mut random);
    assert!(
        matches!(diverged, Err(TrainError::Diverged(_))),
        "{diverged:?}"
    );
}

/// By how much one private step of width 1 from zero moves each of 30 models, in clips of the gradient's sum.
fn private_steps(noise_multiplier: f64, records: &Records) -> Vec<f64> {
    let model = logistic(2);
    let clip = Clip::new(0.5, 1 << 12, 3).unwrap();
    let private = PrivateStep::new(clip, noise_multiplier, 1.0).unwrap();
    let batch = records.len() as u32;
    let plan = LocalPlan {
        steps: 1,
        batch,
        learning_rate: 1.0,
        proximal: 0.0,
    };
    let mut random = StdRng::seed_from_u64(8);
    let mut moved = Vec::new();
    for _ in 0..30 {
        let end = train_privately(&model, &[0.0; 3], records, &plan, &private, &mut random);
        moved.extend(
            end.unwrap()
                .iter()
                .map(|v| f64::from(*v) * f64::from(batch) / 0.5),
        );
    }
    moved
}

#[test]
fn one_record_moves_a_private_step_by_its_clip_at_most_and_noise_covers_it() {
    let outlier = Records::new(2, vec![1e6, -1e6], vec![true]).unwrap();
    // Hardly any noise: a thousandth of the clip.
    for step in private_steps(1e-3, &outlier).chunks(3) {
        let length = step.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!(length < 1.01, "{length}");
    }
    let noised = private_steps(4.0, &outlier);
    let deviation = (noised.iter().map(|v| v * v).sum::<f64>() / noised.len() as f64).sqrt();
    // 90 draws of standard deviation 4, and the clipped record: 4·√(2·90)⁻¹ is 0.3, four of them.
    assert!((deviation - 4.0).abs() < 1.3, "{deviation}");
}

#[test]
fn a_sample_takes_each_with_its_probability_and_by_itself() {
    let mut random = StdRng::seed_from_u64(12);
    for probability in [0.0, 1e-3, 1.0 / 256.0, 0.016, 0.5, 0.997, 1.0] {
        let mut sample = Sample::of(probability);
        let taken: Vec<bool> = (0..80_000).map(|_| sample.takes(&mut random)).collect();
        let both = taken.windows(2).filter(|pair| pair[0] && pair[1]).count() as f64;
        let one = taken.iter().filter(|taken| **taken).count() as f64;
        for (found, p) in [(one, probability), (both, probability * probability)] {
            // Pairs overlap, which less than doubles their variance.
            let deviation = (2.0 * 80_000.0 * p * (1.0 - p)).sqrt();
            assert!(
                (found - 80_000.0 * p).abs() <= 5.0 * deviation + 1.0,
                "{probability}: {found}"
            );
        }
    }
}

#[test]
fn where_the_first_byte_of_a_sample_does_not_tell_the_others_do() {
    /// Gives the words it was made of.
    struct Words(Vec<u64>);
    impl RngCore for Words {
        fn next_u32(&mut self) -> u32 {
            unreachable!("whole words are drawn")
        }
        fn next_u64(&mut self) -> u64 {
            self.0.remove(0)
        }
        fn fill_bytes(&mut self, _: &mut [u8]) {}
    }
    // 0x30 and a half: of those that begin with 0x30, half are taken.
    let probability = f64::from(0x30_80) / 65_536.0;
    let first = u64::from_le_bytes([0x2f, 0x30, 0x30, 0x31, 0xff, 0, 0x30, 0x30]);
    let behind = [0x7f, 0x80, 0x7f, 0xff].map(|byte: u64| byte << 56 | 0xff_ffff);
    let mut words = Words([first].into_iter().chain(behind).collect());
    let mut sample = Sample::of(probability);
    let taken: Vec<bool> = (0..8).map(|_| sample.takes(&mut words)).collect();
    assert_eq!(taken, [true, true, false, false, false, true, true, false]);
    assert!(words.0.is_empty());
}
