//! One bound for all that waits for one session, whichever way it came: live, while the device is away, a will, or a
//! retained message of a new subscription; in the router, in the mailbox, behind the window or in flight.
//!
//! A message that waits holds a [`Share`] of it, and nothing can wait without one. A share is given back when the message is
//! acknowledged, sent at QoS 0, lapsed or dropped with its session.
use parking_lot::Mutex;
use std::sync::Arc;

/// What a waiting message costs beside its topic, payload and properties: queue entries and handles, in bytes.
pub(super) const MESSAGE_OVERHEAD: usize = 256;

/// How much may wait for one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) messages: usize,
    /// Topics, payloads and properties, and [`MESSAGE_OVERHEAD`] for each message.
    pub(super) bytes: usize,
}

/// The room of one session.
#[derive(Debug)]
pub(super) struct Room {
    limit: Load,
    used: Mutex<Load>,
}

/// The right of one message to wait.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub(super) fn new(limit: Load) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: Mutex::default(),
        })
    }

    /// A share for a message of so many bytes; `None` when the bound is reached.
    pub(super) fn share(self: &Arc<Self>, message_bytes: usize) -> Option<Share> {
        let bytes = message_bytes.saturating_add(MESSAGE_OVERHEAD);
        let mut used = self.used.lock();
        if used.messages >= self.limit.messages || bytes > self.limit.bytes - used.bytes {
            return None;
        }
        used.messages += 1;
        used.bytes += bytes;
        drop(used);
        Some(Share {
            room: Arc::clone(self),
            bytes,
        })
    }

    /// What waits now.
    #[cfg(test)]
    pub(super) fn used(&self) -> Load {
        *self.used.lock()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut used = self.room.used.lock();
        used.messages -= 1;
        used.bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_up_to_the_bound_in_messages_and_in_bytes_and_comes_back() {
        let limit = Load {
            messages: 2,
            bytes: 2 * MESSAGE_OVERHEAD + 10,
        };
        let room = Room::new(limit);
        let first = room.share(9).unwrap();
        assert!(room.share(2).is_none(), "one byte too many");
        let second = room.share(1).unwrap();
        assert_eq!(room.used(), limit);
        assert!(room.share(0).is_none(), "one message too many");
        drop(first);
        assert!(room.share(usize::MAX).is_none());
        drop((second, room.share(9).unwrap()));
        assert_eq!(room.used(), Load::default());
    }
}
