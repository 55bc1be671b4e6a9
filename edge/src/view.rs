//! What a facility's own people and programs see of it: who lies where with which last values, series over a time range,
//! alarms, and every change as it happens.
//!
//! [`FacilityView`] is the port; the store answers it on connections of its own ([`store`]), so that no reader
//! waits for the uplink nor the uplink for a reader. A page is bounded, and a reader that falls behind the changes is
//! told how many it missed: nobody who reads slows what comes in.
use async_trait::async_trait;
use serde::{Serialize, Serializer};
use std::sync::Arc;
use store::StoreError;
use store::page::shown;
pub use store::page::{
    AlarmsAsked, Cursor, MAX_PAGE, Page, PatientStay, Point, Reading, SeriesAsked, Whose,
};
use tokio::sync::broadcast;
use types::{DeviceId, Freshness, Phi, Timestamp};

/// Changes that wait for a reader; beyond it the oldest are skipped, counted: ten seconds of a large facility.
pub const CHANGES: usize = 4_096;

/// The facility's data as its own side reads it. Everything in it is PHI and stays in the facility.
#[async_trait]
pub trait FacilityView: Send + Sync + 'static {
    /// Every bed of which anything is known at `now` (mesh time), in the order of their names.
    ///
    /// # Errors
    /// The store does not answer.
    async fn beds(&self, now: Timestamp) -> Result<Vec<BedNow>, StoreError>;

    /// Every stay of a patient that has begun by `now` (mesh time), in the order in which they began: as long as entries of
    /// beds say without a gap that the patient lies in one.
    ///
    /// # Errors
    /// As [`FacilityView::beds`].
    async fn stays(&self, now: Timestamp) -> Result<Vec<PatientStay>, StoreError>;

    /// One page of a series, in the order of the source times.
    ///
    /// # Errors
    /// As [`FacilityView::beds`].
    async fn series(&self, asked: SeriesAsked) -> Result<Page, StoreError>;

    /// One page of alarms, in the order of the source times: what devices sent as alarms and what the edge raised.
    ///
    /// # Errors
    /// As [`FacilityView::beds`].
    async fn alarms(&self, asked: AlarmsAsked) -> Result<Page, StoreError>;

    /// What is stored from now on, each sample after the commit that holds it.
    fn changes(&self) -> broadcast::Receiver<Arc<Change>>;
}

/// A bed now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BedNow {
    /// The bed.
    pub bed: String,
    /// The facility's id of who lies in it; none: nobody.
    #[serde(serialize_with = "shown")]
    pub patient: Option<Phi<String>>,
    /// Since when that holds; none: nothing was ever entered of the bed.
    pub since: Option<Timestamp>,
    /// The devices that stand there, each with its last values.
    pub devices: Vec<DeviceNow>,
}

/// A device at a bed now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceNow {
    /// The device.
    pub device: DeviceId,
    /// The last value of each of its signals that it measured of the bed's patient, in the order of their codes.
    pub values: Vec<ValueNow>,
}

/// The last value of a signal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueNow {
    /// When it was measured; not later than when it came in.
    pub at: Timestamp,
    /// The reading.
    #[serde(flatten)]
    pub reading: Reading,
    /// How true it is of now.
    #[serde(serialize_with = "freshness")]
    pub freshness: Freshness,
}

/// A sample that was stored just now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The device.
    pub device: DeviceId,
    /// When it was measured.
    pub at: Timestamp,
    /// Whether it is an alarm.
    pub alarm: bool,
    /// Its readings.
    pub readings: Vec<Reading>,
}

fn freshness<S: Serializer>(freshness: &Freshness, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match freshness {
        Freshness::Live => "live",
        Freshness::Stale => "stale",
        Freshness::Historical => "historical",
        Freshness::Absent => "absent",
    })
}
