//! The catalog in ScyllaDB or Apache Cassandra: tables by query, prepared statements, the last writer wins by the
//! record's own time. The one thing that is compared before it is written, by a lightweight transaction, is who owns an
//! id: once for each device.
use super::{
    Catalog, Device, DeviceCursor, DeviceFilter, Entry, Facility, Facts, Home, Kind, Page,
    PlaceFilter, Put, Records, StoreError, check_limit, check_records,
};
mod owners;
pub mod reach;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use owners::{CLAIM, OWNER, drop_later_claims};
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    errors::{ExecutionError, PrepareError, RequestAttemptError},
    response::query_result::QueryRowsResult,
    serialize::row::SerializeRow,
    statement::{Consistency, SerialConsistency, prepared::PreparedStatement},
};
use std::{error::Error, time::Duration};
use types::{CatalogId, Jurisdiction, Timestamp};

/// The version of the tables below, in table `meta`. It only goes forward.
const SCHEMA_VERSION: i32 = 2;

/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements of one call in flight: enough to fill a connection, too few to crowd others out.
const IN_FLIGHT: usize = 64;
/// Partitions that one page of devices reads at most.
const SCAN_PARTITIONS: usize = 64;
/// Rows that one page of devices reads at most; a filter may let few of them pass.
const SCAN_ROWS: usize = 5_000;
/// Rows of one read.
const CHUNK: usize = 500;

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS meta (key text PRIMARY KEY, value int)",
    // `facts` and `updated_ms` get the record's time as their write time: the later record wins cell by cell, and
    // of two with the same time the greater value (Cassandra's rule for equal write times).
    "CREATE TABLE IF NOT EXISTS device_by_facility (
        jurisdiction text, region text, facility text, id text, facts text, updated_ms bigint,
        PRIMARY KEY ((jurisdiction, region, facility), id))",
    "CREATE TABLE IF NOT EXISTS device_by_id (
        id text, jurisdiction text, region text, facility text, facts text, updated_ms bigint,
        PRIMARY KEY (id, jurisdiction, region, facility))",
    "CREATE TABLE IF NOT EXISTS owner_of_device (
        id text PRIMARY KEY, jurisdiction text, region text, facility text)",
    "CREATE TABLE IF NOT EXISTS facility_by_jurisdiction (
        jurisdiction text, region text, facility text, updated_ms bigint,
        PRIMARY KEY (jurisdiction, region, facility))",
];

const PUT_BY_FACILITY: &str = "
INSERT INTO device_by_facility (jurisdiction, region, facility, id, facts, updated_ms)
VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

const PUT_BY_ID: &str = "
INSERT INTO device_by_id (jurisdiction, region, facility, id, facts, updated_ms)
VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

const PUT_FACILITY: &str = "
INSERT INTO facility_by_jurisdiction (jurisdiction, region, facility, updated_ms)
VALUES (?, ?, ?, ?) USING TIMESTAMP ?";

const DEVICE: &str = "
SELECT jurisdiction, region, facility, facts, updated_ms FROM device_by_id WHERE id = ?";

const DEVICES: &str = "
SELECT id, facts, updated_ms FROM device_by_facility
WHERE jurisdiction = ? AND region = ? AND facility = ? AND id > ? LIMIT ?";

const FACILITIES: &str = "
SELECT region, facility, updated_ms FROM facility_by_jurisdiction
WHERE jurisdiction = ? AND (region, facility) > (?, ?) LIMIT ?";

/// The catalog in a cluster.
#[derive(Debug)]
pub struct ScyllaCatalog {
    session: Session,
    put_by_facility: PreparedStatement,
    put_by_id: PreparedStatement,
    put_facility: PreparedStatement,
    claim: PreparedStatement,
    owner: PreparedStatement,
    device: PreparedStatement,
    devices: PreparedStatement,
    facilities: PreparedStatement,
}

impl ScyllaCatalog {
    /// Connects to a cluster by its known nodes (`host:port`), and makes the keyspace and the tables when they are
    /// absent: with `replication` copies by `SimpleStrategy`. A cluster of several data centres has the keyspace made
    /// by its operators beforehand.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a keyspace that is not a plain name, [`Kind::Unavailable`] when no node answers,
    /// [`Kind::Refused`] also when a newer program has made the tables.
    pub async fn open(
        nodes: &[String],
        keyspace: &str,
        replication: u8,
    ) -> Result<Self, StoreError> {
        if !is_plain(keyspace) {
            return Err(StoreError::new(Kind::Refused, "keyspace"));
        }
        let session = SessionBuilder::new()
            .known_nodes(nodes)
            .connection_timeout(CONNECT_TIMEOUT)
            .build()
            .await
            .map_err(|error| wrap("connect", Kind::Unavailable, error))?;
        migrate(&session, keyspace, replication).await?;
        Ok(Self {
            put_by_facility: prepare(&session, PUT_BY_FACILITY).await?,
            put_by_id: prepare(&session, PUT_BY_ID).await?,
            put_facility: prepare(&session, PUT_FACILITY).await?,
            claim: prepare(&session, CLAIM).await?,
            owner: prepare(&session, OWNER).await?,
            device: prepare(&session, DEVICE).await?,
            devices: prepare(&session, DEVICES).await?,
            facilities: prepare(&session, FACILITIES).await?,
            session,
        })
    }

    async fn run(
        &self,
        op: &'static str,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), StoreError> {
        let done = self.session.execute_unpaged(statement, values).await;
        done.map(drop).map_err(|error| failed(op, error))
    }

    async fn read(
        &self,
        op: &'static str,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, StoreError> {
        let result = self.session.execute_unpaged(statement, values).await;
        result
            .map_err(|error| failed(op, error))?
            .into_rows_result()
            .map_err(|error| wrap(op, Kind::Internal, error))
    }

    async fn put(&self, home: &Home, entry: &Entry) -> Result<(), StoreError> {
        const OP: &str = "put_devices";
        let row = (
            home.jurisdiction.as_str(),
            home.region.as_str(),
            home.facility.as_str(),
            entry.id.to_string(),
            entry.facts.encode(),
            entry.updated.0,
            write_time(entry.updated),
        );
        self.run(OP, &self.put_by_id, &row).await?;
        self.run(OP, &self.put_by_facility, &row).await
    }

    /// Facilities of one jurisdiction in order, strictly after a pair of names.
    async fn facilities_of(
        &self,
        jurisdiction: Jurisdiction,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Vec<Facility>, StoreError> {
        const OP: &str = "facilities";
        let values = (jurisdiction.as_str(), after.0, after.1, cql_limit(limit));
        let rows = self.read(OP, &self.facilities, values).await?;
        let rows = rows
            .rows::<(&str, &str, i64)>()
            .map_err(|error| wrap(OP, Kind::Corrupt, error))?;
        rows.map(|row| {
            let (region, facility, updated) =
                row.map_err(|error| wrap(OP, Kind::Corrupt, error))?;
            let home = home(jurisdiction.as_str(), region, facility);
            Ok(Facility {
                home: home.ok_or_else(|| StoreError::new(Kind::Corrupt, OP))?,
                updated: Timestamp(updated),
            })
        })
        .collect()
    }

    /// Devices of one facility in order, strictly after an id.
    async fn devices_of(
        &self,
        home: &Home,
        after: Option<CatalogId>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        const OP: &str = "devices";
        let values = (
            home.jurisdiction.as_str(),
            home.region.as_str(),
            home.facility.as_str(),
            after.map_or(String::new(), |id| id.to_string()),
            cql_limit(limit),
        );
        let rows = self.read(OP, &self.devices, values).await?;
        let rows = rows
            .rows::<(&str, &str, i64)>()
            .map_err(|error| wrap(OP, Kind::Corrupt, error))?;
        rows.map(|row| {
            let (id, facts, updated) = row.map_err(|error| wrap(OP, Kind::Corrupt, error))?;
            entry(id, facts, updated).ok_or_else(|| StoreError::new(Kind::Corrupt, OP))
        })
        .collect()
    }

    /// The facilities that a page of devices begins with: the cursor's own, then those after it.
    async fn homes(
        &self,
        filter: &PlaceFilter,
        after: Option<&DeviceCursor>,
    ) -> Result<Page<Home, Home>, StoreError> {
        let started = after.map(|after| &after.home);
        let page = Catalog::facilities(self, filter, started, SCAN_PARTITIONS).await?;
        let rest = page.items.into_iter().map(|facility| facility.home);
        let first = started.filter(|home| filter.passes(home)).cloned();
        Ok(Page {
            items: first.into_iter().chain(rest).collect(),
            next: page.next,
        })
    }
}

#[async_trait]
impl Catalog for ScyllaCatalog {
    async fn put_devices(&self, records: &Records) -> Result<Put, StoreError> {
        check_records(records)?;
        if !self.owns(records).await? {
            return Ok(Put::Foreign);
        }
        let home = &records.home;
        let puts: Vec<_> = records
            .devices
            .iter()
            .map(|entry| self.put(home, entry))
            .collect();
        stream::iter(puts)
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        // Last, so that a facility that is listed has devices.
        let Some(last) = records.devices.iter().map(|entry| entry.updated).max() else {
            return Ok(Put::Stored);
        };
        let row = (
            home.jurisdiction.as_str(),
            home.region.as_str(),
            home.facility.as_str(),
            last.0,
            write_time(last),
        );
        self.run("put_devices", &self.put_facility, row).await?;
        Ok(Put::Stored)
    }

    async fn device(&self, id: CatalogId) -> Result<Option<Device>, StoreError> {
        let Some(owner) = self.owner(id).await? else {
            return Ok(None);
        };
        let claims = self.claims(id).await?;
        Ok(claims.into_iter().find(|device| device.home == owner))
    }

    async fn devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceCursor>,
        limit: usize,
    ) -> Result<Page<Device, DeviceCursor>, StoreError> {
        check_limit("devices", limit)?;
        let homes = self.homes(&filter.place, after).await?;
        let mut items = Vec::new();
        let mut scanned = 0;
        for home in homes.items {
            let mut last = after
                .filter(|after| after.home == home)
                .map(|after| after.id);
            loop {
                let entries = self.devices_of(&home, last, CHUNK).await?;
                let chunk = entries.len();
                scanned += chunk;
                for entry in entries {
                    last = Some(entry.id);
                    if filter.passes(&entry.facts) {
                        items.push(Device {
                            home: home.clone(),
                            entry,
                        });
                    }
                    if items.len() == limit {
                        break;
                    }
                }
                if let Some(id) = last.filter(|_| items.len() == limit || scanned >= SCAN_ROWS) {
                    let next = Some(DeviceCursor { home, id });
                    return Ok(Page { items, next });
                }
                if chunk < CHUNK {
                    break;
                }
            }
        }
        let next = homes.next.map(DeviceCursor::end_of);
        Ok(Page { items, next })
    }

    async fn facilities(
        &self,
        filter: &PlaceFilter,
        after: Option<&Home>,
        limit: usize,
    ) -> Result<Page<Facility, Home>, StoreError> {
        check_limit("facilities", limit)?;
        let mut items: Vec<Facility> = Vec::new();
        let mut last: Option<Home> = after.cloned();
        for jurisdiction in by_text() {
            let asked = filter.jurisdiction.is_none_or(|own| own == jurisdiction);
            let over = last
                .as_ref()
                .is_some_and(|last| last.jurisdiction.as_str() > jurisdiction.as_str());
            if !asked || over {
                continue;
            }
            loop {
                let from = start(
                    filter,
                    last.as_ref()
                        .filter(|last| last.jurisdiction == jurisdiction),
                );
                let chunk = self.facilities_of(jurisdiction, from, CHUNK).await?;
                let full = chunk.len() == CHUNK;
                for facility in chunk {
                    last = Some(facility.home.clone());
                    if filter.passes(&facility.home) {
                        items.push(facility);
                    }
                    if items.len() == limit {
                        return Ok(Page { items, next: last });
                    }
                }
                let past =
                    |home: &Home| filter.region.as_ref().is_some_and(|own| home.region > *own);
                if !full || last.as_ref().is_some_and(past) {
                    break;
                }
            }
        }
        Ok(Page { items, next: None })
    }
}

/// Where the reading of a jurisdiction begins: after the last facility, and not before the region asked for.
fn start<'a>(filter: &'a PlaceFilter, last: Option<&'a Home>) -> (&'a str, &'a str) {
    let last = last.map_or(("", ""), |home| {
        (home.region.as_str(), home.facility.as_str())
    });
    let asked = filter.region.as_ref().map_or("", |region| region.as_str());
    last.max((asked, ""))
}

fn by_text() -> [Jurisdiction; 3] {
    let mut all = Jurisdiction::ALL;
    all.sort_by_key(|jurisdiction| jurisdiction.as_str());
    all
}

async fn migrate(session: &Session, keyspace: &str, replication: u8) -> Result<(), StoreError> {
    const OP: &str = "migrate";
    let make = format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
         {{'class': 'SimpleStrategy', 'replication_factor': {replication}}}"
    );
    let run = async |statement: &str| {
        let done = session.query_unpaged(statement, ()).await;
        done.map_err(|error| failed(OP, error))
    };
    run(&make).await?;
    session
        .use_keyspace(keyspace, true)
        .await
        .map_err(|error| wrap(OP, Kind::Unavailable, error))?;
    for table in TABLES {
        run(table).await?;
    }
    let rows = run("SELECT value FROM meta WHERE key = 'schema'")
        .await?
        .into_rows_result()
        .map_err(|error| wrap(OP, Kind::Internal, error))?;
    let version = rows
        .maybe_first_row::<(i32,)>()
        .map_err(|error| wrap(OP, Kind::Corrupt, error))?;
    match version {
        Some((version,)) if version > SCHEMA_VERSION => Err(StoreError::new(Kind::Refused, OP)),
        found => {
            if found == Some((1,)) {
                drop_later_claims(session).await?;
            }
            session
                .query_unpaged(
                    "INSERT INTO meta (key, value) VALUES ('schema', ?)",
                    (SCHEMA_VERSION,),
                )
                .await
                .map(drop)
                .map_err(|error| failed(OP, error))
        }
    }
}

/// Every statement here may be sent twice: writes merge. Quorum of the nearest data centre both ways, so that a read
/// there sees a write there.
async fn prepare(session: &Session, text: &str) -> Result<PreparedStatement, StoreError> {
    let mut statement = session.prepare(text).await.map_err(|error| {
        let kind = prepare_kind(&error);
        wrap("prepare", kind, error)
    })?;
    statement.set_is_idempotent(true);
    statement.set_consistency(Consistency::LocalQuorum);
    statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    Ok(statement)
}

/// Microseconds, Cassandra's unit; [`check_records`] has bounded the time.
const fn write_time(updated: Timestamp) -> i64 {
    updated.0.saturating_mul(1_000)
}

fn cql_limit(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// A keyspace's name goes into a statement as it is.
fn is_plain(keyspace: &str) -> bool {
    const MAX_LEN: usize = 48;
    let starts = keyspace.starts_with(|c: char| c.is_ascii_lowercase());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    starts && keyspace.len() <= MAX_LEN && keyspace.chars().all(allowed)
}

fn home(jurisdiction: &str, region: &str, facility: &str) -> Option<Home> {
    Some(Home {
        jurisdiction: jurisdiction.parse().ok()?,
        region: region.parse().ok()?,
        facility: facility.parse().ok()?,
    })
}

fn entry(id: &str, facts: &str, updated: i64) -> Option<Entry> {
    Some(Entry {
        id: id.parse().ok()?,
        facts: Facts::decode(facts)?,
        updated: Timestamp(updated),
    })
}

fn wrap(op: &'static str, kind: Kind, error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError {
        kind,
        op,
        source: Some(Box::new(error)),
    }
}

/// A statement that the cluster understood and could not do now is unavailable; one that it did not understand is ours.
fn failed(op: &'static str, error: ExecutionError) -> StoreError {
    let kind = match &error {
        ExecutionError::BadQuery(_) => Kind::Internal,
        ExecutionError::PrepareError(error) => prepare_kind(error),
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => db_kind(error),
        _ => Kind::Unavailable,
    };
    wrap(op, kind, error)
}

fn prepare_kind(error: &PrepareError) -> Kind {
    match error {
        PrepareError::AllAttemptsFailed {
            first_attempt: RequestAttemptError::DbError(error, _),
        } => db_kind(error),
        _ => Kind::Unavailable,
    }
}

fn db_kind(error: &scylla::errors::DbError) -> Kind {
    use scylla::errors::DbError;
    match error {
        DbError::SyntaxError | DbError::Invalid | DbError::ProtocolError => Kind::Internal,
        _ => Kind::Unavailable,
    }
}
