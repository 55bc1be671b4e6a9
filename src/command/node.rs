//! `medmesh edge|regional|global --config FILE`: one node, until a signal stops it.
use crate::failure::Failure;
use anyhow::Context;
use edge::config::EdgeConfig;
use global::config::GlobalConfig;
use node::config::{LogConfig, Validate, environment, load};
use node::{descriptors, shutdown, telemetry};
use regional::config::RegionalConfig;
use serde::de::DeserializeOwned;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Runs an edge node.
pub async fn edge(path: &Path) -> Result<(), Failure> {
    let config: EdgeConfig = read(path)?;
    let stop = start(&config.log)?;
    edge::run(config, stop)
        .await
        .context("edge node")
        .map_err(Failure::from)
}

/// Runs a regional node.
pub async fn regional(path: &Path) -> Result<(), Failure> {
    let config: RegionalConfig = read(path)?;
    let stop = start(&config.log)?;
    regional::run(config, stop)
        .await
        .context("regional node")
        .map_err(Failure::from)
}

/// Runs the global node.
pub async fn global(path: &Path) -> Result<(), Failure> {
    let config: GlobalConfig = read(path)?;
    let stop = start(&config.log)?;
    global::run(config, stop)
        .await
        .context("global node")
        .map_err(Failure::from)
}

/// Reads a configuration with the overrides of the environment.
pub fn read<T: DeserializeOwned + Validate>(path: &Path) -> Result<T, Failure> {
    Ok(load(path, environment())?)
}

/// Starts what every long-running process has: logs, metrics and the token that stops it.
pub fn start(log: &LogConfig) -> Result<CancellationToken, Failure> {
    // Before anything is made: every file of a node is its user's alone.
    storage::private::make_private();
    telemetry::init_logs(log)?;
    telemetry::init_metrics();
    let stop = shutdown::on_signals()?;
    let descriptors = descriptors::raise();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), descriptors, "starting");
    Ok(stop)
}
