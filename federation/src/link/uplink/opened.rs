//! Calls that are open, whichever end dialled.
use crate::wire::{Parcel, Receipt};
use ed25519_dalek::VerifyingKey;
use tokio::sync::mpsc;
use tonic::Streaming;

/// An open call: parcels go in, receipts come out, signed with a key.
pub(in crate::link) struct Opened {
    pub(in crate::link) parcels: mpsc::Sender<Parcel>,
    pub(in crate::link) receipts: Streaming<Receipt>,
    pub(in crate::link) key: VerifyingKey,
}

/// A call by which a place collects.
pub(in crate::link) struct Collecting {
    pub(in crate::link) parcels: Streaming<Parcel>,
    pub(in crate::link) receipts: mpsc::Sender<Receipt>,
}
