//! The properties of MQTT 5 (§2.2.2.2): one table says what each looks like, where a client may send it and which values
//! it may have; one walk over the bytes holds all of them to it.
//!
//! A property that does not belong into its packet, or is not of its type, makes the packet malformed (§2.2.2.2); one
//! that comes twice, or has a value that its section forbids, is a protocol error.
use super::{fault::Fault, fields::Fields};
use bytes::{Bytes, BytesMut};

pub(super) const EXPIRY: u8 = 0x02;
pub(super) const SUBSCRIPTION_ID: u8 = 0x0b;
pub(super) const SESSION_EXPIRY: u8 = 0x11;
pub(super) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(super) const AUTHENTICATION_DATA: u8 = 0x16;
pub(super) const WILL_DELAY: u8 = 0x18;
pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(super) const TOPIC_ALIAS: u8 = 0x23;
pub(super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const USER: u8 = 0x26;

/// A packet, or a part of one, that has properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Within {
    Connect = 1,
    Will = 2,
    Publish = 4,
    /// PUBACK, PUBREC, PUBREL and PUBCOMP.
    Acknowledgement = 8,
    Subscribe = 16,
    Unsubscribe = 32,
    Disconnect = 64,
}

/// What a property's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A byte that is 0 or 1.
    Flag,
    Two,
    Four,
    Variable,
    Text,
    /// A topic name: not empty and without wildcards (MQTT-3.3.2-14, MQTT-4.7.3-1).
    Topic,
    Binary,
    /// Name and value.
    Pair,
}

struct Row {
    id: u8,
    shape: Shape,
    within: u8,
    /// Whether 0 is a value of it.
    zero: bool,
    /// Whether subscribers get it with the message (MQTT-3.3.2-4, -15 to -20).
    forwarded: bool,
}

const fn row(id: u8, shape: Shape, within: u8) -> Row {
    Row {
        id,
        shape,
        within,
        zero: true,
        forwarded: false,
    }
}

const fn forwarded(id: u8, shape: Shape) -> Row {
    let within = Within::Publish as u8 | Within::Will as u8;
    Row {
        forwarded: true,
        ..row(id, shape, within)
    }
}

const fn positive(id: u8, shape: Shape, within: u8) -> Row {
    Row {
        zero: false,
        ..row(id, shape, within)
    }
}

const MESSAGE: u8 = Within::Publish as u8 | Within::Will as u8;
const CONNECT: u8 = Within::Connect as u8;

/// What a client may send. A property of a server (0x12, 0x13, 0x1a, 0x1c, 0x24, 0x25, 0x28 to 0x2a) is in no packet of
/// a client.
const TABLE: [Row; 18] = [
    forwarded(0x01, Shape::Flag),
    row(EXPIRY, Shape::Four, MESSAGE),
    forwarded(0x03, Shape::Text),
    forwarded(0x08, Shape::Topic),
    forwarded(0x09, Shape::Binary),
    positive(
        SUBSCRIPTION_ID,
        Shape::Variable,
        Within::Subscribe as u8 | Within::Publish as u8,
    ),
    row(
        SESSION_EXPIRY,
        Shape::Four,
        CONNECT | Within::Disconnect as u8,
    ),
    row(AUTHENTICATION_METHOD, Shape::Text, CONNECT),
    row(AUTHENTICATION_DATA, Shape::Binary, CONNECT),
    row(0x17, Shape::Flag, CONNECT),
    row(WILL_DELAY, Shape::Four, Within::Will as u8),
    row(0x19, Shape::Flag, CONNECT),
    row(
        0x1f,
        Shape::Text,
        Within::Acknowledgement as u8 | Within::Disconnect as u8,
    ),
    positive(RECEIVE_MAXIMUM, Shape::Two, CONNECT),
    row(0x22, Shape::Two, CONNECT),
    row(TOPIC_ALIAS, Shape::Two, Within::Publish as u8),
    // In a PUBLISH and a will it goes on to subscribers, in its order (MQTT-3.3.2-17, -18).
    Row {
        forwarded: true,
        ..row(USER, Shape::Pair, 0x7f)
    },
    positive(MAXIMUM_PACKET_SIZE, Shape::Four, CONNECT),
];

/// The properties of a packet that a client sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    /// One bit for each identifier that is there.
    present: u64,
    numbers: Vec<(u8, u32)>,
    /// Those that subscribers get with the message, encoded, without a length in front.
    pub(super) forwarded: Bytes,
}

impl Properties {
    /// Takes the properties of `within` off `fields`.
    ///
    /// # Errors
    /// When they are not what [`TABLE`] allows there.
    pub(super) fn take(within: Within, fields: &mut Fields) -> Result<Self, Fault> {
        let mut rest = fields.properties()?;
        let mut found = Self::default();
        let mut forwarded = BytesMut::new();
        while !rest.is_empty() {
            let whole = rest.left().clone();
            let row = found.one(within, &mut rest)?;
            if row.forwarded && within as u8 & MESSAGE != 0 {
                let taken = whole.len().checked_sub(rest.left().len());
                let taken = taken.and_then(|taken| whole.get(..taken));
                forwarded.extend_from_slice(taken.ok_or(Fault::Malformed)?);
            }
        }
        found.forwarded = forwarded.freeze();
        Ok(found)
    }

    fn one(&mut self, within: Within, rest: &mut Fields) -> Result<&'static Row, Fault> {
        let id = rest.variable()?;
        let known = |row: &&Row| usize::from(row.id) == id && row.within & within as u8 != 0;
        let row = TABLE.iter().find(known).ok_or(Fault::Malformed)?;
        let number = match row.shape {
            Shape::Flag => Some(u32::from(rest.byte()?)),
            Shape::Two => Some(u32::from(rest.two()?)),
            Shape::Four => Some(rest.four()?),
            Shape::Variable => u32::try_from(rest.variable()?).ok(),
            Shape::Text => rest.text().map(|_| None)?,
            Shape::Topic => topic(&rest.text()?).map(|()| None)?,
            Shape::Binary => rest.binary().map(|_| None)?,
            Shape::Pair => {
                rest.text()?;
                rest.text()?;
                None
            }
        };
        let bit = 1_u64 << row.id;
        let twice = self.present & bit != 0 && row.id != USER;
        let excluded = match number {
            Some(0) => !row.zero,
            Some(number) => row.shape == Shape::Flag && number > 1,
            None => false,
        };
        if twice || excluded {
            return Err(Fault::Protocol);
        }
        self.present |= bit;
        self.numbers.extend(number.map(|number| (row.id, number)));
        Ok(row)
    }

    /// Whether the property is there.
    pub(super) const fn has(&self, id: u8) -> bool {
        self.present & (1 << id) != 0
    }

    /// The value of a property that is a number.
    pub(super) fn number(&self, id: u8) -> Option<u32> {
        let found = self.numbers.iter().find(|(of, _)| *of == id);
        found.map(|(_, number)| *number)
    }
}

fn topic(text: &Bytes) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::Malformed);
    }
    if text.iter().any(|byte| matches!(byte, b'+' | b'#')) {
        return Err(Fault::Protocol);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_unique_and_have_a_bit_each() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(row.id < 64 && row.within != 0);
            assert!(TABLE.iter().skip(at + 1).all(|other| other.id != row.id));
        }
    }

    #[test]
    fn what_subscribers_get_keeps_its_bytes_and_its_order() {
        let mut bytes = vec![26, 0x26, 0, 1, b'b', 0, 1, b'1', 2, 0, 0, 0, 9, 1, 1];
        bytes.extend([0x26, 0, 1, b'a', 0, 1, b'2', 9, 0, 1, 0]);
        bytes.push(0x77);
        let mut fields = Fields::of(Bytes::from(bytes.clone()));
        let found = Properties::take(Within::Publish, &mut fields);
        assert_eq!(found, Err(Fault::Malformed), "an unknown property");
        bytes.pop();
        bytes[0] -= 1;
        let mut fields = Fields::of(Bytes::from(bytes));
        let found = Properties::take(Within::Publish, &mut fields).unwrap();
        assert_eq!(found.number(EXPIRY), Some(9));
        let kept = [
            &[0x26, 0, 1, b'b', 0, 1, b'1', 1, 1][..],
            &[0x26, 0, 1, b'a', 0, 1, b'2', 9, 0, 1, 0],
        ];
        assert_eq!(found.forwarded, kept.concat());
    }
}
