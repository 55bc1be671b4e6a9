//! What the broker counts. Labels are from closed sets; no device, topic or payload is named.
use metrics::{Counter, Gauge, counter, gauge};

/// Handles, registered once.
pub(super) struct Meters {
    pub(super) connections: Gauge,
    pub(super) stored: Counter,
    pub(super) duplicate: Counter,
    pub(super) conflict: Counter,
    pub(super) invalid: Counter,
    pub(super) later: Counter,
    pub(super) unauthorized: Counter,
    pub(super) status: Counter,
    /// Messages to subscribers that were dropped: QoS 0 beyond a limit, or longer than the client takes.
    pub(super) dropped: Counter,
}

impl Meters {
    pub(super) fn register() -> Self {
        let outcome =
            |outcome: &'static str| counter!("medmesh_mqtt_publishes_total", "outcome" => outcome);
        Self {
            connections: gauge!("medmesh_mqtt_connections"),
            stored: outcome("stored"),
            duplicate: outcome("duplicate"),
            conflict: outcome("conflict"),
            invalid: outcome("invalid"),
            later: outcome("later"),
            unauthorized: outcome("unauthorized"),
            status: outcome("status"),
            dropped: counter!("medmesh_mqtt_dropped_total"),
        }
    }
}

/// A connection that was not let in; the reason is from a closed set.
pub(super) fn refused(reason: &'static str) {
    counter!("medmesh_mqtt_refused_total", "reason" => reason).increment(1);
}

/// A connection that ended; the reason is from a closed set.
pub(super) fn ended(reason: &'static str) {
    counter!("medmesh_mqtt_ended_total", "reason" => reason).increment(1);
}
