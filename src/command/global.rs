//! `medmesh global`: the node above all regions, and what its operator looks at and decides in it.
use super::{node, quarantine};
use crate::{
    cli::quarantine::{GlobalArgs, GlobalCommand},
    failure::Failure,
};

/// Runs the command.
pub async fn run(args: GlobalArgs) -> Result<(), Failure> {
    match (args.command, args.config) {
        (None, Some(config)) => node::global(&config).await,
        (None, None) => Err(anyhow::anyhow!("--config is needed").into()),
        (Some(GlobalCommand::Quarantine(args)), _) => quarantine::global(&args.command),
    }
}
