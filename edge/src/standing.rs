//! How a facility stands with the world outside: whether its link is up, its leases hold and its clock is believed.
//!
//! It does without any of them: it stores, polls and alarms. `/ready` says what it lacks.
use async_trait::async_trait;
use federation::{
    identity::Identity,
    port::{PeerAudit, PortError},
};
use node::health::{Check, Health};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use store::Holding;

/// What a facility's node says of its link, leases and clock.
pub(crate) struct Standing {
    link: Check,
    lease: Check,
    clock: Check,
    quarantine: Check,
    /// Why the peer that answered last was refused, if it was.
    refused: Mutex<Option<&'static str>>,
    /// Whether parcels wait for one that does not come.
    stuck: AtomicBool,
}

impl Standing {
    pub(crate) fn new(health: &Health) -> Self {
        Self {
            link: health.optional("link"),
            lease: health.optional("lease"),
            clock: health.optional("clock"),
            quarantine: health.optional("quarantine"),
            refused: Mutex::new(None),
            stuck: AtomicBool::new(false),
        }
    }

    /// The link is up, or it is not: because a peer was refused, or because nobody answers.
    pub(crate) fn link(&self, up: bool) {
        let mut refused = self.refused.lock();
        if up {
            *refused = None;
            self.link.pass();
        } else {
            self.link.fail(refused.unwrap_or("down"));
        }
    }

    /// Another than the region answered.
    fn refused(&self, reason: &'static str) {
        *self.refused.lock() = Some(reason);
        self.link(false);
    }

    /// The leases hold, or why they do not.
    pub(crate) fn lease(&self, lapsed: Option<&'static str>) {
        match lapsed {
            None => self.lease.pass(),
            Some(reason) => self.lease.fail(reason),
        }
    }

    /// What is in quarantine.
    pub(crate) fn holds(&self, holding: Holding) {
        match (holding.parcels, holding.messages) {
            (false, false) => self.quarantine.pass(),
            (true, false) => self.quarantine.fail("parcels are held"),
            (false, true) => self.quarantine.fail("messages are held"),
            (true, true) => self.quarantine.fail("parcels and messages are held"),
        }
    }

    /// Whether the region defers parcels as out of order for longer than it may.
    pub(crate) fn stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    /// What was said last.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Whether the machine's clock is believed.
    pub(crate) fn clock(&self, trusted: bool) {
        if trusted {
            self.clock.pass();
        } else {
            self.clock.fail("untrusted");
        }
    }
}

/// An audit log of refused peers whose last reason `/ready` shows too.
pub(crate) struct Told<T> {
    pub(crate) audit: T,
    pub(crate) standing: Arc<Standing>,
}

#[async_trait]
impl<T: PeerAudit> PeerAudit for Told<T> {
    async fn turned_away(&self, peer: &Identity, reason: &'static str) -> Result<(), PortError> {
        metrics::counter!("medmesh_link_refused_peers_total", "reason" => reason).increment(1);
        self.standing.refused(reason);
        self.audit.turned_away(peer, reason).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_peer_stays_the_reason_until_the_link_is_up() {
        let health = Health::new();
        let standing = Standing::new(&health);
        let reason = || {
            health
                .degraded()
                .iter()
                .find(|it| it.check == "link")
                .map(|it| it.reason)
        };
        standing.link(false);
        assert_eq!(reason(), Some("down"));
        standing.refused("other-jurisdiction");
        standing.link(false);
        assert_eq!(reason(), Some("other-jurisdiction"));
        standing.link(true);
        assert_eq!(reason(), None);
        standing.link(false);
        assert_eq!(reason(), Some("down"));
    }
}
