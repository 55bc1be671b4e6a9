//! Turns a variable of the environment, and what this process may do, into `cfg`s, and says when this was built.
use std::process::Command;

/// It is later than this, whatever was built from: 2026-01-01T00:00:00Z, in seconds since 1970.
const AT_LEAST: u64 = 1_767_225_600;

fn main() {
    unguarded();
    mounts();
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

/// `MEDMESH_UNGUARDED=1` becomes `cfg(medmesh_unguarded)`: a build without de-identification, which lib.rs refuses in
/// release. It exists to prove that the search for leaked identifiers finds them.
fn unguarded() {
    println!("cargo::rustc-check-cfg=cfg(medmesh_unguarded)");
    println!("cargo::rerun-if-env-changed=MEDMESH_UNGUARDED");
    if std::env::var_os("MEDMESH_UNGUARDED").is_some_and(|value| value == "1") {
        println!("cargo::rustc-cfg=medmesh_unguarded");
    }
}

/// `cfg(may_mount)` where this process may mount a file system: the tests that need one say *ignored* elsewhere.
fn mounts() {
    /// CAP_SYS_ADMIN, as a bit of the effective capabilities (capabilities(7)).
    const SYS_ADMIN: u32 = 21;
    println!("cargo::rustc-check-cfg=cfg(may_mount)");
    println!("cargo::rerun-if-env-changed=USER");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    if bits.is_some_and(|bits| bits >> SYS_ADMIN & 1 == 1) {
        println!("cargo::rustc-cfg=may_mount");
    }
}
