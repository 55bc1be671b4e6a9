//! What a client says, decoded: PUBLISH and the acknowledgements here (rumqttd keeps their fields to itself), the rare
//! and long packets by `rumqttd::protocol`, which sees only what [`super::frame`] let through.
//!
//! Properties of a v5 PUBLISH are checked for shape and then dropped: they may carry free text, and rumqttd's v3.1.1
//! encoder panics on them. No topic alias is taken, since none is offered.
use super::frame::{Frame, Kind, Unreadable, variable_int};
use bytes::{Buf, Bytes};
use rumqttd::protocol::{self, Filter, Protocol, QoS};

/// The protocol that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

/// A PUBLISH of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// 0 at QoS 0.
    pub(super) pkid: u16,
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
}

/// What a connected client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Publish(Publish),
    PubAck(u16),
    /// `refused`: the client does not take the message (v5).
    PubRec {
        pkid: u16,
        refused: bool,
    },
    PubRel(u16),
    PubComp(u16),
    Subscribe {
        pkid: u16,
        filters: Vec<Filter>,
    },
    Unsubscribe {
        pkid: u16,
        filters: Vec<String>,
    },
    PingReq,
    Disconnect {
        with_will: bool,
        /// v5: the session's new expiry, in seconds.
        expiry: Option<u32>,
    },
}

/// Why a packet is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not conform to MQTT.
    Malformed,
    /// It uses a topic alias, which was not offered.
    TopicAlias,
    /// It names a subscription identifier, which was not offered.
    SubscriptionId,
    /// It has no place in a connected session (a second CONNECT).
    OutOfPlace,
}

impl From<Unreadable> for Fault {
    fn from(_: Unreadable) -> Self {
        Self::Malformed
    }
}

/// Decodes a packet of a connected client.
pub(super) fn packet(version: Version, frame: Frame) -> Result<Packet, Fault> {
    match frame.kind {
        Kind::Connect => Err(Fault::OutOfPlace),
        Kind::Publish => publish(version, frame).map(Packet::Publish),
        Kind::PubAck => Ok(Packet::PubAck(acknowledged(version, &frame)?.0)),
        Kind::PubRec => {
            let (pkid, reason) = acknowledged(version, &frame)?;
            let refused = reason >= 0x80;
            Ok(Packet::PubRec { pkid, refused })
        }
        Kind::PubRel => Ok(Packet::PubRel(acknowledged(version, &frame)?.0)),
        Kind::PubComp => Ok(Packet::PubComp(acknowledged(version, &frame)?.0)),
        Kind::PingReq if frame.body().is_empty() => Ok(Packet::PingReq),
        Kind::PingReq => Err(Fault::Malformed),
        Kind::Subscribe => subscribe(version, frame),
        Kind::Unsubscribe => unsubscribe(version, frame),
        Kind::Disconnect => disconnect(version, frame),
    }
}

/// The rare packets, by rumqttd. One whole packet goes in, so "more bytes needed" means that it lies.
pub(super) fn by_rumqttd(version: Version, frame: Frame) -> Result<protocol::Packet, Fault> {
    let mut bytes = frame.into_bytes();
    let max = bytes.len();
    match version {
        Version::V4 => protocol::v4::V4.read_mut(&mut bytes, max),
        Version::V5 => protocol::v5::V5.read_mut(&mut bytes, max),
    }
    .map_err(|_| Fault::Malformed)
}

fn take_u16(body: &mut Bytes) -> Result<u16, Fault> {
    body.try_get_u16().map_err(|_| Fault::Malformed)
}

fn take_block(body: &mut Bytes) -> Result<Bytes, Fault> {
    let length = usize::from(take_u16(body)?);
    if length > body.len() {
        return Err(Fault::Malformed);
    }
    Ok(body.split_to(length))
}

fn publish(version: Version, frame: Frame) -> Result<Publish, Fault> {
    let flags = frame.flags;
    let qos = protocol::qos((flags >> 1) & 3).ok_or(Fault::Malformed)?;
    let mut body = frame.into_body();
    let topic = take_block(&mut body)?;
    let pkid = match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce | QoS::ExactlyOnce => match take_u16(&mut body)? {
            0 => return Err(Fault::Malformed),
            pkid => pkid,
        },
    };
    if version == Version::V5 {
        publish_properties(take_properties(&mut body)?)?;
    }
    // MQTT-3.3.2-1, -2; an empty topic would be an alias (refused above) or nothing.
    let text = std::str::from_utf8(&topic).map_err(|_| Fault::Malformed)?;
    if text.is_empty() || text.contains(['+', '#', '\0']) {
        return Err(Fault::Malformed);
    }
    Ok(Publish {
        qos,
        retain: flags & 1 == 1,
        pkid,
        topic,
        payload: body,
    })
}

fn take_properties(body: &mut Bytes) -> Result<Bytes, Fault> {
    let (length, digits) = variable_int(body)?.ok_or(Fault::Malformed)?;
    if digits + length > body.len() {
        return Err(Fault::Malformed);
    }
    body.advance(digits);
    Ok(body.split_to(length))
}

/// Walks the properties of a PUBLISH (MQTT 5 §3.3.2.3).
fn publish_properties(mut properties: Bytes) -> Result<(), Fault> {
    while properties.has_remaining() {
        let fixed = match properties.get_u8() {
            // Payload format indicator, message expiry interval.
            0x01 => 1,
            0x02 => 4,
            // Content type, response topic, correlation data.
            0x03 | 0x08 | 0x09 => {
                take_block(&mut properties)?;
                0
            }
            // User property: name and value.
            0x26 => {
                take_block(&mut properties)?;
                take_block(&mut properties)?;
                0
            }
            0x23 => return Err(Fault::TopicAlias),
            // MQTT-3.3.4-6: a client must not send a subscription identifier.
            _ => return Err(Fault::Malformed),
        };
        if fixed > properties.len() {
            return Err(Fault::Malformed);
        }
        properties.advance(fixed);
    }
    Ok(())
}

/// Packet id and reason code of PUBACK, PUBREC, PUBREL and PUBCOMP; in v5 properties may follow, and are dropped.
fn acknowledged(version: Version, frame: &Frame) -> Result<(u16, u8), Fault> {
    let (pkid, rest) = frame
        .body()
        .split_first_chunk::<2>()
        .ok_or(Fault::Malformed)?;
    let pkid = u16::from_be_bytes(*pkid);
    match (version, rest) {
        (_, _) if pkid == 0 => Err(Fault::Malformed),
        (_, []) => Ok((pkid, 0)),
        (Version::V5, [reason, properties @ ..]) => match variable_int(properties)? {
            None if properties.is_empty() => Ok((pkid, *reason)),
            Some((length, digits)) if length + digits == properties.len() => Ok((pkid, *reason)),
            _ => Err(Fault::Malformed),
        },
        (Version::V4, _) => Err(Fault::Malformed),
    }
}

fn subscribe(version: Version, frame: Frame) -> Result<Packet, Fault> {
    let identified = version == Version::V5 && names_subscription_id(frame.body());
    let reserved = reserved_option_bits(version, frame.body());
    match by_rumqttd(version, frame) {
        _ if identified => Err(Fault::SubscriptionId),
        Ok(protocol::Packet::Subscribe(packet, _)) if packet.pkid != 0 && !reserved => {
            Ok(Packet::Subscribe {
                pkid: packet.pkid,
                filters: packet.filters,
            })
        }
        _ => Err(Fault::Malformed),
    }
}

/// Whether the first property is a subscription identifier. It stands alone in practice; behind user properties
/// rumqttd's decoder finds it, and the result is the same refusal as malformed.
fn names_subscription_id(body: &[u8]) -> bool {
    let properties = body.get(2..).unwrap_or_default();
    matches!(variable_int(properties), Ok(Some((length, digits))) if length > 0 && properties.get(digits) == Some(&0x0b))
}

/// MQTT 3.1.1 §3.8.3-4, MQTT 5 §3.8.3-5: reserved bits of the last filter's options must be zero.
fn reserved_option_bits(version: Version, body: &[u8]) -> bool {
    let reserved = match version {
        Version::V4 => 0xfc,
        Version::V5 => 0xc0,
    };
    body.last().is_some_and(|options| options & reserved != 0)
}

fn unsubscribe(version: Version, frame: Frame) -> Result<Packet, Fault> {
    match by_rumqttd(version, frame)? {
        protocol::Packet::Unsubscribe(packet, _)
            if packet.pkid != 0 && !packet.filters.is_empty() =>
        {
            Ok(Packet::Unsubscribe {
                pkid: packet.pkid,
                filters: packet.filters,
            })
        }
        _ => Err(Fault::Malformed),
    }
}

fn disconnect(version: Version, frame: Frame) -> Result<Packet, Fault> {
    // MQTT 5 §3.14.2.2.1: the properties may be left out; rumqttd's decoder asks for them.
    let (with_will, expiry) = match (version, frame.body()) {
        (_, []) => (false, None),
        (Version::V4, _) => return Err(Fault::Malformed),
        (Version::V5, [reason]) => (*reason != 0, None),
        (Version::V5, _) => match by_rumqttd(version, frame)? {
            protocol::Packet::Disconnect(packet, properties) => (
                packet.reason_code != protocol::DisconnectReasonCode::NormalDisconnection,
                properties.and_then(|properties| properties.session_expiry_interval),
            ),
            _ => return Err(Fault::Malformed),
        },
    };
    Ok(Packet::Disconnect { with_will, expiry })
}
