//! Says whether the recorded traces are there.
use std::path::PathBuf;

/// `MEDMESH_DATA`, or `shared/data` beside the workspace, becomes `cfg(medmesh_data)` when it is there: tests that
/// replay recorded traces say *ignored* without it.
fn main() {
    println!("cargo::rustc-check-cfg=cfg(medmesh_data)");
    println!("cargo::rerun-if-env-changed=MEDMESH_DATA");
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let data = std::env::var_os("MEDMESH_DATA").map_or_else(|| beside.into(), PathBuf::from);
    if data.join("modbus-mqtt-traces/mqtt.pcap").is_file() {
        println!("cargo::rustc-cfg=medmesh_data");
    }
}
