//! Says when this was built.
use std::process::Command;

/// It is later than this, whatever was built from: 2026-01-01T00:00:00Z, in seconds since 1970.
const AT_LEAST: u64 = 1_767_225_600;

fn main() {
    built();
}

/// `MEDMESH_BUILT_S`, seconds since 1970: part of the floor of a node's clock. `SOURCE_DATE_EPOCH`
/// (reproducible-builds.org), or else the time of the commit. The history is not watched: a build that goes on from an
/// earlier one may keep the time of an earlier commit, which is as true a floor.
fn built() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let seconds = given
        .or_else(committed)
        .and_then(|text| text.trim().parse().ok());
    let seconds = seconds.map_or(AT_LEAST, |seconds: u64| seconds.max(AT_LEAST));
    println!("cargo::rustc-env=MEDMESH_BUILT_S={seconds}");
}

fn committed() -> Option<String> {
    let git = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .output()
        .ok()?;
    String::from_utf8(git.stdout).ok()
}
