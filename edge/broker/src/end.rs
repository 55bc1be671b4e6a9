//! Why a connection ends, and what its client is told.
use super::{encode::Reason, fault::Fault, frame::Unreadable, seats::Claim};

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// DISCONNECT.
    Left {
        with_will: bool,
        expiry: Option<u32>,
    },
    /// The socket is closed or broken.
    Gone,
    /// The client broke the protocol or a limit.
    Fault(Reason),
    /// The client did not read what it was sent.
    Stalled,
    /// Nothing was heard for one and a half times the keep alive.
    Silent,
    /// Another connection of the device came.
    TakenOver(Claim),
    /// The certificate was revoked or is past its end.
    Cut,
    /// The store took a publish not now: the client comes back and sends it again.
    Later,
    /// A message for the session was lost: the session ends with the connection.
    Lost,
    /// The broker stops.
    Stopping,
}

impl End {
    /// The name in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Left { .. } => "left",
            Self::Gone => "gone",
            Self::Fault(_) => "fault",
            Self::Stalled => "stalled",
            Self::Silent => "silent",
            Self::TakenOver(_) => "taken over",
            Self::Cut => "certificate",
            Self::Later => "store",
            Self::Lost => "lost",
            Self::Stopping => "stopping",
        }
    }

    /// What a v5 client is told; nothing when it left by itself.
    pub(super) const fn reason(self) -> Option<Reason> {
        match self {
            Self::Left { .. } | Self::Gone => None,
            Self::Fault(reason) => Some(reason),
            Self::Stalled | Self::Lost | Self::Later => Some(Reason::QUOTA),
            Self::Silent => Some(Reason::KEEP_ALIVE),
            Self::TakenOver(_) => Some(Reason::TAKEN_OVER),
            Self::Cut => Some(Reason::ADMINISTRATIVE),
            Self::Stopping => Some(Reason::SHUTTING_DOWN),
        }
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(match fault {
            Fault::Malformed => Reason::MALFORMED,
            Fault::TopicAlias => Reason::TOPIC_ALIAS,
            Fault::SubscriptionId => Reason::NO_SUBSCRIPTION_ID,
            Fault::Protocol => Reason::PROTOCOL_ERROR,
        })
    }
}

impl From<Unreadable> for End {
    fn from(unreadable: Unreadable) -> Self {
        Self::Fault(match unreadable {
            Unreadable::Malformed => Reason::MALFORMED,
            Unreadable::TooLarge => Reason::TOO_LARGE,
        })
    }
}
