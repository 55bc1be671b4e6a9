//! What the side of a link needs that is dialled, and that side of a collector which takes in.
use super::{io::Tap, renew::Renews};
use crate::{
    blobs::Bulk,
    port::{Gate, Inbox, Outbox},
    tls::ReloadingTls,
};
use ed25519_dalek::SigningKey;
use std::sync::Arc;
use types::Place;

/// What a receiver needs.
pub struct Door {
    /// Where this node stands.
    pub here: Place,
    /// With what it signs receipts: the key in its certificate.
    pub key: SigningKey,
    /// The residency rules, the audit log and the ledger.
    pub gate: Arc<dyn Gate>,
    /// Where parcels go.
    pub inbox: Arc<dyn Inbox>,
    /// Certificates.
    pub tls: Arc<ReloadingTls>,
    /// From where parcels go down to whoever collects them here; none when nothing does.
    pub outbox: Option<Arc<dyn Outbox>>,
    /// What is larger than a parcel; none when this node carries no blobs.
    pub bulk: Option<Arc<dyn Bulk>>,
    /// Gives nodes their next certificates; none where no authority is.
    pub authority: Option<Arc<dyn Renews>>,
    /// Writes the clear text out, in tests.
    pub tap: Option<Tap>,
}
