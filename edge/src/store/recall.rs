//! What the store remembers of each device's last values, for freshness after a restart.
use super::{Store, StoreError, StoreErrorKind, journal::EDGE_EPOCH, pack::PackedReading};
use rusqlite::{Connection, params};
use std::collections::HashMap;
use types::{AbsentReason, Code, DeviceId, Phi, Timestamp, Unit};

/// Samples of a device that are looked at: its newest. A signal that is in none of them is not followed.
const SAMPLES: i64 = 64;

/// The last value of a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastValue {
    /// The device.
    pub device: DeviceId,
    /// The signal.
    pub signal: (Code, Unit),
    /// When it was measured; not later than when it came in.
    pub at: Timestamp,
    /// The facility's id of the patient whom it belongs to.
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
        let alarms = newest(db, row, true)?;
        for (signal, (at, patient)) in newest(db, row, false)? {
            let alarmed = alarms.get(&signal).is_some_and(|alarm| alarm.0 >= at);
            let device = device.clone();
            values.push(LastValue {
                device,
                signal,
                at,
                patient,
                alarmed,
            });
        }
    }
    Ok(values)
}

/// Of each signal: when, and whose.
type Newest = HashMap<(Code, Unit), (Timestamp, Option<Phi<String>>)>;

/// By signal the newest value; or, of the edge's own samples, the newest alarm that it went stale.
fn newest(db: &Connection, device: i64, edge: bool) -> Result<Newest, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT min(source_ms, arrived_ms), patient.id, readings
         FROM sample LEFT JOIN patient ON patient.row = sample.patient
         WHERE device = ?1 AND (epoch = ?2) = ?3 ORDER BY epoch DESC, seq DESC LIMIT ?4",
    )?;
    let mut rows = query.query(params![device, EDGE_EPOCH, edge, SAMPLES])?;
    let mut newest = Newest::new();
    while let Some(row) = rows.next()? {
        let at = Timestamp(row.get(0)?);
        let patient = row.get::<_, Option<String>>(1)?.map(Phi::new);
        let blob: Vec<u8> = row.get(2)?;
        let readings = PackedReading::unpack(&blob).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Corrupt, "read the readings of a sample")
        })?;
        for reading in readings {
            let wanted = match reading.value {
                Ok(_) => !edge,
                Err(reason) => edge && reason == AbsentReason::Stale.as_str(),
            };
            if let (true, Ok(code), Ok(unit)) = (wanted, reading.code.parse(), reading.unit.parse())
            {
                let known = newest.get(&(code, unit)).is_some_and(|last| last.0 >= at);
                if !known {
                    newest.insert((code, unit), (at, patient.clone()));
                }
            }
        }
    }
    Ok(newest)
}
