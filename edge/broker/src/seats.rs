//! One seat per known device: who holds it speaks for the device and owns its session.
//!
//! A newcomer with the same client id claims the seat; the holder sees the claim, finishes what it has in hand, publishes
//! its will if it must, and leaves; then the newcomer sits down (MQTT-3.1.4-3). So an old death message is durable before
//! a new birth can be. The latest claim wins. Who holds a seat without a connection only waits for the session to expire.
use super::{
    hub::Hub,
    outbound::Outbound,
    room::{Load, Room},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use types::DeviceId;

use super::hub::Mailbox;

/// What a QoS 2 publish says: topic, retain flag and payload (SHA-256).
pub(super) type Saying = [u8; 32];

/// What outlives a connection, until the session expires or the process ends.
pub(super) struct Session {
    /// A session exists that a client can come back to.
    pub(super) kept: bool,
    /// Present while there are subscriptions.
    pub(super) mailbox: Option<Arc<Mailbox>>,
    pub(super) outbound: Outbound,
    /// QoS 2 packet ids whose PUBREC was sent and whose PUBREL is awaited, and what was published under them.
    pub(super) received: HashMap<u16, Saying>,
    /// Bounds all that waits for it.
    pub(super) room: Arc<Room>,
}

impl Session {
    fn new(room: Arc<Room>) -> Self {
        Self {
            kept: false,
            mailbox: None,
            outbound: Outbound::default(),
            received: HashMap::new(),
            room,
        }
    }

    /// Whether a message was lost that its client should have got: then there is no session to come back to.
    pub(super) fn is_lost(&self) -> bool {
        self.mailbox.as_ref().is_some_and(|mailbox| mailbox.lost())
    }

    /// Ends the session: nothing of it is left.
    pub(super) fn end(&mut self, hub: &Hub, device: &DeviceId) {
        if self.mailbox.is_some() {
            hub.close(device);
        }
        *self = Self::new(Arc::clone(&self.room));
    }
}

/// A claim of a seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    number: u64,
    /// The newcomer begins a new session.
    pub(super) clean: bool,
}

struct Seat {
    session: Arc<Mutex<Session>>,
    claims: watch::Sender<Claim>,
    #[cfg(test)]
    room: Arc<Room>,
}

impl Seat {
    fn new(limit: Load) -> Self {
        let room = Room::new(limit);
        Self {
            session: Arc::new(Mutex::new(Session::new(Arc::clone(&room)))),
            claims: watch::Sender::default(),
            #[cfg(test)]
            room,
        }
    }
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
    /// Seats of sessions for each of which so much may wait.
    pub(super) fn new<'a>(devices: impl Iterator<Item = &'a DeviceId>, limit: Load) -> Self {
        Self(devices.map(|id| (id.clone(), Seat::new(limit))).collect())
    }

    /// What waits for a device's session.
    #[cfg(test)]
    pub(super) fn load(&self, device: &DeviceId) -> Load {
        self.0
            .get(device)
            .map_or(Load::default(), |seat| seat.room.used())
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
