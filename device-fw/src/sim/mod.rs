//! Simulated devices on a real network: bedside monitors and cold-chain probes as Modbus TCP and RTU slaves, a laboratory
//! analyser as an MQTT 5 client.
//!
//! Around the firmware core this adds what a chip would have: sockets, a clock, something to measure. What is emitted
//! is written to `sent.ndjson` first, so that a checker can compare it with what arrived; a cold-chain probe is a
//! state that the edge samples when it likes, emits nothing of its own and is not in that file. No test double: the
//! edge cannot tell it from a device.
mod analyser;
mod beds;
mod clock;
pub mod config;
mod convert;
mod emit;
pub mod fault;
mod feed;
pub mod fuzzing;
mod kept;
mod numerics;
mod obey;
mod physiology;
mod physionet;
mod probe;
mod sample;
mod sent;
mod serve;
mod station;
mod survey;
mod wander;

use crate::{health::Health, registers::Monitor, signal::Sample};
pub use beds::{Assignment, bed_assignments, plan};
use clock::SimClock;
use config::{SimConfig, SimDevice, Source};
use feed::Feeds;
use obey::Obedient;
pub use physionet::{
    outcomes::beside as outcomes_beside,
    recorded::{Recorded, recorded},
};
pub use sample::physiology_patient;
use sent::SentLog;
use station::{Machine, Station};
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};
pub use survey::Survey;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use types::DeviceKind;

/// Samples that a simulated monitor keeps until they are acknowledged. A minute apart they are almost three days;
/// beyond that the simulator holds back what it would have measured, where a real device would show an overflow.
pub const RING: usize = 4_096;

/// Why the simulated devices do not run.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A file or socket.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The configuration does not make sense.
    #[error("{0}")]
    Config(String),
    /// A data file is not what it should be.
    #[error("{path}: {problem}")]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl SimError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs the devices of one facility until `stop`. A restart goes on where `sent.ndjson` ends, in a new epoch.
///
/// # Errors
/// [`SimError`] when a file cannot be read or written, an address cannot be bound, or the configuration is wrong.
pub async fn run(config: SimConfig, stop: CancellationToken) -> Result<(), SimError> {
    let clock = SimClock::new(config.clock);
    let sent = Arc::new(SentLog::open(&config.sent)?);
    let mut feeds = Feeds::load(&config, clock.mesh()).await?;
    let survey = feeds.survey();
    tracing::info!(
        facility = %config.facility,
        epoch = sent.epoch(),
        normalised = survey.normalised,
        unknown = survey.unknown,
        left_out = survey.left_out_rows(),
        "devices start"
    );
    let (faults, control) = fault::watch(config.control.clone(), stop.clone());
    let mut services = JoinSet::new();
    let mut emitters = JoinSet::new();
    let mut buses: BTreeMap<PathBuf, Vec<Arc<Station>>> = BTreeMap::new();
    services.spawn(control);
    for device in &config.devices {
        match device.kind {
            DeviceKind::BedsideMonitor | DeviceKind::ColdChain => {
                let mut station = station(device, clock, config.seed, faults.clone());
                if let Some(by) = &config.commanded {
                    station = station.keeping_in(&by.state)?;
                }
                let station = Arc::new(station);
                if device.kind == DeviceKind::BedsideMonitor {
                    let feed = feeds.monitor(device)?;
                    emitters.spawn(emit::monitor(station.clone(), feed, sent.clone(), clock));
                }
                if let Some(address) = device.listen {
                    let what = format!("device {} on {address}", device.id);
                    let listener = TcpListener::bind(address)
                        .await
                        .map_err(SimError::io(what))?;
                    services.spawn(serve::tcp(listener, station, stop.clone()));
                } else if let Some(pty) = &device.pty {
                    buses.entry(pty.clone()).or_default().push(station);
                } else {
                    return Err(SimError::Config(format!(
                        "device {}: needs `listen` or `pty`",
                        device.id
                    )));
                }
            }
            DeviceKind::LabAnalyser => {
                let link = analyser::Link::new(&config, device)?;
                let commanded = config.commanded.as_ref();
                let obedient = commanded.map(|by| Obedient::new(by, device)).transpose()?;
                emitters.spawn(analyser::run(
                    (link, obedient),
                    feeds.analyser(device),
                    sent.clone(),
                    clock,
                    faults.clone(),
                ));
            }
            DeviceKind::External => {}
        }
    }
    for (path, stations) in buses {
        services.spawn(serve::rtu(serve::Pty::open(&path)?, stations, stop.clone()));
    }
    finish(config, sent, emitters, services, stop).await
}

/// What a facility with so many monitors reads of a replay, and what of it cannot be emitted: a csv is read anew at every
/// monitor, a stay at one bed.
///
/// # Errors
/// [`SimError`] when it cannot be read.
pub fn survey(source: &Source, monitors: u64) -> Result<Survey, SimError> {
    match source {
        Source::Physiology => Ok(Survey::default()),
        Source::Physionet {
            archive,
            outcomes,
            beds,
        } => {
            let files = (archive.as_path(), outcomes.as_deref());
            let ward = physionet::Ward::load(files, beds, types::Timestamp(0))?;
            Ok(ward.survey().clone())
        }
        Source::Numerics { csv } => {
            let rows = numerics::load(csv)?;
            Ok(numerics::survey(&rows).times(monitors))
        }
    }
}

fn station(device: &SimDevice, clock: SimClock, seed: u64, faults: fault::Faults) -> Station {
    let machine = if device.kind == DeviceKind::ColdChain {
        Machine::Probe(Box::new(probe::Store::new(seed, &device.id)))
    } else {
        Machine::Monitor(Box::new(Monitor::new(
            vec![Sample::default(); RING],
            Health::OK,
        )))
    };
    Station::new(device.id.clone(), device.unit_id, machine, clock, faults)
}

/// Waits for the end of every replay, says so in the `done` file, and goes on serving until `stop`.
async fn finish(
    config: SimConfig,
    sent: Arc<SentLog>,
    mut emitters: JoinSet<Result<(), SimError>>,
    mut services: JoinSet<()>,
    stop: CancellationToken,
) -> Result<(), SimError> {
    let mut told = matches!(config.source, Source::Physiology);
    loop {
        if emitters.is_empty() && !told {
            told = true;
            sent.finish(&config.done)?;
            tracing::info!(facility = %config.facility, readings = sent.readings(), "replay finished");
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = emitters.join_next() => match ended {
                Ok(outcome) => outcome?,
                Err(error) => return Err(SimError::Config(format!("a device stopped: {error}"))),
            },
        }
    }
    emitters.shutdown().await;
    services.shutdown().await;
    Ok(())
}
