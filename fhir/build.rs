//! Turns `MEDMESH_UNGUARDED=1` into `cfg(medmesh_unguarded)`: a build without checks, which lib.rs refuses in release.
use std::path::PathBuf;

fn main() {
    reference_data();
    println!("cargo::rustc-check-cfg=cfg(medmesh_unguarded)");
    println!("cargo::rerun-if-env-changed=MEDMESH_UNGUARDED");
    if std::env::var("MEDMESH_UNGUARDED").is_ok_and(|value| value == "1") {
        println!("cargo::rustc-cfg=medmesh_unguarded");
    }
}

/// `MEDMESH_DATA`, or `shared/data` beside the workspace, becomes `cfg(medmesh_data)` when it holds FHIR: tests that read
/// its examples say *ignored* without them.
fn reference_data() {
    println!("cargo::rustc-check-cfg=cfg(medmesh_data)");
    println!("cargo::rerun-if-env-changed=MEDMESH_DATA");
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = std::env::var_os("MEDMESH_DATA").map_or_else(|| beside.into(), PathBuf::from);
    if data.join("fhir-r4/us-core-examples").is_dir() {
        println!("cargo::rustc-cfg=medmesh_data");
    }
}
