//! FHIR clients that are not ours against a region of a running mesh: those of PyPI and those of npm.
use crate::mesh::Mesh;
use anyhow::{Context, Result, ensure};
use std::{env, os::unix::fs::symlink, path::PathBuf, process::Command};

/// A Python that has the clients, set by `cargo xtask test`.
const PYTHON: &str = "MEDMESH_TEST_PYTHON";
/// The folder of a `node_modules` that has the clients, set by `cargo xtask test`.
const NODE: &str = "MEDMESH_TEST_NODE_MODULES";

/// Has every client do what its users do.
///
/// # Errors
/// One of them did not find what it should, or there is no Python or no folder that has them.
pub fn flows(mesh: &Mesh, region: &str) -> Result<()> {
    let python = env::var_os(PYTHON).with_context(|| format!("{PYTHON} is not set"))?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/check_clients.py");
    let mut command = Command::new(python);
    command.arg(script).arg(&mesh.dir).arg(region);
    succeed(command, "the clients of PyPI")?;
    let modules = env::var_os(NODE).with_context(|| format!("{NODE} is not set"))?;
    of_npm(mesh, region, modules.into())
}

/// A script finds its modules beside itself.
fn of_npm(mesh: &Mesh, region: &str, modules: PathBuf) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let name = "check_clients.mjs";
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/javascript/check_clients.mjs");
    std::fs::copy(script, dir.path().join(name))?;
    symlink(modules, dir.path().join("node_modules"))?;
    let json = mesh.json()?;
    let authority = json["ca"].as_str().context("mesh.json names no ca")?;
    let mut command = Command::new("node");
    command
        .arg(dir.path().join(name))
        .arg(&mesh.dir)
        .arg(region);
    command.env("NODE_EXTRA_CA_CERTS", authority);
    succeed(command, "the clients of npm")
}

fn succeed(mut command: Command, what: &str) -> Result<()> {
    let done = command.output().with_context(|| what.to_owned())?;
    let said = String::from_utf8_lossy(&done.stderr);
    let told = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "{what}: {said}{told}");
    print!("{told}");
    Ok(())
}
