//! Steps of the coordinator beside Flower's, and what bad updates cannot do.
use super::*;
use crate::study::Adaptive;

const START: [f32; 4] = [0.5, -1.0, 2.0, 0.0];

/// Of each round: the updates of two members, and their numbers of records.
const ROUNDS: [[([f32; 4], f64); 2]; 3] = [
    [([0.1, -0.2, 0.3, 0.0], 3.0), ([-0.4, 0.1, 0.2, 1.0], 1.0)],
    [([0.05, 0.0, -0.3, 0.5], 2.0), ([0.2, 0.3, 0.1, -1.0], 2.0)],
    [
        ([1.0, -0.01, 0.0, 0.25], 1.0),
        ([0.0, 0.02, -0.7, 0.125], 4.0),
    ],
];

fn after_three_rounds(strategy: &Strategy) -> Vec<f32> {
    let mut coordinator = Coordinator::new(START.to_vec()).unwrap();
    for round in ROUNDS {
        let updates: Vec<_> = round.iter().map(|(u, n)| (u.to_vec(), *n)).collect();
        let mean = combine(strategy, &updates).unwrap();
        coordinator.step(strategy, &mean).unwrap();
    }
    coordinator.model().to_vec()
}

const ADAPTIVE: Adaptive = Adaptive {
    server_learning_rate: 0.1,
    beta_1: 0.9,
    beta_2: 0.99,
    tau: 1e-3,
};

#[test]
fn three_rounds_of_each_strategy_end_where_flower_ends() {
    // flwr 1.42.0, `aggregate_fit` of each strategy on the same updates; FedProx aggregates as FedAvg.
    for (strategy, expected) in [
        (Strategy::FedAvg {}, [0.8, -0.961, 1.615, 0.15]),
        (Strategy::FedProx { mu: 0.1 }, [0.8, -0.961, 1.615, 0.15]),
        (
            Strategy::FedAdam(ADAPTIVE),
            [
                0.562_737_760_264_801_2,
                -1.043_619_600_930_557,
                2.064_271_415_192_638,
                0.085_799_211_653_653_94,
            ],
        ),
        (
            Strategy::FedYogi(ADAPTIVE),
            [
                0.621_368_239_663_646_1,
                -1.051_002_043_283_333_4,
                2.078_666_456_205_280_3,
                0.121_632_978_676_050_05,
            ],
        ),
        (
            Strategy::FedAdagrad(ADAPTIVE),
            [
                0.585_114_319_594_817_4,
                -1.015_660_301_503_097_6,
                1.977_090_139_426_063,
                0.068_045_593_899_237_4,
            ],
        ),
    ] {
        for (found, expected) in after_three_rounds(&strategy).iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-6,
                "{strategy:?}: {found} {expected}"
            );
        }
    }
}

#[test]
fn an_update_that_is_no_number_or_of_another_shape_leaves_the_model_as_it_was() {
    let mut coordinator = Coordinator::new(START.to_vec()).unwrap();
    let before = coordinator.clone();
    let strategy = Strategy::FedAvg {};
    let nan = coordinator.step(&strategy, &[0.0, f32::NAN, 0.0, 0.0]);
    assert_eq!(nan, Err(StepError::NotFinite(1)));
    let short = coordinator.step(&strategy, &[0.0]);
    assert_eq!(
        short,
        Err(StepError::Shape {
            found: 1,
            wanted: 4
        })
    );
    let overflow = coordinator.step(&strategy, &[0.0, 0.0, 0.0, f32::MAX]);
    assert_eq!(overflow, Ok(()));
    let infinite = coordinator.step(&strategy, &[0.0, 0.0, 0.0, f32::MAX]);
    assert_eq!(infinite, Err(StepError::NotFinite(3)));
    assert_eq!(coordinator.steps(), 1);
    assert_ne!(coordinator, before);
    let one = vec![(vec![1.0, f32::INFINITY], 1.0)];
    assert_eq!(combine(&strategy, &one), Err(StepError::NotFinite(1)));
    assert!(matches!(
        combine(&strategy, &[]),
        Err(StepError::Nobody { .. })
    ));
    let weightless = vec![(vec![1.0], 1.0), (vec![1.0], 0.0)];
    assert!(matches!(
        combine(&strategy, &weightless),
        Err(StepError::Nobody { .. })
    ));
}

#[test]
fn one_bad_member_does_not_move_the_robust_strategies_far() {
    let mut updates: Vec<_> = [0.9, 1.0, 1.1, 1.2].map(|x| (vec![x, -x], 1.0)).to_vec();
    updates.push((vec![1e6, -1e6], 1.0));
    let of = |strategy| combine(&strategy, &updates).unwrap()[0];
    assert!(of(Strategy::FedAvg {}) > 1e5);
    assert_eq!(of(Strategy::Median {}), 1.1);
    assert!((of(Strategy::TrimmedMean { share: 0.2 }) - 1.1).abs() < 1e-6);
    assert!(of(Strategy::NormBound { norm: 1.5 }) < 1.2);
    let even = [1.0, 2.0, 4.0, 9.0].map(|x| (vec![x], 1.0));
    assert_eq!(combine(&Strategy::Median {}, &even), Ok(vec![3.0]));
    assert_eq!(
        combine(&Strategy::TrimmedMean { share: 0.49 }, &even),
        Ok(vec![3.0])
    );
}

#[test]
fn steps_follow_from_epochs_and_records() {
    let training = |steps, epochs| Training {
        rounds: 1,
        steps,
        epochs,
        batch: 10,
        learning_rate: 0.1,
        strategy: Strategy::FedAvg {},
        seed: 0,
    };
    assert_eq!(local_steps(&training(Some(7), None), 95), 7);
    assert_eq!(local_steps(&training(None, Some(3)), 95), 30);
}
