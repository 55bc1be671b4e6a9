//! Where the binary under test and the data are.
use std::{env, path::PathBuf};

/// The built `medmesh`: `MEDMESH_BIN`, or beside this test's own target folder.
///
/// # Panics
/// When there is none: build the workspace first.
#[must_use]
pub fn medmesh() -> PathBuf {
    let path = env::var_os("MEDMESH_BIN").map_or_else(beside_this_test, PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace`",
        path.display()
    );
    path
}

fn beside_this_test() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let deps = test.parent().expect("a test lies in a folder");
    let profile = if deps.ends_with("deps") {
        deps.parent().unwrap_or(deps)
    } else {
        deps
    };
    profile.join("medmesh")
}

/// The folder of real data: `MEDMESH_DATA`, default `../shared/data` beside the checkout.
#[must_use]
pub fn data() -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    env::var_os("MEDMESH_DATA").map_or_else(default, PathBuf::from)
}
