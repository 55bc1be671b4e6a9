//! A message on its way to subscribers: how it passes the router, and how subscriptions deliver it.
//!
//! The router knows topic and payload only. QoS, flags, a number, the instant at which the message lapses and the
//! properties that subscribers get stand in front of the payload while it passes.
use super::outbound::Delivery;
use crate::ingest::RetainedMessage;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttd::protocol::{self, QoS};
use std::time::{Duration, Instant};

/// Flags (1 byte), number (8 bytes), milliseconds until it lapses (8 bytes), length of the properties (4 bytes).
const HEADER: usize = 21;
/// Stands for a message that does not lapse.
const NEVER: u64 = u64::MAX;

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

    /// What the journal keeps of it as the topic's retained message.
    pub(super) fn kept(&self, now: Instant) -> RetainedMessage {
        RetainedMessage {
            // The ACL let the topic through, so it is text.
            topic: String::from_utf8_lossy(&self.topic).into_owned(),
            payload: self.payload.clone(),
            qos: self.qos as u8,
            properties: self.properties.clone(),
            lapses_in: self
                .lapses
                .map(|lapses| lapses.saturating_duration_since(now)),
        }
    }

    /// The payload that goes through the router as the device's `number`-th message; `began` is the router's start.
    pub(super) fn routed(&self, number: u64, began: Instant) -> Bytes {
        let mut payload =
            BytesMut::with_capacity(HEADER + self.properties.len() + self.payload.len());
        payload.put_u8(self.qos as u8 | u8::from(self.retain) << 2 | u8::from(self.by_device) << 3);
        payload.put_u64(number);
        payload.put_u64(self.lapses.map_or(NEVER, |lapses| {
            let after = lapses.saturating_duration_since(began).as_millis();
            u64::try_from(after).unwrap_or(NEVER)
        }));
        // A packet's properties are far below 2^32 bytes.
        payload.put_u32(u32::try_from(self.properties.len()).unwrap_or(0));
        payload.put_slice(&self.properties);
        payload.put_slice(&self.payload);
        payload.freeze()
    }

    /// The message of a payload that came through the router, and its number.
    pub(super) fn unrouted(
        topic: Bytes,
        mut payload: Bytes,
        began: Instant,
    ) -> Option<(u64, Self)> {
        let flags = payload.try_get_u8().ok()?;
        let number = payload.try_get_u64().ok()?;
        let lapses = payload.try_get_u64().ok()?;
        let properties = payload.try_get_u32().ok()? as usize;
        if properties > payload.len() {
            return None;
        }
        let properties = payload.split_to(properties);
        let message = Self {
            topic,
            payload,
            qos: protocol::qos(flags & 3)?,
            retain: flags & 4 != 0,
            by_device: flags & 8 != 0,
            properties,
            lapses: match lapses {
                NEVER => None,
                after => began.checked_add(Duration::from_millis(after)),
            },
        };
        Some((number, message))
    }
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
    fn a_message_comes_out_of_the_router_as_it_went_in() {
        let began = Instant::now();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for (retain, by_device) in [(false, false), (true, false), (false, true)] {
                for lapses in [None, Some(began + Duration::from_secs(9))] {
                    let message = Message {
                        topic: Bytes::from_static(b"t"),
                        payload: Bytes::from_static(b"p"),
                        qos,
                        retain,
                        by_device,
                        properties: Bytes::from_static(&[1, 1]),
                        lapses,
                    };
                    let routed = message.routed(u64::MAX, began);
                    let topic = message.topic.clone();
                    assert_eq!(
                        Message::unrouted(topic, routed, began),
                        Some((u64::MAX, message))
                    );
                }
            }
        }
    }

    #[test]
    fn a_payload_without_our_header_is_no_message() {
        let began = Instant::now();
        for payload in [&[][..], &[1; 8], &[3; 21], &[1; 20], &[0xff; 30]] {
            let payload = Bytes::copy_from_slice(payload);
            assert_eq!(Message::unrouted(Bytes::new(), payload, began), None);
        }
    }
}
