//! What the store remembers of each device's last values, for freshness after a restart.
use super::{Store, StoreError, StoreErrorKind, journal::EDGE_EPOCH, pack::PackedReading};
use rusqlite::{Connection, params};
use std::collections::HashMap;
use types::{AbsentReason, Code, DeviceId, Timestamp, Unit};

/// Samples of a device that are looked at: its newest. A signal that is in none of them is not followed.
const SAMPLES: i64 = 64;

/// The last value of a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastValue {
    /// The device.
    pub device: DeviceId,
    /// The signal.
    pub signal: (Code, Unit),
    /// When it was measured.
    pub at: Timestamp,
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
        for (signal, at) in newest(db, row, false)? {
            let alarmed = alarms.get(&signal).is_some_and(|alarm| *alarm >= at);
            let device = device.clone();
            values.push(LastValue {
                device,
                signal,
                at,
                alarmed,
            });
        }
    }
    Ok(values)
}

/// By signal the newest value; or, of the edge's own samples, the newest alarm that it went stale.
fn newest(
    db: &Connection,
    device: i64,
    edge: bool,
) -> Result<HashMap<(Code, Unit), Timestamp>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT source_ms, readings FROM sample WHERE device = ?1 AND (epoch = ?2) = ?3
         ORDER BY epoch DESC, seq DESC LIMIT ?4",
    )?;
    let mut rows = query.query(params![device, EDGE_EPOCH, edge, SAMPLES])?;
    let mut newest = HashMap::new();
    while let Some(row) = rows.next()? {
        let at = Timestamp(row.get(0)?);
        let blob: Vec<u8> = row.get(1)?;
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
                let last = newest.entry((code, unit)).or_insert(at);
                *last = at.max(*last);
            }
        }
    }
    Ok(newest)
}
