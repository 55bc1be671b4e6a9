//! The catalog in a SQLite file: the embedded engine. It holds no PHI, so the file is not encrypted.
use super::{
    Catalog, Device, DeviceCursor, DeviceFilter, Entry, Facility, Facts, Home, Kind, Page,
    PlaceFilter, Put, Records, StoreError, check_limit, check_records,
};
use async_trait::async_trait;
use rusqlite::{Connection, Row, named_params, params};
use std::{path::Path, sync::Arc};
use storage::{
    migrate,
    open::Opening,
    sqlite::{Reopening, in_doubt},
};
use types::{CatalogId, DeviceStatus, Timestamp};

/// The version of the tables below, in `PRAGMA user_version`. It only goes forward.
const SCHEMA_VERSION: i64 = 3;

const SCHEMA: &str = "
CREATE TABLE device (
    jurisdiction TEXT NOT NULL,
    region TEXT NOT NULL,
    facility TEXT NOT NULL,
    id TEXT NOT NULL,
    facts TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (jurisdiction, region, facility, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_by_id ON device (id);
CREATE TABLE facility (
    jurisdiction TEXT NOT NULL,
    region TEXT NOT NULL,
    facility TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (jurisdiction, region, facility)
) STRICT, WITHOUT ROWID;
";

/// What version 2 adds: who owns an id. Where two facilities claimed one before, the claim that has stood unchanged for
/// longest is taken for the first, and the others are dropped.
const OWNERS: &str = "
CREATE TABLE owner (
    id TEXT PRIMARY KEY,
    jurisdiction TEXT NOT NULL,
    region TEXT NOT NULL,
    facility TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO owner (id, jurisdiction, region, facility)
SELECT id, jurisdiction, region, facility FROM device ORDER BY updated_ms, jurisdiction, region, facility;
DELETE FROM device WHERE (id, jurisdiction, region, facility) NOT IN (
    SELECT id, jurisdiction, region, facility FROM owner);
";

const CLAIM: &str = "
INSERT INTO owner (id, jurisdiction, region, facility) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";

const OWNED: &str = "
SELECT 1 FROM owner WHERE id = ?1 AND jurisdiction = ?2 AND region = ?3 AND facility = ?4";

/// What version 3 changes: of the time of a change its day is kept.
const DAYS: &str = "
UPDATE device SET updated_ms = updated_ms - updated_ms % 86400000;
UPDATE facility SET updated_ms = updated_ms - updated_ms % 86400000;
";

const PUT_DEVICE: &str = "
INSERT INTO device (jurisdiction, region, facility, id, facts, kind, status, updated_ms)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT DO UPDATE SET
    facts = excluded.facts, kind = excluded.kind, status = excluded.status, updated_ms = excluded.updated_ms
WHERE (excluded.updated_ms, excluded.facts) > (updated_ms, facts)";

const PUT_FACILITY: &str = "
INSERT INTO facility (jurisdiction, region, facility, updated_ms) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO UPDATE SET updated_ms = excluded.updated_ms WHERE excluded.updated_ms > updated_ms";

const DEVICE: &str = "
SELECT jurisdiction, region, facility, id, facts, updated_ms FROM device WHERE id = ?1";

const DEVICES: &str = "
SELECT jurisdiction, region, facility, id, facts, updated_ms FROM device
WHERE (jurisdiction, region, facility, id) > (:after_jurisdiction, :after_region, :after_facility, :after_id)
  AND (:jurisdiction IS NULL OR jurisdiction = :jurisdiction)
  AND (:region IS NULL OR region = :region)
  AND (:facility IS NULL OR facility = :facility)
  AND (:kind IS NULL OR kind = :kind)
  AND (:status IS NULL OR status = :status)
ORDER BY jurisdiction, region, facility, id LIMIT :limit";

const FACILITIES: &str = "
SELECT jurisdiction, region, facility, updated_ms FROM facility
WHERE (jurisdiction, region, facility) > (:after_jurisdiction, :after_region, :after_facility)
  AND (:jurisdiction IS NULL OR jurisdiction = :jurisdiction)
  AND (:region IS NULL OR region = :region)
  AND (:facility IS NULL OR facility = :facility)
ORDER BY jurisdiction, region, facility LIMIT :limit";

/// The catalog in a SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteCatalog {
    file: Arc<Reopening>,
}

impl SqliteCatalog {
    /// Opens the file, and makes it when it is absent.
    ///
    /// # Errors
    /// [`Kind::Refused`] when a newer program has written the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        const OP: &str = "open";
        let mut connection = connect(path).map_err(StoreError::sqlite(OP))?;
        migrate::file(&mut connection, SCHEMA_VERSION, |tx, found| {
            migrate::forward(tx, found, &[SCHEMA, OWNERS, DAYS])
        })?;
        Ok(Self {
            file: Arc::new(Reopening::new(path, connection, connect)),
        })
    }

    async fn step<T: Send + 'static>(
        &self,
        op: &'static str,
        step: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = self.file.clone();
        let step = move || {
            let step = |connection: &mut Connection| step(connection).map_err(Failed::Step);
            match file.step(step, Failed::is_in_doubt) {
                Err(Failed::Step(error)) => Err(error),
                Err(Failed::Open(error)) => Err(StoreError::sqlite(op)(error)),
                Ok(done) => Ok(done),
            }
        };
        tokio::task::spawn_blocking(step)
            .await
            .unwrap_or_else(|_| Err(StoreError::new(Kind::Internal, op)))
    }
}

/// Why a step failed.
enum Failed {
    /// The file cannot be opened again yet.
    Open(rusqlite::Error),
    Step(StoreError),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Open(error)
    }
}

impl Failed {
    fn is_in_doubt(&self) -> bool {
        match self {
            Self::Open(error) => in_doubt(error),
            Self::Step(error) => {
                let source = error.source.as_ref();
                let engine = source.and_then(|source| source.downcast_ref::<rusqlite::Error>());
                engine.is_some_and(in_doubt)
            }
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    Opening::default().open_lasting(path)
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn put_devices(&self, records: &Records) -> Result<Put, StoreError> {
        const OP: &str = "put_devices";
        check_records(records)?;
        let records = records.clone();
        self.step(OP, move |connection| {
            put(connection, &records).map_err(StoreError::sqlite(OP))
        })
        .await
    }

    async fn device(&self, id: CatalogId) -> Result<Option<Device>, StoreError> {
        const OP: &str = "device";
        self.step(OP, move |connection| {
            let mut statement = connection
                .prepare_cached(DEVICE)
                .map_err(StoreError::sqlite(OP))?;
            let rows = statement
                .query_map([id.to_string()], device)
                .map_err(StoreError::sqlite(OP))?;
            Ok(collect(OP, rows)?.pop())
        })
        .await
    }

    async fn devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceCursor>,
        limit: usize,
    ) -> Result<Page<Device, DeviceCursor>, StoreError> {
        const OP: &str = "devices";
        check_limit(OP, limit)?;
        let (filter, after) = (filter.clone(), after.cloned());
        let items = self
            .step(OP, move |connection| {
                let mut statement = connection.prepare_cached(DEVICES).map_err(StoreError::sqlite(OP))?;
                let home = after.as_ref().map(|after| &after.home);
                let rows = statement.query_map(
                    named_params! {
                        ":after_jurisdiction": home.map_or("", |home| home.jurisdiction.as_str()),
                        ":after_region": home.map_or("", |home| home.region.as_str()),
                        ":after_facility": home.map_or("", |home| home.facility.as_str()),
                        ":after_id": after.as_ref().map_or(String::new(), |after| after.id.to_string()),
                        ":jurisdiction": filter.place.jurisdiction.map(|own| own.as_str()),
                        ":region": filter.place.region.as_ref().map(|own| own.as_str()),
                        ":facility": filter.place.facility.as_ref().map(|own| own.as_str()),
                        ":kind": filter.kind.map(|kind| kind.as_str()),
                        ":status": filter.status.map(DeviceStatus::as_str),
                        ":limit": one_more(limit),
                    },
                    device,
                );
                collect(OP, rows.map_err(StoreError::sqlite(OP))?)
            })
            .await?;
        Ok(cut(items, limit, |device| DeviceCursor {
            home: device.home.clone(),
            id: device.entry.id,
        }))
    }

    async fn facilities(
        &self,
        filter: &PlaceFilter,
        after: Option<&Home>,
        limit: usize,
    ) -> Result<Page<Facility, Home>, StoreError> {
        const OP: &str = "facilities";
        check_limit(OP, limit)?;
        let (filter, after) = (filter.clone(), after.cloned());
        let items = self
            .step(OP, move |connection| {
                let mut statement = connection
                    .prepare_cached(FACILITIES)
                    .map_err(StoreError::sqlite(OP))?;
                let after = after.as_ref();
                let rows = statement.query_map(
                    named_params! {
                        ":after_jurisdiction": after.map_or("", |home| home.jurisdiction.as_str()),
                        ":after_region": after.map_or("", |home| home.region.as_str()),
                        ":after_facility": after.map_or("", |home| home.facility.as_str()),
                        ":jurisdiction": filter.jurisdiction.map(|own| own.as_str()),
                        ":region": filter.region.as_ref().map(|own| own.as_str()),
                        ":facility": filter.facility.as_ref().map(|own| own.as_str()),
                        ":limit": one_more(limit),
                    },
                    facility,
                );
                collect(OP, rows.map_err(StoreError::sqlite(OP))?)
            })
            .await?;
        Ok(cut(items, limit, |facility| facility.home.clone()))
    }
}

fn put(connection: &mut Connection, records: &Records) -> rusqlite::Result<Put> {
    let home = &records.home;
    let (jurisdiction, region, facility) = (
        home.jurisdiction.as_str(),
        home.region.as_str(),
        home.facility.as_str(),
    );
    let transaction = connection.transaction()?;
    {
        let mut claim = transaction.prepare_cached(CLAIM)?;
        let mut owned = transaction.prepare_cached(OWNED)?;
        for entry in &records.devices {
            let key = params![entry.id.to_string(), jurisdiction, region, facility];
            if claim.execute(key)? == 0 && !owned.exists(key)? {
                // Dropped, the transaction is rolled back.
                return Ok(Put::Foreign);
            }
        }
        let mut device = transaction.prepare_cached(PUT_DEVICE)?;
        for entry in &records.devices {
            let facts = &entry.facts;
            device.execute(params![
                jurisdiction,
                region,
                facility,
                entry.id.to_string(),
                facts.encode(),
                facts.kind.as_str(),
                facts.status.as_str(),
                entry.updated.0
            ])?;
        }
        if let Some(last) = records.devices.iter().map(|entry| entry.updated.0).max() {
            let mut known = transaction.prepare_cached(PUT_FACILITY)?;
            known.execute(params![jurisdiction, region, facility, last])?;
        }
    }
    transaction.commit()?;
    Ok(Put::Stored)
}

/// A page asks for one row more, to know whether another page follows. [`check_limit`] has bounded it.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// The first `limit` of the rows, of which one more than that was asked for.
fn cut<T, C>(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> C) -> Page<T, C> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor);
    Page { items, next }
}

/// A row whose inner value is none does not make sense.
fn collect<T>(
    op: &'static str,
    rows: impl Iterator<Item = rusqlite::Result<Option<T>>>,
) -> Result<Vec<T>, StoreError> {
    rows.map(|row| {
        row.map_err(StoreError::sqlite(op))?
            .ok_or_else(|| StoreError::new(Kind::Corrupt, op))
    })
    .collect()
}

fn home(row: &Row<'_>) -> rusqlite::Result<Option<Home>> {
    let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    let parse = |jurisdiction: &str, region: &str, facility: &str| {
        Some(Home {
            jurisdiction: jurisdiction.parse().ok()?,
            region: region.parse().ok()?,
            facility: facility.parse().ok()?,
        })
    };
    Ok(parse(text(0)?, text(1)?, text(2)?))
}

fn device(row: &Row<'_>) -> rusqlite::Result<Option<Device>> {
    let home = home(row)?;
    let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    let (id, facts) = (text(3)?.parse().ok(), Facts::decode(text(4)?));
    let updated = Timestamp(row.get(5)?);
    let entry = id
        .zip(facts)
        .map(|(id, facts)| Entry { id, facts, updated });
    Ok(home.zip(entry).map(|(home, entry)| Device { home, entry }))
}

fn facility(row: &Row<'_>) -> rusqlite::Result<Option<Facility>> {
    let updated = Timestamp(row.get(3)?);
    Ok(home(row)?.map(|home| Facility { home, updated }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_newer_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        drop(SqliteCatalog::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        let newer = SCHEMA_VERSION + 1;
        connection
            .pragma_update(None, "user_version", newer)
            .unwrap();
        drop(connection);
        let error = SqliteCatalog::open(&path).unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
    }

    #[tokio::test]
    async fn of_two_claims_of_the_first_version_the_first_owner_s_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let id = CatalogId::from_bytes([1; 16]);
        for (jurisdiction, facility, updated) in [("eu", "eu-f2", 9), ("us", "us-f1", 5)] {
            let facts = "active\tcold-chain\t\t";
            let row = params![
                jurisdiction,
                jurisdiction,
                facility,
                id.to_string(),
                facts,
                "cold-chain",
                "active",
                updated
            ];
            connection.execute(PUT_DEVICE, row).unwrap();
        }
        drop(connection);
        let catalog = SqliteCatalog::open(&path).unwrap();
        let found = catalog.device(id).await.unwrap().unwrap();
        assert_eq!(found.home.facility.as_str(), "us-f1");
        let all = catalog.devices(&DeviceFilter::default(), None, 9).await;
        assert_eq!(all.unwrap().items, [found]);
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_and_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        let text = "not a database ".repeat(1_000);
        std::fs::write(&path, &text).unwrap();
        assert_eq!(SqliteCatalog::open(&path).unwrap_err().kind, Kind::Corrupt);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
