//! Why a regional node does not run.
use federation::{
    db::DbError, link::LinkError, models::ModelsError, pki::PkiError, policy::PolicyError,
    port::PortError, tls::TlsError,
};
use fhir::store::StoreError;
use node::{task::TaskError, token::ClientError};
use std::{net::SocketAddr, path::PathBuf};

/// Why the regional node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RegionalError {
    /// The data directory cannot be made, or made this user's alone.
    #[error("the data directory: {0}")]
    DataDir(#[source] std::io::Error),
    /// An address cannot be listened on: it is taken, or not this machine's.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file with the connection string, or that of the engine's authority, cannot be read.
    #[error("{}: {source}", path.display())]
    UrlFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The signing key cannot be used.
    #[error(transparent)]
    Key(#[from] PkiError),
    /// The policies cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The ledger's file cannot be used.
    #[error("the ledger: {0}")]
    Ledger(#[from] DbError),
    /// The registry's file cannot be used.
    #[error("the registry: {0}")]
    Registry(#[from] PortError),
    /// The table of models cannot be used.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// The signed de-identification profile cannot be used.
    #[error("the de-identification profile: {0}")]
    Profile(String),
    /// What notifications of subscriptions go to cannot be used.
    #[error("subscriptions: {0}")]
    Subscriptions(String),
    /// Traces cannot be sent.
    #[error("{0}")]
    Telemetry(String),
    /// The FHIR store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another node of the region runs, or its files are elsewhere.
    #[error("{0}")]
    NotItsTurn(String),
    /// A copy of the region's files cannot be written.
    #[error("the copy of the region's files: {0}")]
    Copy(#[source] std::io::Error),
    /// The link to the global node cannot be prepared.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A client cannot be registered.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A task ended.
    #[error(transparent)]
    Task(#[from] TaskError),
}
