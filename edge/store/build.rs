//! Turns a variable of the environment, and what this process may do, into `cfg`s.

fn main() {
    unguarded();
    mounts();
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
