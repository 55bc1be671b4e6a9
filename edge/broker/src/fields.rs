//! The fields that packets are made of (MQTT 5 §1.5), taken off the front of a body one after the other.
//!
//! Nothing is allocated but what is given out as text, and nothing is read beyond the packet: a length that lies is a
//! malformed packet.
use super::fault::Fault;
use bytes::{Buf, Bytes};

/// A variable byte integer (MQTT 5 §1.5.5) at the start of `bytes`, with the number of its bytes; `None` when it does
/// not end within them.
///
/// # Errors
/// When it is longer than four bytes, or longer than its value needs (MQTT-1.5.5-1).
pub(super) fn variable_int(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return match *byte {
                0 if at > 0 => Err(Fault::Malformed),
                _ => Ok(Some((value, at + 1))),
            };
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(Fault::Malformed)
    }
}

/// What is left of a packet's body.
#[derive(Clone, Debug)]
pub(super) struct Fields(Bytes);

impl Fields {
    pub(super) const fn of(body: Bytes) -> Self {
        Self(body)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    /// What is left, without taking it.
    pub(super) const fn left(&self) -> &Bytes {
        &self.0
    }

    /// Nothing may be left: bytes behind the last field are no part of any packet.
    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Fault::Malformed)
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        self.0.try_get_u8().map_err(|_| Fault::Malformed)
    }

    pub(super) fn two(&mut self) -> Result<u16, Fault> {
        self.0.try_get_u16().map_err(|_| Fault::Malformed)
    }

    pub(super) fn four(&mut self) -> Result<u32, Fault> {
        self.0.try_get_u32().map_err(|_| Fault::Malformed)
    }

    /// A packet identifier: never 0 (MQTT 5 §2.2.1, MQTT-2.3.1-1 of 3.1.1).
    pub(super) fn pkid(&mut self) -> Result<u16, Fault> {
        match self.two()? {
            0 => Err(Fault::Malformed),
            pkid => Ok(pkid),
        }
    }

    pub(super) fn variable(&mut self) -> Result<usize, Fault> {
        let (value, digits) = variable_int(&self.0)?.ok_or(Fault::Malformed)?;
        self.0.advance(digits);
        Ok(value)
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Fault> {
        if length > self.0.len() {
            return Err(Fault::Malformed);
        }
        Ok(self.0.split_to(length))
    }

    /// Binary data (§1.5.6).
    pub(super) fn binary(&mut self) -> Result<Bytes, Fault> {
        let length = usize::from(self.two()?);
        self.take(length)
    }

    /// A UTF-8 encoded string (§1.5.4), checked: well-formed, without U+0000 (MQTT-1.5.4-1, -2).
    pub(super) fn text(&mut self) -> Result<Bytes, Fault> {
        let text = self.binary()?;
        match std::str::from_utf8(&text) {
            Ok(checked) if !checked.contains('\0') => Ok(text),
            _ => Err(Fault::Malformed),
        }
    }

    /// The same as a `String`.
    pub(super) fn string(&mut self) -> Result<String, Fault> {
        String::from_utf8(self.text()?.to_vec()).map_err(|_| Fault::Malformed)
    }

    /// Properties behind their length (§2.2.2).
    pub(super) fn properties(&mut self) -> Result<Self, Fault> {
        let length = self.variable()?;
        self.take(length).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_byte_integer_is_read_only_in_its_shortest_form() {
        for (bytes, expected) in [
            (&[][..], Ok(None)),
            (&[0x80][..], Ok(None)),
            (&[0][..], Ok(Some((0, 1)))),
            (&[0x7f, 9][..], Ok(Some((127, 1)))),
            (&[0x80, 1][..], Ok(Some((128, 2)))),
            (&[0xff, 0xff, 0xff, 0x7f][..], Ok(Some((268_435_455, 4)))),
            (&[0x80, 0][..], Err(Fault::Malformed)),
            (&[0xff, 0x80, 0][..], Err(Fault::Malformed)),
            (&[0x80, 0x80, 0x80, 0][..], Err(Fault::Malformed)),
            (&[0x80, 0x80, 0x80, 0x80][..], Err(Fault::Malformed)),
        ] {
            assert_eq!(variable_int(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn text_is_well_formed_utf_8_without_the_null_character() {
        for (bytes, good) in [
            (&[0, 0][..], true),
            (&[0, 1, b'a'][..], true),
            (&[0, 3, 0xef, 0xbb, 0xbf][..], true),
            (&[0, 1, 0][..], false),
            (&[0, 3, 0xed, 0xa0, 0x80][..], false),
            (&[0, 2, 0xc0, 0x80][..], false),
            (&[0, 2, b'a'][..], false),
            (&[0][..], false),
        ] {
            let mut fields = Fields::of(Bytes::copy_from_slice(bytes));
            assert_eq!(fields.text().is_ok(), good, "{bytes:02x?}");
        }
    }
}
