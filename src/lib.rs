//! The mesh, as a library for its own tests.
