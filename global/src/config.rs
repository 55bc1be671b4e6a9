//! The configuration of the global node, as TOML.
use node::config::{ClientConfig, HttpsConfig, LogConfig, TlsFiles};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};
use types::MeshClock;

/// The global node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalConfig {
    /// Where the node keeps its files.
    pub data_dir: PathBuf,
    /// Certificates.
    pub tls: TlsFiles,
    /// API, health and metrics.
    pub https: HttpsConfig,
    /// Where regional nodes deliver (gRPC over mTLS).
    pub grpc_listen: SocketAddr,
    /// Catalog.
    #[serde(default)]
    pub store: CatalogStore,
    /// Log output.
    #[serde(default)]
    pub log: LogConfig,
    /// The mesh clock; real time when left out.
    #[serde(default)]
    pub clock: Option<MeshClock>,
    /// Clients of the API.
    #[serde(default)]
    pub clients: Vec<ClientConfig>,
    /// Directory of Cedar policies that tighten the rules; built-in ones when left out.
    #[serde(default)]
    pub policies: Option<PathBuf>,
    /// True only in a mesh on one machine; what is dangerous elsewhere is refused without it.
    #[serde(default)]
    pub local_mesh: bool,
}

/// The engine of the catalog.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, tag = "engine", rename_all = "lowercase")]
pub enum CatalogStore {
    /// A file below the data directory.
    #[default]
    Sqlite,
    /// ScyllaDB or Apache Cassandra (cargo feature `scylla`).
    Scylla {
        /// `host:port` of known nodes.
        nodes: Vec<String>,
        /// Keyspace; created when absent.
        keyspace: String,
    },
}
