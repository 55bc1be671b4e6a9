//! Counts of scores by label, from which pooled figures follow: sites send counts, and sums of counts are summed
//! securely like any update.
use super::{Curves, Group, Metrics, NoMetric, Scored, bootstrap, of_groups, recalibration};
use rand::RngCore;
use serde::{Deserialize, Serialize};

/// How many records of each label have a score in each of [`Histogram::BINS`] bins of equal width.
///
/// Scores of one bin count as ties at the middle of the bin: the area under the curve is off by at most half the share
/// of pairs that fall into one bin, every score by at most 1/2048.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Of each bin: no, then yes.
    counts: Vec<u32>,
}

impl Histogram {
    /// How many bins.
    pub const BINS: usize = 1024;
    /// How many counts.
    pub const NUMBERS: usize = 2 * Self::BINS;

    /// Counts scored records.
    ///
    /// # Errors
    /// [`NoMetric::Score`] names the first score that is no probability.
    pub fn of(records: &[Scored]) -> Result<Self, NoMetric> {
        let mut counts = vec![0_u32; Self::NUMBERS];
        for (at, record) in records.iter().enumerate() {
            if !(0.0..=1.0).contains(&record.score) {
                return Err(NoMetric::Score(at));
            }
            let bin = ((record.score * Self::BINS as f64) as usize).min(Self::BINS - 1);
            let count = &mut counts[2 * bin + usize::from(record.label)];
            *count = count.saturating_add(1);
        }
        Ok(Self { counts })
    }

    /// The counts, as they are summed: of each bin no, then yes.
    #[must_use]
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// A histogram of summed counts; none when there are more or fewer than [`Histogram::NUMBERS`].
    #[must_use]
    pub fn of_counts(counts: Vec<u32>) -> Option<Self> {
        (counts.len() == Self::NUMBERS).then_some(Self { counts })
    }

    /// The figures of everybody who was counted.
    ///
    /// # Errors
    /// [`NoMetric::NoRecord`] when nobody was counted.
    pub fn metrics(&self) -> Result<Metrics, NoMetric> {
        let groups = self.groups();
        Ok(recalibration::with(&groups, of_groups(&groups)?))
    }

    /// As [`Histogram::metrics`], with the interval of each figure over so many resamples of the counts.
    ///
    /// # Errors
    /// As [`Histogram::metrics`].
    pub fn metrics_within(
        &self,
        resamples: u32,
        random: &mut impl RngCore,
    ) -> Result<Metrics, NoMetric> {
        let mut found = self.metrics()?;
        found.intervals = bootstrap::intervals(&self.groups(), resamples, random);
        Ok(found)
    }

    /// The curves of everybody who was counted; none when all labels are the same.
    #[must_use]
    pub fn curves(&self) -> Option<Curves> {
        Curves::of(&self.groups())
    }

    /// The bins with falling scores.
    fn groups(&self) -> Vec<Group> {
        let group = |(bin, pair): (usize, &[u32])| {
            let score = (bin as f64 + 0.5) / Self::BINS as f64;
            (score, f64::from(pair[1]), f64::from(pair[0]))
        };
        let groups: Vec<_> = self.counts.chunks_exact(2).enumerate().map(group).collect();
        groups.into_iter().rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{metrics, sample};
    use super::*;

    #[test]
    fn pooled_figures_are_those_of_all_records_together() {
        let records = sample(600);
        let mut sum = vec![0; Histogram::NUMBERS];
        for site in records.chunks(150) {
            let site = Histogram::of(site).unwrap();
            for (sum, count) in sum.iter_mut().zip(site.counts()) {
                *sum += count;
            }
        }
        let pooled = Histogram::of_counts(sum).unwrap().metrics().unwrap();
        let direct = metrics(&records).unwrap();
        assert_eq!(pooled.records, 600);
        // 51 different scores, none of which share a bin.
        assert!((pooled.auroc.unwrap() - direct.auroc.unwrap()).abs() < 1e-12);
        assert!((pooled.auprc.unwrap() - direct.auprc.unwrap()).abs() < 1e-12);
        assert!((pooled.accuracy - direct.accuracy).abs() < 1e-12);
        assert!((pooled.brier - direct.brier).abs() < 1e-3);
        assert!((pooled.calibration - direct.calibration).abs() < 0.02);
    }

    #[test]
    fn figures_are_numbers_where_nobody_has_the_highest_scores() {
        let records: Vec<_> = sample(200)
            .into_iter()
            .map(|record| Scored {
                score: record.score * 0.9,
                ..record
            })
            .collect();
        let pooled = Histogram::of(&records).unwrap().metrics().unwrap();
        let direct = metrics(&records).unwrap();
        let apart = (pooled.auprc.unwrap() - direct.auprc.unwrap()).abs();
        assert!(apart < 1e-12, "{pooled:?}");
    }

    #[test]
    fn counts_of_another_length_and_scores_that_are_none_are_refused() {
        assert_eq!(Histogram::of_counts(vec![0; 3]), None);
        let wrong = Scored {
            score: -0.1,
            label: true,
        };
        assert_eq!(Histogram::of(&[wrong]), Err(NoMetric::Score(0)));
        assert_eq!(
            Histogram::of(&[]).unwrap().metrics(),
            Err(NoMetric::NoRecord)
        );
    }
}
