//! How true the last values are of now: one entry per device, signal and named patient, and what changes as time goes by.
//!
//! A pure core ([`Monitor`]) that is told what was stored, who lies where and what time it is; [`crate::pipeline`] tells
//! it, and [`crate::run`] asks it every [`TICK`] and makes an alarm of every signal that went stale.
//!
//! A signal that goes stale is a patient's, not a device's. Whose it is is asked when it would go stale, so that a late
//! entry of the beds counts: the patient whom the device named, or who lay in its bed when it measured. There is no
//! alarm of a patient who has left, of one whose signal another device has measured since, or of a bed that was empty;
//! nor of what is measured once in a stay ([`types::Expected`]). What a device measures that stands at no bed of which
//! anything is known, and names nobody, is the device's.
use crate::view::Reading;
use ingest::SampleReading;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use store::{LastValue, Timeline};
use types::{Code, DeviceId, Freshness, FreshnessLimits, Phi, Timestamp, Unit, Value};

/// How often somebody looks (real time): well below the shortest limit of a profile.
pub const TICK: Duration = Duration::from_millis(200);
/// Added to every limit, in real ms: what polling, a broker and a commit may take, however fast the mesh clock runs.
pub const TRANSPORT_MS: i64 = 2_000;
/// Signals of one device that are followed, each of each patient whom it names: those of a ward's analyser. Beyond it
/// the one that was measured longest ago is followed no more.
const MAX_SIGNALS: usize = 4_096;

/// A signal, and the patient whom the device named with it.
type Key = (Code, Option<Phi<String>>);

/// A signal's last value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    /// Not later than the first step after it was stored: a source time in the future keeps nothing fresh.
    at: Timestamp,
    unit: Unit,
    stale: bool,
}

#[derive(Clone, Debug)]
struct Watched {
    limits: FreshnessLimits,
    bed: Option<String>,
    signals: BTreeMap<Key, Last>,
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
    /// These signals, which were stale, are fresh again, or their patient has left: their alarm is over.
    Fresh(DeviceId, Vec<(Code, Unit)>),
    /// The device came alive or fell silent.
    Device(DeviceId, Freshness),
}

/// The last values of a facility's devices.
#[derive(Debug, Default)]
pub struct Monitor {
    devices: BTreeMap<DeviceId, Watched>,
    beds: Timeline,
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

/// Whose a value is that is no longer fresh.
enum Owner<'a> {
    /// A patient who is there.
    Patient(&'a Phi<String>),
    /// The device's own.
    Device,
    /// Nobody's any more: its patient has left, or nobody lay there.
    Nobody,
}

/// What becomes of a signal in a step.
enum Verdict {
    Stale,
    Fresh,
    /// It is followed no more.
    Over,
}

impl Monitor {
    /// Follows these devices, each with the bed where it stands. `slack_ms` (mesh time) is added to every limit, see
    /// [`TRANSPORT_MS`].
    #[must_use]
    pub fn new(
        devices: impl IntoIterator<Item = (DeviceId, FreshnessLimits, Option<String>)>,
        slack_ms: i64,
    ) -> Self {
        let watched = |limits, bed| Watched {
            limits,
            bed,
            signals: BTreeMap::new(),
            seen: None,
            live: false,
        };
        Self {
            devices: devices
                .into_iter()
                .map(|(id, limits, bed)| (id, watched(limits, bed)))
                .collect(),
            beds: Timeline::new(),
            slack_ms,
        }
    }

    /// Learns who lies where from when on, in place of what it knew.
    pub fn set_beds(&mut self, beds: Timeline) {
        self.beds = beds;
    }

    /// A value that was known before this start, and whether its alarm was raised then.
    pub fn recall(&mut self, value: LastValue) {
        if let Some(watched) = self.devices.get_mut(&value.device) {
            let (code, unit) = value.signal;
            watched.seen = watched.seen.max(Some(value.at));
            let last = Last {
                at: value.at,
                unit,
                stale: value.alarmed,
            };
            watched.follow((code, value.patient), last);
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
            let last = Last {
                at: source,
                unit,
                stale: false,
            };
            watched.follow((code, patient.cloned()), last);
        }
    }

    /// What changed until `now`. Asked again at the same instant it says nothing.
    pub fn step(&mut self, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, watched) in &mut self.devices {
            let freshness = watched.look(now, self.slack_ms);
            let live = freshness == Freshness::Live;
            if live != watched.live {
                watched.live = live;
                changes.push(Change::Device(id.clone(), freshness));
            }
        }
        let verdicts = self.verdicts(now);
        for (id, verdicts) in verdicts {
            let Some(watched) = self.devices.get_mut(&id) else {
                continue;
            };
            let (mut stale, mut fresh) = (Vec::new(), Vec::new());
            for (key, verdict) in verdicts {
                watched.carry_out(key, &verdict, &mut stale, &mut fresh);
            }
            if !stale.is_empty() {
                changes.push(Change::Stale(id.clone(), stale));
            }
            if !fresh.is_empty() {
                changes.push(Change::Fresh(id, fresh));
            }
        }
        changes
    }

    /// What becomes of each signal for which anything changes.
    fn verdicts(&self, now: Timestamp) -> Vec<(DeviceId, Vec<(Key, Verdict)>)> {
        let mut newest = None;
        let mut all = Vec::new();
        for (id, watched) in &self.devices {
            let mut verdicts = Vec::new();
            for (key, last) in &watched.signals {
                let gone = !watched.is_fresh(key.0, last.at, now, self.slack_ms);
                let verdict = match (gone, last.stale) {
                    (false, false) => continue,
                    (false, true) => Verdict::Fresh,
                    (true, stale) => match self.owner(watched, key, last.at, now) {
                        Owner::Nobody => Verdict::Over,
                        Owner::Device if stale => continue,
                        Owner::Device => Verdict::Stale,
                        Owner::Patient(patient) => {
                            let newest = newest.get_or_insert_with(|| self.newest(now));
                            match newest.get(&(patient, key.0)) {
                                Some(best) if *best != (last.at, id) => Verdict::Over,
                                _ if stale => continue,
                                _ => Verdict::Stale,
                            }
                        }
                    },
                };
                verdicts.push((key.clone(), verdict));
            }
            if !verdicts.is_empty() {
                all.push((id.clone(), verdicts));
            }
        }
        all
    }

    /// Of each patient who is there and each of their signals: when it was last measured, and by which device.
    fn newest(&self, now: Timestamp) -> HashMap<(&Phi<String>, Code), (Timestamp, &DeviceId)> {
        let mut newest = HashMap::new();
        for (id, watched) in &self.devices {
            for (key, last) in &watched.signals {
                if let Owner::Patient(patient) = self.owner(watched, key, last.at, now) {
                    let best = newest.entry((patient, key.0)).or_insert((last.at, id));
                    *best = (*best).max((last.at, id));
                }
            }
        }
        newest
    }

    fn owner<'a>(
        &'a self,
        watched: &'a Watched,
        key: &'a Key,
        at: Timestamp,
        now: Timestamp,
    ) -> Owner<'a> {
        if let Some(named) = &key.1 {
            return match self.lies_somewhere(named, now) {
                Some(false) => Owner::Nobody,
                Some(true) | None => Owner::Patient(named),
            };
        }
        let intervals = watched.bed.as_ref().and_then(|bed| self.beds.get(bed));
        match intervals {
            None => Owner::Device,
            Some(intervals) => match (lay(intervals, at), lay(intervals, now)) {
                (Some(then), Some(today)) if then == today => Owner::Patient(then),
                _ => Owner::Nobody,
            },
        }
    }

    /// Whether a patient lies in any bed now; none for one who never did.
    fn lies_somewhere(&self, patient: &Phi<String>, now: Timestamp) -> Option<bool> {
        let mut ever = false;
        for intervals in self.beds.values() {
            if lay(intervals, now) == Some(patient) {
                return Some(true);
            }
            ever |= intervals
                .iter()
                .any(|(_, who)| who.as_ref() == Some(patient));
        }
        ever.then_some(false)
    }

    /// How fresh a last value is that a device measured at `at`. One that is absent is of no use, whenever it came.
    #[must_use]
    pub fn of(
        &self,
        device: &DeviceId,
        reading: &Reading,
        at: Timestamp,
        now: Timestamp,
    ) -> Freshness {
        if matches!(reading.value, Value::Absent(_)) {
            return Freshness::Absent;
        }
        match self.devices.get(device) {
            Some(watched) if watched.is_fresh(reading.code, at, now, self.slack_ms) => {
                Freshness::Live
            }
            _ => Freshness::Stale,
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

    /// Whether a device is one of the facility's.
    #[must_use]
    pub fn follows(&self, device: &DeviceId) -> bool {
        self.devices.contains_key(device)
    }

    /// Whether a device gave a sign of life within its limit, as of the last step.
    #[must_use]
    pub fn is_live(&self, device: &DeviceId) -> bool {
        self.devices.get(device).is_some_and(|w| w.live)
    }
}

/// Who lay in a bed at an instant.
fn lay(intervals: &[(Timestamp, Option<Phi<String>>)], at: Timestamp) -> Option<&Phi<String>> {
    let after = intervals.partition_point(|(from, _)| *from <= at);
    intervals.get(after.checked_sub(1)?)?.1.as_ref()
}

impl Watched {
    /// Keeps a signal's last value, unless a later one is known. What is measured once is not followed.
    fn follow(&mut self, key: Key, new: Last) {
        if key
            .0
            .info()
            .stale_after_ms(self.limits.stale_after_ms)
            .is_none()
        {
            return;
        }
        match self.signals.get_mut(&key) {
            Some(last) if new.at >= last.at => last.at = new.at,
            Some(_) => {}
            None => {
                if self.signals.len() >= MAX_SIGNALS {
                    let oldest = self.signals.iter().min_by_key(|(_, last)| last.at);
                    let oldest = oldest.map(|(key, _)| key.clone());
                    oldest.and_then(|key| self.signals.remove(&key));
                }
                self.signals.insert(key, new);
            }
        }
    }

    /// How fresh its last sign of life is. What lies in the future counts from now on.
    fn look(&mut self, now: Timestamp, slack_ms: i64) -> Freshness {
        self.seen = self.seen.map(|seen| seen.min(now));
        for last in self.signals.values_mut() {
            last.at = last.at.min(now);
        }
        Freshness::of_last(
            self.seen,
            now,
            self.with_slack(self.limits.stale_after_ms, slack_ms),
        )
    }

    fn is_fresh(&self, code: Code, at: Timestamp, now: Timestamp, slack_ms: i64) -> bool {
        let after_ms = code.info().stale_after_ms(self.limits.stale_after_ms);
        after_ms.is_none_or(|after_ms| {
            Freshness::of_last(Some(at), now, self.with_slack(after_ms, slack_ms))
                == Freshness::Live
        })
    }

    const fn with_slack(&self, stale_after_ms: i64, slack_ms: i64) -> FreshnessLimits {
        FreshnessLimits {
            stale_after_ms: stale_after_ms.saturating_add(slack_ms),
            late_after_ms: self.limits.late_after_ms,
        }
    }

    fn carry_out(
        &mut self,
        key: Key,
        verdict: &Verdict,
        stale: &mut Vec<Gone>,
        fresh: &mut Vec<(Code, Unit)>,
    ) {
        let Some(last) = self.signals.get_mut(&key) else {
            return;
        };
        let signal = (key.0, last.unit);
        match verdict {
            Verdict::Stale => {
                last.stale = true;
                stale.push(Gone {
                    signal,
                    at: last.at,
                    patient: key.1,
                });
            }
            Verdict::Fresh => {
                last.stale = false;
                fresh.push(signal);
            }
            Verdict::Over => {
                if last.stale {
                    fresh.push(signal);
                }
                self.signals.remove(&key);
            }
        }
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
#[path = "freshness_tests.rs"]
mod tests;
