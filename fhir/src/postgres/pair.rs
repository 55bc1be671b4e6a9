//! What the nodes of one region share beside its resources: the lease of the one that writes, the pages of the files in
//! which it keeps the rest, the heads beside its audit log, the assertions that were used at either, and the audit rows of
//! the one that waits.
//!
//! Whether a lease holds is judged by the clock of the database alone. Its number only grows: whoever puts pages says the
//! number that it was given, and puts nothing once another node was given one (a fencing token).
use super::{
    MIGRATION_LOCK, again,
    connect::{self, Idle},
    connected, failed,
    servers::Servers,
    timeline::{Newest, TIMELINE_FILE},
};
use crate::store::{Kind, StoreError};
use deadpool_postgres::{Object, Pool};
use futures_util::TryStreamExt as _;
use std::{collections::HashMap, io, pin::pin, sync::Arc};
use tokio::sync::Mutex;
use tokio_postgres::{IsolationLevel, types::ToSql};

mod assertions;
mod chunks;
mod lease;
mod rows;

pub use assertions::Noted;
pub use chunks::KeptChunks;
use lease::{EXTEND, HeldConnection, lease_ms};
pub use lease::{LEASE, Seen, UNSEEN};
pub use rows::Waiting;

/// The version of these tables. It only goes forward.
const VERSION: i64 = 1;
/// Connections at once: that of the lease, one for each file that is put, one each for audit rows and for chunks, and one for
/// all else.
const CONNECTIONS: usize = 6;
/// Pages that are put at once where every page of a file is.
const BATCH: usize = 256;

const SCHEMA: &str = r#"
-- what is there already is no news
SET LOCAL client_min_messages = warning;
CREATE TABLE IF NOT EXISTS lease(one BOOLEAN PRIMARY KEY CHECK (one), version BIGINT NOT NULL, number BIGINT NOT NULL,
  holder TEXT NOT NULL, node TEXT NOT NULL, until TIMESTAMPTZ NOT NULL, backend INTEGER NOT NULL,
  began TIMESTAMPTZ NOT NULL, founder TEXT NOT NULL);
INSERT INTO lease VALUES (TRUE, 1, 0, '', '', '-infinity', 0, '-infinity', '') ON CONFLICT DO NOTHING;
-- number counts the changes of a file; a page bears that of its last one
CREATE TABLE IF NOT EXISTS kept_file(name TEXT PRIMARY KEY, number BIGINT NOT NULL, page_bytes BIGINT NOT NULL,
  pages BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS kept_page(file TEXT NOT NULL, page BIGINT NOT NULL, number BIGINT NOT NULL,
  bytes BYTEA NOT NULL, PRIMARY KEY (file, page));
CREATE INDEX IF NOT EXISTS kept_page_number ON kept_page(file, number);
CREATE TABLE IF NOT EXISTS kept_beside(file TEXT NOT NULL, at BIGINT NOT NULL, bytes BYTEA NOT NULL,
  PRIMARY KEY (file, at));
CREATE TABLE IF NOT EXISTS used_assertion(kid TEXT NOT NULL, jti TEXT NOT NULL, ends BIGINT NOT NULL,
  PRIMARY KEY (kid, jti));
CREATE INDEX IF NOT EXISTS used_assertion_ends ON used_assertion(ends);
"#;

/// One statement: as it begins once all of it was received, a node that is paused holds no lock. Nothing is put where the
/// file has had fewer changes than were put; but for all of it, whose number is beyond any that was seen.
const PUT: &str = "WITH held AS (SELECT number FROM lease WHERE number = $1 AND ($10::boolean OR $9::bigint <= \
     coalesce((SELECT kept_file.number FROM kept_file WHERE kept_file.name = $2::text), 0)) FOR SHARE), \
     changed AS (INSERT INTO kept_file(name, number, page_bytes, pages) \
     SELECT $2::text, $9::bigint + 1, $3::bigint, $4::bigint FROM held \
     ON CONFLICT (name) DO UPDATE SET number = greatest(kept_file.number, $9::bigint) + 1, page_bytes = excluded.page_bytes, \
     pages = excluded.pages RETURNING number), \
     put AS (INSERT INTO kept_page(file, page, number, bytes) \
     SELECT $2::text, given.page, changed.number, given.bytes \
     FROM changed, unnest($5::bigint[], $6::bytea[]) AS given(page, bytes) \
     ON CONFLICT (file, page) DO UPDATE SET number = excluded.number, bytes = excluded.bytes), \
     cut AS (DELETE FROM kept_page USING held WHERE file = $2::text AND page > $4::bigint), \
     beside_cut AS (DELETE FROM kept_beside USING held \
     WHERE file = $2::text AND at > $7::bigint AND $8::bytea IS NOT NULL), \
     beside AS (INSERT INTO kept_beside(file, at, bytes) SELECT $2::text, $7::bigint, $8::bytea FROM held \
     WHERE $8::bytea IS NOT NULL ON CONFLICT (file, at) DO UPDATE SET bytes = excluded.bytes) \
     SELECT number FROM changed";
/// Of a page that is there as it is nothing is written.
const PUT_SOME: &str = "INSERT INTO kept_page(file, page, number, bytes) SELECT $1::text, given.page, $2::bigint, given.bytes \
     FROM unnest($3::bigint[], $4::bytea[]) AS given(page, bytes) \
     ON CONFLICT (file, page) DO UPDATE SET number = excluded.number, bytes = excluded.bytes \
     WHERE kept_page.bytes IS DISTINCT FROM excluded.bytes";
/// More changes than are put and not answered.
const UNANSWERED: i64 = 1_000;
/// What a put is called where the file has had fewer changes than were put: a standby was promoted that had not received all.
pub(super) const OLDER: &str = "put pages: the file is older than what was put";
/// A node that stops in the middle loses its turn before a lease lapses.
const BOUND: &str = "SET LOCAL idle_in_transaction_session_timeout = '1500ms'";

/// The tables, for one node.
pub struct Pair {
    pool: Pool,
    newest: Arc<Newest>,
    held: Mutex<HeldConnection>,
    /// Changes of each file, as they were put or read last.
    numbers: parking_lot::Mutex<HashMap<String, i64>>,
}

/// How a file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Changes so far.
    pub number: i64,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Pages.
    pub pages: u32,
}

/// Takes a page of a file of some shape, by its number.
type See<'a> = &'a mut (dyn FnMut(Shape, u32, &[u8]) -> io::Result<()> + Send);

impl Pair {
    /// Connects, and makes the tables if there are none.
    ///
    /// # Errors
    /// As [`super::PostgresStore::open`].
    pub async fn open(url: &str, authority_pem: Option<&[u8]>) -> Result<Self, StoreError> {
        Self::open_remembering(url, authority_pem, &Newest::nowhere()).await
    }

    /// The same for a node that keeps the newest timeline of its servers.
    ///
    /// # Errors
    /// As [`super::PostgresStore::open`]; [`Kind::Refused`] where all that takes writes is older than what this node has
    /// worked with.
    pub async fn open_remembering(
        url: &str,
        authority_pem: Option<&[u8]>,
        newest: &Arc<Newest>,
    ) -> Result<Self, StoreError> {
        let way = (Idle::Alone, Arc::clone(newest));
        let servers = connect::servers(url, authority_pem, way)?;
        let pair = Self {
            pool: connect::pool(&servers, CONNECTIONS)?,
            newest: Arc::clone(newest),
            held: Mutex::default(),
            numbers: parking_lot::Mutex::default(),
        };
        let client = pair.client("open the lease").await;
        let mut client = client.map_err(|error| older(&servers).unwrap_or(error))?;
        let made = async {
            let transaction = client.transaction().await?;
            let lock = "SELECT pg_advisory_xact_lock($1)";
            transaction.execute(lock, &[&MIGRATION_LOCK]).await?;
            transaction.batch_execute(SCHEMA).await?;
            transaction.batch_execute(rows::SCHEMA).await?;
            transaction.batch_execute(chunks::SCHEMA).await?;
            let version = transaction.query_one("SELECT version FROM lease", &[]);
            let version: i64 = version.await?.get(0);
            transaction.commit().await?;
            Ok(version)
        };
        match made
            .await
            .map_err(|error| failed("open the lease", &error))?
        {
            ..=VERSION => Ok(pair),
            _ => Err(StoreError::new(
                Kind::Refused,
                "open the lease: schema is newer",
            )),
        }
    }

    /// Where the newest timeline of its servers is kept.
    #[must_use]
    pub const fn newest(&self) -> &Arc<Newest> {
        &self.newest
    }

    async fn client(&self, op: &'static str) -> Result<Object, StoreError> {
        connected(&self.pool, op).await
    }

    /// The holder whose files became those of the region; none while a region was one node only.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn founder(&self) -> Result<Option<String>, StoreError> {
        let client = self.client("read the founder").await?;
        let row = client.query_one("SELECT founder FROM lease", &[]).await;
        let row = row.map_err(|error| failed("read the founder", &error))?;
        Ok(Some(row.get(0)).filter(|founder: &String| !founder.is_empty()))
    }

    /// Makes a holder of the lease the one whose files become those of the region, if there is none yet.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn found(&self, lease: i64, holder: &str) -> Result<(), StoreError> {
        let client = self.client("found").await?;
        let sql = "UPDATE lease SET founder = $2 WHERE number = $1 AND founder = ''";
        let founded = client.execute(sql, &[&lease, &holder]).await;
        founded.map_err(|error| failed("found", &error))?;
        Ok(())
    }

    /// Whether no resource was ever stored here.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        let client = self.client("look for resources").await?;
        let engine = |error: tokio_postgres::Error| failed("look for resources", &error);
        let there = client.query_one("SELECT to_regclass('head') IS NOT NULL", &[]);
        if !there.await.map_err(engine)?.get::<_, bool>(0) {
            return Ok(true);
        }
        let row = client.query_one("SELECT seq FROM head", &[]).await;
        Ok(row.map_err(engine)?.get::<_, i64>(0) == 0)
    }

    /// How a file is kept; none when it is not.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn shape(&self, file: &str) -> Result<Option<Shape>, StoreError> {
        let client = self.client("read a file").await?;
        let row = client.query_opt(SHAPE, &[&file]).await;
        let row = row.map_err(|error| failed("read a file", &error))?;
        row.map(|row| shape(&row)).transpose()
    }

    /// How many changes a file had when it was put or read last; 0 before that.
    fn changes(&self, file: &str) -> i64 {
        self.numbers.lock().get(file).copied().unwrap_or(0)
    }

    /// Puts pages of a file, by the number of the lease. False when another node has it now: nothing was put.
    ///
    /// # Errors
    /// By what the engine says; [`Kind::Corrupt`] when what was put is not there any more: nothing was put.
    pub async fn put(
        &self,
        lease: i64,
        file: &str,
        shape: (u32, u32),
        pages: &[(u32, Vec<u8>)],
        beside: Option<(u64, &[u8])>,
    ) -> Result<bool, StoreError> {
        let (numbers, bytes) = columns(pages);
        let (at, added) = beside.map_or((0, None), |(at, added)| (at, Some(added)));
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let known = self.changes(file);
        let params: [&(dyn ToSql + Sync); 10] = [
            &lease,
            &file,
            &i64::from(shape.0),
            &i64::from(shape.1),
            &numbers,
            &bytes,
            &at,
            &added,
            &known,
            &false,
        ];
        let params = &params;
        // The same again puts the same.
        let put = again(&self.pool, "put pages", |client| async move {
            let put = async {
                let statement = client.prepare_cached(PUT).await?;
                client.query_opt(&statement, params).await
            };
            let put = put.await;
            (Some(client), put)
        });
        if let Some(row) = put.await? {
            self.numbers.lock().insert(file.to_owned(), row.get(0));
            return Ok(true);
        }
        let there = self.shape(file).await?.map_or(0, |shape| shape.number);
        match there < known {
            true => Err(StoreError::new(Kind::Corrupt, OLDER)),
            false => Ok(false),
        }
    }

    /// Puts every page of a file, in one transaction, by the number of the lease. False when another node has it now:
    /// nothing was put.
    ///
    /// # Errors
    /// By what the engine says, or what cannot be read.
    pub async fn put_whole(
        &self,
        lease: i64,
        file: &str,
        shape: (u32, u32),
        pages: &mut (dyn Iterator<Item = io::Result<(u32, Vec<u8>)>> + Send),
        beside: Option<(u64, &[u8])>,
    ) -> Result<bool, StoreError> {
        let op = "put a file";
        let mut client = self.client(op).await?;
        let engine = |error: tokio_postgres::Error| failed(op, &error);
        let transaction = client.transaction().await.map_err(engine)?;
        transaction.batch_execute(BOUND).await.map_err(engine)?;
        let locked = transaction.execute(EXTEND, &[&lease, &lease_ms()]).await;
        if locked.map_err(engine)? == 0 {
            return Ok(false);
        }
        let (none, nothing) = columns(&[]);
        let (at, added) = beside.map_or((0, None), |(at, added)| (at, Some(added)));
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let beyond = match self.changes(file) {
            0 => 0,
            known => known + UNANSWERED,
        };
        let params: [&(dyn ToSql + Sync); 10] = [
            &lease,
            &file,
            &i64::from(shape.0),
            &i64::from(shape.1),
            &none,
            &nothing,
            &at,
            &added,
            &beyond,
            &true,
        ];
        let Some(row) = transaction.query_opt(PUT, &params).await.map_err(engine)? else {
            return Ok(false);
        };
        let number: i64 = row.get(0);
        loop {
            let batch: io::Result<Vec<_>> = (&mut *pages).take(BATCH).collect();
            let batch = batch.map_err(|error| unreadable(op, error))?;
            if batch.is_empty() {
                break;
            }
            let (numbers, bytes) = columns(&batch);
            let params: [&(dyn ToSql + Sync); 4] = [&file, &number, &numbers, &bytes];
            transaction
                .execute(PUT_SOME, &params)
                .await
                .map_err(engine)?;
        }
        // Nobody could renew it meanwhile.
        let params: [&(dyn ToSql + Sync); 2] = [&lease, &lease_ms()];
        transaction.execute(EXTEND, &params).await.map_err(engine)?;
        transaction.commit().await.map_err(engine)?;
        self.numbers.lock().insert(file.to_owned(), number);
        Ok(true)
    }

    /// Shows the pages of a file that changed after a number of changes, in any order, as of one instant, and how the
    /// file is then; none when it is not kept.
    ///
    /// # Errors
    /// By what the engine says, or what `see` says: some pages may have been shown.
    pub async fn changed_since(
        &self,
        file: &str,
        number: i64,
        see: See<'_>,
    ) -> Result<Option<Shape>, StoreError> {
        let op = "read pages";
        let mut client = self.client(op).await?;
        let engine = |error: tokio_postgres::Error| failed(op, &error);
        let reading = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true);
        let transaction = reading.start().await.map_err(engine)?;
        let row = transaction.query_opt(SHAPE, &[&file]).await;
        let Some(found) = row.map_err(engine)?.map(|row| shape(&row)).transpose()? else {
            return Ok(None);
        };
        let sql = "SELECT page, bytes FROM kept_page WHERE file = $1 AND number > $2";
        let params: [&(dyn ToSql + Sync); 2] = [&file, &number];
        let rows = transaction.query_raw(sql, params).await.map_err(engine)?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(engine)? {
            see(found, positive(row.get(0))?, row.get(1)).map_err(|error| unreadable(op, error))?;
        }
        self.numbers.lock().insert(file.to_owned(), found.number);
        Ok(Some(found))
    }

    /// The bytes of the file beside a file.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn beside(&self, file: &str) -> Result<Vec<u8>, StoreError> {
        let client = self.client("read heads").await?;
        let sql = "SELECT bytes FROM kept_beside WHERE file = $1 ORDER BY at";
        let rows = client.query(sql, &[&file]).await;
        let rows = rows.map_err(|error| failed("read heads", &error))?;
        Ok(rows
            .iter()
            .flat_map(|row| row.get::<_, Vec<u8>>(0))
            .collect())
    }
}

/// Why none of the servers is worked with, where one takes writes that was left behind.
fn older(servers: &Servers) -> Option<StoreError> {
    let (server, before) = servers.left_behind()?;
    let says = format!(
        "{server} takes writes, and this node has worked with timeline {} of it: another server was promoted since. Stop this \
         one and make it a standby of that one; to go on with it and without what that one has, remove {TIMELINE_FILE} from \
         the data directory",
        before.timeline
    );
    Some(StoreError {
        kind: Kind::Refused,
        op: "open the lease: an old primary",
        source: Some(says.into()),
    })
}

const SHAPE: &str = "SELECT number, page_bytes, pages FROM kept_file WHERE name = $1";

fn shape(row: &tokio_postgres::Row) -> Result<Shape, StoreError> {
    Ok(Shape {
        number: row.get(0),
        page_bytes: positive(row.get(1))?,
        pages: positive(row.get(2))?,
    })
}

fn positive(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::new(Kind::Corrupt, "read pages"))
}

fn columns(pages: &[(u32, Vec<u8>)]) -> (Vec<i64>, Vec<&[u8]>) {
    let columns = pages
        .iter()
        .map(|(number, bytes)| (i64::from(*number), &bytes[..]));
    columns.unzip()
}

fn unreadable(op: &'static str, error: io::Error) -> StoreError {
    StoreError {
        kind: Kind::Unavailable,
        op,
        source: Some(Box::new(error)),
    }
}
