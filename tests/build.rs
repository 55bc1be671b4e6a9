//! Tells the tests which engines the run has asked for: what nobody asked for shows as ignored.
fn main() {
    for (variable, cfg) in [
        ("MEDMESH_TEST_PYTHON", "asked_for_python"),
        ("MEDMESH_TEST_POSTGRES_URL", "asked_for_postgres"),
        ("MEDMESH_TEST_CASSANDRA", "asked_for_engines"),
        ("MEDMESH_TEST_SWTPM", "asked_for_swtpm"),
        ("MEDMESH_UNGUARDED_BIN", "asked_for_unguarded"),
    ] {
        println!("cargo:rerun-if-env-changed={variable}");
        println!("cargo:rustc-check-cfg=cfg({cfg})");
        if std::env::var_os(variable).is_some() {
            println!("cargo:rustc-cfg={cfg}");
        }
    }
    println!("cargo:rerun-if-env-changed=PATH");
    let path = std::env::var_os("PATH").unwrap_or_default();
    for (program, cfg) in [
        ("systemd-analyze", "has_systemd"),
        ("terraform", "has_terraform"),
    ] {
        println!("cargo:rustc-check-cfg=cfg({cfg})");
        if std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            println!("cargo:rustc-cfg={cfg}");
        }
    }
}
