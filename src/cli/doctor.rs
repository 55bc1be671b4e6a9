//! The arguments of `medmesh doctor`.
use clap::{ArgGroup, Args};
use std::path::PathBuf;

/// What `medmesh doctor --help` ends with.
pub const DOCTOR_EXAMPLES: &str = "\
Examples:
  medmesh doctor --config /etc/medmesh/edge.toml    one node of this machine
  medmesh doctor --dir .medmesh                     every node of a mesh on this machine
  medmesh doctor --config regional.toml --json | jq -r '.findings[] | select(.level == \"bad\") | .advice'

Looks at the configuration, the clock, the disk, certificates, engines, ports, the tier above, versions and
permissions, and says of each fault what to do next. It changes nothing, and may be asked beside the running node.

Exit codes: 0 all is well, 1 a person should look, 2 something keeps a node from its work";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["config", "dir"]))]
pub struct DoctorArgs {
    /// Configuration of one node.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Folder of a mesh on this machine: each of its nodes.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
