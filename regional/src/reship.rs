//! What the global node is sent again: device records when it was put back, or this region was, as it may lack what it
//! was sent before and the registry has all of it; and once an hour the heads of the facilities' audit logs.
use crate::registry::{Device, Filter, MAX_PAGE, Registry};
use federation::{envelope::Envelope, ledger::Ledger, port::PortError};
use messages::{DeviceRecord, DeviceRecords};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use types::{EnvelopeId, Label, Place, Priority, Purpose};

/// How often the heads of audit logs go up (real time).
const HEADS_EVERY: Duration = Duration::from_secs(3_600);
/// After a failure it is tried again after this time (real time).
const RETRY: Duration = Duration::from_secs(5);

/// Ships the registry again whenever that is wanted, until stopped.
pub async fn again(ledger: Ledger, registry: Registry, stop: CancellationToken) {
    let here = ledger.place().clone();
    let mut heads = tokio::time::interval(HEADS_EVERY);
    heads.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let shipped = ship(&ledger, &registry, &here).await;
        let failed = shipped.inspect_err(|error| {
            tracing::warn!(%error, "device records are not shipped again yet");
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = ledger.reship_asked() => {}
            _ = heads.tick() => if let Err(error) = ledger.ship_heads(Place::Global, random_id()).await {
                tracing::warn!(%error, "heads of audit logs are not shipped");
            },
            () = tokio::time::sleep(RETRY), if failed.is_err() => {}
        }
    }
}

/// Ships the whole registry, if that is wanted.
///
/// # Errors
/// [`PortError`]: it is wanted still.
pub async fn ship(ledger: &Ledger, registry: &Registry, here: &Place) -> Result<(), PortError> {
    if !ledger.reship_wanted().await? {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = registry.devices(Filter::default(), after, MAX_PAGE).await?;
        after = page.last().map(|last| last.id);
        if after.is_none() {
            break;
        }
        for body in messages(here, page) {
            let envelope = Envelope {
                from: here.clone(),
                to: Place::Global,
                purpose: Purpose::Operations,
                body,
            };
            // What a policy keeps in the region is audited, and stays there.
            ledger.ship(envelope, Priority::Live, random_id()).await?;
        }
    }
    ledger.reshipped().await
}

fn random_id() -> EnvelopeId {
    let mut id = [0; 16];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut id);
    EnvelopeId::from_bytes(id)
}

/// One message for each facility of a page.
fn messages(here: &Place, page: Vec<Device>) -> Vec<DeviceRecords> {
    let text = |label: Option<Label>| label.map(|label| label.to_string()).unwrap_or_default();
    let mut facilities = BTreeMap::new();
    for device in page {
        let facility = device.facility.to_string();
        let records = facilities.entry(facility).or_insert_with(Vec::new);
        records.push(DeviceRecord {
            catalog_id: device.id.as_bytes().to_vec().into(),
            kind: device.kind.to_string(),
            model: text(device.model),
            firmware: text(device.firmware),
            status: device.status.to_string(),
            updated_ms: device.updated.0,
        });
    }
    let place = |part: Option<String>| part.unwrap_or_default();
    let region = place(here.region().map(ToString::to_string));
    let jurisdiction = place(here.jurisdiction().map(|it| it.as_str().to_owned()));
    let message = |(facility, devices)| DeviceRecords {
        facility,
        region: region.clone(),
        jurisdiction: jurisdiction.clone(),
        devices,
    };
    facilities.into_iter().map(message).collect()
}
