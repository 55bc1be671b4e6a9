//! What a site sends: its update in whole numbers modulo 2^32, clipped, weighted, and with its share of the noise; and
//! what the sum of them means.
//!
//! Whole numbers make a sum that is the same in whatever order updates arrive. That it fits into 32 bits is decided
//! when the study is planned ([`crate::study::Bits`]).
use crate::{
    privacy::{
        clip::{Clip, ClipError, norm},
        discrete::DiscreteGaussian,
    },
    study::{AdaptiveClip, Compression},
};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

/// How updates of a study are written as whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateCodec {
    clip: Clip,
    /// The clip of the control that `scaffold` sends beside the update.
    control: Option<Clip>,
    compression: Option<Compression>,
    weighted: bool,
    /// Whether it is said if the update was within the clip.
    adaptive: bool,
}

/// Why an update cannot be written or a sum not be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpdateError {
    /// The update cannot be clipped.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// The weight is none.
    #[error("a weight is above 0 and at most 1, not {0}")]
    Weight(f64),
    /// The sum has another length.
    #[error("the sum has {found} numbers, not {wanted}")]
    Shape {
        /// Numbers of the sum.
        found: usize,
        /// Numbers that it has to have.
        wanted: usize,
    },
    /// The sum is larger than that of so many members can be.
    #[error("the sum of {members} has a norm of {found:.0} units, and {most:.0} at most")]
    Scaled {
        /// Of how many it is said to be.
        members: u32,
        /// Its norm, in units.
        found: f64,
        /// The largest norm that it can have, in units.
        most: f64,
    },
    /// There is nothing to divide by.
    #[error("the sum is of nobody")]
    Nobody,
}

/// What the sum of a round says.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean {
    /// The mean of the updates; behind it that of the changes of controls, for `scaffold`.
    pub update: Vec<f32>,
    /// Which share of the members was within an adaptive clip, as far as the noise tells; it can be below 0 or above 1.
    pub within: Option<f64>,
}

/// What a site keeps of one update for the next one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Its control, for `scaffold`.
    #[serde(with = "crate::exact::single")]
    pub control: Vec<f32>,
    /// What rounding and range took, where updates are compressed.
    #[serde(with = "crate::exact::single")]
    pub residual: Vec<f32>,
}

impl UpdateCodec {
    /// Updates that are clipped by `clip`; `weighted` by a number from 0 to 1, or all the same.
    #[must_use]
    pub const fn new(clip: Clip, weighted: bool) -> Self {
        Self {
            clip,
            control: None,
            compression: None,
            weighted,
            adaptive: false,
        }
    }

    /// With a control beside each update.
    #[must_use]
    pub const fn with_control(mut self, clip: Option<Clip>) -> Self {
        self.control = clip;
        self
    }

    /// With coarse numbers.
    #[must_use]
    pub const fn with_compression(mut self, compression: Option<Compression>) -> Self {
        self.compression = compression;
        self
    }

    /// With a word on whether an update was within the clip.
    #[must_use]
    pub const fn with_adaptive(mut self, adaptive: bool) -> Self {
        self.adaptive = adaptive;
        self
    }

    /// How many numbers an update has: those of its vectors, one for the weight and one for the word on the clip, where
    /// there are such.
    #[must_use]
    pub const fn numbers(&self) -> usize {
        self.coordinates() + self.weighted as usize + self.adaptive as usize
    }

    /// Numbers of the vectors alone.
    const fn coordinates(&self) -> usize {
        let vectors = if self.control.is_some() { 2 } else { 1 };
        self.clip.coordinates() * vectors
    }

    /// The clip of updates.
    #[must_use]
    pub const fn clip(&self) -> &Clip {
        &self.clip
    }

    /// Writes an update of a weight in (0, 1], which is 1 where all are the same. `noise`: this site's share, drawn
    /// from a cryptographic generator.
    ///
    /// # Errors
    /// [`UpdateError::Clip`] for what is no number or of another length; [`UpdateError::Weight`].
    pub fn encode<R: CryptoRng>(
        &self,
        update: &[f32],
        weight: f64,
        noise: Option<(&DiscreteGaussian, &mut R)>,
    ) -> Result<Vec<u32>, UpdateError> {
        let usual = self.weighted || weight == 1.0;
        if !(weight > 0.0 && weight <= 1.0 && usual) {
            return Err(UpdateError::Weight(weight));
        }
        if update.len() != self.coordinates() {
            return Err(UpdateError::Shape {
                found: update.len(),
                wanted: self.coordinates(),
            });
        }
        let (own, control) = update.split_at(self.clip.coordinates());
        let mut numbers = clipped(&self.clip, own, weight)?;
        if let Some(clip) = &self.control {
            numbers.extend(clipped(clip, control, weight)?);
        }
        if self.weighted {
            numbers.push((weight * self.clip.bound() as f64).round() as i64);
        }
        if self.adaptive {
            let within = norm(own) <= self.clip.norm();
            numbers.push(if within { self.word() } else { -self.word() });
        }
        if let Some((noise, random)) = noise {
            noise.add_to(&mut numbers, random);
        }
        // Modulo 2^32: a negative number is its complement.
        Ok(numbers.into_iter().map(|number| number as u32).collect())
    }

    /// Writes an update in coarse numbers, with what was left of the one before; returns what is left of this one.
    ///
    /// # Errors
    /// As of [`UpdateCodec::encode`].
    pub fn compress(
        &self,
        compression: Compression,
        update: &[f32],
        residual: &[f32],
    ) -> Result<(Vec<u32>, Vec<f32>), UpdateError> {
        // The norm is bounded as without compression, and what is no number is refused.
        self.clip.clip(update)?;
        let factor = (self.clip.norm() / norm(update)).min(1.0);
        let (most, step) = (compression.most() as f64, compression.step());
        let left = residual.iter().copied().chain(std::iter::repeat(0.0));
        let one = |(value, left): (&f32, f32)| {
            let whole = f64::from(*value) * factor + f64::from(left);
            let number = (whole / step).round().clamp(-most, most);
            let left = (whole - number * step) as f32;
            (
                number as i64 as u32,
                if left.is_finite() { left } else { 0.0 },
            )
        };
        Ok(update.iter().zip(left).map(one).unzip())
    }

    /// The length of the word on the clip, in units.
    fn word(&self) -> i64 {
        (self.clip.bound() / AdaptiveClip::SHARE).cast_signed()
    }

    /// The mean of updates whose sum modulo 2^32 (in units of the clip, [`UpdateCodec::numbers`] of them) it is, of
    /// `members` of them: weighted where they are. It is in the updates' own unit, a number for each of the model.
    ///
    /// # Errors
    /// [`UpdateError::Shape`] when the sum has another length; [`UpdateError::Nobody`] when members or weights are 0.
    pub fn mean(&self, sum: &[u32], members: u16) -> Result<Vec<f32>, UpdateError> {
        let whole: Vec<_> = sum
            .iter()
            .map(|number| i64::from(number.cast_signed()))
            .collect();
        self.mean_of(&whole, members.into())
    }

    /// The mean of updates whose sum it is, of several regions perhaps: weighted where they are.
    ///
    /// # Errors
    /// As of [`UpdateCodec::mean`].
    pub fn mean_of(&self, sum: &[i64], members: u32) -> Result<Vec<f32>, UpdateError> {
        Ok(self.read(sum, members)?.update)
    }

    /// The same, with everything else that the sum says.
    ///
    /// # Errors
    /// As of [`UpdateCodec::mean`].
    pub fn read(&self, sum: &[i64], members: u32) -> Result<Mean, UpdateError> {
        if sum.len() != self.numbers() {
            return Err(UpdateError::Shape {
                found: sum.len(),
                wanted: self.numbers(),
            });
        }
        let (values, behind) = sum.split_at(self.coordinates());
        let (divisor, within) = self.said(behind, members)?;
        let (own, control) = values.split_at(self.clip.coordinates());
        let of = |clip: &Clip, numbers: &[i64]| -> Vec<f32> {
            let value = |number: &i64| (self.value(clip, *number) / divisor) as f32;
            numbers.iter().map(value).collect()
        };
        let mut update = of(&self.clip, own);
        if let Some(clip) = &self.control {
            update.extend(of(clip, control));
        }
        Ok(Mean { update, within })
    }

    /// By what a sum of so many members is divided, and which share of them was within an adaptive clip, as the numbers
    /// say that are behind its vectors.
    pub(crate) fn said(
        &self,
        behind: &[i64],
        members: u32,
    ) -> Result<(f64, Option<f64>), UpdateError> {
        let divisor = match behind.first().filter(|_| self.weighted) {
            Some(weight) => *weight as f64 / self.clip.bound() as f64,
            None => f64::from(members),
        };
        if members == 0 || divisor <= 0.0 {
            return Err(UpdateError::Nobody);
        }
        let within = behind.last().filter(|_| self.adaptive).map(|words| {
            let each = *words as f64 / self.word().max(1) as f64 / f64::from(members);
            f64::midpoint(each, 1.0)
        });
        Ok((divisor, within))
    }

    /// The mean of a part of the updates, of their sum.
    pub(crate) fn values(&self, sum: &[i64], divisor: f64) -> Vec<f32> {
        let value = |number: &i64| (self.value(&self.clip, *number) / divisor) as f32;
        sum.iter().map(value).collect()
    }

    /// Sees the next numbers of a sum of updates without a control.
    pub(crate) fn see(&self, seen: &mut Seen, numbers: impl Iterator<Item = i64>) {
        for number in numbers {
            seen.largest = seen.largest.max(number.unsigned_abs());
            if seen.numbers < self.coordinates() {
                seen.square += (number as f64) * (number as f64);
            } else {
                seen.behind.push(number);
            }
            seen.numbers += 1;
        }
    }

    /// [`UpdateCodec::bounded`] of a sum that was seen number by number.
    pub(crate) fn bounded_as(&self, seen: &Seen, members: u32) -> Result<(), UpdateError> {
        if seen.numbers != self.numbers() {
            return Err(UpdateError::Shape {
                found: seen.numbers,
                wanted: self.numbers(),
            });
        }
        self.weight_bounded(&seen.behind, members)?;
        let most = f64::from(members) * self.clip.bound() as f64;
        scaled(members, seen.square.sqrt(), most)
    }

    fn weight_bounded(&self, behind: &[i64], members: u32) -> Result<(), UpdateError> {
        if self.weighted {
            let weight = behind.first().copied().unwrap_or_default() as f64;
            let most = f64::from(members) * self.clip.bound() as f64;
            scaled(members, weight, most)?;
            scaled(members, -weight, 0.0)?;
        }
        Ok(())
    }

    fn value(&self, clip: &Clip, number: i64) -> f64 {
        match self.compression {
            Some(compression) => number as f64 * compression.step(),
            None => clip.value(number),
        }
    }

    /// Refuses a sum that is longer than that of so many members can be, each within its bound and its weight.
    ///
    /// It is not for sums that have noise in them.
    ///
    /// # Errors
    /// [`UpdateError::Shape`]; [`UpdateError::Scaled`].
    pub fn bounded(&self, sum: &[i64], members: u32) -> Result<(), UpdateError> {
        if sum.len() != self.numbers() {
            return Err(UpdateError::Shape {
                found: sum.len(),
                wanted: self.numbers(),
            });
        }
        let bound = self.clip.bound() as f64;
        let (values, behind) = sum.split_at(self.coordinates());
        self.weight_bounded(behind, members)?;
        if let Some(compression) = self.compression {
            let largest = values.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0);
            let most = f64::from(members) * compression.most() as f64;
            return scaled(members, largest as f64, most);
        }
        for vector in values.chunks(self.clip.coordinates().max(1)) {
            scaled(members, length(vector), f64::from(members) * bound)?;
        }
        Ok(())
    }

    /// The largest sum of so many members that is no longer than `most` units: [`UpdateCodec::bounded`] made true.
    /// Whether anything was changed.
    pub fn bound(&self, numbers: &mut [i64], most: f64) -> bool {
        let coordinates = self.clip.coordinates().max(1);
        let mut changed = false;
        for vector in numbers
            .chunks_mut(coordinates)
            .take(self.coordinates() / coordinates)
        {
            let long = length(vector);
            if long > most {
                changed = true;
                let factor = most / long;
                // Towards 0, so that rounding makes nothing longer.
                vector
                    .iter_mut()
                    .for_each(|number| *number = (*number as f64 * factor).trunc() as i64);
            }
        }
        changed
    }
}

/// What is seen of a sum, number by number.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    numbers: usize,
    /// The square of the vector's length.
    square: f64,
    /// The largest number, without its sign.
    pub(crate) largest: u64,
    /// The numbers behind the vector.
    pub(crate) behind: Vec<i64>,
}

const fn scaled(members: u32, found: f64, most: f64) -> Result<(), UpdateError> {
    if found <= most {
        Ok(())
    } else {
        Err(UpdateError::Scaled {
            members,
            found,
            most,
        })
    }
}

fn length(vector: &[i64]) -> f64 {
    let square = |value: &i64| (*value as f64) * (*value as f64);
    vector.iter().map(square).sum::<f64>().sqrt()
}

/// A vector in units, clipped and weighted: no site contributes more than its weight of the clip.
fn clipped(clip: &Clip, vector: &[f32], weight: f64) -> Result<Vec<i64>, UpdateError> {
    if weight >= 1.0 {
        return Ok(clip.clip(vector)?.into_values());
    }
    let factor = weight * (clip.norm() / norm(vector)).min(1.0);
    let scaled: Vec<f32> = vector
        .iter()
        .map(|value| (f64::from(*value) * factor) as f32)
        .collect();
    Ok(clip.clip(&scaled)?.into_values())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    type NoNoise<'a> = Option<(&'a DiscreteGaussian, &'a mut StdRng)>;

    fn add(sum: &mut [u32], numbers: &[u32]) {
        for (sum, number) in sum.iter_mut().zip(numbers) {
            *sum = sum.wrapping_add(*number);
        }
    }

    #[test]
    fn the_sum_of_a_thousand_updates_at_their_bound_reads_back_exactly() {
        for members in [10_u16, 100, 1000] {
            let clip = Clip::new(1.0, 1 << 21, 2).unwrap();
            let codec = UpdateCodec::new(clip, false);
            for update in [[1.0, 0.0], [0.0, -1.0]] {
                let numbers = codec.encode(&update, 1.0, NoNoise::None).unwrap();
                let mut sum = vec![0; 2];
                (0..members).for_each(|_| add(&mut sum, &numbers));
                let mean = codec.mean(&sum, members).unwrap();
                for (mean, value) in mean.iter().zip(update) {
                    assert!((mean - value).abs() < 1e-5, "{members}: {mean}");
                }
            }
        }
    }

    #[test]
    fn a_weighted_mean_is_that_of_the_records() {
        let codec = UpdateCodec::new(Clip::new(4.0, 1 << 20, 2).unwrap(), true);
        let mut sum = vec![0; 3];
        for (update, weight) in [([1.0, 2.0], 1.0), ([-3.0, 0.5], 0.25)] {
            add(
                &mut sum,
                &codec.encode(&update, weight, NoNoise::None).unwrap(),
            );
        }
        let mean = codec.mean(&sum, 2).unwrap();
        assert!(
            (mean[0] - 0.2).abs() < 1e-4 && (mean[1] - 1.7).abs() < 1e-4,
            "{mean:?}"
        );
        for wrong in [0.0, -0.5, 1.5, f64::NAN] {
            assert!(
                codec.encode(&[0.0, 0.0], wrong, NoNoise::None).is_err(),
                "{wrong}"
            );
        }
        assert_eq!(codec.mean(&[0, 0, 0], 2), Err(UpdateError::Nobody));
        assert!(matches!(
            codec.mean(&[0, 0], 2),
            Err(UpdateError::Shape { .. })
        ));
    }

    #[test]
    fn the_shares_of_a_quorum_are_all_of_the_noise() {
        let clip = Clip::new(1.0, 1 << 12, 1000).unwrap();
        let codec = UpdateCodec::new(clip, false);
        let share = clip.noise_share(2.0, 5).unwrap();
        let mut random = StdRng::seed_from_u64(11);
        let mut sum = vec![0; 1000];
        for _ in 0..5 {
            let zeros = vec![0.0; 1000];
            add(
                &mut sum,
                &codec
                    .encode(&zeros, 1.0, Some((&share, &mut random)))
                    .unwrap(),
            );
        }
        let square: f64 = sum.iter().map(|n| f64::from(*n as i32).powi(2)).sum();
        let deviation = (square / 1000.0).sqrt() / 4096.0;
        // Twice the clip; the estimate's own deviation is 2/√2000 = 0.045, five of them.
        assert!((deviation - 2.0).abs() < 0.23, "{deviation}");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let codec = UpdateCodec::new(Clip::new(1.0, 1024, 2).unwrap(), false);
        let found = codec.encode(&[0.0, f32::INFINITY], 1.0, NoNoise::None);
        assert_eq!(found, Err(UpdateError::Clip(ClipError::NotFinite(1))));
        let weighted = UpdateCodec::new(*codec.clip(), true);
        for wrong in [f32::NEG_INFINITY, f32::NAN] {
            let found = weighted.encode(&[0.5, wrong], 0.5, NoNoise::None);
            assert_eq!(found, Err(UpdateError::Clip(ClipError::NotFinite(1))));
        }
    }
}
