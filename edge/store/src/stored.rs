//! The row of a sample: how it is stored, how one is found by its identity, and how one is read that is to be shipped once
//! more.
use super::{
    StoreError, StoreErrorKind,
    pack::{self, PackedReading},
    prepared::{Number, Prepared},
    runs,
};
use ingest::{SampleReading, Urgency};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Instant;
use types::{AbsentReason, DeviceId, Flags, Priority, Timestamp, Value};

/// Stores a sample, unless its identity is taken.
pub(super) const INSERT: &str = "INSERT INTO sample
 (device, epoch, seq, source_ms, arrived_ms, patient, flags, priority, parcel, digest, readings, stay)
 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING";

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

/// The stored sample of an identity: its digest and its source time, ms since 1970. The epoch is one within a run
/// ([`super::runs::key`]).
pub(super) fn find(
    db: &Connection,
    device: i64,
    epoch: i64,
    seq: i64,
) -> rusqlite::Result<Option<([u8; pack::DIGEST], i64)>> {
    db.prepare_cached(
        "SELECT digest, source_ms FROM sample WHERE device = ?1 AND epoch = ?2 AND seq = ?3",
    )?
    .query_row(params![device, epoch, seq], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
    .optional()
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
