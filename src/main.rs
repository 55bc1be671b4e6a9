//! The mesh.
fn main() {}
