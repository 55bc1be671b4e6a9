//! The cold-chain probe in its store of medicines.
use super::wander::{Wander, rng};
use crate::registers::Probe;
use rand::rngs::StdRng;
use types::{DeviceId, Timestamp};

/// A store of medicines with its probe.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) probe: Probe,
    temperature: Wander,
    humidity: Wander,
    rng: StdRng,
    next: Timestamp,
}

impl Store {
    /// The probe measures this often, in mesh milliseconds.
    const EVERY_MS: i64 = 10_000;

    pub(super) fn new(seed: u64, device: &DeviceId) -> Self {
        let mut rng = rng(seed, device);
        Self {
            temperature: Wander::new(&mut rng, 4.6, 0.3, (2.1, 7.9)),
            humidity: Wander::new(&mut rng, 45.0, 3.0, (20.0, 80.0)),
            probe: Probe {
                temperature: 46,
                humidity: 450,
                settings: [1, 9600, 0, 0],
            },
            rng,
            next: Timestamp(0),
        }
    }

    /// Measures when it is time to.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are clamped to what fits"
    )]
    pub(super) fn measure(&mut self, now: Timestamp) {
        if now < self.next {
            return;
        }
        self.next = now.plus_ms(Self::EVERY_MS);
        self.probe.temperature = (self.temperature.step(&mut self.rng) * 10.0).round() as i16;
        self.probe.humidity = (self.humidity.step(&mut self.rng) * 10.0).round() as u16;
    }
}
