//! Arguments of `medmesh edge plans`.
use super::PrintArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use types::Name;

pub(super) const PLANS_EXAMPLES: &str = "\
Examples:
  medmesh edge plans list --config edge.toml
  medmesh edge plans list --all --config edge.toml
  medmesh edge plans approve heart-1f2e3d4c --config edge.toml
  medmesh edge plans refuse heart-1f2e3d4c --config edge.toml
Works beside the running node; each decision is in its audit log with who made it.";

/// Studies that came to the facility.
#[derive(Debug, Subcommand)]
pub enum PlansCommand {
    /// Prints the studies that came and have not ended: what was decided of each, and how it stands (`asked`, `running`,
    /// `between-rounds`).
    List(ListArgs),
    /// Lets the facility take part, within what its configuration allows.
    Approve(DecideArgs),
    /// Has the facility decline, with that reason.
    Refuse(DecideArgs),
    /// Has the study wait.
    Hold(DecideArgs),
}

/// Which studies.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// What is read, and how it is printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// Those that have ended too (`ended`), as far as is known at the facility.
    #[arg(long)]
    pub all: bool,
}

/// Which study.
#[derive(Debug, Args)]
pub struct DecideArgs {
    /// The study's id.
    pub study: Name,
    /// Configuration of the node.
    #[arg(long)]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
