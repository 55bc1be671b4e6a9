//! What models of federated studies come to on real data, beside training on all records together and what is published:
//! the studies of `examples/studies`, with the code of their rounds, without a transport.
mod heart;

use crate::{
    Bed,
    report::{Aim, Figure, Report},
};
use anyhow::{Context, Result};
use fl::{
    features::Prepared,
    site,
    stays::Stay,
    study::Study,
    train::{LocalPlan, Records, train},
};
use global::chart::{Axis, Chart, Drawn, Series};
use medmesh_tests::{
    binary,
    studies::{self, auroc, prepared, run},
};
use rand::{SeedableRng as _, rngs::StdRng};
use std::{fs, path::Path};
use types::CareUnit;

/// Nothing is acknowledged.
pub const NOTHING: &str = "nothing: models are made in memory";
/// Folds of the cross-validation.
const FOLDS: u64 = 5;
/// AUROC by cross-validation on set A with all records together, by scikit-learn and LightGBM, of 230 features
/// (mean, least, largest, first, last, count of 37 series, and static facts).
const LOGISTIC: f64 = 0.841;
const BOOSTED: f64 = 0.861;
/// How far below the centralised logistic regression the federated one may be.
const FEDERATED_WITHIN: f64 = 0.01;
/// The same where records are hidden.
const HIDDEN_WITHIN: f64 = 0.03;

/// Runs the studies.
pub fn studies(bed: &Bed, report: &mut Report) -> Result<()> {
    heart::run(report)?;
    mortality(bed, report)
}

/// A study of the examples.
fn example(path: &str) -> Result<Study> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/studies");
    let path = root.join(path);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// Four kinds of care units as facilities, which learn who dies in hospital.
fn mortality(bed: &Bed, report: &mut Report) -> Result<()> {
    let stays = studies::stays(&binary::data())?;
    let what = |model: &str| format!("ICU mortality, {model}, {FOLDS}-fold AUROC");
    let mut curves = Vec::new();
    let logistic = example("icu-mortality/study.toml")?;
    let all = central(&logistic, &stays)?;
    curves.push(flat("logistic, all records", all, &logistic));
    report.add(
        Figure::new(
            what("logistic, all records together"),
            "%",
            NOTHING,
            vec![100.0 * all],
        )
        .beside("scikit-learn %", &[100.0 * LOGISTIC]),
    );
    for (name, file, within, mark) in [
        ("logistic federated", "study", FEDERATED_WITHIN, LOGISTIC),
        ("MLP federated", "mlp", FEDERATED_WITHIN, BOOSTED),
        ("GRU federated", "gru", FEDERATED_WITHIN, BOOSTED),
        ("logistic, epsilon 3", "private", HIDDEN_WITHIN, LOGISTIC),
    ] {
        let study = example(&format!("icu-mortality/{file}.toml"))?;
        let rounds = validated(&study, &stays)?;
        let (last, points) = (rounds.last().copied().unwrap_or_default(), rounds.clone());
        let spend = study.plan().map_err(|found| studies::said(&found))?.spend;
        let spent = spend.map_or_else(String::new, |spend| {
            format!(", epsilon {:.3} at delta {:e}", spend.epsilon, spend.delta)
        });
        let beside = if mark == BOOSTED {
            "LightGBM %"
        } else {
            "scikit-learn %"
        };
        let figure = Figure::new(what(name), "%", NOTHING, vec![100.0 * last])
            .beside(beside, &[100.0 * mark])
            .aim(Aim::AtLeast(100.0 * (LOGISTIC - within)))
            .note(format!("{last:.4} after {} rounds{spent}", rounds.len()));
        report.add(figure);
        curves.push(Series {
            name: name.to_owned(),
            points: (1..).map(f64::from).zip(points).collect(),
            bars: Vec::new(),
            drawn: Drawn::Thick,
        });
    }
    if let Some(folder) = &bed.plots {
        fs::write(folder.join("icu-mortality.svg"), chart(curves).file())?;
    }
    Ok(())
}

fn flat(name: &str, value: f64, study: &Study) -> Series {
    let end = f64::from(study.training.rounds);
    Series {
        name: name.to_owned(),
        points: vec![(1.0, value), (end, value)],
        bars: Vec::new(),
        drawn: Drawn::Thin,
    }
}

fn chart(series: Vec<Series>) -> Chart {
    let ends = series.iter().flat_map(|series| &series.points);
    let last = ends.map(|(x, _)| *x).fold(1.0, f64::max);
    Chart {
        title: "Death in hospital: AUROC by cross-validation".to_owned(),
        x: Axis {
            name: "round",
            ends: (0.0, last),
        },
        y: Axis {
            name: "AUROC",
            ends: (0.7, 0.87),
        },
        series,
        diagonal: false,
    }
}

/// In which fold a patient is judged with.
const fn fold(patient: u64) -> u64 {
    // Record numbers have no order in them that a fold could follow; a multiplier spreads them anyway.
    (patient.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % FOLDS
}

/// The records of each facility in a fold.
fn sites(study: &Study, stays: &[(CareUnit, Stay)], nth: u64) -> Result<Vec<Prepared>> {
    let of = |unit: CareUnit| {
        let own = stays.iter().filter(move |(of, _)| *of == unit);
        prepared(study, own.map(|(_, stay)| stay), |patient| {
            fold(patient) == nth
        })
    };
    CareUnit::ALL.into_iter().map(of).collect()
}

/// By round, the mean over folds of the area under the curve of all facilities' records that were kept from training.
fn validated(study: &Study, stays: &[(CareUnit, Stay)]) -> Result<Vec<f64>> {
    let mut mean = vec![0.0; study.training.rounds as usize];
    for nth in 0..FOLDS {
        let sites = sites(study, stays, nth)?;
        let train: Vec<&Records> = sites.iter().map(|site| &site.train).collect();
        let model = site::model(study)?;
        let mut found = Vec::new();
        run(study, &train, study.training.seed, |_, parameters| {
            let judged = sites.iter().map(|site| &site.test);
            found.push(auroc(&model, parameters, judged));
        })?;
        for (mean, found) in mean.iter_mut().zip(found) {
            *mean += found? / FOLDS as f64;
        }
    }
    Ok(mean)
}

/// The same of one model that is trained on all records together.
fn central(study: &Study, stays: &[(CareUnit, Stay)]) -> Result<f64> {
    let plan = LocalPlan {
        steps: 6_000,
        batch: 128,
        learning_rate: 0.01,
        proximal: 0.0,
    };
    let mut mean = 0.0;
    for nth in 0..FOLDS {
        let all = stays.iter().map(|(_, stay)| stay);
        let all = prepared(study, all, |patient| fold(patient) == nth)?;
        let model = site::model(study)?;
        let mut random = StdRng::seed_from_u64(study.training.seed);
        let start = model.initial(&mut random);
        let trained = train(&model, &start, &all.train, &plan, &mut random)?;
        mean += auroc(&model, &trained, [&all.test])? / FOLDS as f64;
    }
    Ok(mean)
}
