//! What the region keeps beside its FHIR resources, in one SQLite file: the registry of its devices as the catalog
//! knows them. The first facility that names a device owns its id.
use federation::ledger::notes::Note;
use federation::port::{PortError, PortErrorKind};
use messages::DeviceRecord;
use rusqlite::{Connection, OptionalExtension, params};
use std::{path::Path, sync::Arc};
use storage::{
    StoreError, migrate,
    open::Opening,
    replica::Kept,
    sqlite::{Reopening, in_doubt},
};
use types::{CatalogId, DeviceKind, DeviceStatus, FacilityId, Label, Timestamp};

/// The schema that this binary writes. It only goes forward.
const VERSION: i64 = 2;
/// How far ahead of ours a record's time may be, in ms: a day, since a record bears the day of its sender.
const MAX_AHEAD_MS: i64 = Timestamp::DAY_MS;
/// Devices on one page.
pub const MAX_PAGE: u16 = 1_000;

const SCHEMA: &str = "
CREATE TABLE device(id BLOB PRIMARY KEY, facility TEXT NOT NULL, kind TEXT NOT NULL, model TEXT, firmware TEXT,
  status TEXT NOT NULL, updated INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";
/// Version 1 kept notes on what was not stored here; they are the ledger's now. And it kept the instant of a change.
const OLD_NOTES: &str =
    "SELECT parcel, position, reason, digest, received FROM quarantine ORDER BY parcel, position";
const DROP_OLD_NOTES: &str = "BEGIN IMMEDIATE; DROP TABLE quarantine; UPDATE device SET updated = updated - updated % 86400000; \
     PRAGMA user_version = 2; COMMIT;";

/// A later record of a device wins; its facility stays the one that first named it.
const PUT: &str = "INSERT INTO device(id, facility, kind, model, firmware, status, updated) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, \
     model = excluded.model, firmware = excluded.firmware, status = excluded.status, updated = excluded.updated \
     WHERE excluded.updated > device.updated AND excluded.facility = device.facility";
const OWNER: &str = "SELECT facility FROM device WHERE id = ?1";
const ONE: &str =
    "SELECT id, facility, kind, model, firmware, status, updated FROM device WHERE id = ?1";
const LIST: &str = "SELECT id, facility, kind, model, firmware, status, updated FROM device \
     WHERE id > ?1 AND (?2 IS NULL OR facility = ?2) AND (?4 IS NULL OR kind = ?4) AND (?5 IS NULL OR status = ?5) \
     ORDER BY id LIMIT ?3";

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
    /// Whether it is in use.
    pub status: DeviceStatus,
    /// The day of the last change of what it is, with the order of its records within the day.
    pub updated: Timestamp,
}

/// Which devices are listed: those with everything that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of a facility.
    pub facility: Option<FacilityId>,
    /// Those of a kind.
    pub kind: Option<DeviceKind>,
    /// Those that are in use, or not.
    pub status: Option<DeviceStatus>,
}

impl Device {
    /// Reads a record of the wire; none when a field is not of its set, or its time is not between 1970 and now: one from
    /// further ahead would win over every later one.
    pub fn read(facility: &FacilityId, record: &DeviceRecord, now: Timestamp) -> Option<Self> {
        let updated = Timestamp(record.updated_ms);
        if !(Timestamp(0)..=now.plus_ms(MAX_AHEAD_MS)).contains(&updated) {
            return None;
        }
        Some(Self {
            id: record.catalog_id[..].try_into().ok()?,
            facility: facility.clone(),
            kind: DeviceKind::parse(&record.kind)?,
            model: label(&record.model)?,
            firmware: label(&record.firmware)?,
            status: DeviceStatus::parse(&record.status)?,
            updated,
        })
    }
}

fn label(text: &str) -> Option<Option<Label>> {
    match text {
        "" => Some(None),
        _ => text.parse().ok().map(Some),
    }
}

/// The file.
#[derive(Clone)]
pub struct Registry {
    file: Arc<Reopening>,
}

impl Registry {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be opened, or a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self, PortError> {
        Self::open_kept(path, None)
    }

    /// As [`Registry::open`]; no step is done before `kept` has what it committed.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub fn open_kept(path: &Path, kept: Option<Kept>) -> Result<Self, PortError> {
        const OP: &str = "open the registry";
        let mut connection = connect(path).map_err(|error| failed(OP, &error))?;
        // Version 1 is brought forward once its notes are kept elsewhere.
        if migrate::version(&connection, VERSION)? == 0 {
            let make = |tx: &Connection, _| tx.execute_batch(SCHEMA);
            migrate::file(&mut connection, VERSION, make)?;
        }
        let file = Reopening::new(path, connection, connect).kept(kept);
        let file = file.map_err(|error| failed(OP, &error))?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    async fn step<T: Send + 'static>(
        &self,
        op: &'static str,
        step: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || file.step(step, in_doubt));
        match done.await {
            Ok(result) => result.map_err(|error| failed(op, &error)),
            Err(_) => Err(PortError::new(PortErrorKind::Internal, op)),
        }
    }

    /// Puts devices of one facility into the registry. The same twice, or an older record after a newer one, changes
    /// nothing. Says false, and has stored nothing, where one of them is another facility's.
    ///
    /// # Errors
    /// [`PortError`]; nothing was stored.
    pub async fn put(&self, devices: Vec<Device>) -> Result<bool, PortError> {
        self.step("put devices", move |connection| {
            let transaction = connection.transaction()?;
            for device in &devices {
                let owner: Option<String> = transaction
                    .prepare_cached(OWNER)?
                    .query_row([device.id.as_bytes()], |row| row.get(0))
                    .optional()?;
                if owner.is_some_and(|owner| owner != device.facility.as_str()) {
                    return Ok(false);
                }
            }
            for device in &devices {
                transaction.prepare_cached(PUT)?.execute(params![
                    device.id.as_bytes(),
                    device.facility.as_str(),
                    device.kind.as_str(),
                    device.model.as_ref().map(Label::as_str),
                    device.firmware.as_ref().map(Label::as_str),
                    device.status.as_str(),
                    device.updated.0,
                ])?;
            }
            transaction.commit()?;
            Ok(true)
        })
        .await
    }

    /// The notes that version 1 of the file holds; none in a newer one. Once they are kept elsewhere, call
    /// [`Registry::forget_old_notes`].
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn old_notes(&self) -> Result<Vec<Note>, PortError> {
        self.step("read old notes", |connection| {
            if version(connection)? != 1 {
                return Ok(Vec::new());
            }
            let mut statement = connection.prepare(OLD_NOTES)?;
            let rows = statement.query_map([], |row| {
                Ok(Note {
                    number: 0,
                    sender: String::new(),
                    parcel: row.get(0)?,
                    position: u32::try_from(row.get::<_, i64>(1)?).ok(),
                    reason: row.get(2)?,
                    digest: row.get(3)?,
                    time: Timestamp(row.get(4)?).to_rfc3339(),
                })
            })?;
            rows.collect()
        })
        .await
    }

    /// Brings a file of version 1 to this one, without its notes.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn forget_old_notes(&self) -> Result<(), PortError> {
        self.step("forget old notes", |connection| {
            if version(connection)? == 1 {
                connection.execute_batch(DROP_OLD_NOTES)?;
            }
            Ok(())
        })
        .await
    }

    /// The device of an id.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn device(&self, id: CatalogId) -> Result<Option<Device>, PortError> {
        self.step("find a device", move |connection| {
            let mut statement = connection.prepare_cached(ONE)?;
            statement.query_row([id.as_bytes()], device).optional()
        })
        .await
    }

    /// Devices after an id, by id, at most `limit`.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn devices(
        &self,
        filter: Filter,
        after: Option<CatalogId>,
        limit: u16,
    ) -> Result<Vec<Device>, PortError> {
        self.step("list devices", move |connection| {
            let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
            let facility = filter.facility.as_ref().map(|facility| facility.as_str());
            let kind = filter.kind.map(DeviceKind::as_str);
            let status = filter.status.map(DeviceStatus::as_str);
            let mut statement = connection.prepare_cached(LIST)?;
            let rows =
                statement.query_map(params![after, facility, limit, kind, status], device)?;
            rows.collect()
        })
        .await
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    Opening::default().open_lasting(path)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
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
        status: DeviceStatus::parse(&text(5)?).ok_or_else(|| corrupt(5))?,
        updated: Timestamp(row.get(6)?),
    })
}

fn failed(op: &'static str, error: &rusqlite::Error) -> PortError {
    StoreError::coded(op, error).into()
}
