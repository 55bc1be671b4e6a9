//! What one session still owes its client: messages that wait, and QoS 1 and 2 messages in flight. A state machine
//! without clock or socket.
//!
//! Order is kept; at most a window of messages is in flight (MQTT 5 §4.9; 3.1.1 has no receive maximum, so the broker's
//! own limit holds). A client that comes back to its session gets what was in flight again, marked as repeated
//! (MQTT-4.4.0-1).
//!
//! A message that has lapsed is dropped as long as its delivery has not begun (MQTT-3.3.2-5). One that was sent before is
//! completed (MQTT-4.3.3-7, MQTT-4.4.0-1); it says that none of its lifetime is left.
use super::{
    message::{Delivery, most},
    room::Share,
};
use rumqttd::protocol::QoS;
use std::{collections::VecDeque, time::Instant};

/// A message that waits, with the room that it takes.
#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    share: Share,
    /// A retained message of a subscription.
    stored: bool,
}

/// What to send next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Publish {
        delivery: Delivery,
        pkid: u16,
        repeated: bool,
    },
    Release(u16),
}

#[derive(Debug)]
struct Flight {
    pkid: u16,
    delivery: Delivery,
    _share: Share,
    /// PUBREC came: PUBREL is owed or sent.
    released: bool,
    /// To be sent (again) on this connection.
    due: bool,
    /// Sent before, on another connection.
    repeated: bool,
}

/// What is owed to one client.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    waiting: VecDeque<Waiting>,
    flights: VecDeque<Flight>,
    last_pkid: u16,
}

impl Outbound {
    /// Adds a message behind all others.
    pub(super) fn push(&mut self, delivery: Delivery, share: Share) {
        self.waiting.push_back(Waiting {
            delivery,
            share,
            stored: false,
        });
    }

    /// Whether this retained message waits already, for an earlier subscription: then it is sent once for both, and a
    /// SUBSCRIBE that is repeated does not multiply what waits.
    pub(super) fn awaits(&self, stored: &Delivery) -> bool {
        let same = |waiting: &Waiting| waiting.stored && waiting.delivery.says_what(stored);
        self.waiting.iter().any(same)
    }

    /// Adds a retained message behind all others; without a share, it waits already.
    pub(super) fn push_stored(&mut self, delivery: Delivery, share: Option<Share>) {
        if let Some(share) = share {
            let stored = true;
            self.waiting.push_back(Waiting {
                delivery,
                share,
                stored,
            });
        } else {
            let same = |one: &&mut Waiting| one.stored && one.delivery.says_what(&delivery);
            if let Some(one) = self.waiting.iter_mut().find(same) {
                one.delivery.qos = most(one.delivery.qos, delivery.qos);
            }
        }
    }

    /// Messages that wait, without those in flight.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A new connection: what was in flight is due again.
    pub(super) fn resume(&mut self) {
        for flight in &mut self.flights {
            flight.due = true;
            flight.repeated = true;
        }
    }

    /// Takes the next thing to send, if at most `window` messages are then in flight.
    pub(super) fn next(&mut self, window: usize, now: Instant) -> Option<Due> {
        let mut flights = self.flights.iter_mut().enumerate();
        if let Some((at, flight)) = flights.find(|(_, flight)| flight.due) {
            // Flights become due all at once and are sent from the front: those before `at` are on the wire.
            return (at < window).then(|| flight.send());
        }
        let lapsed = |one: &Waiting| one.delivery.has_lapsed(now);
        while self.waiting.front().is_some_and(lapsed) {
            self.waiting.pop_front();
        }
        let first = self.waiting.front()?;
        if first.delivery.qos != QoS::AtMostOnce && self.flights.len() >= window {
            return None;
        }
        let Waiting {
            delivery, share, ..
        } = self.waiting.pop_front()?;
        if delivery.qos == QoS::AtMostOnce {
            return Some(Due::Publish {
                delivery,
                pkid: 0,
                repeated: false,
            });
        }
        let pkid = self.free_pkid();
        let mut flight = Flight {
            pkid,
            delivery,
            _share: share,
            released: false,
            due: true,
            repeated: false,
        };
        let due = flight.send();
        self.flights.push_back(flight);
        Some(due)
    }

    /// PUBACK. False: nothing of that id was in flight.
    pub(super) fn acknowledged(&mut self, pkid: u16) -> bool {
        self.remove(pkid, |flight| flight.delivery.qos == QoS::AtLeastOnce)
    }

    /// PUBREC. True: PUBREL is to be sent.
    pub(super) fn received(&mut self, pkid: u16, refused: bool) -> bool {
        if refused {
            self.remove(pkid, |flight| flight.delivery.qos == QoS::ExactlyOnce);
            return false;
        }
        let flight = self.flights.iter_mut().find(|flight| flight.pkid == pkid);
        flight.is_some_and(|flight| {
            flight.released = flight.delivery.qos == QoS::ExactlyOnce;
            flight.released
        })
    }

    /// PUBCOMP. False: nothing of that id was released.
    pub(super) fn completed(&mut self, pkid: u16) -> bool {
        self.remove(pkid, |flight| flight.released)
    }

    /// The message of that id is not to be sent after all.
    pub(super) fn forget(&mut self, pkid: u16) {
        self.remove(pkid, |_| true);
    }

    fn remove(&mut self, pkid: u16, ready: impl Fn(&Flight) -> bool) -> bool {
        let at = self
            .flights
            .iter()
            .position(|flight| flight.pkid == pkid && ready(flight));
        at.and_then(|at| self.flights.remove(at)).is_some()
    }

    /// An id that no flight has: there are 65,535, and the window is far smaller.
    fn free_pkid(&mut self) -> u16 {
        loop {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if self
                .flights
                .iter()
                .all(|flight| flight.pkid != self.last_pkid)
            {
                return self.last_pkid;
            }
        }
    }
}

impl Flight {
    fn send(&mut self) -> Due {
        self.due = false;
        if self.released {
            return Due::Release(self.pkid);
        }
        Due::Publish {
            delivery: self.delivery.clone(),
            pkid: self.pkid,
            repeated: self.repeated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::{Load, Room};
    use super::*;
    use bytes::Bytes;
    use std::{sync::Arc, time::Duration};

    fn delivery(payload: &str, qos: QoS) -> Delivery {
        Delivery {
            topic: Bytes::from_static(b"t"),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos,
            retain: false,
            properties: Bytes::new(),
            lapses: None,
        }
    }

    fn room() -> Arc<Room> {
        Room::new(Load {
            messages: 9,
            bytes: 9_999,
        })
    }

    fn pushed(outbound: &mut Outbound, payload: &str, qos: QoS) {
        outbound.push(delivery(payload, qos), room().share(0).unwrap());
    }

    fn next(outbound: &mut Outbound, window: usize) -> Option<Due> {
        outbound.next(window, Instant::now())
    }

    fn sent(due: Option<Due>) -> (String, u16, bool) {
        match due {
            Some(Due::Publish {
                delivery,
                pkid,
                repeated,
            }) => {
                let text = String::from_utf8(delivery.payload.to_vec()).unwrap();
                (text, pkid, repeated)
            }
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    #[test]
    fn no_more_than_the_window_is_in_flight_and_order_is_kept() {
        let mut outbound = Outbound::default();
        for payload in ["a", "b", "c"] {
            pushed(&mut outbound, payload, QoS::AtLeastOnce);
        }
        pushed(&mut outbound, "d", QoS::AtMostOnce);
        assert_eq!(sent(next(&mut outbound, 2)), ("a".into(), 1, false));
        assert_eq!(sent(next(&mut outbound, 2)), ("b".into(), 2, false));
        assert_eq!(next(&mut outbound, 2), None);
        assert!(outbound.acknowledged(2) && !outbound.acknowledged(2));
        assert_eq!(sent(next(&mut outbound, 2)), ("c".into(), 3, false));
        assert_eq!(sent(next(&mut outbound, 2)), ("d".into(), 0, false));
    }

    #[test]
    fn a_client_that_comes_back_gets_what_was_in_flight_again_within_its_new_window() {
        let mut outbound = Outbound::default();
        for payload in ["a", "b", "c"] {
            pushed(&mut outbound, payload, QoS::ExactlyOnce);
        }
        for _ in 0..2 {
            next(&mut outbound, 2).unwrap();
        }
        assert!(outbound.received(1, false));
        outbound.resume();
        assert_eq!(next(&mut outbound, 1), Some(Due::Release(1)));
        assert_eq!(next(&mut outbound, 1), None);
        assert!(outbound.completed(1) && !outbound.completed(1));
        assert_eq!(sent(next(&mut outbound, 1)), ("b".into(), 2, true));
        assert_eq!(next(&mut outbound, 1), None);
        assert!(!outbound.received(2, true));
        assert_eq!(sent(next(&mut outbound, 1)), ("c".into(), 3, false));
    }

    #[test]
    fn a_packet_id_in_flight_is_not_given_twice() {
        let mut outbound = Outbound::default();
        pushed(&mut outbound, "kept", QoS::AtLeastOnce);
        let (_, kept, _) = sent(next(&mut outbound, 9));
        for _ in 0..70_000 {
            pushed(&mut outbound, "x", QoS::AtLeastOnce);
            let (_, pkid, _) = sent(next(&mut outbound, 9));
            assert!(pkid != kept && pkid != 0);
            assert!(outbound.acknowledged(pkid));
        }
    }

    #[test]
    fn an_acknowledgement_of_the_wrong_kind_ends_nothing() {
        let mut outbound = Outbound::default();
        pushed(&mut outbound, "one", QoS::AtLeastOnce);
        pushed(&mut outbound, "two", QoS::ExactlyOnce);
        next(&mut outbound, 9).unwrap();
        next(&mut outbound, 9).unwrap();
        assert!(!outbound.received(1, false) && !outbound.completed(1));
        assert!(!outbound.acknowledged(2) && !outbound.completed(2));
        assert!(outbound.acknowledged(1));
    }

    #[test]
    fn what_lapses_before_it_is_sent_is_dropped_and_what_was_sent_is_completed() {
        let room = room();
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(9));
        let mut outbound = Outbound::default();
        for payload in ["sent", "lapsed", "kept"] {
            let mut one = delivery(payload, QoS::AtLeastOnce);
            one.lapses = (payload != "kept").then_some(soon);
            outbound.push(one, room.share(0).unwrap());
        }
        assert_eq!(sent(outbound.next(1, now)), ("sent".into(), 1, false));
        outbound.resume();
        assert_eq!(sent(outbound.next(1, later)), ("sent".into(), 1, true));
        assert!(outbound.acknowledged(1));
        assert_eq!(sent(outbound.next(1, later)), ("kept".into(), 2, false));
        assert_eq!(room.used().messages, 1, "what lapsed gave its share back");
    }

    #[test]
    fn a_retained_message_that_waits_already_is_found_until_it_is_sent() {
        let room = room();
        let mut outbound = Outbound::default();
        let one = delivery("one", QoS::AtMostOnce);
        assert!(!outbound.awaits(&one));
        outbound.push_stored(one.clone(), room.share(0));
        assert!(outbound.awaits(&one) && !outbound.awaits(&delivery("two", QoS::AtMostOnce)));
        outbound.push_stored(delivery("one", QoS::AtLeastOnce), None);
        assert_eq!(sent(next(&mut outbound, 9)), ("one".into(), 1, false));
        assert!(!outbound.awaits(&one) && next(&mut outbound, 9).is_none());
    }
}
