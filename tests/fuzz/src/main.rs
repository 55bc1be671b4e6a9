//! One fuzz target under libFuzzer: the one that `MEDMESH_FUZZ_TARGET` names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medmesh_tests::fuzz;
use std::sync::LazyLock;

static TARGET: LazyLock<fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("MEDMESH_FUZZ_TARGET").unwrap_or_default();
    fuzz::find(&name).unwrap_or_else(|| panic!("MEDMESH_FUZZ_TARGET={name:?} is no target"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
