//! The part of the command line that is about what is in quarantine.
use super::entry::{EntryId, NodeEntry};
use clap::{Args, Subcommand};
use std::path::PathBuf;

pub(super) const EDGE_QUARANTINE_EXAMPLES: &str = "\
Examples:
  medmesh edge quarantine list --config edge.toml
  medmesh edge quarantine show p12 --config edge.toml       a parcel that the region did not take
  medmesh edge quarantine release p12 --config edge.toml    ship it again now
  medmesh edge quarantine discard m3 --config edge.toml     delete a message of a device

What may be cured (a policy, an unknown code or kind) is shipped again by itself. What is discarded is lost: samples of a
discarded parcel are deleted in their time. Works beside the running node; each decision is in its audit log.";

const REGIONAL_QUARANTINE_EXAMPLES: &str = "\
Examples:
  medmesh regional quarantine list --config regional.toml
  medmesh regional quarantine show n7 --config regional.toml       a note on what this region did not take
  medmesh regional quarantine discard n7 --config regional.toml    somebody has looked at it
  medmesh regional quarantine release p2 --config regional.toml    ship a parcel to the global node again

A region holds no content of what it did not take: the facility has it, and ships it again. Works beside the running
node; each decision is in its audit log.";

const GLOBAL_QUARANTINE_EXAMPLES: &str = "\
Examples:
  medmesh global quarantine list --config global.toml
  medmesh global quarantine show n7 --config global.toml       a note on what the global node did not take
  medmesh global quarantine discard n7 --config global.toml    somebody has looked at it

The content is with the region that sent it, which ships it again. Works beside the running node; each decision is in
its audit log.";

/// What `medmesh quarantine --help` ends with.
pub(super) const MESH_QUARANTINE_EXAMPLES: &str = "\
Examples:
  medmesh quarantine list                            every node of the mesh in .medmesh
  medmesh quarantine list --dir /tmp/mesh --json
  medmesh quarantine show us-f1/p12                  one entry of a node, by its name or its place
  medmesh quarantine release edge/us/us/us-f1/p12    ship it again now
  medmesh quarantine discard us/n7                   somebody has looked at it
  medmesh quarantine list --config /etc/medmesh/edge.toml
                                                     a node of this machine; --config may be given several times

Works beside running nodes, on the machine that they are on. What is shown of a facility and every decision is in the
audit log of the node that it is of.

Exit codes: 0 done, 1 failed; of `list` too, when a node could not be looked at";

/// Arguments of `medmesh quarantine`.
#[derive(Debug, Args)]
pub struct MeshQuarantineArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: MeshQuarantineCommand,
}

/// What to do with what is in quarantine anywhere in a mesh.
#[derive(Debug, Subcommand)]
pub enum MeshQuarantineCommand {
    /// Prints what every node holds, node by node, the oldest first.
    List(MeshListArgs),
    /// Prints one entry with everything that its node has of it.
    Show(MeshEntryArgs),
    /// Ships a parcel again.
    Release(MeshEntryArgs),
    /// Deletes an entry for good.
    Discard(MeshEntryArgs),
}

/// Which nodes.
#[derive(Debug, Args)]
pub struct WhichNodes {
    /// Folder of a mesh of this machine.
    #[arg(long, default_value = ".medmesh", conflicts_with = "config")]
    pub dir: PathBuf,
    /// Configuration of a node of this machine; may be given several times.
    #[arg(long)]
    pub config: Vec<PathBuf>,
}

/// Arguments of `medmesh quarantine list`.
#[derive(Debug, Args)]
pub struct MeshListArgs {
    /// Which nodes.
    #[command(flatten)]
    pub nodes: WhichNodes,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of what is done with one entry of a mesh.
#[derive(Debug, Args)]
pub struct MeshEntryArgs {
    /// The entry, as NODE/ENTRY: `us-f1/p12`; of the only node there is, ENTRY alone.
    pub entry: NodeEntry,
    /// Which nodes.
    #[command(flatten)]
    pub nodes: WhichNodes,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `quarantine` of one tier.
#[derive(Debug, Args)]
pub struct QuarantineArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: QuarantineCommand,
}

/// What to do with what is in quarantine.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Prints what is held, the oldest first.
    List(QuarantineListArgs),
    /// Prints one entry with everything that this node has of it.
    Show(QuarantineEntryArgs),
    /// Ships a parcel again.
    Release(QuarantineEntryArgs),
    /// Deletes an entry for good.
    Discard(QuarantineEntryArgs),
}

/// Arguments of `quarantine list`.
#[derive(Debug, Args)]
pub struct QuarantineListArgs {
    /// Configuration of the node.
    #[arg(long)]
    pub config: PathBuf,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of what is done with one entry.
#[derive(Debug, Args)]
pub struct QuarantineEntryArgs {
    /// The entry, as `list` shows it.
    pub entry: EntryId,
    /// Configuration of the node.
    #[arg(long)]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `regional`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct RegionalArgs {
    /// Configuration of the node to run.
    #[arg(long, required = true)]
    pub config: Option<PathBuf>,
    /// What to look at instead.
    #[command(subcommand)]
    pub command: Option<RegionalCommand>,
}

/// What to look at in a region's node.
#[derive(Debug, Subcommand)]
pub enum RegionalCommand {
    /// What this region did not take, and what the global node did not take of it.
    #[command(after_help = REGIONAL_QUARANTINE_EXAMPLES)]
    Quarantine(QuarantineArgs),
}

/// Arguments of `global`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct GlobalArgs {
    /// Configuration of the node to run.
    #[arg(long, required = true)]
    pub config: Option<PathBuf>,
    /// What to look at instead.
    #[command(subcommand)]
    pub command: Option<GlobalCommand>,
}

/// What to look at in the global node.
#[derive(Debug, Subcommand)]
pub enum GlobalCommand {
    /// What the global node did not take.
    #[command(after_help = GLOBAL_QUARANTINE_EXAMPLES)]
    Quarantine(QuarantineArgs),
}
