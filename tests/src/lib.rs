//! Fixtures for tests and benchmarks over the real binary: a mesh of real processes, clients of it, and checkers
//! that share no code with what they check.

/// As the product has it: the simulator allocates small things on many threads.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod binary;
pub mod checker;
pub mod clients;
pub mod clock;
pub mod collector;
pub mod commands;
pub mod engine;
pub mod fuzz;
pub mod https;
pub mod kills;
pub mod mesh;
pub mod mqtt;
pub mod node;
pub mod order;
pub mod postgres;
pub mod region_file;
pub mod rogue;
pub mod sim;
pub mod steps;
pub mod studies;
pub mod wait;
pub mod wire;
