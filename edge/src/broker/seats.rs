//! One seat per known device: who holds it speaks for the device and owns its session.
//!
//! A newcomer with the same client id claims the seat; the holder sees the claim, finishes what it has in hand, publishes
//! its will if it must, and leaves; then the newcomer sits down (MQTT-3.1.4-3). So an old death message is durable before
//! a new birth can be. The latest claim wins. Who holds a seat without a connection only waits for the session to expire.
use super::{hub::Hub, outbound::Outbound};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use types::DeviceId;

use super::hub::Mailbox;

/// What outlives a connection, until the session expires or the process ends.
#[derive(Default)]
pub(super) struct Session {
    /// A session exists that a client can come back to.
    pub(super) kept: bool,
    /// Present while there are subscriptions.
    pub(super) mailbox: Option<Arc<Mailbox>>,
    pub(super) outbound: Outbound,
    /// QoS 2 packet ids whose PUBREC was sent and whose PUBREL is awaited.
    pub(super) received: HashSet<u16>,
}

impl Session {
    /// Ends the session: nothing of it is left.
    pub(super) fn end(&mut self, hub: &Hub, device: &DeviceId) {
        if self.mailbox.is_some() {
            hub.close(device);
        }
        *self = Self::default();
    }
}

/// A claim of a seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    number: u64,
    /// The newcomer begins a new session.
    pub(super) clean: bool,
}

#[derive(Default)]
struct Seat {
    session: Arc<Mutex<Session>>,
    claims: watch::Sender<Claim>,
}

/// A seat that is held.
pub(super) struct Held {
    pub(super) session: OwnedMutexGuard<Session>,
    pub(super) claims: Claims,
}

/// Claims of a held seat by others.
pub(super) struct Claims {
    claims: watch::Receiver<Claim>,
    mine: u64,
}

impl Claims {
    /// Resolves when somebody else claims the seat.
    pub(super) async fn claimed(&mut self) -> Claim {
        let mine = self.mine;
        let claim = self.claims.wait_for(|claim| claim.number > mine).await;
        let claim = claim.map(|claim| *claim).ok();
        match claim {
            Some(claim) => claim,
            // The seats are gone with the broker, which stops its connections by itself.
            None => std::future::pending().await,
        }
    }
}

/// The seats of all known devices.
pub(super) struct Seats(HashMap<DeviceId, Seat>);

impl Seats {
    pub(super) fn new<'a>(devices: impl Iterator<Item = &'a DeviceId>) -> Self {
        Self(devices.map(|id| (id.clone(), Seat::default())).collect())
    }

    /// Whether the device is known.
    pub(super) fn known(&self, device: &DeviceId) -> bool {
        self.0.contains_key(device)
    }

    /// Takes the device's seat from whoever holds it. `None`: unknown, or the holder did not leave within `wait`.
    pub(super) async fn claim(
        &self,
        device: &DeviceId,
        clean: bool,
        wait: Duration,
    ) -> Option<Held> {
        let seat = self.0.get(device)?;
        let mut mine = 0;
        seat.claims.send_modify(|claim| {
            mine = claim.number + 1;
            *claim = Claim {
                number: mine,
                clean,
            };
        });
        let session = Arc::clone(&seat.session).lock_owned();
        let session = tokio::time::timeout(wait, session).await.ok()?;
        Some(Held {
            session,
            claims: Claims {
                claims: seat.claims.subscribe(),
                mine,
            },
        })
    }
}
