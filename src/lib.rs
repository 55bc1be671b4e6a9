//! The commands of `medmesh`, thin: each reads its arguments and calls the crate that does the work.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (by clap), 64 wrong configuration.

mod backup;
pub mod cli;
mod command;
mod failure;
mod https;
mod local;
mod out;
mod scratch;
mod up;

use cli::{Cli, Command};
use failure::Failure;
use std::{process::ExitCode, time::Duration};

/// What its threads get at the end: to close their files, which they cannot while the process takes down what its
/// libraries set up.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs a command to its end.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(),
    };
    let result = runtime.block_on(dispatch(cli.command));
    // What they have in hand is safe at any instant, and one that still waits for input must not hold up the end.
    runtime.shutdown_timeout(SETTLE);
    if node::renewal::is_asked() {
        if let Err(failure) = result {
            failure.report();
        }
        return Failure::from(node::renewal::exec()).report();
    }
    result.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Edge(args) => command::edge::run(args).await,
        Command::Regional(args) => command::regional::run(args).await,
        Command::Global(args) => command::global::run(args).await,
        Command::CheckConfig(args) => command::check_config::run(&args),
        Command::Pki(args) => command::pki::run(args),
        Command::Audit(args) => command::audit::run(&args),
        Command::Fl(args) => command::fl::run(&args).await,
        Command::Device(args) => command::device::run(args).await,
        Command::Twin(args) => command::twin::run(args.command).await,
        Command::Blob(args) => command::blob::run(args.command).await,
        Command::Local(args) => local::run(args).await,
        Command::Doctor(args) => command::doctor::run(&args).await,
        Command::Backup(args) => command::backup::backup(&args),
        Command::Restore(args) => command::backup::restore(&args),
        Command::Status(args) => command::status::run(&args).await,
        Command::Quarantine(args) => command::quarantine::mesh(&args.command),
        Command::Token(args) => command::token::run(&args).await,
    }
}
