//! Of which subscriptions a step is due. Pure, but for the gauges.
use crate::subscription::retry::KEPT_MS;
use crate::subscription::{Channel, Spec, Standing, Status};
use types::Timestamp;

/// A subscription, and whether its endpoint did not take the last notification.
pub type Due = (Standing, bool);

/// Whether its endpoint did not take the last notification.
pub const fn is_failing(standing: &Standing) -> bool {
    standing.progress.attempts > 0
}

/// Whether an event waited as long as events are kept.
pub fn is_too_old(standing: &Standing, now: Timestamp) -> bool {
    let since = standing.waits_since;
    since.is_some_and(|since| now.0.saturating_sub(since.0) >= KEPT_MS)
}

/// Whether there is something to do for it now.
pub fn is_due(standing: &Standing, now: Timestamp) -> bool {
    if standing.id.is_none() {
        return true;
    }
    let is_time = standing.progress.due <= now.0;
    let Some(spec) = Spec::of_text(&standing.spec) else {
        return standing.status != Status::Error && standing.status != Status::Off;
    };
    let ends = spec.end.is_some_and(|end| end <= now.0);
    match standing.status {
        Status::Off => false,
        Status::Error => ends || (is_too_old(standing, now) && standing.watched),
        Status::Requested => is_time || ends,
        Status::Active if ends || !standing.watched => true,
        Status::Active => match &spec.channel {
            Channel::Fetched => false,
            Channel::RestHook { heartbeat_s, .. } => {
                let beats = heartbeat_s.is_some_and(|period| {
                    let since = now.0.saturating_sub(standing.progress.sent);
                    since >= i64::from(period) * 1_000
                });
                is_time && (standing.waits_since.is_some() || beats)
            }
        },
    }
}

/// How many subscriptions there are, and how many events wait for their endpoints.
pub fn measure(standings: &[Standing]) {
    for status in [
        Status::Requested,
        Status::Active,
        Status::Error,
        Status::Off,
    ] {
        let own = standings
            .iter()
            .filter(|one| one.id.is_some() && one.status == status);
        metrics::gauge!("medmesh_fhir_subscriptions", "status" => status.as_str())
            .set(as_gauge(own.count() as u64));
    }
    let waits = standings
        .iter()
        .filter(|one| one.waits_since.is_some() && one.status == Status::Active);
    let waiting = waits.map(|one| one.number.saturating_sub(one.delivered));
    metrics::gauge!("medmesh_fhir_events_waiting").set(as_gauge(waiting.sum()));
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn as_gauge(count: u64) -> f64 {
    count as f64
}
