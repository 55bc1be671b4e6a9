//! A fault for tests: a thread that a store cannot do without ends by itself.

/// Names a thread that is to end at once, so that a test of processes sees what becomes of its node.
const VARIABLE: &str = "MEDMESH_TEST_END_THREAD";

/// Whether a test wants the thread of this name to end. Never in a release build.
#[must_use]
pub fn is_to_end(name: &str) -> bool {
    cfg!(debug_assertions) && std::env::var_os(VARIABLE).is_some_and(|asked| asked == name)
}
