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
use device_fw::sim::{
    self,
    config::{SimConfig, SimDevice},
};
use node::config::{LogConfig, Problem, Validate, different_ports, file};
use serde::Deserialize;
use types::DeviceKind;

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
        problems.extend(unserved(&self.0.devices));
        if self.0.sample_every_ms < 1 {
            let message = "is a whole number of milliseconds, 1 at least";
            problems.push(Problem::new("sample_every_ms", message));
        }
        problems
    }
}

/// Modbus devices that nobody can ask: without an address, or at another one's.
fn unserved(devices: &[SimDevice]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut listeners = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let is_modbus = matches!(
            device.kind,
            DeviceKind::BedsideMonitor | DeviceKind::ColdChain
        );
        if is_modbus && device.listen.is_none() && device.pty.is_none() {
            let message = "is missing: a Modbus device has `listen` or `pty`";
            problems.push(Problem::new(format!("devices[{index}].listen"), message));
        }
        let at = |listen| (format!("devices[{index}].listen"), listen);
        listeners.extend(device.listen.filter(|_| is_modbus).map(at));
    }
    let listeners: Vec<_> = listeners
        .iter()
        .map(|(key, listen)| (key.as_str(), *listen))
        .collect();
    problems.extend(different_ports(&listeners));
    problems
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modbus_device_is_served_at_an_address_of_its_own() {
        let device = |text: &str| -> SimDevice { toml::from_str(text).unwrap() };
        let devices = [
            device("id = 'a'\nkind = 'bedside-monitor'\nlisten = '127.0.0.1:7001'"),
            device("id = 'b'\nkind = 'cold-chain'"),
            device("id = 'c'\nkind = 'lab-analyser'"),
            device("id = 'd'\nkind = 'bedside-monitor'\npty = '/tmp/tty'"),
            device("id = 'e'\nkind = 'cold-chain'\nlisten = '127.0.0.1:7001'"),
        ];
        let found = unserved(&devices).into_iter();
        let found: Vec<_> = found.map(|problem| problem.to_string()).collect();
        let expected = [
            "devices[1].listen: is missing: a Modbus device has `listen` or `pty`",
            "devices[4].listen: is the address of devices[0].listen too",
        ];
        assert_eq!(found, expected);
    }
}
