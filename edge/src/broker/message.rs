//! A message on its way to subscribers: how it passes the router, and how subscriptions deliver it.
//!
//! The router knows topic and payload only. QoS, flags and a number stand in front of the payload while it passes.
use super::outbound::Delivery;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttd::protocol::{self, QoS};

/// Flags (1 byte) and number (8 bytes).
const HEADER: usize = 9;

/// A granted subscription.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) filter: String,
    pub(super) qos: QoS,
    /// v5 No Local: not what the client itself published.
    pub(super) no_local: bool,
    /// v5 Retain As Published.
    pub(super) as_published: bool,
}

/// A message on its way to subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// The device itself published it, not the node.
    pub(super) by_device: bool,
}

impl Message {
    /// How these subscriptions deliver this message: once, at the highest QoS that a matching filter and the message
    /// both allow (MQTT-3.3.4-2); `None` when no filter matches.
    pub(super) fn delivery(&self, subscriptions: &[Subscription]) -> Option<Delivery> {
        let topic = std::str::from_utf8(&self.topic).ok()?;
        let mut delivery: Option<Delivery> = None;
        for subscription in subscriptions {
            if (self.by_device && subscription.no_local)
                || !protocol::matches(topic, &subscription.filter)
            {
                continue;
            }
            let qos = least(self.qos, subscription.qos);
            let delivery = delivery.get_or_insert_with(|| Delivery {
                topic: self.topic.clone(),
                payload: self.payload.clone(),
                qos,
                retain: false,
            });
            delivery.qos = most(delivery.qos, qos);
            delivery.retain |= self.retain && subscription.as_published;
        }
        delivery
    }

    /// The payload that goes through the router as the device's `number`-th message.
    pub(super) fn routed(&self, number: u64) -> Bytes {
        let mut payload = BytesMut::with_capacity(HEADER + self.payload.len());
        payload.put_u8(self.qos as u8 | u8::from(self.retain) << 2 | u8::from(self.by_device) << 3);
        payload.put_u64(number);
        payload.put_slice(&self.payload);
        payload.freeze()
    }

    /// The message of a payload that came through the router, and its number.
    pub(super) fn unrouted(topic: Bytes, mut payload: Bytes) -> Option<(u64, Self)> {
        if payload.len() < HEADER {
            return None;
        }
        let flags = payload.get_u8();
        let number = payload.get_u64();
        let message = Self {
            topic,
            payload,
            qos: protocol::qos(flags & 3)?,
            retain: flags & 4 != 0,
            by_device: flags & 8 != 0,
        };
        Some((number, message))
    }
}

pub(super) const fn least(a: QoS, b: QoS) -> QoS {
    if (a as u8) < (b as u8) { a } else { b }
}

const fn most(a: QoS, b: QoS) -> QoS {
    if (a as u8) < (b as u8) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_out_of_the_router_as_it_went_in() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for (retain, by_device) in [(false, false), (true, false), (false, true)] {
                let message = Message {
                    topic: Bytes::from_static(b"t"),
                    payload: Bytes::from_static(b""),
                    qos,
                    retain,
                    by_device,
                };
                let (topic, routed) = (message.topic.clone(), message.routed(u64::MAX));
                assert_eq!(Message::unrouted(topic, routed), Some((u64::MAX, message)));
            }
        }
    }

    #[test]
    fn a_payload_without_our_header_is_no_message() {
        for payload in [&[][..], &[1; 8], &[3; 9]] {
            let payload = Bytes::copy_from_slice(payload);
            assert_eq!(Message::unrouted(Bytes::new(), payload), None);
        }
    }
}
