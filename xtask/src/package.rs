//! `cargo xtask package`: a Debian package of the release binary, with unit, examples, rules and bill of materials, built by
//! `dpkg-deb`. It makes a user and starts nothing: which tier a machine is, says its operator.
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
const FILES: [(&str, &str, u32); 8] = [
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
    (
        "infra/observability/rules.yaml",
        "usr/share/medmesh/rules.yaml",
        0o644,
    ),
    ("LICENSE", "usr/share/doc/medmesh/copyright", 0o644),
];
/// Scripts of the package.
const SCRIPTS: [&str; 2] = ["postinst", "postrm"];

/// Builds the package; prints where it is.
pub fn package(built: Option<PathBuf>) -> Result<bool> {
    let places = Places::find()?;
    let binary = match built {
        Some(binary) => binary,
        None => {
            step(&mut cargo(
                &places,
                &["build", "--release", "--workspace", "--bin", "medmesh"],
            ))?;
            places.target.join("release/medmesh")
        }
    };
    let version = version(&places.root)?;
    let architecture = said(Command::new("dpkg").arg("--print-architecture"))?;
    let tree = places.target.join("package");
    fs::remove_dir_all(&tree).ok();
    put(&binary, &tree.join("usr/bin/medmesh"), 0o755)?;
    for (from, to, mode) in FILES {
        put(&places.root.join(from), &tree.join(to), mode)?;
    }
    let unit = tree.join("lib/systemd/system/medmesh@.service");
    // The unit of a machine without packages runs what an administrator put there.
    let text = fs::read_to_string(&unit)?.replace("/usr/local/bin/medmesh", "/usr/bin/medmesh");
    fs::write(&unit, text)?;
    sbom::write(Some(&tree.join("usr/share/doc/medmesh/sbom.cdx.json")))?;
    let size = said(
        Command::new("du")
            .args(["-sk", "--apparent-size"])
            .arg(&tree),
    )?;
    let size = size.split_whitespace().next().unwrap_or("0").to_owned();
    let source = places.root.join("infra/packaging/debian");
    let control = fs::read_to_string(source.join("control"))?;
    let control = [
        ("@VERSION@", version.as_str()),
        ("@ARCHITECTURE@", &architecture),
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
    let package = places
        .target
        .join(format!("medmesh_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "--build"])
        .arg(&tree)
        .arg(&package);
    silent(&mut build)?;
    println!("{}", package.display());
    Ok(true)
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
    let output = command.output().context("start a program of dpkg")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
