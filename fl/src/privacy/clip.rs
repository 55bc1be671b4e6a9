//! Clipping of an update to a norm, in whole numbers, and the noise that belongs to that clip.
//!
//! A user never types a sensitivity and never types a noise: both follow from the clip. A sum of [`Clipped`] updates
//! moves by at most [`Clip::bound`] when one unit is added or removed, and [`Clip::noise`] is the only maker of
//! [`DiscreteGaussian`].
use super::discrete::DiscreteGaussian;

/// Why an update cannot be clipped, or a clip not be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClipError {
    /// The norm is no number above 0.
    #[error("a clip is a norm above 0, not {0}")]
    Norm(f64),
    /// Rounding could move an update by a good part of the clip.
    #[error(
        "{units} units of clip are too few for {coordinates} coordinates: at least {least} keep rounding below 1/64 of the clip"
    )]
    TooCoarse {
        /// Units of the clip.
        units: u64,
        /// Coordinates of an update.
        coordinates: usize,
        /// The least number of units.
        least: u64,
    },
    /// The clip has more units than the arithmetic of noise holds.
    #[error("a clip of {0} units is too fine: at most {max} can be noised", max = Clip::MAX_UNITS)]
    TooFine(u64),
    /// A coordinate is not finite.
    #[error("coordinate {0} of the update is no finite number")]
    NotFinite(usize),
    /// The update has another length than the clip is for.
    #[error("the update has {found} coordinates, not {wanted}")]
    Shape {
        /// Coordinates of the update.
        found: usize,
        /// Coordinates of the clip.
        wanted: usize,
    },
    /// The noise multiplier needs a variance that cannot be drawn.
    #[error(
        "a noise multiplier of {multiplier} on a clip of {units} units cannot be drawn: the standard deviation of what is drawn is from 1 unit (4 for each member's share) to 2^26"
    )]
    Noise {
        /// The noise multiplier.
        multiplier: f64,
        /// Units of the clip.
        units: u64,
    },
}

/// The L2 norm to which updates of a number of coordinates are clipped, and into how many units it is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    norm: f64,
    units: u64,
    coordinates: usize,
}

/// An update in units, whose L2 norm is at most [`Clip::bound`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clipped {
    values: Vec<i64>,
    scaled: bool,
}

impl Clip {
    /// The most units of a clip: with a noise multiplier of 16 its noise can still be drawn.
    pub const MAX_UNITS: u64 = 1 << 22;
    /// What rounding may take from a clip: a 64th.
    const ROUNDING: f64 = 64.0;

    /// A clip to `norm` (in the update's own unit), divided into `units`, of updates of `coordinates` numbers.
    ///
    /// # Errors
    /// [`ClipError`] when the norm is none, or the units are too few or too many.
    pub fn new(norm: f64, units: u64, coordinates: usize) -> Result<Self, ClipError> {
        if !(norm > 0.0 && norm.is_finite()) {
            return Err(ClipError::Norm(norm));
        }
        if units > Self::MAX_UNITS {
            return Err(ClipError::TooFine(units));
        }
        let least = (rounding(coordinates) * Self::ROUNDING).ceil() as u64;
        if units < least.max(1) {
            return Err(ClipError::TooCoarse {
                units,
                coordinates,
                least: least.max(1),
            });
        }
        Ok(Self {
            norm,
            units,
            coordinates,
        })
    }

    /// The norm, in the update's own unit.
    #[must_use]
    pub const fn norm(&self) -> f64 {
        self.norm
    }

    /// How many numbers an update has.
    #[must_use]
    pub const fn coordinates(&self) -> usize {
        self.coordinates
    }

    /// By how much one unit moves a sum at most, as an L2 norm in units of the fixed-point numbers.
    #[must_use]
    pub const fn bound(&self) -> u64 {
        self.units
    }

    /// Scales an update down to the norm where it is longer, and rounds it to units.
    ///
    /// Rounding adds at most √n/2 to the norm of n coordinates, which is taken off the clip before: no update is
    /// ever longer than [`Clip::bound`].
    ///
    /// # Errors
    /// [`ClipError::NotFinite`] names the first coordinate that is NaN or infinite; [`ClipError::Shape`].
    pub fn clip(&self, update: &[f32]) -> Result<Clipped, ClipError> {
        if update.len() != self.coordinates {
            return Err(ClipError::Shape {
                found: update.len(),
                wanted: self.coordinates,
            });
        }
        let length = norm(update);
        // Squares of 32-bit numbers are far below the largest 64-bit one: only what is no number makes the sum none.
        if !length.is_finite() {
            let index = update.iter().position(|value| !value.is_finite());
            return Err(ClipError::NotFinite(index.unwrap_or_default()));
        }
        // One unit in a thousand million less covers the rounding of the length itself.
        let room = (self.units as f64 - rounding(self.coordinates)) * (1.0 - 1e-9);
        let scale = self.units as f64 / self.norm;
        let scaled = length * scale > room;
        let factor = if scaled { room / length } else { scale };
        let unit = |value: &f32| nearest(f64::from(*value) * factor);
        Ok(Clipped {
            values: update.iter().map(unit).collect(),
            scaled,
        })
    }

    /// The norm to which each addend of a sum is clipped when the sum is rounded to units only once: the sum then moves
    /// by [`Clip::bound`] at most, as two sums that differ by one addend are rounded apart by a unit in each number.
    #[must_use]
    pub fn norm_of_addends(&self) -> f64 {
        let room = self.units as f64 - 2.0 * rounding(self.coordinates);
        room * (1.0 - 1e-9) * (self.norm / self.units as f64)
    }

    /// A sum of addends that were clipped to [`Clip::norm_of_addends`], in units.
    ///
    /// # Errors
    /// [`ClipError::NotFinite`]; [`ClipError::Shape`].
    pub fn sum_in_units(&self, sum: &[f64]) -> Result<Vec<i64>, ClipError> {
        if sum.len() != self.coordinates {
            return Err(ClipError::Shape {
                found: sum.len(),
                wanted: self.coordinates,
            });
        }
        if let Some(index) = sum.iter().position(|value| !value.is_finite()) {
            return Err(ClipError::NotFinite(index));
        }
        let scale = self.units as f64 / self.norm;
        Ok(sum.iter().map(|value| nearest(value * scale)).collect())
    }

    /// What a sum of units is in the update's own unit.
    #[must_use]
    pub fn value(&self, units: i64) -> f64 {
        units as f64 * (self.norm / self.units as f64)
    }

    /// The noise whose standard deviation is `multiplier` times the clip, rounded up to a whole variance.
    ///
    /// # Errors
    /// [`ClipError::Noise`] when it is less than a unit, more than can be drawn, or no number.
    pub fn noise(&self, multiplier: f64) -> Result<DiscreteGaussian, ClipError> {
        let variance = self.variance(multiplier)?;
        DiscreteGaussian::of_variance(variance).ok_or(self.refused(multiplier))
    }

    /// The variance of [`Clip::noise`], in squared units.
    fn variance(&self, multiplier: f64) -> Result<u64, ClipError> {
        let deviation = multiplier * self.units as f64;
        let variance = (deviation * deviation).ceil();
        // Below 2^53 every whole number is itself as a float.
        let fits = variance >= 1.0 && variance <= DiscreteGaussian::MAX_VARIANCE as f64;
        if fits && multiplier > 0.0 {
            Ok(variance as u64)
        } else {
            Err(self.refused(multiplier))
        }
    }

    const fn refused(&self, multiplier: f64) -> ClipError {
        ClipError::Noise {
            multiplier,
            units: self.units,
        }
    }

    /// The noise that each member adds before its update is masked, so that the sum of any `honest` members has all of
    /// [`Clip::noise`], whoever drops out: 1/`honest` of its variance, rounded up.
    ///
    /// `honest` is the quorum less those who may tell the region their own noise. The sum of discrete Gaussians is not
    /// one, but with a variance of 16 or more each it is within e^-150 of it (Kairouz, Liu, Steinke 2021,
    /// arXiv:2102.06387, theorem 1).
    ///
    /// # Errors
    /// [`ClipError::Noise`] when a share has less than a standard deviation of 4 units, or cannot be drawn.
    pub fn noise_share(&self, multiplier: f64, honest: u16) -> Result<DiscreteGaussian, ClipError> {
        let share = self.variance(multiplier)?.div_ceil(honest.max(1).into());
        if share < MIN_SHARE {
            return Err(self.refused(multiplier));
        }
        DiscreteGaussian::of_variance(share).ok_or(self.refused(multiplier))
    }
}

/// By how much a gradient of a norm is scaled down to a clip, where there is one. None where the norm is no number: models and
/// records may be such that squares of a gradient are beyond all numbers, and it adds nothing then. What is added is
/// never longer than the clip, whatever model a coordinator sends, and never no number, by which a record would be known.
#[must_use]
pub fn scaled_to(clip: Option<f64>, norm: f64) -> Option<f64> {
    match clip {
        None => Some(1.0),
        Some(clip) => norm.is_finite().then(|| (clip / norm).min(1.0)),
    }
}

/// The least variance of one member's share of the noise, in squared units.
const MIN_SHARE: u64 = 16;

/// The nearest whole number, halves away from 0, as [`f64::round`] has it: that one is a call of a library on processors which
/// have no instruction for it.
const fn nearest(value: f64) -> i64 {
    let whole = value as i64;
    let rest = value - whole as f64;
    let up = (rest >= 0.5) as i64 - (rest <= -0.5) as i64;
    whole.saturating_add(up)
}

/// The L2 norm of a vector, the same on every machine: four sums beside each other, as each addition of one would wait for
/// the last one.
pub(crate) fn norm(vector: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let mut sums = [0.0; 4];
    let (fours, rest) = vector.as_chunks::<4>();
    for four in fours {
        for (sum, value) in sums.iter_mut().zip(four) {
            *sum += square(*value);
        }
    }
    let rest: f64 = rest.iter().map(|value| square(*value)).sum();
    (sums.iter().sum::<f64>() + rest).sqrt()
}

/// What rounding each of `coordinates` numbers to units adds to a norm at most, in units.
fn rounding(coordinates: usize) -> f64 {
    0.5 * (coordinates as f64).sqrt()
}

impl Clipped {
    /// The update, in units.
    #[must_use]
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// The same, taken out.
    #[must_use]
    pub fn into_values(self) -> Vec<i64> {
        self.values
    }

    /// Whether the update was longer than the clip.
    #[must_use]
    pub const fn was_scaled(&self) -> bool {
        self.scaled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    proptest! {
        #[test]
        fn no_update_is_longer_than_the_clip(
            update in prop::collection::vec(-1e3_f32..1e3, 1..200),
            norm in 1e-3_f64..1e3,
        ) {
            let clip = Clip::new(norm, 1 << 12, update.len()).unwrap();
            let clipped = clip.clip(&update).unwrap();
            let square: i128 = clipped.values().iter().map(|v| i128::from(*v).pow(2)).sum();
            prop_assert!(square <= i128::from(clip.bound()).pow(2));
        }
    }

    #[test]
    fn the_nearest_whole_number_is_what_rounding_says() {
        let below_half = 0.499_999_999_999_999_94;
        for value in [
            0.0,
            -0.0,
            0.5,
            -0.5,
            1.5,
            2.5,
            -2.5,
            below_half,
            -below_half,
            1e300,
            -1e300,
        ] {
            assert_eq!(nearest(value), value.round() as i64, "{value}");
        }
        let mut random = StdRng::seed_from_u64(2);
        for _ in 0..20_000 {
            let value = random.random_range(-1.0..1.0) * 2_f64.powi(random.random_range(-3..60));
            assert_eq!(nearest(value), value.round() as i64, "{value}");
        }
    }

    #[test]
    fn a_short_update_is_kept_to_half_a_unit() {
        let clip = Clip::new(2.0, 1 << 16, 3).unwrap();
        let update = [0.5, -0.25, 1.0];
        let clipped = clip.clip(&update).unwrap();
        assert!(!clipped.was_scaled());
        for (value, units) in update.iter().zip(clipped.values()) {
            assert!((f64::from(*value) - clip.value(*units)).abs() <= clip.value(1));
        }
        assert!(clip.clip(&[3.0, 4.0, 0.0]).unwrap().was_scaled());
    }

    #[test]
    fn what_is_no_number_or_of_another_shape_is_refused_with_its_place() {
        let clip = Clip::new(1.0, 1024, 3).unwrap();
        assert_eq!(
            clip.clip(&[0.0, f32::NAN, 0.0]),
            Err(ClipError::NotFinite(1))
        );
        let infinite = [0.0, 0.0, f32::NEG_INFINITY];
        assert_eq!(clip.clip(&infinite), Err(ClipError::NotFinite(2)));
        assert_eq!(
            clip.clip(&[0.0]),
            Err(ClipError::Shape {
                found: 1,
                wanted: 3
            })
        );
        assert!(matches!(
            Clip::new(f64::NAN, 1024, 3),
            Err(ClipError::Norm(_))
        ));
        assert!(matches!(
            Clip::new(1.0, 31, 3),
            Err(ClipError::TooCoarse { least: 56, .. })
        ));
        assert!(matches!(
            Clip::new(1.0, u64::MAX, 3),
            Err(ClipError::TooFine(_))
        ));
    }

    #[test]
    fn the_noise_is_never_less_than_the_multiplier_says() {
        let clip = Clip::new(0.1, 1000, 4).unwrap();
        for multiplier in [0.001, 0.7, 1.0, 1.1, 16.0] {
            let noise = clip.noise(multiplier).unwrap();
            let deviation = (noise.variance() as f64).sqrt();
            assert!(deviation >= multiplier * 1000.0 * (1.0 - 1e-15));
        }
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e6] {
            assert!(clip.noise(wrong).is_err(), "{wrong}");
        }
        let share = clip.noise_share(1.0, 7).unwrap();
        assert!(7 * share.variance() >= clip.noise(1.0).unwrap().variance());
        assert!(clip.noise_share(0.003, 1).is_err(), "3 units");
    }
}
