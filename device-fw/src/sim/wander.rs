//! Values that wander around their means, drawn with numbers of each device's own.
use rand::{Rng, SeedableRng, rngs::StdRng};
use types::DeviceId;

/// The numbers that a device draws.
pub(super) fn rng(seed: u64, device: &DeviceId) -> StdRng {
    // FNV-1a: every device draws its own numbers.
    let salt = device
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    StdRng::seed_from_u64(seed ^ salt)
}

/// A value that wanders around its mean.
#[derive(Clone, Debug)]
pub(super) struct Wander {
    mean: f64,
    spread: f64,
    low: f64,
    high: f64,
    at: f64,
}

impl Wander {
    pub(super) fn new(rng: &mut StdRng, mean: f64, spread: f64, (low, high): (f64, f64)) -> Self {
        let mean = mean + spread * noise(rng);
        Self {
            mean,
            spread,
            low,
            high,
            at: mean,
        }
    }

    pub(super) fn step(&mut self, rng: &mut StdRng) -> f64 {
        self.at += 0.1 * (self.mean - self.at) + 0.2 * self.spread * noise(rng);
        self.at = self.at.clamp(self.low, self.high);
        self.at
    }
}

/// About normal, mean 0 and variance 1: the sum of twelve uniform numbers.
pub(super) fn noise(rng: &mut StdRng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}
