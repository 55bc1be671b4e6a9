//! The crosswalk and the beds, in memory as far as they were asked for: who a device and a patient are outside.
//!
//! Pseudonyms and shifts are random, drawn once and kept in the same commit that first needs them; nothing is
//! derived from the patient. The copy in memory is thrown away when a commit fails, since it may hold entries that
//! the database then does not have.
use super::{
    Entropy, StoreError, StoreErrorKind,
    stays::{Stay, Stays},
};
use crate::{
    config::BedAssignment,
    deid::{PatientRecord, Shift},
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::{collections::HashMap, sync::Arc};
use types::{
    CatalogId, DeviceId, DeviceKind, DevicePseudonym, FreshnessLimits, PatientPseudonym, Phi,
    Timestamp,
};

/// Patients in memory; beyond that the copy is begun anew (a ward of a large hospital has a few hundred a year).
const MAX_PATIENTS: usize = 65_536;
/// Devices in memory; names come from certificates, so there are never many.
const MAX_DEVICES: usize = 65_536;
/// The longest facility patient id, in bytes.
pub const MAX_PATIENT_ID: usize = 64;

/// What the configuration says of a device.
#[derive(Clone, Debug)]
pub struct DeviceFacts {
    /// Its name.
    pub id: DeviceId,
    /// What it is.
    pub kind: DeviceKind,
    /// Where it stands.
    pub bed: Option<String>,
    /// When its values stop being fresh.
    pub limits: FreshnessLimits,
    /// Maker's serial number.
    pub serial: Option<Phi<String>>,
}

/// A device's row of the crosswalk.
#[derive(Clone, Debug)]
pub struct DeviceEntry {
    /// Its row in the database.
    pub(super) row: i64,
    /// What it is called in the catalog.
    pub catalog_id: CatalogId,
    /// How far times of what it measures of no patient are moved.
    pub(super) shift: Shift,
    /// What the configuration says of it.
    pub facts: DeviceFacts,
}

/// A patient's row of the crosswalk.
#[derive(Clone, Debug)]
pub(super) struct PatientEntry {
    pub row: i64,
    pub pseudonym: PatientPseudonym,
    pub shift: Shift,
    pub record: PatientRecord,
}

/// See the head of this file.
pub(super) struct Directory {
    facts: HashMap<DeviceId, DeviceFacts>,
    entropy: Entropy,
    devices: HashMap<DeviceId, Arc<DeviceEntry>>,
    rows: HashMap<Phi<String>, i64>,
    patients: HashMap<i64, PatientEntry>,
    /// By bed: from when on (ms), which patient's row; in the order of time.
    beds: HashMap<String, Vec<(i64, Option<i64>)>>,
    stays: Stays,
}

impl Directory {
    pub(super) fn new(facts: Vec<DeviceFacts>, entropy: Entropy) -> Self {
        Self {
            facts: facts.into_iter().map(|f| (f.id.clone(), f)).collect(),
            entropy,
            devices: HashMap::new(),
            rows: HashMap::new(),
            patients: HashMap::new(),
            beds: HashMap::new(),
            stays: Stays::default(),
        }
    }

    /// Forgets what the database may not have.
    pub(super) fn reset(&mut self) {
        self.devices.clear();
        self.rows.clear();
        self.patients.clear();
        self.stays.clear();
    }

    /// The device, drawn a crosswalk row if it is new.
    pub(super) fn device(
        &mut self,
        db: &Connection,
        id: &DeviceId,
    ) -> rusqlite::Result<Arc<DeviceEntry>> {
        if let Some(entry) = self.devices.get(id) {
            return Ok(entry.clone());
        }
        let entry = Arc::new(self.load_device(db, id)?);
        if self.devices.len() >= MAX_DEVICES {
            self.devices.clear();
        }
        self.devices.insert(id.clone(), entry.clone());
        Ok(entry)
    }

    fn load_device(&self, db: &Connection, id: &DeviceId) -> rusqlite::Result<DeviceEntry> {
        let drawn = (self.draw(), self.draw(), self.draw_shift().days());
        // A device of the first version has no shift yet.
        db.prepare_cached(
            "INSERT INTO device (id, pseudonym, catalog_id, shift_days) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET shift_days = coalesce(shift_days, excluded.shift_days)",
        )?
        .execute(params![id.as_str(), drawn.0, drawn.1, drawn.2])?;
        let facts = self.facts.get(id).cloned();
        db.prepare_cached("SELECT row, catalog_id, shift_days FROM device WHERE id = ?1")?
            .query_row([id.as_str()], |row| {
                Ok(DeviceEntry {
                    row: row.get(0)?,
                    catalog_id: CatalogId::from_bytes(row.get(1)?),
                    shift: shift(row, 2)?,
                    facts: facts.unwrap_or_else(|| DeviceFacts::unknown(id.clone())),
                })
            })
    }

    /// The row of the patient with that id in the facility, drawn a crosswalk row if they are new.
    #[expect(
        clippy::disallowed_methods,
        reason = "the patient id goes into the encrypted crosswalk"
    )]
    pub(super) fn patient(&mut self, db: &Connection, id: &Phi<String>) -> rusqlite::Result<i64> {
        if let Some(row) = self.rows.get(id) {
            return Ok(*row);
        }
        db.prepare_cached(
            "INSERT INTO patient (id, pseudonym, shift_days) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![id.expose(), self.draw(), self.draw_shift().days()])?;
        let row = db
            .prepare_cached("SELECT row FROM patient WHERE id = ?1")?
            .query_row([id.expose()], |row| row.get(0))?;
        if self.rows.len() >= MAX_PATIENTS {
            self.rows.clear();
        }
        self.rows.insert(id.clone(), row);
        Ok(row)
    }

    /// What the crosswalk says of a patient's row.
    pub(super) fn patient_entry(
        &mut self,
        db: &Connection,
        row: i64,
    ) -> rusqlite::Result<&PatientEntry> {
        if !self.patients.contains_key(&row) {
            let entry = db
                .prepare_cached(
                    "SELECT row, id, pseudonym, shift_days, name, mrn, birth_date, gender FROM patient WHERE row = ?1",
                )?
                .query_row([row], patient_entry)?;
            if self.patients.len() >= MAX_PATIENTS {
                self.patients.clear();
            }
            self.patients.insert(row, entry);
        }
        Ok(&self.patients[&row])
    }

    /// Who lay in a bed at an instant.
    pub(super) fn patient_of_bed(&self, bed: &str, at: Timestamp) -> Option<i64> {
        self.in_bed(bed, at).next()?.1
    }

    /// The assignments of a bed up to an instant, the latest first.
    fn in_bed(&self, bed: &str, at: Timestamp) -> impl Iterator<Item = &(i64, Option<i64>)> {
        let intervals = self.beds.get(bed).map_or(&[][..], Vec::as_slice);
        let after = intervals.partition_point(|(from, _)| *from <= at.0);
        intervals.iter().take(after).rev()
    }

    /// The stay of a patient, or of nobody, at a device that measured of them at an instant: since they are in its bed
    /// where they are, otherwise all that the device ever measures of them.
    pub(super) fn stay(
        &mut self,
        db: &Connection,
        device: &DeviceEntry,
        patient: Option<i64>,
        at: Timestamp,
    ) -> rusqlite::Result<Stay> {
        let bed = device.facts.bed.as_deref().unwrap_or_default();
        let same = self.in_bed(bed, at).take_while(|(_, who)| *who == patient);
        let since = same.last().map_or(0, |(from, _)| *from);
        let fresh = DevicePseudonym::from_bytes(self.draw());
        self.stays
            .of(db, (device.row, patient.unwrap_or(0), since), fresh)
    }

    /// Appends the assignments that are new and loads all of them.
    pub(super) fn assign(
        &mut self,
        db: &Connection,
        beds: &[BedAssignment],
    ) -> Result<(), StoreError> {
        for bed in beds {
            self.append_assignment(db, bed)?;
        }
        self.beds = load_beds(db).map_err(StoreError::sqlite("read the bed assignments"))?;
        Ok(())
    }

    fn append_assignment(
        &mut self,
        db: &Connection,
        bed: &BedAssignment,
    ) -> Result<(), StoreError> {
        const OP: &str = "write the bed assignments";
        let refused = |op| StoreError::new(StoreErrorKind::Refused, op);
        let from: Timestamp = bed
            .from
            .parse()
            .map_err(|_| refused("write the bed assignments: beds.from is no RFC 3339 time"))?;
        let patient = match &bed.patient {
            None => None,
            Some(id) if id.is_empty() || id.len() > MAX_PATIENT_ID => {
                return Err(refused(
                    "write the bed assignments: a patient id is 1 to 64 bytes",
                ));
            }
            Some(id) => {
                let row = self
                    .patient(db, &Phi::new(id.clone()))
                    .map_err(StoreError::sqlite(OP))?;
                describe(db, row, bed).map_err(StoreError::sqlite(OP))?;
                Some(row)
            }
        };
        let write = || {
            db.prepare_cached(
                "INSERT INTO assignment (bed, from_ms, patient) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(params![bed.bed, from.0, patient])?;
            db.prepare_cached("SELECT patient FROM assignment WHERE bed = ?1 AND from_ms = ?2")?
                .query_row(params![bed.bed, from.0], |row| row.get::<_, Option<i64>>(0))
        };
        if write().map_err(StoreError::sqlite(OP))? == patient {
            Ok(())
        } else {
            Err(refused(
                "write the bed assignments: the bed has another patient from that instant on; assignments are never changed",
            ))
        }
    }

    fn draw(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        (self.entropy)(&mut bytes);
        bytes
    }

    fn draw_shift(&self) -> Shift {
        let mut bytes = [0; 32];
        loop {
            (self.entropy)(&mut bytes);
            // Once in 10^33 draws there is none.
            if let Some(shift) = Shift::draw(&bytes) {
                return shift;
            }
        }
    }
}

/// Keeps what the facility knows of a patient: what was said once stays until something else is said.
fn describe(db: &Connection, row: i64, bed: &BedAssignment) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE patient SET name = coalesce(?2, name), mrn = coalesce(?3, mrn),
         birth_date = coalesce(?4, birth_date), gender = coalesce(?5, gender) WHERE row = ?1",
    )?
    .execute(params![row, bed.name, bed.mrn, bed.birth_date, bed.gender])?;
    Ok(())
}

/// Of each bed: from which instant on (ms since 1970) which patient, if any, lies in it.
type Beds = HashMap<String, Vec<(i64, Option<i64>)>>;

fn load_beds(db: &Connection) -> rusqlite::Result<Beds> {
    let mut beds: HashMap<String, Vec<_>> = HashMap::new();
    let mut query =
        db.prepare("SELECT bed, from_ms, patient FROM assignment ORDER BY bed, from_ms")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        beds.entry(row.get(0)?)
            .or_default()
            .push((row.get(1)?, row.get(2)?));
    }
    Ok(beds)
}

/// Nothing is ever sent unshifted because of a shift that was never drawn.
fn shift(row: &Row<'_>, column: usize) -> rusqlite::Result<Shift> {
    let days: i32 = row.get(column)?;
    let impossible = rusqlite::Error::IntegralValueOutOfRange(column, i64::from(days));
    Shift::from_days(days).ok_or(impossible)
}

fn patient_entry(row: &Row<'_>) -> rusqlite::Result<PatientEntry> {
    let phi = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(index)?.map(Phi::new));
    Ok(PatientEntry {
        row: row.get(0)?,
        pseudonym: PatientPseudonym::from_bytes(row.get(2)?),
        shift: shift(row, 3)?,
        record: PatientRecord {
            facility_id: phi(1)?,
            name: phi(4)?,
            mrn: phi(5)?,
            birth_date: phi(6)?,
            gender: phi(7)?,
            ..PatientRecord::default()
        },
    })
}

/// A number kept under a name.
pub(super) fn meta(db: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Keeps a number under a name.
pub(super) fn set_meta(db: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
    )?
    .execute(params![name, value])?;
    Ok(())
}

impl DeviceFacts {
    /// When values of a device without a profile stop being fresh. A laboratory reports when there is something to
    /// report, so hours of silence say nothing of it.
    pub const DEFAULT_LIMITS: FreshnessLimits = FreshnessLimits {
        late_after_ms: 5 * 60_000,
        stale_after_ms: 24 * 3_600_000,
    };

    fn unknown(id: DeviceId) -> Self {
        Self {
            id,
            kind: DeviceKind::External,
            bed: None,
            limits: Self::DEFAULT_LIMITS,
            serial: None,
        }
    }
}
