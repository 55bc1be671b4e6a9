//! The one binary of the mesh: reads the command line and gives the exit code.
use clap::Parser;
use std::process::ExitCode;

/// Nodes allocate and free small things on different threads all the time; this costs them less than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("medmesh: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    medmesh::run(medmesh::cli::Cli::parse())
}
