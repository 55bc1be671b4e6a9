//! What every node has: configuration, tasks and shutdown, health, telemetry, traces, tokens, HTTPS.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod admission;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod discipline;
pub mod guesses;
pub mod health;
pub mod https;
pub mod listeners;
pub mod media;
pub mod outbound;
pub mod problem;
pub mod quantity;
pub mod query;
pub mod renewal;
pub mod shares;
pub mod shutdown;
pub mod task;
pub mod telemetry;
pub mod token;
pub mod trace;
