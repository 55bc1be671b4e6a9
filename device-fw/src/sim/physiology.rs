//! A simple physiology: every signal wanders around its mean (first-order autoregression), some follow others, leads
//! fall off. Plausible enough to watch and to load the mesh; nothing clinical may be concluded from it.
use super::{
    sample::{LabSample, MonitorSample, physiology_patient},
    wander::{Wander, noise, rng},
};
use crate::signal::{Reading, SIGNALS, Sample, Signal};
use rand::{Rng, rngs::StdRng};
use std::sync::Arc;
use types::{Code, Decimal, DeviceId, Timestamp};

/// A non-invasive pressure is taken this often, in mesh milliseconds.
const CUFF_EVERY_MS: i64 = 15 * 60_000;
/// A bed's laboratory panel is taken this often, in mesh milliseconds.
const PANEL_EVERY_MS: i64 = 10 * 60_000;
/// The chance that a lead falls off in one sample, and the chance that it is put back in the next.
const LEAD_OFF: f64 = 0.001;
const LEAD_BACK: f64 = 0.2;

#[expect(
    clippy::cast_possible_truncation,
    reason = "every value is clamped to three digits"
)]
fn tenths(value: f64) -> Reading {
    Reading::Value {
        mantissa: (value * 10.0).round() as i32,
        exponent: -1,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "every value is clamped to three digits"
)]
fn whole(value: f64) -> Reading {
    Reading::Value {
        mantissa: value.round() as i32,
        exponent: 0,
    }
}

/// The vital signs of one patient.
pub(super) struct Vitals {
    rng: StdRng,
    heart: Wander,
    breath: Wander,
    oxygen: Wander,
    temperature: Wander,
    systolic: Wander,
    pulse_pressure: Wander,
    lead_off: bool,
}

impl Vitals {
    pub(super) fn new(seed: u64, device: &DeviceId) -> Self {
        let mut rng = rng(seed, device);
        Self {
            heart: Wander::new(&mut rng, 82.0, 8.0, (35.0, 180.0)),
            breath: Wander::new(&mut rng, 17.0, 2.5, (6.0, 40.0)),
            oxygen: Wander::new(&mut rng, 96.5, 1.0, (80.0, 100.0)),
            temperature: Wander::new(&mut rng, 37.0, 0.3, (34.0, 41.0)),
            systolic: Wander::new(&mut rng, 122.0, 10.0, (70.0, 210.0)),
            pulse_pressure: Wander::new(&mut rng, 48.0, 4.0, (20.0, 90.0)),
            lead_off: false,
            rng,
        }
    }

    /// Its samples without end, each `every_ms` mesh milliseconds from `start` on.
    pub(super) fn samples(
        mut self,
        bed: &str,
        start: Timestamp,
        every_ms: i64,
    ) -> impl Iterator<Item = MonitorSample> + Send + use<> {
        let patient: Arc<str> = physiology_patient(bed).into();
        let mut cuff_at = start;
        (0_i64..).map(move |tick| {
            let time = start.plus_ms(tick.saturating_mul(every_ms));
            let cuff = time >= cuff_at;
            if cuff {
                cuff_at = time.plus_ms(CUFF_EVERY_MS);
            }
            MonitorSample {
                time,
                patient: Some(patient.clone()),
                readings: self.step(cuff),
            }
        })
    }

    fn step(&mut self, cuff: bool) -> [Reading; SIGNALS] {
        let rng = &mut self.rng;
        let chance = if self.lead_off {
            1.0 - LEAD_BACK
        } else {
            LEAD_OFF
        };
        self.lead_off = rng.random::<f64>() < chance;
        let heart = self.heart.step(rng);
        let pulse = heart + 0.3 * noise(rng);
        let (breath, oxygen, temperature) = (
            self.breath.step(rng),
            self.oxygen.step(rng),
            self.temperature.step(rng),
        );
        let systolic = self.systolic.step(rng);
        let diastolic = systolic - self.pulse_pressure.step(rng);
        let mean = diastolic + (systolic - diastolic) / 3.0;
        let or_off = |reading| {
            if self.lead_off {
                Reading::NoData
            } else {
                reading
            }
        };
        let sample = Sample::default()
            .with(Signal::HeartRate, or_off(tenths(heart)))
            .with(Signal::RespiratoryRate, or_off(tenths(breath)))
            .with(Signal::Pulse, tenths(pulse))
            .with(Signal::SpO2, tenths(oxygen))
            .with(Signal::Temperature, tenths(temperature))
            .with(Signal::Systolic, tenths(systolic))
            .with(Signal::Diastolic, tenths(diastolic))
            .with(Signal::Mean, tenths(mean));
        if !cuff {
            return sample.readings;
        }
        sample
            .with(Signal::CuffSystolic, whole(systolic + noise(rng)))
            .with(Signal::CuffDiastolic, whole(diastolic + noise(rng)))
            .with(Signal::CuffMean, whole(mean + noise(rng)))
            .readings
    }
}

/// Code, mean, spread and decimals of what a laboratory panel holds.
const PANEL: [(&str, f64, f64, i8); 6] = [
    ("2951-2", 139.0, 2.5, 0),
    ("2823-3", 4.1, 0.3, 1),
    ("2345-7", 118.0, 15.0, 0),
    ("2160-0", 0.95, 0.15, 2),
    ("2524-7", 1.4, 0.4, 1),
    ("6690-2", 9.2, 1.5, 1),
];

/// The laboratory of a facility.
pub(super) struct Laboratory(StdRng);

impl Laboratory {
    pub(super) fn new(seed: u64, device: &DeviceId) -> Self {
        Self(rng(seed, device))
    }

    /// A panel for each bed in turn, without end.
    pub(super) fn samples(
        mut self,
        beds: Vec<String>,
        start: Timestamp,
    ) -> impl Iterator<Item = LabSample> + Send {
        let beds: Vec<Arc<str>> = beds
            .iter()
            .map(|bed| physiology_patient(bed).into())
            .collect();
        let panel = (0_i64..).flat_map(move |round| {
            let beds = beds.clone();
            (0_i64..).zip(beds).map(move |(place, patient)| {
                let offset = round
                    .saturating_mul(PANEL_EVERY_MS)
                    .saturating_add(place * 1_000);
                (start.plus_ms(offset), patient)
            })
        });
        panel.map(move |(time, patient)| LabSample {
            time,
            patient: Some(patient),
            readings: self.panel(),
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "laboratory values have a few digits"
    )]
    fn panel(&mut self) -> Vec<(Code, Decimal)> {
        let known = PANEL.iter().filter_map(|&(code, mean, spread, decimals)| {
            let value = (mean + spread * noise(&mut self.0)).max(0.1);
            let mantissa = (value * 10_f64.powi(i32::from(decimals))).round() as i64;
            Some((code.parse().ok()?, Decimal::from_parts(mantissa, -decimals)))
        });
        known.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_patient_and_another_device_another() {
        let run = |name: &str| -> Vec<_> {
            let device: DeviceId = name.parse().unwrap();
            Vitals::new(7, &device)
                .samples("bed-1", Timestamp(0), 1_000)
                .take(500)
                .collect()
        };
        assert_eq!(run("a"), run("a"));
        assert_ne!(run("a"), run("b"));
    }

    #[test]
    fn a_patient_stays_within_what_a_living_one_shows_and_loses_a_lead_now_and_then() {
        let device: DeviceId = "a".parse().unwrap();
        let mut off = 0;
        for sample in Vitals::new(1, &device)
            .samples("bed-1", Timestamp(0), 60_000)
            .take(10_000)
        {
            match sample.readings[Signal::HeartRate as usize] {
                Reading::Value {
                    mantissa,
                    exponent: -1,
                } => assert!((350..=1_800).contains(&mantissa)),
                Reading::NoData => off += 1,
                other => panic!("{other:?}"),
            }
            let cuff = sample.readings[Signal::CuffMean as usize] != Reading::NotInSample;
            assert_eq!(cuff, sample.time.0 % CUFF_EVERY_MS == 0);
        }
        assert!((1..500).contains(&off), "{off}");
    }
}
