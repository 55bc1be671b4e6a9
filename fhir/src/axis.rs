//! Logical instants: what a reader is told instead of the time at which the region stored a resource.
//!
//! A true time beside a shifted one gives the shift away. So does the order in which resources of different patients
//! were stored: it says by how much their shifts differ, and of many shifts within a year to either side the
//! differences leave little doubt about each. So the axis has nothing to do with the calendar, and it is the reader's
//! own: a *mark* is the number of the region's last commit at a moment when this reader asked, and a resource bears
//! the first mark by which it was there. What a reader could not have noted down by asking is in no instant: whoever
//! comes afterwards finds everything at one mark.
//!
//! The instant of mark `n` is 1970-01-01T00:00:00Z and `n` ms. Marks only grow, so that "everything after the largest
//! instant that I have seen" (`_lastUpdated=gt…`) is everything that this reader was not shown yet, and at times
//! something that it was. Pure; where marks are kept is the caller's to say.
use crate::search::Interval;
use std::sync::Arc;
use types::Timestamp;

/// Marks of one reader that are kept. Beyond them the older half is thinned: its resources move up to the next mark.
pub const MAX_MARKS: usize = 512;
/// An axis does not reach this far (1990): 20 years of 1,000 resources a second. An instant from here on is of the
/// calendar.
pub const CALENDAR: i64 = 631_152_000_000;
/// Versions of a resource that are told apart within one mark, in the last three digits of a microsecond.
const VERSIONS: u32 = 999;

/// The marks of one reader, ascending. The first is above 0. Every answer has a copy, which costs as good as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axis(Arc<Vec<i64>>);

/// Commits after `after`, up to and with `until`; without an end when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commits {
    /// The last commit before them.
    pub after: i64,
    /// The last of them.
    pub until: Option<i64>,
}

impl Axis {
    /// The marks as they are kept: decimal numbers with commas between them.
    #[must_use]
    pub fn to_text(&self) -> String {
        let marks: Vec<String> = self.0.iter().map(i64::to_string).collect();
        marks.join(",")
    }

    /// The inverse of [`Axis::to_text`]; none when the text is not ascending numbers.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        let marks: Vec<i64> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let ascends = marks.iter().zip(marks.iter().skip(1)).all(|(a, b)| a < b);
        (ascends && marks.first().is_none_or(|first| *first > 0)).then_some(Self(Arc::new(marks)))
    }

    /// The reader is shown everything up to a commit: whether that is a new mark.
    pub fn reach(&mut self, commit: i64) -> bool {
        if commit <= self.last() {
            return false;
        }
        let marks = Arc::make_mut(&mut self.0);
        marks.push(commit);
        if marks.len() > MAX_MARKS {
            let mut at = 0;
            marks.retain(|_| {
                at += 1;
                at > MAX_MARKS / 2 || at % 2 == 0
            });
        }
        true
    }

    /// The last mark; 0 when there is none.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// The marks, ascending.
    #[must_use]
    pub fn marks(&self) -> &[i64] {
        &self.0
    }

    /// The mark that a commit bears; the commit itself when the reader was not shown it yet.
    #[must_use]
    pub fn mark_of(&self, commit: i64) -> i64 {
        let at = self.0.partition_point(|mark| *mark < commit);
        self.0.get(at).copied().unwrap_or(commit)
    }

    /// The last mark before an instant of the axis; 0 when there is none.
    fn before(&self, instant: i64) -> i64 {
        let at = self.0.partition_point(|mark| *mark < instant);
        at.checked_sub(1)
            .and_then(|at| self.0.get(at).copied())
            .unwrap_or(0)
    }

    /// The last commit that was there at an instant of the axis (ms since 1970); 0 when there was none.
    #[must_use]
    pub fn by(&self, instant: i64) -> i64 {
        self.before(instant.saturating_add(1))
    }

    /// The commits whose instants lie in an interval.
    #[must_use]
    pub fn commits(&self, interval: &Interval) -> Commits {
        Commits {
            after: interval.from.map_or(0, |from| self.before(from)),
            until: interval.until.map(|until| self.before(until)),
        }
    }

    /// The commits of each mark in turn, from the last one when `descending`, beginning with `from` where it is given;
    /// none when that is no mark any more.
    #[must_use]
    pub fn steps(&self, from: Option<i64>, descending: bool) -> Option<Vec<Commits>> {
        let starts = std::iter::once(0).chain(self.0.iter().copied());
        let mut steps: Vec<Commits> = starts
            .zip(self.0.iter())
            .map(|(after, mark)| Commits {
                after,
                until: Some(*mark),
            })
            .collect();
        if descending {
            steps.reverse();
        }
        match from {
            None => Some(steps),
            Some(from) => {
                let at = steps.iter().position(|step| step.until == Some(from))?;
                Some(steps.split_off(at))
            }
        }
    }
}

/// `meta.lastUpdated` of a version at a mark, which counts as milliseconds since 1970. Two versions of one resource differ
/// although the reader was shown both at once.
#[must_use]
pub fn instant(mark: i64, version: u32) -> String {
    let time = Timestamp(mark).to_rfc3339();
    let version = version.min(VERSIONS);
    format!("{}{version:03}Z", time.trim_end_matches('Z'))
}

/// Whether an interval begins at an instant that the axis has not reached: the reader has it from a region that was
/// put back to an older copy since.
#[must_use]
pub fn is_ahead(interval: &Interval, head: i64) -> bool {
    let from = interval.from.unwrap_or(0);
    interval.until.is_none() && head.saturating_add(1) < from && from < CALENDAR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(marks: &[i64]) -> Axis {
        let mut axis = Axis::default();
        for mark in marks {
            assert!(axis.reach(*mark));
        }
        axis
    }

    #[test]
    fn a_resource_bears_the_first_mark_by_which_it_was_there() {
        let axis = axis(&[10, 20]);
        for (commit, mark) in [(1, 10), (10, 10), (11, 20), (20, 20), (21, 21)] {
            assert_eq!(axis.mark_of(commit), mark, "{commit}");
        }
        assert_eq!(instant(10, 1), "1970-01-01T00:00:00.010001Z");
        assert_eq!(instant(90_061_001, 12), "1970-01-02T01:01:01.001012Z");
        assert!(instant(10, 1) < instant(10, 2) && instant(10, 5_000) < instant(11, 1));
    }

    #[test]
    fn what_comes_after_an_instant_is_what_was_not_shown_by_then() {
        let axis = axis(&[10, 20]);
        let after = |mark: i64| Interval {
            from: Some(mark + 1),
            until: None,
        };
        // Of an instant that is no mark, from the mark before: shown again rather than never.
        for (instant, commits) in [(20, 20), (10, 10), (15, 10), (3, 0), (25, 20)] {
            let found = axis.commits(&after(instant));
            let expected = Commits {
                after: commits,
                until: None,
            };
            assert_eq!(found, expected, "{instant}");
        }
        let one = Interval {
            from: Some(20),
            until: Some(21),
        };
        let expected = Commits {
            after: 10,
            until: Some(20),
        };
        assert_eq!(axis.commits(&one), expected);
        assert!(is_ahead(&after(30), 20) && !is_ahead(&after(20), 20));
        assert!(!is_ahead(&after(CALENDAR), 20));
    }

    #[test]
    fn marks_are_few_and_only_grow() {
        let mut axis = Axis::default();
        for commit in 1..=10_000 {
            assert!(axis.reach(commit * 3));
            assert!(!axis.reach(commit * 3) && !axis.reach(1));
            assert_eq!(axis.last(), commit * 3);
            assert_eq!(Axis::of_text(&axis.to_text()).as_ref(), Some(&axis));
        }
        assert!(axis.0.len() <= MAX_MARKS);
        assert_eq!(axis.mark_of(29_998), 30_000);
        assert!(axis.mark_of(1) >= 3);
        for text in ["3,2", "x", "0,1", "2,2"] {
            assert_eq!(Axis::of_text(text), None, "{text}");
        }
        assert_eq!(Axis::of_text(""), Some(Axis::default()));
    }

    #[test]
    fn marks_are_gone_through_in_either_order_from_any_of_them() {
        let axis = axis(&[10, 20, 30]);
        let marks = |from, descending| {
            let steps = axis.steps(from, descending)?;
            let last = |step: Commits| step.until.unwrap_or(0) - step.after;
            assert!(steps.iter().all(|step| last(*step) == 10));
            Some(
                steps
                    .iter()
                    .filter_map(|step| step.until)
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(marks(None, false), Some(vec![10, 20, 30]));
        assert_eq!(marks(Some(20), true), Some(vec![20, 10]));
        assert_eq!(marks(Some(15), false), None);
    }
}
