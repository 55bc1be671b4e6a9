//! Training that is the same each time, that protects, and that reaches the published figures on real records.
use super::*;
use crate::study::Model;
use rand::{SeedableRng, rngs::StdRng};

fn logistic(inputs: usize) -> Dense {
    Dense::of(&Model::Logistic {}, inputs).unwrap()
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

fn accuracy(model: &Dense, parameters: &[f32], records: &Records) -> f64 {
    let right = records
        .iter()
        .filter(|(record, label)| (model.probability(parameters, record) >= 0.5) == *label);
    right.count() as f64 / records.len() as f64
}

#[test]
fn training_learns_and_follows_from_its_seed() {
    let model = Dense::of(&Model::Mlp { hidden: vec![8] }, 2).unwrap();
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
fn records_and_models_that_do_not_go_together_are_refused() {
    assert!(matches!(
        Records::new(2, vec![0.0; 3], vec![true]),
        Err(TrainError::Shape { .. })
    ));
    assert!(matches!(
        Records::new(2, vec![], vec![]),
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
    let private = PrivateStep::new(clip, noise_multiplier).unwrap();
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

#[cfg(medmesh_data)]
mod heart {
    //! Fed-Heart-Disease: four hospitals, FLamby's split (Ogier du Terrail et al. 2022).
    use super::*;
    use crate::{strategy::Coordinator, study::Strategy, update::UpdateCodec};

    const SITES: [&str; 4] = ["cleveland", "hungarian", "switzerland", "va"];
    const INPUTS: usize = 13;

    /// Rows of a site's part of the split: values, and the label.
    fn rows(site: &str, part: &str) -> Vec<(Vec<f64>, bool)> {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
        let root = std::env::var("MEDMESH_DATA").unwrap_or_else(|_| beside.into());
        let path = format!("{root}/fed-heart-disease/derived/flamby_features_split.csv");
        let text = std::fs::read_to_string(path).unwrap();
        let row = |line: &str| {
            let cells: Vec<_> = line.split(',').collect();
            let wanted = cells[0] == site && cells[2] == part;
            let values = cells[3..].iter().map(|cell| cell.parse().ok());
            let mut values: Vec<f64> = values.collect::<Option<_>>()?;
            let label = values.pop()? > 0.0;
            wanted.then_some((values, label))
        };
        text.lines().skip(1).filter_map(row).collect()
    }

    /// Mean and standard deviation of each column; 1 where nothing varies.
    fn scale(rows: &[(Vec<f64>, bool)]) -> Vec<(f64, f64)> {
        let count = rows.len() as f64;
        let column = |at: usize| {
            let mean = rows.iter().map(|row| row.0[at]).sum::<f64>() / count;
            let square = rows
                .iter()
                .map(|row| (row.0[at] - mean).powi(2))
                .sum::<f64>();
            let deviation = (square / (count - 1.0)).sqrt();
            (mean, if deviation > 0.0 { deviation } else { 1.0 })
        };
        (0..INPUTS).map(column).collect()
    }

    fn scaled(rows: &[(Vec<f64>, bool)], by: &[(f64, f64)]) -> Records {
        let values = rows.iter().flat_map(|row| {
            row.0
                .iter()
                .zip(by)
                .map(|(value, (mean, deviation))| ((value - mean) / deviation) as f32)
        });
        Records::new(
            INPUTS,
            values.collect(),
            rows.iter().map(|row| row.1).collect(),
        )
        .unwrap()
    }

    struct Heart {
        train: Vec<Records>,
        /// Everybody's test rows, scaled by everybody's training rows.
        pooled: Records,
    }

    fn heart() -> Heart {
        let train: Vec<_> = SITES.iter().map(|site| rows(site, "train")).collect();
        let sizes: Vec<_> = train.iter().map(Vec::len).collect();
        assert_eq!(sizes, [199, 172, 30, 85]);
        let everybody = scale(&train.concat());
        let test: Vec<_> = SITES.iter().flat_map(|site| rows(site, "test")).collect();
        assert_eq!(test.len(), 254);
        Heart {
            pooled: scaled(&test, &everybody),
            train: train
                .iter()
                .map(|rows| scaled(rows, &scale(rows)))
                .collect(),
        }
    }

    /// FedAvg as FLamby runs it, 15 rounds, through the numbers that are summed securely.
    fn federated(
        heart: &Heart,
        seed: u64,
        local: impl Fn(&[f32], &Records, &mut StdRng) -> Vec<f32>,
    ) -> f64 {
        let model = logistic(INPUTS);
        let mut random = StdRng::seed_from_u64(seed);
        let clip = Clip::new(16.0, 1 << 20, model.parameters()).unwrap();
        let codec = UpdateCodec::new(clip, true);
        let mut coordinator = Coordinator::new(model.initial(&mut random)).unwrap();
        for _ in 0..15 {
            let mut sum = vec![0_u32; codec.numbers()];
            for site in &heart.train {
                let end = local(coordinator.model(), site, &mut random);
                let update: Vec<f32> = end
                    .iter()
                    .zip(coordinator.model())
                    .map(|(end, start)| end - start)
                    .collect();
                let weight = site.len() as f64 / 199.0;
                let none = None::<(&DiscreteGaussian, &mut StdRng)>;
                let numbers = codec.encode(&update, weight, none).unwrap();
                for (sum, number) in sum.iter_mut().zip(numbers) {
                    *sum = sum.wrapping_add(number);
                }
            }
            let mean = codec.mean(&sum, 4).unwrap();
            coordinator.step(&Strategy::FedAvg {}, &mean).unwrap();
        }
        accuracy(&model, coordinator.model(), &heart.pooled)
    }

    /// The mean accuracy of FLamby's five seeds.
    fn mean_of_seeds(of: impl Fn(u64) -> f64) -> f64 {
        (42..=46).map(of).sum::<f64>() / 5.0
    }

    fn fed_avg(heart: &Heart, learning_rate: f64) -> f64 {
        let model = logistic(INPUTS);
        let plan = LocalPlan {
            steps: 100,
            batch: 4,
            learning_rate,
            proximal: 0.0,
        };
        mean_of_seeds(|seed| {
            federated(heart, seed, |global, site, random| {
                train(&model, global, site, &plan, random).unwrap()
            })
        })
    }

    #[test]
    fn four_hospitals_reach_the_published_accuracy_together() {
        let heart = heart();
        // FLamby's own step width: .748 is published; seeds draw other batches here, whose spread is about .01.
        let published = fed_avg(&heart, 0.001);
        assert!((published - 0.748).abs() < 0.025, "{published}");
        // The best published federated strategy has .785, training on all records together .795.
        let better = fed_avg(&heart, 0.01);
        assert!(better >= 0.785, "{better}");
    }
}
