//! What a line is asked, what it has to know for that, and what comes of it.
use crate::{
    plan::{Read, Space},
    wire::Ask,
};

/// Time on a line, in µs since it was made.
pub(crate) type Micros = u64;

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As many registers, or bits as 0 and 1, as were asked for.
    Registers(Vec<u16>),
    /// The registers were written.
    Written,
    /// An exception response with this code.
    Refused(u8),
    /// No answer in time.
    TimedOut,
    /// No connection, or a connection that broke.
    Broken,
    /// Something came in time that is not the answer.
    Malformed,
}

/// How the line carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carrier {
    /// Whether frames are RTU's; otherwise they are TCP's.
    pub(crate) rtu: bool,
    /// The time of one character; 0 on TCP.
    pub(crate) character: Micros,
    /// The silence between frames; 0 on TCP.
    pub(crate) silence: Micros,
    /// Whether the adapter hears what it sends.
    pub(crate) echo: bool,
}

/// Reads that no other request of a profile looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Barrier {
    pub(crate) space: Space,
    pub(crate) address: u16,
    /// How many registers: one of these in turn, so that an answer says which barrier it is of. Not empty.
    pub(crate) counts: Vec<u16>,
    /// Whether no other request has its function: then an exception can only be its answer.
    pub(crate) alone: bool,
}

impl Barrier {
    /// Barriers that differ, at most: so many are rarely owed at once.
    pub(crate) const KINDS: usize = 8;

    /// The barrier of this number.
    pub(super) fn read(&self, number: usize) -> Read {
        let counts = self.counts.iter().copied().cycle();
        Read {
            space: self.space,
            address: self.address,
            count: counts
                .take(number % self.counts.len().max(1) + 1)
                .last()
                .unwrap_or(1),
        }
    }
}

/// What a device needs in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long an answer may take, the time on the wire not counted.
    pub(crate) timeout: Micros,
    /// No request for so long after a connection was made.
    pub(crate) after_connect: Micros,
    /// Between the end of an answer and the next request.
    pub(crate) between_requests: Micros,
    /// No answer comes after this time.
    pub(crate) longest_answer: Micros,
    /// A copy of an answer comes within this time.
    pub(crate) copies_within: Micros,
    /// Time-outs in a row after which the connection is given up.
    pub(crate) reconnect_after: u32,
}

/// A request, and what is known of whom it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) unit: u8,
    pub(crate) ask: &'a Ask,
    pub(crate) barrier: Option<&'a Barrier>,
    pub(crate) pace: &'a Pace,
}
