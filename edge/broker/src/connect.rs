//! CONNECT, decoded (MQTT 3.1.1 and 5 §3.1). User name and password are checked for shape; the user name is
//! dropped, and the password is looked at where no certificate says who it is.
use super::{
    decode::Version,
    fault::Fault,
    fields::Fields,
    frame::Frame,
    properties::{self, Properties, Within},
};
use bytes::Bytes;
use rumqttd::protocol::{self, QoS};
use sha2::{Digest as _, Sha256};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connect {
    pub(super) version: Version,
    /// Clean Session of 3.1.1, Clean Start of 5.
    pub(super) clean: bool,
    /// In seconds; 0: none.
    pub(super) keep_alive: u16,
    pub(super) client_id: String,
    pub(super) properties: Properties,
    pub(super) will: Option<LastWill>,
    /// SHA-256 of the password: nothing else is done with it.
    pub(super) password: Option<[u8; 32]>,
}

/// The will of a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastWill {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) properties: Properties,
}

/// Why a CONNECT is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Neither MQTT 3.1.1 nor 5.
    UnknownProtocol,
    /// It breaks the rules of its version.
    Broken(Version, Fault),
    /// It ends before its protocol is known.
    Malformed,
}

/// Decodes a CONNECT.
///
/// # Errors
/// When it is none of MQTT 3.1.1 or 5.
pub(super) fn connect(frame: Frame) -> Result<Connect, Unfit> {
    let mut fields = Fields::of(frame.into_body());
    let name = fields.text().map_err(|_| Unfit::Malformed)?;
    let level = fields.byte().map_err(|_| Unfit::Malformed)?;
    let version = match (&name[..], level) {
        (b"MQTT", 4) => Version::V4,
        (b"MQTT", 5) => Version::V5,
        _ => return Err(Unfit::UnknownProtocol),
    };
    behind_level(version, fields).map_err(|fault| Unfit::Broken(version, fault))
}

fn behind_level(version: Version, mut fields: Fields) -> Result<Connect, Fault> {
    let flags = Flags(fields.byte()?);
    flags.check(version)?;
    let keep_alive = fields.two()?;
    let properties = match version {
        Version::V4 => Properties::default(),
        Version::V5 => Properties::take(Within::Connect, &mut fields)?,
    };
    // MQTT 5 §3.1.2.11.10.
    if properties.has(properties::AUTHENTICATION_DATA)
        && !properties.has(properties::AUTHENTICATION_METHOD)
    {
        return Err(Fault::Protocol);
    }
    let client_id = fields.string()?;
    let will = match flags.has(Flags::WILL) {
        true => Some(last_will(version, flags, &mut fields)?),
        false => None,
    };
    if flags.has(Flags::USER_NAME) {
        fields.text()?;
    }
    let password = match flags.has(Flags::PASSWORD) {
        true => Some(Sha256::digest(fields.binary()?).into()),
        false => None,
    };
    fields.end()?;
    Ok(Connect {
        version,
        clean: flags.has(Flags::CLEAN),
        keep_alive,
        client_id,
        properties,
        will,
        password,
    })
}

fn last_will(version: Version, flags: Flags, fields: &mut Fields) -> Result<LastWill, Fault> {
    let properties = match version {
        Version::V4 => Properties::default(),
        Version::V5 => Properties::take(Within::Will, fields)?,
    };
    let topic = fields.text()?;
    if topic.is_empty() {
        return Err(Fault::Malformed);
    }
    Ok(LastWill {
        topic,
        payload: fields.binary()?,
        qos: flags.will_qos()?,
        retain: flags.has(Flags::WILL_RETAIN),
        properties,
    })
}

/// The connect flags (§3.1.2.3).
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    const RESERVED: u8 = 0x01;
    const CLEAN: u8 = 0x02;
    const WILL: u8 = 0x04;
    const WILL_QOS: u8 = 0x18;
    const WILL_RETAIN: u8 = 0x20;
    const PASSWORD: u8 = 0x40;
    const USER_NAME: u8 = 0x80;

    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn will_qos(self) -> Result<QoS, Fault> {
        protocol::qos((self.0 & Self::WILL_QOS) >> 3).ok_or(Fault::Malformed)
    }

    fn check(self, version: Version) -> Result<(), Fault> {
        // MQTT-3.1.2-3; MQTT-3.1.2-11 and -13 (3.1.1: -11, -13, -15): without a will, nothing is said of it.
        let stray = !self.has(Self::WILL) && self.has(Self::WILL_QOS | Self::WILL_RETAIN);
        // MQTT-3.1.2-22 of 3.1.1 alone; MQTT 5 §3.1.2.9 lets a password stand for itself.
        let nameless =
            version == Version::V4 && self.has(Self::PASSWORD) && !self.has(Self::USER_NAME);
        if self.has(Self::RESERVED) || stray || nameless {
            return Err(Fault::Malformed);
        }
        self.will_qos().map(drop)
    }
}
