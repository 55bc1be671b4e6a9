//! `cargo xtask bench`: a release build, the peers that figures are compared with, and the run.
use crate::{
    engines,
    place::Places,
    run::{cargo, on_path, step},
};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

/// The peer's release that the edge's own dependency has, built without what the comparison does not use.
const RUMQTTD: &str = "0.20.0";

/// Builds what is needed and runs the benchmarks; `arguments` are for them.
pub fn bench(arguments: &[String]) -> Result<bool> {
    let places = Places::find()?;
    engines::install()?;
    let rumqttd = rumqttd(&places)?;
    // Of what is asked for, FHIR alone needs it; without a choice everything runs.
    let with_postgres =
        !arguments.iter().any(|one| one == "--only") || arguments.iter().any(|one| one == "fhir");
    let postgres = with_postgres.then(engines::postgres).transpose()?;
    step(&mut cargo(
        &places,
        &[
            "build",
            "--release",
            "--workspace",
            "--bin",
            "medmesh",
            "--bin",
            "medmesh-bench",
        ],
    ))?;
    let release = places.target.join("release");
    let mut command = Command::new(release.join("medmesh-bench"));
    command
        .args(arguments)
        .current_dir(&places.root)
        .env("MEDMESH_BIN", release.join("medmesh"))
        .env("MEDMESH_TEST_RUMQTTD", rumqttd)
        .env("MEDMESH_TEST_PYTHON", engines::python(&places)?);
    if let Some(mosquitto) = on_path("mosquitto") {
        command.env("MEDMESH_TEST_MOSQUITTO", mosquitto);
    }
    if let Some(postgres) = &postgres {
        command.envs(postgres.variables().iter().cloned());
    }
    if let Some(data) = &places.data {
        command.env("MEDMESH_DATA", data);
    }
    Ok(command.status().context("start medmesh-bench")?.success())
}

/// The peer's own binary, built once and kept: its TLS stack is another one than ours, so it stays out of our build.
fn rumqttd(places: &Places) -> Result<PathBuf> {
    let root = places.cache.join("peers");
    let binary = root.join("bin").join("rumqttd");
    if !binary.exists() {
        fs::create_dir_all(&root)?;
        let target = root.join("target");
        eprintln!("building rumqttd {RUMQTTD}, the peer of the ingest benchmark");
        let arguments = ["install", "rumqttd", "--version", RUMQTTD];
        let features = [
            "--no-default-features",
            "--features",
            "use-rustls,verify-client-cert",
        ];
        step(
            Command::new("cargo")
                .args(arguments)
                .args(features)
                .arg("--root")
                .arg(&root)
                .env("CARGO_TARGET_DIR", &target),
        )?;
        fs::remove_dir_all(target)?;
    }
    Ok(binary)
}
