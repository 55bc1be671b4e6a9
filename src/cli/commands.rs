//! Arguments of `medmesh edge commands`.
use super::view::RunningArgs;
use clap::{Args, Subcommand};

pub(super) const COMMANDS_EXAMPLES: &str = "\
Examples:
  medmesh edge commands list --config edge.toml
  medmesh edge commands hold monitor-1 --config edge.toml       nothing is told to it until it is released
  medmesh edge commands release monitor-1 --config edge.toml
  medmesh edge commands refuse 9c1d… --config edge.toml         ends one that is not with its device yet

The region is told of what is refused, and of nothing that is only held. What is already with a device goes on.";

/// What the facility's staff does with commands of the region.
#[derive(Debug, Subcommand)]
pub enum EdgeCommandsCommand {
    /// Lists whose commands are held back, and the newest commands.
    List(RunningArgs),
    /// Holds the commands of a device back.
    Hold(HoldArgs),
    /// Lets the commands of a device go on, as far as their time has not ended.
    Release(HoldArgs),
    /// Refuses a command.
    Refuse(RefuseArgs),
}

/// Arguments of `edge commands hold` and `release`.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The node.
    #[command(flatten)]
    pub node: RunningArgs,
    /// The device, as the facility calls it.
    pub device: types::DeviceId,
    /// Who says so; kept with the hold, and as a SHA-256 in the audit log.
    #[arg(long, env = "USER", default_value = "operator")]
    pub by: String,
}

/// Arguments of `edge commands refuse`.
#[derive(Debug, Args)]
pub struct RefuseArgs {
    /// The node.
    #[command(flatten)]
    pub node: RunningArgs,
    /// The command's id.
    pub command: types::Id128,
    /// Who says so; kept with the command, and as a SHA-256 in the audit log.
    #[arg(long, env = "USER", default_value = "operator")]
    pub by: String,
}
