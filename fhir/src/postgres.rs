//! The production engine: PostgreSQL (15 and later), multi-row writes, pipelined statements.
//!
//! Writers of one database take turns by the lock on the row of `head`; it also numbers the commits. The connection
//! is not encrypted by this adapter: it is for a socket or a network that the operator protects.
mod query;
mod write;

use crate::search::Query;
use crate::store::{
    Applied, Counts, Delivery, FhirId, Kind, Page, ResourceStore, ResourceType, StoreError, Stored,
    check_size,
};
use async_trait::async_trait;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use std::time::Duration;
use tokio_postgres::{NoTls, Row, error::SqlState};
use types::Timestamp;

/// The schema that this binary writes. It only goes forward.
pub const SCHEMA_VERSION: i64 = 2;
/// Connections at once: one writer works at a time, the rest read.
const CONNECTIONS: usize = 8;
/// How long to wait for a connection, new or free.
const WAIT: Duration = Duration::from_secs(5);
/// Longest time without an answer of the server's machine before the connection is given up.
const SILENCE: Duration = Duration::from_secs(15);
/// An idle connection is asked whether its peer is alive after this long.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What the server ends by itself, so that a client that is gone holds no lock: a statement, the wait for a lock and
/// an idle transaction, each below the 30 s after which a facility sends a parcel again.
const SERVER_LIMITS: &str = "-c statement_timeout=20s -c lock_timeout=10s \
     -c idle_in_transaction_session_timeout=20s";
/// The key of the lock under which the schema is made: the letters "medmesh" as a number.
const MIGRATION_LOCK: i64 = 0x006d_6564_6d65_7368;

const SCHEMA: &str = r#"
CREATE TABLE head(one BOOLEAN PRIMARY KEY CHECK (one), version BIGINT NOT NULL, seq BIGINT NOT NULL,
  updated BIGINT NOT NULL, observations BIGINT NOT NULL, patients BIGINT NOT NULL, devices BIGINT NOT NULL);
INSERT INTO head VALUES (TRUE, 1, 0, 0, 0, 0, 0);
-- seq is the order of commits; the columns after body are what a resource is found by.
CREATE TABLE resource(seq BIGINT NOT NULL UNIQUE, type TEXT NOT NULL, id TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL, updated BIGINT NOT NULL, body TEXT NOT NULL, patient TEXT, device TEXT, code TEXT,
  category TEXT, effective BIGINT, PRIMARY KEY (type, id));
CREATE INDEX resource_patient ON resource(patient, effective, id) WHERE patient IS NOT NULL;
CREATE INDEX resource_device ON resource(device, effective, id) WHERE device IS NOT NULL;
CREATE INDEX resource_code ON resource(code, effective, id) WHERE code IS NOT NULL;
CREATE INDEX resource_date ON resource(effective, id) WHERE effective IS NOT NULL;
-- every version of the types that have more than one
CREATE TABLE history(type TEXT NOT NULL, id TEXT COLLATE "C" NOT NULL, version BIGINT NOT NULL,
  updated BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (type, id, version));
CREATE TABLE parcel(id BYTEA PRIMARY KEY, conflicts TEXT NOT NULL);
"#;

/// What leads from each version to the next, from version 1 on. Version 2 keeps which facility owns an id.
const STEPS: [&str; SCHEMA_VERSION as usize - 1] = ["
CREATE TABLE facility(place TEXT PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE);
ALTER TABLE resource ADD COLUMN source TEXT;
UPDATE head SET version = 2;
"];

/// FHIR resources in one PostgreSQL schema: the first of the connection's `search_path`.
pub struct PostgresStore {
    pool: Pool,
}

impl PostgresStore {
    /// Connects and makes the tables if there are none.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a connection string that cannot be read or a schema that is newer than this binary,
    /// otherwise by what the engine says.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let mut config: tokio_postgres::Config = url
            .parse()
            .map_err(|_| StoreError::new(Kind::Refused, "open: connection string"))?;
        // What the operator asks for comes last, so it holds.
        let options = format!("{SERVER_LIMITS} {}", config.get_options().unwrap_or(""));
        config
            .options(options)
            .connect_timeout(WAIT)
            .keepalives_idle(KEEPALIVE)
            .tcp_user_timeout(SILENCE);
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .build()
            .map_err(|_| StoreError::new(Kind::Internal, "open"))?;
        let store = Self { pool };
        store.migrate().await?;
        Ok(store)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut client = self.client("migrate").await?;
        let migrate = async {
            let transaction = client.transaction().await?;
            transaction
                .execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK])
                .await?;
            let exists = "SELECT to_regclass('head') IS NOT NULL";
            let row = transaction.query_one(exists, &[]).await?;
            if !row.get::<_, bool>(0) {
                transaction.batch_execute(SCHEMA).await?;
            }
            let row = transaction
                .query_one("SELECT version FROM head", &[])
                .await?;
            let version: i64 = row.get(0);
            for step in STEPS.iter().skip(usize::try_from(version - 1).unwrap_or(0)) {
                transaction.batch_execute(step).await?;
            }
            transaction.commit().await?;
            Ok(version)
        };
        let version = migrate.await.map_err(|error| failed("migrate", &error))?;
        if version > SCHEMA_VERSION {
            return Err(StoreError::new(Kind::Refused, "open: schema is newer"));
        }
        Ok(())
    }

    async fn client(&self, op: &'static str) -> Result<Object, StoreError> {
        // The pool's error quotes the server; what matters is that no connection could be had.
        self.pool
            .get()
            .await
            .map_err(|_| StoreError::new(Kind::Unavailable, op))
    }
}

/// The SQLSTATE of an error, without its text, which may quote values.
#[derive(Debug, thiserror::Error)]
#[error("SQLSTATE {0}")]
struct State(String);

/// What the caller can do about an error of the engine (SQLSTATE classes, PostgreSQL appendix A).
fn failed(op: &'static str, error: &tokio_postgres::Error) -> StoreError {
    let Some(state) = error.code() else {
        // No answer of the server: the connection broke.
        return StoreError::new(Kind::Unavailable, op);
    };
    let kind = match state.code().get(..2) {
        Some("08" | "40" | "53" | "55" | "57" | "58" | "25") => Kind::Unavailable,
        Some("XX") if *state != SqlState::INTERNAL_ERROR => Kind::Corrupt,
        _ => Kind::Internal,
    };
    StoreError {
        kind,
        op,
        source: Some(Box::new(State(state.code().to_owned()))),
    }
}

const CURRENT: &str =
    "SELECT type, id, version, updated, body, source FROM resource WHERE type = $1 AND id = $2";
const VERSION: &str = "SELECT type, id, version, updated, body, source FROM resource \
     WHERE type = $1 AND id = $2 AND version = $3 \
     UNION SELECT type, id, version, updated, body, \
     (SELECT source FROM resource WHERE type = $1 AND id = $2) FROM history \
     WHERE type = $1 AND id = $2 AND version = $3";
const COUNTS: &str = "SELECT observations, patients, devices FROM head";

/// Reads the columns type, id, version, updated, body, source.
fn stored(row: &Row) -> Option<Stored> {
    Some(Stored {
        kind: ResourceType::parse(row.get(0))?,
        id: row.get::<_, &str>(1).parse().ok()?,
        version: u32::try_from(row.get::<_, i64>(2)).ok()?,
        updated: Timestamp(row.get(3)),
        source: match row.get::<_, Option<&str>>(5) {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        },
        json: row.get(4),
    })
}

/// The one row, if there is one.
fn at_most_one(op: &'static str, rows: &[Row]) -> Result<Option<Stored>, StoreError> {
    rows.first()
        .map(|row| stored(row).ok_or_else(|| StoreError::new(Kind::Corrupt, op)))
        .transpose()
}

#[async_trait]
impl ResourceStore for PostgresStore {
    async fn apply(
        &self,
        deliveries: Vec<Delivery>,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        check_size(&deliveries)?;
        let mut client = self.client("apply").await?;
        write::apply(&mut client, &deliveries, now)
            .await
            .map_err(|error| failed("apply", &error))
    }

    async fn read(&self, kind: ResourceType, id: &FhirId) -> Result<Option<Stored>, StoreError> {
        let client = self.client("read").await?;
        let read = async {
            let statement = client.prepare_cached(CURRENT).await?;
            client
                .query(&statement, &[&kind.as_str(), &id.as_str()])
                .await
        };
        at_most_one("read", &read.await.map_err(|error| failed("read", &error))?)
    }

    async fn vread(
        &self,
        kind: ResourceType,
        id: &FhirId,
        version: u32,
    ) -> Result<Option<Stored>, StoreError> {
        let client = self.client("vread").await?;
        let read = async {
            let statement = client.prepare_cached(VERSION).await?;
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&kind.as_str(), &id.as_str(), &i64::from(version)];
            client.query(&statement, &params).await
        };
        at_most_one(
            "vread",
            &read.await.map_err(|error| failed("vread", &error))?,
        )
    }

    async fn search(&self, query: &Query) -> Result<Page, StoreError> {
        let client = self.client("search").await?;
        query::page(&client, query)
            .await
            .map_err(|error| failed("search", &error))?
            .ok_or_else(|| StoreError::new(Kind::Corrupt, "search"))
    }

    async fn total(&self, query: &Query) -> Result<u64, StoreError> {
        let client = self.client("total").await?;
        query::total(&client, query)
            .await
            .map_err(|error| failed("total", &error))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let client = self.client("counts").await?;
        let row = client
            .query_one(COUNTS, &[])
            .await
            .map_err(|error| failed("counts", &error))?;
        Ok(Counts([0, 1, 2].map(|column| {
            u64::try_from(row.get::<_, i64>(column)).unwrap_or(0)
        })))
    }
}
