//! The production engine: PostgreSQL (15 and later), multi-row writes, pipelined statements.
//!
//! Writers of one database take turns by the lock on the row of `head`; it also numbers the commits. What clients write is
//! done by one writer, many in one commit ([`writer`]); what is read by its id at once is one statement ([`looking`]). How the
//! engine is reached, and what it must promise, is in [`connect`].
mod again;
mod audit;
mod beside;
mod connect;
#[cfg(feature = "contract")]
mod cost;
mod database;
mod errors;
mod events;
mod examine;
mod general;
mod looking;
mod marks;
mod pages;
mod pair;
mod query;
mod rules;
mod schema;
mod servers;
mod statistics;
mod thread;
mod timeline;
mod write;
mod writer;

use crate::audit::OwnEvents;
use crate::axis::Axis;
use crate::query::sql::{CODES_BY_ID, Dialect, TABLES};
use crate::search::Query;
use crate::store::rules::{Indexing, first, of_find, of_guards, of_query};
use crate::store::{
    Applied, Counts, Delivery, Extent, ExtentPage, FhirId, Find, FindPage, HistoryPage,
    HistoryQuery, Kind, Measure, Page, ResourceStore, ResourceType, StoreError, Stored, Transacted,
    Transaction, check_changes, check_size,
};
use crate::subscription::{EventStore, MAX_PENDING_EVENTS};
use again::{again, connected};
use async_trait::async_trait;
use connect::Idle;
pub use connect::{UrlProblem, check_url, count_servers};
pub use database::create_database;
use deadpool_postgres::{Object, Pool};
use errors::failed;
pub use examine::{Examined, Replication, Report, examine};
use looking::Looks;
pub use pages::Pages;
pub use pair::{KeptChunks, LEASE, Noted, Pair, Seen, Shape, UNSEEN, Waiting};
pub use schema::SCHEMA_VERSION;
use schema::{SCHEMA, STEPS};
use statistics::Statistics;
use std::{collections::BTreeSet, sync::Arc};
pub use timeline::{Newest, TIMELINE_FILE, Worked};
use tokio::sync::watch;
use tokio_postgres::Row;
use types::Timestamp;
use writer::Writer;

/// An index over all of a region may take hours to make, and the other node of its pair waits for it. Between two statements
/// this program reads what it indexes: that may take longer than a transaction of one of two nodes may wait for its client.
const UNHURRIED: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = '5s'";
/// Whoever writes begins with this table ([`write::LOCK`]): so nobody who holds another one waits for the steps while they
/// wait for that.
const NO_WRITERS: &str = "LOCK TABLE head IN SHARE ROW EXCLUSIVE MODE";
/// The key of the lock under which the schema is made: the letters "medmesh" as a number.
const MIGRATION_LOCK: i64 = 0x006d_6564_6d65_7368;

/// FHIR resources in one PostgreSQL schema: the first of the connection's `search_path`.
pub struct PostgresStore {
    pool: Pool,
    /// Reads what is asked for by its id.
    looks: Arc<Looks>,
    watches: Arc<events::Cache>,
    /// Does what clients write.
    writer: Writer,
    /// Changes with events that were written.
    noted: watch::Sender<u64>,
    /// The number of the lease by which deliveries are stored, if there is one.
    lease: Option<i64>,
    statistics: Statistics,
    indexing: Indexing,
}

impl PostgresStore {
    /// Stores what facilities deliver as long as the lease of that number holds, and not after ([`Pair`]). What clients
    /// write asks for no lease: every node of a region may.
    #[must_use]
    pub const fn by_lease(mut self, lease: i64) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Connects and makes the tables if there are none. `authority_pem` holds the authorities that a server's
    /// certificate may be by, where the connection string asks for TLS.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a connection string that is refused ([`UrlProblem`]), a server that does not flush its
    /// commits, or a schema that is newer than this binary; otherwise by what the engine says.
    pub async fn open(url: &str, authority_pem: Option<&[u8]>) -> Result<Self, StoreError> {
        Self::open_bounded(url, authority_pem, MAX_PENDING_EVENTS).await
    }

    /// The same with another bound of events that wait ([`EventStore::most_pending`]).
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn open_bounded(
        url: &str,
        authority_pem: Option<&[u8]>,
        most_pending: u64,
    ) -> Result<Self, StoreError> {
        let way = (Idle::Alone, Newest::nowhere());
        Self::open_by(url, authority_pem, most_pending, way).await
    }

    /// As [`PostgresStore::open`], for a node that keeps the newest timeline of its servers.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn open_remembering(
        url: &str,
        authority_pem: Option<&[u8]>,
        newest: &Arc<Newest>,
    ) -> Result<Self, StoreError> {
        let way = (Idle::Alone, Arc::clone(newest));
        Self::open_by(url, authority_pem, MAX_PENDING_EVENTS, way).await
    }

    async fn open_by(
        url: &str,
        authority_pem: Option<&[u8]>,
        most_pending: u64,
        way: (Idle, Arc<Newest>),
    ) -> Result<Self, StoreError> {
        let store = Self::connect(url, authority_pem, most_pending, way)?;
        store.migrate().await?;
        Ok(store)
    }

    fn connect(
        url: &str,
        authority_pem: Option<&[u8]>,
        most_pending: u64,
        way: (Idle, Arc<Newest>),
    ) -> Result<Self, StoreError> {
        let servers = connect::servers(url, authority_pem, way)?;
        let pool = connect::pool(&servers, connect::CONNECTIONS)?;
        let watches = Arc::new(events::Cache::new(most_pending));
        let noted = watch::Sender::new(0);
        let own = connect::pool(&servers, 1)?;
        Ok(Self {
            looks: Looks::over(pool.clone()),
            pool,
            writer: Writer::start(own, Arc::clone(&watches), noted.clone())?,
            watches,
            noted,
            lease: None,
            statistics: Statistics::start(connect::pool(&servers, 1)?)?,
            indexing: Indexing::default(),
        })
    }

    /// What a commit on a connection of the pool waits for: the engine's `synchronous_commit`.
    ///
    /// # Errors
    /// By what the engine says.
    #[cfg(feature = "contract")]
    pub async fn commit_waits_for(&self) -> Result<String, StoreError> {
        let client = self.client("commit").await?;
        let row = client.query_one("SHOW synchronous_commit", &[]).await;
        row.map(|row| row.get(0))
            .map_err(|error| failed("commit", &error))
    }

    /// Whether a connection of the pool speaks TLS, as the engine says.
    ///
    /// # Errors
    /// By what the engine says.
    #[cfg(feature = "contract")]
    pub async fn speaks_tls(&self) -> Result<bool, StoreError> {
        let client = self.client("tls").await?;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = client.query_one(sql, &[]).await;
        row.map(|row| row.get(0))
            .map_err(|error| failed("tls", &error))
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut client = self.client("migrate").await?;
        let migrate = async {
            let transaction = client.transaction().await?;
            transaction.batch_execute(UNHURRIED).await?;
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
            if version < SCHEMA_VERSION {
                transaction.batch_execute(NO_WRITERS).await?;
            }
            for step in STEPS.iter().skip(usize::try_from(version - 1).unwrap_or(0)) {
                transaction.batch_execute(step).await?;
            }
            if version < 5 {
                for table in TABLES {
                    let create = table.create(Dialect::Postgres);
                    transaction.batch_execute(&create).await?;
                }
                rules::make_all(&transaction).await?;
            } else if version < 7 {
                transaction.batch_execute(CODES_BY_ID).await?;
            }
            if (5..10).contains(&version) {
                rules::keep(&transaction, &first()).await?;
            }
            let new = match version > SCHEMA_VERSION {
                true => BTreeSet::new(),
                false => rules::begin(&transaction).await?,
            };
            transaction.commit().await?;
            Ok((version, new))
        };
        let (version, new) = migrate.await.map_err(|error| failed("migrate", &error))?;
        if version > SCHEMA_VERSION {
            return Err(StoreError::new(Kind::Refused, "open: schema is newer"));
        }
        self.indexing.lacks(new);
        Ok(())
    }

    /// What a statement that finds one row, and is asked often, finds.
    async fn the_row(&self, op: &'static str, statement: &str) -> Result<Row, StoreError> {
        self.read(op, |client| async move {
            let statement = client.prepare_cached(statement).await?;
            client.query_one(&statement, &[]).await
        })
        .await
    }

    /// What only reads is asked again where the engine was away: nothing was done, and another server may answer.
    async fn read<T, F>(
        &self,
        op: &'static str,
        ask: impl Fn(Arc<Object>) -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        T: Send,
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
    {
        again(&self.pool, op, |client| {
            let client = Arc::new(client);
            let asked = ask(Arc::clone(&client));
            async move {
                let read = asked.await;
                (Arc::into_inner(client), read)
            }
        })
        .await
    }

    async fn client(&self, op: &'static str) -> Result<Object, StoreError> {
        connected(&self.pool, op).await
    }
}

const VERSION: &str = "SELECT type, id, version, updated, body, source, seq FROM resource \
     WHERE type = $1 AND id = $2 AND version = $3 \
     UNION ALL SELECT type, id, version, updated, body, \
     (SELECT source FROM resource WHERE type = $1 AND id = $2), seq FROM history \
     WHERE type = $1 AND id = $2 AND version = $3";
const HEAD: &str = "SELECT seq, updated FROM head";
const COUNTS: &str = "SELECT observations, patients, devices FROM head";

/// Reads the columns type, id, version, updated, body, source, seq.
fn stored(row: &Row) -> Option<Stored> {
    Some(Stored {
        kind: ResourceType::parse(row.get(0))?,
        id: row.get::<_, &str>(1).parse().ok()?,
        version: u32::try_from(row.get::<_, i64>(2)).ok()?,
        seq: row.get(6),
        updated: Timestamp(row.get(3)),
        source: match row.get::<_, Option<&str>>(5) {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        },
        json: row.get(4),
    })
}

/// The rows that a page of so many shows, and whether there are more: behind its count, or without their texts
/// ([`crate::sql::bounded`]).
fn on_page(rows: &[Row], count: u16) -> (&[Row], bool) {
    let shown = rows.get(..usize::from(count)).unwrap_or(rows);
    let ends = |row: &Row| row.get::<_, Option<&str>>(4).is_none();
    let end = shown.iter().position(ends).unwrap_or(shown.len());
    let shown = shown.get(..end).unwrap_or(shown);
    (shown, rows.len() > shown.len())
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
        let applied =
            write::apply(&mut client, &deliveries, (now, self.lease), &self.watches).await;
        let applied = applied.map_err(|error| failed("apply", &error))?;
        let fenced = || StoreError::new(Kind::Unavailable, "apply: another node writes");
        let (applied, events) = applied.ok_or_else(fenced)?;
        events::tell(&self.noted, events);
        let written = deliveries.iter().map(|one| one.resources.len()).sum();
        self.statistics.written(written);
        Ok(applied)
    }

    async fn look(
        &self,
        kind: ResourceType,
        id: &FhirId,
    ) -> Result<(Option<Stored>, i64), StoreError> {
        self.looks.look(kind, id).await
    }

    async fn vread(
        &self,
        kind: ResourceType,
        id: &FhirId,
        version: u32,
    ) -> Result<Option<Stored>, StoreError> {
        let rows = self.read("vread", |client| async move {
            let statement = client.prepare_cached(VERSION).await?;
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&kind.as_str(), &id.as_str(), &i64::from(version)];
            client.query(&statement, &params).await
        });
        at_most_one("vread", &rows.await?)
    }

    async fn search(&self, query: &Query) -> Result<Page, StoreError> {
        self.indexed(|| of_query(query)).await?;
        self.read("search", |client| async move {
            query::page(&client, query).await
        })
        .await?
        .ok_or_else(|| StoreError::new(Kind::Corrupt, "search"))
    }

    async fn total(&self, query: &Query) -> Result<u64, StoreError> {
        self.indexed(|| of_query(query)).await?;
        self.read("total", |client| async move {
            query::total(&client, query).await
        })
        .await
    }

    async fn measures(&self, query: &Query, most: usize) -> Result<Vec<Measure>, StoreError> {
        self.read("measures", |client| async move {
            query::measures(&client, query, most).await
        })
        .await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Transacted, StoreError> {
        check_changes(&transaction)?;
        self.indexed(|| of_guards(&transaction)).await?;
        let changes = transaction.changes.len();
        let done = self.writer.transact(transaction).await?;
        self.statistics.written(changes);
        Ok(done)
    }

    async fn ended(&self) {
        self.writer.ended().await;
    }

    fn stands_at(&self, seq: i64) {
        self.writer.stands_at(seq);
    }

    async fn find(&self, find: &Find) -> Result<FindPage, StoreError> {
        self.indexed(|| of_find(find)).await?;
        self.read("find", |client| async move {
            general::find(&client, find).await
        })
        .await?
        .ok_or_else(|| StoreError::new(Kind::Corrupt, "find"))
    }

    async fn count(&self, find: &Find) -> Result<u64, StoreError> {
        self.indexed(|| of_find(find)).await?;
        self.read("count", |client| async move {
            general::count(&client, find).await
        })
        .await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.read("history", |client| async move {
            general::history(&client, query).await
        })
        .await?
        .ok_or_else(|| StoreError::new(Kind::Corrupt, "history"))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let row = self.the_row("counts", COUNTS).await?;
        Ok(Counts([0, 1, 2].map(|column| {
            u64::try_from(row.get::<_, i64>(column)).unwrap_or(0)
        })))
    }

    async fn head(&self) -> Result<i64, StoreError> {
        Ok(self.the_row("head", HEAD).await?.get(0))
    }

    async fn last(&self) -> Result<(i64, Timestamp), StoreError> {
        let row = self.the_row("last", HEAD).await?;
        Ok((row.get(0), Timestamp(row.get(1))))
    }

    async fn extent(&self, extent: &Extent) -> Result<ExtentPage, StoreError> {
        let client = self.client("extent").await?;
        general::extent(&client, extent)
            .await
            .map_err(|error| failed("extent", &error))?
            .ok_or_else(|| StoreError::new(Kind::Corrupt, "extent"))
    }

    async fn marks(&self, reader: &str) -> Result<Option<String>, StoreError> {
        self.read("marks", |client| async move {
            marks::read(&client, reader).await
        })
        .await
    }

    async fn keep_marks(&self, reader: &str, marks: String) -> Result<(), StoreError> {
        let client = self.client("keep marks").await?;
        let kept = marks::keep(&client, reader, &marks).await;
        kept.map_err(|error| failed("keep marks", &error))
    }

    async fn reach(&self, reader: &str, commit: i64) -> Result<Axis, StoreError> {
        // What was reached is reached.
        again(&self.pool, "reach", |mut client| async move {
            let reached = marks::reach(&mut client, reader, commit).await;
            (Some(client), reached)
        })
        .await
    }

    async fn reindex(&self, base: &str) -> Result<Option<u64>, StoreError> {
        self.make_next(base).await
    }

    async fn keep_audit(&self, audit: OwnEvents) -> Result<(), StoreError> {
        let mut client = self.client("keep audit").await?;
        let kept = audit::keep(&mut client, &audit, self.lease).await;
        match kept.map_err(|error| failed("keep audit", &error))? {
            true => {
                self.statistics.written(audit.events.len());
                Ok(())
            }
            false => Err(StoreError::new(
                Kind::Unavailable,
                "keep audit: another node writes",
            )),
        }
    }

    fn event_store(&self) -> &dyn EventStore {
        self
    }
}
