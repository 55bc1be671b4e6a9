//! Times of the steps of a drill, which `cargo xtask drill` gathers in one table. They are said, and never looked at by a test.
use std::time::Duration;

/// Says how long a step took: a row of a table, on a line of its own.
pub fn took(step: &str, took: Duration) {
    println!("\n| {step} | {took:.2?} |");
}
