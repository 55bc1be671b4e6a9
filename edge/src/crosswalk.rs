//! What only the facility can say: who is behind which pseudonym, and which reading became which id.
//!
//! It opens the store with the facility's key, for reading only, beside a running node or without one. Everything it
//! yields is PHI and stays on the facility's machine.
use crate::config::EdgeConfig;
use federation::{
    audit::{self, Asked, Decision, Entry, Signer},
    pki,
};
use rusqlite::{Connection, TransactionBehavior};
use serde::Serialize;
use store::{self, PackedReading, StoreError, StoreErrorKind};
use types::{CatalogId, DevicePseudonym, PatientPseudonym, Priority, ReadingUid, Timestamp};

/// Who is behind which pseudonym.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Crosswalk {
    /// Patients, in the order in which they were first seen.
    pub patients: Vec<PatientRow>,
    /// Devices, in the order in which they were first seen.
    pub devices: Vec<DeviceRow>,
}

/// A patient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PatientRow {
    /// The facility's own id.
    pub id: String,
    /// What the region calls them.
    pub pseudonym: PatientPseudonym,
    /// What is added to every date, in whole days.
    pub shift_days: i32,
    /// Date of birth, as it was entered.
    pub birth_date: Option<String>,
    /// FHIR AdministrativeGender.
    pub gender: Option<String>,
    /// Height in cm, a decimal.
    pub height_cm: Option<String>,
    /// Weight in kg, a decimal.
    pub weight_kg: Option<String>,
    /// The kind of care unit.
    pub care_unit: Option<String>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// Its name in the facility.
    pub id: String,
    /// What the catalog calls it.
    pub catalog_id: CatalogId,
    /// What is added to the dates of its readings of no patient, in whole days.
    pub shift_days: i32,
    /// What clinical data calls it, for each stay of a patient, in the order in which they were first seen.
    pub stays: Vec<StayRow>,
}

/// What a device is called while it serves one patient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StayRow {
    /// What clinical data calls the device.
    pub pseudonym: DevicePseudonym,
    /// The facility's id of the patient; none for nobody.
    pub patient: Option<String>,
    /// Since when the patient is in the device's bed, ms since 1970; none where the bed does not say so.
    pub since_ms: Option<i64>,
    /// Whether it stands for every patient: so it was before there was a name for each stay.
    pub of_all: bool,
}

/// A stored reading: its identity in the facility and its id outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadingRow {
    /// The device's name in the facility.
    pub device: String,
    /// The run of its counter, as the device says it.
    pub epoch: u32,
    /// How many times before the edge saw the counter restart within its epoch.
    pub run: u32,
    /// The sample; negative and by its source time where the counter stood still.
    pub seq: i64,
    /// The reading within the sample.
    pub index: usize,
    /// Its id outside.
    pub uid: ReadingUid,
    /// Source time, ms since 1970, as the device said it.
    pub source_ms: i64,
    /// Code text.
    pub code: String,
    /// UCUM unit.
    pub unit: String,
    /// Decimal text; none when the value is absent.
    pub value: Option<String>,
    /// Why it is absent.
    pub absent: Option<String>,
    /// The facility's id of the patient whom it belongs to.
    pub patient: Option<String>,
    /// Bits of [`types::Flags`].
    pub flags: u8,
    /// With which priority it was put into the outbox, within which its order holds.
    pub priority: &'static str,
}

/// Lists the crosswalk of a facility.
///
/// # Errors
/// `Refused` with a wrong key or when there is no store; as any read otherwise.
pub fn export_crosswalk(config: &EdgeConfig) -> Result<Crosswalk, StoreError> {
    let db = open(config)?;
    let read = || {
        Ok(Crosswalk {
            patients: db
                .prepare(
                    "SELECT id, pseudonym, shift_days, birth_date, gender, height_cm, weight_kg, care_unit
                     FROM patient ORDER BY row",
                )?
                .query_map([], |row| {
                    Ok(PatientRow {
                        id: row.get(0)?,
                        pseudonym: PatientPseudonym::from_bytes(row.get(1)?),
                        shift_days: row.get(2)?,
                        birth_date: row.get(3)?,
                        gender: row.get(4)?,
                        height_cm: row.get(5)?,
                        weight_kg: row.get(6)?,
                        care_unit: row.get(7)?,
                    })
                })?
                .collect::<Result<_, _>>()?,
            devices: db
                .prepare(
                    "SELECT row, id, catalog_id, coalesce(shift_days, 0) FROM device ORDER BY row",
                )?
                .query_map([], |row| {
                    Ok(DeviceRow {
                        stays: stays(&db, row.get(0)?)?,
                        id: row.get(1)?,
                        catalog_id: CatalogId::from_bytes(row.get(2)?),
                        shift_days: row.get(3)?,
                    })
                })?
                .collect::<Result<_, _>>()?,
        })
    };
    read().map_err(StoreError::sqlite("read the crosswalk"))
}

fn stays(db: &Connection, device: i64) -> rusqlite::Result<Vec<StayRow>> {
    db.prepare_cached(
        "SELECT stay.pseudonym, patient.id, since_ms, stay.patient FROM stay
         LEFT JOIN patient ON patient.row = stay.patient WHERE device = ?1 ORDER BY stay.row",
    )?
    .query_map([device], |row| {
        let since_ms: i64 = row.get(2)?;
        Ok(StayRow {
            pseudonym: DevicePseudonym::from_bytes(row.get(0)?),
            patient: row.get(1)?,
            since_ms: (since_ms != 0).then_some(since_ms),
            of_all: row.get::<_, i64>(3)? < 0,
        })
    })?
    .collect()
}

/// Hands every stored reading to `each`, by device, epoch, sequence and index.
///
/// It reads in pages, and hands over between them: a reader that stays in the middle of the database would hold the
/// node's log, which then grows without end. What is written meanwhile may be among the rows or not.
///
/// # Errors
/// As [`export_crosswalk`], and `Corrupt` when a blob does not make sense.
pub fn export_readings(
    config: &EdgeConfig,
    mut each: impl FnMut(ReadingRow),
) -> Result<(), StoreError> {
    let db = open(config)?;
    let mut after = (i64::MIN, 0, 0);
    loop {
        let page = page(&db, after).map_err(StoreError::sqlite("read the readings"))?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.key;
        for sample in page {
            hand_over(&sample, &mut each).ok_or_else(|| {
                StoreError::new(StoreErrorKind::Corrupt, "read the readings of a sample")
            })?;
        }
    }
}

/// Samples in one page of an export.
const PAGE: i64 = 1_000;

/// A stored sample.
struct SampleRow {
    /// Device, epoch within a run, sequence number.
    key: (i64, i64, i64),
    device: String,
    source_ms: i64,
    patient: Option<String>,
    flags: u8,
    priority: u8,
    readings: Vec<u8>,
}

/// The samples that follow a key, without the alarms of the edge's own that were withdrawn for good.
fn page(db: &Connection, after: (i64, i64, i64)) -> rusqlite::Result<Vec<SampleRow>> {
    db.prepare_cached(
        "SELECT sample.device, epoch, seq, device.id, source_ms, patient.id, flags, readings, sample.priority
         FROM sample JOIN device ON device.row = sample.device LEFT JOIN patient ON patient.row = sample.patient
         WHERE (sample.device, epoch, seq) > (?1, ?2, ?3) AND digest <> ?5 ORDER BY sample.device, epoch, seq LIMIT ?4",
    )?
    .query_map((after.0, after.1, after.2, PAGE, store::WITHDRAWN_FOR_GOOD), |row| {
        Ok(SampleRow {
            key: (row.get(0)?, row.get(1)?, row.get(2)?),
            device: row.get(3)?,
            source_ms: row.get(4)?,
            patient: row.get(5)?,
            flags: row.get(6)?,
            readings: row.get(7)?,
            priority: row.get(8)?,
        })
    })?
    .collect()
}

/// Hands over the readings of a sample; none when its blob does not make sense.
fn hand_over(sample: &SampleRow, each: &mut impl FnMut(ReadingRow)) -> Option<()> {
    let priority = Priority::from_rank(sample.priority)?;
    let (run, epoch) = store::run_and_epoch(sample.key.1);
    for (index, reading) in PackedReading::unpack(&sample.readings)?
        .into_iter()
        .enumerate()
    {
        each(ReadingRow {
            device: sample.device.clone(),
            epoch,
            run,
            seq: sample.key.2,
            index,
            uid: reading.uid,
            source_ms: sample.source_ms,
            code: reading.code.into(),
            unit: reading.unit.into(),
            value: reading.value.ok().map(Into::into),
            absent: reading.value.err().map(Into::into),
            patient: sample.patient.clone(),
            flags: reading.flags | sample.flags,
            priority: priority.as_str(),
        });
    }
    Some(())
}

/// The audit log of a facility.
///
/// # Errors
/// As [`export_crosswalk`].
pub fn audit_log(config: &EdgeConfig) -> Result<federation::audit::Log, StoreError> {
    federation::audit::Log::of(open(config)?)
        .map_err(|_| StoreError::new(StoreErrorKind::Corrupt, "open the audit log"))
}

/// What a person reads of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Who is behind which pseudonym.
    Crosswalk,
    /// Readings with their patients.
    Readings,
    /// One entry in quarantine, with its content.
    Quarantine,
    /// Who lies in which bed.
    Beds,
}

/// Writes down that somebody reads (45 CFR 164.312(b)), durably, before anything is shown: who, what, and how many
/// rows there are. `now` is the machine's time.
///
/// # Errors
/// As any write: then nothing may be shown.
pub fn note_read(
    config: &EdgeConfig,
    read: Read,
    who: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (what, kind, count) = match read {
        Read::Crosswalk => (
            "crosswalk",
            "Crosswalk",
            "SELECT (SELECT count(*) FROM patient) + (SELECT count(*) FROM device)",
        ),
        Read::Readings => ("readings", "Reading", "SELECT count(*) FROM sample"),
        Read::Quarantine => ("quarantine", "Quarantine", "SELECT 1"),
        Read::Beds => ("beds", "Bed", "SELECT count(*) FROM bed_entry"),
    };
    let refused = |_| StoreError::new(StoreErrorKind::Refused, "open the signing key");
    let key = pki::load_signing_key(&config.tls.signing_key).map_err(refused)?;
    let here = config.place();
    let signer = Signer::new(&here, key);
    let mut db = open_to_note(config)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rows: i64 = tx.query_row(count, [], |row| row.get(0))?;
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let time = audit::time_beside(&tx, now)?;
    let entry = Entry::of_read(
        time,
        Decision::CrosswalkRead,
        who,
        &here,
        &Asked {
            interaction: what,
            kind,
            ..Asked::default()
        },
        rows,
    );
    audit::append(&tx, &entry)?;
    audit::sign_head(&tx, &signer)?;
    Ok(tx.commit()?)
}

/// The store of a facility opened to write entries to its audit log, beside a running node.
///
/// # Errors
/// As [`export_crosswalk`].
pub fn open_to_note(config: &EdgeConfig) -> Result<Connection, StoreError> {
    let key = store::read_facility_key(&config.key_file)?;
    store::open_beside(&config.data_dir, &key)
}

fn open(config: &EdgeConfig) -> Result<Connection, StoreError> {
    let key = store::read_facility_key(&config.key_file)?;
    store::open_read_only(&config.data_dir, &key)
}
