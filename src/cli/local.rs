//! The arguments of `medmesh local`.
use clap::{Args, Subcommand};

/// Arguments of `local`.
#[derive(Debug, Args)]
pub struct LocalArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LocalCommand,
}

/// What to do with a mesh on this machine. Terraform says these; `medmesh up` is what a person says.
#[derive(Debug, Subcommand)]
pub enum LocalCommand {
    /// Makes the folder of a mesh: the authority, the clients' keys, and a copy of this program.
    Install(OrderArgs),
    /// Enrols a node or a facility's devices, checks the configuration, and runs it until it answers.
    Start(OrderArgs),
    /// Stops what a start of the same token began; anything else is left alone.
    Stop(OrderArgs),
    /// Writes what the outside finds the parts of the mesh by: `mesh.json`.
    Describe(OrderArgs),
    /// Stops every process of the folder, whoever began it, and removes the folder.
    Sweep(OrderArgs),
}

/// What a command is to do, in one argument, so that no shell stands between.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// The order (JSON).
    pub order: String,
}
