//! Updates that a region sees one by one: checked as they come, and made one by the study's strategy.
//!
//! It is for studies without secure aggregation, which facilities have to allow. What is released is a sum of whole
//! numbers of so many members, like that of secure aggregation, so that regions can be added: of a median or a trimmed
//! mean it is the region's own, times its members. Over several regions the result is the mean of the regions' medians,
//! weighted by their members; only sums leave a region.
use crate::{
    judge,
    order::Aim,
    secagg::Member,
    study::{Strategy, Study},
    update::{UpdateCodec, UpdateError},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most records of one label that a site counts in a bin.
const MOST_COUNTED: i64 = 1 << 21;

/// What becomes of updates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Rule {
    /// They are added.
    Sum,
    /// They are scaled down to so many units, and added.
    Bound(#[serde(deserialize_with = "crate::exact::number")] f64),
    /// In each coordinate this share of the least and of the largest is left out; 0.5 for the median.
    Trimmed(#[serde(deserialize_with = "crate::exact::number")] f64),
    /// Counts, which are added.
    Counts,
}

/// The updates of a region's round, one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plain {
    rule: Rule,
    length: usize,
    /// Their sum, where they are added: no update is kept then.
    sum: Vec<i64>,
    /// The updates themselves, where a coordinate is looked at of all of them.
    kept: BTreeMap<Member, Vec<i64>>,
}

/// Why an update is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotTaken {
    /// It is none, or too large.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// It is no count of scores.
    #[error("{0} numbers are no counts of scores")]
    Counts(usize),
}

impl Plain {
    /// For a round of a study.
    #[must_use]
    pub fn new(study: &Study, aim: Aim, codec: &UpdateCodec) -> Self {
        let units = codec.clip().bound() as f64 / codec.clip().norm();
        let rule = match (aim, &study.training.strategy) {
            (Aim::Judge, _) => Rule::Counts,
            (Aim::Train, Strategy::Median {}) => Rule::Trimmed(0.5),
            (Aim::Train, Strategy::TrimmedMean { share }) => Rule::Trimmed(*share),
            (Aim::Train, Strategy::NormBound { norm }) => Rule::Bound((norm * units).floor()),
            (Aim::Train, _) => Rule::Sum,
        };
        let length = match aim {
            Aim::Judge => judge::numbers(study),
            Aim::Train => codec.numbers(),
        };
        Self {
            rule,
            length,
            sum: vec![0; length],
            kept: BTreeMap::new(),
        }
    }

    /// Takes a member's update. Whether it was scaled down to the norm of the study.
    ///
    /// # Errors
    /// [`NotTaken`] when it has another length, is longer than any honest update, or is no count. Nothing is changed.
    pub fn take(
        &mut self,
        member: Member,
        numbers: &[u32],
        codec: &UpdateCodec,
    ) -> Result<bool, NotTaken> {
        let mut whole: Vec<i64> = numbers
            .iter()
            .map(|number| i64::from(number.cast_signed()))
            .collect();
        if whole.len() != self.length {
            let (found, wanted) = (whole.len(), self.length);
            return Err(UpdateError::Shape { found, wanted }.into());
        }
        let mut scaled = false;
        match self.rule {
            Rule::Counts => {
                let counts = |number: &i64| (0..=MOST_COUNTED).contains(number);
                if !whole.iter().all(counts) {
                    return Err(NotTaken::Counts(self.length));
                }
            }
            Rule::Bound(most) => scaled = codec.bound(&mut whole, most),
            Rule::Sum | Rule::Trimmed(_) => {}
        }
        if self.rule != Rule::Counts {
            codec.bounded(&whole, 1)?;
        }
        if matches!(self.rule, Rule::Trimmed(_)) {
            self.kept.insert(member, whole);
        } else {
            self.sum
                .iter_mut()
                .zip(whole)
                .for_each(|(sum, number)| *sum += number);
        }
        Ok(scaled)
    }

    /// What is released, modulo 2^32.
    #[must_use]
    pub fn sum(&self) -> Vec<u32> {
        let sum: Vec<i64> = match self.rule {
            Rule::Trimmed(share) => (0..self.length).map(|at| self.middle(at, share)).collect(),
            Rule::Sum | Rule::Bound(_) | Rule::Counts => self.sum.clone(),
        };
        // That a sum fits is decided when the study is planned.
        sum.into_iter().map(|number| number as u32).collect()
    }

    /// The mean of a coordinate without the least and the largest, times the number of members, to the nearest unit.
    fn middle(&self, at: usize, share: f64) -> i64 {
        let mut column: Vec<i64> = self
            .kept
            .values()
            .filter_map(|update| update.get(at).copied())
            .collect();
        column.sort_unstable();
        let members = column.len();
        let most = members.saturating_sub(1) / 2;
        let cut = ((members as f64 * share).floor() as usize).min(most);
        let kept = column.get(cut..members - cut).unwrap_or(&column);
        let (sum, count) = (kept.iter().sum::<i64>(), kept.len().max(1) as i64);
        // To the nearest unit, halves away from 0.
        let twice = 2 * sum * members as i64;
        (twice + twice.signum() * count) / (2 * count)
    }
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
