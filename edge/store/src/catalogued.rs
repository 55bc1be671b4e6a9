//! When a device's record in the catalog is said to have changed: the day, never the instant.
//!
//! The instant at which a device was taken into use, or fell silent, is that at which a patient's stay at it began or
//! ended, and beside the first and last times of a stay it would tell the patient's shift. So the day is that on which
//! what the device *is* changed. How it is now, active or silent, leaves the day as it was.
use super::{Entropy, Store, StoreError, StoreErrorKind};
use messages::{DeviceRecord, DeviceRecords};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use types::{DeviceId, Timestamp};

/// By how many ms a further record of the same day is later than the one before, at most. At random, so that the order
/// of records is known and their number is not.
const MOST_LATER_MS: i64 = 1_000;

/// Dates records.
pub(super) fn date(
    tx: &Transaction<'_>,
    records: &mut DeviceRecords,
    now: Timestamp,
    entropy: Entropy,
) -> Result<(), StoreError> {
    let mut each = records.devices.iter_mut();
    each.try_for_each(|record| date_one(tx, record, now, entropy))
}

/// Puts the time into a record: midnight (UTC) of the day, and some ms more than the device's last record had. They make
/// the order of records of one day, until [`MOST_LATER_MS`] times some 86,000 are used up.
fn date_one(
    tx: &Transaction<'_>,
    record: &mut DeviceRecord,
    now: Timestamp,
    entropy: Entropy,
) -> Result<(), StoreError> {
    let facts = [&record.kind, &record.model, &record.firmware].map(String::as_str);
    let facts = facts.join("\t");
    let known: Option<(String, i64)> = tx
        .prepare_cached(
            "SELECT facts, updated_ms FROM catalogued JOIN device ON device.row = catalogued.device
             WHERE catalog_id = ?1",
        )?
        .query_row([&record.catalog_id[..]], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let mut random = [0; 2];
    entropy(&mut random);
    let later = 1 + i64::from(u16::from_le_bytes(random)) % MOST_LATER_MS;
    let today = midnight(now.0);
    record.updated_ms = match known {
        // A clock that was put back does not make a record older than the one before.
        Some((known, updated)) if known == facts || today <= midnight(updated) => {
            (updated + later).min(midnight(updated) + Timestamp::DAY_MS - 1)
        }
        Some(_) | None => today + later,
    };
    tx.prepare_cached(
        "INSERT INTO catalogued (device, facts, updated_ms)
         SELECT row, ?2, ?3 FROM device WHERE catalog_id = ?1
         ON CONFLICT (device) DO UPDATE SET facts = excluded.facts, updated_ms = excluded.updated_ms",
    )?
    .execute(params![&record.catalog_id[..], facts, record.updated_ms])?;
    Ok(())
}

const fn midnight(ms: i64) -> i64 {
    ms.div_euclid(Timestamp::DAY_MS) * Timestamp::DAY_MS
}

impl Store {
    /// Every device that the catalog was told of, with what it was told that the device is. Neither status nor time is given.
    ///
    /// # Errors
    /// As any read.
    pub async fn catalogued(&self) -> Result<Vec<(DeviceId, DeviceRecord)>, StoreError> {
        self.read(told).await
    }
}

fn told(db: &Connection) -> Result<Vec<(DeviceId, DeviceRecord)>, StoreError> {
    let corrupt = || StoreError::new(StoreErrorKind::Corrupt, "read what the catalog was told");
    let mut statement = db.prepare_cached(
        "SELECT id, catalog_id, facts FROM catalogued JOIN device ON device.row = catalogued.device ORDER BY device.row",
    )?;
    let mut rows = statement.query([])?;
    let mut told: Vec<(DeviceId, DeviceRecord)> = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let (catalog_id, facts): (Vec<u8>, String) = (row.get(1)?, row.get(2)?);
        let mut facts = facts.split('\t').map(str::to_owned);
        let mut fact = || facts.next().ok_or_else(corrupt);
        let record = DeviceRecord {
            catalog_id: catalog_id.into(),
            kind: fact()?,
            model: fact()?,
            firmware: fact()?,
            ..DeviceRecord::default()
        };
        told.push((id.parse().map_err(|_| corrupt())?, record));
    }
    Ok(told)
}
