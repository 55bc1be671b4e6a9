//! A catalog that does what the port allows and SQLite never does: it redelivers writes, brings old records after
//! new ones, fails after half of a write, and hides a fresh write from one read.
use super::{
    Catalog, Device, DeviceCursor, DeviceFilter, Facility, Home, Kind, Page, PlaceFilter, Put,
    Records, StoreError, check_records,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use types::CatalogId;

/// Writes that are remembered for redelivery.
const REMEMBERED: usize = 64;

/// Any catalog, made as weak as the port allows.
pub struct Adversary {
    inner: Arc<dyn Catalog>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    past: Vec<Records>,
    writes: usize,
    hide: bool,
}

impl Adversary {
    /// Weakens a catalog.
    #[must_use]
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self {
            inner,
            state: Mutex::default(),
        }
    }

    /// Whether this read is the one that must not see the last write.
    fn hides(&self) -> bool {
        std::mem::take(&mut self.state.lock().hide)
    }
}

#[async_trait]
impl Catalog for Adversary {
    async fn put_devices(&self, records: &Records) -> Result<Put, StoreError> {
        check_records(records)?;
        let (half, replay) = {
            let mut state = self.state.lock();
            state.writes += 1;
            state.hide = true;
            let half = state.writes.is_multiple_of(3);
            let replay = state.past.clone();
            if state.past.len() < REMEMBERED {
                state.past.push(records.clone());
            }
            (half, replay)
        };
        if half && records.devices.len() > 1 {
            let part = Records {
                home: records.home.clone(),
                devices: records.devices[..records.devices.len() / 2].to_vec(),
            };
            if self.inner.put_devices(&part).await? == Put::Foreign {
                return Ok(Put::Foreign);
            }
            return Err(StoreError::new(Kind::Unavailable, "put_devices"));
        }
        let put = self.inner.put_devices(records).await?;
        for old in replay.iter().rev().chain([records]) {
            self.inner.put_devices(old).await?;
        }
        Ok(put)
    }

    async fn device(&self, id: CatalogId) -> Result<Option<Device>, StoreError> {
        if self.hides() {
            return Ok(None);
        }
        self.inner.device(id).await
    }

    async fn devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceCursor>,
        limit: usize,
    ) -> Result<Page<Device, DeviceCursor>, StoreError> {
        let page = self.inner.devices(filter, after, limit).await?;
        if self.hides() {
            return Ok(Page {
                items: Vec::new(),
                next: after.cloned(),
            });
        }
        Ok(page)
    }

    async fn facilities(
        &self,
        filter: &PlaceFilter,
        after: Option<&Home>,
        limit: usize,
    ) -> Result<Page<Facility, Home>, StoreError> {
        let page = self.inner.facilities(filter, after, limit).await?;
        if self.hides() {
            return Ok(Page {
                items: Vec::new(),
                next: after.cloned(),
            });
        }
        Ok(page)
    }
}
