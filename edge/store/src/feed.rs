//! What has changed in the store since a place, for whoever keeps a copy of it within the facility (`edge::fhir`).
//!
//! Triggers write one small row of `feed` in the commit of the change itself, whichever part of the store makes it: a
//! sample that is stored, moved to another patient or deleted, readings that are withdrawn, a patient of whom something
//! is known, an entry of a bed, a device. Rows have one order, that of commits. A reader goes on from the last row that
//! it has done, and lets rows go that it is done with; the last one always stays, so that numbers only grow.
use super::{
    Store, StoreError, StoreErrorKind, beds, commit::Commit, pack, prepared::WITHDRAWN_FOR_GOOD,
    schema, stored, view::in_one,
};
use crate::deid::PatientRecord;
use ingest::SampleReading;
use ring::hmac;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use types::{DeviceId, Flags, Phi, ReadingUid, Secret, Timestamp};

/// Rows of one page.
pub(crate) const PAGE: i64 = 1_000;

/// Feeds everything anew, for a copy that is of another past than the store.
const ANEW: &str = "
INSERT INTO feed (kind, a) SELECT 1, row FROM device ORDER BY row;
INSERT INTO feed (kind, a) SELECT 2, row FROM patient ORDER BY row;
INSERT INTO feed (kind, a) SELECT 3, row FROM bed_entry ORDER BY row;
INSERT INTO feed (kind, a, b, c) SELECT 4, device, epoch, seq FROM sample;
INSERT INTO feed (kind, a) SELECT 5, row FROM withdrawal ORDER BY row;
";

/// A page of changes. Everything in it is PHI and is not printed.
#[derive(Default)]
pub struct Feed {
    /// The last row that was looked at; none when there was nothing new.
    pub last: Option<i64>,
    /// Whether there may be more.
    pub more: bool,
    /// The newest row of all.
    pub newest: i64,
    /// What changed.
    pub changed: Vec<Changed>,
}

/// What is so now of something that changed.
pub enum Changed {
    /// A device is new.
    Device(DeviceId),
    /// A patient is new, or something became known of them.
    Patient(Box<PatientNow>),
    /// What was entered of a bed, and every patient of whom an entry of that bed ever said that they lie in it.
    Bed(String, BTreeSet<i64>),
    /// Readings that were stored, moved to another patient or withdrawn.
    Sample(Vec<Measured>),
    /// These readings are kept no longer.
    Gone(Vec<ReadingUid>),
}

/// A patient as the facility knows them.
pub struct PatientNow {
    /// What they are called here instead of by the facility's own id.
    pub id: LocalId,
    /// What is known of them.
    pub record: PatientRecord,
}

/// A reading with whose it is.
pub struct Measured {
    /// Its uid.
    pub uid: ReadingUid,
    /// The device.
    pub device: DeviceId,
    /// Whose it is; none: nobody's.
    pub patient: Option<LocalId>,
    /// When it was measured.
    pub at: Timestamp,
    /// The reading.
    pub reading: SampleReading,
    /// Whether it was withdrawn.
    pub withdrawn: bool,
}

/// What something is called in the facility's own copies: derived under a key of the facility, so that it comes out alike
/// after a restore, and is no pseudonym that the region knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(String);

impl LocalId {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes [`LocalId`]s.
#[derive(Clone)]
pub struct LocalIds(hmac::Key);

impl LocalIds {
    fn of(&self, kind: &str, text: &str) -> LocalId {
        let tag = hmac::sign(&self.0, format!("{kind}\n{text}").as_bytes());
        LocalId(hex::encode(tag.as_ref().get(..16).unwrap_or_default()))
    }

    /// Of a patient, by the facility's own id.
    #[must_use]
    pub fn patient(&self, id: &str) -> LocalId {
        self.of("patient", id)
    }

    /// Of a bed, by its name.
    #[must_use]
    pub fn bed(&self, name: &str) -> LocalId {
        self.of("bed", name)
    }

    /// Of a stay, by whose it is and when it began.
    #[must_use]
    pub fn stay(&self, patient: &LocalId, from: Timestamp) -> LocalId {
        self.of("stay", &format!("{}\n{}", patient.0, from.0))
    }
}

/// From when to when a patient lay in a bed; no end where nothing says when.
pub struct InBed {
    /// The bed.
    pub bed: String,
    /// From when on.
    pub from: Timestamp,
    /// Up to when.
    pub until: Option<Timestamp>,
}

/// Who lay where, of every patient of whom an entry holds.
pub struct Stays {
    /// By the row of the patient: what they are called, and the intervals in the order of time.
    pub of: BTreeMap<i64, (LocalId, Vec<InBed>)>,
    /// What everybody else is called of whom an entry was made once.
    pub named: BTreeMap<i64, LocalId>,
    /// When the next entry begins to hold, after the instant that was asked for.
    pub next: Option<Timestamp>,
    /// Every bed.
    pub beds: BTreeSet<String>,
}

impl Store {
    /// What has changed behind a row of the feed.
    ///
    /// # Errors
    /// As any read.
    pub async fn feed(&self, after: i64) -> Result<Feed, StoreError> {
        let ids = self.local_ids();
        self.look(move |db| in_one(db, |db| page(db, &ids, after)))
            .await
    }

    /// Where to go on for a copy that was made up to a row: there, or behind everything, which is then fed anew, when the
    /// store is of another past than the copy (either was put back, or the copy is new).
    ///
    /// # Errors
    /// As any write.
    pub async fn meet_feed(&self, copied: i64) -> Result<i64, StoreError> {
        let (first, last) = self.look(|db| Ok(ends(db)?)).await?;
        if copied <= last && first <= copied.saturating_add(1) {
            return Ok(copied);
        }
        self.in_commit(move |commit: &mut Commit<'_, '_>| {
            let tx = commit.tx();
            let base = ends(tx)?.1.max(copied);
            tx.execute("DELETE FROM feed", [])?;
            // A row of no kind, from which numbers go on.
            tx.execute("INSERT INTO feed (n, kind, a) VALUES (?1, 0, 0)", [base])?;
            tx.execute_batch(ANEW)?;
            Ok(base)
        })
        .await
    }

    /// Lets go of rows that a copy has done, but for the last of them.
    ///
    /// # Errors
    /// As any write.
    pub async fn fed(&self, last: i64) -> Result<(), StoreError> {
        self.in_commit(move |commit: &mut Commit<'_, '_>| {
            commit
                .tx()
                .prepare_cached("DELETE FROM feed WHERE n < ?1")?
                .execute([last])?;
            Ok(())
        })
        .await
    }

    /// Who lies where, of all of whom an entry holds.
    ///
    /// # Errors
    /// As any read.
    pub async fn stays_in_beds(&self, now: Timestamp) -> Result<Stays, StoreError> {
        let ids = self.local_ids();
        self.look(move |db| in_one(db, |db| stays(db, &ids, now)))
            .await
    }

    /// What patients, beds and stays are called in the facility's own copies.
    #[must_use]
    pub fn local_ids(&self) -> LocalIds {
        LocalIds(hmac::Key::new(
            hmac::HMAC_SHA256,
            self.0
                .file
                .key
                .derived(b"medmesh local ids, version 1")
                .reveal(),
        ))
    }

    /// A secret of the facility for a purpose, which is the same after every start and every restore.
    #[must_use]
    pub fn secret(&self, purpose: &[u8]) -> Secret<[u8; 32]> {
        self.0.file.key.derived(purpose)
    }

    /// Where a copy of the store lies, and the statements with which every connection to it begins: it is encrypted as the
    /// store is.
    #[must_use]
    pub fn copy_file(&self, name: &str) -> (PathBuf, Secret<String>) {
        let path = self.0.file.path.with_file_name(name);
        (path, schema::first_statements(&self.0.file.key))
    }
}

/// The first and the last row that there is.
fn ends(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    db.query_row("SELECT min(n), max(n) FROM feed", [], |row| {
        let first: Option<i64> = row.get(0)?;
        Ok((
            first.unwrap_or(1),
            row.get::<_, Option<i64>>(1)?.unwrap_or(0),
        ))
    })
}

fn corrupt() -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "read what changed in the store")
}

const ROWS: &str = "SELECT n, kind, a, b, c, readings FROM feed WHERE n > ?1 ORDER BY n LIMIT ?2";

fn page(db: &Connection, ids: &LocalIds, after: i64) -> Result<Feed, StoreError> {
    let mut query = db.prepare_cached(ROWS)?;
    let mut rows = query.query(params![after, PAGE])?;
    let (mut feed, mut count) = (Feed::default(), 0);
    while let Some(row) = rows.next()? {
        feed.last = Some(row.get(0)?);
        count += 1;
        let what = row.get(2)?;
        let changed = match row.get::<_, i64>(1)? {
            1 => device(db, what)?,
            2 => patient(db, ids, what)?,
            3 => bed(db, what)?,
            4 => sample(db, ids, (what, row.get(3)?, row.get(4)?))?,
            5 => withdrawn(db, ids, what)?,
            6 => Some(Changed::Gone(uids(&row.get::<_, Vec<u8>>(5)?)?)),
            _ => None,
        };
        feed.changed.extend(changed);
    }
    feed.more = count == PAGE;
    feed.newest = db
        .prepare_cached("SELECT coalesce(max(n), 0) FROM feed")?
        .query_row([], |row| row.get(0))?;
    Ok(feed)
}

fn device(db: &Connection, row: i64) -> Result<Option<Changed>, StoreError> {
    let id: Option<String> = db
        .prepare_cached("SELECT id FROM device WHERE row = ?1")?
        .query_row([row], |row| row.get(0))
        .optional()?;
    let id = id.map(|id| id.parse().map_err(|_| corrupt()));
    Ok(id.transpose()?.map(Changed::Device))
}

fn patient(db: &Connection, ids: &LocalIds, row: i64) -> Result<Option<Changed>, StoreError> {
    let phi = |row: &Row<'_>, at| -> rusqlite::Result<Option<Phi<String>>> {
        Ok(row.get::<_, Option<String>>(at)?.map(Phi::new))
    };
    let found = db
        .prepare_cached(
            "SELECT id, name, mrn, birth_date, gender, height_cm, weight_kg, care_unit FROM patient WHERE row = ?1",
        )?
        .query_row([row], |row| {
            Ok(PatientNow {
                id: ids.patient(&row.get::<_, String>(0)?),
                record: PatientRecord {
                    facility_id: phi(row, 0)?,
                    name: phi(row, 1)?,
                    mrn: phi(row, 2)?,
                    birth_date: phi(row, 3)?,
                    gender: phi(row, 4)?,
                    height_cm: phi(row, 5)?,
                    weight_kg: phi(row, 6)?,
                    care_unit: phi(row, 7)?,
                    ..PatientRecord::default()
                },
            })
        })
        .optional()?;
    Ok(found.map(|patient| Changed::Patient(Box::new(patient))))
}

fn bed(db: &Connection, row: i64) -> Result<Option<Changed>, StoreError> {
    let name: Option<String> = db
        .prepare_cached("SELECT bed FROM bed_entry WHERE row = ?1")?
        .query_row([row], |row| row.get(0))
        .optional()?;
    let Some(name) = name else {
        return Ok(None);
    };
    let mut query = db.prepare_cached(
        "SELECT DISTINCT patient FROM bed_entry WHERE bed = ?1 AND patient IS NOT NULL",
    )?;
    let patients = query.query_map([&name], |row| row.get(0))?;
    let patients = patients.collect::<Result<_, _>>()?;
    Ok(Some(Changed::Bed(name, patients)))
}

/// What a sample is read by, whichever row of it.
const SEEN: &str = "d.id, p.id, s.source_ms, s.flags";

/// A sample as it is now; nothing of one that is deleted by now, or was withdrawn for good.
fn sample(
    db: &Connection,
    ids: &LocalIds,
    (device, epoch, seq): (i64, i64, i64),
) -> Result<Option<Changed>, StoreError> {
    let found = db
        .prepare_cached(&format!(
            "SELECT {SEEN}, s.readings FROM sample s JOIN device d ON d.row = s.device
             LEFT JOIN patient p ON p.row = s.patient
             WHERE s.device = ?1 AND s.epoch = ?2 AND s.seq = ?3 AND s.digest <> ?4"
        ))?
        .query_row(params![device, epoch, seq, WITHDRAWN_FOR_GOOD], |row| {
            Ok(measured(row, ids, false))
        })
        .optional()?;
    Ok(found.transpose()?.map(Changed::Sample))
}

/// Readings as they were before they were given to another patient.
fn withdrawn(db: &Connection, ids: &LocalIds, row: i64) -> Result<Option<Changed>, StoreError> {
    let found = db
        .prepare_cached(&format!(
            "SELECT {SEEN}, w.readings FROM withdrawal w JOIN device d ON d.row = w.device
             JOIN sample s ON s.device = w.device AND s.epoch = w.epoch AND s.seq = w.seq
             LEFT JOIN patient p ON p.row = w.patient WHERE w.row = ?1"
        ))?
        .query_row([row], |row| Ok(measured(row, ids, true)))
        .optional()?;
    Ok(found.transpose()?.map(Changed::Sample))
}

fn measured(row: &Row<'_>, ids: &LocalIds, withdrawn: bool) -> Result<Vec<Measured>, StoreError> {
    let device: DeviceId = row.get::<_, String>(0)?.parse().map_err(|_| corrupt())?;
    let patient: Option<String> = row.get(1)?;
    let patient = patient.map(|id| ids.patient(&id));
    let at = Timestamp(row.get(2)?);
    let arrival = Flags::from_bits(row.get(3)?).ok_or_else(corrupt)?;
    let packed: Vec<u8> = row.get(4)?;
    let readings = stored::readings(&packed).ok_or_else(corrupt)?;
    let uids = uids(&packed)?;
    let with = |(uid, reading): (ReadingUid, SampleReading)| Measured {
        uid,
        device: device.clone(),
        patient: patient.clone(),
        at,
        reading: SampleReading {
            flags: reading.flags.with(arrival),
            ..reading
        },
        withdrawn,
    };
    Ok(uids.into_iter().zip(readings).map(with).collect())
}

fn uids(packed: &[u8]) -> Result<Vec<ReadingUid>, StoreError> {
    let count = usize::try_from(pack::count(packed)).unwrap_or(0);
    let uids = (0..count).map(|index| pack::uid(packed, index).ok_or_else(corrupt));
    uids.collect()
}

fn stays(db: &Connection, ids: &LocalIds, now: Timestamp) -> Result<Stays, StoreError> {
    let mut found = Stays {
        of: BTreeMap::new(),
        named: BTreeMap::new(),
        next: None,
        beds: BTreeSet::new(),
    };
    let mut name = db.prepare_cached("SELECT id FROM patient WHERE row = ?1")?;
    for (bed, entries) in beds::load(db)? {
        let ends = entries.iter().skip(1).map(|(from, _)| Timestamp(*from));
        let ends = ends.map(Some).chain([None]);
        for ((from, patient), until) in entries.iter().zip(ends) {
            let from = Timestamp(*from);
            if from > now {
                found.next = Some(found.next.map_or(from, |next| next.min(from)));
            }
            let Some(row) = patient else {
                continue;
            };
            let stay = InBed {
                bed: bed.clone(),
                from,
                until,
            };
            if let Some((_, all)) = found.of.get_mut(row) {
                all.push(stay);
                continue;
            }
            let id: String = name.query_row([row], |row| row.get(0))?;
            found.of.insert(*row, (ids.patient(&id), vec![stay]));
        }
        found.beds.insert(bed);
    }
    // Whoever lay in a bed by an entry that another one took back.
    let mut once = db.prepare_cached(
        "SELECT row, id FROM patient WHERE row IN (SELECT patient FROM bed_entry)",
    )?;
    let mut rows = once.query([])?;
    while let Some(row) = rows.next()? {
        let (row, id): (i64, String) = (row.get(0)?, row.get(1)?);
        if !found.of.contains_key(&row) {
            found.named.insert(row, ids.patient(&id));
        }
    }
    for (_, all) in found.of.values_mut() {
        all.sort_by_key(|stay| stay.from);
    }
    Ok(found)
}
