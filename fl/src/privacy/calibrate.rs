//! The least noise with which a plan keeps its ε.
use super::{
    accountant::{epsilon, epsilon_by_rdp},
    event::{Delta, Event, InvalidEvent},
};

/// Why no noise can be found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Impossible {
    /// What was spent before leaves nothing, or the target is too small for any noise that there is.
    #[error("an epsilon of {target} cannot be kept: {least:.4} is spent even with a noise multiplier of {max}", max = Event::MAX_NOISE)]
    Target {
        /// The ε that was asked for.
        target: f64,
        /// The least ε that can be had.
        least: f64,
    },
    /// A parameter is out of its range.
    #[error(transparent)]
    Event(#[from] InvalidEvent),
    /// The target is no number above 0.
    #[error("a target epsilon is a number above 0, not {0}")]
    Epsilon(f64),
}

/// The noise multiplier is found to this share of itself.
const PRECISION: f64 = 1e-4;
/// The accountant needs no more noise than Rényi's bound, and hardly less than this share of it.
const SHARE_OF_RDP: f64 = 0.75;

/// The least noise multiplier (within 1e-4 of itself, never below) with which `steps` more steps of sampling
/// probability `sampling`, after everything in `spent`, keep `target` at `delta`.
///
/// # Errors
/// [`Impossible`] says what is spent at best, or which parameter is out of range.
pub fn noise_multiplier(
    spent: &[Event],
    sampling: f64,
    steps: u64,
    target: f64,
    delta: Delta,
) -> Result<f64, Impossible> {
    if !(target > 0.0 && target.is_finite()) {
        return Err(Impossible::Epsilon(target));
    }
    let with = |noise: f64| -> Result<Vec<Event>, InvalidEvent> {
        let mut events = spent.to_vec();
        events.push(Event::new(sampling, noise, steps)?);
        Ok(events)
    };
    let least = epsilon(&with(Event::MAX_NOISE)?, delta);
    if least > target {
        return Err(Impossible::Target { target, least });
    }
    let keeps = |noise: f64, of: fn(&[Event], Delta) -> f64| -> Result<bool, InvalidEvent> {
        Ok(of(&with(noise)?, delta) <= target)
    };
    let rough = bisect(Event::MIN_NOISE, Event::MAX_NOISE, 0.01, |noise| {
        keeps(noise, epsilon_by_rdp)
    })?;
    let mut low = (rough * SHARE_OF_RDP).max(Event::MIN_NOISE);
    while low > Event::MIN_NOISE && keeps(low, epsilon)? {
        low = (low * SHARE_OF_RDP).max(Event::MIN_NOISE);
    }
    // Rényi's bound may fail where the accountant keeps the target: then any noise may be needed.
    let high = if keeps(rough, epsilon)? {
        rough
    } else {
        Event::MAX_NOISE
    };
    Ok(bisect(low, high, PRECISION, |noise| keeps(noise, epsilon))?)
}

/// The upper end of the last interval in which `keeps` becomes true, in steps of equal ratio. True at `high`.
fn bisect(
    mut low: f64,
    mut high: f64,
    precision: f64,
    keeps: impl Fn(f64) -> Result<bool, InvalidEvent>,
) -> Result<f64, InvalidEvent> {
    if keeps(low)? {
        return Ok(low);
    }
    while high / low > 1.0 + precision {
        let middle = (low * high).sqrt();
        if keeps(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_keeps_its_target_and_a_little_less_does_not() {
        let delta = Delta::new(1e-5).unwrap();
        for (sampling, steps, target) in [(0.01, 1000, 1.0), (0.1, 50, 4.0), (1.0, 10, 0.5)] {
            let noise = noise_multiplier(&[], sampling, steps, target, delta).unwrap();
            let at = |noise| epsilon(&[Event::new(sampling, noise, steps).unwrap()], delta);
            assert!(at(noise) <= target, "{sampling} {steps}");
            assert!(at(noise * 0.995) > target, "{sampling} {steps}");
        }
    }

    #[test]
    fn what_was_spent_before_counts_and_may_leave_nothing() {
        let delta = Delta::new(1e-5).unwrap();
        let spent = [Event::new(1.0, 4.0, 4).unwrap()];
        let fresh = noise_multiplier(&[], 1.0, 10, 3.0, delta).unwrap();
        let after = noise_multiplier(&spent, 1.0, 10, 3.0, delta).unwrap();
        assert!(after > fresh);
        let none = noise_multiplier(&spent, 1.0, 10, 1.0, delta).unwrap_err();
        assert!(matches!(none, Impossible::Target { least, .. } if least > 1.0));
        let nan = noise_multiplier(&[], 1.0, 1, f64::NAN, delta);
        assert!(matches!(nan, Err(Impossible::Epsilon(_))));
    }
}
