//! How true the last values are of now: one entry per device and signal, and what changes as time goes by.
//!
//! A pure core ([`Monitor`]) that is told what was stored and what time it is; [`crate::pipeline`] tells it, and
//! [`crate::run`] asks it every [`TICK`] and makes an alarm of every signal that went stale.
use crate::{ingest::SampleReading, store::LastValue};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use types::{Code, DeviceId, Freshness, FreshnessLimits, Phi, Timestamp, Unit, Value};

/// How often somebody looks (real time): well below the shortest limit of a profile.
pub const TICK: Duration = Duration::from_millis(200);
/// Added to every limit, in real ms: what polling, a broker and a commit may take, however fast the mesh clock runs.
pub const TRANSPORT_MS: i64 = 2_000;
/// Signals of one device that are followed; a profile or a code table has fewer.
const MAX_SIGNALS: usize = 256;

/// A signal's last value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    /// Not later than the first step after it was stored: a source time in the future keeps nothing fresh.
    at: Timestamp,
    unit: Unit,
    /// Whom the device named with it.
    patient: Option<Phi<String>>,
    stale: bool,
}

#[derive(Clone, Debug)]
struct Watched {
    limits: FreshnessLimits,
    signals: BTreeMap<Code, Last>,
    /// When it last gave any sign of life.
    seen: Option<Timestamp>,
    live: bool,
}

/// A signal that went stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The signal.
    pub signal: (Code, Unit),
    /// When its last value was measured.
    pub at: Timestamp,
    /// Whom the device named with that value.
    pub patient: Option<Phi<String>>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These signals of a device went stale: their alarm.
    Stale(DeviceId, Vec<Gone>),
    /// These signals, which were stale, are fresh again: their alarm is over.
    Fresh(DeviceId, Vec<(Code, Unit)>),
    /// The device came alive or fell silent.
    Device(DeviceId, Freshness),
}

/// The last values of a facility's devices.
#[derive(Debug, Default)]
pub struct Monitor {
    devices: HashMap<DeviceId, Watched>,
    slack_ms: i64,
}

/// How many devices are how fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices that gave a sign of life within their limit.
    pub live: usize,
    /// Devices that did not.
    pub stale: usize,
    /// Devices that never did.
    pub absent: usize,
}

impl Monitor {
    /// Follows these devices. `slack_ms` (mesh time) is added to every limit, see [`TRANSPORT_MS`].
    #[must_use]
    pub fn new(
        devices: impl IntoIterator<Item = (DeviceId, FreshnessLimits)>,
        slack_ms: i64,
    ) -> Self {
        let watched = |limits| Watched {
            limits,
            signals: BTreeMap::new(),
            seen: None,
            live: false,
        };
        Self {
            devices: devices
                .into_iter()
                .map(|(id, limits)| (id, watched(limits)))
                .collect(),
            slack_ms,
        }
    }

    /// A value that was known before this start, and whether its alarm was raised then.
    pub fn recall(&mut self, value: LastValue) {
        if let Some(watched) = self.devices.get_mut(&value.device) {
            let (code, unit) = value.signal;
            let last = Last {
                at: value.at,
                unit,
                patient: value.patient,
                stale: value.alarmed,
            };
            watched.signals.insert(code, last);
            watched.seen = watched.seen.max(Some(value.at));
        }
    }

    /// The device gave a sign of life.
    pub fn seen(&mut self, device: &DeviceId, at: Timestamp) {
        if let Some(watched) = self.devices.get_mut(device) {
            watched.seen = watched.seen.max(Some(at));
        }
    }

    /// Readings were stored that the device measured at `source`, of the patient whom it named, if it did. A value that
    /// is absent makes nothing fresh.
    pub fn stored(
        &mut self,
        device: &DeviceId,
        source: Timestamp,
        patient: Option<&Phi<String>>,
        signals: impl IntoIterator<Item = (Code, Unit)>,
    ) {
        let Some(watched) = self.devices.get_mut(device) else {
            return;
        };
        watched.seen = watched.seen.max(Some(source));
        for (code, unit) in signals {
            let room = watched.signals.len() < MAX_SIGNALS;
            match watched.signals.get_mut(&code) {
                Some(last) if source >= last.at => {
                    last.at = source;
                    last.patient = patient.cloned();
                }
                None if room => {
                    let last = Last {
                        at: source,
                        unit,
                        patient: patient.cloned(),
                        stale: false,
                    };
                    watched.signals.insert(code, last);
                }
                Some(_) | None => {}
            }
        }
    }

    /// What changed until `now`. Asked again at the same instant it says nothing.
    pub fn step(&mut self, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, watched) in &mut self.devices {
            let limits = FreshnessLimits {
                stale_after_ms: watched.limits.stale_after_ms.saturating_add(self.slack_ms),
                ..watched.limits
            };
            watched.seen = watched.seen.map(|seen| seen.min(now));
            let freshness = Freshness::of_last(watched.seen, now, limits);
            let live = freshness == Freshness::Live;
            if live != watched.live {
                watched.live = live;
                changes.push(Change::Device(id.clone(), freshness));
            }
            let (mut stale, mut fresh) = (Vec::new(), Vec::new());
            for (code, last) in &mut watched.signals {
                last.at = last.at.min(now);
                let gone = Freshness::of_last(Some(last.at), now, limits) != Freshness::Live;
                if gone == last.stale {
                    continue;
                }
                last.stale = gone;
                let signal = (*code, last.unit);
                if gone {
                    stale.push(Gone {
                        signal,
                        at: last.at,
                        patient: last.patient.clone(),
                    });
                } else {
                    fresh.push(signal);
                }
            }
            if !stale.is_empty() {
                changes.push(Change::Stale(id.clone(), stale));
            }
            if !fresh.is_empty() {
                changes.push(Change::Fresh(id.clone(), fresh));
            }
        }
        changes
    }

    /// How many devices are how fresh, as of the last step.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for watched in self.devices.values() {
            let slot = match (watched.live, watched.seen) {
                (true, _) => &mut counts.live,
                (false, Some(_)) => &mut counts.stale,
                (false, None) => &mut counts.absent,
            };
            *slot += 1;
        }
        counts
    }

    /// Whether a device gave a sign of life within its limit, as of the last step.
    #[must_use]
    pub fn is_live(&self, device: &DeviceId) -> bool {
        self.devices.get(device).is_some_and(|w| w.live)
    }
}

/// The signals of a sample that have a value.
pub fn signals(readings: &[SampleReading]) -> impl Iterator<Item = (Code, Unit)> {
    readings
        .iter()
        .filter(|reading| matches!(reading.value, Value::Quantity(_)))
        .map(|reading| (reading.code, reading.unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FreshnessLimits = FreshnessLimits {
        late_after_ms: 100,
        stale_after_ms: 100,
    };

    fn device() -> DeviceId {
        "m1".parse().unwrap()
    }

    fn signal(code: &str) -> (Code, Unit) {
        let code: Code = code.parse().unwrap();
        (code, code.info().unit.parse().unwrap())
    }

    fn stale_at(signal: (Code, Unit), at: i64) -> Change {
        let gone = Gone {
            signal,
            at: Timestamp(at),
            patient: None,
        };
        Change::Stale(device(), vec![gone])
    }

    fn known(signal: (Code, Unit), alarmed: bool) -> LastValue {
        LastValue {
            device: device(),
            signal,
            at: Timestamp(0),
            patient: None,
            alarmed,
        }
    }

    fn monitor() -> Monitor {
        Monitor::new([(device(), LIMITS)], 10)
    }

    #[test]
    fn a_signal_that_stops_goes_stale_once_and_comes_back_once() {
        let (mut monitor, heart) = (monitor(), signal("8867-4"));
        monitor.stored(&device(), Timestamp(0), None, [heart]);
        assert_eq!(
            monitor.step(Timestamp(1)),
            [Change::Device(device(), Freshness::Live)]
        );
        assert_eq!(monitor.step(Timestamp(109)), []);
        let stale = stale_at(heart, 0);
        let silent = Change::Device(device(), Freshness::Stale);
        assert_eq!(monitor.step(Timestamp(110)), [silent, stale]);
        assert_eq!(monitor.step(Timestamp(500)), []);
        monitor.stored(&device(), Timestamp(500), None, [heart]);
        let fresh = Change::Fresh(device(), vec![heart]);
        let alive = Change::Device(device(), Freshness::Live);
        assert_eq!(monitor.step(Timestamp(501)), [alive, fresh]);
    }

    #[test]
    fn a_device_that_answers_is_live_while_one_of_its_signals_is_stale() {
        let (mut monitor, heart, breath) = (monitor(), signal("8867-4"), signal("9279-1"));
        monitor.stored(&device(), Timestamp(0), None, [heart, breath]);
        monitor.step(Timestamp(0));
        monitor.stored(&device(), Timestamp(105), None, [heart]);
        let stale = stale_at(breath, 0);
        assert_eq!(monitor.step(Timestamp(110)), [stale]);
        monitor.seen(&device(), Timestamp(300));
        assert_eq!(monitor.step(Timestamp(300)), [stale_at(heart, 105)]);
        assert_eq!(monitor.counts().live, 1);
    }

    #[test]
    fn a_late_delivery_makes_nothing_fresh() {
        let (mut monitor, heart) = (monitor(), signal("8867-4"));
        monitor.stored(&device(), Timestamp(1_000), None, [heart]);
        monitor.step(Timestamp(1_000));
        monitor.stored(&device(), Timestamp(5), None, [heart]);
        assert_eq!(monitor.step(Timestamp(1_109)), []);
        assert_eq!(monitor.step(Timestamp(1_110)).len(), 2);
    }

    #[test]
    fn an_alarm_that_was_raised_before_a_restart_is_not_raised_again() {
        let (mut monitor, heart, breath) = (monitor(), signal("8867-4"), signal("9279-1"));
        monitor.recall(known(heart, true));
        monitor.recall(known(breath, false));
        assert_eq!(monitor.step(Timestamp(10_000)), [stale_at(breath, 0)]);
    }

    #[test]
    fn a_source_time_in_the_future_keeps_nothing_fresh() {
        let (mut monitor, heart) = (monitor(), signal("8867-4"));
        monitor.stored(&device(), Timestamp(1_000_000), None, [heart]);
        assert_eq!(
            monitor.step(Timestamp(1)),
            [Change::Device(device(), Freshness::Live)]
        );
        monitor.seen(&device(), Timestamp(i64::MAX));
        let silent = Change::Device(device(), Freshness::Stale);
        monitor.step(Timestamp(2));
        assert_eq!(monitor.step(Timestamp(111)), [stale_at(heart, 1)]);
        assert_eq!(monitor.step(Timestamp(112)), [silent]);
    }

    #[test]
    fn an_alarm_names_whom_the_last_value_named() {
        let (mut monitor, heart) = (monitor(), signal("8867-4"));
        let named = |id: &str| Some(Phi::new(id.to_owned()));
        monitor.stored(&device(), Timestamp(5), named("p-1").as_ref(), [heart]);
        monitor.stored(&device(), Timestamp(7), named("p-2").as_ref(), [heart]);
        monitor.stored(&device(), Timestamp(6), named("p-1").as_ref(), [heart]);
        monitor.step(Timestamp(8));
        let Some(Change::Stale(_, gone)) = monitor.step(Timestamp(500)).pop() else {
            panic!("an alarm");
        };
        assert_eq!(
            (&gone[0].patient, gone[0].at),
            (&named("p-2"), Timestamp(7))
        );
    }

    #[test]
    fn a_device_that_was_never_seen_is_absent() {
        let mut monitor = monitor();
        assert_eq!(monitor.step(Timestamp(0)), []);
        let absent = Counts {
            absent: 1,
            ..Counts::default()
        };
        assert_eq!(monitor.counts(), absent);
    }
}
