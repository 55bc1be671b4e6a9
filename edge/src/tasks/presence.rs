//! Which devices can be reached, for their twins in the region: told when it changes, and every half minute while the link
//! is up, so that a device of which nothing is heard is never taken to be there.
use crate::{
    context::Shared,
    control::{self, Tell},
    error::EdgeError,
};
use broker::Broker;
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use store::clockguard::Time;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use types::{DeviceId, Timestamp};

/// How often it is looked who is there (real time).
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// At the latest after this time the region hears of every device (real time).
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Devices in one message.
const AT_ONCE: usize = 500;

/// Tells until stopped.
pub(crate) async fn presence(
    shared: Arc<Shared>,
    reach: Arc<dyn Tell>,
    stop: CancellationToken,
) -> Result<(), EdgeError> {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: BTreeMap<DeviceId, bool> = BTreeMap::new();
    let mut seen: BTreeMap<DeviceId, Timestamp> = BTreeMap::new();
    let mut last: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let now = shared.guard.now().real;
        let present = look(&shared, reach.as_ref());
        let connected = present.values().filter(|is| **is).count();
        super::set_gauge("medmesh_twins", "connection", "connected", connected as u64);
        let gone = present.len() - connected;
        super::set_gauge("medmesh_twins", "connection", "gone", gone as u64);
        seen.extend(
            present
                .iter()
                .filter(|(_, is)| **is)
                .map(|(id, _)| (id.clone(), now)),
        );
        if !shared.store.is_linked() {
            // What waited for the link would say what was: it is told anew when it is up.
            last = None;
            continue;
        }
        let due = last.is_none_or(|last| last.elapsed() >= TELL_EVERY);
        if !due && present == told {
            continue;
        }
        let rows: Vec<_> = present
            .iter()
            .filter(|(id, is)| due || told.get(*id) != Some(*is))
            .map(|(id, is)| (id.clone(), *is, seen.get(id).copied()))
            .collect();
        let mut all_told = true;
        for rows in rows.chunks(AT_ONCE).map(<[_]>::to_vec) {
            let control = shared.control.clone();
            let step = shared
                .store
                .in_commit(move |commit| control::presence(commit, &control, &rows));
            all_told &= step.await.is_ok();
        }
        if all_told {
            told = present;
            last = if due { Some(Instant::now()) } else { last };
        }
    }
}

/// How devices are told, and which of them may be told now: an MQTT device that has a session, and a Modbus device that is not
/// known to be dead (it is asked before it is told).
pub(super) struct Reach {
    pub(super) shared: Arc<Shared>,
    pub(super) broker: Broker,
}

impl Tell for Reach {
    fn is_connected(&self, device: &DeviceId) -> bool {
        if self.shared.control.is_modbus(device) {
            !self.shared.conditions.is_dead(device)
        } else {
            self.broker.is_connected(device)
        }
    }

    fn tell(&self, device: &DeviceId, message: Bytes, left: Duration) {
        self.broker.tell(device, message, left);
    }
}

/// Whether each device can be reached now; a Modbus device was seen lately, too.
fn look(shared: &Shared, reach: &dyn Tell) -> BTreeMap<DeviceId, bool> {
    let monitor = shared.monitor.lock();
    let is_there = |device: &DeviceId| {
        let is_seen = !shared.control.is_modbus(device) || monitor.is_live(device);
        is_seen && reach.is_connected(device)
    };
    let devices = shared.config.devices.iter();
    devices
        .map(|device| (device.id.clone(), is_there(&device.id)))
        .collect()
}
