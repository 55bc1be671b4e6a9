//! The only door between places: identity, residency, envelopes, outbox, link and audit log.
//!
//! Nothing crosses from one place to another but a [`Cleared`](envelope::Cleared) envelope, and only
//! [`clear`](envelope::clear) makes one. This crate holds no reading of its own and knows no storage but its
//! outbox and its audit log, which live in the caller's SQLite database so that they commit with the caller's rows.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

#[cfg(all(medmesh_unguarded, not(debug_assertions)))]
compile_error!(
    "MEDMESH_UNGUARDED takes the residency checks out: it is for one test, never for a release"
);

pub mod audit;
pub mod blobs;
#[cfg(any(test, feature = "contract"))]
#[allow(clippy::indexing_slicing, reason = "it is a test")]
pub mod contract;
pub mod db;
pub mod envelope;
mod floor;
pub mod gap;
pub mod gate;
pub mod identity;
pub mod inbox;
pub mod ledger;
pub mod link;
pub mod meet;
pub mod merkle;
pub mod models;
pub mod note;
pub mod outbox;
pub mod pki;
pub mod policy;
pub mod port;
pub mod profile;
pub mod quarantine;
pub mod reason;
pub mod receipt;
pub mod restored;
pub mod signed_file;
pub mod standing;
pub mod started;
pub mod tls;
pub mod tpm;
pub mod watch;
pub mod wire;

#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod testbed;
