//! How long to wait before the next try: exponential with full jitter, so that a thousand edges that lost the same
//! region do not come back in the same instant.
use rand::Rng;
use std::time::Duration;

/// Waits that double up to a cap; each is drawn evenly between nothing and its bound.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    base: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    pub(super) const fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            tries: 0,
        }
    }

    /// The next wait.
    pub(super) fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let factor = 1u32.checked_shl(self.tries).unwrap_or(u32::MAX);
        let bound = self.base.saturating_mul(factor).min(self.cap);
        self.tries = self.tries.saturating_add(1);
        bound.mul_f64(rng.random::<f64>())
    }

    /// It worked: the next wait is short again.
    pub(super) const fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn waits_double_to_the_cap_and_fill_the_space_below() {
        let mut rng = StdRng::seed_from_u64(1);
        for (tries, bound_ms) in [(0, 100), (1, 200), (3, 800), (4, 1_000), (40, 1_000)] {
            let mut longest = Duration::ZERO;
            for _ in 0..1_000 {
                let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
                backoff.tries = tries;
                longest = longest.max(backoff.next(&mut rng));
            }
            let bound = Duration::from_millis(bound_ms);
            assert!(longest <= bound && longest > bound.mul_f64(0.9), "{tries}");
        }
    }
}
