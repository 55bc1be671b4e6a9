//! Fixtures, process tests and benchmarks over the real binary.
