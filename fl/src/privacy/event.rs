//! What the accountant accounts for.
use serde::{Deserialize, Serialize};

/// Parameters that the accountant does not take.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidEvent {
    /// The sampling probability is not one.
    #[error("a sampling probability is from {min:e} to 1, not {0}", min = Event::MIN_SAMPLING)]
    Sampling(f64),
    /// The noise is too small or too large to be accounted for.
    #[error("a noise multiplier is from {min} to {max}, not {0}", min = Event::MIN_NOISE, max = Event::MAX_NOISE)]
    Noise(f64),
    /// There are too many steps, or none.
    #[error("a mechanism is used from 1 to {max} times, not {0}", max = Event::MAX_STEPS)]
    Steps(u64),
    /// The delta is not a small probability.
    #[error("a delta is from {min:e} to {max}, not {0:e}", min = Delta::MIN, max = Delta::MAX)]
    Delta(f64),
}

/// A Gaussian mechanism of sensitivity 1 on a Poisson sample, used a number of times.
///
/// In each step every unit is in the sample with probability `sampling`, independently of all others; the mechanism
/// adds a Gaussian of standard deviation `noise_multiplier` (in units of the clip) to each coordinate of the sum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Event {
    sampling: f64,
    noise_multiplier: f64,
    steps: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    sampling: f64,
    noise_multiplier: f64,
    steps: u64,
}

impl Event {
    /// The least sampling probability: one unit of a thousand million.
    pub const MIN_SAMPLING: f64 = 1e-9;
    /// The least noise multiplier. Below it a single step spends an ε of thousands: there is nothing to protect.
    pub const MIN_NOISE: f64 = 0.01;
    /// The largest noise multiplier: beyond it nothing is learnt from any number of units that there are.
    pub const MAX_NOISE: f64 = 1e6;
    /// The most steps: a year of thirty a second.
    pub const MAX_STEPS: u64 = 1_000_000_000;

    /// An event.
    ///
    /// # Errors
    /// [`InvalidEvent`] names the parameter that is out of its range; what is not a number is out of every range.
    pub fn new(sampling: f64, noise_multiplier: f64, steps: u64) -> Result<Self, InvalidEvent> {
        if !(Self::MIN_SAMPLING..=1.0).contains(&sampling) {
            return Err(InvalidEvent::Sampling(sampling));
        }
        if !(Self::MIN_NOISE..=Self::MAX_NOISE).contains(&noise_multiplier) {
            return Err(InvalidEvent::Noise(noise_multiplier));
        }
        if !(1..=Self::MAX_STEPS).contains(&steps) {
            return Err(InvalidEvent::Steps(steps));
        }
        Ok(Self {
            sampling,
            noise_multiplier,
            steps,
        })
    }

    /// The probability with which a unit is in the sample of a step.
    #[must_use]
    pub const fn sampling(&self) -> f64 {
        self.sampling
    }

    /// Standard deviation of the noise, in units of the clip.
    #[must_use]
    pub const fn noise_multiplier(&self) -> f64 {
        self.noise_multiplier
    }

    /// How many times the mechanism is used.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }
}

impl TryFrom<Fields> for Event {
    type Error = InvalidEvent;

    fn try_from(fields: Fields) -> Result<Self, InvalidEvent> {
        Self::new(fields.sampling, fields.noise_multiplier, fields.steps)
    }
}

impl From<Event> for Fields {
    fn from(event: Event) -> Self {
        Self {
            sampling: event.sampling,
            noise_multiplier: event.noise_multiplier,
            steps: event.steps,
        }
    }
}

/// The probability with which the promise of ε may fail.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Delta(f64);

impl Delta {
    /// The least delta that the arithmetic carries with four correct digits of ε.
    pub const MIN: f64 = 1e-15;
    /// The largest delta. A larger one promises nothing to one in ten.
    pub const MAX: f64 = 0.1;

    /// A delta.
    ///
    /// # Errors
    /// [`InvalidEvent::Delta`] when it is out of its range or no number.
    pub fn new(delta: f64) -> Result<Self, InvalidEvent> {
        if (Self::MIN..=Self::MAX).contains(&delta) {
            Ok(Self(delta))
        } else {
            Err(InvalidEvent::Delta(delta))
        }
    }

    /// The probability.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Delta {
    type Error = InvalidEvent;

    fn try_from(delta: f64) -> Result<Self, InvalidEvent> {
        Self::new(delta)
    }
}

impl From<Delta> for f64 {
    fn from(delta: Delta) -> Self {
        delta.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_or_no_number_is_refused_by_its_name() {
        for wrong in [0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY, 1e-10] {
            let found = Event::new(wrong, 1.0, 1).unwrap_err().to_string();
            assert!(found.starts_with("a sampling probability"), "{found}");
        }
        for wrong in [0.0, -1.0, 0.009, f64::NAN, f64::INFINITY] {
            let found = Event::new(0.1, wrong, 1).unwrap_err().to_string();
            assert!(found.starts_with("a noise multiplier"), "{found}");
        }
        for wrong in [0, Event::MAX_STEPS + 1] {
            assert_eq!(Event::new(0.1, 1.0, wrong), Err(InvalidEvent::Steps(wrong)));
        }
        for wrong in [0.0, 1e-16, 0.2, 1.0, f64::NAN] {
            assert!(Delta::new(wrong).is_err(), "{wrong}");
        }
    }
}
