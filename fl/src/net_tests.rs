//! Models over windows and Cox's: gradients beside slopes, and clips beside whole gradients.
use super::*;
use rand::{SeedableRng, rngs::StdRng};

fn models() -> [(Model, usize, usize); 3] {
    let gru = Model::Gru { hidden: 4 };
    let tcn = Model::Tcn {
        channels: vec![4, 3],
        kernel: 2,
    };
    let deep = Model::Tcn {
        channels: vec![3, 3, 2],
        kernel: 3,
    };
    [(gru, 3, 5), (tcn, 2, 6), (deep, 2, 4)]
}

fn record(length: usize, seed: u64) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..length)
        .map(|_| random.random_range(-1.0..1.0))
        .collect()
}

fn gradient(net: &Net, parameters: &[f32], row: &[f32], clip: Option<f64>) -> (f64, Vec<f64>) {
    let mut sum = vec![0.0; net.parameters()];
    let loss = net.add_gradient(
        parameters,
        (row, true),
        clip,
        &mut sum,
        &mut Scratch::default(),
    );
    (loss, sum)
}

#[test]
fn a_model_over_windows_has_the_parameters_that_its_plan_counts_and_the_slope_for_a_gradient() {
    for (model, inputs, windows) in models() {
        let net = Net::of(&model, inputs, windows);
        assert_eq!(
            net.parameters() as u64,
            model.parameters(inputs),
            "{model:?}"
        );
        assert_eq!(net.inputs(), inputs * windows);
        let parameters = net.initial(&mut StdRng::seed_from_u64(3));
        assert_eq!(parameters.len(), net.parameters());
        let row = record(net.inputs(), 7);
        let (loss_here, found) = gradient(&net, &parameters, &row, None);
        assert!((loss_here - loss(net.logit(&parameters, &row), 1.0)).abs() < 1e-12);
        for at in 0..parameters.len() {
            let step = 1e-3;
            let moved = |sign: f32| {
                let mut moved = parameters.clone();
                moved[at] += sign * step;
                let exact = f64::from(moved[at]);
                (gradient(&net, &moved, &row, None).0, exact)
            };
            let ((up, high), (down, low)) = (moved(1.0), moved(-1.0));
            let slope = (up - down) / (high - low);
            assert!(
                (slope - found[at]).abs() < 1e-5,
                "{model:?} {at}: {slope} {}",
                found[at]
            );
        }
    }
}

#[test]
fn a_record_of_windows_is_clipped_exactly() {
    for (model, inputs, windows) in models() {
        let net = Net::of(&model, inputs, windows);
        let parameters = net.initial(&mut StdRng::seed_from_u64(5));
        let row = record(net.inputs(), 8);
        let (_, whole) = gradient(&net, &parameters, &row, None);
        let norm = whole.iter().map(|v| v * v).sum::<f64>().sqrt();
        for clip in [norm / 3.0, norm * 2.0] {
            let (_, clipped) = gradient(&net, &parameters, &row, Some(clip));
            let factor = (clip / norm).min(1.0);
            for (whole, clipped) in whole.iter().zip(&clipped) {
                assert!((whole * factor - clipped).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn the_gradient_of_a_partial_likelihood_is_its_slope_and_late_events_come_first_in_no_ones_risk() {
    let cox = Cox::new(2);
    let rows: Vec<_> = (0..12).map(|at| record(2, at)).collect();
    let times = [5.0, 3.0, 8.0, 3.0, 1.0, 9.0, 4.0, 4.0, 4.0, 2.0, 7.0, 6.0];
    let batch: Vec<_> = rows
        .iter()
        .zip(times)
        .enumerate()
        .map(|(at, (row, time))| (row.as_slice(), time, at % 3 != 0))
        .collect();
    let parameters = [0.4_f32, -0.9];
    let of = |parameters: &[f32]| {
        let mut sum = vec![0.0; 2];
        let found = cox.add_gradient(parameters, &batch, &mut sum);
        (found, sum)
    };
    let ((loss, events), found) = of(&parameters);
    assert_eq!(events, 8);
    // The definition, pair by pair.
    let risk = |row: &[f32]| cox.risk(&parameters, row);
    let direct: f64 = batch
        .iter()
        .filter(|subject| subject.2)
        .map(|(row, time, _)| {
            let at_risk = batch.iter().filter(|other| other.1 >= *time);
            at_risk.map(|other| risk(other.0).exp()).sum::<f64>().ln() - risk(row)
        })
        .sum();
    assert!((loss - direct).abs() < 1e-9, "{loss} {direct}");
    for at in 0..2 {
        let moved = |by: f32| {
            let mut moved = parameters;
            moved[at] += by;
            (of(&moved).0.0, f64::from(moved[at]))
        };
        let ((up, high), (down, low)) = (moved(1e-3), moved(-1e-3));
        assert!(((up - down) / (high - low) - found[at]).abs() < 1e-4);
    }
}
