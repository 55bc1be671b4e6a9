//! Curves of a model from counts of scores: how many are found at which cost, and whether scores are probabilities.
//!
//! Two points of a curve are at least a smallest cell of records apart, so that no step of it is a single patient.
use super::{Group, SMALLEST_CELL};
use serde::{Deserialize, Serialize};

/// Points of a curve at most: more than a screen shows.
const MOST_POINTS: f64 = 200.0;
/// Bins of scores of equal width before those with too few records are joined.
const BINS: usize = 10;

/// The curves of a model on records that were kept from training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// Receiver operating characteristic: with a falling threshold, how many records without and with the label are
    /// above it. It begins with none and ends with all.
    pub roc: Vec<(u64, u64)>,
    /// Mean score beside the share of yes, over rising scores.
    pub calibration: Vec<Calibrated>,
}

/// Records with scores near each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// How many.
    pub records: u64,
    /// How many of them are yes.
    pub yes: u64,
    /// Their mean score.
    #[serde(deserialize_with = "crate::exact::number")]
    pub score: f64,
}

impl Curves {
    /// The curves of groups with falling scores; none when all labels are the same.
    pub(super) fn of(groups: &[Group]) -> Option<Self> {
        let yes: f64 = groups.iter().map(|group| group.1).sum();
        let no: f64 = groups.iter().map(|group| group.2).sum();
        (yes > 0.0 && no > 0.0).then(|| Self {
            roc: roc(groups, (no, yes)),
            calibration: calibration(groups),
        })
    }
}

fn roc(groups: &[Group], (no, yes): (f64, f64)) -> Vec<(u64, u64)> {
    let apart = (SMALLEST_CELL as f64).max((no + yes) / MOST_POINTS);
    let mut points = vec![(0.0, 0.0)];
    let (mut last, mut above) = (0.0, (0.0, 0.0));
    for (_, group_yes, group_no) in groups {
        above = (above.0 + group_no, above.1 + group_yes);
        let seen = above.0 + above.1;
        if seen - last >= apart && no + yes - seen >= apart {
            points.push(above);
            last = seen;
        }
    }
    points.push((no, yes));
    let whole = |point: (f64, f64)| (point.0 as u64, point.1 as u64);
    points.into_iter().map(whole).collect()
}

fn calibration(groups: &[Group]) -> Vec<Calibrated> {
    // Of each bin: records, yes, sum of scores.
    let mut bins = [(0.0, 0.0, 0.0); BINS];
    for (score, yes, no) in groups {
        let bin = &mut bins[((score * BINS as f64) as usize).min(BINS - 1)];
        let all = yes + no;
        *bin = (bin.0 + all, bin.1 + yes, bin.2 + all * score);
    }
    let mut joined: Vec<(f64, f64, f64)> = Vec::new();
    for bin in bins {
        match joined.last_mut() {
            Some(last) if last.0 < SMALLEST_CELL as f64 => {
                *last = (last.0 + bin.0, last.1 + bin.1, last.2 + bin.2);
            }
            _ => joined.push(bin),
        }
    }
    // The last one has nothing behind it to be joined with.
    if joined.len() > 1
        && let Some(rest) = joined.pop_if(|last| last.0 < SMALLEST_CELL as f64)
        && let Some(last) = joined.last_mut()
    {
        *last = (last.0 + rest.0, last.1 + rest.1, last.2 + rest.2);
    }
    let point = |(records, yes, sum): (f64, f64, f64)| Calibrated {
        records: records as u64,
        yes: yes as u64,
        score: sum / records,
    };
    let some = joined.into_iter().filter(|bin| bin.0 > 0.0);
    some.map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Histogram, metrics, sample};

    #[test]
    fn the_area_under_the_curve_is_nearly_the_figure_and_no_step_is_of_few() {
        let records = sample(2_000);
        let histogram = Histogram::of(&records).unwrap();
        let curves = histogram.curves().unwrap();
        let (no, yes) = *curves.roc.last().unwrap();
        assert_eq!(no + yes, 2_000);
        let area: f64 = curves
            .roc
            .windows(2)
            .map(|pair| {
                let [from, to] = [pair[0], pair[1]]
                    .map(|(fp, tp)| (fp as f64 / no as f64, tp as f64 / yes as f64));
                assert!(pair[1].0 + pair[1].1 >= pair[0].0 + pair[0].1 + 11);
                (to.0 - from.0) * (to.1 + from.1) / 2.0
            })
            .sum();
        assert!((area - metrics(&records).unwrap().auroc.unwrap()).abs() < 0.005);
        let counted: u64 = curves.calibration.iter().map(|bin| bin.records).sum();
        assert_eq!(counted, 2_000);
        assert!(curves.calibration.iter().all(|bin| bin.records >= 11));
    }

    #[test]
    fn few_records_make_one_point_and_one_label_none() {
        let few = sample(15);
        let curves = Histogram::of(&few).unwrap().curves().unwrap();
        assert_eq!(curves.roc.len(), 2, "from none to all");
        assert_eq!(curves.calibration.len(), 1);
        let same: Vec<_> = few.into_iter().filter(|record| record.label).collect();
        assert_eq!(Histogram::of(&same).unwrap().curves(), None);
    }
}
