//! What devices are to emit and when: one stream of samples per device, in the order of their times.
use super::{
    SimError,
    config::{SimConfig, SimDevice, Source},
    numerics, physiology,
    physionet::Ward,
    sample::{Feed, LabSample, MonitorSample, physiology_patient},
    survey::Survey,
};
use std::sync::Arc;
use types::{DeviceKind, Timestamp};

/// Where the samples of a facility come from.
pub(super) enum Feeds {
    Physiology {
        seed: u64,
        start: Timestamp,
        every_ms: i64,
        beds: Vec<String>,
    },
    Physionet(Ward),
    Numerics {
        rows: Arc<[numerics::Row]>,
        start: Timestamp,
    },
}

impl Feeds {
    /// Reads what is to be replayed; `now` is when a simulation that replays nothing begins.
    pub(super) async fn load(config: &SimConfig, now: Timestamp) -> Result<Self, SimError> {
        let start = config.clock.mesh_origin;
        match &config.source {
            Source::Physiology => Ok(Self::Physiology {
                seed: config.seed,
                start: now,
                every_ms: config.sample_every_ms.max(1),
                beds: beds(config),
            }),
            Source::Physionet {
                archive,
                outcomes,
                beds,
            } => {
                let (archive, outcomes) = (archive.clone(), outcomes.clone());
                let beds = beds.clone();
                blocking(move || Ward::load((&archive, outcomes.as_deref()), &beds, start))
                    .await
                    .map(Self::Physionet)
            }
            Source::Numerics { csv } => {
                let csv = csv.clone();
                let rows = blocking(move || numerics::load(&csv)).await?;
                Ok(Self::Numerics {
                    rows: rows.into(),
                    start,
                })
            }
        }
    }

    /// The samples of a monitor.
    pub(super) fn monitor(&mut self, device: &SimDevice) -> Result<Feed<MonitorSample>, SimError> {
        let bed = device.bed.as_deref().ok_or_else(|| {
            SimError::Config(format!("device {}: a monitor needs `bed`", device.id))
        })?;
        Ok(match self {
            Self::Physiology {
                seed,
                start,
                every_ms,
                ..
            } => {
                let patient = physiology::Vitals::new(*seed, &device.id);
                Feed {
                    samples: Box::new(patient.samples(bed, *start, *every_ms)),
                    replay: false,
                }
            }
            Self::Physionet(ward) => Feed {
                samples: Box::new(ward.monitor(bed)),
                replay: true,
            },
            Self::Numerics { rows, start } => {
                let patient = Some(physiology_patient(bed).into());
                Feed {
                    samples: Box::new(numerics::samples(rows.clone(), *start, patient)),
                    replay: true,
                }
            }
        })
    }

    /// The samples of the facility's analyser.
    pub(super) fn analyser(&mut self, device: &SimDevice) -> Feed<LabSample> {
        match self {
            Self::Physiology {
                seed, start, beds, ..
            } => {
                let laboratory = physiology::Laboratory::new(*seed, &device.id);
                Feed {
                    samples: Box::new(laboratory.samples(beds.clone(), *start)),
                    replay: false,
                }
            }
            Self::Physionet(ward) => Feed {
                samples: Box::new(ward.analyser()),
                replay: true,
            },
            Self::Numerics { .. } => Feed {
                samples: Box::new(std::iter::empty()),
                replay: true,
            },
        }
    }

    /// What is in the data that is replayed.
    pub(super) fn survey(&self) -> Survey {
        match self {
            Self::Physionet(ward) => ward.survey().clone(),
            Self::Physiology { .. } => Survey::default(),
            Self::Numerics { rows, .. } => numerics::survey(rows),
        }
    }
}

fn beds(config: &SimConfig) -> Vec<String> {
    let monitors = config
        .devices
        .iter()
        .filter(|device| device.kind == DeviceKind::BedsideMonitor);
    monitors.filter_map(|device| device.bed.clone()).collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SimError> + Send + 'static,
) -> Result<T, SimError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SimError::Config(format!("reading the data failed: {error}")))?
}
