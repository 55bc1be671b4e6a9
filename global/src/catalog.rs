//! The catalog: which devices and facilities the mesh has. A port, promised in the words of the weakest engine
//! that keeps it (Apache Cassandra without lightweight transactions), and the types that it stores.
//!
//! No row of a patient can be expressed: there is no field for one, and no field holds free text.
#[cfg(feature = "contract")]
#[allow(clippy::indexing_slicing, reason = "it is a test")]
pub mod adversary;
#[cfg(feature = "contract")]
#[allow(clippy::indexing_slicing, reason = "it is a test")]
pub mod contract;
mod cursor;
mod device;
#[cfg(feature = "scylla")]
pub mod scylla;
pub mod sqlite;

pub use cursor::{DeviceCursor, InvalidCursor};
pub use device::{Device, Entry, Facts, Home, Records};

use async_trait::async_trait;
pub use storage::{StoreError, StoreErrorKind as Kind};
use types::{CatalogId, DeviceKind, DeviceStatus, FacilityId, Jurisdiction, RegionId, Timestamp};

/// Devices in one call of [`Catalog::put_devices`]: more than a facility has, and a few hundred kilobytes.
pub const MAX_RECORDS: usize = 10_000;
/// Rows in one page: some 200 bytes each, so that a page stays below a quarter of a megabyte.
pub const MAX_PAGE: usize = 1_000;

/// Which facilities; a field that is none lets every value pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceFilter {
    /// Whose law applies.
    pub jurisdiction: Option<Jurisdiction>,
    /// The region.
    pub region: Option<RegionId>,
    /// The facility.
    pub facility: Option<FacilityId>,
}

impl PlaceFilter {
    /// Whether a facility passes.
    #[must_use]
    pub fn passes(&self, home: &Home) -> bool {
        self.jurisdiction.is_none_or(|own| own == home.jurisdiction)
            && self.region.as_ref().is_none_or(|own| *own == home.region)
            && self
                .facility
                .as_ref()
                .is_none_or(|own| *own == home.facility)
    }
}

/// Which devices; a field that is none lets every value pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Where they are.
    pub place: PlaceFilter,
    /// What they are.
    pub kind: Option<DeviceKind>,
    /// How they are.
    pub status: Option<DeviceStatus>,
}

impl DeviceFilter {
    /// Whether a device's facts pass; the place is checked apart.
    #[must_use]
    pub fn passes(&self, facts: &Facts) -> bool {
        self.kind.is_none_or(|kind| kind == facts.kind)
            && self.status.is_none_or(|status| status == facts.status)
    }
}

/// A facility that has reported a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facility {
    /// The facility.
    pub home: Home,
    /// The day of the last change of any of its devices.
    pub updated: Timestamp,
}

/// A part of a listing. It may be shorter than asked for, even empty, while `next` is given; the listing is over
/// where `next` is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The rows, in the order of the listing.
    pub items: Vec<T>,
    /// Where the next page begins.
    pub next: Option<C>,
}

/// What became of a call of [`Catalog::put_devices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// All of it is durable.
    Stored,
    /// Another facility owns an id of it: nothing was stored.
    Foreign,
}

/// Devices and facilities of the whole mesh.
///
/// **Owners.** The first facility that puts a device owns its id, for good: a call with an id that another facility
/// owns stores nothing ([`Put::Foreign`]). Of two calls at once that claim the same ids each may own some of them, and
/// both are refused.
///
/// **Writes** merge: of two records of one device the later one stays; of two with the same time the one with the
/// greater encoding ([`Facts::encode`]). So the order of one facility's calls, and a call done twice, do not matter.
/// After `Ok` the whole call is durable; after an error any part of it may be, and doing it again completes it.
///
/// **Reads** may miss a write that was just acknowledged, never one that is older than the engine's replication
/// takes. A device that is not written meanwhile is on exactly one page of a listing.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Merges devices of one facility, and makes the facility known.
    ///
    /// # Errors
    /// [`Kind::Refused`] for more than [`MAX_RECORDS`] devices, or a time outside the engine's range.
    async fn put_devices(&self, records: &Records) -> Result<Put, StoreError>;

    /// The device of a catalog id, of the facility that owns it.
    async fn device(&self, id: CatalogId) -> Result<Option<Device>, StoreError>;

    /// Devices by jurisdiction, region, facility and catalog id, each in the order of its text.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a limit of 0 or above [`MAX_PAGE`].
    async fn devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceCursor>,
        limit: usize,
    ) -> Result<Page<Device, DeviceCursor>, StoreError>;

    /// Facilities by jurisdiction, region and facility, each in the order of its text.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a limit of 0 or above [`MAX_PAGE`].
    async fn facilities(
        &self,
        filter: &PlaceFilter,
        after: Option<&Home>,
        limit: usize,
    ) -> Result<Page<Facility, Home>, StoreError>;
}

fn check_limit(op: &'static str, limit: usize) -> Result<(), StoreError> {
    if (1..=MAX_PAGE).contains(&limit) {
        Ok(())
    } else {
        Err(StoreError::new(Kind::Refused, op))
    }
}

fn check_records(records: &Records) -> Result<(), StoreError> {
    let in_range = |entry: &Entry| (0..=Entry::LATEST.0).contains(&entry.updated.0);
    if records.devices.len() <= MAX_RECORDS && records.devices.iter().all(in_range) {
        Ok(())
    } else {
        Err(StoreError::new(Kind::Refused, "put_devices"))
    }
}
