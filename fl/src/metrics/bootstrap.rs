//! Intervals by the bootstrap: records are drawn again with replacement (Efron 1979).
use rand::{Rng, RngCore};
use serde::{Deserialize, Serialize};

/// The middle 95 per cent of a figure over resamples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// The percentile interval of a figure of `records` over `resamples`; none when fewer than half of the resamples have
/// the figure, or there are none. `random` decides what is drawn: the same seed gives the same interval.
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
                metrics(drawn).ok().map(|found| found.auroc)
            })
        };
        let found = of(1).unwrap();
        let figure = metrics(&records).unwrap().auroc;
        assert!(found.low < figure && figure < found.high);
        assert!(found.high - found.low < 0.3);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
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
