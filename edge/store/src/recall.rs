//! What the store remembers of each device's last values, for freshness after a restart.
use super::{
    Store, StoreError, StoreErrorKind,
    pack::{self, PackedReading},
    prepared::EDGE_EPOCH,
    stored,
};
use ingest::Urgency;
use rusqlite::{Connection, params};
use std::collections::HashMap;
use types::{AbsentReason, Code, DeviceId, Phi, Priority, Timestamp, Unit};

/// Samples of a device that are looked at: its newest. A signal that is in none of them is not followed.
pub(super) const SAMPLES: i64 = 64;

/// The last value of a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastValue {
    /// The device.
    pub device: DeviceId,
    /// The signal.
    pub signal: (Code, Unit),
    /// When it was measured; not later than when it came in.
    pub at: Timestamp,
    /// The facility's id of the patient whom the device named with it.
    pub patient: Option<Phi<String>>,
    /// Whether the alarm that it is stale was raised since.
    pub alarmed: bool,
}

impl Store {
    /// The last values of every device.
    ///
    /// # Errors
    /// As any read; `Corrupt` when a blob does not make sense.
    pub async fn last_values(&self) -> Result<Vec<LastValue>, StoreError> {
        self.read(last_values).await
    }
}

fn last_values(db: &Connection) -> Result<Vec<LastValue>, StoreError> {
    let devices: Vec<(i64, String)> = db
        .prepare("SELECT row, id FROM device")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut values = Vec::new();
    for (row, id) in devices {
        let Ok(device) = id.parse::<DeviceId>() else {
            continue;
        };
        let alarms = alarms(db, row)?;
        for ((code, unit, named), (at, patient)) in newest(db, row)? {
            let alarmed = alarms
                .get(&(code, unit, patient))
                .is_some_and(|alarm| *alarm >= at);
            values.push(LastValue {
                device: device.clone(),
                signal: (code, unit),
                at,
                patient: named,
                alarmed,
            });
        }
    }
    Ok(values)
}

/// A signal, and a patient.
type Key = (Code, Unit, Option<Phi<String>>);
/// When a value was measured, and whose it is.
type Value = (Timestamp, Option<Phi<String>>);

/// A stored sample, as far as it is needed here.
struct Remembered {
    at: Timestamp,
    source_time: Timestamp,
    patient: Option<Phi<String>>,
    alarm: bool,
    digest: [u8; pack::DIGEST],
    readings: Vec<u8>,
}

/// The newest samples of a device, or the newest that the edge made for it.
fn samples(db: &Connection, device: i64, edge: bool) -> rusqlite::Result<Vec<Remembered>> {
    db.prepare_cached(
        "SELECT min(source_ms, arrived_ms), source_ms, patient.id, sample.priority, digest, readings
         FROM sample LEFT JOIN patient ON patient.row = sample.patient
         WHERE device = ?1 AND (epoch = ?2) = ?3 ORDER BY epoch DESC, seq DESC LIMIT ?4",
    )?
    .query_map(params![device, EDGE_EPOCH, edge, SAMPLES], |row| {
        Ok(Remembered {
            at: Timestamp(row.get(0)?),
            source_time: Timestamp(row.get(1)?),
            patient: row.get::<_, Option<String>>(2)?.map(Phi::new),
            alarm: row.get::<_, u8>(3)? == Priority::Alarm.rank(),
            digest: row.get(4)?,
            readings: row.get(5)?,
        })
    })?
    .collect()
}

fn unpack(blob: &[u8]) -> Result<Vec<PackedReading<'_>>, StoreError> {
    PackedReading::unpack(blob)
        .ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, "read the readings of a sample"))
}

/// By signal and the patient whom the device named: when its newest value was measured, and whose it is.
fn newest(db: &Connection, device: i64) -> Result<HashMap<Key, Value>, StoreError> {
    let mut newest: HashMap<Key, Value> = HashMap::new();
    for sample in samples(db, device, false)? {
        let named = sample
            .patient
            .clone()
            .filter(|_| sample.names_its_patient());
        for reading in unpack(&sample.readings)? {
            let (Ok(_), Ok(code), Ok(unit)) =
                (reading.value, reading.code.parse(), reading.unit.parse())
            else {
                continue;
            };
            let key = (code, unit, named.clone());
            if newest.get(&key).is_none_or(|last| last.0 < sample.at) {
                newest.insert(key, (sample.at, sample.patient.clone()));
            }
        }
    }
    Ok(newest)
}

/// By signal and patient: when the newest alarm that it went stale was raised.
fn alarms(db: &Connection, device: i64) -> Result<HashMap<Key, Timestamp>, StoreError> {
    let mut alarms = HashMap::new();
    for sample in samples(db, device, true)? {
        for reading in unpack(&sample.readings)? {
            if reading.value != Err(AbsentReason::Stale.as_str()) {
                continue;
            }
            if let (Ok(code), Ok(unit)) = (reading.code.parse(), reading.unit.parse()) {
                let raised = alarms
                    .entry((code, unit, sample.patient.clone()))
                    .or_insert(sample.at);
                *raised = sample.at.max(*raised);
            }
        }
    }
    Ok(alarms)
}

impl Remembered {
    fn names_its_patient(&self) -> bool {
        let urgency = if self.alarm {
            Urgency::Alarm
        } else {
            Urgency::Routine
        };
        let readings = stored::readings(&self.readings).unwrap_or_default();
        !pack::is_of_nobody(&self.digest, self.source_time, urgency, &readings)
    }
}
