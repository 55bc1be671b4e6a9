//! The nodes that configurations on this machine are of: what commands that look after nodes need to know of each,
//! whatever its tier.
use super::{check_config::detect, node::read};
use crate::{cli::ConfigKind, failure::Failure};
use anyhow::{Context, Result, anyhow, bail};
use edge::config::EdgeConfig;
use global::config::{CatalogStore, GlobalConfig};
use node::config::{HttpsConfig, TlsFiles};
use regional::config::{FhirStore, RegionalConfig};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use types::Place;

/// A node of this machine.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands.
    pub here: Place,
    /// Where it keeps its files.
    pub data_dir: PathBuf,
    /// Its certificates.
    pub tls: TlsFiles,
    /// Where it serves HTTPS, and by which name it is reached there.
    pub https: HttpsConfig,
    /// Every address that it listens on, by the key of the configuration.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// Where it shows its metrics without a token, if it does.
    pub metrics: Option<SocketAddr>,
    /// Where it delivers, and who must answer there; the global node delivers nowhere.
    pub uplink: Option<(Vec<String>, Place)>,
    /// What holds its data beside its files.
    pub engine: Engine,
    /// Whether it is one of the two nodes of a region.
    pub is_of_two: bool,
    /// A facility's own key, without which its store cannot be read.
    pub key_file: Option<PathBuf>,
    /// The folder of the authority that is beside it, if one is.
    pub authority: Option<PathBuf>,
}

/// What holds a node's data beside its files.
#[derive(Clone, Debug)]
pub enum Engine {
    /// Nothing: all of it is in files.
    Files,
    /// A region's resources are in PostgreSQL.
    Postgres(FhirStore),
    /// The catalog is in ScyllaDB or Apache Cassandra: its known nodes.
    Cassandra(Vec<String>),
}

impl Node {
    /// The node of a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn of(file: &Path) -> Result<Self, Failure> {
        match detect(file) {
            ConfigKind::Edge => Ok(Self::of_edge(read(file)?)),
            ConfigKind::Regional => Ok(Self::of_region(read(file)?)),
            ConfigKind::Global => Ok(Self::of_global(read(file)?)),
            ConfigKind::Device => Err(anyhow!("{}: devices are no node", file.display()).into()),
        }
    }

    /// Its name to a person: that of the facility or the region, or `global`.
    pub fn name(&self) -> &str {
        match &self.here {
            Place::Edge { facility, .. } => facility.as_str(),
            Place::Regional { region, .. } => region.as_str(),
            Place::Global => "global",
        }
    }

    fn of_edge(config: EdgeConfig) -> Self {
        let above = config.above();
        Self {
            here: config.place(),
            listeners: vec![
                ("https.listen", config.https.listen),
                ("mqtt.listen", config.mqtt.listen),
            ],
            metrics: Some(config.https.listen),
            uplink: Some((config.uplink.url.all(), above)),
            data_dir: config.data_dir,
            tls: config.tls,
            https: config.https,
            engine: Engine::Files,
            is_of_two: false,
            key_file: Some(config.key_file),
            authority: None,
        }
    }

    fn of_region(config: RegionalConfig) -> Self {
        let own = config.metrics.as_ref().map(|own| own.listen);
        let mut listeners = vec![
            ("https.listen", config.https.listen),
            ("grpc_listen", config.grpc_listen),
        ];
        listeners.extend(own.map(|own| ("metrics.listen", own)));
        Self {
            here: config.place(),
            listeners,
            metrics: own,
            uplink: Some((vec![config.uplink_url], Place::Global)),
            data_dir: config.data_dir,
            tls: config.tls,
            https: config.https,
            engine: match config.store {
                FhirStore::Sqlite => Engine::Files,
                postgres @ FhirStore::Postgres { .. } => Engine::Postgres(postgres),
            },
            is_of_two: config.pair.is_some(),
            key_file: None,
            authority: config.enrolment.map(|it| it.authority),
        }
    }

    fn of_global(config: GlobalConfig) -> Self {
        Self {
            here: Place::Global,
            listeners: vec![
                ("https.listen", config.https.listen),
                ("grpc_listen", config.grpc_listen),
            ],
            metrics: Some(config.https.listen),
            uplink: None,
            data_dir: config.data_dir,
            tls: config.tls,
            https: config.https,
            engine: match config.store {
                CatalogStore::Sqlite => Engine::Files,
                CatalogStore::Scylla { nodes, .. } => Engine::Cassandra(nodes),
            },
            is_of_two: false,
            key_file: None,
            authority: config.authority,
        }
    }
}

/// As [`Node::of`], for steps that end with one error.
///
/// # Errors
/// Everything that is wrong with the configuration.
pub fn checked(file: &Path) -> Result<Node> {
    Node::of(file).map_err(one_error)
}

/// A failure as one error.
pub fn one_error(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Config(error) => error.into(),
        Failure::Failed(error) => error,
        Failure::Said(code) => anyhow!("exit code {code}"),
    }
}

/// The configurations of a mesh in a folder, as `medmesh up` and Terraform lay it out, the global one first.
///
/// # Errors
/// There is none.
pub fn of_mesh(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![dir.join("global").join("global.toml")];
    for tier in ["regional", "edge"] {
        let folder = dir.join(tier);
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut of_tier = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| folder.display().to_string())?;
            of_tier.push(entry.path().join(format!("{tier}.toml")));
        }
        of_tier.sort();
        files.extend(of_tier);
    }
    files.retain(|file| file.is_file());
    if files.is_empty() {
        bail!("{}: holds no configuration of a node", dir.display());
    }
    Ok(files)
}
