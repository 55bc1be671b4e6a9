//! Harrell's concordance: among two subjects of whom it is known who had the event first, how often the model says so.
use super::NoMetric;
use rand::{Rng, RngCore};

/// A subject of a survival study.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subject {
    /// Days until the event, or until the subject was last seen without it.
    pub time: f64,
    /// Whether the event happened.
    pub event: bool,
    /// What the model says; higher for those at more risk.
    pub risk: f64,
}

/// Harrell's c (Harrell et al. 1982), 0 to 1, with half of the ties in risk. A pair counts when the earlier one had the
/// event, and at equal times when only one had it.
///
/// # Errors
/// [`NoMetric::NoPairs`] when no pair counts.
pub fn concordance(subjects: &[Subject]) -> Result<f64, NoMetric> {
    let (halves, pairs) = Pairs::of(subjects).counted(&vec![1; subjects.len()]);
    share(halves, pairs).ok_or(NoMetric::NoPairs)
}

/// The share of pairs in which the model is right, 0 to 1. `halves` counts two for each pair in which it is and one for
/// each tie in risk, `pairs` those that count. None when there are no pairs.
#[must_use]
pub fn share(halves: u64, pairs: u64) -> Option<f64> {
    (pairs > 0).then(|| halves as f64 / 2.0 / pairs as f64)
}

/// Subjects in the order in which their pairs are counted: n·log n steps however often that is done.
pub struct Pairs<'a> {
    subjects: &'a [Subject],
    /// Places of subjects by falling time, and at one time those without the event first.
    order: Vec<usize>,
    /// Of each subject the place of its risk among all different ones; none where it is no number.
    ranks: Vec<Option<usize>>,
    /// How many different risks there are.
    levels: usize,
}

impl<'a> Pairs<'a> {
    /// The pairs of subjects.
    #[must_use]
    pub fn of(subjects: &'a [Subject]) -> Self {
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (&subjects[*a], &subjects[*b]);
            b.time.total_cmp(&a.time).then(a.event.cmp(&b.event))
        });
        let risks = subjects.iter().map(|subject| subject.risk);
        let mut levels: Vec<f64> = risks.filter(|risk| !risk.is_nan()).collect();
        levels.sort_by(f64::total_cmp);
        // 0 and -0 are one risk.
        levels.dedup_by(|a, b| a == b);
        let rank = |subject: &Subject| {
            let below = levels.partition_point(|level| *level < subject.risk);
            (!subject.risk.is_nan()).then_some(below)
        };
        Self {
            subjects,
            order,
            ranks: subjects.iter().map(rank).collect(),
            levels: levels.len(),
        }
    }

    /// Of how many halves of pairs the model is right, and how many pairs there are that count, where each subject is
    /// there so many times.
    #[must_use]
    pub fn counted(&self, times: &[u64]) -> (u64, u64) {
        let (mut halves, mut pairs) = (0, 0);
        let (mut later, mut all_later) = (Sums::new(self.levels), 0);
        let mut waiting: Vec<usize> = Vec::new();
        for at in &self.order {
            let subject = &self.subjects[*at];
            let is_earlier = |first: &usize| self.subjects[*first].time > subject.time;
            if waiting.first().is_some_and(is_earlier) {
                for had in waiting.drain(..) {
                    later.add(self.ranks[had], times[had]);
                    all_later += times[had];
                }
            }
            if !subject.event {
                later.add(self.ranks[*at], times[*at]);
                all_later += times[*at];
                continue;
            }
            // Two who had the event at one time are no pair: whoever had it is added when that time is over.
            waiting.push(*at);
            pairs += times[*at] * all_later;
            if let Some(rank) = self.ranks[*at] {
                let (below, up_to) = (later.below(rank), later.below(rank + 1));
                halves += times[*at] * (below + up_to);
            }
        }
        (halves, pairs)
    }

    /// The same of subjects that are drawn again with replacement (Efron 1979).
    pub fn drawn(&self, random: &mut impl RngCore) -> (u64, u64) {
        let count = self.subjects.len();
        let mut times = vec![0; count];
        for _ in 0..count {
            times[random.random_range(0..count)] += 1;
        }
        self.counted(&times)
    }
}

/// Counts by rank, and sums of them from the lowest rank on (Fenwick 1994).
struct Sums(Vec<u64>);

impl Sums {
    fn new(levels: usize) -> Self {
        Self(vec![0; levels + 1])
    }

    fn add(&mut self, rank: Option<usize>, count: u64) {
        let Some(rank) = rank else {
            return;
        };
        let mut at = rank + 1;
        while let Some(sum) = self.0.get_mut(at) {
            *sum += count;
            at += at & at.wrapping_neg();
        }
    }

    /// How many have one of the first `ranks` ranks.
    fn below(&self, ranks: usize) -> u64 {
        let (mut at, mut sum) = (ranks, 0);
        while at > 0 {
            sum += self.0.get(at).copied().unwrap_or_default();
            at &= at - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn subject(time: f64, event: bool, risk: f64) -> Subject {
        Subject { time, event, risk }
    }

    #[test]
    fn pairs_count_when_it_is_known_who_was_first() {
        let subjects = [
            subject(1.0, true, 3.0),
            subject(2.0, false, 9.0),
            subject(3.0, true, 3.0),
            subject(4.0, false, 1.0),
            subject(3.0, false, 2.0),
        ];
        // First of day 1 beside all others: 0 + ½ + 1 + 1; of day 3 beside day 4 and the one last seen on day 3: 1 + 1.
        assert_eq!(concordance(&subjects), Ok(4.5 / 6.0));
        assert_eq!(concordance(&subjects[1..2]), Err(NoMetric::NoPairs));
        let reversed = subjects.map(|s| subject(s.time, s.event, -s.risk));
        assert_eq!(concordance(&reversed), Ok(1.5 / 6.0));
    }

    /// The definition, pair by pair.
    fn one_by_one(subjects: &[Subject]) -> (u64, u64) {
        let (mut halves, mut pairs) = (0, 0);
        for first in subjects.iter().filter(|subject| subject.event) {
            let later = |other: &&Subject| {
                other.time > first.time || (other.time == first.time && !other.event)
            };
            for other in subjects.iter().filter(later) {
                pairs += 1;
                halves += match first.risk.partial_cmp(&other.risk) {
                    Some(std::cmp::Ordering::Greater) => 2,
                    Some(std::cmp::Ordering::Equal) => 1,
                    _ => 0,
                };
            }
        }
        (halves, pairs)
    }

    #[test]
    fn counts_are_those_of_every_pair_by_itself_also_of_subjects_drawn_again() {
        let mut random = StdRng::seed_from_u64(6);
        for count in [0_usize, 1, 2, 30, 150] {
            let mut subjects: Vec<_> = (0..count)
                .map(|_| {
                    let time = f64::from(random.random_range(0..12_u8));
                    let risk = f64::from(random.random_range(-4..5_i8)) / 2.0;
                    subject(time, random.random_bool(0.6), risk)
                })
                .collect();
            if let Some(first) = subjects.first_mut() {
                first.risk = f64::NAN;
            }
            let pairs = Pairs::of(&subjects);
            assert_eq!(pairs.counted(&vec![1; count]), one_by_one(&subjects));
            let times: Vec<u64> = (0..count).map(|at| at as u64 % 3).collect();
            let again = subjects.iter().zip(&times);
            let again: Vec<_> = again
                .flat_map(|(subject, times)| vec![*subject; *times as usize])
                .collect();
            assert_eq!(pairs.counted(&times), one_by_one(&again), "{count}");
        }
    }
}
