//! The curves of a study: loss and area under the curve by round, receiver operating characteristic, calibration.
use super::chart::{Axis, Chart, Drawn, Series};
use fl::{
    course::{Course, Report},
    order::Told,
    study::Study,
};
use std::collections::BTreeMap;

/// More sites than this are not drawn one by one.
const MOST_SITES: usize = 7;
/// 97.5th percentile of a standard normal number.
const Z: f64 = 1.959_964;

/// A curve of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Mean loss on training records by round.
    Loss,
    /// Area under the receiver operating characteristic by round.
    Auroc,
    /// Receiver operating characteristic.
    Roc,
    /// Scores beside frequencies.
    Calibration,
}

impl Curve {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Loss, Self::Auroc, Self::Roc, Self::Calibration];

    /// The name of its file.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Loss => "loss.svg",
            Self::Auroc => "auroc.svg",
            Self::Roc => "roc.svg",
            Self::Calibration => "calibration.svg",
        }
    }

    /// Its chart; none when nothing is known yet or told.
    pub fn of(self, course: &Course) -> Option<Chart> {
        match self {
            Self::Loss => by_round(course, "Loss by round", "mean loss", |told| told.loss),
            Self::Auroc => by_round(course, "AUROC by round", "AUROC", |told| {
                let at_the_end = told.figures.and_then(|figures| figures.auroc);
                told.auroc.or(at_the_end)
            }),
            Self::Roc => roc(course),
            Self::Calibration => calibration(course),
        }
    }

    /// Why a study has no chart.
    pub const fn absent(self, study: &Study, is_judged: bool) -> &'static str {
        let is_survival = study.model.is_survival();
        match self {
            Self::Loss if is_survival => "No loss: sites tell none of a Cox model.",
            Self::Auroc | Self::Roc | Self::Calibration if is_survival => {
                "A Cox model is judged by its concordance, and has no such curve."
            }
            Self::Roc | Self::Calibration if is_judged => {
                "No curve: records of both labels are needed, and eleven of them at least."
            }
            Self::Loss => {
                "No loss: no round has ended, or the study hides its records, and sites tell none."
            }
            Self::Auroc => {
                "No AUROC by round: no round has ended, or the study hides its records, and sites tell none."
            }
            Self::Roc | Self::Calibration => "Drawn when the model was judged.",
        }
    }
}

/// What sites told of the model, by how many rounds it was trained.
fn by_round(
    course: &Course,
    title: &str,
    name: &'static str,
    figure: fn(&Told) -> Option<f64>,
) -> Option<Chart> {
    let mut sites: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    let mut means = Vec::new();
    let good = |report: &&Report| report.failure.is_none();
    for report in course.reports().iter().filter(good) {
        // A site tells of the model that a round begins from.
        let trained = f64::from(report.round - 1);
        let mut told = Vec::new();
        for (site, own) in &report.sites {
            if let Some(value) = figure(&own.told).filter(|value| value.is_finite()) {
                told.push(value);
                sites
                    .entry(site.as_str())
                    .or_default()
                    .push((trained, value));
            }
        }
        if !told.is_empty() {
            means.push((trained, told.iter().sum::<f64>() / told.len() as f64));
        }
    }
    let last = means.last()?.0;
    let mut series = vec![Series {
        name: "mean of sites".into(),
        points: means,
        bars: Vec::new(),
        drawn: Drawn::Thick,
    }];
    if sites.len() <= MOST_SITES {
        series.extend(sites.into_iter().map(|(site, points)| Series {
            name: site.into(),
            points,
            bars: Vec::new(),
            drawn: Drawn::Thin,
        }));
    }
    let values = || {
        series
            .iter()
            .flat_map(|series| &series.points)
            .map(|point| point.1)
    };
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(f64::NEG_INFINITY, f64::max),
    );
    let room = ((high - low) * 0.08).max(0.01);
    Some(Chart {
        title: title.into(),
        x: Axis {
            name: "rounds of training before",
            ends: (0.0, last.max(1.0)),
        },
        y: Axis {
            name,
            ends: ((low - room).max(0.0), high + room),
        },
        series,
        diagonal: false,
    })
}

fn roc(course: &Course) -> Option<Chart> {
    let evaluation = course.evaluation()?;
    let (curves, pooled) = (evaluation.curves.as_ref()?, evaluation.pooled?);
    let (no, yes) = *curves.roc.last()?;
    let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
    let points = curves
        .roc
        .iter()
        .map(|(fp, tp)| (share(*fp, no), share(*tp, yes)));
    let within = pooled.intervals.and_then(|within| within.auroc);
    let within = within.map_or_else(String::new, |within| {
        format!(", {:.3} to {:.3}", within.low, within.high)
    });
    let auroc = pooled.auroc?;
    Some(Chart {
        title: format!("ROC, all sites: AUROC {auroc:.3}{within}"),
        x: Axis {
            name: "false positive rate",
            ends: (0.0, 1.0),
        },
        y: Axis {
            name: "true positive rate",
            ends: (0.0, 1.0),
        },
        series: vec![Series {
            name: format!("{} records", no + yes),
            points: points.collect(),
            bars: Vec::new(),
            drawn: Drawn::Thick,
        }],
        diagonal: true,
    })
}

fn calibration(course: &Course) -> Option<Chart> {
    let curves = course.evaluation()?.curves.as_ref()?;
    let bins = &curves.calibration;
    let points = bins
        .iter()
        .map(|bin| (bin.score, bin.yes as f64 / bin.records.max(1) as f64));
    Some(Chart {
        title: "Calibration, all sites".into(),
        x: Axis {
            name: "mean score",
            ends: (0.0, 1.0),
        },
        y: Axis {
            name: "share of yes",
            ends: (0.0, 1.0),
        },
        series: vec![Series {
            name: "share, 95 % (Wilson)".into(),
            points: points.collect(),
            bars: bins
                .iter()
                .map(|bin| wilson(bin.yes, bin.records))
                .collect(),
            drawn: Drawn::Thick,
        }],
        diagonal: true,
    })
}

/// The interval of a share (Wilson 1927).
fn wilson(yes: u64, all: u64) -> (f64, f64) {
    let n = all.max(1) as f64;
    let p = yes as f64 / n;
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    (middle - half, middle + half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_a_share_is_wilsons() {
        // R, prop.test(8, 10, correct = FALSE).
        let (low, high) = wilson(8, 10);
        assert!((low - 0.490_161_5).abs() < 1e-6 && (high - 0.943_317_8).abs() < 1e-6);
        assert!(wilson(0, 11).0.abs() < 1e-12);
    }
}
