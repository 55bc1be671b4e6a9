//! What clinical data calls a device while it serves one patient: a random pseudonym for each stay.
//!
//! A device that kept one name would join what is known of it (when it was taken into use, when it fell silent, how
//! many patients it served) with the shifted times of each of its patients, and these with each other.
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use types::DevicePseudonym;

/// Stays in memory; beyond that the copy is begun anew.
const MAX_STAYS: usize = 65_536;

/// The row of a device, that of a patient (0: nobody), and since when, in ms.
pub(super) type Key = (i64, i64, i64);

/// A stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stay {
    /// Its row in the database.
    pub row: i64,
    /// What the device is called for it.
    pub pseudonym: DevicePseudonym,
}

/// Those that were asked for.
#[derive(Default)]
pub(super) struct Stays(HashMap<Key, Stay>);

impl Stays {
    /// Forgets what the database may not have.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The stay, which gets the fresh pseudonym if it is new.
    pub(super) fn of(
        &mut self,
        db: &Connection,
        key: Key,
        fresh: DevicePseudonym,
    ) -> rusqlite::Result<Stay> {
        if let Some(stay) = self.0.get(&key) {
            return Ok(*stay);
        }
        let (device, patient, since) = key;
        db.prepare_cached(
            "INSERT INTO stay (device, patient, since_ms, pseudonym) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![device, patient, since, fresh.as_bytes()])?;
        let stay = db
            .prepare_cached(
                "SELECT row, pseudonym FROM stay WHERE device = ?1 AND patient = ?2 AND since_ms = ?3",
            )?
            .query_row(params![device, patient, since], |row| {
                Ok(Stay {
                    row: row.get(0)?,
                    pseudonym: DevicePseudonym::from_bytes(row.get(1)?),
                })
            })?;
        if self.0.len() >= MAX_STAYS {
            self.0.clear();
        }
        self.0.insert(key, stay);
        Ok(stay)
    }
}

/// What a stored sample's device was called: by its stay, or by the device's one pseudonym where it is from before
/// there were stays.
pub(super) fn pseudonym_of(
    db: &Connection,
    device: i64,
    stay: Option<i64>,
) -> rusqlite::Result<Option<DevicePseudonym>> {
    db.prepare_cached(
        "SELECT pseudonym FROM stay WHERE row = ?1 OR (?1 IS NULL AND device = ?2 AND patient = -1)",
    )?
    .query_row(params![stay, device], |row| {
        Ok(DevicePseudonym::from_bytes(row.get(0)?))
    })
    .optional()
}
