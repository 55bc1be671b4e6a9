//! How scores would have to be changed to be probabilities: the label is regressed on the log odds of the score
//! (Cox 1958; Van Calster et al. 2016, "weak calibration").
use super::{Group, Metrics};

/// Scores nearer to 0 or 1 count as so near: their log odds would be infinite.
const NEAREST: f64 = 1e-6;
const MOST_STEPS: u32 = 50;
/// A slope beyond which scores part the labels, so that no slope is the best.
const STEEPEST: f64 = 1e3;

/// The figures with intercept and slope, where there are any.
pub(super) fn with(groups: &[Group], metrics: Metrics) -> Metrics {
    let found = fitted(groups);
    Metrics {
        calibration_intercept: found.map(|found| found.0),
        calibration_slope: found.map(|found| found.1),
        ..metrics
    }
}

/// Intercept and slope by Newton's method; none where it does not settle.
fn fitted(groups: &[Group]) -> Option<(f64, f64)> {
    let points: Vec<_> = groups
        .iter()
        .filter(|group| group.1 + group.2 > 0.0)
        .map(|group| {
            let score = group.0.clamp(NEAREST, 1.0 - NEAREST);
            ((score / (1.0 - score)).ln(), group.1, group.1 + group.2)
        })
        .collect();
    let (mut intercept, mut slope) = (0.0, 0.0);
    for _ in 0..MOST_STEPS {
        let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (odds, yes, all) in &points {
            let p = 1.0 / (1.0 + (-(intercept + slope * odds)).exp());
            let (off, weight) = (yes - all * p, all * p * (1.0 - p));
            g0 += off;
            g1 += off * odds;
            h00 += weight;
            h01 += weight * odds;
            h11 += weight * odds * odds;
        }
        let determinant = h00 * h11 - h01 * h01;
        if determinant.is_nan() || determinant <= 1e-12 {
            return None;
        }
        let by = (
            (h11 * g0 - h01 * g1) / determinant,
            (h00 * g1 - h01 * g0) / determinant,
        );
        intercept += by.0;
        slope += by.1;
        if !(slope.abs() < STEEPEST && intercept.abs() < STEEPEST) {
            return None;
        }
        if by.0.abs() + by.1.abs() < 1e-9 {
            return Some((intercept, slope));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups whose share of yes is a logistic function of the log odds of their score.
    fn groups(intercept: f64, slope: f64) -> Vec<Group> {
        let one = |at: u32| {
            let score = f64::from(at) / 20.0;
            let odds = (score / (1.0 - score)).ln();
            let p = 1.0 / (1.0 + (-(intercept + slope * odds)).exp());
            (score, 1_000.0 * p, 1_000.0 * (1.0 - p))
        };
        (1..20).rev().map(one).collect()
    }

    #[test]
    fn the_line_by_which_scores_are_wrong_is_found() {
        for (intercept, slope) in [(0.0, 1.0), (0.7, 0.5), (-1.2, 2.0), (0.0, -1.0)] {
            let found = fitted(&groups(intercept, slope)).unwrap();
            assert!(
                (found.0 - intercept).abs() < 1e-8 && (found.1 - slope).abs() < 1e-8,
                "{found:?}"
            );
        }
    }

    #[test]
    fn scores_that_part_the_labels_or_are_all_the_same_have_no_line() {
        assert_eq!(fitted(&[(0.9, 10.0, 0.0), (0.1, 0.0, 10.0)]), None);
        assert_eq!(fitted(&[(0.5, 10.0, 4.0)]), None);
        assert_eq!(fitted(&[]), None);
    }
}
