//! Modules of npm with FHIR clients that are not ours, in the cache.
use super::{Started, text};
use crate::run::step;
use anyhow::{Context, Result};
use std::{fs, path::Path, process::Command};

/// What the tests import.
const REQUIREMENTS: &[&str] = &["fhir-kit-client@2.0.3", "fhirclient@2.6.3"];

/// Installs the modules unless the cache has those. What is optional for them is for browsers and telephones, and is left
/// out.
pub fn modules(cache: &Path) -> Result<Started> {
    let stamp = cache.join("requirements");
    let wanted = REQUIREMENTS.join("\n");
    if fs::read_to_string(&stamp).unwrap_or_default() != wanted {
        fs::remove_dir_all(cache).ok();
        fs::create_dir_all(cache)?;
        fs::write(cache.join("package.json"), "{\"private\": true}\n")?;
        let quietly = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
        step(
            Command::new("npm")
                .current_dir(cache)
                .arg("install")
                .args(quietly)
                .args(["--omit=optional", "--omit=peer"])
                .args(REQUIREMENTS),
        )?;
        fs::write(&stamp, wanted).context("write the stamp")?;
    }
    Ok(Started {
        variables: vec![(
            "MEDMESH_TEST_NODE_MODULES",
            text(cache.join("node_modules")),
        )],
        engine: None,
    })
}
