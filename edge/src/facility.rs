//! The facility's view of a running node: the store's pages, how fresh the last values are, and what is stored now.
use crate::{
    freshness::Monitor,
    view::{
        AlarmsAsked, BedNow, CHANGES, Change, DeviceNow, FacilityView, Page, PatientStay,
        SeriesAsked, ValueNow,
    },
};
use async_trait::async_trait;
use ingest::{Sample, Urgency};
use parking_lot::Mutex;
use std::sync::Arc;
use store::{EdgeSample, Store, StoreError};
use tokio::sync::broadcast;
use types::Timestamp;

/// Says what was stored to whoever listens. Nothing is made of a sample that nobody hears.
#[derive(Clone, Debug)]
pub struct Changes(broadcast::Sender<Arc<Change>>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(CHANGES))
    }
}

impl Changes {
    /// What is to be said of a sample once it is stored; none when nobody listens.
    #[must_use]
    pub fn of(&self, sample: &Sample) -> Option<Change> {
        (self.0.receiver_count() > 0).then(|| Change {
            device: sample.device.clone(),
            at: sample.source_time,
            alarm: sample.urgency == Urgency::Alarm,
            readings: sample.readings.iter().cloned().map(Into::into).collect(),
        })
    }

    /// The same of an alarm that the edge raises itself.
    #[must_use]
    pub fn of_edge(&self, sample: &EdgeSample) -> Option<Change> {
        (self.0.receiver_count() > 0).then(|| Change {
            device: sample.device.clone(),
            at: sample.source_time,
            alarm: true,
            readings: sample.readings.iter().cloned().map(Into::into).collect(),
        })
    }

    /// Says it. Never waits: who falls [`CHANGES`] behind is told how many it missed.
    pub fn say(&self, change: Change) {
        // Nobody may be left.
        let _heard = self.0.send(Arc::new(change));
    }

    /// What is said from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Change>> {
        self.0.subscribe()
    }
}

/// A running node's [`FacilityView`].
#[derive(Clone)]
pub struct Facility {
    /// Where everything is stored.
    pub store: Store,
    /// How fresh the last values are.
    pub monitor: Arc<Mutex<Monitor>>,
    /// What is stored now.
    pub changes: Changes,
}

#[async_trait]
impl FacilityView for Facility {
    async fn beds(&self, now: Timestamp) -> Result<Vec<BedNow>, StoreError> {
        let read = self.store.look_at_beds(now).await?;
        let monitor = self.monitor.lock();
        let bed = |bed: store::BedRead| BedNow {
            devices: bed
                .devices
                .into_iter()
                .map(|(device, values)| DeviceNow {
                    values: values
                        .into_iter()
                        .map(|(at, reading)| ValueNow {
                            freshness: monitor.of(&device, &reading, at, now),
                            at,
                            reading,
                        })
                        .collect(),
                    device,
                })
                .collect(),
            bed: bed.bed,
            patient: bed.patient,
            since: bed.since,
        };
        Ok(read.into_iter().map(bed).collect())
    }

    async fn stays(&self, now: Timestamp) -> Result<Vec<PatientStay>, StoreError> {
        self.store.look_at_stays(now).await
    }

    async fn series(&self, asked: SeriesAsked) -> Result<Page, StoreError> {
        self.store.look_at_series(asked).await
    }

    async fn alarms(&self, asked: AlarmsAsked) -> Result<Page, StoreError> {
        self.store.look_at_alarms(asked).await
    }

    fn changes(&self) -> broadcast::Receiver<Arc<Change>> {
        self.changes.listen()
    }
}
