//! The link between a place and the next tier: parcels go up and signed receipts come down, and the other way round
//! ([`collect`]), over gRPC and mutual TLS 1.3. The lower tier dials.
//!
//! [`Uplink`] is the sender's side, [`serve`] the receiver's. Neither keeps anything: what waits is in the outbox,
//! what arrived is in the inbox, so either side may die at any moment. A parcel that got no receipt is sent again, and
//! the inbox answers it as before. Alarms go before live readings and those before the backlog; how much of each may
//! be under way at once is bounded so that none waits long behind the others.
//!
//! Before parcels flow on a connection both ends say where they stand, so that each sees whether the other, or itself, was
//! put back to an older state ([`crate::meet`]). Parcels and receipts carry the signed heads of both audit logs.
//!
//! Both sides check that the other has business with them ([`route`]); a certificate says who it is, never a message.
pub mod authority;
mod backoff;
mod batch;
mod bulk;
mod collect;
mod door;
pub mod flight;
mod io;
mod lists;
mod newest;
mod pace;
pub mod renew;
mod server;
mod told;
mod uplink;
mod welcome;

pub use door::Door;
pub use io::Tap;
pub use server::serve;
pub use uplink::{LinkState, Uplink, UplinkParts, look};

use crate::{
    audit::origin, identity::Identity, note::TreeHead, port::PortError, reason, receipt::Forged,
    tls::TlsError,
};
use ed25519_dalek::VerifyingKey;
use std::time::Duration;
use types::Place;

/// The longest body of a parcel, in bytes.
pub const MAX_PARCEL_BYTES: usize = 4 << 20;
/// The longest message on the link, in bytes: a body and the few hundred bytes around it.
pub const MAX_MESSAGE_BYTES: usize = MAX_PARCEL_BYTES + (64 << 10);
/// A peer that has not finished its TLS handshake by then is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed this often.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// A probe that is not answered by then ends the connection.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 flow control: bytes that a peer may send before they are read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Receipts that wait for the sender to read them; then nothing more is taken from it.
const MAX_RECEIPTS: usize = 1_024;
/// A sender that takes no receipt for so long, while as many wait as may, has its stream ended.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a link could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address is not `https://host:port`.
    #[error("'{0}' is not an address of the form https://host:port")]
    Url(String),
    /// The residency rules know no link between these places.
    #[error("{from} never delivers to {to}: {reason}")]
    NoRoute {
        /// Who would send.
        from: String,
        /// Who would receive.
        to: String,
        /// Why, from a closed set.
        reason: &'static str,
    },
    /// The certificate is that of another node.
    #[error("this node is {here}, its certificate names {named}")]
    NotThisNode {
        /// Where the node stands.
        here: String,
        /// Whom the certificate names.
        named: String,
    },
    /// The signing key is not the one in the node's certificate, so nobody could check its receipts.
    #[error("the node's signing key is not the one in its certificate")]
    NodeKey,
    /// The other end could not be reached or did not agree on TLS.
    #[error("connecting: {0}")]
    Connect(#[source] std::io::Error),
    /// The other end took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Another than the expected peer answered.
    #[error("the peer is {found}, refused: {reason}")]
    WrongPeer {
        /// Who answered.
        found: Box<Identity>,
        /// Why, from a closed set.
        reason: &'static str,
    },
    /// The other end ended the stream, or said why it does not want it.
    #[error("the peer ended the link: {code}")]
    Ended {
        /// Its gRPC code.
        code: tonic::Code,
    },
    /// The transport failed.
    #[error("transport: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// A receipt that the peer did not sign.
    #[error(transparent)]
    Forged(#[from] Forged),
    /// A signed receipt that says something else than what was sent.
    #[error("a receipt does not fit its parcel: {0}")]
    Unfit(&'static str),
    /// Both ends did not come to agree on what was sent.
    #[error("the two ends do not agree on what was sent")]
    NotMet,
    /// The receiver knows another stream than the parcels are of: the two meet again.
    #[error("the receiver knows another stream of parcels")]
    OtherStream,
    /// The own outbox failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The own TLS files are not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The clear text of a link may be written out only in a mesh on one machine.
    #[error("a link tap is refused outside a local mesh")]
    TapRefused,
    /// The listener failed.
    #[error("listening: {0}")]
    Listen(#[source] std::io::Error),
}

/// Why the other end ended a call. The peer's text is not kept: it is theirs.
fn ended(status: tonic::Status) -> LinkError {
    LinkError::Ended {
        code: status.code(),
    }
}

/// Whether a place dials another, to deliver there and to collect: a facility its own region, a region the global node,
/// nothing else.
///
/// # Errors
/// Why not, in a word from a closed set.
pub fn route(from: &Place, to: &Place) -> Result<(), &'static str> {
    match (from, to) {
        (Place::Edge { .. }, Place::Regional { .. }) => {
            if from.jurisdiction() != to.jurisdiction() {
                Err("other-jurisdiction")
            } else if from.region() != to.region() {
                Err("other-region")
            } else {
                Ok(())
            }
        }
        (Place::Regional { .. }, Place::Global) => Ok(()),
        (Place::Edge { .. } | Place::Regional { .. } | Place::Global, _) => Err("no-link"),
    }
}

/// A head of a peer's audit log is kept when the peer's key signed it for the peer's log; any other is dropped.
fn believe(head: &mut String, of: &Place, key: &VerifyingKey) {
    if head.is_empty() {
        return;
    }
    if TreeHead::open(head, &origin(of), key).is_err() {
        metrics::counter!("medmesh_link_heads_ignored_total").increment(1);
        head.clear();
    }
}

/// The place of a peer with which `here` expected to speak as sender or receiver.
fn peer_place(identity: &Identity) -> Result<&Place, &'static str> {
    identity.place().ok_or(reason::WRONG_PEER)
}

#[cfg(test)]
mod tests;
