//! What the region keeps beside its FHIR resources, in one SQLite file: the registry of its devices as the catalog
//! knows them, and notes on readings that were not stored. A note is a digest and a word: never a payload.
use crate::decode::Fault;
use federation::port::{PortError, PortErrorKind};
use federation::wire::DeviceRecord;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, params};
use std::{path::Path, sync::Arc, time::Duration};
use types::{CatalogId, DeviceKind, FacilityId, Label, Timestamp};

/// The schema that this binary writes. It only goes forward.
const VERSION: i64 = 1;
/// How long a statement waits for another process's lock.
const BUSY: Duration = Duration::from_secs(5);
/// Devices on one page.
pub const MAX_PAGE: u16 = 1_000;

const SCHEMA: &str = "
CREATE TABLE device(id BLOB PRIMARY KEY, facility TEXT NOT NULL, kind TEXT NOT NULL, model TEXT, firmware TEXT,
  status TEXT NOT NULL, updated INTEGER NOT NULL) STRICT, WITHOUT ROWID;
-- readings of a parcel that were not stored; position -1 is the parcel as a whole
CREATE TABLE quarantine(parcel BLOB NOT NULL, position INTEGER NOT NULL, reason TEXT NOT NULL, digest BLOB NOT NULL,
  received INTEGER NOT NULL, PRIMARY KEY (parcel, position)) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// A later record of a device wins; its facility stays the one that first named it.
const PUT: &str = "INSERT INTO device(id, facility, kind, model, firmware, status, updated) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, \
     model = excluded.model, firmware = excluded.firmware, status = excluded.status, updated = excluded.updated \
     WHERE excluded.updated > device.updated AND excluded.facility = device.facility";
const NOTE: &str = "INSERT OR IGNORE INTO quarantine(parcel, position, reason, digest, received) \
     VALUES (?1, ?2, ?3, ?4, ?5)";
const LIST: &str = "SELECT id, facility, kind, model, firmware, status, updated FROM device \
     WHERE id > ?1 AND (?2 IS NULL OR facility = ?2) ORDER BY id LIMIT ?3";

/// A device as the catalog knows it. Its id is not the device's pseudonym in clinical data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The id.
    pub id: CatalogId,
    /// The facility that it belongs to.
    pub facility: FacilityId,
    /// What it is.
    pub kind: DeviceKind,
    /// Maker and model.
    pub model: Option<Label>,
    /// Firmware version.
    pub firmware: Option<Label>,
    /// `active`, `silent` or `retired`.
    pub status: &'static str,
    /// When this was said, real time.
    pub updated: Timestamp,
}

const STATUSES: [&str; 3] = ["active", "silent", "retired"];

impl Device {
    /// Reads a record of the wire; none when a field is not of its set.
    pub fn read(facility: &FacilityId, record: &DeviceRecord) -> Option<Self> {
        Some(Self {
            id: record.catalog_id[..].try_into().ok()?,
            facility: facility.clone(),
            kind: DeviceKind::parse(&record.kind)?,
            model: label(&record.model)?,
            firmware: label(&record.firmware)?,
            status: status(&record.status)?,
            updated: Timestamp(record.updated_ms),
        })
    }
}

fn status(text: &str) -> Option<&'static str> {
    STATUSES.into_iter().find(|known| *known == text)
}

fn label(text: &str) -> Option<Option<Label>> {
    match text {
        "" => Some(None),
        _ => text.parse().ok().map(Some),
    }
}

/// Why a reading, or a parcel as a whole, was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The parcel's id.
    pub parcel: Vec<u8>,
    /// The reading's position in it; none for the parcel as a whole.
    pub position: Option<u32>,
    /// Why.
    pub reason: &'static str,
    /// SHA-256 of what was not stored.
    pub digest: Vec<u8>,
}

impl Note {
    /// A note on a reading.
    pub fn of_reading(parcel: &[u8], position: u32, fault: Fault, digest: &[u8]) -> Self {
        Self {
            parcel: parcel.to_vec(),
            position: Some(position),
            reason: fault.as_str(),
            digest: digest.to_vec(),
        }
    }
}

/// The file.
#[derive(Clone)]
pub struct Desk {
    connection: Arc<Mutex<Connection>>,
}

impl Desk {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be opened, or a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self, PortError> {
        let open = || -> rusqlite::Result<(Connection, i64)> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let version: i64 =
                connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version == 0 {
                connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))?;
                return Ok((connection, VERSION));
            }
            Ok((connection, version))
        };
        match open().map_err(|error| failed("open the desk", &error))? {
            (connection, VERSION) => Ok(Self {
                connection: Arc::new(Mutex::new(connection)),
            }),
            _ => Err(PortError {
                kind: PortErrorKind::Corrupt,
                op: "open the desk: a newer program wrote it",
                source: None,
            }),
        }
    }

    async fn step<T: Send + 'static>(
        &self,
        op: &'static str,
        step: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || step(&mut connection.lock()));
        match done.await {
            Ok(result) => result.map_err(|error| failed(op, &error)),
            Err(_) => Err(PortError {
                kind: PortErrorKind::Internal,
                op,
                source: None,
            }),
        }
    }

    /// Puts devices into the registry. The same twice, or an older record after a newer one, changes nothing.
    ///
    /// # Errors
    /// [`PortError`]; nothing was stored.
    pub async fn put(&self, devices: Vec<Device>) -> Result<(), PortError> {
        self.step("put devices", move |connection| {
            let transaction = connection.transaction()?;
            for device in &devices {
                transaction.prepare_cached(PUT)?.execute(params![
                    device.id.as_bytes(),
                    device.facility.as_str(),
                    device.kind.as_str(),
                    device.model.as_ref().map(Label::as_str),
                    device.firmware.as_ref().map(Label::as_str),
                    device.status,
                    device.updated.0,
                ])?;
            }
            transaction.commit()
        })
        .await
    }

    /// Keeps notes. The same twice is one.
    ///
    /// # Errors
    /// [`PortError`]; nothing was stored.
    pub async fn note(&self, notes: Vec<Note>, now: Timestamp) -> Result<(), PortError> {
        if notes.is_empty() {
            return Ok(());
        }
        self.step("note", move |connection| {
            let transaction = connection.transaction()?;
            for note in &notes {
                transaction.prepare_cached(NOTE)?.execute(params![
                    note.parcel,
                    note.position.map_or(-1, i64::from),
                    note.reason,
                    note.digest,
                    now.0,
                ])?;
            }
            transaction.commit()
        })
        .await
    }

    /// Devices after an id, by id, at most `limit`; all facilities unless one is named.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn devices(
        &self,
        facility: Option<FacilityId>,
        after: Option<CatalogId>,
        limit: u16,
    ) -> Result<Vec<Device>, PortError> {
        self.step("list devices", move |connection| {
            let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
            let facility = facility.as_ref().map(|facility| facility.as_str());
            let mut statement = connection.prepare_cached(LIST)?;
            let rows = statement.query_map(params![after, facility, limit], device)?;
            rows.collect()
        })
        .await
    }

    /// How many notes there are.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn notes(&self) -> Result<u64, PortError> {
        self.step("count notes", |connection| {
            let count: i64 =
                connection.query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
        .await
    }
}

fn device(row: &rusqlite::Row<'_>) -> rusqlite::Result<Device> {
    let corrupt = |column| rusqlite::Error::IntegralValueOutOfRange(column, 0);
    let text = |column| row.get::<_, String>(column);
    let known = |column| -> rusqlite::Result<Option<Label>> {
        let text: Option<String> = row.get(column)?;
        text.map(|text| text.parse().map_err(|_| corrupt(column)))
            .transpose()
    };
    let id: Vec<u8> = row.get(0)?;
    Ok(Device {
        id: id[..].try_into().map_err(|_| corrupt(0))?,
        facility: text(1)?.parse().map_err(|_| corrupt(1))?,
        kind: DeviceKind::parse(&text(2)?).ok_or_else(|| corrupt(2))?,
        model: known(3)?,
        firmware: known(4)?,
        status: status(&text(5)?).ok_or_else(|| corrupt(5))?,
        updated: Timestamp(row.get(6)?),
    })
}

fn failed(op: &'static str, error: &rusqlite::Error) -> PortError {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => PortErrorKind::Corrupt,
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly,
        ) => PortErrorKind::Unavailable,
        Some(_) => PortErrorKind::Internal,
    };
    let source = error
        .sqlite_error()
        .map(|code| Box::new(*code) as Box<dyn std::error::Error + Send + Sync>);
    PortError { kind, op, source }
}
