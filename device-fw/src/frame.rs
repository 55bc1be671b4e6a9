//! Modbus frames as bytes: the PDUs of function codes 3, 4, 6 and 16 with their exceptions, the RTU envelope with its
//! CRC and the TCP envelope (MBAP).
//!
//! Sources: MODBUS Application Protocol 1.1b3 (PDUs, exceptions), MODBUS over Serial Line 1.02 §2.5.1 and §6.2 (RTU,
//! CRC-16), MODBUS Messaging on TCP/IP 1.0b §3.1.3 (MBAP). It knows nothing of what registers mean.
use core::fmt;

/// The longest PDU, in bytes (Application Protocol §4.1).
pub const MAX_PDU: usize = 253;
/// The longest RTU frame, in bytes: unit, PDU, CRC.
pub const MAX_RTU: usize = MAX_PDU + 3;
/// The length of the TCP envelope, in bytes.
pub const MBAP: usize = 7;
/// The longest TCP frame, in bytes.
pub const MAX_TCP: usize = MAX_PDU + MBAP;
/// Registers in one read (Application Protocol §6.3).
pub const MAX_READ: u16 = 125;
/// Registers in one write (Application Protocol §6.12).
pub const MAX_WRITE: u16 = 123;

/// Bytes that are not the frame or PDU they should be. Nothing of them was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Fewer bytes than the smallest frame, or than its own length field says.
    Short,
    /// More bytes than a frame may have, or than its own length field says.
    Long,
    /// The checksum does not match.
    Crc {
        /// Computed over the bytes.
        computed: u16,
        /// Found in the frame.
        found: u16,
    },
    /// The protocol identifier of a TCP frame is not 0.
    Protocol(u16),
    /// A function code that is not spoken here.
    Function(u8),
    /// A field is outside what the protocol allows.
    Value,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the frame is too short"),
            Self::Long => f.write_str("the frame is too long"),
            Self::Crc { computed, found } => {
                write!(f, "the checksum is {found:04x}, not {computed:04x}")
            }
            Self::Protocol(id) => write!(f, "the protocol identifier is {id}, not 0"),
            Self::Function(code) => write!(f, "function code {code} is not spoken here"),
            Self::Value => f.write_str("a field is outside what the protocol allows"),
        }
    }
}

impl core::error::Error for FrameError {}

/// The two kinds of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Read and written by function codes 3, 6 and 16.
    Holding,
    /// Read by function code 4.
    Input,
}

/// Why a device refuses a request (Application Protocol §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// 1: the function code is not known.
    Function,
    /// 2: an address is not there.
    Address,
    /// 3: a value is not allowed.
    Value,
    /// 4: the device failed.
    Failure,
    /// 6: the device is busy.
    Busy,
}

impl Exception {
    /// The exception code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Function => 1,
            Self::Address => 2,
            Self::Value => 3,
            Self::Failure => 4,
            Self::Busy => 6,
        }
    }
}

/// Registers on the wire: big-endian 16-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words<'a>(&'a [[u8; 2]]);

impl<'a> Words<'a> {
    /// The words of a byte string; a trailing half word is left out.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let (words, _half) = bytes.as_chunks();
        Self(words)
    }

    /// How many words.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The words as they are on the wire.
    const fn bytes(&self) -> &'a [u8] {
        self.0.as_flattened()
    }

    /// The words in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + 'a {
        self.0.iter().map(|word| u16::from_be_bytes(*word))
    }
}

/// What a master asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Function codes 3 and 4.
    Read {
        /// Which registers.
        space: Space,
        /// The first one.
        address: u16,
        /// How many, 1 to [`MAX_READ`].
        count: u16,
    },
    /// Function code 6.
    WriteOne {
        /// The register.
        address: u16,
        /// Its new value.
        value: u16,
    },
    /// Function code 16.
    WriteMany {
        /// The first register.
        address: u16,
        /// The new values, 1 to [`MAX_WRITE`].
        values: Words<'a>,
    },
}

impl<'a> Request<'a> {
    /// Reads a request PDU.
    ///
    /// # Errors
    /// [`FrameError`] for a function code not spoken here, a wrong length or a count outside the protocol's bounds.
    pub fn parse(pdu: &'a [u8]) -> Result<Self, FrameError> {
        let (&function, body) = pdu.split_first().ok_or(FrameError::Short)?;
        match function {
            3 | 4 => {
                let [address, count] = pair(body)?;
                if count == 0 || count > MAX_READ {
                    return Err(FrameError::Value);
                }
                let space = if function == 3 {
                    Space::Holding
                } else {
                    Space::Input
                };
                Ok(Self::Read {
                    space,
                    address,
                    count,
                })
            }
            6 => {
                let [address, value] = pair(body)?;
                Ok(Self::WriteOne { address, value })
            }
            16 => {
                let (head, rest) = body.split_at_checked(4).ok_or(FrameError::Short)?;
                let [address, count] = pair(head)?;
                let (&bytes, values) = rest.split_first().ok_or(FrameError::Short)?;
                if count == 0 || count > MAX_WRITE || u16::from(bytes) != count * 2 {
                    return Err(FrameError::Value);
                }
                let values = Words::new(exactly(values, usize::from(bytes))?);
                Ok(Self::WriteMany { address, values })
            }
            other => Err(FrameError::Function(other)),
        }
    }

    /// Writes the request PDU and says its length; `None` when `out` is too small.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut pen = Pen::new(out);
        match *self {
            Self::Read {
                space,
                address,
                count,
            } => {
                pen.byte(if space == Space::Holding { 3 } else { 4 })?;
                pen.word(address)?;
                pen.word(count)?;
            }
            Self::WriteOne { address, value } => {
                pen.byte(6)?;
                pen.word(address)?;
                pen.word(value)?;
            }
            Self::WriteMany { address, values } => {
                pen.byte(16)?;
                pen.word(address)?;
                pen.word(u16::try_from(values.len()).ok()?)?;
                pen.byte(u8::try_from(values.bytes().len()).ok()?)?;
                pen.bytes(values.bytes())?;
            }
        }
        Some(pen.at)
    }
}

/// What a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// Function codes 3 and 4.
    Read {
        /// Which registers.
        space: Space,
        /// Their values.
        values: Words<'a>,
    },
    /// Function code 6.
    WroteOne {
        /// The register.
        address: u16,
        /// Its value now.
        value: u16,
    },
    /// Function code 16.
    WroteMany {
        /// The first register.
        address: u16,
        /// How many were written.
        count: u16,
    },
    /// The request was refused.
    Exception {
        /// The function code that was asked.
        function: u8,
        /// The exception code.
        code: u8,
    },
}

impl<'a> Response<'a> {
    /// Reads a response PDU.
    ///
    /// # Errors
    /// [`FrameError`] for a function code not spoken here or a wrong length.
    pub fn parse(pdu: &'a [u8]) -> Result<Self, FrameError> {
        let (&function, body) = pdu.split_first().ok_or(FrameError::Short)?;
        match function {
            3 | 4 => {
                let (&bytes, values) = body.split_first().ok_or(FrameError::Short)?;
                if bytes == 0 || bytes % 2 != 0 || u16::from(bytes) > MAX_READ * 2 {
                    return Err(FrameError::Value);
                }
                let space = if function == 3 {
                    Space::Holding
                } else {
                    Space::Input
                };
                let values = Words::new(exactly(values, usize::from(bytes))?);
                Ok(Self::Read { space, values })
            }
            6 => pair(body).map(|[address, value]| Self::WroteOne { address, value }),
            16 => pair(body).map(|[address, count]| Self::WroteMany { address, count }),
            0x80.. => {
                let [code] = array(body)?;
                let function = function & 0x7f;
                Ok(Self::Exception { function, code })
            }
            other => Err(FrameError::Function(other)),
        }
    }

    /// Writes the response PDU and says its length; `None` when `out` is too small.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut pen = Pen::new(out);
        match *self {
            Self::Read { space, values } => {
                pen.byte(if space == Space::Holding { 3 } else { 4 })?;
                pen.byte(u8::try_from(values.bytes().len()).ok()?)?;
                pen.bytes(values.bytes())?;
            }
            Self::WroteOne { address, value } => {
                pen.byte(6)?;
                pen.word(address)?;
                pen.word(value)?;
            }
            Self::WroteMany { address, count } => {
                pen.byte(16)?;
                pen.word(address)?;
                pen.word(count)?;
            }
            Self::Exception { function, code } => {
                pen.byte(function | 0x80)?;
                pen.byte(code)?;
            }
        }
        Some(pen.at)
    }
}

/// CRC-16 of the serial line protocol (§6.2.2): polynomial 0xA001, start 0xFFFF.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| {
            (crc >> 1) ^ (0xa001 * (crc & 1))
        })
    })
}

/// Opens an RTU frame: the unit and the PDU.
///
/// # Errors
/// [`FrameError::Crc`], or a length outside 4 to [`MAX_RTU`] bytes.
pub fn open_rtu(frame: &[u8]) -> Result<(u8, &[u8]), FrameError> {
    if frame.len() > MAX_RTU {
        return Err(FrameError::Long);
    }
    let (body, crc) = frame.split_last_chunk::<2>().ok_or(FrameError::Short)?;
    let (&unit, pdu) = body.split_first().ok_or(FrameError::Short)?;
    if pdu.is_empty() {
        return Err(FrameError::Short);
    }
    // The low byte goes first (§6.2.1).
    let (computed, found) = (crc16(body), u16::from_le_bytes(*crc));
    if computed == found {
        Ok((unit, pdu))
    } else {
        Err(FrameError::Crc { computed, found })
    }
}

/// Writes the RTU frame around a PDU and says its length; `None` when `out` is too small.
pub fn seal_rtu(unit: u8, pdu: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut pen = Pen::new(out);
    pen.byte(unit)?;
    pen.bytes(pdu)?;
    let end = pen.at;
    let crc = crc16(out.get(..end)?).to_le_bytes();
    out.get_mut(end..end + 2)?.copy_from_slice(&crc);
    Some(end + 2)
}

/// How long the RTU *request* is that begins with these bytes; `None` while too few are there to say.
/// A function code not spoken here is [`FrameError::Function`]: its end is the silence after it.
///
/// # Errors
/// [`FrameError::Function`].
pub fn rtu_request_len(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    match bytes.get(1) {
        None => Ok(None),
        Some(3 | 4 | 6) => Ok(Some(8)),
        Some(16) => Ok(bytes.get(6).map(|&count| 9 + usize::from(count))),
        Some(&other) => Err(FrameError::Function(other)),
    }
}

/// The head of a TCP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbap {
    /// Pairs a response with its request.
    pub transaction: u16,
    /// The unit behind a gateway.
    pub unit: u8,
    /// The length of the PDU that follows, in bytes, 1 to [`MAX_PDU`].
    pub pdu_len: usize,
}

impl Mbap {
    /// Reads the head.
    ///
    /// # Errors
    /// [`FrameError`] when the protocol identifier is not 0 or the length is outside the protocol's bounds.
    pub fn parse(head: &[u8; MBAP]) -> Result<Self, FrameError> {
        let [t1, t2, p1, p2, l1, l2, unit] = *head;
        let protocol = u16::from_be_bytes([p1, p2]);
        if protocol != 0 {
            return Err(FrameError::Protocol(protocol));
        }
        // The length field counts the unit byte too.
        match usize::from(u16::from_be_bytes([l1, l2])) {
            0 | 1 => Err(FrameError::Short),
            length if length > MAX_PDU + 1 => Err(FrameError::Long),
            length => Ok(Self {
                transaction: u16::from_be_bytes([t1, t2]),
                unit,
                pdu_len: length - 1,
            }),
        }
    }

    /// The head as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; MBAP] {
        let [t1, t2] = self.transaction.to_be_bytes();
        let length = u16::try_from(self.pdu_len + 1).unwrap_or(u16::MAX);
        let [l1, l2] = length.to_be_bytes();
        [t1, t2, 0, 0, l1, l2, self.unit]
    }
}

fn exactly(bytes: &[u8], len: usize) -> Result<&[u8], FrameError> {
    match bytes.len().cmp(&len) {
        core::cmp::Ordering::Less => Err(FrameError::Short),
        core::cmp::Ordering::Equal => Ok(bytes),
        core::cmp::Ordering::Greater => Err(FrameError::Long),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], FrameError> {
    exactly(bytes, N)?.try_into().map_err(|_| FrameError::Short)
}

fn pair(body: &[u8]) -> Result<[u16; 2], FrameError> {
    let [a, b, c, d] = array(body)?;
    Ok([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
}

/// Writes into the caller's bytes.
struct Pen<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Pen<'a> {
    fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        self.bytes(&[byte])
    }

    fn word(&mut self, word: u16) -> Option<()> {
        self.bytes(&word.to_be_bytes())
    }
}

#[cfg(test)]
mod tests;
