//! What devices are to emit: the samples of a monitor and of an analyser, and a stream of them.
use crate::signal::{Reading, SIGNALS};
use std::sync::Arc;
use types::{Code, Decimal, Timestamp};

/// What a monitor is to emit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MonitorSample {
    pub(super) time: Timestamp,
    pub(super) patient: Option<Arc<str>>,
    pub(super) readings: [Reading; SIGNALS],
}

/// What an analyser is to emit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LabSample {
    pub(super) time: Timestamp,
    pub(super) patient: Option<Arc<str>>,
    pub(super) readings: Vec<(Code, Decimal)>,
}

/// The samples of one device.
pub(super) struct Feed<T> {
    pub(super) samples: Box<dyn Iterator<Item = T> + Send>,
    /// Whether every run gives the same samples, so that a restart skips those already emitted.
    pub(super) replay: bool,
}

/// Spreads readings over as few samples as possible so that none holds one code twice, in order.
pub(super) fn layers<K: PartialEq, V>(
    readings: impl IntoIterator<Item = (K, V)>,
) -> Vec<Vec<(K, V)>> {
    let mut layers: Vec<Vec<(K, V)>> = Vec::new();
    for (key, value) in readings {
        match layers
            .iter_mut()
            .find(|layer| layer.iter().all(|(other, _)| *other != key))
        {
            Some(layer) => layer.push((key, value)),
            None => layers.push(vec![(key, value)]),
        }
    }
    layers
}

/// The patient in a bed when no stay is replayed.
#[must_use]
pub fn physiology_patient(bed: &str) -> String {
    format!("p-{bed}")
}
