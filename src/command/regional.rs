//! `medmesh regional`: a region's node, and what its operator looks at and decides in it.
use super::{node, quarantine};
use crate::{
    cli::quarantine::{RegionalArgs, RegionalCommand},
    failure::Failure,
};

/// Runs the command.
pub async fn run(args: RegionalArgs) -> Result<(), Failure> {
    match (args.command, args.config) {
        (None, Some(config)) => node::regional(&config).await,
        (None, None) => Err(anyhow::anyhow!("--config is needed").into()),
        (Some(RegionalCommand::Quarantine(args)), _) => quarantine::regional(&args.command),
    }
}
