//! Fixtures for tests and benchmarks over the real binary: a mesh of real processes, clients of it, and checkers
//! that share no code with what they check.

pub mod binary;
pub mod checker;
pub mod clock;
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
pub mod wait;
