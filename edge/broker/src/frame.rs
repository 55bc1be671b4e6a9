//! Packets cut out of the byte stream: fixed header, length and flags are checked before any decoder sees a byte.
//!
//! The decoders see one whole packet of a type that a client may send, and nothing else. Decoders of our own: rumqttd's
//! answer "more bytes needed" also where a complete packet lies about an inner length, and let through what MQTT forbids.
use super::{fault::Fault, fields::variable_int};
use bytes::{Buf as _, Bytes, BytesMut};

/// The packets that a client may send (MQTT 3.1.1 and 5 §2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    Unsubscribe,
    PingReq,
    Disconnect,
    /// MQTT 5 alone.
    Auth,
}

/// One packet, whole.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// The low four bits of the first byte.
    pub(super) flags: u8,
    /// What follows the fixed header.
    body: BytesMut,
}

/// Why the stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It does not conform to MQTT.
    Malformed,
    /// A packet is longer than the limit that was announced.
    TooLarge,
}

impl From<Fault> for Unreadable {
    fn from(_: Fault) -> Self {
        Self::Malformed
    }
}

impl Frame {
    /// What follows the fixed header.
    pub(super) fn into_body(self) -> Bytes {
        self.body.freeze()
    }

    /// What follows the fixed header.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Takes the next whole packet off `input`; `None` when more bytes are needed. `max` bounds the whole packet, in bytes.
pub(super) fn next(input: &mut BytesMut, max: usize) -> Result<Option<Frame>, Unreadable> {
    let Some((&first, rest)) = input.split_first() else {
        return Ok(None);
    };
    let flags = first & 0x0f;
    let kind = kind(first >> 4, flags)?;
    let Some((remaining, digits)) = variable_int(rest)? else {
        return Ok(None);
    };
    let header = 1 + digits;
    let length = header + remaining;
    if length > max {
        return Err(Unreadable::TooLarge);
    }
    if input.len() < length {
        input.reserve(length - input.len());
        return Ok(None);
    }
    let mut body = input.split_to(length);
    body.advance(header);
    Ok(Some(Frame { kind, flags, body }))
}

const fn kind(code: u8, flags: u8) -> Result<Kind, Unreadable> {
    let qos = (flags >> 1) & 3;
    let repeated = flags & 8 != 0;
    Ok(match (code, flags) {
        (1, 0) => Kind::Connect,
        // MQTT-3.3.1-4: not both QoS bits; MQTT-3.3.1-2: no DUP at QoS 0.
        (3, _) if qos < 3 && (qos > 0 || !repeated) => Kind::Publish,
        (4, 0) => Kind::PubAck,
        (5, 0) => Kind::PubRec,
        (6, 2) => Kind::PubRel,
        (7, 0) => Kind::PubComp,
        (8, 2) => Kind::Subscribe,
        (10, 2) => Kind::Unsubscribe,
        (12, 0) => Kind::PingReq,
        (14, 0) => Kind::Disconnect,
        (15, 0) => Kind::Auth,
        _ => return Err(Unreadable::Malformed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(bytes: &[u8]) -> Result<Option<(Kind, usize)>, Unreadable> {
        let mut input = BytesMut::from(bytes);
        next(&mut input, 200).map(|frame| frame.map(|frame| (frame.kind, frame.body().len())))
    }

    #[test]
    fn only_whole_packets_that_a_client_may_send_are_cut_out() {
        for (bytes, expected) in [
            (&[][..], Ok(None)),
            (&[0xc0][..], Ok(None)),
            (&[0xc0, 0][..], Ok(Some((Kind::PingReq, 0)))),
            (&[0x30, 3, 0, 1][..], Ok(None)),
            (&[0x30, 3, 0, 1, b'a'][..], Ok(Some((Kind::Publish, 3)))),
            (&[0x30, 0x80][..], Ok(None)),
            (
                &[0x30, 0x80, 0x80, 0x80, 0x80][..],
                Err(Unreadable::Malformed),
            ),
            (&[0x30, 0xc6, 0x01][..], Err(Unreadable::TooLarge)),
            (&[0x30, 0xc5, 0x01][..], Ok(None)),
            (&[0x00, 0][..], Err(Unreadable::Malformed)),
            (&[0x20, 2, 0, 0][..], Err(Unreadable::Malformed)),
            (&[0x90, 2, 0, 0][..], Err(Unreadable::Malformed)),
            (&[0xb0, 2, 0, 0][..], Err(Unreadable::Malformed)),
            (&[0xd0, 0][..], Err(Unreadable::Malformed)),
            (&[0xf1, 0][..], Err(Unreadable::Malformed)),
            (&[0x30, 0x83, 0][..], Err(Unreadable::Malformed)),
            (&[0x36, 0][..], Err(Unreadable::Malformed)),
            (&[0x38, 0][..], Err(Unreadable::Malformed)),
            (&[0x80, 0][..], Err(Unreadable::Malformed)),
            (&[0x60, 2, 0, 1][..], Err(Unreadable::Malformed)),
            (&[0xc1, 0][..], Err(Unreadable::Malformed)),
        ] {
            assert_eq!(cut(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn packets_that_arrive_together_are_cut_apart_and_the_rest_is_kept() {
        let mut input = BytesMut::from(&[0xc0, 0, 0x40, 2, 0, 7, 0xe0][..]);
        assert_eq!(next(&mut input, 99).unwrap().unwrap().kind, Kind::PingReq);
        assert_eq!(next(&mut input, 99).unwrap().unwrap().body(), [0, 7]);
        assert!(next(&mut input, 99).unwrap().is_none());
        assert_eq!(input, [0xe0][..]);
    }
}
