//! Bytes of files that are no SQLite files (blobs, bulk data) in the PostgreSQL of a region, under the lease of the node that
//! writes. How much there may be is for those to say whose files they are.
use super::{Pair, failed, unreadable};
use crate::store::StoreError;
use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use std::{io, pin::pin, sync::Arc};
use storage::chunks::{Chunks, Joined};
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS kept_chunk(file TEXT NOT NULL, at BIGINT NOT NULL, bytes BYTEA NOT NULL,
  PRIMARY KEY (file, at));
";
/// One statement, as for pages: a node that is paused holds no lock.
const PUT: &str = "WITH held AS (SELECT number FROM lease WHERE number = $1 FOR SHARE), \
     cut AS (DELETE FROM kept_chunk USING held WHERE file = $2::text AND at > $3::bigint), \
     put AS (INSERT INTO kept_chunk(file, at, bytes) SELECT $2::text, $3::bigint, $4::bytea FROM held \
     ON CONFLICT (file, at) DO UPDATE SET bytes = excluded.bytes) SELECT number FROM held";
const SHOW: &str = "SELECT at, bytes FROM kept_chunk WHERE file = $1 ORDER BY at";
const LIST: &str = "SELECT file, max(at + octet_length(bytes)) FROM kept_chunk WHERE starts_with(file, $1) GROUP BY file";
const REMOVE: &str = "WITH held AS (SELECT number FROM lease WHERE number = $1 FOR SHARE), \
     gone AS (DELETE FROM kept_chunk USING held WHERE file = ANY($2::text[])) SELECT number FROM held";

/// Where the node that holds a lease keeps the bytes of its files. Its steps block; they are taken on threads that may, one
/// at a time, so that they take one connection.
pub struct KeptChunks {
    pair: Arc<Pair>,
    lease: i64,
    runtime: Handle,
    turn: Mutex<()>,
}

impl KeptChunks {
    /// For the holder of the lease of that number, on the runtime of this call.
    #[must_use]
    pub fn new(pair: Arc<Pair>, lease: i64) -> Self {
        Self {
            pair,
            lease,
            runtime: Handle::current(),
            turn: Mutex::new(()),
        }
    }

    /// Changes something by the lease.
    fn change(
        &self,
        op: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> io::Result<()> {
        let _turn = self.turn.lock();
        let changed = async {
            let client = self.pair.client(op).await?;
            let statement = client.prepare_cached(sql).await;
            let statement = statement.map_err(|error| failed(op, &error))?;
            let row = client.query_opt(&statement, params).await;
            row.map_err(|error| failed(op, &error))
        };
        match self.runtime.block_on(changed).map_err(other)? {
            Some(_) => Ok(()),
            None => Err(io::Error::other("another node writes")),
        }
    }
}

impl Chunks for KeptChunks {
    fn put(&self, file: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = i64::try_from(at).map_err(io::Error::other)?;
        self.change("put a chunk", PUT, &[&self.lease, &file, &at, &bytes])
    }

    fn show(
        &self,
        file: &str,
        see: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
    ) -> io::Result<Option<u64>> {
        let _turn = self.turn.lock();
        let op = "read chunks";
        let engine = |error: tokio_postgres::Error| failed(op, &error);
        let shown = async {
            let client = self.pair.client(op).await?;
            let params: [&(dyn ToSql + Sync); 1] = [&file];
            let rows = client.query_raw(SHOW, params).await.map_err(engine)?;
            let (mut rows, mut joined, mut any) = (pin!(rows), Joined::default(), false);
            while let Some(row) = rows.try_next().await.map_err(engine)? {
                let at = u64::try_from(row.get::<_, i64>(0)).unwrap_or_default();
                let next = joined.next(at, row.get(1), see);
                next.map_err(|error| unreadable(op, error))?;
                any = true;
            }
            let length = joined.end(see).map_err(|error| unreadable(op, error))?;
            Ok::<_, StoreError>(any.then_some(length))
        };
        self.runtime.block_on(shown).map_err(other)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<(String, u64)>> {
        let _turn = self.turn.lock();
        let op = "list chunks";
        let listed = async {
            let client = self.pair.client(op).await?;
            let rows = client.query(LIST, &[&prefix]).await;
            rows.map_err(|error| failed(op, &error))
        };
        let rows = self.runtime.block_on(listed).map_err(other)?;
        let file = |row: &tokio_postgres::Row| {
            let length = u64::try_from(row.get::<_, i64>(1)).unwrap_or_default();
            (row.get(0), length)
        };
        Ok(rows.iter().map(file).collect())
    }

    fn remove(&self, files: &[String]) -> io::Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        self.change("remove chunks", REMOVE, &[&self.lease, &files])
    }
}

fn other(error: StoreError) -> io::Error {
    io::Error::other(error)
}
