//! How true the last values are of now: one entry per device and signal, and what changes as time goes by.
//!
//! A pure core ([`Monitor`]) that is told what was stored and what time it is; [`crate::pipeline`] tells it, and
//! [`crate::run`] asks it every [`TICK`] and makes an alarm of every signal that went stale.
use crate::ingest::SampleReading;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use types::{Code, DeviceId, Freshness, FreshnessLimits, Timestamp, Unit, Value};

/// How often somebody looks (real time): well below the shortest limit of a profile.
pub const TICK: Duration = Duration::from_millis(200);
/// Added to every limit, in real ms: what polling, a broker and a commit may take, however fast the mesh clock runs.
pub const TRANSPORT_MS: i64 = 2_000;
/// Signals of one device that are followed; a profile or a code table has fewer.
const MAX_SIGNALS: usize = 256;

/// A signal's last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    at: Timestamp,
    unit: Unit,
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

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These signals of a device went stale: their alarm.
    Stale(DeviceId, Vec<(Code, Unit)>),
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
    pub fn recall(&mut self, device: &DeviceId, signal: (Code, Unit), at: Timestamp, stale: bool) {
        if let Some(watched) = self.devices.get_mut(device) {
            let last = Last {
                at,
                unit: signal.1,
                stale,
            };
            watched.signals.insert(signal.0, last);
            watched.seen = watched.seen.max(Some(at));
        }
    }

    /// The device gave a sign of life.
    pub fn seen(&mut self, device: &DeviceId, at: Timestamp) {
        if let Some(watched) = self.devices.get_mut(device) {
            watched.seen = watched.seen.max(Some(at));
        }
    }

    /// Readings were stored that the device measured at `source`. A value that is absent makes nothing fresh.
    pub fn stored(
        &mut self,
        device: &DeviceId,
        source: Timestamp,
        signals: impl IntoIterator<Item = (Code, Unit)>,
    ) {
        let Some(watched) = self.devices.get_mut(device) else {
            return;
        };
        watched.seen = watched.seen.max(Some(source));
        for (code, unit) in signals {
            let room = watched.signals.len() < MAX_SIGNALS;
            match watched.signals.get_mut(&code) {
                Some(last) => last.at = last.at.max(source),
                None if room => {
                    let stale = false;
                    let at = source;
                    watched.signals.insert(code, Last { at, unit, stale });
                }
                None => {}
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
            let freshness = Freshness::of_last(watched.seen, now, limits);
            let live = freshness == Freshness::Live;
            if live != watched.live {
                watched.live = live;
                changes.push(Change::Device(id.clone(), freshness));
            }
            let (mut stale, mut fresh) = (Vec::new(), Vec::new());
            for (code, last) in &mut watched.signals {
                let gone = Freshness::of_last(Some(last.at), now, limits) != Freshness::Live;
                if gone != last.stale {
                    last.stale = gone;
                    let changed = if gone { &mut stale } else { &mut fresh };
                    changed.push((*code, last.unit));
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

    /// An alarm could not be stored: the signals count as fresh, so that the next step raises it again.
    pub fn again(&mut self, device: &DeviceId, signals: &[(Code, Unit)]) {
        let Some(watched) = self.devices.get_mut(device) else {
            return;
        };
        for (code, _) in signals {
            if let Some(last) = watched.signals.get_mut(code) {
                last.stale = false;
            }
        }
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

    fn monitor() -> Monitor {
        Monitor::new([(device(), LIMITS)], 10)
    }

    #[test]
    fn a_signal_that_stops_goes_stale_once_and_comes_back_once() {
        let (mut monitor, heart) = (monitor(), signal("8867-4"));
        monitor.stored(&device(), Timestamp(0), [heart]);
        assert_eq!(
            monitor.step(Timestamp(1)),
            [Change::Device(device(), Freshness::Live)]
        );
        assert_eq!(monitor.step(Timestamp(109)), []);
        let stale = Change::Stale(device(), vec![heart]);
        let silent = Change::Device(device(), Freshness::Stale);
        assert_eq!(monitor.step(Timestamp(110)), [silent, stale]);
        assert_eq!(monitor.step(Timestamp(500)), []);
        monitor.stored(&device(), Timestamp(500), [heart]);
        let fresh = Change::Fresh(device(), vec![heart]);
        let alive = Change::Device(device(), Freshness::Live);
        assert_eq!(monitor.step(Timestamp(501)), [alive, fresh]);
    }

    #[test]
    fn a_device_that_answers_is_live_while_one_of_its_signals_is_stale() {
        let (mut monitor, heart, breath) = (monitor(), signal("8867-4"), signal("9279-1"));
        monitor.stored(&device(), Timestamp(0), [heart, breath]);
        monitor.step(Timestamp(0));
        monitor.stored(&device(), Timestamp(105), [heart]);
        let stale = Change::Stale(device(), vec![breath]);
        assert_eq!(monitor.step(Timestamp(110)), [stale]);
        monitor.seen(&device(), Timestamp(300));
        assert_eq!(
            monitor.step(Timestamp(300)),
            [Change::Stale(device(), vec![heart])]
        );
        assert_eq!(monitor.counts().live, 1);
    }

    #[test]
    fn a_late_delivery_makes_nothing_fresh() {
        let (mut monitor, heart) = (monitor(), signal("8867-4"));
        monitor.stored(&device(), Timestamp(1_000), [heart]);
        monitor.step(Timestamp(1_000));
        monitor.stored(&device(), Timestamp(5), [heart]);
        assert_eq!(monitor.step(Timestamp(1_109)), []);
        assert_eq!(monitor.step(Timestamp(1_110)).len(), 2);
    }

    #[test]
    fn an_alarm_that_was_raised_before_a_restart_is_not_raised_again() {
        let (mut monitor, heart, breath) = (monitor(), signal("8867-4"), signal("9279-1"));
        monitor.recall(&device(), heart, Timestamp(0), true);
        monitor.recall(&device(), breath, Timestamp(0), false);
        assert_eq!(
            monitor.step(Timestamp(10_000)),
            [Change::Stale(device(), vec![breath])]
        );
    }

    #[test]
    fn an_alarm_that_could_not_be_stored_is_raised_again() {
        let (mut monitor, heart) = (monitor(), signal("8867-4"));
        monitor.recall(&device(), heart, Timestamp(0), false);
        assert_eq!(monitor.step(Timestamp(1_000)).len(), 1);
        monitor.again(&device(), &[heart]);
        assert_eq!(monitor.step(Timestamp(1_000)).len(), 1);
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
