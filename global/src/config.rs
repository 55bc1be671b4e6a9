//! The configuration of the global node, as TOML.
use federation::{
    models::DeviceModels,
    signed_file::SignedFile,
    tls::{mismatches, untrusted},
};
use node::config::{
    ClientConfig, HttpsConfig, LogConfig, Problem, TlsFiles, Validate, becomes_directory,
    client_problems, different_ports, directory, mesh_clock, within,
};
use node::trace::export::TelemetryConfig;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};
use types::{MeshClock, Place};

/// The global node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalConfig {
    /// Where the node keeps its files.
    pub data_dir: PathBuf,
    /// Certificates.
    pub tls: TlsFiles,
    /// Folder of the authority that signs the next certificates of this node and of the regions that it certified; the node's
    /// user must be able to write it. Where it is left out, the operator renews them.
    #[serde(default)]
    pub authority: Option<PathBuf>,
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
    /// The signed table of models and firmware versions that the catalog may name; none is named when left out.
    #[serde(default)]
    pub device_models: Option<SignedFile>,
    /// Where traces go; nothing is traced when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryConfig>,
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
        /// Copies of each row in a keyspace that this node creates.
        #[serde(default = "one_copy")]
        replication: u8,
    },
}

impl Validate for GlobalConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = within("tls", &self.tls);
        problems.extend(mismatches(&self.tls, &Place::Global));
        problems.extend(becomes_directory("data_dir", &self.data_dir));
        problems.extend(within("log", &self.log));
        problems.extend(mesh_clock(self.clock.as_ref(), self.local_mesh));
        problems.extend(within("https", &self.https));
        problems.extend(client_problems(&self.clients));
        problems.extend(different_ports(&[
            ("https.listen", self.https.listen),
            ("grpc_listen", self.grpc_listen),
        ]));
        problems.extend(
            self.policies
                .iter()
                .filter_map(|path| directory("policies", path)),
        );
        problems.extend(
            self.authority
                .iter()
                .filter_map(|path| directory("authority", path)),
        );
        problems.extend(
            self.authority
                .iter()
                .filter_map(|path| untrusted("authority", path, &self.tls)),
        );
        let telemetry = self.telemetry.iter();
        problems.extend(telemetry.flat_map(|it| it.problems(None)));
        problems.extend(self.store.problem());
        let models = DeviceModels::load(self.device_models.as_ref()).err();
        problems.extend(models.map(|error| Problem::new("device_models", error.to_string())));
        problems
    }
}

impl CatalogStore {
    fn problem(&self) -> Option<Problem> {
        match self {
            Self::Scylla { .. } if !cfg!(feature = "scylla") => Some(Problem::new(
                "store.engine",
                "this binary was built without scylla: cargo build --features scylla",
            )),
            Self::Scylla { nodes, .. } if nodes.is_empty() => {
                Some(Problem::new("store.nodes", "names no node"))
            }
            Self::Sqlite | Self::Scylla { .. } => None,
        }
    }
}

const fn one_copy() -> u8 {
    1
}
