//! What the poller sees of a device, as metrics, the log and freshness are told.
use types::Code;

/// What the poller sees of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It answered, its registers make sense, and it is not frozen.
    Seen,
    /// It shows these fault bits; told when they change.
    Health(u16),
    /// It has stopped answering; told once, until it is seen again.
    Dead,
    /// It refused a request with this exception code.
    Exception(u8),
    /// It refuses the registers of this code with this exception code, and others not; told once in a run.
    Refused(Code, u8),
    /// A request was not answered in time.
    TimedOut,
    /// There was no connection, or it broke.
    Broken,
    /// It answered with what is not an answer.
    Malformed,
    /// Its registers were of two instants; nothing of them was used.
    Torn,
    /// It answers, but its heart and its clock stand still; told once, until they move again.
    Frozen,
}

impl Notice {
    /// The notice's name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Health(_) => "health",
            Self::Dead => "dead",
            Self::Exception(_) => "exception",
            Self::Refused(..) => "refused",
            Self::TimedOut => "timed-out",
            Self::Broken => "broken",
            Self::Malformed => "malformed",
            Self::Torn => "torn",
            Self::Frozen => "frozen",
        }
    }
}
