//! Arguments of `medmesh twin`, and of `medmesh device list`, `command`, `approve`: what is asked of a region.
use clap::{Args, Subcommand};
use std::path::PathBuf;

pub(super) const TWIN_EXAMPLES: &str = "\
Examples:
  medmesh twin get --region us DEVICE
  medmesh twin set --region us DEVICE '{\"interval\": \"5s\"}'
  medmesh twin watch --region us DEVICE --json

DEVICE is an id of `medmesh device list --region us`. What is set is a JSON Merge Patch (RFC 7396) of what is desired.";

pub(super) const DEVICE_EXAMPLES: &str = "\
Examples:
  medmesh device list --region us
  medmesh device command --region us DEVICE set-interval --parameters '{\"interval\": \"5s\"}'
  medmesh device command --region us DEVICE set-alarm-limits --parameters '{\"heart-rate-high\": 130}'
  medmesh device approve --region us DEVICE COMMAND
  medmesh device simulate --config devices.toml";

/// Which region of which mesh is asked, and as whom.
#[derive(Clone, Debug, Args)]
pub struct RegionArgs {
    /// Folder of the mesh.
    #[arg(long, default_value = ".medmesh")]
    pub dir: PathBuf,
    /// The region.
    #[arg(long)]
    pub region: String,
    /// The client of `mesh.json` as which it is asked.
    #[arg(long, default_value = "operator")]
    pub client: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `twin`.
#[derive(Debug, Args)]
pub struct TwinArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TwinCommand,
}

/// What to do with a twin.
#[derive(Debug, Subcommand)]
pub enum TwinCommand {
    /// Prints what is desired of a device, what it reports, and whether it is there.
    Get(OneDevice),
    /// Sets what is desired of a device.
    Set(SetArgs),
    /// Prints the twin whenever it changes, until it is stopped.
    Watch(OneDevice),
}

/// A device of a region.
#[derive(Debug, Args)]
pub struct OneDevice {
    /// The region.
    #[command(flatten)]
    pub region: RegionArgs,
    /// The device's id.
    pub device: String,
}

/// Arguments of `twin set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The device.
    #[command(flatten)]
    pub of: OneDevice,
    /// JSON Merge Patch of what is desired.
    pub patch: String,
    /// Only if the twin still has this version.
    #[arg(long)]
    pub version: Option<u64>,
}

/// Arguments of `device command`.
#[derive(Debug, Args)]
pub struct CommandArgs {
    /// The device.
    #[command(flatten)]
    pub of: OneDevice,
    /// The command's name.
    pub name: String,
    /// Its parameters, a JSON object.
    #[arg(long, default_value = "{}")]
    pub parameters: String,
    /// How long it may be carried out from now on.
    #[arg(long, default_value = "60s")]
    pub ttl: String,
    /// The idempotency key; the same key and command give the same answer. A new one when left out.
    #[arg(long)]
    pub key: Option<String>,
    /// Do not wait for its end.
    #[arg(long)]
    pub no_wait: bool,
}

/// Arguments of `device approve`.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Folder of the mesh.
    #[arg(long, default_value = ".medmesh")]
    pub dir: PathBuf,
    /// The region.
    #[arg(long)]
    pub region: String,
    /// The client that approves: another one than the command's.
    #[arg(long, default_value = "clinical-approver")]
    pub client: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The device's id.
    pub device: String,
    /// The command's id.
    pub command: String,
}
