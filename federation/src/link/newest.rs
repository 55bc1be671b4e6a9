//! The stream of each sender that is read: its newest. A sender needs one; what it could make this node hold of messages
//! that are not whole is then one message, however many connections and streams it opens.
//!
//! A sender's hello begins one too. What an older connection still has under way is taken before the hello is answered,
//! which then says so, or never: a sender that was put back since it sent that gives its numbers to other parcels.
use crate::identity::Identity;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// By sender, its newest stream. Senders are those with business here, a few thousand at most.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<HashMap<Identity, Reading>>);

/// A stream that is read, or was.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Cancelled when a newer one begins.
    pub(super) newer: CancellationToken,
    /// Of all streams of the sender.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Reading {
    /// Waits until no other stream of the sender has anything in hand, and lets none have while this is held; none when
    /// a newer one has begun.
    pub(super) async fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        (!self.newer.is_cancelled()).then_some(turn)
    }
}

impl Newest {
    /// Begins a stream of a sender, and ends the one before.
    pub(super) fn begin(&self, sender: &Identity) -> Reading {
        let mut streams = self.0.lock();
        let before = streams.get(sender);
        let reading = Reading {
            newer: CancellationToken::new(),
            turn: before.map_or_else(Arc::default, |before| before.turn.clone()),
        };
        if let Some(before) = streams.insert(sender.clone(), reading.clone()) {
            before.newer.cancel();
        }
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn sender(name: &str) -> Identity {
        Identity::Node(name.parse().unwrap())
    }

    #[test]
    fn a_new_stream_ends_the_one_before_of_the_same_sender_alone() {
        let newest = Newest::default();
        let first = newest.begin(&sender("edge/us/us/us-f1"));
        let other = newest.begin(&sender("edge/us/us/us-f2"));
        let second = newest.begin(&sender("edge/us/us/us-f1"));
        assert!(first.newer.is_cancelled());
        assert!(!other.newer.is_cancelled() && !second.newer.is_cancelled());
    }

    #[test]
    fn what_an_older_stream_has_in_hand_is_taken_before_a_newer_one_has_its_turn_or_never() {
        let newest = Newest::default();
        let first = newest.begin(&sender("edge/us/us/us-f1"));
        let in_hand = first.turn().now_or_never().flatten().unwrap();
        let second = newest.begin(&sender("edge/us/us/us-f1"));
        assert!(second.turn().now_or_never().is_none(), "it waits");
        drop(in_hand);
        assert!(second.turn().now_or_never().flatten().is_some());
        assert!(first.turn().now_or_never().unwrap().is_none(), "too late");
        let other = newest.begin(&sender("edge/us/us/us-f2"));
        let _turn = second.turn().now_or_never().flatten().unwrap();
        assert!(other.turn().now_or_never().flatten().is_some());
    }
}
