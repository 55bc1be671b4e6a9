//! The distribution's packages that the suites need: installed as root, named in one line otherwise.
use super::{postgres, user::is_root};
use crate::run::{on_path, step};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// How often an installation is tried: mirrors answer late at times.
const TRIES: u32 = 3;

/// Installs what is missing.
///
/// # Errors
/// When something is missing and this user may not install it: the line to copy.
pub fn install() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!(
        "apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    if on_path("apt-get").is_none() || !is_root() {
        bail!("the suites need packages that are not installed; run:\n  sudo {line}");
    }
    eprintln!("installing {}", missing.join(" "));
    let mut tried = 0;
    loop {
        tried += 1;
        match apt(&missing) {
            Ok(()) => return Ok(()),
            Err(error) if tried == TRIES => return Err(error).context(line),
            Err(error) => eprintln!("{error:#}; trying again"),
        }
    }
}

fn missing() -> Vec<&'static str> {
    let absent = |program: &str| on_path(program).is_none();
    [
        ("postgresql", postgres::binaries().is_err()),
        ("mosquitto", absent("mosquitto")),
        ("openjdk-17-jre-headless", absent("java")),
        ("maven", absent("mvn")),
        ("python3-venv", !has_venv()),
        ("faketime", absent("faketime")),
        ("swtpm", absent("swtpm")),
        ("perl", absent("perl")),
        ("make", absent("make")),
        ("prometheus", absent("promtool")),
        ("nodejs", absent("node")),
        ("npm", absent("npm")),
    ]
    .into_iter()
    .filter_map(|(package, missing)| missing.then_some(package))
    .collect()
}

fn has_venv() -> bool {
    Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn apt(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        step(
            Command::new("apt-get")
                .args(["-q", "-y"])
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"], packages].concat())
}
