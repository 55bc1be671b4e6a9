//! What a site sends: its update in whole numbers modulo 2^32, clipped, weighted, and with its share of the noise; and
//! what the sum of them means.
//!
//! Whole numbers make a sum that is the same in whatever order updates arrive. That it fits into 32 bits is decided
//! when the study is planned ([`crate::study::Bits`]).
use crate::privacy::{
    clip::{Clip, ClipError},
    discrete::DiscreteGaussian,
};
use rand::CryptoRng;

/// How updates of a study are written as whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateCodec {
    clip: Clip,
    weighted: bool,
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
    /// There is nothing to divide by.
    #[error("the sum is of nobody")]
    Nobody,
}

impl UpdateCodec {
    /// Updates that are clipped by `clip`; `weighted` by a number from 0 to 1, or all the same.
    #[must_use]
    pub const fn new(clip: Clip, weighted: bool) -> Self {
        Self { clip, weighted }
    }

    /// How many numbers an update has: those of the model, and one for the weight where there is one.
    #[must_use]
    pub const fn numbers(&self) -> usize {
        self.clip.coordinates() + self.weighted as usize
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
        // The weight scales what the clip has left: no site contributes more than its weight of the clip.
        let length = update
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt();
        let factor = weight * (self.clip.norm() / length).min(1.0);
        let scaled: Vec<f32>;
        let clipped = if weight < 1.0 && factor.is_finite() {
            scaled = update
                .iter()
                .map(|value| (f64::from(*value) * factor) as f32)
                .collect();
            self.clip.clip(&scaled)?
        } else {
            self.clip.clip(update)?
        };
        let mut numbers: Vec<i64> = clipped.values().to_vec();
        if let Some((noise, random)) = noise {
            numbers
                .iter_mut()
                .for_each(|number| *number += noise.draw(random));
        }
        if self.weighted {
            numbers.push((weight * self.clip.bound() as f64).round() as i64);
        }
        // Modulo 2^32: a negative number is its complement.
        Ok(numbers.into_iter().map(|number| number as u32).collect())
    }

    /// The mean of updates whose sum modulo 2^32 it is, of `members` of them: weighted where they are.
    ///
    /// # Errors
    /// [`UpdateError::Shape`]; [`UpdateError::Nobody`] when members or weights are 0.
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
        if sum.len() != self.numbers() {
            return Err(UpdateError::Shape {
                found: sum.len(),
                wanted: self.numbers(),
            });
        }
        let (values, weight) = sum.split_at(self.clip.coordinates());
        let divisor = match weight.first() {
            Some(weight) => *weight as f64 / self.clip.bound() as f64,
            None => f64::from(members),
        };
        if members == 0 || divisor <= 0.0 {
            return Err(UpdateError::Nobody);
        }
        let value = |number: &i64| (self.clip.value(*number) / divisor) as f32;
        Ok(values.iter().map(value).collect())
    }
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
    }
}
