//! The command line of `medmesh fl`.
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Examples of `fl`.
pub const FL_EXAMPLES: &str = "\
Examples:
  medmesh fl check study.toml                 what a study comes to, or everything that is wrong with it
  medmesh fl epsilon --sampling 0.01 --noise-multiplier 1.1 --steps 5000 --delta 1e-5";

/// Arguments of `fl`.
#[derive(Debug, Args)]
pub struct FlArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: FlCommand,
}

/// What to do with studies.
#[derive(Debug, Subcommand)]
pub enum FlCommand {
    /// Says what a study comes to, or everything that is wrong with it; nothing is sent. Exit code 64 when something is.
    Check {
        /// The study (TOML).
        study: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the epsilon that a Gaussian on Poisson samples spends: never less than the true one.
    Epsilon(EpsilonArgs),
}

/// Arguments of `fl epsilon`.
#[derive(Debug, Args)]
pub struct EpsilonArgs {
    /// Probability with which a record is in the sample of a step; 1 for all records.
    #[arg(long)]
    pub sampling: f64,
    /// Standard deviation of the noise, in units of the clip.
    #[arg(long)]
    pub noise_multiplier: f64,
    /// How many steps.
    #[arg(long)]
    pub steps: u64,
    /// Probability with which the promise may fail.
    #[arg(long)]
    pub delta: f64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
