//! Turns `MEDMESH_UNGUARDED=1` into `cfg(medmesh_unguarded)`: a build without de-identification, which lib.rs refuses
//! in release. It exists to prove that the search for leaked identifiers finds them.
fn main() {
    println!("cargo::rustc-check-cfg=cfg(medmesh_unguarded)");
    println!("cargo::rerun-if-env-changed=MEDMESH_UNGUARDED");
    if std::env::var_os("MEDMESH_UNGUARDED").is_some_and(|value| value == "1") {
        println!("cargo::rustc-cfg=medmesh_unguarded");
    }
}
