//! The node's own tasks: each waits for the stop or a tick, takes a step of a pure core and does its effects.
use crate::{
    alarms::Unstored,
    clockguard::Time,
    error::EdgeError,
    freshness::{Change, TICK},
    ingest::{Publish, Topic},
    lease::{Lease, Subject},
    pipeline::alarm_message,
    run::Shared,
    store::{Condition, Late, StoreError},
};
use federation::{
    link::{LinkState, Uplink, UplinkParts},
    models::DeviceModels,
    port::Outbox,
    watch::Finding,
};
use messages::{DeviceRecord, DeviceRecords};
use node::health::Check;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use types::{Code, DeviceId, Label, Priority, Timestamp, Unit};

/// How often leases are looked at (real time).
const LEASE_LOOK: Duration = Duration::from_secs(5);
/// How often the catalog is compared with what was shipped (real time): a device that flaps costs a parcel each.
const CATALOG_TICK: Duration = Duration::from_secs(1);
/// Device records in one parcel.
const CATALOG_RECORDS: usize = 500;
/// How often metrics, readiness and retention get their turn (real time).
const UPKEEP_TICK: Duration = Duration::from_secs(1);
/// Retention, and the time kept, get every such turn: each costs an fsync on an idle node.
const RETENTION_TURNS: u64 = 10;
/// Steps of retention in one turn, each one commit.
const RETENTION_STEPS: usize = 30;

/// Steps of shipping late in one turn, each one commit.
const LATE_STEPS: usize = 10;

/// Raises an alarm for every signal that went stale, and says when it is over.
pub(crate) async fn freshness(
    shared: Arc<Shared>,
    publish: Arc<dyn Publish>,
    stop: CancellationToken,
) -> Result<(), EdgeError> {
    let (mut unstored, mut waiting) = (Unstored::default(), false);
    let mut beds_known = None;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let version = shared.store.beds_version();
        if beds_known != Some(version)
            && let Ok(beds) = shared.store.beds().await
        {
            shared.monitor.lock().set_beds(beds);
            beds_known = Some(version);
        }
        let now = shared.guard.now().mesh;
        let (changes, counts) = {
            let mut monitor = shared.monitor.lock();
            (monitor.step(now), monitor.counts())
        };
        let states = [
            ("live", counts.live),
            ("stale", counts.stale),
            ("absent", counts.absent),
        ];
        for (state, count) in states {
            set_gauge("medmesh_devices", "state", state, count as u64);
        }
        for change in changes {
            tell(&shared, publish.as_ref(), &mut unstored, change, now);
        }
        let waited = waiting;
        waiting = !unstored.store(|alarms| shared.store.raise(alarms)).await;
        if waiting && !waited {
            tracing::error!("alarms are not stored yet; they were said and are offered again");
        }
    }
}

/// Says a change, once. The alarm of what went stale is left to be stored.
fn tell(
    shared: &Shared,
    publish: &dyn Publish,
    unstored: &mut Unstored,
    change: Change,
    now: Timestamp,
) {
    let say = |device: &DeviceId, state, signals: &[(Code, Unit)]| {
        let topic = shared.topics.of(device, Topic::Alarm);
        publish.publish(&topic, alarm_message(state, now, signals));
    };
    match change {
        Change::Device(device, freshness) => {
            tracing::info!(%device, ?freshness, "device");
        }
        Change::Fresh(device, signals) => say(&device, "cleared", &signals),
        Change::Stale(device, gone) => {
            metrics::counter!("medmesh_stale_alarms_total").increment(gone.len() as u64);
            unstored.add(&device, now, &gone);
            let signals: Vec<_> = gone.iter().map(|gone| gone.signal).collect();
            say(&device, "raised", &signals);
        }
    }
}

/// Keeps the link up while the leases hold, and tells the store whether it is.
pub(crate) async fn uplink(
    shared: Arc<Shared>,
    parts: impl Fn() -> UplinkParts + Send + Sync,
    stop: CancellationToken,
) -> Result<(), EdgeError> {
    let mut said = None;
    while !stop.is_cancelled() {
        let reason = lapsed(&shared);
        if reason != said {
            match reason {
                Some(reason) => tracing::warn!(
                    reason,
                    "nothing is sent without a lease; readings are stored"
                ),
                None => tracing::info!("the leases hold"),
            }
            said = reason;
        }
        shared.standing.lease(reason);
        metrics::gauge!("medmesh_uplink_allowed").set(f64::from(u8::from(reason.is_none())));
        if reason.is_some() {
            shared.standing.link(false);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LEASE_LOOK) => continue,
            }
        }
        let uplink = Uplink::new(parts())?;
        let ended = stop.child_token();
        let (state, stuck) = (uplink.state(), uplink.stuck());
        tokio::join!(
            uplink.run(ended.clone()),
            follow(&shared, state, ended.clone()),
            follow_order(&shared, stuck, ended.clone()),
            cancel_when_lapsed(&shared, ended),
        );
        shared.store.set_link(false);
    }
    Ok(())
}

/// Why nothing may be sent, if so. Without lease files the certificate alone is the lease of the identity.
fn lapsed(shared: &Shared) -> Option<&'static str> {
    let (dir, key) = shared.leases.as_ref()?;
    let now = shared.guard.now().real;
    Subject::ALL.into_iter().find_map(|subject| {
        let lease = Lease::read(dir, key, subject, &shared.here);
        let held = lease.and_then(|lease| lease.holds_at(now));
        held.err().map(|error| error.reason())
    })
}

async fn cancel_when_lapsed(shared: &Shared, ended: CancellationToken) {
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep(LEASE_LOOK) => {}
        }
        if lapsed(shared).is_some() {
            ended.cancel();
        }
    }
}

async fn follow(
    shared: &Shared,
    mut state: tokio::sync::watch::Receiver<LinkState>,
    ended: CancellationToken,
) {
    loop {
        let up = matches!(*state.borrow_and_update(), LinkState::Up { .. });
        shared.store.set_link(up);
        shared.standing.link(up);
        tokio::select! {
            () = ended.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

async fn follow_order(
    shared: &Shared,
    mut stuck: tokio::sync::watch::Receiver<bool>,
    ended: CancellationToken,
) {
    loop {
        shared.standing.stuck(*stuck.borrow_and_update());
        tokio::select! {
            () = ended.cancelled() => break,
            changed = stuck.changed() => if changed.is_err() { break },
        }
    }
    shared.standing.stuck(false);
}

/// Looks at the audit log, at gaps and at the order of parcels.
pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), EdgeError> {
    let checks = Finding::ALL.map(|finding| shared.health.optional(finding.as_str()));
    let say = |finding: Finding, is_wrong| {
        for (check, known) in checks.iter().zip(Finding::ALL) {
            match (known == finding, is_wrong) {
                (true, true) => check.fail(finding.reason()),
                (true, false) => check.pass(),
                (false, _) => {}
            }
        }
    };
    let stuck = || shared.standing.is_stuck();
    federation::watch::watch(shared.store.clone(), stuck, say, stop).await;
    Ok(())
}

/// Tells the catalog which devices there are, at start and when one of them comes alive or falls silent.
pub(crate) async fn catalog(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), EdgeError> {
    let models = DeviceModels::load(shared.config.device_models.as_ref()).unwrap_or_else(|error| {
        tracing::error!(%error, "no model or firmware version is named");
        DeviceModels::default()
    });
    let mut shipped: HashMap<DeviceId, bool> = HashMap::new();
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
    let mut records = DeviceRecords {
        facility: config.facility.to_string(),
        region: config.region.to_string(),
        jurisdiction: config.jurisdiction.to_string(),
        devices: Vec::with_capacity(changed.len()),
    };
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
            status: if *live { "active" } else { "silent" }.into(),
            // The store dates it.
            updated_ms: 0,
        };
        models.restrict(&mut record.model, &mut record.firmware);
        records.devices.push(record);
    }
    shared.store.ship_devices(records).await
}

fn text(label: Option<&Label>) -> String {
    label.map(ToString::to_string).unwrap_or_default()
}

/// Readiness, metrics of what waits, the time kept, and retention.
pub(crate) async fn upkeep(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), EdgeError> {
    let check = shared.health.check("store");
    let clearance = shared.health.optional("clearance");
    let mut held_back = false;
    let mut turn = 0;
    let mut ticks = interval(UPKEEP_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        match shared.store.condition() {
            Condition::Good => check.pass(),
            condition => check.fail(condition.as_str()),
        }
        if let Ok(depths) = shared.store.depths().await {
            for priority in Priority::ALL {
                let count = depths.of(priority);
                set_gauge(
                    "medmesh_outbox_parcels",
                    "priority",
                    priority.as_str(),
                    count,
                );
            }
        }
        held_back = ship_late(&shared, &clearance, held_back).await;
        ship_again(&shared).await;
        let trusted = shared.guard.now().trusted;
        shared.standing.clock(trusted);
        metrics::gauge!("medmesh_clock_trusted").set(f64::from(u8::from(trusted)));
        turn += 1;
        if turn % RETENTION_TURNS == 0 {
            sweep(&shared).await;
        }
    }
}

/// Ships what was stored while nothing might leave, if it may be now. Says whether it still may not.
async fn ship_late(shared: &Shared, clearance: &Check, held_back: bool) -> bool {
    let mut late = Late::default();
    if shared.store.has_unshipped() {
        for _ in 0..LATE_STEPS {
            late = match shared.store.ship_late().await {
                Ok(late) => late,
                // It shows in the condition; the next turn tries again.
                Err(_) => return held_back,
            };
            if late.shipped == 0 || !late.left {
                break;
            }
        }
    }
    let held = late.left && !late.allowed;
    match (held, held_back) {
        (true, false) => tracing::error!(
            "readings may not leave: the de-identification profile has lapsed or a policy refuses; they are stored here"
        ),
        (false, true) => tracing::info!("readings may leave again"),
        (true, true) | (false, false) => {}
    }
    if held {
        clearance.fail("readings may not leave");
    } else {
        clearance.pass();
    }
    held
}

/// Ships what the region did not take and may take now, and says whether anything is held.
async fn ship_again(shared: &Shared) {
    // An error shows in the condition; the next turn tries again.
    let Ok(holding) = shared.store.holding().await else {
        return;
    };
    shared.standing.holds(holding);
    if holding.parcels {
        match shared.store.ship_again().await {
            Ok(shipped) if shipped > 0 => {
                metrics::counter!("medmesh_parcels_shipped_again_total").increment(shipped as u64);
            }
            Ok(_) | Err(_) => {}
        }
    }
}

async fn sweep(shared: &Shared) {
    for _ in 0..RETENTION_STEPS {
        // An error shows in the condition; the next turn tries again.
        match shared.store.housekeep().await {
            Ok(swept) if !swept.done => {}
            Ok(_) | Err(_) => return,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a floating-point number"
)]
fn set_gauge(name: &'static str, label: &'static str, value: &'static str, count: u64) {
    metrics::gauge!(name, label => value).set(count as f64);
}
