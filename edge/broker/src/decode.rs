//! What a connected client says, decoded: exactly what MQTT 3.1.1 and 5 allow, and nothing else.
//!
//! The fields are read by [`super::fields`], properties are held to one table ([`super::properties`]), and bytes behind
//! the last field of any packet make it malformed. No topic alias and no subscription identifier is taken, since none
//! is offered.
use super::{
    fault::Fault,
    fields::Fields,
    frame::{Frame, Kind, Unreadable},
    properties::{self, Properties, Within},
};
use bytes::Bytes;
use rumqttd::protocol::{self, QoS};

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
    /// Message Expiry Interval, in seconds.
    pub(super) expiry: Option<u32>,
    /// The properties that subscribers get, encoded.
    pub(super) properties: Bytes,
}

/// A filter of a SUBSCRIBE with its options (MQTT 5 §3.8.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) path: String,
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) as_published: bool,
    pub(super) retained: RetainHandling,
}

/// When a subscription gets the retained messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetainHandling {
    /// Each time it is made.
    Always,
    /// When it did not exist.
    New,
    /// Not.
    Never,
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

impl From<Unreadable> for Fault {
    fn from(_: Unreadable) -> Self {
        Self::Malformed
    }
}

/// Decodes a packet of a connected client.
///
/// # Errors
/// When the packet breaks the protocol; the connection must end.
pub(super) fn packet(version: Version, frame: Frame) -> Result<Packet, Fault> {
    match frame.kind {
        // MQTT-3.1.0-2; AUTH without an authentication method (MQTT-4.12.0-7), which is not offered.
        Kind::Connect => Err(Fault::Protocol),
        Kind::Auth if version == Version::V5 => Err(Fault::Protocol),
        Kind::Auth => Err(Fault::Malformed),
        Kind::Publish => publish(version, frame).map(Packet::Publish),
        Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp => acknowledged(version, frame),
        Kind::PingReq if frame.body().is_empty() => Ok(Packet::PingReq),
        Kind::PingReq => Err(Fault::Malformed),
        Kind::Subscribe => subscribe(version, frame),
        Kind::Unsubscribe => unsubscribe(version, frame),
        Kind::Disconnect => disconnect(version, frame),
    }
}

fn properties(version: Version, within: Within, fields: &mut Fields) -> Result<Properties, Fault> {
    match version {
        Version::V4 => Ok(Properties::default()),
        Version::V5 => Properties::take(within, fields),
    }
}

fn publish(version: Version, frame: Frame) -> Result<Publish, Fault> {
    let flags = frame.flags;
    let qos = protocol::qos((flags >> 1) & 3).ok_or(Fault::Malformed)?;
    let mut fields = Fields::of(frame.into_body());
    let topic = fields.text()?;
    let pkid = match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce | QoS::ExactlyOnce => fields.pkid()?,
    };
    let properties = properties(version, Within::Publish, &mut fields)?;
    if properties.has(properties::TOPIC_ALIAS) {
        return Err(Fault::TopicAlias);
    }
    // MQTT-3.3.4-6: a client must not send a subscription identifier. An empty topic would be an alias (§3.3.2.1).
    if properties.has(properties::SUBSCRIPTION_ID) || (version == Version::V5 && topic.is_empty()) {
        return Err(Fault::Protocol);
    }
    // MQTT-3.3.2-2, MQTT-4.7.3-1.
    if topic.is_empty() || topic.iter().any(|byte| matches!(byte, b'+' | b'#')) {
        return Err(Fault::Malformed);
    }
    Ok(Publish {
        qos,
        retain: flags & 1 == 1,
        pkid,
        topic,
        payload: fields.rest(),
        expiry: properties.number(properties::EXPIRY),
        properties: properties.forwarded,
    })
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP. In v5 a reason and properties may follow the packet id; the properties may be
/// left out with their length (§3.4.2.2.1).
fn acknowledged(version: Version, frame: Frame) -> Result<Packet, Fault> {
    let kind = frame.kind;
    let mut fields = Fields::of(frame.into_body());
    let pkid = fields.pkid()?;
    let mut reason = 0;
    if version == Version::V5 && !fields.is_empty() {
        reason = fields.byte()?;
        if !fields.is_empty() {
            Properties::take(Within::Acknowledgement, &mut fields)?;
        }
    }
    fields.end()?;
    // MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1.
    let known = match kind {
        Kind::PubRel | Kind::PubComp => matches!(reason, 0x00 | 0x92),
        _ => matches!(
            reason,
            0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
        ),
    };
    if !known {
        return Err(Fault::Protocol);
    }
    Ok(match kind {
        Kind::PubRec => Packet::PubRec {
            pkid,
            refused: reason >= 0x80,
        },
        Kind::PubRel => Packet::PubRel(pkid),
        Kind::PubComp => Packet::PubComp(pkid),
        _ => Packet::PubAck(pkid),
    })
}

fn subscribe(version: Version, frame: Frame) -> Result<Packet, Fault> {
    let mut fields = Fields::of(frame.into_body());
    let pkid = fields.pkid()?;
    let properties = properties(version, Within::Subscribe, &mut fields)?;
    let mut filters = Vec::new();
    while !fields.is_empty() {
        let path = fields.string()?;
        filters.push(filter(version, path, fields.byte()?)?);
    }
    if properties.has(properties::SUBSCRIPTION_ID) {
        return Err(Fault::SubscriptionId);
    }
    // MQTT-3.8.3-2 (3.1.1: -3).
    if filters.is_empty() {
        return Err(Fault::Protocol);
    }
    Ok(Packet::Subscribe { pkid, filters })
}

fn filter(version: Version, path: String, options: u8) -> Result<Filter, Fault> {
    // MQTT 3.1.1 MQTT-3-8.3-4, MQTT 5 MQTT-3.8.3-5: in every filter.
    let reserved = match version {
        Version::V4 => 0xfc,
        Version::V5 => 0xc0,
    };
    // MQTT-4.7.3-1.
    if options & reserved != 0 || path.is_empty() {
        return Err(Fault::Malformed);
    }
    let no_local = options & 0x04 != 0;
    // MQTT-3.8.3-4.
    if no_local && path.starts_with("$share/") {
        return Err(Fault::Protocol);
    }
    Ok(Filter {
        path,
        qos: protocol::qos(options & 3).ok_or(Fault::Protocol)?,
        no_local,
        as_published: options & 0x08 != 0,
        retained: match options >> 4 & 3 {
            0 => RetainHandling::Always,
            1 => RetainHandling::New,
            2 => RetainHandling::Never,
            _ => return Err(Fault::Protocol),
        },
    })
}

fn unsubscribe(version: Version, frame: Frame) -> Result<Packet, Fault> {
    let mut fields = Fields::of(frame.into_body());
    let pkid = fields.pkid()?;
    properties(version, Within::Unsubscribe, &mut fields)?;
    let mut filters = Vec::new();
    while !fields.is_empty() {
        match fields.string()? {
            empty if empty.is_empty() => return Err(Fault::Malformed),
            path => filters.push(path),
        }
    }
    // MQTT-3.10.3-2.
    if filters.is_empty() {
        return Err(Fault::Protocol);
    }
    Ok(Packet::Unsubscribe { pkid, filters })
}

fn disconnect(version: Version, frame: Frame) -> Result<Packet, Fault> {
    let mut fields = Fields::of(frame.into_body());
    let (mut reason, mut expiry) = (0, None);
    if version == Version::V5 && !fields.is_empty() {
        reason = fields.byte()?;
        // §3.14.2.2.1: the properties may be left out.
        if !fields.is_empty() {
            let properties = Properties::take(Within::Disconnect, &mut fields)?;
            expiry = properties.number(properties::SESSION_EXPIRY);
        }
    }
    fields.end()?;
    // §3.14.2.1: the reasons that a client may give.
    if !matches!(reason, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99) {
        return Err(Fault::Protocol);
    }
    Ok(Packet::Disconnect {
        with_will: reason != 0,
        expiry,
    })
}
