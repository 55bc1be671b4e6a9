//! Alarms that the edge raises itself: said once, stored as soon as the store takes them.
use crate::freshness::Gone;
use ingest::{Rejected, SampleReading, Stored};
use std::collections::VecDeque;
use store::EdgeSample;
use types::{AbsentReason, DeviceId, Flags, Timestamp, Value};

/// Alarms that wait for the store; beyond it the oldest go, counted: every signal of a large facility.
const MAX_WAITING: usize = 65_536;
/// Alarms offered to the store at once: one commit.
const OFFER: usize = 1_024;

/// Alarms that were said and are not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Unstored(VecDeque<EdgeSample>);

impl Unstored {
    /// Adds the alarm of signals that went stale.
    pub(crate) fn add(&mut self, device: &DeviceId, now: Timestamp, gone: &[Gone]) {
        self.0.extend(stale_alarms(device, now, gone));
        while self.0.len() > MAX_WAITING {
            self.0.pop_front();
            metrics::counter!("medmesh_alarms_dropped_total").increment(1);
        }
    }

    /// Offers what waits to the store; what it does not take now waits on. Says whether everything is stored.
    pub(crate) async fn store<F>(&mut self, raise: impl FnOnce(Vec<EdgeSample>) -> F) -> bool
    where
        F: Future<Output = Vec<Result<Stored, Rejected>>>,
    {
        let offered: Vec<_> = self.0.iter().take(OFFER).cloned().collect();
        if offered.is_empty() {
            return true;
        }
        let answers = raise(offered).await;
        let mut answers = answers.iter();
        // What can never be stored is not offered for ever.
        self.0.retain(|_| match answers.next() {
            Some(Ok(_) | Err(Rejected::Invalid(_) | Rejected::Conflict { .. })) => false,
            Some(Err(Rejected::Full | Rejected::Unavailable(_))) | None => true,
        });
        self.0.is_empty()
    }
}

/// One alarm for the signals whose last values belong together: to one patient whom the device named, or to whoever lay
/// in its bed at one instant.
fn stale_alarms(device: &DeviceId, now: Timestamp, gone: &[Gone]) -> Vec<EdgeSample> {
    let mut alarms: Vec<EdgeSample> = Vec::new();
    for signal in gone {
        let reading = SampleReading {
            code: signal.signal.0,
            unit: signal.signal.1,
            value: Value::Absent(AbsentReason::Stale),
            flags: Flags::NONE,
        };
        let same = |alarm: &&mut EdgeSample| {
            alarm.patient == signal.patient
                && (alarm.patient.is_some() || alarm.owned_at == signal.at)
        };
        match alarms.iter_mut().find(same) {
            Some(alarm) => alarm.readings.push(reading),
            None => alarms.push(EdgeSample {
                device: device.clone(),
                source_time: now,
                patient: signal.patient.clone(),
                owned_at: signal.at,
                readings: vec![reading],
            }),
        }
    }
    alarms
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Phi;

    fn gone(code: &str, at: i64, patient: Option<&str>) -> Gone {
        let code: types::Code = code.parse().unwrap();
        Gone {
            signal: (code, code.info().unit.parse().unwrap()),
            at: Timestamp(at),
            patient: patient.map(|id| Phi::new(id.into())),
        }
    }

    fn device() -> DeviceId {
        "m1".parse().unwrap()
    }

    #[test]
    fn an_alarm_holds_the_signals_of_one_patient() {
        let signals = [
            gone("8867-4", 1, None),
            gone("9279-1", 1, None),
            gone("2708-6", 2, None),
            gone("8310-5", 1, Some("p-1")),
            gone("8889-8", 2, Some("p-1")),
        ];
        let alarms = stale_alarms(&device(), Timestamp(9), &signals);
        let shapes: Vec<_> = alarms
            .iter()
            .map(|a| (a.readings.len(), a.owned_at.0, a.patient.is_some()))
            .collect();
        assert_eq!(shapes, [(2, 1, false), (1, 2, false), (2, 1, true)]);
        assert!(alarms.iter().all(|alarm| alarm.source_time == Timestamp(9)));
    }

    #[tokio::test]
    async fn what_is_not_stored_is_offered_again_and_what_is_stored_is_not() {
        let mut unstored = Unstored::default();
        let signals = [gone("8867-4", 1, None), gone("2708-6", 2, None)];
        unstored.add(&device(), Timestamp(9), &signals);
        let full = |offered: Vec<EdgeSample>| async move {
            assert_eq!(offered.len(), 2);
            vec![Err(Rejected::Full), Ok(Stored::New)]
        };
        assert!(!unstored.store(full).await);
        let well = |offered: Vec<EdgeSample>| async move {
            assert_eq!(offered.len(), 1);
            vec![Ok(Stored::New)]
        };
        assert!(unstored.store(well).await);
        let never = |_| async { unreachable!("nothing waits") };
        assert!(unstored.store(never).await);
    }
}
