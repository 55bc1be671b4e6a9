//! Signals that go stale: each raises an alarm, once.
use super::set_gauge;
use crate::{
    alarms::Unstored,
    context::Shared,
    error::EdgeError,
    freshness::{Change, TICK},
    pipeline::{Publish, alarm_message},
};
use broker::Topic;
use ingest::{Rejected, Stored};
use std::sync::Arc;
use store::EdgeSample;
use store::clockguard::Time;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use types::{Code, DeviceId, Timestamp, Unit};

/// Raises an alarm for every signal that went stale, and says when it is over.
pub(crate) async fn staleness(
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
        waiting = !unstored.store(|alarms| raise(&shared, alarms)).await;
        if waiting && !waited {
            tracing::error!("alarms are not stored yet; they were said and are offered again");
        }
    }
}

/// Stores alarms, and says to who listens which of them are stored.
async fn raise(shared: &Shared, alarms: Vec<EdgeSample>) -> Vec<Result<Stored, Rejected>> {
    let said: Vec<_> = alarms
        .iter()
        .map(|alarm| shared.changes.of_edge(alarm))
        .collect();
    let answers = shared.store.raise(alarms).await;
    for (change, answer) in said.into_iter().zip(&answers) {
        if let (Some(change), Ok(_)) = (change, answer) {
            shared.changes.say(change);
        }
    }
    answers
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
