//! What the broker says, encoded. rumqttd's encoders are not used: they keep the packet id and QoS of a PUBLISH to
//! themselves, panic on a v5 property for a v3.1.1 peer, and write one byte too many in a v5 DISCONNECT.
use super::decode::Version;
use bytes::{BufMut, BytesMut};
use rumqttd::protocol::QoS;

/// A reason code of MQTT 5 that is not success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reason(pub(super) u8);

impl Reason {
    pub(super) const SUCCESS: Self = Self(0x00);
    pub(super) const NO_SUBSCRIPTION: Self = Self(0x11);
    pub(super) const UNSPECIFIED: Self = Self(0x80);
    pub(super) const MALFORMED: Self = Self(0x81);
    pub(super) const PROTOCOL_ERROR: Self = Self(0x82);
    pub(super) const IMPLEMENTATION: Self = Self(0x83);
    pub(super) const BAD_CLIENT_ID: Self = Self(0x85);
    pub(super) const NOT_AUTHORIZED: Self = Self(0x87);
    pub(super) const BAD_AUTHENTICATION: Self = Self(0x8c);
    pub(super) const SHUTTING_DOWN: Self = Self(0x8b);
    pub(super) const KEEP_ALIVE: Self = Self(0x8d);
    pub(super) const TAKEN_OVER: Self = Self(0x8e);
    pub(super) const BAD_FILTER: Self = Self(0x8f);
    pub(super) const UNKNOWN_PKID: Self = Self(0x92);
    pub(super) const RECEIVE_MAXIMUM: Self = Self(0x93);
    pub(super) const TOPIC_ALIAS: Self = Self(0x94);
    pub(super) const TOO_LARGE: Self = Self(0x95);
    pub(super) const QUOTA: Self = Self(0x97);
    pub(super) const ADMINISTRATIVE: Self = Self(0x98);
    pub(super) const PAYLOAD: Self = Self(0x99);
    pub(super) const NO_SHARED: Self = Self(0x9e);
    pub(super) const NO_SUBSCRIPTION_ID: Self = Self(0xa1);
}

/// What the broker's limits are, as CONNACK says it to a v5 client (MQTT 5 §3.2.2.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// The session's expiry in seconds, when it is not what the client asked for.
    pub(super) expiry: Option<u32>,
    /// Unacknowledged QoS 1 and 2 publishes that the broker takes.
    pub(super) receive_maximum: u16,
    /// The longest packet that the broker takes, in bytes.
    pub(super) packet_bytes: u32,
}

/// The longest CONNACK, in bytes: [`accepted`] with a session expiry, or a refusal.
pub(super) const LONGEST_CONNACK: usize = 29;

fn remaining_length(out: &mut BytesMut, mut length: usize) {
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        if length == 0 {
            out.put_u8(digit);
            return;
        }
        out.put_u8(digit | 0x80);
    }
}

/// CONNACK that lets the client in.
///
/// Not offered, and said so to a v5 client: topic aliases (maximum 0), subscription identifiers, shared subscriptions.
pub(super) fn accepted(version: Version, present: bool, limits: Announced, out: &mut BytesMut) {
    if version == Version::V4 {
        out.put_slice(&[0x20, 2, u8::from(present), 0]);
        return;
    }
    let mut properties = BytesMut::with_capacity(32);
    if let Some(expiry) = limits.expiry {
        properties.put_u8(0x11);
        properties.put_u32(expiry);
    }
    properties.put_u8(0x21);
    properties.put_u16(limits.receive_maximum);
    properties.put_u8(0x27);
    properties.put_u32(limits.packet_bytes);
    // Topic alias maximum 0; retain and wildcards available; subscription ids and shared subscriptions not.
    properties.put_slice(&[0x22, 0, 0, 0x25, 1, 0x28, 1, 0x29, 0, 0x2a, 0]);
    out.put_u8(0x20);
    remaining_length(out, 3 + properties.len());
    out.put_slice(&[u8::from(present), 0]);
    remaining_length(out, properties.len());
    out.put_slice(&properties);
}

/// CONNACK that does not: a v3.1.1 return code, or a v5 reason.
pub(super) fn refused(version: Version, v4: u8, v5: Reason, out: &mut BytesMut) {
    match version {
        Version::V4 => out.put_slice(&[0x20, 2, 0, v4]),
        Version::V5 => out.put_slice(&[0x20, 3, 0, v5.0, 0]),
    }
}

/// What is sent to a subscriber.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) repeated: bool,
    /// Ignored at QoS 0.
    pub(super) pkid: u16,
    /// v5 properties, encoded, without Message Expiry Interval.
    pub(super) properties: &'a [u8],
    /// What is left of the Message Expiry Interval, in seconds (MQTT-3.3.2-6).
    pub(super) expiry: Option<u32>,
}

/// The length of a variable byte integer, in bytes.
const fn digits(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

impl Outgoing<'_> {
    fn properties_len(&self) -> usize {
        self.properties.len() + self.expiry.map_or(0, |_| 5)
    }

    /// What follows the fixed header, in bytes.
    fn remaining(&self, version: Version) -> usize {
        let pkid = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let properties = match version {
            Version::V4 => 0,
            Version::V5 => digits(self.properties_len()) + self.properties_len(),
        };
        2 + self.topic.len() + pkid + properties + self.payload.len()
    }

    /// The length of the packet, in bytes.
    pub(super) fn len(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + digits(remaining) + remaining
    }
}

/// PUBLISH; properties for v5 alone.
pub(super) fn publish(version: Version, message: Outgoing<'_>, out: &mut BytesMut) {
    let flags =
        u8::from(message.repeated) << 3 | (message.qos as u8) << 1 | u8::from(message.retain);
    out.put_u8(0x30 | flags);
    remaining_length(out, message.remaining(version));
    // Topics are the broker's own, below 255 bytes: `types::Name::MAX_LEN`.
    out.put_u16(u16::try_from(message.topic.len()).unwrap_or(u16::MAX));
    out.put_slice(message.topic);
    if message.qos != QoS::AtMostOnce {
        out.put_u16(message.pkid);
    }
    if version == Version::V5 {
        remaining_length(out, message.properties_len());
        if let Some(seconds) = message.expiry {
            out.put_u8(0x02);
            out.put_u32(seconds);
        }
        out.put_slice(message.properties);
    }
    out.put_slice(message.payload);
}

/// The acknowledgements: the first byte of each.
#[expect(clippy::enum_variant_names, reason = "MQTT's own names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ack {
    PubAck = 0x40,
    PubRec = 0x50,
    PubRel = 0x62,
    PubComp = 0x70,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP. v3.1.1 has no reason.
pub(super) fn ack(version: Version, ack: Ack, pkid: u16, reason: Reason, out: &mut BytesMut) {
    let [high, low] = pkid.to_be_bytes();
    if version == Version::V4 || reason == Reason::SUCCESS {
        out.put_slice(&[ack as u8, 2, high, low]);
    } else {
        out.put_slice(&[ack as u8, 3, high, low, reason.0]);
    }
}

/// SUBACK, one code per filter in their order.
pub(super) fn suback(version: Version, pkid: u16, codes: &[u8], out: &mut BytesMut) {
    out.put_u8(0x90);
    per_filter(version, pkid, codes, out);
}

/// UNSUBACK; v3.1.1 has no codes.
pub(super) fn unsuback(version: Version, pkid: u16, codes: &[u8], out: &mut BytesMut) {
    out.put_u8(0xb0);
    let codes = if version == Version::V4 { &[] } else { codes };
    per_filter(version, pkid, codes, out);
}

fn per_filter(version: Version, pkid: u16, codes: &[u8], out: &mut BytesMut) {
    let properties = usize::from(version == Version::V5);
    remaining_length(out, 2 + properties + codes.len());
    out.put_u16(pkid);
    out.put_bytes(0, properties);
    out.put_slice(codes);
}

/// PINGRESP.
pub(super) fn pong(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// DISCONNECT of the server: v5 only; v3.1.1 just closes (§3.14).
pub(super) fn disconnect(version: Version, reason: Reason, out: &mut BytesMut) {
    if version == Version::V5 {
        out.put_slice(&[0xe0, 2, reason.0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttd::protocol::{self, Protocol};

    fn read(version: Version, mut bytes: BytesMut) -> protocol::Packet {
        let packet = match version {
            Version::V4 => protocol::v4::V4.read_mut(&mut bytes, 1 << 20),
            Version::V5 => protocol::v5::V5.read_mut(&mut bytes, 1 << 20),
        };
        assert!(bytes.is_empty(), "{} bytes too many", bytes.len());
        packet.unwrap()
    }

    #[test]
    fn a_publish_of_any_length_and_qos_is_read_back_by_another_decoder() {
        for version in [Version::V4, Version::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                for length in [0, 1, 127, 128, 16_383, 16_384] {
                    let payload = vec![7; length];
                    let message = Outgoing {
                        topic: b"devices/us/us-f1/lab-1/command",
                        payload: &payload,
                        qos,
                        retain: true,
                        repeated: qos != QoS::AtMostOnce,
                        pkid: 513,
                        properties: &[],
                        expiry: None,
                    };
                    let mut out = BytesMut::new();
                    publish(version, message, &mut out);
                    assert_eq!(out.len(), message.len(version));
                    let first = out[0];
                    let protocol::Packet::Publish(read, None) = read(version, out) else {
                        panic!("not a PUBLISH");
                    };
                    assert_eq!(
                        (&read.topic[..], &read.payload[..]),
                        (message.topic, &payload[..])
                    );
                    assert_eq!(first >> 1 & 3, qos as u8);
                    let pkid = &read.serialize()[1..3];
                    assert_eq!(
                        pkid,
                        if qos == QoS::AtMostOnce {
                            [0, 0]
                        } else {
                            [2, 1]
                        }
                    );
                }
            }
        }
    }

    #[test]
    fn the_servers_acknowledgements_are_exactly_as_long_as_they_say() {
        let mut out = BytesMut::new();
        ack(Version::V5, Ack::PubAck, 9, Reason::QUOTA, &mut out);
        assert_eq!(out.split(), [0x40, 3, 0, 9, 0x97][..]);
        ack(Version::V4, Ack::PubRec, 9, Reason::SUCCESS, &mut out);
        assert_eq!(out.split(), [0x50, 2, 0, 9][..]);
        disconnect(Version::V5, Reason::TAKEN_OVER, &mut out);
        assert_eq!(out.split(), [0xe0, 2, 0x8e, 0][..]);
        disconnect(Version::V4, Reason::TAKEN_OVER, &mut out);
        assert!(out.is_empty());
        unsuback(Version::V4, 9, &[0x11], &mut out);
        assert_eq!(out.split(), [0xb0, 2, 0, 9][..]);
        unsuback(Version::V5, 9, &[0, 0x11], &mut out);
        assert_eq!(out.split(), [0xb0, 5, 0, 9, 0, 0, 0x11][..]);
    }

    #[test]
    fn a_v5_publish_carries_properties_and_what_is_left_of_its_lifetime_and_a_v4_one_nothing() {
        let user = [0x26, 0, 1, b'k', 0, 1, b'v'];
        let message = Outgoing {
            topic: b"t",
            payload: b"p",
            qos: QoS::AtMostOnce,
            retain: false,
            repeated: false,
            pkid: 0,
            properties: &user.repeat(30),
            expiry: Some(9),
        };
        for (version, head) in [
            (Version::V4, &[0x30, 4, 0, 1, b't', b'p'][..]),
            (
                Version::V5,
                &[0x30, 0xdd, 1, 0, 1, b't', 0xd7, 1, 2, 0, 0, 0, 9, 0x26],
            ),
        ] {
            let mut out = BytesMut::new();
            publish(version, message, &mut out);
            assert_eq!(out.len(), message.len(version));
            assert_eq!(out[..head.len()], *head);
        }
    }
}
