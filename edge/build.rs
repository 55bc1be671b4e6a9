//! Turns two variables of the environment into `cfg`s.
use std::path::PathBuf;

fn main() {
    unguarded();
    reference_data();
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

/// `MEDMESH_DATA`, or `shared/data` beside the workspace, becomes `cfg(medmesh_data)` when it is there: tests that
/// replay recorded traces say *ignored* without it.
fn reference_data() {
    println!("cargo::rustc-check-cfg=cfg(medmesh_data)");
    println!("cargo::rerun-if-env-changed=MEDMESH_DATA");
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = std::env::var_os("MEDMESH_DATA").map_or_else(|| beside.into(), PathBuf::from);
    if data.join("modbus-mqtt-traces/mqtt.pcap").is_file() {
        println!("cargo::rustc-cfg=medmesh_data");
    }
}
