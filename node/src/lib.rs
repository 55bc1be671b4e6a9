//! What every node has: configuration, tasks and shutdown, health, telemetry, tokens, HTTPS.

pub mod clock;
pub mod config;
pub mod quantity;
