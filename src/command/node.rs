//! `medmesh edge|regional|global --config FILE`: one node, until a signal stops it.
use crate::failure::Failure;
use anyhow::{Context, anyhow};
use edge::config::EdgeConfig;
use global::config::GlobalConfig;
use node::config::{LogConfig, Validate, environment, load};
use node::{descriptors, shutdown, telemetry};
use regional::config::RegionalConfig;
use serde::de::DeserializeOwned;
use std::{
    fs::{File, TryLockError},
    path::Path,
};
use tokio_util::sync::CancellationToken;

/// What the process of a node keeps locked in its data directory for as long as it runs.
const LOCK: &str = "node.lock";

/// Runs an edge node.
pub async fn edge(path: &Path) -> Result<(), Failure> {
    let config: EdgeConfig = read(path)?;
    let stop = start(&config.log)?;
    let _alone = alone(&config.data_dir)?;
    edge::run(config, stop)
        .await
        .context("edge node")
        .map_err(Failure::from)
}

/// Runs a regional node.
pub async fn regional(path: &Path) -> Result<(), Failure> {
    let config: RegionalConfig = read(path)?;
    let stop = start(&config.log)?;
    let _alone = alone(&config.data_dir)?;
    regional::run(config, stop)
        .await
        .context("regional node")
        .map_err(Failure::from)
}

/// Runs the global node.
pub async fn global(path: &Path) -> Result<(), Failure> {
    let config: GlobalConfig = read(path)?;
    let stop = start(&config.log)?;
    let _alone = alone(&config.data_dir)?;
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

/// Keeps a data directory for this process, until what is returned is dropped or the process ends, however it does. Two
/// nodes on one, which other addresses do not hinder, would tell a device everything twice and poll one serial line together.
///
/// # Errors
/// When another process has it, or it cannot be made.
fn alone(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join(LOCK);
    let at = || path.display().to_string();
    storage::file::private_dir(data_dir).with_context(|| data_dir.display().to_string())?;
    let file = File::create(&path).with_context(at)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(anyhow!(
            "data_dir: a node runs on {} already: stop that one first",
            data_dir.display()
        )),
        Err(TryLockError::Error(error)) => Err(anyhow::Error::new(error).context(at())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_node_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = alone(&data).unwrap();
        let error = alone(&data).unwrap_err().to_string();
        assert!(error.starts_with("data_dir: a node runs on "), "{error}");
        assert!(error.contains(&*data.to_string_lossy()), "{error}");
        drop(first);
        assert!(alone(&data).is_ok());
    }
}
