//! `sent.ndjson`: every emitted reading, one JSON object a line, in the order of emission, written before the device
//! shows or sends it. It is the devices' flash memory too: after a restart they offer its last samples again under
//! their old numbers (the edge knows them as duplicates) and go on in a new epoch.
use super::{RING, SimError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};
use types::{Code, DeviceId, DeviceKind, Timestamp, Value};

/// One line.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) device: DeviceId,
    pub(super) kind: DeviceKind,
    pub(super) epoch: u32,
    pub(super) seq: u64,
    pub(super) index: u16,
    pub(super) time: String,
    pub(super) patient: Option<String>,
    pub(super) code: Code,
    pub(super) unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) absent: Option<String>,
}

/// A sample as it is logged.
#[derive(Clone, Debug)]
pub(super) struct Emitted<'a> {
    pub(super) device: &'a DeviceId,
    pub(super) kind: DeviceKind,
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    pub(super) patient: Option<&'a str>,
    pub(super) readings: &'a [(Code, Value)],
}

/// What an earlier run emitted for one device: how many samples, and the lines of the last ones.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) samples: u64,
    last: VecDeque<Vec<Line>>,
}

impl Earlier {
    /// The lines of the last samples, at most `count` of them, one list a sample.
    pub(super) fn last(&mut self, count: usize) -> impl Iterator<Item = Vec<Line>> {
        self.last.drain(self.last.len().saturating_sub(count)..)
    }

    fn push(&mut self, line: Line) {
        match self.last.back_mut() {
            Some(sample)
                if sample
                    .first()
                    .is_some_and(|first| (first.epoch, first.seq) == (line.epoch, line.seq)) =>
            {
                sample.push(line)
            }
            _ => {
                self.samples += 1;
                self.last.push_back(vec![line]);
                if self.last.len() > RING {
                    self.last.pop_front();
                }
            }
        }
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct SentLog {
    file: Mutex<File>,
    readings: AtomicU64,
    epoch: u32,
    earlier: Mutex<HashMap<DeviceId, Earlier>>,
}

impl SentLog {
    /// Opens the file, reads what an earlier run left in it, and begins a new epoch.
    pub(super) fn open(path: &Path) -> Result<Self, SimError> {
        let failed = |error| SimError::io(path.display().to_string())(error);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)
            .map_err(failed)?;
        let mut log = Self {
            epoch: next_epoch(&path.with_extension("epoch"))?,
            readings: AtomicU64::new(0),
            earlier: Mutex::default(),
            file: Mutex::new(file.try_clone().map_err(failed)?),
        };
        let mut text = Vec::new();
        let mut reader = BufReader::new(&file);
        let mut whole = 0;
        while reader.read_until(b'\n', &mut text).map_err(failed)? > 0 {
            if text.pop() != Some(b'\n') {
                break;
            }
            let line = serde_json::from_slice(&text).map_err(|error| SimError::Data {
                path: path.into(),
                problem: error.to_string(),
            })?;
            whole += text.len() as u64 + 1;
            log.remember(line);
            text.clear();
        }
        // A line cut off by a crash belongs to a sample that was never shown.
        file.set_len(whole).map_err(failed)?;
        Ok(log)
    }

    fn remember(&mut self, line: Line) {
        *self.readings.get_mut() += 1;
        self.earlier
            .get_mut()
            .entry(line.device.clone())
            .or_default()
            .push(line);
    }

    /// The epoch of this run: larger than every earlier one.
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What an earlier run emitted for a device; asked once.
    pub(super) fn earlier(&self, device: &DeviceId) -> Earlier {
        self.earlier.lock().remove(device).unwrap_or_default()
    }

    /// Readings in the file.
    pub(super) fn readings(&self) -> u64 {
        self.readings.load(Ordering::Relaxed)
    }

    /// Adds the readings of a sample in one write.
    pub(super) fn append(&self, sample: &Emitted<'_>) -> Result<(), SimError> {
        let mut lines = Vec::with_capacity(sample.readings.len() * 192);
        for (index, (code, value)) in (0..).zip(sample.readings) {
            let (value, absent) = match value {
                Value::Quantity(decimal) => (Some(decimal.as_str().to_owned()), None),
                Value::Absent(reason) => (None, Some(reason.as_str().to_owned())),
            };
            let line = Line {
                device: sample.device.clone(),
                kind: sample.kind,
                epoch: self.epoch,
                seq: sample.seq,
                index,
                time: sample.time.to_rfc3339(),
                patient: sample.patient.map(str::to_owned),
                code: *code,
                unit: code.info().unit.to_owned(),
                value,
                absent,
            };
            serde_json::to_writer(&mut lines, &line)
                .map_err(|error| SimError::io("sent.ndjson")(error.into()))?;
            lines.push(b'\n');
        }
        self.file
            .lock()
            .write_all(&lines)
            .map_err(SimError::io("sent.ndjson"))?;
        self.readings
            .fetch_add(sample.readings.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the file durable and then writes the `done` file.
    pub(super) fn finish(&self, done: &Path) -> Result<(), SimError> {
        self.file
            .lock()
            .sync_all()
            .map_err(SimError::io("sent.ndjson"))?;
        replace(done, &format!("{{\"readings\":{}}}\n", self.readings()))
    }
}

/// The number in the file plus one, made durable before it is used.
fn next_epoch(path: &Path) -> Result<u32, SimError> {
    let last = match fs::read_to_string(path) {
        Ok(text) => text.trim().parse::<u32>().ok(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(0),
        Err(error) => return Err(SimError::io(path.display().to_string())(error)),
    };
    let next = last
        .and_then(|last| last.checked_add(1))
        .ok_or_else(|| SimError::Data {
            path: path.into(),
            problem: "not the number of an epoch".into(),
        })?;
    replace(path, &next.to_string())?;
    Ok(next)
}

fn replace(path: &Path, text: &str) -> Result<(), SimError> {
    storage::file::replace(path, text.as_bytes(), storage::file::PUBLIC)
        .map(drop)
        .map_err(SimError::io(path.display().to_string()))
}
