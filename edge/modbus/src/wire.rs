//! Bytes of the master's side: what a request looks like, and where in what came its answer stands. Pure.
//!
//! Sources: MODBUS Application Protocol 1.1b3 (function codes 1 to 5 and 16, exceptions), MODBUS over Serial Line 1.02
//! §2.5.1 and §6.2 (RTU, CRC-16), MODBUS Messaging on TCP/IP 1.0b §3.1.3 and §4.4.1.3 (MBAP, answers that are not ours).
//!
//! An answer is looked for wherever it stands: noise before it, answers to others and cut-off frames are passed over. It
//! is one when unit, function and length are those of the request and the checksum (RTU) or the transaction id (TCP) is
//! right. On RTU that does not tell two requests of the same unit, function and length apart: [`super::talk`] does.
use super::plan::{Read, Space};
use std::ops::Range;

/// The longest frame, in bytes: a PDU of 253 bytes (§4.1) in the TCP envelope.
pub(super) const MAX_FRAME: usize = 260;
/// Bytes kept while an answer is looked for: more than an echo, some noise and two frames.
pub(super) const MAX_KEPT: usize = 4 * MAX_FRAME;
/// The length of the TCP envelope, in bytes.
const MBAP: usize = 7;
/// Added to the function code of a request that was refused (Application Protocol §7).
const EXCEPTION: u8 = 0x80;

/// What to ask a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Registers or bits.
    Read(Read),
    /// To write holding registers.
    Write { address: u16, words: Vec<u16> },
    /// To write a coil.
    Coil { address: u16, on: bool },
}

/// How a frame is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Unit, PDU, CRC; ended by silence.
    Rtu,
    /// MBAP with this transaction id.
    Tcp(u16),
}

/// What a well-formed answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// As many registers, or bits as 0 and 1, as were asked for.
    Values(Vec<u16>),
    /// The registers were written.
    Written,
    /// An exception with this code.
    Refused(u8),
}

/// How the answers to a request begin and how long they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) unit: u8,
    /// The first bytes of the PDU: function and byte count, or the whole confirmation of a write.
    start: Vec<u8>,
    /// The length of the PDU, in bytes.
    len: usize,
    /// Registers or bits; none for a write.
    read: Option<Read>,
    /// Whether an exception is an answer, too.
    pub(super) refusable: bool,
}

impl Ask {
    /// The function code.
    pub(super) const fn function(&self) -> u8 {
        match self {
            Self::Read(read) => match read.space {
                Space::Coil => 1,
                Space::Discrete => 2,
                Space::Holding => 3,
                Space::Input => 4,
            },
            Self::Write { .. } => 16,
            Self::Coil { .. } => 5,
        }
    }

    /// The request's PDU.
    fn pdu(&self) -> Vec<u8> {
        let mut out = vec![self.function()];
        match self {
            Self::Read(read) => {
                out.extend(read.address.to_be_bytes());
                out.extend(read.count.to_be_bytes());
            }
            Self::Write { address, words } => {
                out.extend(address.to_be_bytes());
                // A write has at most 123 registers (§6.12); those of a command have 64 at most, an acknowledgement six.
                out.extend([0, words.len() as u8, 2 * words.len() as u8]);
                out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            }
            // 0xFF00 is on, 0 is off (§6.5).
            Self::Coil { address, on } => {
                out.extend(address.to_be_bytes());
                out.extend([if *on { 0xff } else { 0 }, 0]);
            }
        }
        out
    }

    /// The request as a frame to this unit.
    pub(super) fn frame(&self, unit: u8, framing: Framing) -> Vec<u8> {
        let pdu = self.pdu();
        match framing {
            Framing::Rtu => {
                let mut out = vec![unit];
                out.extend(pdu);
                out.extend(crc16(&out).to_le_bytes());
                out
            }
            Framing::Tcp(transaction) => {
                let [high, low] = transaction.to_be_bytes();
                // The length field counts the unit byte too; a request has fewer than 255 bytes.
                let mut out = vec![high, low, 0, 0, 0, (pdu.len() + 1) as u8, unit];
                out.extend(pdu);
                out
            }
        }
    }

    /// What its answers look like.
    pub(super) fn shape(&self, unit: u8) -> Shape {
        match self {
            Self::Read(read) => {
                let bytes = match read.space {
                    Space::Coil | Space::Discrete => usize::from(read.count).div_ceil(8),
                    Space::Holding | Space::Input => 2 * usize::from(read.count),
                };
                Shape {
                    unit,
                    start: vec![self.function(), bytes as u8],
                    len: 2 + bytes,
                    read: Some(*read),
                    refusable: true,
                }
            }
            // The confirmation of a write is the first five bytes of its request (§6.5, §6.12).
            Self::Write { .. } | Self::Coil { .. } => Shape {
                unit,
                start: self.pdu().into_iter().take(5).collect(),
                len: 5,
                read: None,
                refusable: true,
            },
        }
    }
}

impl Shape {
    /// The function code.
    fn function(&self) -> u8 {
        self.start.first().copied().unwrap_or_default()
    }

    /// Whether this RTU frame is an exception of its function.
    pub(super) fn is_refused_by(&self, frame: &[u8]) -> bool {
        frame.get(1) == Some(&(self.function() | EXCEPTION))
    }

    /// The longest answer as a frame, in bytes.
    pub(super) fn frame_len(&self) -> usize {
        self.len + MBAP
    }

    /// How long the PDU is that begins here, if it can be an answer.
    fn pdu_len(&self, pdu: &[u8]) -> Option<usize> {
        if pdu.starts_with(&self.start) {
            return Some(self.len);
        }
        let refused = pdu.first() == Some(&(self.function() | EXCEPTION));
        (self.refusable && refused).then_some(2)
    }

    /// Where in the bytes the first answer of this shape stands.
    pub(super) fn find(&self, bytes: &[u8], framing: Framing) -> Option<Range<usize>> {
        (0..bytes.len()).find_map(|at| {
            let len = self.frame_at(bytes.get(at..)?, framing)?;
            Some(at..at + len)
        })
    }

    /// The length of the answer that begins these bytes.
    fn frame_at(&self, bytes: &[u8], framing: Framing) -> Option<usize> {
        match framing {
            Framing::Rtu => {
                let pdu = bytes.get(1..)?;
                let body = 1 + self.pdu_len(pdu)?;
                let crc = bytes.get(body..body + 2)?;
                let right = bytes.first() == Some(&self.unit)
                    && crc16(bytes.get(..body)?).to_le_bytes() == *crc;
                right.then_some(body + 2)
            }
            Framing::Tcp(transaction) => {
                let (head, pdu) = bytes.split_at_checked(MBAP)?;
                let len = self.pdu_len(pdu)?;
                let [high, low] = transaction.to_be_bytes();
                let wanted = [high, low, 0, 0, 0, u8::try_from(len + 1).ok()?, self.unit];
                (head == wanted && pdu.len() >= len).then_some(MBAP + len)
            }
        }
    }

    /// What an answer says that [`Shape::find`] has found.
    pub(super) fn read(&self, frame: &[u8], framing: Framing) -> Option<Reply> {
        let head = match framing {
            Framing::Rtu => 1,
            Framing::Tcp(_) => MBAP,
        };
        let pdu = frame.get(head..)?;
        if pdu.first() == Some(&(self.function() | EXCEPTION)) {
            return pdu.get(1).copied().map(Reply::Refused);
        }
        let Some(read) = self.read else {
            return Some(Reply::Written);
        };
        let data = pdu.get(self.start.len()..self.len)?;
        Some(Reply::Values(match read.space {
            Space::Holding | Space::Input => data
                .chunks_exact(2)
                .map(|pair| {
                    pair.iter()
                        .fold(0, |word, byte| word << 8 | u16::from(*byte))
                })
                .collect(),
            // The first bit is the lowest of the first byte (§6.1).
            Space::Coil | Space::Discrete => data
                .iter()
                .flat_map(|byte| (0..8).map(move |bit| u16::from(byte >> bit & 1)))
                .take(usize::from(read.count))
                .collect(),
        }))
    }
}

/// Whole TCP frames at the beginning of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WholeFrames {
    /// Their length, in bytes.
    pub(super) len: usize,
    /// How many have the transaction id.
    pub(super) own: usize,
}

/// The whole TCP frames at the beginning: answers to other requests, of other units, and so on.
pub(super) fn whole_tcp_frames(bytes: &[u8], transaction: u16) -> WholeFrames {
    let mut found = WholeFrames::default();
    while let Some([id_high, id_low, 0, 0, high, low, _]) = bytes.get(found.len..found.len + MBAP) {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let end = found.len + MBAP - 1 + len;
        if !(2..=MAX_FRAME - MBAP + 1).contains(&len) || end > bytes.len() {
            break;
        }
        found.own += usize::from(u16::from_be_bytes([*id_high, *id_low]) == transaction);
        found.len = end;
    }
    found
}

/// CRC-16 of the serial line protocol (§6.2.2): polynomial 0xA001, start 0xFFFF; the low byte goes first.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xa001 * (crc & 1))
        })
    })
}

/// Takes any bytes as what came on a line, as TCP and as RTU, after requests of every kind that the first six bytes
/// choose. For fuzzing: it must not panic, and its work is bounded by the length.
///
/// Returns how many answers were found.
#[must_use]
pub fn probe(bytes: &[u8]) -> usize {
    let Some(([unit, space, high, low, count, salt], rest)) = bytes.split_first_chunk::<6>() else {
        return 0;
    };
    let read = Ask::Read(Read {
        space: match space % 4 {
            0 => Space::Input,
            1 => Space::Holding,
            2 => Space::Coil,
            _ => Space::Discrete,
        },
        address: u16::from_be_bytes([*high, *low]),
        count: u16::from(count % 125) + 1,
    });
    let write = Ask::Write {
        address: u16::from(*salt),
        words: vec![u16::from(*count); 6],
    };
    let rest = rest.get(..MAX_KEPT).unwrap_or(rest);
    let transaction = u16::from_be_bytes([*salt, *count]);
    let mut found = 0;
    for ask in [read, write] {
        let shape = ask.shape(*unit);
        for framing in [Framing::Rtu, Framing::Tcp(transaction)] {
            let frame = shape.find(rest, framing).and_then(|range| rest.get(range));
            found += usize::from(frame.is_some_and(|frame| shape.read(frame, framing).is_some()));
        }
    }
    found + whole_tcp_frames(rest, transaction).own
}

#[cfg(test)]
mod tests;
