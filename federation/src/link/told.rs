//! Which peers were written to the audit log as turned away, so that one that comes again and again does not fill it:
//! a row for each peer and reason in an hour, and a bound on all of them. What gets no row is counted in
//! `medmesh_link_turned_away_total`.
use crate::{identity::Identity, port::PeerAudit, port::PortError};
use parking_lot::Mutex;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// A peer that was written down is written down again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);
/// Peers that are remembered, and with it rows in [`AGAIN_AFTER`]: a misconfigured fleet, or a flood.
const MAX_PEERS: usize = 1_024;

/// Peers that were written down, and when.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<(Identity, &'static str), Instant>>);

impl Told {
    /// Counts a peer that was turned away, and writes it to the audit log unless that was done lately. Says whether it
    /// was written now.
    ///
    /// # Errors
    /// The row is not durable; the next try writes it again.
    pub(super) async fn tell(
        &self,
        audit: &(impl PeerAudit + ?Sized),
        peer: &Identity,
        reason: &'static str,
    ) -> Result<bool, PortError> {
        metrics::counter!("medmesh_link_turned_away_total", "reason" => reason).increment(1);
        let key = (peer.clone(), reason);
        if !self.is_due(&key, Instant::now()) {
            return Ok(false);
        }
        let written = audit.turned_away(peer, reason).await;
        if written.is_err() {
            self.0.lock().remove(&key);
        }
        written.map(|()| true)
    }

    fn is_due(&self, key: &(Identity, &'static str), now: Instant) -> bool {
        let mut told = self.0.lock();
        told.retain(|_, at| now.duration_since(*at) < AGAIN_AFTER);
        if told.len() >= MAX_PEERS || told.contains_key(key) {
            return false;
        }
        told.insert(key.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Place;

    fn peer(number: usize) -> Identity {
        let place: Place = format!("edge/us/us/f{number}").parse().unwrap();
        Identity::Node(place)
    }

    #[test]
    fn a_peer_is_told_once_an_hour_for_each_reason_and_all_together_are_bounded() {
        let (told, start) = (Told::default(), Instant::now());
        for (key, after_s, due) in [
            ((peer(0), "no-link"), 0, true),
            ((peer(0), "no-link"), 3_599, false),
            ((peer(0), "other-region"), 3_599, true),
            ((peer(0), "no-link"), 3_600, true),
        ] {
            let now = start + Duration::from_secs(after_s);
            assert_eq!(told.is_due(&key, now), due, "{key:?} {after_s}");
        }
        let full = start + 4 * AGAIN_AFTER;
        let due = (0..2 * MAX_PEERS).filter(|n| told.is_due(&(peer(*n), "no-link"), full));
        assert_eq!(due.count(), MAX_PEERS);
    }
}
