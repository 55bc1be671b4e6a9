//! The noise of a budget and the ε of an event, as they were worked out before. Either takes a processor for a while, and the
//! same study is read at every step of its rounds, at every place, and whenever somebody looks at it.
//!
//! Both follow from their arguments alone, so that nothing depends on what is known.
use super::{
    accountant::epsilon,
    calibrate::{Impossible, noise_multiplier},
    event::{Delta, Event},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Results that are kept; beyond them all are forgotten.
const MOST: usize = 1_024;

/// Results by the bits of what they follow from.
struct Known<T>(Mutex<BTreeMap<[u64; 4], T>>);

static NOISE: Known<Result<f64, Impossible>> = Known::new();
static SPENT: Known<f64> = Known::new();

impl<T: Clone> Known<T> {
    const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// What is known, or what `make` comes to, which others need not wait for.
    fn of(&self, key: [u64; 4], make: impl FnOnce() -> T) -> T {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().get(&key).cloned();
        if let Some(found) = found {
            return found;
        }
        let made = make();
        let mut all = known();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(key, made.clone());
        made
    }
}

/// [`noise_multiplier`] where nothing was spent before.
///
/// # Errors
/// As of [`noise_multiplier`].
pub fn known_noise(
    sampling: f64,
    steps: u64,
    target: f64,
    delta: Delta,
) -> Result<f64, Impossible> {
    let key = [
        sampling.to_bits(),
        steps,
        target.to_bits(),
        delta.get().to_bits(),
    ];
    NOISE.of(key, || {
        noise_multiplier(&[], sampling, steps, target, delta)
    })
}

/// [`epsilon`] of one event.
#[must_use]
pub fn known_epsilon(event: Event, delta: Delta) -> f64 {
    let key = [
        event.sampling().to_bits(),
        event.noise_multiplier().to_bits(),
        event.steps(),
        delta.get().to_bits(),
    ];
    SPENT.of(key, || epsilon(&[event], delta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_what_is_worked_out_and_each_argument_counts() {
        let delta = |of| Delta::new(of).unwrap();
        let cases = [
            (0.1, 20, 2.0, delta(1e-5)),
            (0.2, 20, 2.0, delta(1e-5)),
            (0.1, 21, 2.0, delta(1e-5)),
            (0.1, 20, 2.1, delta(1e-5)),
            (0.1, 20, 2.0, delta(1e-6)),
        ];
        for _ in 0..2 {
            for (sampling, steps, target, delta) in cases {
                let noise = noise_multiplier(&[], sampling, steps, target, delta);
                assert_eq!(known_noise(sampling, steps, target, delta), noise);
                let event = Event::new(sampling, noise.unwrap(), steps).unwrap();
                assert_eq!(known_epsilon(event, delta), epsilon(&[event], delta));
            }
        }
        let none = known_noise(0.1, 20, f64::NAN, delta(1e-5));
        assert!(matches!(none, Err(Impossible::Epsilon(_))));
    }

    #[test]
    fn what_is_known_is_not_worked_out_again_and_not_kept_without_bound() {
        let known = Known::new();
        assert_eq!(known.of([0; 4], || 1), 1);
        assert_eq!(known.of([0; 4], || 2), 1);
        for key in 1..=MOST as u64 {
            known.of([key; 4], || 3);
        }
        assert!(known.0.lock().unwrap().len() <= MOST);
        assert_eq!(known.of([0; 4], || 4), 4);
    }
}
