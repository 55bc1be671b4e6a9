//! Turns `MEDMESH_UNGUARDED=1` into `cfg(medmesh_unguarded)`: a build without checks, which lib.rs refuses in release.
fn main() {
    println!("cargo::rustc-check-cfg=cfg(medmesh_unguarded)");
    println!("cargo::rerun-if-env-changed=MEDMESH_UNGUARDED");
    if std::env::var("MEDMESH_UNGUARDED").is_ok_and(|value| value == "1") {
        println!("cargo::rustc-cfg=medmesh_unguarded");
    }
}
