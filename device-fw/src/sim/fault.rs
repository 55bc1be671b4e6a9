//! Faults of simulated devices, for tests: a small TOML file that says which device misbehaves how.
use serde::Deserialize;
use std::{collections::BTreeMap, future::Future, path::PathBuf, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::DeviceId;

/// How often the file is read, real time.
const EVERY: Duration = Duration::from_millis(25);

/// How a device misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// It does not answer; an analyser holds back what it measures.
    Silent,
    /// Its main loop stopped: it answers with the registers of that instant, whatever is written to it.
    Frozen,
    /// It answers every request with exception 4 (device failure).
    Exception,
    /// Every second read is torn: registers of two instants in one answer, with unequal guards.
    Torn,
    /// It answers late, but within the time-out of the profile.
    Slow,
}

/// The faults now in force.
#[derive(Clone, Debug)]
pub struct Faults(watch::Receiver<BTreeMap<DeviceId, Fault>>);

impl Faults {
    /// The fault of a device.
    #[must_use]
    pub fn of(&self, device: &DeviceId) -> Fault {
        self.0.borrow().get(device).copied().unwrap_or_default()
    }
}

/// The faults in a file, and the task that reads it. A file that cannot be read leaves the faults as they are.
pub(super) fn watch(
    file: Option<PathBuf>,
    stop: CancellationToken,
) -> (Faults, impl Future<Output = ()> + Send) {
    let (set, faults) = watch::channel(BTreeMap::new());
    let task = async move {
        let Some(file) = file else { return };
        let mut every = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = every.tick() => {}
            }
            let Ok(text) = tokio::fs::read_to_string(&file).await else {
                continue;
            };
            match toml::from_str(&text) {
                Ok(now) => {
                    set.send_if_modified(|faults| {
                        let changed = *faults != now;
                        *faults = now;
                        changed
                    });
                }
                Err(_) => {
                    tracing::warn!(file = %file.display(), "the file of faults is not understood")
                }
            }
        }
    };
    (Faults(faults), task)
}
