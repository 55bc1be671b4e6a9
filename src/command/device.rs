//! `medmesh device`: the simulated devices of a facility, until a signal stops them.
use super::{
    node::{read, start},
    twin,
};
use crate::{
    cli::{DeviceArgs, DeviceCommand},
    failure::Failure,
};
use anyhow::Context;
use device_fw::sim::{self, config::SimConfig};
use node::config::{LogConfig, Problem, Validate, file};
use serde::Deserialize;

/// The configuration of simulated devices, with what is checked of it.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct SimFile(pub SimConfig);

impl Validate for SimFile {
    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = file("ca", &self.0.ca).into_iter().collect();
        for (index, device) in self.0.devices.iter().enumerate() {
            let files = [("cert", &device.cert), ("key", &device.key)];
            problems.extend(files.into_iter().filter_map(|(key, path)| {
                file(&format!("devices[{index}].{key}"), path.as_deref()?)
            }));
        }
        problems
    }
}

/// Runs the command.
pub async fn run(args: DeviceArgs) -> Result<(), Failure> {
    let args = match args.command {
        DeviceCommand::Simulate(args) => args,
        DeviceCommand::Enrol(args) => return Ok(super::device_enrol::enrol(&args).await?),
        DeviceCommand::List(args) => return twin::list(args).await,
        DeviceCommand::Command(args) => return twin::command(args).await,
        DeviceCommand::Approve(args) => return twin::approve(args).await,
    };
    let SimFile(config) = read(&args.config)?;
    let stop = start(&LogConfig::default())?;
    sim::run(config, stop)
        .await
        .context("simulated devices")
        .map_err(Failure::from)
}
