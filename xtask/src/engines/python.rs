//! A Python environment with what is not ours in the cache: FHIR and SMART clients, a privacy accountant, Flower, and a
//! runtime of models.
use super::{Started, text};
use crate::run::step;
use anyhow::{Context, Result};
use std::{fs, path::Path, process::Command};

/// What the tests import.
const REQUIREMENTS: &[&str] = &[
    "fhirpy==2.3.1",
    "fhirclient==4.4.0",
    "fhir.resources==8.3.0",
    "requests",
    "pyjwt[crypto]",
    "cryptography",
    "jsonschema",
    "dp-accounting==0.6.0",
    "flwr==1.42.0",
    // The Python package: what it imports, builds with and is checked with.
    "httpx==0.28.1",
    "matplotlib==3.11.2",
    "mypy==2.4.1",
    "onnxruntime==1.32.0",
    "setuptools==84.2.1",
];

/// Makes the environment unless the cache has it for the same requirements.
pub fn environment(cache: &Path) -> Result<Started> {
    let python = cache.join("bin/python");
    let stamp = cache.join("requirements");
    let wanted = REQUIREMENTS.join("\n");
    let have = fs::read_to_string(&stamp).unwrap_or_default();
    if have != wanted || !works(&python) {
        fs::remove_dir_all(cache).ok();
        step(Command::new("python3").args(["-m", "venv"]).arg(cache))?;
        step(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--retries", "5"])
                .args(REQUIREMENTS),
        )?;
        fs::write(&stamp, wanted).context("write the stamp")?;
    }
    Ok(Started {
        variables: vec![("MEDMESH_TEST_PYTHON", text(python))],
        engine: None,
    })
}

fn works(python: &Path) -> bool {
    Command::new(python)
        .args([
            "-c",
            "import fhirpy, fhirclient, fhir.resources.R4B.bundle, requests, jwt, cryptography, jsonschema, dp_accounting, flwr, httpx, matplotlib, mypy, onnxruntime, setuptools",
        ])
        .status()
        .is_ok_and(|status| status.success())
}
