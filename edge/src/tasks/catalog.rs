//! Which devices there are, for the catalog.
use crate::{context::Shared, error::EdgeError};
use federation::models::DeviceModels;
use messages::{DeviceRecord, DeviceRecords};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use store::StoreError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use types::{DeviceId, DeviceStatus, Label};

/// How often the catalog is compared with what was shipped (real time): a device that flaps costs a parcel each.
const CATALOG_TICK: Duration = Duration::from_secs(1);
/// Device records in one parcel.
const CATALOG_RECORDS: usize = 500;

/// Tells the catalog which devices there are, at start and when one of them comes alive or falls silent; and which there
/// are no more, since they were taken out of the configuration.
pub(crate) async fn catalog(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), EdgeError> {
    let models = DeviceModels::load(shared.config.device_models.as_ref()).unwrap_or_else(|error| {
        tracing::error!(%error, "no model or firmware version is named");
        DeviceModels::default()
    });
    let mut shipped: HashMap<DeviceId, bool> = HashMap::new();
    let mut are_retired = false;
    let mut ticks = interval(CATALOG_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        if shared.store.take_resynced() {
            // The region may have been put back: it is told again of every device.
            shipped.clear();
            are_retired = false;
        }
        if !are_retired {
            match retire(&shared).await {
                Ok(()) => are_retired = true,
                Err(error) => tracing::warn!(%error, "no device is told to be retired yet"),
            }
        }
        let changed: Vec<_> = {
            let monitor = shared.monitor.lock();
            let ids = shared.config.devices.iter().map(|device| &device.id);
            let states = ids.map(|id| (id.clone(), monitor.is_live(id)));
            let changed = states.filter(|(id, live)| shipped.get(id) != Some(live));
            changed.take(CATALOG_RECORDS).collect()
        };
        if changed.is_empty() {
            continue;
        }
        match ship(&shared, &models, &changed).await {
            Ok(()) => shipped.extend(changed),
            Err(error) => tracing::warn!(%error, "device records are not shipped yet"),
        }
    }
}

/// Of a device the catalog learns what it is, never its serial number.
async fn ship(
    shared: &Shared,
    models: &DeviceModels,
    changed: &[(DeviceId, bool)],
) -> Result<(), StoreError> {
    let config = &shared.config;
    let mut records = none_yet(shared);
    for (id, live) in changed {
        let Some(device) = config.devices.iter().find(|device| device.id == *id) else {
            continue;
        };
        let entry = shared.store.device(id).await?;
        let mut record = DeviceRecord {
            catalog_id: entry.catalog_id.as_bytes().to_vec().into(),
            kind: device.kind.to_string(),
            model: text(device.model.as_ref()),
            firmware: text(device.firmware.as_ref()),
            status: match live {
                true => DeviceStatus::Active,
                false => DeviceStatus::Silent,
            }
            .to_string(),
            // The store dates it.
            updated_ms: 0,
        };
        models.restrict(&mut record.model, &mut record.firmware);
        records.devices.push(record);
    }
    shared.store.ship_devices(records).await
}

/// Tells the catalog that devices of which it was told are none of the configuration any more. One that is configured again
/// is told of as any other.
async fn retire(shared: &Shared) -> Result<(), StoreError> {
    let configured = shared.config.devices.iter().map(|device| &device.id);
    let configured: HashSet<&DeviceId> = configured.collect();
    let known = shared.store.catalogued().await?.into_iter();
    let gone = known.filter(|(id, _)| !configured.contains(id));
    let gone: Vec<DeviceRecord> = gone
        .map(|(_, record)| DeviceRecord {
            status: DeviceStatus::Retired.to_string(),
            ..record
        })
        .collect();
    for devices in gone.chunks(CATALOG_RECORDS) {
        let mut records = none_yet(shared);
        records.devices.extend_from_slice(devices);
        shared.store.ship_devices(records).await?;
    }
    Ok(())
}

/// Records of the facility, without a device.
fn none_yet(shared: &Shared) -> DeviceRecords {
    let config = &shared.config;
    DeviceRecords {
        facility: config.facility.to_string(),
        region: config.region.to_string(),
        jurisdiction: config.jurisdiction.to_string(),
        devices: Vec::new(),
    }
}

fn text(label: Option<&Label>) -> String {
    label.map(ToString::to_string).unwrap_or_default()
}
