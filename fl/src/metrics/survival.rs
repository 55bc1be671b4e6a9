//! Harrell's concordance: among two subjects of whom it is known who had the event first, how often the model says so.
use super::NoMetric;

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

/// Harrell's c (Harrell et al. 1982), with half of the ties in risk. A pair counts when the earlier one had the event,
/// and at equal times when only one had it.
///
/// # Errors
/// [`NoMetric::NoPairs`] when no pair counts.
pub fn concordance(subjects: &[Subject]) -> Result<f64, NoMetric> {
    let (halves, pairs) = pairs(subjects);
    if pairs == 0 {
        return Err(NoMetric::NoPairs);
    }
    Ok(halves as f64 / 2.0 / pairs as f64)
}

/// Of how many halves of pairs the model is right, and how many pairs there are that count.
#[must_use]
pub fn pairs(subjects: &[Subject]) -> (u64, u64) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
