//! Commands to the devices of the facility, and their twins as the facility knows them.
//!
//! A command comes down signed by the region ([`intake`]). The edge judges it as the device will, keeps its mark before
//! anything happens, and tells the region in the same commit. The [`dispatch`] task hands it on, to an MQTT device on its
//! topic or to a Modbus device by registers, unless the facility's staff holds or refuses it ([`api`]). What becomes of it
//! goes to the region with what the device then reports ([`rows`], [`report`]).
//!
//! A command is handed to a Modbus device once at most: that it was begun is durable before a register is written. One that
//! did not reach it waits, as for an MQTT device. What a Modbus device reports is what its registers show. To an MQTT device it may be handed again, which carries it out once, since it keeps a mark of its own.
pub mod api;
pub(crate) mod dispatch;
mod intake;
mod report;
mod results;
mod rows;
mod tables;

pub(crate) use dispatch::{Dispatch, Tell};
pub(crate) use intake::TakesCommands;
pub(crate) use report::presence;
pub(crate) use results::{NoAnswer, Results};

use commands::{Command, Table};
use modbus::Profiles;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::Notify;
use types::{DeviceId, DeviceKind};

/// What the parts of it share.
pub(crate) struct Control {
    /// Wakes the dispatch.
    pub(crate) woken: Notify,
    tables: BTreeMap<DeviceId, Table>,
    /// The tables that the region is told, as text.
    texts: BTreeMap<DeviceId, String>,
    modbus: BTreeSet<DeviceId>,
}

impl Control {
    /// The tables of the facility's devices: that of a device's profile, or the product's own of its kind.
    pub(crate) fn new(devices: &[crate::config::DeviceConfig], profiles: &Profiles) -> Arc<Self> {
        let table = |device: &crate::config::DeviceConfig| {
            let profile = device.profile.as_ref().and_then(|name| profiles.get(name));
            let own = profile.map(|profile| profile.command.clone());
            (
                device.id.clone(),
                own.unwrap_or_else(|| Table::built_in(device.kind)),
            )
        };
        let tables: BTreeMap<DeviceId, Table> = devices.iter().map(table).collect();
        let text = |device: &crate::config::DeviceConfig| {
            let text = tables::differing(device, tables.get(&device.id)?)?;
            Some((device.id.clone(), text))
        };
        Arc::new(Self {
            woken: Notify::new(),
            texts: devices.iter().filter_map(text).collect(),
            tables,
            modbus: devices
                .iter()
                .filter(|device| is_told_by_registers(device))
                .map(|device| device.id.clone())
                .collect(),
        })
    }

    fn table(&self, device: &DeviceId) -> Option<&Table> {
        self.tables.get(device)
    }

    /// Whether a command is of safety, by the table of its device.
    fn is_of_safety(&self, device: &DeviceId, command: &Command) -> bool {
        let table = self.table(device);
        let entry = table.and_then(|table| table.entry(command.name.as_str()));
        entry.is_some_and(|entry| entry.safety)
    }

    /// Whether a device is told by registers.
    pub(crate) fn is_modbus(&self, device: &DeviceId) -> bool {
        self.modbus.contains(device)
    }
}

/// A device is polled, and told by registers, when it has a profile and an address, whatever its kind. Monitors and probes have
/// no other way.
const fn is_told_by_registers(device: &crate::config::DeviceConfig) -> bool {
    let is_polled = device.profile.is_some() && device.address.is_some();
    is_polled
        || matches!(
            device.kind,
            DeviceKind::BedsideMonitor | DeviceKind::ColdChain
        )
}
