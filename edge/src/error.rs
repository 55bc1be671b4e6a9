//! Why an edge node does not start, or stopped.
use broker::BrokerError;
use federation::{
    link::LinkError, pki::PkiError, policy::PolicyError, profile::ProfileError, tls::TlsError,
};
use node::{config::ConfigError, task::TaskError};
use std::net::SocketAddr;
use store::StoreError;

/// Why an edge node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A dangerous setting outside the local mesh, or one that cannot be read.
    #[error("{0}")]
    Dangerous(&'static str),
    /// The store.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The file of the facility's own FHIR.
    #[error("fhir: {0}")]
    Fhir(#[source] StoreError),
    /// The certificates.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// The signing key.
    #[error("signing key: {0}")]
    Key(#[from] PkiError),
    /// A public key that signed leases or profiles are checked with.
    #[error("{0}: is not the PEM of an Ed25519 public key, or cannot be read")]
    PublicKey(std::path::PathBuf),
    /// The residency policies.
    #[error("policies: {0}")]
    Policies(#[from] PolicyError),
    /// The signed de-identification profile.
    #[error("de-identification profile: {0}")]
    Deid(#[from] ProfileError),
    /// A file that cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder of blobs.
    #[error("blobs: {0}")]
    Blobs(#[source] std::io::Error),
    /// The device profiles.
    #[error("profiles: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Profiles(Vec<ConfigError>),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The link.
    #[error("uplink: {0}")]
    Link(#[from] LinkError),
    /// The HTTPS address.
    #[error("https: listening on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// Traces cannot be sent.
    #[error("{0}")]
    Telemetry(String),
    /// A task ended.
    #[error(transparent)]
    Task(#[from] TaskError),
}
