//! The configuration of a regional node, as TOML.
use fhir::postgres::{UrlProblem, check_url};
use node::config::{
    ClientConfig, HttpsConfig, LogConfig, Problem, TlsFiles, Validate, different_ports, directory,
    file, secret_file, url, within,
};
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use types::{Jurisdiction, MeshClock, RegionId};

/// A regional node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RegionalConfig {
    /// Whose law applies.
    pub jurisdiction: Jurisdiction,
    /// The region.
    pub region: RegionId,
    /// Where the node keeps its files.
    pub data_dir: PathBuf,
    /// Certificates.
    pub tls: TlsFiles,
    /// FHIR, API, health and metrics.
    pub https: HttpsConfig,
    /// Where edges deliver (gRPC over mTLS).
    pub grpc_listen: SocketAddr,
    /// `https://host:port` of the global node's gRPC service.
    pub uplink_url: String,
    /// FHIR store.
    #[serde(default)]
    pub store: FhirStore,
    /// Log output.
    #[serde(default)]
    pub log: LogConfig,
    /// The mesh clock; real time when left out.
    #[serde(default)]
    pub clock: Option<MeshClock>,
    /// Clients of the FHIR API.
    #[serde(default)]
    pub clients: Vec<ClientConfig>,
    /// Directory of Cedar policies that tighten the rules; built-in ones when left out.
    #[serde(default)]
    pub policies: Option<PathBuf>,
    /// True only in a mesh on one machine; what is dangerous elsewhere is refused without it.
    #[serde(default)]
    pub local_mesh: bool,
}

/// The engine of the FHIR store.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, tag = "engine", rename_all = "lowercase")]
pub enum FhirStore {
    /// A file below the data directory.
    #[default]
    Sqlite,
    /// PostgreSQL.
    Postgres {
        /// File with the connection string. A server on another machine is reached by TLS alone (`sslmode=require`).
        url_file: PathBuf,
        /// PEM of the authorities that the server's certificate may be by; needed for TLS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<PathBuf>,
    },
}

impl Validate for RegionalConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = within("tls", &self.tls);
        problems.extend(within("log", &self.log));
        problems.extend(within("https", &self.https));
        for (index, client) in self.clients.iter().enumerate() {
            problems.extend(within(&format!("clients[{index}]"), client));
        }
        problems.extend(url("uplink_url", &self.uplink_url));
        problems.extend(different_ports(&[
            ("https.listen", self.https.listen),
            ("grpc_listen", self.grpc_listen),
        ]));
        problems.extend(
            self.policies
                .iter()
                .filter_map(|path| directory("policies", path)),
        );
        if let FhirStore::Postgres { url_file, ca } = &self.store {
            problems.extend(postgres(url_file, ca.as_deref()));
        }
        problems
    }
}

/// What is wrong with the files of a PostgreSQL store, and with the connection string in them.
fn postgres(url_file: &Path, ca: Option<&Path>) -> Vec<Problem> {
    let mut problems: Vec<_> = secret_file("store.url_file", url_file)
        .into_iter()
        .collect();
    problems.extend(ca.and_then(|ca| file("store.ca", ca)));
    if !problems.is_empty() {
        return problems;
    }
    let authority = ca.map(std::fs::read).transpose();
    match (std::fs::read_to_string(url_file), authority) {
        (Ok(url), Ok(authority)) => {
            let checked = check_url(&url, authority.as_deref());
            let problem = |problem: UrlProblem| match problem {
                UrlProblem::Authority => Problem::new("store.ca", problem.to_string()),
                _ => Problem::new("store.url_file", problem.to_string()),
            };
            problems.extend(checked.err().map(problem));
        }
        (Err(_), _) => problems.push(Problem::new("store.url_file", "cannot be read as text")),
        (_, Err(_)) => problems.push(Problem::new("store.ca", "cannot be read")),
    }
    problems
}
