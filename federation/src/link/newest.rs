//! The stream of each sender that is read: its newest. A sender needs one; what it could make this node hold of messages
//! that are not whole is then one message, however many connections and streams it opens.
use crate::identity::Identity;
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio_util::sync::CancellationToken;

/// By sender, the token of its newest stream. Senders are those with business here, a few thousand at most.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<HashMap<Identity, CancellationToken>>);

impl Newest {
    /// Begins a stream of a sender, and ends the one before. Cancelled when a newer one begins.
    pub(super) fn begin(&self, sender: &Identity) -> CancellationToken {
        let newer = CancellationToken::new();
        let before = self.0.lock().insert(sender.clone(), newer.clone());
        if let Some(before) = before {
            before.cancel();
        }
        newer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_stream_ends_the_one_before_of_the_same_sender_alone() {
        let newest = Newest::default();
        let sender = |name: &str| Identity::Node(name.parse().unwrap());
        let first = newest.begin(&sender("edge/us/us/us-f1"));
        let other = newest.begin(&sender("edge/us/us/us-f2"));
        let second = newest.begin(&sender("edge/us/us/us-f1"));
        assert!(first.is_cancelled());
        assert!(!other.is_cancelled() && !second.is_cancelled());
    }
}
