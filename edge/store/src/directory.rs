//! The crosswalk and the beds, in memory as far as they were asked for: who a device and a patient are outside.
//!
//! Pseudonyms and shifts are random, drawn once and kept in the same commit that first needs them; nothing is
//! derived from the patient. The copy in memory is thrown away when a commit fails, since it may hold entries that
//! the database then does not have.
use super::{
    Entropy,
    beds::{self, Beds},
    stays::{Stay, Stays},
};
use crate::deid::{PatientRecord, Shift};
use rusqlite::{Connection, Row, params};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};
use types::{
    CatalogId, DeviceId, DeviceKind, DevicePseudonym, FreshnessLimits, PatientPseudonym, Phi,
    Timestamp,
};

/// Patients in memory; beyond that the copy is begun anew (a ward of a large hospital has a few hundred a year).
const MAX_PATIENTS: usize = 65_536;
/// Devices in memory; names come from certificates, so there are never many.
const MAX_DEVICES: usize = 65_536;

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
    /// Whether the region was told what is known now.
    pub told: bool,
}

/// See the head of this file.
pub(super) struct Directory {
    facts: HashMap<DeviceId, DeviceFacts>,
    entropy: Entropy,
    devices: HashMap<DeviceId, Arc<DeviceEntry>>,
    rows: HashMap<Phi<String>, i64>,
    patients: HashMap<i64, PatientEntry>,
    beds: Beds,
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
            beds: Beds::new(),
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
        if self.patients.len() >= MAX_PATIENTS && !self.patients.contains_key(&row) {
            self.patients.clear();
        }
        match self.patients.entry(row) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let entry = db
                    .prepare_cached(
                        "SELECT row, id, pseudonym, shift_days, name, mrn, birth_date, gender,
                         height_cm, weight_kg, care_unit, parcel IS NOT NULL FROM patient WHERE row = ?1",
                    )?
                    .query_row([row], patient_entry)?;
                Ok(unknown.insert(entry))
            }
        }
    }

    /// Reads a patient's row anew when it is next asked for.
    pub(super) fn forget_patient(&mut self, row: i64) {
        self.patients.remove(&row);
    }

    /// The same for every patient.
    pub(super) fn forget_patients(&mut self) {
        self.patients.clear();
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
        let bed = device.facts.bed.clone().unwrap_or_default();
        self.stay_at(db, (device.row, &bed), patient, at)
    }

    /// The same for a device, by its row, that stood at that bed when it measured.
    pub(super) fn stay_at(
        &mut self,
        db: &Connection,
        (device, bed): (i64, &str),
        patient: Option<i64>,
        at: Timestamp,
    ) -> rusqlite::Result<Stay> {
        let same = self.in_bed(bed, at).take_while(|(_, who)| *who == patient);
        let since = same.last().map_or(0, |(from, _)| *from);
        let fresh = DevicePseudonym::from_bytes(self.draw());
        self.stays
            .of(db, (device, patient.unwrap_or(0), since), fresh)
    }

    /// What the configuration says of each device.
    pub(super) fn facts(&self) -> impl Iterator<Item = &DeviceFacts> {
        self.facts.values()
    }

    /// Reads the beds anew.
    pub(super) fn load_beds(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.beds = beds::load(db)?;
        Ok(())
    }

    /// Who lies in a bed from exactly that instant on, if an entry says so.
    pub(super) fn bed_entry(&self, bed: &str, from: Timestamp) -> Option<Option<i64>> {
        let intervals = self.beds.get(bed)?;
        let at = intervals.binary_search_by_key(&from.0, |(from, _)| *from);
        intervals.get(at.ok()?).map(|(_, who)| *who)
    }

    /// The instant (ms since 1970) of the first entry of a bed after another; the end of time when there is none.
    pub(super) fn next_entry(&self, bed: &str, after: Timestamp) -> i64 {
        let intervals = self.beds.get(bed).map_or(&[][..], Vec::as_slice);
        let next = intervals.partition_point(|(from, _)| *from <= after.0);
        intervals.get(next).map_or(i64::MAX, |(from, _)| *from)
    }

    /// Keeps what the facility knows of a patient, and gives their row and whether that is anything new. What leaves is
    /// told to the region again when it changes.
    ///
    /// # Errors
    /// The patient has no id in the facility: the caller has checked that.
    #[expect(
        clippy::disallowed_methods,
        reason = "what the facility knows of a patient goes into the encrypted crosswalk"
    )]
    pub(super) fn describe(
        &mut self,
        db: &Connection,
        record: &PatientRecord,
        precedence: Precedence,
    ) -> rusqlite::Result<(i64, bool)> {
        let id = record
            .facility_id
            .as_ref()
            .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let row = self.patient(db, id)?;
        let known = |phi: &Option<Phi<String>>| phi.as_ref().map(|phi| phi.expose().clone());
        let changed = db
            .prepare_cached(&describing(precedence))?
            .execute(params![
                row,
                known(&record.name),
                known(&record.mrn),
                known(&record.birth_date),
                known(&record.gender),
                known(&record.height_cm),
                known(&record.weight_kg),
                known(&record.care_unit),
            ])?;
        self.forget_patient(row);
        Ok((row, changed > 0))
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

/// What holds of what was said before and of what is said now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precedence {
    /// What is said now; what is not said now stays.
    Now,
    /// What was said before: what is said now fills gaps.
    Before,
}

/// The columns of what is known of a patient.
const KNOWN: [&str; 7] = [
    "name",
    "mrn",
    "birth_date",
    "gender",
    "height_cm",
    "weight_kg",
    "care_unit",
];

/// The statement that keeps it, and changes no row where it is nothing new.
fn describing(precedence: Precedence) -> String {
    let after = |(column, number): (&&str, usize)| match precedence {
        Precedence::Now => format!("coalesce(?{number}, {column})"),
        Precedence::Before => format!("coalesce({column}, ?{number})"),
    };
    let columns = || KNOWN.iter().zip(2_usize..);
    let set = columns().map(|(column, number)| format!("{column} = {}", after((column, number))));
    let same = columns().map(|(column, number)| format!("{column} IS {}", after((column, number))));
    format!(
        "UPDATE patient SET {}, parcel = NULL WHERE row = ?1 AND NOT ({})",
        set.collect::<Vec<_>>().join(", "),
        same.collect::<Vec<_>>().join(" AND "),
    )
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
            height_cm: phi(8)?,
            weight_kg: phi(9)?,
            care_unit: phi(10)?,
            ..PatientRecord::default()
        },
        told: row.get(11)?,
    })
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
