//! Simulated devices on a real network.

pub mod config;
