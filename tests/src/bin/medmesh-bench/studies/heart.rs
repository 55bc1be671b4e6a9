//! Fed-Heart-Disease: four hospitals with FLamby's split and protocol (Ogier du Terrail et al., NeurIPS 2022), as the
//! studies of `examples/studies/heart-disease` have them; means over FLamby's seeds.
use super::{NOTHING, example};
use crate::report::{Aim, Figure, Report};
use anyhow::{Context, Result, anyhow};
use fl::{
    features::{Prepared, prepare},
    metrics::metrics,
    site,
    study::{Adaptive, Strategy, Study},
    table::{Schema, Table, import},
    train::{LocalPlan, train},
};
use medmesh_tests::{
    binary,
    studies::{auroc, run as federate, said, scored},
};
use rand::{SeedableRng as _, rngs::StdRng};
use std::{fs, path::Path};

const SITES: [&str; 4] = ["cleveland", "hungarian", "switzerland", "va"];
const SEEDS: std::ops::RangeInclusive<u64> = 42..=46;
/// Accuracy on everybody's test records that is published for the best federated strategy, and for FedAvg.
const PUBLISHED_BEST: f64 = 0.785;
/// How far below the best one a model may be that hides records at epsilon 1.
const HIDDEN_WITHIN: f64 = 0.02;
/// How far below training on all records together a model may be at a hospital that took no part.
const LEFT_OUT_WITHIN: f64 = 0.03;

/// Runs the studies on the hospitals' own files.
pub fn run(report: &mut Report) -> Result<()> {
    let tables = tables()?;
    let mut best: f64 = 0.0;
    let plain = example("heart-disease/study.toml")?;
    for (name, published, strategy) in strategies() {
        let mut study = plain.clone();
        study.training.strategy = strategy;
        let runs = accuracies(&study, &tables)?;
        best = best.max(mean(&runs));
        let what = format!("heart, {name}, accuracy (mean of seeds)");
        report.add(told(what, &runs).beside("FLamby %", &[100.0 * published]));
    }
    let what = "heart, best strategy, accuracy (mean of seeds)";
    report.add(
        Figure::new(what, "%", NOTHING, vec![100.0 * best])
            .beside("FLamby best %", &[100.0 * PUBLISHED_BEST])
            .aim(Aim::AtLeast(100.0 * PUBLISHED_BEST)),
    );
    let hidden = example("heart-disease/private.toml")?;
    let runs = accuracies(&hidden, &tables)?;
    let what = "heart, epsilon 1, accuracy (mean of seeds)";
    report.add(told(what, &runs).aim(Aim::AtLeast(100.0 * (best - HIDDEN_WITHIN))));
    left_out(&plain, &tables, report)
}

/// The strategies of FLamby's table with their published accuracies.
fn strategies() -> [(&'static str, f64, Strategy); 5] {
    let adaptive = |server_learning_rate| Adaptive {
        server_learning_rate,
        beta_1: 0.9,
        beta_2: 0.99,
        tau: 1e-3,
    };
    [
        ("FedAvg", 0.748, Strategy::FedAvg {}),
        ("FedProx", 0.748, Strategy::FedProx { mu: 0.1 }),
        ("FedAdam", 0.779, Strategy::FedAdam(adaptive(0.03))),
        ("FedYogi", 0.779, Strategy::FedYogi(adaptive(0.03))),
        ("FedAdagrad", 0.779, Strategy::FedAdagrad(adaptive(0.1))),
    ]
}

/// A figure whose value is the mean of its runs.
fn told(what: impl Into<String>, runs: &[f64]) -> Figure {
    let each: Vec<_> = runs.iter().map(|run| format!("{run:.4}")).collect();
    Figure::new(what, "%", NOTHING, vec![100.0 * mean(runs)]).note(format!(
        "{:.4}, of seeds 42 to 46: {}",
        mean(runs),
        each.join(" ")
    ))
}

fn mean(runs: &[f64]) -> f64 {
    runs.iter().sum::<f64>() / runs.len().max(1) as f64
}

/// Each hospital's own table, imported from its own lines of the split.
fn tables() -> Result<Vec<Table>> {
    let path = binary::data().join("fed-heart-disease/derived/flamby_features_split.csv");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/studies");
    let schema = fs::read_to_string(root.join("heart-disease/schema.toml"))?;
    let schema: Schema = toml::from_str(&schema)?;
    let (header, lines) = text.split_once('\n').context("a header")?;
    let of = |site: &&str| {
        let own = lines.lines().filter(|line| line.starts_with(*site));
        let file = format!("{header}\n{}\n", own.collect::<Vec<_>>().join("\n"));
        import(&schema, &file).map_err(|faults| anyhow!("{}: {}", site, faults.len()))
    };
    SITES.iter().map(of).collect()
}

fn together(tables: &[&Table]) -> Result<Table> {
    let parts = tables.iter().flat_map(|table| table.parts(1 << 20));
    let parts: Vec<_> = parts.collect();
    let columns = tables.first().context("a table")?.columns().to_vec();
    Table::of_parts(columns, parts.iter().map(Vec::as_slice)).context("whole records")
}

fn records(study: &Study, table: &Table) -> Result<Prepared> {
    prepare(study, table).map_err(|found| said(&found))
}

/// Of each seed the accuracy on everybody's test records.
fn accuracies(study: &Study, tables: &[Table]) -> Result<Vec<f64>> {
    let sites: Vec<_> = tables
        .iter()
        .map(|table| records(study, table))
        .collect::<Result<_>>()?;
    let pooled = records(study, &together(&tables.iter().collect::<Vec<_>>())?)?;
    let model = site::model(study)?;
    let train: Vec<_> = sites.iter().map(|site| &site.train).collect();
    SEEDS
        .map(|seed| {
            let trained = federate(study, &train, seed, |_, _| ())?;
            Ok(metrics(&scored(&model, &trained, &pooled.test))?.accuracy)
        })
        .collect()
}

/// Federated and centralised models at the hospital that took no part.
fn left_out(study: &Study, tables: &[Table], report: &mut Report) -> Result<()> {
    let mut study = study.clone();
    (study.sites, study.aggregation.quorum) = (3, 2);
    study.training.learning_rate = 0.01;
    let plan = LocalPlan {
        steps: 3_000,
        batch: 4,
        learning_rate: 0.01,
        proximal: 0.0,
    };
    let model = site::model(&study)?;
    for (out, name) in SITES.iter().enumerate() {
        let own = records(&study, &tables[out])?;
        let taking: Vec<_> = (0..4)
            .filter(|at| *at != out)
            .map(|at| &tables[at])
            .collect();
        let sites: Vec<_> = taking
            .iter()
            .map(|table| records(&study, table))
            .collect::<Result<_>>()?;
        let train_on: Vec<_> = sites.iter().map(|site| &site.train).collect();
        let one = records(&study, &together(&taking)?)?;
        let (mut federated, mut central) = (Vec::new(), Vec::new());
        for seed in SEEDS {
            let trained = federate(&study, &train_on, seed, |_, _| ())?;
            federated.push(auroc(&model, &trained, [&own.train, &own.test])?);
            let mut random = StdRng::seed_from_u64(seed);
            let start = model.initial(&mut random);
            let trained = train(&model, &start, &one.train, &plan, &mut random)?;
            central.push(auroc(&model, &trained, [&own.train, &own.test])?);
        }
        let what = format!("heart, {name} took no part, AUROC");
        let beside = format!("all together {:.4}", mean(&central));
        report.add(
            told(what, &federated)
                .beside(beside, &[100.0 * mean(&central)])
                .aim(Aim::AtLeast(100.0 * (mean(&central) - LEFT_OUT_WITHIN))),
        );
    }
    Ok(())
}
