//! `cargo xtask package`: a Debian package of the release binary, with unit, examples, rules and bill of materials, built by
//! `dpkg-deb`. It makes a user and starts nothing: which tier a machine is, says its operator.
//!
//! The same commit gives the same bytes: the binary knows no path of the machine that built it, and files are as old as
//! the commit, or as `SOURCE_DATE_EPOCH` says (reproducible-builds.org/specs/source-date-epoch).
mod check;
mod container;
mod inside;
mod reproduce;
mod scripts;

pub use check::check;

use crate::{
    place::Places,
    run::{cargo, silent, step},
    sbom,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Where each file comes from in the clone, where it goes, and its mode.
const FILES: [(&str, &str, u32); 9] = [
    (
        "infra/systemd/medmesh@.service",
        "lib/systemd/system/medmesh@.service",
        0o644,
    ),
    (
        "infra/config/edge.toml",
        "usr/share/doc/medmesh/examples/edge.toml",
        0o644,
    ),
    (
        "infra/config/regional.toml",
        "usr/share/doc/medmesh/examples/regional.toml",
        0o644,
    ),
    (
        "infra/config/global.toml",
        "usr/share/doc/medmesh/examples/global.toml",
        0o644,
    ),
    (
        "docs/operations.md",
        "usr/share/doc/medmesh/operations.md",
        0o644,
    ),
    ("docs/metrics.md", "usr/share/doc/medmesh/metrics.md", 0o644),
    ("docs/alerts.md", "usr/share/doc/medmesh/alerts.md", 0o644),
    (
        "infra/observability/rules.yaml",
        "usr/share/medmesh/rules.yaml",
        0o644,
    ),
    ("LICENSE", "usr/share/doc/medmesh/copyright", 0o644),
];
/// Scripts of the package.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// What says how old the files of a package are, in seconds since 1970.
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// OpenSSL keeps the folders from which it would load modules, and takes them for below its own build unless make is told
/// otherwise (GNU make, "Variables Used by Implicit Rules": GNUMAKEFLAGS). Nothing is ever there.
const MAKE: (&str, &str) = (
    "GNUMAKEFLAGS",
    "ENGINESDIR=/usr/lib/medmesh/engines MODULESDIR=/usr/lib/medmesh/modules",
);

/// Builds the package; prints where it is. `twice`: from two copies of the clone, and compares.
pub fn package(built: Option<PathBuf>, twice: bool) -> Result<bool> {
    let places = Places::find()?;
    if twice {
        let [one, other] = reproduce::twice(&places)?;
        println!(
            "{} and {} are the same bytes",
            one.display(),
            other.display()
        );
        return Ok(true);
    }
    let epoch = epoch(&places.root)?;
    let binary = match built {
        Some(binary) => binary,
        None => release(&places, &epoch)?,
    };
    println!(
        "{}",
        pack(&places, &binary, &places.target, &epoch)?.display()
    );
    Ok(true)
}

/// Builds the release binary, in a folder of its own, as its flags are others than those of every other build.
fn release(places: &Places, epoch: &str) -> Result<PathBuf> {
    let target = places.target.join("package-build");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let home = home.context("set HOME or CARGO_HOME")?;
    let paths = [
        (places.root.as_path(), "/src"),
        (&home, "/cargo"),
        (&target, "/target"),
    ];
    let remap = paths.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    let arguments = [
        "build",
        "--release",
        "--locked",
        "--workspace",
        "--bin",
        "medmesh",
    ];
    let mut build = cargo(places, &arguments);
    build
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", remap.join("\u{1f}"))
        .env(MAKE.0, MAKE.1)
        .env(EPOCH, epoch);
    step(&mut build)?;
    let binary = target.join("release/medmesh");
    inside::no_path(&binary, &paths).with_context(|| {
        format!(
            "remove {} when it is of an earlier version",
            target.display()
        )
    })?;
    Ok(binary)
}

/// How old the package's files are said to be: what the variable says, or else the last commit.
fn epoch(root: &Path) -> Result<String> {
    if let Some(set) = std::env::var_os(EPOCH) {
        let text = set.to_string_lossy().into_owned();
        ensure!(
            text.parse::<u64>().is_ok(),
            "{EPOCH}: is not a number of seconds since 1970: {text}"
        );
        return Ok(text);
    }
    let mut last = Command::new("git");
    last.args(["log", "-1", "--format=%ct"]).current_dir(root);
    said(&mut last).with_context(|| format!("no commit says how old the files are: set {EPOCH}"))
}

/// Packs a binary into `to`; says where the package is.
fn pack(places: &Places, binary: &Path, to: &Path, epoch: &str) -> Result<PathBuf> {
    let version = version(&places.root)?;
    let architecture = said(Command::new("dpkg").arg("--print-architecture"))?;
    let tree = to.join("package");
    fs::remove_dir_all(&tree).ok();
    lay_out(places, binary, &tree)?;
    let size = kibibytes(&tree)?.to_string();
    let source = places.root.join("infra/packaging/debian");
    let control = fs::read_to_string(source.join("control"))?;
    let control = [
        ("@VERSION@", version.as_str()),
        ("@ARCHITECTURE@", &architecture),
        ("@LIBC@", &inside::libc(binary)?),
        ("@SIZE@", &size),
    ]
    .iter()
    .fold(control, |text, (mark, value)| text.replace(mark, value));
    let about = tree.join("DEBIAN");
    fs::create_dir_all(&about)?;
    fs::write(about.join("control"), control)?;
    for script in SCRIPTS {
        put(&source.join(script), &about.join(script), 0o755)?;
    }
    narrow(&tree)?;
    let package = to.join(format!("medmesh_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    // With more threads the same bytes come to be others when they are compressed, by how many cores a machine has.
    build
        .args(["--root-owner-group", "--threads-max=1", "--build"])
        .arg(&tree)
        .arg(&package)
        .env(EPOCH, epoch);
    silent(&mut build)?;
    Ok(package)
}

/// Everything that the package installs.
fn lay_out(places: &Places, binary: &Path, tree: &Path) -> Result<()> {
    put(binary, &tree.join("usr/bin/medmesh"), 0o755)?;
    for (from, to, mode) in FILES {
        put(&places.root.join(from), &tree.join(to), mode)?;
    }
    let unit = tree.join("lib/systemd/system/medmesh@.service");
    // The unit of a machine without packages runs what an administrator put there.
    let text = fs::read_to_string(&unit)?.replace("/usr/local/bin/medmesh", "/usr/bin/medmesh");
    fs::write(&unit, text)?;
    sbom::write(Some(&tree.join("usr/share/doc/medmesh/sbom.cdx.json")))?;
    Ok(())
}

/// Folders and files have the modes that they are to be installed with, whatever this user's umask is.
fn narrow(tree: &Path) -> Result<()> {
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    mode(tree, 0o755)?;
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        if path.is_dir() {
            narrow(&path)?;
        } else {
            let runs = path.metadata()?.permissions().mode() & 0o100 != 0;
            mode(&path, if runs { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}

/// How much a tree takes when it is installed: each file by whole kibibytes, each folder one (deb-substvars(5),
/// Installed-Size). What a file system says of its folders is another number on every machine.
fn kibibytes(tree: &Path) -> Result<u64> {
    let mut whole = 1;
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        whole += if path.is_dir() {
            kibibytes(&path)?
        } else {
            path.metadata()?.len().div_ceil(1024)
        };
    }
    Ok(whole)
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    fs::set_permissions(to, Permissions::from_mode(mode))?;
    Ok(())
}

/// The version of the workspace.
fn version(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join("Cargo.toml"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("version = \""));
    let version = line.and_then(|rest| rest.split('"').next());
    version
        .map(str::to_owned)
        .context("Cargo.toml states no version")
}

fn said(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("start {program}"))?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tree_takes_is_said_by_its_files_and_the_number_of_its_folders() -> Result<()> {
        let dir = crate::run::temp_dir("kibibytes")?;
        fs::create_dir(dir.join("folder"))?;
        for (name, bytes) in [("one", 1), ("folder/two", 1025), ("folder/none", 0)] {
            fs::write(dir.join(name), vec![b'x'; bytes])?;
        }
        assert_eq!(kibibytes(&dir)?, 2 + 1 + 2);
        fs::remove_dir_all(&dir)?;
        Ok(())
    }
}
