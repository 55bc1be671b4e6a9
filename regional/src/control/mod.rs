//! Commands to the devices of the region, and their twins.
//!
//! All of it lies in the ledger's file, beside the outbox and the audit log: that a command was asked for, its sequence
//! number, its parcel and its audit row are one commit, whichever engine holds the FHIR resources. Steps are in
//! [`steps`] and [`wants`], rows in [`rows`], the API in [`api`]; what facilities report comes in by [`reports`].
//!
//! Time is real here, not the mesh's: a command is given by a person.
pub mod api;
mod body;
mod changes;
mod reports;
mod rows;
mod settled;
mod shown;
mod sse;
mod steps;
mod tables;
mod tick;
mod twins;
mod wants;

pub(crate) use rows::MAX_PAGE;
pub use tick::keep;

use crate::{config::RegionalConfig, registry::Registry};
use changes::Changes;
use commands::Table;
use ed25519_dalek::SigningKey;
use federation::ledger::Handlers;
use federation::{db::DbError, ledger::Ledger, port::PortError};
use messages::{CommandReports, TwinReports};
use node::{
    config::ClientConfig,
    token::{TokenServer, public_point},
};
use reports::{TakesReports, TakesTwins};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};
use tokio::sync::watch;
use types::{DeviceKind, FacilityId, Place};

/// Commands of one device that have not ended at most; one more is refused (429).
pub const MAX_OPEN: u32 = 64;
/// So many more may be open where the next is of safety.
pub const SAFETY_OPEN: u32 = 16;
/// Commands of the whole region that are kept at most, ended ones among them; each is some 2 KiB. What is desired may use half
/// of it, where its own oldest ended ones make room, what is not of safety nine tenths; for what is of safety the oldest ended
/// ones make room.
pub const MAX_KEPT: u32 = 200_000;
/// How long a command is kept after its end, in milliseconds: 30 days, and with it its idempotency key.
pub const KEPT_MS: i64 = 30 * types::Timestamp::DAY_MS;
/// How long it is kept in any case but for one of safety, in milliseconds: a day. Where there is no room for another one, those
/// that ended before that make it.
pub const KEPT_AT_LEAST_MS: i64 = types::Timestamp::DAY_MS;
/// How long after the end of its time a facility that has a command may say what became of it, in milliseconds. Then it
/// is `expired`, until the facility says otherwise.
pub const GRACE_MS: i64 = 60_000;
/// The time to live of a command that sets a property as it is desired, in milliseconds: 7 days. It is given again then.
pub const WANT_LIFE_MS: i64 = 7 * types::Timestamp::DAY_MS;
/// What failed is tried again after this time, in milliseconds, and after twice as long with each failure.
pub const RETRY_MS: i64 = 60_000;
/// What failed is tried again after this time at the latest, in milliseconds: an hour.
pub const MAX_RETRY_MS: i64 = 3_600_000;
/// What a device has lost is set again after this time at the earliest, in milliseconds.
pub const LOST_MS: i64 = 5_000;
/// Commands that have ended are kept of each property that is desired, at most: each try is one.
pub const KEPT_OF_WISH: u32 = 16;
/// A device is said to be connected while its facility has said so within this time, in milliseconds: three times as long
/// as facilities leave between two reports.
pub const FRESH_MS: i64 = 90_000;

/// What the region needs for commands and twins.
#[derive(Clone)]
pub struct Control {
    ledger: Ledger,
    /// Which devices their facilities have no more.
    registry: Registry,
    own: Arc<Own>,
    changes: Changes,
    wanted: watch::Sender<u64>,
}

/// What does not change while the node runs.
pub(crate) struct Own {
    key: SigningKey,
    /// Where the node's certificate is, which holds the key: it may be renewed.
    certificate: PathBuf,
    tables: BTreeMap<DeviceKind, Table>,
    /// The public keys of each client, as points, so that nobody approves by another name of the same key, or by another file
    /// that holds it.
    keys: BTreeMap<String, BTreeSet<Vec<u8>>>,
    draw: fn() -> [u8; 16],
    here: Place,
}

/// What a [`Control`] is made of.
pub struct Parts<'a> {
    /// Where everything lies.
    pub ledger: Ledger,
    /// The devices of the region.
    pub registry: Registry,
    /// Signs commands.
    pub key: SigningKey,
    /// PEM of the node's certificate.
    pub certificate: PathBuf,
    /// The clients of the node.
    pub clients: &'a [ClientConfig],
    /// Draws 16 random bytes.
    pub draw: fn() -> [u8; 16],
}

impl Control {
    /// Makes the tables, or brings them up to date.
    ///
    /// # Errors
    /// [`PortError`]; corrupt when a newer program wrote them.
    pub async fn open(parts: Parts<'_>) -> Result<Self, PortError> {
        parts.ledger.tables("commands", rows::SCHEMA).await?;
        let tables = DeviceKind::ALL.map(|kind| (kind, Table::built_in(kind)));
        let mut keys: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for client in parts.clients {
            // A key that cannot be read has ended the start before this.
            let key = public_point(client).unwrap_or_default();
            let own = keys.entry(client.client_id.clone()).or_default();
            own.insert(key);
        }
        let own = Own {
            key: parts.key,
            certificate: parts.certificate,
            tables: BTreeMap::from(tables),
            keys,
            draw: parts.draw,
            here: parts.ledger.place().clone(),
        };
        Ok(Self {
            ledger: parts.ledger,
            registry: parts.registry,
            own: Arc::new(own),
            changes: Changes::default(),
            wanted: watch::Sender::new(0),
        })
    }

    /// Something is desired anew: it is brought about at once.
    fn desired(&self) {
        self.wanted
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn wanted(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }
}

/// Takes in what facilities report of commands and devices.
pub fn takes(handlers: Handlers, control: &Control, registry: &Registry) -> Handlers {
    handlers
        .on::<CommandReports>(TakesReports(control.clone()))
        .on::<TwinReports>(TakesTwins(control.clone(), registry.clone()))
}

/// Commands are signed by the key of the node's certificate, which goes with them.
///
/// # Errors
/// As [`Control::open`].
pub async fn open(
    config: &RegionalConfig,
    ledger: &Ledger,
    registry: &Registry,
    key: &SigningKey,
) -> Result<Control, PortError> {
    let parts = Parts {
        ledger: ledger.clone(),
        registry: registry.clone(),
        key: key.clone(),
        certificate: config.tls.cert.clone(),
        clients: &config.clients,
        draw: rand::random,
    };
    Control::open(parts).await
}

/// `/api/v1`: devices, their twins and their commands.
pub fn devices_api(tokens: &TokenServer, registry: &Registry, control: &Control) -> axum::Router {
    let commands = api::router(control.clone(), registry.clone(), tokens.verifier());
    let devices = crate::api::router(registry.clone(), tokens.verifier());
    node::problem::worded(devices.merge(commands))
}

impl Own {
    /// The node's certificate (DER), as it is now.
    fn certificate(&self) -> Result<Vec<u8>, DbError> {
        let read = CertificateDer::from_pem_file(&self.certificate);
        let read = read.map_err(|_| DbError::Corrupt("the certificate of the node"))?;
        Ok(read.as_ref().to_vec())
    }

    fn table(&self, kind: DeviceKind) -> Option<&Table> {
        self.tables.get(&kind)
    }

    /// Whether two names are of one person as far as keys tell: the same client, or clients that share a key.
    fn is_same_person(&self, one: &str, other: &str) -> bool {
        let shared = self.keys.get(one).zip(self.keys.get(other));
        one == other || shared.is_some_and(|(one, other)| !one.is_disjoint(other))
    }

    /// Where a facility of this region is.
    fn facility(&self, facility: &FacilityId) -> Option<Place> {
        Some(Place::Edge {
            jurisdiction: self.here.jurisdiction()?,
            region: self.here.region()?.clone(),
            facility: facility.clone(),
        })
    }
}

#[cfg(all(test, not(medmesh_unguarded)))]
mod tests;
