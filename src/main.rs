//! The one binary of the mesh: reads the command line and gives the exit code.
use clap::Parser;
use std::process::ExitCode;

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
