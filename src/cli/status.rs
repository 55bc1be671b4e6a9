//! The arguments of `medmesh status`.
use clap::Args;
use node::quantity::Span;
use std::path::PathBuf;

/// What `medmesh status --help` ends with.
pub const STATUS_EXAMPLES: &str = "\
Examples:
  medmesh status                              the mesh of .medmesh
  medmesh status --dir /tmp/mesh --watch      again every 2 s, until Ctrl-C
  medmesh status --config /etc/medmesh/edge.toml
                                              one node, asked on its own machine
  medmesh status --json | jq '.places[] | select(.state != \"ready\")'

A node that does not answer within --wait is down. Ages are by this machine's clock.

Exit codes: 0 every node is ready and lacks nothing, 1 something is degraded, 2 a node is down or not ready";

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Folder of the mesh: its `mesh.json` says where the nodes are, and who its operator is.
    #[arg(long, default_value = ".medmesh", conflicts_with = "config")]
    pub dir: PathBuf,
    /// Configuration of one node of this machine.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// How long a node has to answer, such as `3s`.
    #[arg(long, default_value = "3s")]
    pub wait: Span,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Show it again every 2 s, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
}
