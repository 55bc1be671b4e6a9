//! The embedded engine: one SQLite file, one writer thread with group commit, a few readers.
//!
//! Not encrypted in a region, where what is stored is pseudonymous, and the disk is the operator's to encrypt. At a
//! facility the file is encrypted as its other ones are ([`SqliteStore::open_after`]), and what it shows of the
//! facility's own store is kept in it by [`SqliteStore::project`].
mod audit;
#[cfg(feature = "contract")]
mod cost;
mod events;
mod general;
mod owners;
mod projection;
mod query;
mod rules;
mod writer;

use crate::audit::OwnEvents;
use crate::query::sql::{CODES_BY_ID, Dialect, TABLES};
use crate::search::Query;
use crate::store::rules::{Indexing, of_find, of_guards, of_query};
use crate::store::{
    Applied, Counts, Delivery, Extent, ExtentPage, FhirId, Find, FindPage, HistoryPage,
    HistoryQuery, Kind, Measure, Page, ResourceStore, ResourceType, StoreError, Stored, Transacted,
    Transaction, check_changes, check_size,
};
use crate::subscription::{EventStore, MAX_PENDING_EVENTS};
use async_trait::async_trait;
use parking_lot::Mutex;
pub use projection::{PLACE, Projection, Step};
use rusqlite::{Connection, InterruptHandle, OpenFlags, OptionalExtension, Row, params};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use storage::{
    migrate,
    open::Opening,
    sqlite::{Reopening, in_doubt},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use types::{Secret, Timestamp};
use writer::{Job, Reply};

/// The schema that this binary writes. It only goes forward.
pub const SCHEMA_VERSION: i64 = 10;
/// Readers at once: more gain nothing from one disk.
const READERS: usize = 4;
/// Calls of `apply` that wait for the writer.
const QUEUE: usize = 64;
/// The name of the thread that writes.
const WRITER: &str = "fhir-writer";
/// Pages that the writer keeps in memory, in KiB. Ids are random, so every resource touches pages anywhere in its
/// indexes; with SQLite's 2 MiB a store of some 100,000 resources reads most of them from the file each time.
const WRITER_CACHE_KIB: i64 = 64 * 1_024;
/// Pages of the log at which it is written into the database: 32 MiB. A page that is written again before then costs
/// one write instead of many.
const LOG_PAGES: i64 = 8_192;

const SCHEMA: &str = "
CREATE TABLE head(one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, updated INTEGER NOT NULL,
  observations INTEGER NOT NULL, patients INTEGER NOT NULL, devices INTEGER NOT NULL) STRICT;
INSERT INTO head VALUES (1, 0, 0, 0, 0, 0);
-- seq is the order of commits; the columns after body are what a resource is found by.
CREATE TABLE resource(seq INTEGER PRIMARY KEY, type TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
  updated INTEGER NOT NULL, body TEXT NOT NULL, patient TEXT, device TEXT, code TEXT, category TEXT,
  effective INTEGER) STRICT;
CREATE UNIQUE INDEX resource_id ON resource(type, id);
CREATE INDEX resource_patient ON resource(patient, effective, id) WHERE patient IS NOT NULL;
CREATE INDEX resource_device ON resource(device, effective, id) WHERE device IS NOT NULL;
CREATE INDEX resource_code ON resource(code, effective, id) WHERE code IS NOT NULL;
CREATE INDEX resource_date ON resource(effective, id) WHERE effective IS NOT NULL;
-- every version of the types that have more than one
CREATE TABLE history(type TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, updated INTEGER NOT NULL,
  body TEXT NOT NULL, PRIMARY KEY (type, id, version)) STRICT, WITHOUT ROWID;
CREATE TABLE parcel(id BLOB PRIMARY KEY, conflicts TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// What leads from each version to the next, from version 1 on. Version 2 keeps which facility owns an id; version 3 the
/// order of past versions, and what readers were shown; version 4 what clients write, of any type;
/// version 5 what that is found by ([`TABLES`]); version 6 subscriptions; version 7 another order of
/// the index of codes ([`CODES_BY_ID`]); version 8 lists the Observations of clients by their times, and past
/// versions but those of the server's own AuditEvents in their order; version 9 keeps what was created by POST, and
/// lists the Observations that have changed in the order of commits; version 10 keeps what the index was made by.
const STEPS: [&str; SCHEMA_VERSION as usize - 1] = [
    "
CREATE TABLE facility(place TEXT PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE) STRICT, WITHOUT ROWID;
ALTER TABLE resource ADD COLUMN source TEXT;
",
    "
ALTER TABLE history ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
CREATE TABLE reader(name TEXT PRIMARY KEY, marks TEXT NOT NULL) STRICT, WITHOUT ROWID;
",
    "
-- which client wrote it; none where a facility delivered it
ALTER TABLE resource ADD COLUMN author TEXT;
ALTER TABLE history ADD COLUMN author TEXT;
CREATE INDEX history_order ON history(seq);
CREATE INDEX history_type ON history(type, seq);
",
    "",
    events::STEP,
    "",
    "
CREATE INDEX resource_written ON resource(effective, id) WHERE author IS NOT NULL AND type = 'Observation';
CREATE INDEX history_others ON history(seq) WHERE NOT (type = 'AuditEvent' AND author IS NULL);
",
    "
CREATE INDEX resource_withdrawn ON resource(seq) WHERE type = 'Observation' AND version > 1;
-- 1 where a client created it by POST, 0 where it was put; none of what no client wrote, and of what is older
ALTER TABLE history ADD COLUMN posted INTEGER;
",
    rules::STEP,
];

/// FHIR resources in one SQLite file.
pub struct SqliteStore {
    jobs: mpsc::Sender<Job>,
    /// The writer's. Its queue ends with what is above.
    _thread: storage::thread::Joined,
    /// Ends with it.
    writer: watch::Receiver<()>,
    /// Changes with events that were written.
    noted: watch::Sender<u64>,
    most_pending: u64,
    path: PathBuf,
    first: Arc<Secret<String>>,
    readers: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    indexing: Indexing,
}

impl SqliteStore {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a schema that is newer than this binary, otherwise by what the engine says.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_after(path, Secret::default())
    }

    /// The same for a file whose every connection begins with these statements: the key of an encrypted one.
    ///
    /// # Errors
    /// As [`SqliteStore::open`]; [`Kind::Corrupt`] also with another key than the file was made with.
    pub fn open_after(path: &Path, first: Secret<String>) -> Result<Self, StoreError> {
        Self::open_bounded(path, first, MAX_PENDING_EVENTS)
    }

    /// The same with another bound of events that wait ([`EventStore::most_pending`]).
    ///
    /// # Errors
    /// As [`SqliteStore::open_after`].
    pub fn open_bounded(
        path: &Path,
        first: Secret<String>,
        most_pending: u64,
    ) -> Result<Self, StoreError> {
        let first = Arc::new(first);
        let writer = connection(path, OpenFlags::default(), &first);
        let mut writer = writer.map_err(|error| StoreError::coded("open", &error))?;
        migrate::file(&mut writer, SCHEMA_VERSION, upgrade)?;
        let indexing = rules::begin(&mut writer);
        let indexing = indexing.map_err(|error| StoreError::coded("open", &error))?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (alive, watched) = watch::channel(());
        let key = Arc::clone(&first);
        let again = move |path: &Path| connection(path, OpenFlags::default(), &key);
        let noted = watch::Sender::new(0);
        let telling = noted.clone();
        let file = Reopening::new(path, writer, again);
        let thread = storage::thread::Joined::spawn(WRITER, move || {
            // Dropped when the writer ends, also by a panic.
            let _alive = alive;
            if !storage::thread::is_to_end(WRITER) {
                writer::run(&file, queue, (&telling, most_pending));
            }
        });
        let thread = thread.map_err(|error| StoreError {
            kind: Kind::Unavailable,
            op: "open",
            source: Some(Box::new(error)),
        })?;
        Ok(Self {
            jobs,
            _thread: thread,
            writer: watched,
            noted,
            most_pending,
            path: path.to_owned(),
            first,
            readers: Arc::default(),
            permits: Arc::new(Semaphore::new(READERS)),
            indexing,
        })
    }

    /// Hands a job to the writer and waits for its answer.
    async fn writing<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let stopped = || StoreError::new(Kind::Internal, "write: writer stopped");
        self.jobs.send(job(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Runs `step` on a reader, on the blocking pool.
    async fn reading<T: Send + 'static>(
        &self,
        op: &'static str,
        step: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = |_| StoreError::new(Kind::Internal, op);
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let readers = Arc::clone(&self.readers);
        let (path, first) = (self.path.clone(), Arc::clone(&self.first));
        let asked = Asked::default();
        let running = Arc::clone(&asked.0);
        let result = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // Opened when it is first needed, and again when it was left in doubt.
            let reader = match readers.lock().pop() {
                Some(reader) => reader,
                None => match connection(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, &first) {
                    Ok(reader) => reader,
                    Err(error) => return Err(error),
                },
            };
            *running.lock() = Some(reader.get_interrupt_handle());
            let result = step(&reader);
            // Before the connection is another's.
            *running.lock() = None;
            if !matches!(&result, Err(error) if in_doubt(error)) {
                readers.lock().push(reader);
            }
            result
        });
        match result.await {
            Ok(result) => result.map_err(|error| StoreError::coded(op, &error)),
            Err(_) => Err(StoreError::new(Kind::Internal, op)),
        }
    }
}

/// A step that somebody waits for. Dropping it while the step runs ends the step: a request that was given up must not
/// keep a reader.
#[derive(Default)]
struct Asked(Arc<Mutex<Option<InterruptHandle>>>);

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(running) = self.0.lock().as_ref() {
            running.interrupt();
        }
    }
}

fn connection(
    path: &Path,
    flags: OpenFlags,
    first: &Secret<String>,
) -> rusqlite::Result<Connection> {
    let opening = Opening {
        flags,
        first: first.reveal(),
        ..Opening::default()
    };
    if flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        return opening.open(path);
    }
    let connection = opening.open_lasting(path)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    Ok(connection)
}

/// Brings the tables forward from a version.
fn upgrade(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    if version == 0 {
        connection.execute_batch(SCHEMA)?;
    }
    migrate::forward(connection, version.max(1) - 1, &STEPS)?;
    // Version 5.
    if version < 5 {
        for table in TABLES {
            connection.execute_batch(&table.create(Dialect::Sqlite))?;
        }
    } else if version < 7 {
        connection.execute_batch(CODES_BY_ID)?;
    }
    rules::known(connection, version)
}

/// One row, with the last place in the order of commits behind what is there.
const CURRENT: &str = "SELECT r.type, r.id, r.version, r.updated, r.body, r.source, r.seq, h.seq FROM head h \
     LEFT JOIN resource r ON r.type = ?1 AND r.id = ?2";
const PAST: &str = "SELECT type, id, version, updated, body, \
     (SELECT source FROM resource WHERE type = ?1 AND id = ?2), seq FROM history \
     WHERE type = ?1 AND id = ?2 AND version = ?3";

/// Reads the columns type, id, version, updated, body, source, seq.
fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let corrupt = |column| rusqlite::Error::IntegralValueOutOfRange(column, 0);
    let kind: String = row.get(0)?;
    let id: String = row.get(1)?;
    let source: Option<String> = row.get(5)?;
    let source = source.map(|text| text.parse().map_err(|_| corrupt(5)));
    Ok(Stored {
        kind: ResourceType::parse(&kind).ok_or_else(|| corrupt(0))?,
        id: id.parse().map_err(|_| corrupt(1))?,
        version: row.get(2)?,
        seq: row.get(6)?,
        updated: Timestamp(row.get(3)?),
        source: source.transpose()?,
        json: row.get(4)?,
    })
}

#[async_trait]
impl ResourceStore for SqliteStore {
    async fn apply(
        &self,
        deliveries: Vec<Delivery>,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        check_size(&deliveries)?;
        self.writing(|reply| Job::Apply {
            deliveries,
            now,
            reply,
        })
        .await
    }

    async fn look(
        &self,
        kind: ResourceType,
        id: &FhirId,
    ) -> Result<(Option<Stored>, i64), StoreError> {
        let id = id.clone();
        self.reading("read", move |reader| {
            let mut statement = reader.prepare_cached(CURRENT)?;
            statement.query_row(params![kind.as_str(), id.as_str()], |row| {
                let is_there = row.get::<_, Option<String>>(0)?.is_some();
                let found = is_there.then(|| stored(row)).transpose()?;
                Ok((found, row.get(7)?))
            })
        })
        .await
    }

    async fn vread(
        &self,
        kind: ResourceType,
        id: &FhirId,
        version: u32,
    ) -> Result<Option<Stored>, StoreError> {
        if let Some(current) = self.read(kind, id).await?
            && current.version == version
        {
            return Ok(Some(current));
        }
        let id = id.clone();
        self.reading("vread", move |reader| {
            let mut statement = reader.prepare_cached(PAST)?;
            statement
                .query_row(params![kind.as_str(), id.as_str(), version], stored)
                .optional()
        })
        .await
    }

    async fn search(&self, query: &Query) -> Result<Page, StoreError> {
        self.indexed(|| of_query(query)).await?;
        let query = query.clone();
        self.reading("search", move |reader| query::page(reader, &query))
            .await
    }

    async fn total(&self, query: &Query) -> Result<u64, StoreError> {
        self.indexed(|| of_query(query)).await?;
        let query = query.clone();
        self.reading("total", move |reader| query::total(reader, &query))
            .await
    }

    async fn measures(&self, query: &Query, most: usize) -> Result<Vec<Measure>, StoreError> {
        let query = query.clone();
        self.reading("measures", move |reader| {
            query::measures(reader, &query, most)
        })
        .await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Transacted, StoreError> {
        check_changes(&transaction)?;
        self.indexed(|| of_guards(&transaction)).await?;
        self.writing(|reply| Job::Transact { transaction, reply })
            .await
    }

    async fn find(&self, find: &Find) -> Result<FindPage, StoreError> {
        self.indexed(|| of_find(find)).await?;
        let find = find.clone();
        self.reading("find", move |reader| general::find(reader, &find))
            .await
    }

    async fn count(&self, find: &Find) -> Result<u64, StoreError> {
        self.indexed(|| of_find(find)).await?;
        let find = find.clone();
        self.reading("count", move |reader| general::count(reader, &find))
            .await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        let query = query.clone();
        self.reading("history", move |reader| general::history(reader, &query))
            .await
    }

    async fn ended(&self) {
        let mut writer = self.writer.clone();
        // Nothing is ever sent: the sender ends with the thread.
        while writer.changed().await.is_ok() {}
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.reading("counts", |reader| {
            let sql = "SELECT observations, patients, devices FROM head";
            reader.query_row(sql, [], |row| {
                let count = |column| -> rusqlite::Result<u64> {
                    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
                };
                Ok(Counts([count(0)?, count(1)?, count(2)?]))
            })
        })
        .await
    }

    async fn head(&self) -> Result<i64, StoreError> {
        self.reading("head", |reader| {
            reader
                .prepare_cached("SELECT seq FROM head")?
                .query_row([], |row| row.get(0))
        })
        .await
    }

    async fn last(&self) -> Result<(i64, Timestamp), StoreError> {
        self.reading("last", |reader| {
            reader
                .prepare_cached("SELECT seq, updated FROM head")?
                .query_row([], |row| Ok((row.get(0)?, Timestamp(row.get(1)?))))
        })
        .await
    }

    async fn extent(&self, extent: &Extent) -> Result<ExtentPage, StoreError> {
        let extent = extent.clone();
        self.reading("extent", move |reader| general::extent(reader, &extent))
            .await
    }

    async fn marks(&self, reader: &str) -> Result<Option<String>, StoreError> {
        let name = reader.to_owned();
        self.reading("marks", move |reader| {
            reader
                .prepare_cached("SELECT marks FROM reader WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()
        })
        .await
    }

    async fn keep_marks(&self, reader: &str, marks: String) -> Result<(), StoreError> {
        let reader = reader.to_owned();
        self.writing(|reply| Job::KeepMarks {
            reader,
            marks,
            reply,
        })
        .await
    }

    async fn reindex(&self, base: &str) -> Result<Option<u64>, StoreError> {
        self.make_next(base).await
    }

    async fn keep_audit(&self, audit: OwnEvents) -> Result<(), StoreError> {
        self.writing(|reply| Job::KeepAudit { audit, reply }).await
    }

    fn event_store(&self) -> &dyn EventStore {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::fixture;
    use std::time::Duration;

    #[tokio::test]
    async fn after_failed_fsyncs_the_store_goes_on_and_a_power_loss_takes_nothing_that_was_applied()
    {
        use storage::fault::{Survivors, register};
        let dir = tempfile::tempdir().unwrap();
        let (disk, path) = (register("fhir"), dir.path().join("fhir.db"));
        let uri = format!("file:{}?vfs=fhir", path.display());
        let store = SqliteStore::open(Path::new(&uri)).unwrap();
        let mut applied = Vec::new();
        for n in 0..8 {
            match n {
                2 => disk.fail_syncs(1),
                5 => disk.fail_syncs(2),
                _ => {}
            }
            let delivery = fixture::delivery(n, n * 10..n * 10 + 10);
            if store.apply(vec![delivery], fixture::START).await.is_ok() {
                applied.push(n);
            }
        }
        assert!(applied.len() < 8 && applied.contains(&7));
        for survivors in Survivors::ALL {
            let found = tempfile::tempdir().unwrap();
            disk.after_power_loss(survivors, found.path());
            let store = SqliteStore::open(&found.path().join("fhir.db")).unwrap();
            for n in &applied {
                let one = fixture::observation(n * 10);
                let there = store.read(one.kind(), one.id()).await.unwrap();
                assert!(there.is_some(), "{survivors:?}: {n}");
            }
        }
    }

    #[tokio::test]
    async fn the_end_of_the_writer_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
        let SqliteStore { jobs, writer, .. } = store;
        let mut alive = writer.clone();
        assert!(alive.has_changed().is_ok());
        drop(jobs);
        let ended = tokio::time::timeout(Duration::from_secs(60), alive.changed());
        assert!(ended.await.expect("the writer ends").is_err());
    }

    #[tokio::test]
    async fn a_step_that_nobody_waits_for_any_more_ends_and_gives_its_reader_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
        const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let endless = || {
            store.reading("test", |reader| {
                reader.query_row(ENDLESS, [], |row| row.get::<_, i64>(0))
            })
        };
        for _ in 0..READERS {
            let given_up = tokio::time::timeout(Duration::from_millis(200), endless()).await;
            assert!(given_up.is_err());
        }
        let limit = Duration::from_secs(20);
        let counts = tokio::time::timeout(limit, store.counts()).await;
        assert!(counts.expect("a reader is free again").is_ok());
    }
}
