//! What the link asks of a node: an outbox to take parcels from, an inbox to put them into.
use crate::identity::Identity;
use crate::{
    envelope::Intact,
    wire::{Hello, Parcel, Receipt, Welcome},
};
use async_trait::async_trait;
use storage::{StoreError, StoreErrorKind};
use types::{Place, Priority};

/// How much one lease takes: whichever bound is met first.
#[derive(Clone, Copy, Debug)]
pub struct LeaseLimits {
    /// Parcels in one lease.
    pub parcels: usize,
    /// Sum of the bodies, in bytes.
    pub bytes: usize,
}

/// How many parcels wait, by [`Priority::rank`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depths(pub [u64; 3]);

impl Depths {
    /// Parcels that wait in a priority.
    #[must_use]
    pub fn of(&self, priority: Priority) -> u64 {
        *priority.of(&self.0)
    }
}

/// Why a port did not do its step. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{op}: {kind:?}")]
pub struct PortError {
    /// What the caller can do about it.
    pub kind: PortErrorKind,
    /// The step.
    pub op: &'static str,
    /// What the engine said. Never shown to a peer.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the caller can do about a [`PortError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortErrorKind {
    /// Try again later: busy, full, out of reach.
    Unavailable,
    /// A person must look: what is stored does not make sense.
    Corrupt,
    /// A fault of ours.
    Internal,
}

impl PortError {
    /// An error that no engine caused.
    #[must_use]
    pub const fn new(kind: PortErrorKind, op: &'static str) -> Self {
        Self {
            kind,
            op,
            source: None,
        }
    }

    /// A step of a port failed in the store behind it.
    pub fn of(op: &'static str) -> impl FnOnce(StoreError) -> Self {
        move |error| Self {
            kind: match error.kind {
                StoreErrorKind::Full | StoreErrorKind::Unavailable => PortErrorKind::Unavailable,
                StoreErrorKind::Corrupt | StoreErrorKind::Refused => PortErrorKind::Corrupt,
                StoreErrorKind::Internal => PortErrorKind::Internal,
            },
            op,
            source: Some(Box::new(error)),
        }
    }
}

impl From<StoreError> for PortError {
    fn from(error: StoreError) -> Self {
        Self::of(error.op)(error)
    }
}

/// Parcels that wait for a receipt, for each receiver in an order of its own. Each method is one atomic step; a crash between two loses nothing.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Where this outbox stands, for the receiver that it is to meet before parcels flow ([`crate::meet`]).
    async fn hello(&self, to: &Place) -> Result<Hello, PortError>;

    /// Compares with what the receiver answered. None when both agree: parcels may flow. Otherwise what to say next:
    /// where they do not agree a new stream was begun, with `fresh` (random) for its id, and what the receiver lacks
    /// will be shipped again. The heads in the answer were verified by the link.
    async fn resync(
        &self,
        to: &Place,
        welcome: &Welcome,
        fresh: [u8; 16],
    ) -> Result<Option<Hello>, PortError>;

    /// The next parcels for a receiver of a priority in the order of their sequence, from the first one without a receipt that
    /// this process does not hold in lease. A lease ends with the process, with a receipt or with [`Outbox::release`].
    async fn lease(
        &self,
        to: &Place,
        priority: Priority,
        limits: LeaseLimits,
    ) -> Result<Vec<Parcel>, PortError>;

    /// Applies verified receipts of a receiver: parcels that the receiver stored in whole are deleted; those that it refused,
    /// quarantined or stored in part go to the own quarantine; deferred ones stay and are leased again. The same
    /// receipt twice is one step.
    async fn settle(&self, to: &Place, receipts: Vec<Receipt>) -> Result<(), PortError>;

    /// Gives back every lease of this process of parcels for a receiver: its link broke.
    async fn release(&self, to: &Place) -> Result<(), PortError>;

    /// How many parcels wait for a receiver.
    async fn depths(&self, to: &Place) -> Result<Depths, PortError>;

    /// Resolves when a parcel for a receiver may have been added since the last call for it.
    async fn added(&self, to: &Place);
}

/// A parcel that came in, and what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// The parcel.
    pub parcel: Parcel,
    /// Why it is refused, from a closed set.
    pub fault: Option<&'static str>,
}

/// Keeps a record of peers that were turned away.
#[async_trait]
pub trait PeerAudit: Send + Sync + 'static {
    /// Writes to the audit log that a peer with a good certificate has no business here (a server) or is not the
    /// peer that was dialled (a client).
    async fn turned_away(&self, peer: &Identity, reason: &'static str) -> Result<(), PortError>;
}

/// Judges what comes in, before the inbox sees it.
#[async_trait]
pub trait Gate: PeerAudit {
    /// Gives a fault to each arrival of one authenticated peer that the residency rules keep out. The link has given
    /// faults to those that are not what they claim. Before it returns, every decision is durable in the audit
    /// log, and every fault in the ledger: a refusal is final, and what comes after it in the order is not held up.
    async fn admit(&self, from: &Place, arrivals: &mut [Arrival]) -> Result<(), PortError>;
}

/// What an inbox says of a parcel; the link signs it into a [`Receipt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Durable; `stored` of its records. Of the others the receiver keeps digests and reasons, the sender the content.
    Accepted {
        /// Records stored now or before.
        stored: u32,
    },
    /// None of its records could be understood. The receiver keeps a digest and the reason, the sender the content.
    Quarantined {
        /// Why, from a closed set.
        reason: &'static str,
    },
    /// Against the rules.
    Refused {
        /// Why, from a closed set.
        reason: &'static str,
    },
    /// Not now.
    Deferred {
        /// Why, from a closed set.
        reason: &'static str,
    },
}

/// Takes in what a peer delivers. Redelivery, and a crash at any point, must not apply a parcel twice.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// Makes parcels of one authenticated peer durable, in this order, and says what became of each (same length,
    /// same order). By then the link has checked identity, digest and residency, and written the audit row.
    async fn accept(&self, from: &Place, parcels: Vec<Intact>) -> Result<Vec<Verdict>, PortError>;

    /// Answers where this inbox stands with a sender, and takes a new stream of it if that is what it asks for
    /// ([`crate::meet`]). The sender's head was verified by the link.
    async fn meet(&self, from: &Place, hello: &Hello) -> Result<Welcome, PortError>;

    /// The signed head of this node's audit log, for receipts; empty before the first.
    async fn head(&self) -> Result<String, PortError>;
}
