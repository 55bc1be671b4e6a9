//! What a backup says of itself in its first entry.
use serde::{Deserialize, Serialize};
use std::path::Path;
use types::Timestamp;

/// The name of the first entry.
pub const NAME: &str = "manifest.json";
/// The node's configuration, as it was.
pub const CONFIG: &str = "config.toml";
/// The node's data directory.
pub const DATA: &str = "data";
/// Files and folders that the configuration names, by number.
pub const NAMED: &str = "named";
/// A region's PostgreSQL, as `pg_dump` wrote it.
pub const DUMP: &str = "postgres.dump";
/// The layout that this program writes and reads.
pub const FORMAT: u32 = 1;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The layout.
    pub format: u32,
    /// Where the node stands.
    pub place: String,
    /// The version of the program that took it.
    pub program: String,
    /// When it was taken (real time).
    pub time: Timestamp,
    /// The data directory, as the configuration names it.
    pub data_dir: String,
    /// Files and folders as the configuration names them; the n-th is in `named/N`.
    pub named: Vec<String>,
    /// What holds the node's data beside its files, and whether it is in the backup.
    pub engine: Engine,
}

/// What holds a node's data beside its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Nothing: all of it is here.
    Files,
    /// PostgreSQL, whose dump is here.
    Dumped,
    /// An engine that is not here.
    LeftOut,
}

/// The name of a database that is encrypted at a facility.
pub fn encrypted(path: &Path) -> Option<&'static str> {
    let mut names = edge::backup::FILES.into_iter();
    names.find(|name| path.ends_with(name))
}

/// Whether a file is a SQLite database: all of ours end so.
pub fn is_database(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "db")
}
