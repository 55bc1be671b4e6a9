//! Training: with each record's gradient clipped and noised beside training without, and the models of the examples beside
//! PyTorch.
use super::{DURABILITY, Peer, seconds};
use crate::{
    Bed,
    report::{Aim, Figure, Report},
};
use anyhow::Result;
use fl::{
    net::Net,
    privacy::clip::{Clip, ClipError},
    study::Model,
    train::{LocalPlan, PrivateStep, Records, train, train_privately},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use std::hint::black_box;

const RECORDS: usize = 4_000;

/// Records of `inputs` numbers, with labels that follow from them.
fn records(count: usize, inputs: usize) -> Result<Records> {
    let mut random = StdRng::seed_from_u64(4);
    let values: Vec<f32> = (0..count * inputs)
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    let labels = values
        .chunks(inputs)
        .map(|row| row.iter().sum::<f32>() > 0.0)
        .collect();
    Ok(Records::new(inputs, values, labels)?)
}

fn mlp(hidden: &[u32]) -> Model {
    Model::Mlp {
        hidden: hidden.to_vec(),
    }
}

/// Training with each record's gradient clipped, beside training without.
pub fn clipping(bed: &Bed, report: &mut Report) -> Result<()> {
    const INPUTS: usize = 100;
    let model = Net::of(&mlp(&[64, 32]), INPUTS, 1);
    let records = records(RECORDS, INPUTS)?;
    let mut random = StdRng::seed_from_u64(5);
    let start = model.initial(&mut random);
    let plan = LocalPlan {
        steps: 400,
        batch: 64,
        learning_rate: 0.05,
        proximal: 0.0,
    };
    let private = step(model.parameters(), f64::from(plan.batch) / RECORDS as f64)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        without.push(seconds(|| {
            black_box(train(&model, &start, &records, &plan, &mut random)?);
            Ok(())
        })?);
        with.push(seconds(|| {
            black_box(train_privately(
                &model,
                &start,
                &records,
                &plan,
                &private,
                &mut random,
            )?);
            Ok(())
        })?);
    }
    let examples = f64::from(plan.batch) * plan.steps as f64;
    let per = |spent: &[f64]| spent.iter().map(|s| s / examples * 1e6).collect::<Vec<_>>();
    report.add(
        Figure::new("DP-SGD of an MLP (100-64-32-1)", "us/record", DURABILITY, per(&with))
            .beside("SGD of the same", &per(&without))
            .aim(Aim::RatioAtMost(1.2))
            .bound("each step draws a discrete Gaussian for every parameter, which is as much work as a few records"),
    );
    Ok(())
}

fn step(parameters: usize, sampling: f64) -> Result<PrivateStep, ClipError> {
    let clip = Clip::new(1.0, Clip::MAX_UNITS, parameters)?;
    PrivateStep::new(clip, 1.0, sampling)
}

/// Records of a second in steps as the examples have them, beside PyTorch on as many records of the same shape.
pub fn throughput(bed: &Bed, peer: &Peer, report: &mut Report) -> Result<()> {
    let gru = Model::Gru { hidden: 16 };
    for (what, model, inputs, windows, batch, steps) in [
        (
            "heart: logistic of 13",
            Model::Logistic {},
            13,
            1,
            4,
            20_000,
        ),
        (
            "ICU: logistic of 230",
            Model::Logistic {},
            230,
            1,
            32,
            4_000,
        ),
        ("ICU: MLP (230-64-1)", mlp(&[64]), 230, 1, 32, 1_000),
        ("ICU: GRU of 16 over 8 windows of 60", gru, 60, 8, 32, 300),
    ] {
        let net = Net::of(&model, inputs, windows);
        let records = records(RECORDS, inputs * windows)?;
        let mut random = StdRng::seed_from_u64(6);
        let start = net.initial(&mut random);
        let plan = LocalPlan {
            steps,
            batch,
            learning_rate: 0.01,
            proximal: 0.0,
        };
        let trained = steps as f64 * f64::from(batch);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..bed.runs {
            let spent = seconds(|| {
                black_box(train(&net, &start, &records, &plan, &mut random)?);
                Ok(())
            })?;
            ours.push(trained / spent);
            let work = json!({ "model": model, "inputs": inputs, "windows": windows, "batch": batch, "steps": steps });
            theirs.extend(peer.train(work)?.map(|spent| trained / spent));
        }
        let figure = Figure::new(format!("training, {what}"), "records/s", DURABILITY, ours);
        report.add(match theirs.is_empty() {
            false => figure
                .beside("PyTorch, CPU", &theirs)
                .note("ours by one thread in 64-bit numbers, PyTorch's by as many as it takes in 32-bit ones"),
            true => figure.note("the peers' Python has no PyTorch: `pip install torch` puts it beside"),
        });
    }
    Ok(())
}
