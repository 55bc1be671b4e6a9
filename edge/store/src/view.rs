//! What the facility's own side reads of the store ([`crate::page`]), on connections of its own: a reader waits for
//! another reader at most, never for the uplink, and nothing that comes in waits for it.
//!
//! Every page is one short transaction: one that stays open would hold the log, which then grows without end.
use super::{
    Store, StoreError, StoreErrorKind, beds,
    prepared::{EDGE_EPOCH, WITHDRAWN_FOR_GOOD},
    recall, stored,
};
use crate::page::{AlarmsAsked, Cursor, MAX_PAGE, Page, Point, Reading, SeriesAsked, Whose};
use ingest::SampleReading;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::Semaphore;
use types::{Code, DeviceId, Phi, Priority, Timestamp, Unit};

/// Connections of readers: as many as read at once.
const READERS: usize = 2;

/// The readers' connections.
pub(super) struct Readers {
    /// None once the store is closed.
    idle: Mutex<Option<Vec<Connection>>>,
    permits: Semaphore,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            idle: Mutex::new(Some(Vec::new())),
            permits: Semaphore::new(READERS),
        }
    }
}

impl Readers {
    /// Closes those that read nothing now; the others close when they have read.
    pub(super) fn close(&self) {
        drop(self.idle.lock().take());
    }
}

/// A bed as the store knows it.
pub struct BedRead {
    /// The bed.
    pub bed: String,
    /// Who lies in it; none: nobody.
    pub patient: Option<Phi<String>>,
    /// Since when; none: nothing was ever entered of the bed.
    pub since: Option<Timestamp>,
    /// Each device that stands there, and the last values that it measured of that patient.
    pub devices: Vec<(DeviceId, Vec<(Timestamp, Reading)>)>,
}

const fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "read: the store is closed")
}

const fn corrupt() -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "read the readings of a sample")
}

impl Store {
    /// Reads on a connection of the readers, off the async threads.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.0.readers.permits.acquire().await;
        let _permit = permit.map_err(|_| closed())?;
        let shared = self.0.clone();
        let read = move || {
            let idle = shared.readers.idle.lock().as_mut().map(Vec::pop);
            let connection = match idle.ok_or_else(closed)? {
                Some(connection) => connection,
                None => shared.file.open_reader()?,
            };
            // One that failed is not kept: it may be the connection's fault.
            let answer = read(&connection)?;
            if let Some(idle) = shared.readers.idle.lock().as_mut() {
                idle.push(connection);
            }
            Ok(answer)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| StoreError::new(StoreErrorKind::Internal, "read"))?
    }

    /// Every bed of which anything is known at `now`, in the order of their names.
    ///
    /// # Errors
    /// As any read.
    pub async fn look_at_beds(&self, now: Timestamp) -> Result<Vec<BedRead>, StoreError> {
        self.look(move |db| in_one(db, |db| read_beds(db, now)))
            .await
    }

    /// One page of a series.
    ///
    /// # Errors
    /// As any read.
    pub async fn look_at_series(&self, asked: SeriesAsked) -> Result<Page, StoreError> {
        self.look(move |db| in_one(db, |db| series(db, &asked)))
            .await
    }

    /// One page of alarms.
    ///
    /// # Errors
    /// As any read.
    pub async fn look_at_alarms(&self, asked: AlarmsAsked) -> Result<Page, StoreError> {
        self.look(move |db| in_one(db, |db| alarms(db, &asked)))
            .await
    }
}

/// All of a read sees one state of the store.
pub(super) fn in_one<T>(
    db: &Connection,
    read: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let tx = db.unchecked_transaction()?;
    let answer = read(&tx);
    tx.rollback()?;
    answer
}

/// Who lies in a bed, and since when.
type Lying = (Option<i64>, Option<Timestamp>);

fn read_beds(db: &Connection, now: Timestamp) -> Result<Vec<BedRead>, StoreError> {
    let mut known: BTreeMap<String, Lying> = BTreeMap::new();
    for (bed, intervals) in beds::load(db)? {
        let until = intervals.partition_point(|(from, _)| *from <= now.0);
        let last = intervals.get(..until).and_then(<[_]>::last);
        let lying = last.map_or((None, None), |(from, who)| (*who, Some(Timestamp(*from))));
        known.insert(bed, lying);
    }
    let mut standing: BTreeMap<String, Vec<(i64, DeviceId)>> = BTreeMap::new();
    for (row, device) in devices(db)? {
        if let Some(bed) = bed_at(&beds::placements(db, row)?, now.0) {
            known.entry(bed.to_owned()).or_default();
            standing
                .entry(bed.to_owned())
                .or_default()
                .push((row, device));
        }
    }
    let mut all = Vec::new();
    for (bed, (patient, since)) in known {
        let mut devices = Vec::new();
        for (row, device) in standing.remove(&bed).unwrap_or_default() {
            devices.push((device, newest(db, row, patient)?));
        }
        all.push(BedRead {
            patient: match patient {
                Some(row) => named(db, row)?,
                None => None,
            },
            bed,
            since,
            devices,
        });
    }
    Ok(all)
}

/// The last value of each signal that a device measured of a patient, or of nobody, in the order of their codes.
fn newest(
    db: &Connection,
    device: i64,
    patient: Option<i64>,
) -> Result<Vec<(Timestamp, Reading)>, StoreError> {
    let samples = select(
        db,
        "WHERE sample.device = ?1 AND epoch <> ?2 ORDER BY epoch DESC, seq DESC LIMIT ?3",
        params![device, EDGE_EPOCH, recall::SAMPLES],
    )?;
    let mut newest: BTreeMap<(Code, Unit), (Timestamp, Reading)> = BTreeMap::new();
    for seen in samples.iter().filter(|seen| seen.patient == patient) {
        let at = Timestamp(seen.cursor.0[0].min(seen.arrived_ms));
        for reading in stored::readings(&seen.readings).ok_or_else(corrupt)? {
            let key = (reading.code, reading.unit);
            if newest.get(&key).is_none_or(|(last, _)| *last < at) {
                newest.insert(key, (at, reading.into()));
            }
        }
    }
    Ok(newest.into_values().collect())
}

fn devices(db: &Connection) -> Result<Vec<(i64, DeviceId)>, StoreError> {
    let rows: Vec<(i64, String)> = db
        .prepare_cached("SELECT row, id FROM device ORDER BY id")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let parsed = rows
        .into_iter()
        .map(|(row, id)| Some((row, id.parse().ok()?)));
    Ok(parsed.flatten().collect())
}

fn named(db: &Connection, patient: i64) -> rusqlite::Result<Option<Phi<String>>> {
    db.prepare_cached("SELECT id FROM patient WHERE row = ?1")?
        .query_row([patient], |row| row.get(0).map(Phi::new))
        .optional()
}

/// At which bed a device stood when something of it came in.
fn bed_at(placements: &[(i64, Option<String>)], arrived_ms: i64) -> Option<&str> {
    let until = placements.partition_point(|(since, _)| *since <= arrived_ms);
    placements.get(..until)?.last()?.1.as_deref()
}

/// A sample of a page.
struct Seen {
    cursor: Cursor,
    device: String,
    patient: Option<i64>,
    patient_id: Option<String>,
    arrived_ms: i64,
    alarm: bool,
    readings: Vec<u8>,
}

/// The columns of [`Seen`], of whatever is chosen.
const SEEN: &str = "SELECT source_ms, sample.device, epoch, seq, device.id, sample.patient, patient.id, arrived_ms,
       sample.priority, readings
     FROM sample JOIN device ON device.row = sample.device LEFT JOIN patient ON patient.row = sample.patient";

fn seen(row: &Row<'_>) -> rusqlite::Result<Seen> {
    Ok(Seen {
        cursor: Cursor([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]),
        device: row.get(4)?,
        patient: row.get(5)?,
        patient_id: row.get(6)?,
        arrived_ms: row.get(7)?,
        alarm: row.get::<_, u8>(8)? == Priority::Alarm.rank(),
        readings: row.get(9)?,
    })
}

fn select(db: &Connection, rest: &str, values: impl Params) -> rusqlite::Result<Vec<Seen>> {
    let mut query = db.prepare_cached(&format!("{SEEN} {rest}"))?;
    query.query_map(values, seen)?.collect()
}

/// A limit as SQL has it.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Which of a device's samples belong to a series.
enum Which {
    All,
    OfPatient(i64),
    AtBed(String, Vec<(i64, Option<String>)>),
}

impl Which {
    fn holds(&self, seen: &Seen) -> bool {
        match self {
            Self::All => true,
            Self::OfPatient(row) => seen.patient == Some(*row),
            Self::AtBed(bed, placements) => bed_at(placements, seen.arrived_ms) == Some(bed),
        }
    }
}

/// The devices of a series, each with which of its samples belong to it.
fn sources(db: &Connection, whose: &Whose) -> Result<BTreeMap<i64, Which>, StoreError> {
    let chosen = |sql: &str, value: &dyn rusqlite::ToSql| -> Result<BTreeSet<i64>, StoreError> {
        let mut query = db.prepare_cached(sql)?;
        let rows = query.query_map([value], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let mut sources = BTreeMap::new();
    match whose {
        Whose::Device(id) => {
            for row in chosen("SELECT row FROM device WHERE id = ?1", &id.as_str())? {
                sources.insert(row, Which::All);
            }
        }
        Whose::Bed(bed) => {
            for row in chosen("SELECT device FROM placement WHERE bed = ?1", bed)? {
                let placements = beds::placements(db, row)?;
                sources.insert(row, Which::AtBed(bed.clone(), placements));
            }
        }
        Whose::Patient(id) => {
            let Some(patient) = patient_row(db, id)? else {
                return Ok(sources);
            };
            // A device from before there were stays has one for all of its patients.
            let of = "SELECT device FROM stay WHERE patient = ?1 OR patient = -1";
            for row in chosen(of, &patient)? {
                sources.insert(row, Which::OfPatient(patient));
            }
        }
    }
    Ok(sources)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the id is looked up in the store that keeps it"
)]
pub(super) fn patient_row(db: &Connection, id: &Phi<String>) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT row FROM patient WHERE id = ?1")?
        .query_row([id.expose()], |row| row.get(0))
        .optional()
}

fn series(db: &Connection, asked: &SeriesAsked) -> Result<Page, StoreError> {
    let limit = asked.limit.clamp(1, MAX_PAGE);
    let mut found: Vec<Seen> = Vec::new();
    let sources = sources(db, &asked.whose)?;
    for device in sources.keys() {
        let (at, epoch, seq) = begins(asked.after, asked.from, *device);
        found.extend(select(
            db,
            "WHERE sample.device = ?1 AND (source_ms, epoch, seq) > (?2, ?3, ?4) AND source_ms < ?5 AND digest <> ?6
             ORDER BY source_ms, epoch, seq LIMIT ?7",
            params![device, at, epoch, seq, asked.until.0, WITHDRAWN_FOR_GOOD, rows(limit)],
        )?);
    }
    found.sort_unstable_by_key(|seen| seen.cursor);
    let next = found.get(limit - 1).map(|seen| seen.cursor);
    found.truncate(limit);
    let belongs = |seen: &Seen| {
        let device = seen.cursor.0[1];
        sources.get(&device).is_some_and(|which| which.holds(seen))
    };
    page(found.into_iter().filter(belongs), next, |reading| {
        asked.code.is_none_or(|code| code == reading.code)
    })
}

/// Behind which (source time, epoch, number) a device's samples are read.
fn begins(after: Option<Cursor>, from: Timestamp, device: i64) -> (i64, i64, i64) {
    match after {
        Some(Cursor([at, last, epoch, seq])) if at >= from.0 => match device.cmp(&last) {
            std::cmp::Ordering::Less => (at, i64::MAX, i64::MAX),
            std::cmp::Ordering::Equal => (at, epoch, seq),
            std::cmp::Ordering::Greater => (at.saturating_sub(1), i64::MAX, i64::MAX),
        },
        _ => (from.0.saturating_sub(1), i64::MAX, i64::MAX),
    }
}

fn alarms(db: &Connection, asked: &AlarmsAsked) -> Result<Page, StoreError> {
    let limit = asked.limit.clamp(1, MAX_PAGE);
    let first = Cursor([asked.from.0.saturating_sub(1), i64::MAX, i64::MAX, i64::MAX]);
    let Cursor(after) = asked.after.unwrap_or(first).max(first);
    let found = select(
        db,
        "WHERE sample.priority = 0 AND (source_ms, sample.device, epoch, seq) > (?1, ?2, ?3, ?4) AND source_ms < ?5
           AND digest <> ?6
         ORDER BY source_ms, sample.device, epoch, seq LIMIT ?7",
        params![
            after[0],
            after[1],
            after[2],
            after[3],
            asked.until.0,
            WITHDRAWN_FOR_GOOD,
            rows(limit)
        ],
    )?;
    let last = found.last().map(|seen| seen.cursor);
    let next = last.filter(|_| found.len() == limit);
    page(found.into_iter(), next, |_| true)
}

fn page(
    samples: impl Iterator<Item = Seen>,
    next: Option<Cursor>,
    wanted: impl Fn(&SampleReading) -> bool,
) -> Result<Page, StoreError> {
    let mut points = Vec::new();
    for seen in samples {
        let device: DeviceId = seen.device.parse().map_err(|_| corrupt())?;
        let readings = stored::readings(&seen.readings).ok_or_else(corrupt)?;
        for reading in readings.into_iter().filter(&wanted) {
            points.push(Point {
                device: device.clone(),
                patient: seen.patient_id.clone().map(Phi::new),
                at: Timestamp(seen.cursor.0[0]),
                arrived: Timestamp(seen.arrived_ms),
                reading: reading.into(),
                alarm: seen.alarm,
            });
        }
    }
    Ok(Page { points, next })
}

impl From<SampleReading> for Reading {
    fn from(reading: SampleReading) -> Self {
        Self {
            code: reading.code,
            unit: reading.unit,
            value: reading.value,
            flags: reading.flags,
        }
    }
}
