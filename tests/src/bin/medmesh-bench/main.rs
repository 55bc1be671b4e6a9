//! The benchmarks of `cargo xtask bench`: each figure beside a peer or a physical floor that is measured in the same
//! run, as the median of several runs, with what was durable when it was acknowledged.
//!
//! Nothing here asserts a time. A figure that misses its aim is printed as such, with what bounds it.
mod attack;
mod backlog;
mod blobs;
mod disk;
mod facility;
mod fhir;
mod idle;
mod ingest;
mod kills;
mod learning;
mod load;
mod modbus;
mod node;
mod orders;
mod path;
mod peers;
mod report;
mod rows;
mod studies;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use report::Report;
use std::{path::PathBuf, process::ExitCode};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                      everything
  cargo xtask bench --only ingest rows   two of them
  cargo xtask bench --runs 5 --json figures.json
  cargo xtask bench --only fhir --plots docs/bench --fhir-peer hapi=http://127.0.0.1:8080/fhir";

/// Benchmarks of MedMesh beside its peers.
#[derive(Parser)]
#[command(name = "medmesh-bench", after_help = EXAMPLES)]
struct Cli {
    /// Run these alone, in their usual order.
    #[arg(long, value_enum, num_args = 1.., value_name = "BENCH")]
    only: Vec<Bench>,
    /// Runs of each figure, of which the median is printed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=15))]
    runs: u8,
    /// Write every figure to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write plots into this folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Another FHIR server, which is measured beside the region: it takes whatever is created.
    #[arg(long, value_name = "NAME=URL", value_parser = peer)]
    fhir_peer: Vec<(String, String)>,
    /// Of `fhir`, so little that it shows that it runs, and no figure.
    #[arg(long)]
    small: bool,
}

fn peer(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=');
    let (name, url) =
        pair.ok_or("NAME=URL is expected, such as hapi=http://127.0.0.1:8080/fhir")?;
    Ok((name.to_owned(), url.to_owned()))
}

/// One benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// What an fdatasync costs here.
    Disk,
    /// Durable QoS 1 ingest beside Mosquitto and rumqttd.
    Ingest,
    /// Rows of the edge's store beside naive commits and beside large batches.
    Rows,
    /// Modbus points per second and core.
    Modbus,
    /// From a device to the region's FHIR API, idle and under load.
    Path,
    /// The region's FHIR on PostgreSQL beside COPY, pgbench, an echo, and any FHIR server that is named.
    Fhir,
    /// How fast a backlog drains.
    Backlog,
    /// A gigabyte as a blob over a link that is cut every five seconds, beside a bare stream.
    Blobs,
    /// From a command to its acknowledgement, and a million replays.
    Orders,
    /// Accountant, masks, sums, noise, training and rounds of federated learning, beside Flower, dp-accounting, OpenSSL and,
    /// where it is, PyTorch.
    Learning,
    /// Memory of an idle edge, start and restart times.
    Idle,
    /// What an honest client notices of two thousand hostile connections.
    Attack,
    /// Hundreds of kills: nothing lost, doubled or out of order.
    Kills,
    /// What models of federated studies come to on real data, beside training on all records together.
    Studies,
}

/// What every benchmark is given.
struct Bed {
    runs: usize,
    /// Where plots go.
    plots: Option<PathBuf>,
    /// Other FHIR servers, by name and URL.
    fhir_peers: Vec<(String, String)>,
    /// So little that it shows that it runs.
    small: bool,
}

/// Nodes allocate and free small things on different threads all the time; this costs them less than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("medmesh-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("another TLS provider is installed already");
    }
    let bed = Bed {
        runs: usize::from(cli.runs),
        plots: cli.plots.clone(),
        fhir_peers: cli.fhir_peer.clone(),
        small: cli.small,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let mut report = Report::default();
    for bench in Bench::value_variants() {
        if !cli.only.is_empty() && !cli.only.contains(bench) {
            continue;
        }
        let name = bench
            .to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned());
        eprintln!("── {name} ──");
        let done = runtime.block_on(async {
            match bench {
                Bench::Disk => disk::run(&bed, &mut report),
                Bench::Ingest => ingest::run(&bed, &mut report).await,
                Bench::Rows => rows::run(&bed, &mut report).await,
                Bench::Modbus => modbus::run(&bed, &mut report).await,
                Bench::Path => path::run(&bed, &mut report).await,
                Bench::Fhir => fhir::run(&bed, &mut report).await,
                Bench::Backlog => backlog::run(&bed, &mut report).await,
                Bench::Blobs => blobs::run(&bed, &mut report).await,
                Bench::Orders => orders::run(&bed, &mut report).await,
                Bench::Learning => learning::run(&bed, &mut report).await,
                Bench::Idle => idle::run(&bed, &mut report).await,
                Bench::Attack => attack::run(&bed, &mut report).await,
                Bench::Kills => kills::run(&bed, &mut report).await,
                Bench::Studies => studies::studies(&bed, &mut report),
            }
        });
        done.with_context(|| name.clone())?;
    }
    report.print();
    if let Some(path) = &cli.json {
        std::fs::write(path, report.json()?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
