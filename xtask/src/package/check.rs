//! What is checked of the package and its unit: two packages of one binary are the same bytes, what is unpacked into an
//! empty root is what it says, nothing in it is open to other users, its scripts do no harm, and the unit leaves a node as little
//! as docs/operations.md says. The binary in it is a stand-in: that one is built and tried elsewhere.
use super::{FILES, container::container, pack, scripts::scripts};
use crate::{
    place::Places,
    run::{on_path, silent},
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

/// How old the files of the checked package are, in seconds since 1970.
const AGE: &str = "1000000000";
/// Where the exposure of the unit is stated.
const STATED: &str = "exposure level of the unit is ";
const UNIT: &str = "lib/systemd/system/medmesh@.service";

/// Every check by its name, and what is wrong; none where the machine lacks the program that it needs.
pub fn check(places: &Places) -> Vec<(&'static str, Option<Result<()>>)> {
    let has = |program: &str| on_path(program).is_some();
    let packed = has("dpkg-deb").then(|| packages(places));
    let scored = has("systemd-analyze").then(|| exposure(places));
    let contained = Some(container(places));
    vec![
        ("package", packed),
        ("package scripts", Some(scripts(places))),
        ("unit", scored),
        ("container", contained),
    ]
}

fn packages(places: &Places) -> Result<()> {
    let dir = places.target.join("package-check");
    fs::remove_dir_all(&dir).ok();
    fs::create_dir_all(&dir)?;
    // A small one, since compressing the real one takes minutes.
    let binary = dir.join("stand-in");
    fs::write(&binary, "#!/bin/sh\n")?;
    let mut made = Vec::new();
    for name in ["one", "two"] {
        let to = dir.join(name);
        fs::create_dir_all(&to)?;
        made.push(pack(places, &binary, &to, AGE)?);
    }
    let [one, two] = [&made[0], &made[1]].map(fs::read);
    ensure!(
        one? == two?,
        "two packages of one binary are not the same bytes"
    );
    installed(&made[0], &dir.join("root"), &binary)
}

/// Unpacks the package into an empty root, and looks at what is there.
fn installed(package: &Path, root: &Path, binary: &Path) -> Result<()> {
    unpack(package, root)?;
    ensure!(
        fs::read(root.join("usr/bin/medmesh"))? == fs::read(binary)?,
        "the binary was changed"
    );
    let unit = fs::read_to_string(root.join(UNIT))?;
    ensure!(
        unit.contains("ExecStart=/usr/bin/medmesh %i"),
        "the unit starts another program"
    );
    for (_, file, mode) in FILES {
        let found = fs::metadata(root.join(file)).with_context(|| file.to_owned())?;
        let found = found.permissions().mode() & 0o7777;
        ensure!(found == mode, "{file} has the mode {found:o}, not {mode:o}");
    }
    ensure!(
        unit.contains("\nStartLimitIntervalSec=0\n"),
        "systemd gives up a node that fails at once for some seconds"
    );
    let sbom = fs::read_to_string(root.join("usr/share/doc/medmesh/sbom.cdx.json"))?;
    let bill: serde_json::Value = serde_json::from_str(&sbom).context("the bill of materials")?;
    let parts = bill["components"].as_array().map_or(0, Vec::len);
    ensure!(
        bill["bomFormat"] == "CycloneDX" && parts > 0,
        "the bill of materials names {parts} components"
    );
    Ok(())
}

/// By dpkg, as an installation begins; its files belong to root, so that another user only extracts them.
fn unpack(package: &Path, root: &Path) -> Result<()> {
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for file in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(file), "")?;
    }
    if fs::metadata("/proc/self")?.uid() != 0 {
        let mut extract = Command::new("dpkg-deb");
        return silent(extract.arg("--extract").arg(package).arg(root));
    }
    let mut unpack = Command::new("dpkg");
    unpack
        .arg(format!("--root={}", root.display()))
        .args(["--force-depends", "--unpack"])
        .arg(package)
        .env("PATH", path());
    silent(&mut unpack)
}

/// dpkg looks for programs of the administrator's.
fn path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// What systemd says is left open to a node is what the guide says, in words and figure.
fn exposure(places: &Places) -> Result<()> {
    let dir = places.target.join("package-check");
    fs::create_dir_all(&dir)?;
    let unit: PathBuf = dir.join("medmesh@.service");
    fs::copy(places.root.join("infra/systemd/medmesh@.service"), &unit)?;
    let said = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true"])
        .arg(&unit)
        .output()
        .context("start systemd-analyze")?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let found = figure(&text, "exposure level for medmesh@i.service: ");
    let found = found.with_context(|| format!("systemd-analyze names no exposure:\n{text}"))?;
    let guide = fs::read_to_string(places.root.join("docs/operations.md"))?;
    let stated = figure(&guide, STATED).context("docs/operations.md states no exposure")?;
    ensure!(
        found <= stated,
        "the unit's exposure is {found}, docs/operations.md states {stated}:\n{text}"
    );
    Ok(())
}

/// The number behind some words.
fn figure(text: &str, words: &str) -> Option<f32> {
    let (_, rest) = text.split_once(words)?;
    rest.split_whitespace().next()?.parse().ok()
}
