//! A stored sample as it is to be shipped once more: one reader of its row for all that do so.
use super::{
    StoreError, StoreErrorKind,
    journal::{Number, Prepared},
    pack::{self, PackedReading},
    runs,
};
use ingest::{SampleReading, Urgency};
use rusqlite::Row;
use std::time::Instant;
use types::{AbsentReason, DeviceId, Flags, Priority, Timestamp, Value};

/// A stored sample.
pub(super) struct Stored {
    /// Row of its device.
    pub device: i64,
    /// Within a run ([`runs::key`]).
    pub epoch: i64,
    pub seq: i64,
    pub patient: Option<i64>,
    pub stay: Option<i64>,
    pub flags: Flags,
    /// What is shipped once more is an alarm, or of the backlog.
    pub priority: Priority,
    pub sample: Prepared,
}

/// Reads a row of: row and name of the device, epoch, number, source time and flags of the sample; patient, stay,
/// priority and packed readings as they were attributed. `op` is said when it does not make sense.
pub(super) fn read(row: &Row<'_>, op: &'static str) -> Result<Stored, StoreError> {
    let corrupt = || StoreError::new(StoreErrorKind::Corrupt, op);
    let (id, packed): (String, Vec<u8>) = (row.get(1)?, row.get(9)?);
    let (epoch, seq) = (row.get(2)?, row.get(3)?);
    let source_time = Timestamp(row.get(4)?);
    Ok(Stored {
        device: row.get(0)?,
        epoch,
        seq,
        patient: row.get(6)?,
        stay: row.get(7)?,
        flags: Flags::from_bits(row.get(5)?).ok_or_else(corrupt)?,
        priority: match Priority::from_rank(row.get(8)?) {
            Some(Priority::Alarm) => Priority::Alarm,
            _ => Priority::Backlog,
        },
        sample: Prepared {
            device: id.parse::<DeviceId>().map_err(|_| corrupt())?,
            number: Number::Device {
                epoch: runs::split(epoch).1,
                seq,
            },
            source_time,
            patient: None,
            owned_at: source_time,
            urgency: Urgency::Routine,
            readings: readings(&packed).ok_or_else(corrupt)?,
            packed,
            digest: [0; pack::DIGEST],
            arrived: Instant::now(),
            trace: None,
        },
    })
}

/// The readings of a packed sample; none when it does not make sense.
pub(super) fn readings(blob: &[u8]) -> Option<Vec<SampleReading>> {
    let packed = PackedReading::unpack(blob)?;
    packed.into_iter().map(reading).collect()
}

fn reading(packed: PackedReading<'_>) -> Option<SampleReading> {
    Some(SampleReading {
        code: packed.code.parse().ok()?,
        unit: packed.unit.parse().ok()?,
        value: match packed.value {
            Ok(decimal) => Value::Quantity(decimal.parse().ok()?),
            Err(reason) => Value::Absent(AbsentReason::parse(reason)?),
        },
        flags: Flags::from_bits(packed.flags)?,
    })
}
