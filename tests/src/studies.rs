//! The stays of the PhysioNet/CinC Challenge 2012 as facilities would have them, made of the files by the code that makes
//! them of readings at an edge; and studies that are run on what facilities have, with the code of their rounds, without
//! a transport.
use anyhow::{Context, Result, anyhow};
use device_fw::sim::{Recorded, outcomes_beside, recorded};
use fl::{
    features::Prepared,
    metrics::{Scored, metrics},
    net::Net,
    site,
    stays::{Facts, Measured, Stay, StayTable},
    strategy::Coordinator,
    study::{Problem, Study},
    train::Records,
};
use rand::{SeedableRng as _, rngs::StdRng};
use std::path::Path;
use types::{CareUnit, Flags, Value};

/// Every stay of the archive, with its care unit.
///
/// # Errors
/// The archive, or the outcomes beside it, cannot be read.
pub fn stays(data: &Path) -> Result<Vec<(CareUnit, Stay)>> {
    let archive = data.join("physionet2012/set-a.tar.gz");
    let outcomes = outcomes_beside(&archive).context("no outcomes beside the archive")?;
    let all = recorded(&archive, Some(&outcomes))?.into_iter();
    let known = all.filter_map(|record| Some((record.care_unit?, stay(&record))));
    Ok(known.collect())
}

/// A recorded stay as an edge would read it.
#[must_use]
pub fn stay(of: &Recorded) -> Stay {
    let number = |text: &Option<String>| text.as_ref()?.parse().ok();
    let readings = of.readings.iter().filter_map(|(at_ms, code, decimal)| {
        let unit = code.info().unit.parse().ok()?;
        let value = Value::Quantity(decimal.clone());
        (code.flags_of(unit, &value) == Flags::NONE).then(|| Measured {
            code: *code,
            unit,
            at_ms: *at_ms,
            value: decimal.approximate(),
        })
    });
    Stay {
        patient: of.record.into(),
        facts: Facts {
            age: of.age.map(f64::from),
            sex: of
                .gender
                .map(|gender| f64::from(u8::from(gender == "male"))),
            height: number(&of.height_cm),
            weight: number(&of.weight_kg),
            care_unit: of.care_unit,
        },
        readings: readings.collect(),
    }
}

/// The records of a study of some stays.
///
/// # Errors
/// What does not fit.
pub fn prepared<'a>(
    study: &Study,
    stays: impl IntoIterator<Item = &'a Stay>,
    is_judged: impl Fn(u64) -> bool,
) -> Result<Prepared> {
    let mut table = StayTable::of(study).context("no study of stays")?;
    stays.into_iter().for_each(|stay| table.push(stay));
    table
        .prepare_judging(is_judged)
        .map_err(|found| said(&found))
}

/// Everything that is wrong, as one error.
#[must_use]
pub fn said(problems: &[Problem]) -> anyhow::Error {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    anyhow!(lines.join("\n"))
}

/// Runs a study on what sites have: each round sums the sites' numbers as a region does behind its masks. `seen` is shown
/// the model of every round.
///
/// # Errors
/// The study is not a good one, or training failed.
pub fn run(
    study: &Study,
    sites: &[&Records],
    seed: u64,
    mut seen: impl FnMut(u32, &[f32]),
) -> Result<Vec<f32>> {
    let plan = study.plan().map_err(|found| said(&found))?;
    let mut random = StdRng::seed_from_u64(seed);
    let model = site::model(study)?;
    let codec = site::codec(study, &model)?;
    let mut coordinator = Coordinator::new(model.initial(&mut random))?;
    let members = u16::try_from(sites.len())?;
    for round in 1..=study.training.rounds {
        let mut sum: Vec<u32> = Vec::new();
        for records in sites {
            let numbers = site::update(study, &plan, coordinator.model(), records, &mut random)?;
            sum.resize(numbers.len(), 0);
            for (sum, number) in sum.iter_mut().zip(numbers) {
                *sum = sum.wrapping_add(number);
            }
        }
        let mean = codec.mean(&sum, members)?;
        coordinator.step(&study.training.strategy, &mean)?;
        seen(round, coordinator.model());
    }
    Ok(coordinator.model().to_vec())
}

/// Scores of a model on records.
#[must_use]
pub fn scored(model: &Net, parameters: &[f32], records: &Records) -> Vec<Scored> {
    let of = |(record, label): (&[f32], bool)| Scored {
        score: model.probability(parameters, record),
        label,
    };
    records.iter().map(of).collect()
}

/// Area under the curve, of several records together.
///
/// # Errors
/// All have the same label.
pub fn auroc<'a>(
    model: &Net,
    parameters: &[f32],
    records: impl IntoIterator<Item = &'a Records>,
) -> Result<f64> {
    let records = records.into_iter();
    let all: Vec<_> = records
        .flat_map(|records| scored(model, parameters, records))
        .collect();
    metrics(&all)?.auroc.context("all have the same label")
}
