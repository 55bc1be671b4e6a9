//! Parcels under way: how many more of a priority may be sent, and which receipt belongs to which parcel.
use super::{LinkError, MAX_PARCEL_BYTES};
use crate::{
    port::LeaseLimits,
    receipt,
    wire::{Outcome, Parcel, Receipt},
};
use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use node::trace::{self, Attribute, Name, Open};
use std::collections::HashMap;
use types::Priority;

/// What may be under way at once, by [`Priority::rank`]. Whatever is sent waits behind what is under way, so the
/// backlog's share is what a receiver stores in well below a second: 512 KiB are some 8,000 readings, and as much passes
/// in half a second at 10 Mbit/s. In parcels it is two of the receiver's batches: while it stores one, the receipts of
/// the other are settled and the next is sent.
pub(super) const WINDOWS: [LeaseLimits; 3] = [
    LeaseLimits {
        parcels: 256,
        bytes: 1 << 20,
    },
    LeaseLimits {
        parcels: 256,
        bytes: 1 << 20,
    },
    LeaseLimits {
        parcels: 128,
        bytes: 512 << 10,
    },
];

/// The most parcels that can be under way.
pub(super) const MAX_PARCELS: usize = WINDOWS[0].parcels + WINDOWS[1].parcels + WINDOWS[2].parcels;

struct Sent {
    id: Bytes,
    /// As it was sealed, and as the outbox knows it: what is sent is not hashed again.
    digest: Bytes,
    bytes: usize,
    /// Its way, where it is traced.
    trace: Option<Open>,
}

/// What a verified receipt means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// The receiver answered for good: accepted, quarantined or refused.
    Final(Priority),
    /// The receiver wants it later.
    Deferred(Priority),
    /// Nothing under way has this receipt: it was answered before.
    Known,
}

/// Parcels under way on one connection.
#[derive(Default)]
pub struct Flight {
    sent: HashMap<(u32, u64), Sent>,
    parcels: [usize; 3],
    bytes: [usize; 3],
}

impl Flight {
    /// Whether no receipt is awaited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// How much more of a priority may be sent; none when its window is full.
    #[must_use]
    pub fn room(&self, priority: Priority) -> Option<LeaseLimits> {
        let window = priority.of(&WINDOWS);
        let left = LeaseLimits {
            parcels: window.parcels.saturating_sub(*priority.of(&self.parcels)),
            bytes: window.bytes.saturating_sub(*priority.of(&self.bytes)),
        };
        (left.parcels > 0 && left.bytes > 0).then_some(left)
    }

    /// [`Flight::depart`] for a parcel that no message can hold. No outbox takes one; if one is there all the same (of
    /// another program's making), so much of it is sent that its receiver can refuse it as too large. A refusal is final
    /// and holds up nothing behind it, while to send all of it would break the link again and again.
    pub(super) fn depart_cut(&mut self, priority: Priority, parcel: &mut Parcel) {
        let trace = trace::step(&mut parcel.traceparent, Name::LinkSend);
        parcel.body.truncate(MAX_PARCEL_BYTES + 1);
        self.depart(priority, parcel);
        if let Some(sent) = self.sent.get_mut(&(parcel.priority, parcel.seq)) {
            sent.trace = trace;
        }
    }

    /// Notes a parcel that is about to be sent. After a deferral everything behind it is leased and sent once more,
    /// though some of it may still be under way: such a parcel takes its room once, since one receipt gives it back.
    pub fn depart(&mut self, priority: Priority, parcel: &Parcel) {
        let sent = Sent {
            id: parcel.id.clone(),
            digest: parcel.digest.clone(),
            bytes: parcel.body.len(),
            trace: None,
        };
        let parcels = priority.of_mut(&mut self.parcels);
        let bytes = priority.of_mut(&mut self.bytes);
        *parcels += 1;
        *bytes += sent.bytes;
        if let Some(before) = self.sent.insert((parcel.priority, parcel.seq), sent) {
            *parcels -= 1;
            *bytes -= before.bytes;
        }
    }

    /// Digest by which the outbox knows the parcel of a receipt.
    pub(super) fn sealed(&self, receipt: &Receipt) -> Option<Bytes> {
        let sent = self.sent.get(&(receipt.priority, receipt.seq))?;
        Some(sent.digest.clone())
    }

    /// Checks a receipt of `receiver`, and takes its parcel off. One that takes a parcel names the digest of what was sealed.
    /// A refusal or a deferral, which takes nothing, may name another: of a body that was cut, or that the disk changed
    /// after it was sealed.
    ///
    /// # Errors
    /// [`LinkError::Forged`] or [`LinkError::Unfit`]: the link must be given up.
    pub fn land(
        &mut self,
        receipt: &Receipt,
        receiver: &str,
        key: &VerifyingKey,
    ) -> Result<Landed, LinkError> {
        receipt::verify(receipt, key)?;
        if receipt.receiver != receiver {
            return Err(LinkError::Unfit("it names another receiver"));
        }
        let place = (receipt.priority, receipt.seq);
        let Some(sent) = self.sent.get(&place) else {
            return Ok(Landed::Known);
        };
        let taken = !matches!(receipt.outcome(), Outcome::Refused | Outcome::Deferred);
        if sent.id != receipt.id || (sent.digest != receipt.digest && taken) {
            return Err(LinkError::Unfit("it is for another parcel"));
        }
        let priority = u8::try_from(receipt.priority)
            .ok()
            .and_then(Priority::from_rank)
            .ok_or(LinkError::Unfit("its priority is none"))?;
        let landed = match receipt.outcome() {
            Outcome::Accepted | Outcome::Quarantined | Outcome::Refused => Landed::Final(priority),
            Outcome::Deferred => Landed::Deferred(priority),
            Outcome::Unspecified => return Err(LinkError::Unfit("it has no outcome")),
        };
        *priority.of_mut(&mut self.parcels) -= 1;
        *priority.of_mut(&mut self.bytes) -= sent.bytes;
        if let Some(trace) = self.sent.remove(&place).and_then(|sent| sent.trace) {
            let outcome = match receipt.outcome() {
                Outcome::Accepted => "accepted",
                Outcome::Quarantined => "quarantined",
                Outcome::Refused => "refused",
                Outcome::Deferred | Outcome::Unspecified => "deferred",
            };
            let priority = Attribute::Priority(priority.as_str());
            trace.end(&[priority, Attribute::Outcome(outcome)]);
        }
        Ok(landed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope;
    use ed25519_dalek::SigningKey;

    const RECEIVER: &str = "regional/us/us";

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[8; 32])
    }

    fn parcel(seq: u64, bytes: usize) -> Parcel {
        let body = Bytes::from(vec![0; bytes]);
        Parcel {
            id: vec![seq as u8; 16].into(),
            priority: 2,
            seq,
            digest: envelope::digest(&body),
            body,
            ..Parcel::default()
        }
    }

    fn answer(parcel: &Parcel, outcome: Outcome) -> Receipt {
        let receipt = Receipt {
            id: parcel.id.clone(),
            priority: parcel.priority,
            seq: parcel.seq,
            digest: envelope::digest(&parcel.body),
            outcome: outcome.into(),
            receiver: RECEIVER.into(),
            ..Receipt::default()
        };
        receipt::sign(receipt, &key())
    }

    fn land(flight: &mut Flight, receipt: &Receipt) -> Result<Landed, LinkError> {
        flight.land(receipt, RECEIVER, &key().verifying_key())
    }

    #[test]
    fn receipts_land_in_any_order_and_a_second_one_is_known() {
        let mut flight = Flight::default();
        let parcels = [parcel(1, 10), parcel(2, 10), parcel(3, 10)];
        for parcel in &parcels {
            flight.depart(Priority::Backlog, parcel);
        }
        for parcel in [&parcels[2], &parcels[0], &parcels[1]] {
            let receipt = answer(parcel, Outcome::Accepted);
            let landed = land(&mut flight, &receipt).unwrap();
            assert_eq!(landed, Landed::Final(Priority::Backlog));
            assert_eq!(land(&mut flight, &receipt).unwrap(), Landed::Known);
        }
        assert!(flight.is_empty());
        assert_eq!((flight.parcels, flight.bytes), ([0; 3], [0; 3]));
    }

    #[test]
    fn a_parcel_that_is_sent_again_while_it_is_under_way_takes_its_room_once() {
        let mut flight = Flight::default();
        let parcels: Vec<_> = (1..=10).map(|seq| parcel(seq, 10)).collect();
        // Deferred again and again, with everything behind it still under way.
        for _ in 0..WINDOWS[2].parcels {
            for parcel in &parcels {
                flight.depart(Priority::Backlog, parcel);
            }
            let deferred = answer(&parcels[0], Outcome::Deferred);
            assert_eq!(
                land(&mut flight, &deferred).unwrap(),
                Landed::Deferred(Priority::Backlog)
            );
        }
        assert_eq!((flight.parcels, flight.bytes), ([0, 0, 9], [0, 0, 90]));
        for parcel in &parcels[1..] {
            land(&mut flight, &answer(parcel, Outcome::Accepted)).unwrap();
        }
        assert_eq!((flight.parcels, flight.bytes), ([0; 3], [0; 3]));
    }

    #[test]
    fn a_receipt_for_another_body_id_receiver_or_key_lands_nothing() {
        let mut flight = Flight::default();
        let sent = parcel(1, 10);
        flight.depart(Priority::Backlog, &sent);
        let mut other_id = sent.clone();
        other_id.id = vec![9; 16].into();
        for unfit in [
            answer(&parcel(1, 11), Outcome::Accepted),
            answer(&other_id, Outcome::Accepted),
            answer(&sent, Outcome::Unspecified),
        ] {
            assert!(matches!(
                land(&mut flight, &unfit),
                Err(LinkError::Unfit(_))
            ));
        }
        let mut forged = answer(&sent, Outcome::Refused);
        forged.outcome = Outcome::Accepted.into();
        assert!(matches!(
            land(&mut flight, &forged),
            Err(LinkError::Forged(_))
        ));
        let good = answer(&sent, Outcome::Accepted);
        let elsewhere = flight.land(&good, "regional/eu/eu", &key().verifying_key());
        assert!(matches!(elsewhere, Err(LinkError::Unfit(_))));
        assert!(!flight.is_empty());
        land(&mut flight, &good).unwrap();
    }

    #[test]
    fn a_body_that_changed_after_it_was_sealed_lands_as_refused_and_never_as_taken() {
        let mut flight = Flight::default();
        let mut changed = parcel(1, 10);
        changed.body = vec![1; 10].into();
        flight.depart(Priority::Backlog, &changed);
        let taken = land(&mut flight, &answer(&changed, Outcome::Accepted));
        assert!(matches!(taken, Err(LinkError::Unfit(_))));
        let later = land(&mut flight, &answer(&changed, Outcome::Deferred));
        assert_eq!(later.unwrap(), Landed::Deferred(Priority::Backlog));
        flight.depart(Priority::Backlog, &changed);
        let refusal = answer(&changed, Outcome::Refused);
        assert_eq!(flight.sealed(&refusal).unwrap(), changed.digest);
        assert_eq!(
            land(&mut flight, &refusal).unwrap(),
            Landed::Final(Priority::Backlog)
        );
    }

    #[test]
    fn the_window_closes_at_its_parcels_or_bytes_and_opens_with_a_receipt() {
        let window = WINDOWS[2];
        let mut flight = Flight::default();
        for seq in 1..=window.parcels as u64 {
            assert!(flight.room(Priority::Backlog).is_some());
            flight.depart(Priority::Backlog, &parcel(seq, 1));
        }
        assert!(flight.room(Priority::Backlog).is_none());
        assert!(flight.room(Priority::Live).is_some());
        land(&mut flight, &answer(&parcel(1, 1), Outcome::Deferred)).unwrap();
        assert_eq!(flight.room(Priority::Backlog).unwrap().parcels, 1);
        flight.depart(Priority::Backlog, &parcel(1, window.bytes));
        assert!(flight.room(Priority::Backlog).is_none());
    }
}
