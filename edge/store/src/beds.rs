//! Who lies in which bed from when on, and which device stood at which bed.
//!
//! An entry says who lies in a bed from an instant on, until the next instant that an entry names. Entries are only
//! ever appended, each with who made it and when; of several for one bed and instant the last one holds. An entry may
//! be late: what it changes of the past is put right by [`super::correction`].
use super::StoreError;
use crate::deid::PatientRecord;
use rusqlite::Connection;
use serde::Serialize;
use std::collections::HashMap;
use types::{Phi, Timestamp};

/// The longest name of a bed, and of who made an entry, in bytes.
pub const MAX_NAME: usize = 64;
/// Who made the entries that the configuration holds.
pub const BY_CONFIGURATION: &str = "configuration";
/// Who lies in a bed from an instant on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BedFact {
    /// The bed.
    pub bed: String,
    /// From when on (mesh time).
    pub from: Timestamp,
    /// The patient with what the facility knows of them, under its own id; none: nobody.
    pub patient: Option<PatientRecord>,
    /// Who says so.
    pub by: String,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Entered {
    /// Whether it said anything new of who lies where.
    pub changed: bool,
    /// Whether it said anything new of the patient.
    pub described: bool,
    /// Whether readings may have to be given to another patient: that goes on in the background.
    pub corrects: bool,
}

/// An entry, as the facility's own staff read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BedRow {
    /// The bed.
    pub bed: String,
    /// From when on.
    pub from: Timestamp,
    /// The facility's own id of the patient; none: nobody.
    pub patient: Option<String>,
    /// When it was entered (mesh time).
    pub entered: Timestamp,
    /// By whom.
    pub by: String,
    /// Whether it holds: no later entry names the same bed and instant.
    pub holds: bool,
}

/// Of each bed: from which instant on (ms since 1970) which patient, if any, lies in it; in the order of time.
pub(super) type Beds = HashMap<String, Vec<(i64, Option<i64>)>>;

/// Of each bed: from which instant on whom the facility calls so lies in it; in the order of time.
pub type Timeline = HashMap<String, Vec<(Timestamp, Option<Phi<String>>)>>;

/// Why an entry cannot be made; it names the field and never quotes it.
///
/// # Errors
/// The reason.
pub fn check(fact: &BedFact) -> Result<(), &'static str> {
    let fits =
        |text: &str| (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(|c| c.is_control());
    if !fits(&fact.bed) {
        return Err("bed: 1 to 64 bytes without control characters");
    }
    if !fits(&fact.by) || !fact.by.chars().all(ingest::patient_id::is_seen) {
        return Err("by: 1 to 64 bytes without control or invisible characters");
    }
    if !fact.from.is_measurable() {
        return Err("from: before 1901 or after 2198");
    }
    match &fact.patient {
        Some(record) => crate::deid::check_record(record),
        None => Ok(()),
    }
}

pub(super) fn load(db: &Connection) -> rusqlite::Result<Beds> {
    let mut beds = Beds::new();
    let mut query =
        db.prepare("SELECT bed, from_ms, patient FROM bed_entry ORDER BY bed, from_ms, row")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (from, patient) = (row.get(1)?, row.get(2)?);
        let intervals = beds.entry(row.get(0)?).or_default();
        match intervals.last_mut() {
            Some(last) if last.0 == from => last.1 = patient,
            _ => intervals.push((from, patient)),
        }
    }
    Ok(beds)
}

/// The beds by the facility's own ids.
pub(super) fn timeline(db: &Connection) -> rusqlite::Result<Timeline> {
    let mut ids: HashMap<i64, Phi<String>> = HashMap::new();
    let mut query =
        db.prepare("SELECT row, id FROM patient WHERE row IN (SELECT patient FROM bed_entry)")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        ids.insert(row.get(0)?, Phi::new(row.get(1)?));
    }
    let named = |(from, patient): (i64, Option<i64>)| {
        (
            Timestamp(from),
            patient.and_then(|row| ids.get(&row).cloned()),
        )
    };
    let beds = load(db)?.into_iter();
    Ok(beds
        .map(|(bed, intervals)| (bed, intervals.into_iter().map(named).collect()))
        .collect())
}

/// Every entry, by bed and time.
fn rows(db: &Connection) -> rusqlite::Result<Vec<BedRow>> {
    let mut query = db.prepare(
        "SELECT bed, from_ms, patient.id, entered_ms, entered_by,
           bed_entry.row = max(bed_entry.row) OVER (PARTITION BY bed, from_ms)
         FROM bed_entry LEFT JOIN patient ON patient.row = bed_entry.patient ORDER BY bed, from_ms, bed_entry.row",
    )?;
    let rows = query.query_map([], |row| {
        Ok(BedRow {
            bed: row.get(0)?,
            from: Timestamp(row.get(1)?),
            patient: row.get(2)?,
            entered: Timestamp(row.get(3)?),
            by: row.get(4)?,
            holds: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Every entry, and how many devices' readings are still being corrected.
///
/// # Errors
/// As any read.
pub fn read(db: &Connection) -> Result<(Vec<BedRow>, u64), StoreError> {
    Ok((rows(db)?, corrections(db)?))
}

/// Devices whose readings are still being looked through for a correction.
fn corrections(db: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = db.query_row("SELECT count(*) FROM correction", [], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// At which bed a device stood, by the time from which on (ms of mesh time).
pub(super) fn placements(
    db: &Connection,
    device: i64,
) -> rusqlite::Result<Vec<(i64, Option<String>)>> {
    db.prepare_cached("SELECT since_ms, bed FROM placement WHERE device = ?1 ORDER BY since_ms")?
        .query_map([device], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
