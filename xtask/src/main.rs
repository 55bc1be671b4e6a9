//! The project's own commands. It knows how to check the project and which engines the suites need; it holds
//! nothing of the product and depends on none of its crates, so that it compiles in seconds.
mod bench;
mod clock;
mod drill;
mod engines;
mod fhir;
mod fuzz;
mod infra;
mod package;
mod place;
mod run;
mod sbom;
mod stage;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                        everything, as continuous integration runs it
  cargo xtask test --only fmt clippy      two stages
  cargo xtask test --at '+400 days'       everything as it will be on another day
  cargo xtask test --only engines --keep  start the engines, print their variables, wait for Ctrl-C
  cargo xtask engines up                  a PostgreSQL and a Cassandra for a mesh of your own
  cargo xtask fuzz mqtt --for 3600        one parser for an hour
  cargo xtask gen-fhir                    the tables of FHIR R4, anew of the definitions
  cargo xtask rollout local               a mesh of six regions on this machine, by terraform
  cargo xtask rollout local --destroy     end it, and remove what it wrote
  cargo xtask package                     a Debian package of the release binary (dpkg-deb)
  cargo xtask package --reproduce         whether the same commit gives the same bytes: two release builds
  cargo xtask drill                       lose nodes and get them back, with the times (needs terraform)
  cargo xtask checkov                     what the rules of checkov find in infra/terraform
  cargo xtask sbom --out sbom.cdx.json    what the program is made of, as CycloneDX
  cargo xtask bench                       every figure beside its peer or floor, release build
  cargo xtask bench --only ingest --runs 5";

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks the project: format, lints, Terraform, unit, doc, contract and end-to-end tests, against real engines.
    ///
    /// Installs what the suites need (as root; otherwise stops with the one line to copy), starts it on free ports
    /// of 127.0.0.1, and ends it. The last line is `N passed, N failed, N ignored`; the exit code is 0 when nothing
    /// failed. No test knows today's date: with `--at` they run on another one, and in continuous integration (`CI=true`)
    /// the end-to-end tests run on a date that nobody chose, which is printed.
    #[command(after_help = EXAMPLES)]
    Test {
        /// Run these stages alone, in their usual order.
        #[arg(long, value_enum, num_args = 1.., value_name = "STAGE")]
        only: Vec<stage::Stage>,
        /// Leave the engines running at the end, print their variables, and wait for Ctrl-C.
        #[arg(long)]
        keep: bool,
        /// Shift the clock of the tests and of every process that they start, for example `+400 days`.
        #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
        at: Option<clock::Offset>,
    },
    /// The databases that the suites use, for a mesh of your own.
    #[command(after_help = EXAMPLES)]
    Engines {
        #[command(subcommand)]
        action: EnginesCommand,
    },
    /// Feeds mutated inputs to every parser of what comes from outside; coverage-guided with a nightly toolchain.
    #[command(after_help = EXAMPLES)]
    Fuzz {
        /// These targets alone (folders of tests/fuzz/corpus).
        targets: Vec<String>,
        /// Seconds for each target.
        #[arg(long = "for", default_value_t = 600, value_name = "SECONDS")]
        seconds: u64,
    },
    /// Makes the tables of FHIR R4 anew of HL7's definitions (needs npm, or their archive in the cache).
    GenFhir {
        /// Only compare: exit code 1 when a table is not what the definitions say.
        #[arg(long)]
        check: bool,
    },
    /// Brings up or changes the mesh of `infra/terraform` on this machine (needs terraform).
    ///
    /// Builds the program and applies. Where the mesh runs another version already, the new one comes to one region
    /// after another, the canary first; the first region that does not come up with it gets its former version back, and
    /// the rollout stops there.
    #[command(after_help = EXAMPLES)]
    Rollout(infra::rollout::RolloutArgs),
    /// Builds a Debian package: binary, unit, examples, rules, bill of materials. It starts nothing when installed.
    Package {
        /// Take this binary instead of building one.
        #[arg(long)]
        built: Option<std::path::PathBuf>,
        /// Build it twice, from two copies of this clone in different folders, and compare every byte.
        #[arg(long, conflicts_with = "built")]
        reproduce: bool,
    },
    /// Carries out a disaster and the way back on meshes of this machine, and shows how long each step took (needs
    /// terraform).
    Drill,
    /// What the rules of checkov find in `infra/terraform`, but for what `checkov.yaml` there lists with reasons.
    ///
    /// Installs it in the cache first (PyPI).
    Checkov,
    /// Says what the program is made of, as a CycloneDX 1.5 bill of materials (JSON).
    Sbom {
        /// Where to; printed when left out.
        #[arg(long)]
        out: Option<std::path::PathBuf>,
    },
    /// Measures: each figure beside a peer or a physical floor of the same run, medians of several runs.
    ///
    /// Builds with optimisation and installs the peers first. Leave the machine alone meanwhile.
    #[command(after_help = EXAMPLES)]
    Bench {
        /// Arguments of the benchmarks; `cargo xtask bench -- --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum EnginesCommand {
    /// Starts them on free ports of 127.0.0.1, prints the line by which `medmesh up` takes them, and runs until Ctrl-C.
    ///
    /// Installs what is missing, as `cargo xtask test` does. What they hold goes with them: they are for trying out.
    /// With Docker, `infra/dev/compose.yaml` has a PostgreSQL and a ScyllaDB that keep what they hold.
    Up,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Test { only, keep, at } => stage::test(&only, keep, at),
        Command::Engines {
            action: EnginesCommand::Up,
        } => engines::up(),
        Command::Fuzz { targets, seconds } => fuzz::fuzz(&targets, seconds),
        Command::GenFhir { check } => fhir::generate(check),
        Command::Rollout(arguments) => infra::rollout::rollout(&arguments),
        Command::Package { built, reproduce } => package::package(built, reproduce),
        Command::Drill => drill::drill(),
        Command::Checkov => infra::checkov::check(),
        Command::Sbom { out } => sbom::write(out.as_deref()),
        Command::Bench { arguments } => bench::bench(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, Result, ensure};

    const GUIDES: [&str; 6] = [
        "README.md",
        "CONTRIBUTING.md",
        "docs/operations.md",
        "docs/federated-learning.md",
        "infra/README.md",
        "infra/terraform/README.md",
    ];

    /// The words of a line, of which what stands between ' is one.
    fn words(line: &str) -> Vec<&str> {
        let parts = line.split('\'').enumerate();
        let split = parts.map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        });
        split.collect::<Vec<_>>().concat()
    }

    #[test]
    fn every_command_of_a_guide_is_one_of_this_program() -> Result<()> {
        let root = place::Places::find()?.root;
        let mut count = 0;
        for guide in GUIDES {
            let text = std::fs::read_to_string(root.join(guide)).context(guide)?;
            for found in text.split("cargo xtask ").skip(1) {
                let line = found.split(['\n', '`', '#']).next().unwrap_or_default();
                let all = [vec!["cargo xtask"], words(line)].concat();
                let parsed = Cli::try_parse_from(all);
                let wrong = parsed.err().map(|error| error.to_string());
                ensure!(wrong.is_none(), "{guide}: {line}: {wrong:?}");
                count += 1;
            }
        }
        ensure!(count > 15, "{count} commands");
        Ok(())
    }
}
