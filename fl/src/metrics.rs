//! How good a model is: at one site from its records, and pooled from counts, so that no record leaves its site.
//!
//! A score is a probability of yes, in 0..=1; for survival it is any number that is higher for those at more risk.
mod bootstrap;
mod curves;
mod histogram;
mod recalibration;
mod survival;

pub use bootstrap::{Interval, Intervals, interval, middle};
pub use curves::{Calibrated, Curves};
pub use histogram::Histogram;
pub use survival::{Pairs, Subject, concordance, share};

use rand::RngCore;
use serde::{Deserialize, Serialize};

/// A site with fewer records to judge with does not tell its own figures: they would be nearly those of single patients.
pub const SMALLEST_CELL: usize = 11;

/// Why there is no figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMetric {
    /// There are no records.
    #[error("there is no record")]
    NoRecord,
    /// A score is no probability.
    #[error("score {0} is no probability")]
    Score(usize),
    /// Nobody can be compared with anybody.
    #[error("no two subjects can be compared")]
    NoPairs,
}

/// A record's score and whether its label is yes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Probability of yes that the model gives.
    pub score: f64,
    /// Whether it is yes.
    pub label: bool,
}

/// Why figures of records have no area under a curve: both labels are needed for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OneLabel {
    /// No record is a yes.
    #[serde(rename = "no record that was kept from training has the label")]
    No,
    /// Every record is a yes.
    #[serde(rename = "every record that was kept from training has the label")]
    Yes,
}

/// Figures of a model with a binary label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// How many records.
    pub records: u64,
    /// Share of records on the right side of 0.5; a score of 0.5 counts as yes.
    #[serde(deserialize_with = "crate::exact::number")]
    pub accuracy: f64,
    /// Area under the receiver operating characteristic: the probability that a yes has a higher score than a no, with
    /// half of the ties (Hanley and McNeil 1982); none when all labels are the same.
    #[serde(default, deserialize_with = "crate::exact::maybe")]
    pub auroc: Option<f64>,
    /// Average precision: Σ (recall − recall before) · precision over falling scores; none when all labels are the same.
    #[serde(default, deserialize_with = "crate::exact::maybe")]
    pub auprc: Option<f64>,
    /// Mean squared distance of score and label (Brier 1950).
    #[serde(deserialize_with = "crate::exact::number")]
    pub brier: f64,
    /// Expected calibration error over ten bins of equal width (Guo et al. 2017).
    #[serde(deserialize_with = "crate::exact::number")]
    pub calibration: f64,
    /// Intercept of the logistic regression of the label on the log odds of the score (Cox 1958), 0 when calibrated;
    /// none where scores part the labels.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::exact::maybe"
    )]
    pub calibration_intercept: Option<f64>,
    /// Its slope: 1 when calibrated, below 1 when scores are too extreme.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::exact::maybe"
    )]
    pub calibration_slope: Option<f64>,
    /// Where each figure may lie; none where nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
    /// Why there is no area under a curve, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<OneLabel>,
}

/// The figures of scored records.
///
/// # Errors
/// [`NoMetric`] when there is no record or a score is no probability.
pub fn metrics(records: &[Scored]) -> Result<Metrics, NoMetric> {
    let groups = groups(records)?;
    Ok(recalibration::with(&groups, of_groups(&groups)?))
}

/// As [`metrics`], with the interval of each figure over so many resamples of the records.
///
/// # Errors
/// As [`metrics`].
pub fn metrics_within(
    records: &[Scored],
    resamples: u32,
    random: &mut impl RngCore,
) -> Result<Metrics, NoMetric> {
    let groups = groups(records)?;
    let mut found = recalibration::with(&groups, of_groups(&groups)?);
    found.intervals = bootstrap::intervals(&groups, resamples, random);
    Ok(found)
}

/// Groups of records with equal scores, falling: their score, their number of yes and of no.
fn groups(records: &[Scored]) -> Result<Vec<Group>, NoMetric> {
    if let Some(at) = records.iter().position(|r| !(0.0..=1.0).contains(&r.score)) {
        return Err(NoMetric::Score(at));
    }
    let mut sorted: Vec<_> = records.iter().map(|r| (r.score, r.label)).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut groups: Vec<Group> = Vec::new();
    for (score, label) in sorted {
        let (yes, no) = if label { (1.0, 0.0) } else { (0.0, 1.0) };
        match groups.last_mut() {
            Some(last) if last.0 == score => {
                last.1 += yes;
                last.2 += no;
            }
            _ => groups.push((score, yes, no)),
        }
    }
    Ok(groups)
}

/// Records with equal scores: the score, how many are yes, how many are no.
type Group = (f64, f64, f64);

/// The figures of groups in falling order of their scores.
fn of_groups(groups: &[Group]) -> Result<Metrics, NoMetric> {
    let yes: f64 = groups.iter().map(|group| group.1).sum();
    let no: f64 = groups.iter().map(|group| group.2).sum();
    let why = match (yes > 0.0, no > 0.0) {
        (true, true) => None,
        (false, true) => Some(OneLabel::No),
        (true, false) => Some(OneLabel::Yes),
        (false, false) => return Err(NoMetric::NoRecord),
    };
    let (mut above, mut area, mut precision, mut right, mut brier) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let mut seen = 0.0;
    let mut bins = [(0.0, 0.0, 0.0); 10];
    // A group of nobody has no precision.
    let some = groups.iter().filter(|group| group.1 + group.2 > 0.0);
    for &(score, group_yes, group_no) in some {
        area += group_no * (above + 0.5 * group_yes);
        above += group_yes;
        seen += group_yes + group_no;
        precision += group_yes * (above / seen);
        right += if score >= 0.5 { group_yes } else { group_no };
        brier += group_yes * (1.0 - score).powi(2) + group_no * score.powi(2);
        let bin = &mut bins[((score * 10.0) as usize).min(9)];
        bin.0 += group_yes + group_no;
        bin.1 += group_yes;
        bin.2 += (group_yes + group_no) * score;
    }
    let total = yes + no;
    let calibration = bins.iter().map(|bin| (bin.1 - bin.2).abs()).sum::<f64>() / total;
    Ok(Metrics {
        records: total as u64,
        accuracy: right / total,
        auroc: why.is_none().then(|| area / (yes * no)),
        auprc: why.is_none().then(|| precision / yes),
        brier: brier / total,
        calibration,
        calibration_intercept: None,
        calibration_slope: None,
        intervals: None,
        why,
    })
}

#[cfg(test)]
pub(crate) fn sample(records: usize) -> Vec<Scored> {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let mut random = StdRng::seed_from_u64(5);
    let one = |_| {
        let score = (random.random_range(0..=50) as f64) / 50.0;
        let label = random.random_bool(0.2 + 0.6 * score);
        Scored { score, label }
    };
    (0..records).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(pairs: &[(f64, u8)]) -> Vec<Scored> {
        let one = |(score, label): &(f64, u8)| Scored {
            score: *score,
            label: *label == 1,
        };
        pairs.iter().map(one).collect()
    }

    #[test]
    fn figures_are_those_of_scikit_learn() {
        // roc_auc_score, average_precision_score, brier_score_loss and accuracy_score of scikit-learn.
        let records = scored(&[
            (0.1, 0),
            (0.4, 0),
            (0.35, 1),
            (0.8, 1),
            (0.8, 0),
            (0.5, 1),
            (0.05, 0),
            (0.65, 1),
        ]);
        let found = metrics(&records).unwrap();
        assert_eq!(found.records, 8);
        for (value, expected) in [
            (found.auroc.unwrap(), SKLEARN.0),
            (found.auprc.unwrap(), SKLEARN.1),
            (found.brier, SKLEARN.2),
            (found.accuracy, SKLEARN.3),
        ] {
            assert!((value - expected).abs() < 1e-12, "{found:?}");
        }
    }

    const SKLEARN: (f64, f64, f64, f64) = (0.718_75, 0.645_833_333_333_333_3, 0.205_937_5, 0.75);

    #[test]
    fn the_area_is_the_share_of_pairs_in_the_right_order() {
        let records = sample(120);
        let (mut right, mut pairs) = (0.0, 0.0);
        for a in records.iter().filter(|r| r.label) {
            for b in records.iter().filter(|r| !r.label) {
                pairs += 1.0;
                right += if a.score > b.score {
                    1.0
                } else if a.score == b.score {
                    0.5
                } else {
                    0.0
                };
            }
        }
        let found = metrics(&records).unwrap().auroc.unwrap();
        assert!((found - right / pairs).abs() < 1e-12);
    }

    #[test]
    fn calibration_is_zero_when_scores_are_frequencies() {
        let mut records = scored(&[(0.25, 1), (0.25, 0), (0.25, 0), (0.25, 0), (0.75, 0)]);
        records.extend(scored(&[(0.75, 1), (0.75, 1), (0.75, 1)]));
        assert_eq!(metrics(&records).unwrap().calibration, 0.0);
        let worst = scored(&[(1.0, 0), (1.0, 0), (0.0, 1)]);
        assert_eq!(metrics(&worst).unwrap().calibration, 1.0);
    }

    #[test]
    fn what_has_no_figure_says_so() {
        assert_eq!(metrics(&[]), Err(NoMetric::NoRecord));
        let nan = metrics(&scored(&[(0.3, 1), (f64::NAN, 0)]));
        assert_eq!(nan, Err(NoMetric::Score(1)));
        assert_eq!(metrics(&scored(&[(1.5, 1)])), Err(NoMetric::Score(0)));
    }

    #[test]
    fn records_of_one_label_have_every_figure_but_areas_and_say_why() {
        use rand::{SeedableRng, rngs::StdRng};
        let all = [(0.2, 0), (0.6, 0), (0.1, 0), (0.3, 0)];
        let mut random = StdRng::seed_from_u64(1);
        let none = metrics_within(&scored(&all), 200, &mut random).unwrap();
        assert_eq!((none.records, none.accuracy), (4, 0.75));
        // (0.04 + 0.36 + 0.01 + 0.09) / 4.
        assert!((none.brier - 0.125).abs() < 1e-12 && (none.calibration - 0.3).abs() < 1e-12);
        assert_eq!(
            (none.auroc, none.auprc, none.why),
            (None, None, Some(OneLabel::No))
        );
        assert_eq!(
            (none.calibration_intercept, none.calibration_slope),
            (None, None)
        );
        let within = none.intervals.unwrap();
        assert!(within.accuracy.low < 0.75 && within.auroc.is_none() && within.auprc.is_none());
        let told = serde_json::to_value(none).unwrap();
        assert!(told["auroc"].is_null());
        assert_eq!(
            told["why"],
            "no record that was kept from training has the label"
        );
        assert_eq!(serde_json::from_value::<Metrics>(told).unwrap(), none);
        let every = metrics(&scored(&all.map(|(score, _)| (score, 1)))).unwrap();
        assert_eq!((every.accuracy, every.why), (0.25, Some(OneLabel::Yes)));
        assert_eq!(metrics(&sample(120)).unwrap().why, None);
    }
}
