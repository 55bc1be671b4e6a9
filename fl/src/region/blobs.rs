//! What a region does of a round whose updates are blobs: it waits until all of one is here, and has the sum made of their
//! files when everybody has opened.
use super::RegionRound;
use crate::{
    large::{Summing, Vector},
    order::Answer,
    round::{self, Step},
    wire,
};
use types::FacilityId;

/// Numbers, or the blob that they are.
type Numbers = (Vec<u32>, Option<Vector>);

impl RegionRound {
    /// The blob that an answer of a facility announces, if it is one that the round waits for: the answer counts once all
    /// of it is here ([`RegionRound::take`]). Any other answer is taken at once.
    #[must_use]
    pub fn awaits(&self, from: &FacilityId, answer: &Answer) -> Option<Vector> {
        let vector = answer.large()?;
        let found = self.members.iter().find(|(_, facility)| *facility == from);
        let waits = self.is_running()
            && self.round.step() == Step::Train
            && found.is_some_and(|(member, _)| self.round.missing().contains(member))
            && self.large.is_some_and(|numbers| vector.has(numbers));
        waits.then_some(vector)
    }

    /// What the sum is made of, where updates are blobs: once everybody has opened, and it was not made.
    #[must_use]
    pub fn summing(&self) -> Option<Result<Summing, String>> {
        let is_due = *self.round.outcome() == round::Outcome::Done && self.summed.is_none();
        let numbers = self.large.filter(|_| is_due)?;
        let masks = self.sums.masks();
        Some(match masks {
            Err(refused) => Err(self.named(&refused.to_string())),
            Ok(masks) => Ok(Summing {
                vectors: self.vectors.values().copied().collect(),
                masks,
                numbers: numbers as u64,
            }),
        })
    }

    /// The sum of blobs is made, or cannot be.
    pub fn was_summed(&mut self, sum: Result<Vector, String>) {
        self.summed.get_or_insert(sum);
    }

    /// The sum, or why there is none; nothing until it is made of blobs.
    pub(super) fn sum(&self) -> Option<Result<Numbers, String>> {
        if self.large.is_some() {
            let summed = self.summed.clone()?;
            return Some(summed.map(|vector| (Vec::new(), Some(vector))));
        }
        if let Some(plain) = &self.plain {
            return Some(Ok((plain.sum(), None)));
        }
        // Of fewer bits only those of the sum are its own.
        let width = self.width.unwrap_or_default();
        let signed = |sum: Vec<u32>| sum.into_iter().map(|n| wire::with_sign(n, width)).collect();
        Some(match self.sums.sum() {
            Ok(sum) => Ok((signed(sum), None)),
            Err(refused) => Err(self.named(&refused.to_string())),
        })
    }
}
