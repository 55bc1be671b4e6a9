//! What Terraform asks for, as JSON.
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

/// Makes the folder of a mesh.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// Where this program is copied to, in the folder.
    pub binary: PathBuf,
}

/// What a process is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The node of a place.
    Node,
    /// The simulated devices of a facility.
    Devices,
}

/// Starts a process.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// What the process is called.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The place of the node, or of the facility whose devices they are.
    pub place: String,
    /// Devices of the facility that have certificates.
    pub devices: Vec<String>,
    /// The configuration (TOML).
    pub config: String,
    /// Names this start: only a stop with the same token ends what it began.
    pub token: String,
    /// How often the process was found dead before.
    pub restarts: u64,
    /// How long it may take until it answers, in seconds.
    pub patience_s: u64,
}

/// Stops a process.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// What the process is called.
    pub name: String,
    /// The token of its start.
    pub token: String,
}

/// Writes `mesh.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Describe {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// What is written.
    pub mesh: Value,
}

/// Stops everything and removes the folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// The folder, absolute.
    pub dir: PathBuf,
}
