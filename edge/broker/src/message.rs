//! A message on its way to subscribers: how it passes the router, and how subscriptions deliver it.
//!
//! The router knows topic and payload only; a number stands in front of the payload while it passes. What else there is to
//! a delivery waits in the session's mailbox.
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttd::protocol::{self, QoS};
use std::time::Instant;
use types::RetainedMessage;

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
    /// The v5 properties that subscribers get, encoded.
    pub(super) properties: Bytes,
    /// When it lapses: the arrival and its Message Expiry Interval.
    pub(super) lapses: Option<Instant>,
}

/// A message as it will be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// The v5 properties that go with it, encoded.
    pub(super) properties: Bytes,
    /// When it lapses.
    pub(super) lapses: Option<Instant>,
}

impl Delivery {
    /// What it takes while it waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.len()
    }

    /// Whether it has lapsed.
    pub(super) fn has_lapsed(&self, now: Instant) -> bool {
        self.lapses.is_some_and(|lapses| lapses <= now)
    }

    /// Whether both say the same of the same topic.
    pub(super) fn says_what(&self, other: &Self) -> bool {
        (&self.topic, &self.payload, &self.properties)
            == (&other.topic, &other.payload, &other.properties)
    }
}

impl Message {
    /// What it takes while it waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.len()
    }

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
                properties: self.properties.clone(),
                lapses: self.lapses,
            });
            delivery.qos = most(delivery.qos, qos);
            delivery.retain |= self.retain && subscription.as_published;
        }
        delivery
    }

    /// What the node keeps of it as the topic's retained message.
    pub(super) fn kept(&self, now: Instant) -> RetainedMessage {
        RetainedMessage {
            // The ACL let the topic through, so it is text.
            topic: String::from_utf8_lossy(&self.topic).into_owned(),
            payload: self.payload.to_vec(),
            qos: self.qos as u8,
            properties: self.properties.to_vec(),
            lapses_in: self
                .lapses
                .map(|lapses| lapses.saturating_duration_since(now)),
        }
    }

    /// The payload that goes through the router as the device's `number`-th message.
    pub(super) fn routed(&self, number: u64) -> Bytes {
        let mut payload = BytesMut::with_capacity(size_of::<u64>() + self.payload.len());
        payload.put_u64(number);
        payload.put_slice(&self.payload);
        payload.freeze()
    }
}

/// The number of a payload that came through the router.
pub(super) fn number(mut payload: &[u8]) -> Option<u64> {
    payload.try_get_u64().ok()
}

pub(super) const fn least(a: QoS, b: QoS) -> QoS {
    if (a as u8) < (b as u8) { a } else { b }
}

pub(super) const fn most(a: QoS, b: QoS) -> QoS {
    if (a as u8) < (b as u8) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_comes_out_of_the_router_as_it_went_in() {
        let message = Message {
            topic: Bytes::from_static(b"t"),
            payload: Bytes::from_static(b"p"),
            qos: QoS::AtLeastOnce,
            retain: false,
            by_device: true,
            properties: Bytes::new(),
            lapses: None,
        };
        assert_eq!(number(&message.routed(u64::MAX)), Some(u64::MAX));
        assert_eq!(number(&[0; 7]), None);
    }
}
