//! Intervals by the bootstrap: records are drawn again with replacement (Efron 1979). Where only counts are known, each
//! count is drawn again as a Poisson number of the same mean (Hanley and MacGibbon 2006), so that nobody needs a record.
use super::{Group, Metrics, of_groups};
use rand::{Rng, RngCore};
use serde::{Deserialize, Serialize};

/// The middle 95 per cent of a figure over resamples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5th percentile.
    #[serde(deserialize_with = "crate::exact::number")]
    pub low: f64,
    /// 97.5th percentile.
    #[serde(deserialize_with = "crate::exact::number")]
    pub high: f64,
}

/// The interval of each figure of a model with a binary label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Of [`Metrics::accuracy`].
    pub accuracy: Interval,
    /// Of [`Metrics::auroc`]; none when fewer than half of the resamples have both labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auroc: Option<Interval>,
    /// Of [`Metrics::auprc`]; none when fewer than half of the resamples have both labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auprc: Option<Interval>,
    /// Of [`Metrics::brier`].
    pub brier: Interval,
    /// Of [`Metrics::calibration`].
    pub calibration: Interval,
}

/// A mean above which a Poisson number is drawn as the nearest whole number to a normal one: its skewness is below a
/// fifth there.
const NORMAL_FROM: f64 = 30.0;

/// The intervals of groups of records over `resamples`; none when fewer than half of the resamples have a record.
pub(super) fn intervals(
    groups: &[Group],
    resamples: u32,
    random: &mut impl RngCore,
) -> Option<Intervals> {
    let some: Vec<_> = groups
        .iter()
        .filter(|group| group.1 + group.2 > 0.0)
        .collect();
    let mut drawn = Vec::with_capacity(some.len());
    let mut found: Vec<Metrics> = Vec::new();
    for _ in 0..resamples {
        drawn.clear();
        drawn.extend(some.iter().map(|group| {
            let (yes, no) = (poisson(group.1, random), poisson(group.2, random));
            (group.0, yes, no)
        }));
        found.extend(of_groups(&drawn).ok());
    }
    let of = |figure: fn(&Metrics) -> Option<f64>| {
        middle(found.iter().filter_map(figure).collect(), resamples)
    };
    Some(Intervals {
        accuracy: of(|metrics| Some(metrics.accuracy))?,
        auroc: of(|metrics| metrics.auroc),
        auprc: of(|metrics| metrics.auprc),
        brier: of(|metrics| Some(metrics.brier))?,
        calibration: of(|metrics| Some(metrics.calibration))?,
    })
}

/// A Poisson number (Knuth, The Art of Computer Programming 2, §3.4.1 Q).
fn poisson(mean: f64, random: &mut impl RngCore) -> f64 {
    if mean == 0.0 {
        return 0.0;
    }
    if mean > NORMAL_FROM {
        let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * random.random::<f64>();
        return (mean + mean.sqrt() * radius * angle.cos()).round().max(0.0);
    }
    let (least, mut product, mut number) = ((-mean).exp(), 1.0, 0.0);
    loop {
        product *= random.random::<f64>();
        if product <= least {
            return number;
        }
        number += 1.0;
    }
}

/// The middle 95 per cent of figures of resamples; none when fewer than half of the resamples have the figure.
#[must_use]
pub fn middle(mut figures: Vec<f64>, resamples: u32) -> Option<Interval> {
    if figures.is_empty() || figures.len() * 2 < resamples as usize {
        return None;
    }
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (figures.len() - 1) as f64;
        let (low, high) = (
            figures[place.floor() as usize],
            figures[place.ceil() as usize],
        );
        low + (high - low) * place.fract()
    };
    Some(Interval {
        low: at(0.025),
        high: at(0.975),
    })
}

/// The 95 % percentile interval of a figure of `records` over `resamples` draws with replacement, in the figure's own
/// unit (Efron 1979); none when fewer than half of the resamples have the figure, or there are none. `random` decides what
/// is drawn: the same seed gives the same interval.
pub fn interval<T: Clone>(
    records: &[T],
    resamples: u32,
    random: &mut impl RngCore,
    figure: impl Fn(&[T]) -> Option<f64>,
) -> Option<Interval> {
    if records.is_empty() {
        return None;
    }
    let mut drawn = Vec::with_capacity(records.len());
    let mut figures = Vec::new();
    for _ in 0..resamples {
        drawn.clear();
        let again =
            (0..records.len()).map(|_| records[random.random_range(0..records.len())].clone());
        drawn.extend(again);
        figures.extend(figure(&drawn).filter(|value| value.is_finite()));
    }
    middle(figures, resamples)
}

#[cfg(test)]
mod tests {
    use super::super::{metrics, sample};
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn an_interval_holds_the_figure_and_follows_from_its_seed() {
        let records = sample(200);
        let of = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            interval(&records, 200, &mut random, |drawn| {
                metrics(drawn).ok().and_then(|found| found.auroc)
            })
        };
        let found = of(1).unwrap();
        let figure = metrics(&records).unwrap().auroc.unwrap();
        assert!(found.low < figure && figure < found.high);
        assert!(found.high - found.low < 0.3);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn intervals_of_counts_are_those_of_records_drawn_again() {
        let records = sample(300);
        let mut random = StdRng::seed_from_u64(8);
        let counted = super::super::metrics_within(&records, 2_000, &mut random).unwrap();
        let counted = counted.intervals.unwrap();
        for (of_counts, figure) in [
            (
                counted.auroc.unwrap(),
                (|m: &Metrics| m.auroc) as fn(&Metrics) -> Option<f64>,
            ),
            (counted.accuracy, |m: &Metrics| Some(m.accuracy)),
            (counted.brier, |m: &Metrics| Some(m.brier)),
            (counted.auprc.unwrap(), |m: &Metrics| m.auprc),
        ] {
            let drawn = interval(&records, 2_000, &mut random, |drawn| {
                metrics(drawn).ok().and_then(|found| figure(&found))
            });
            let drawn = drawn.unwrap();
            let width = drawn.high - drawn.low;
            let near = |a: f64, b: f64| (a - b).abs() < 0.15 * width;
            assert!(
                near(of_counts.low, drawn.low) && near(of_counts.high, drawn.high),
                "{of_counts:?} {drawn:?}"
            );
        }
    }

    #[test]
    fn poisson_numbers_have_their_mean_as_variance_on_both_sides_of_the_normal_ones() {
        let mut random = StdRng::seed_from_u64(9);
        for mean in [0.0, 1.0, 12.0, 30.0, 31.0, 5_000.0] {
            let drawn: Vec<_> = (0..20_000).map(|_| poisson(mean, &mut random)).collect();
            let found = drawn.iter().sum::<f64>() / 20_000.0;
            let spread = drawn.iter().map(|d| (d - found).powi(2)).sum::<f64>() / 20_000.0;
            // Five standard errors: of the mean √(m/n), of the variance about m·√(2/n).
            assert!(
                (found - mean).abs() <= 5.0 * (mean / 20_000.0).sqrt(),
                "{mean} {found}"
            );
            assert!((spread - mean).abs() <= 0.06 * mean, "{mean} {spread}");
        }
    }

    #[test]
    fn the_mean_of_many_has_the_interval_of_its_error() {
        let values: Vec<f64> = (0..400).map(|at| f64::from(at % 2)).collect();
        let mut random = StdRng::seed_from_u64(3);
        let mean = |drawn: &[f64]| Some(drawn.iter().sum::<f64>() / drawn.len() as f64);
        let found = interval(&values, 1000, &mut random, mean).unwrap();
        // 0.5 ± 1.96·0.5/√400.
        assert!(
            (found.low - 0.451).abs() < 0.006 && (found.high - 0.549).abs() < 0.006,
            "{found:?}"
        );
        assert_eq!(interval(&[] as &[f64], 10, &mut random, mean), None);
        assert_eq!(interval(&values, 10, &mut random, |_| None), None);
    }
}
