//! Bytes of files that are no SQLite files (blobs, bulk data) in the PostgreSQL of a region, under the lease of the node that
//! writes. How much there may be is for those to say whose files they are.
use super::{Pair, failed};
use crate::store::StoreError;
use parking_lot::Mutex;
use std::{io, sync::Arc};
use storage::chunks::{Chunks, Joined};
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS kept_chunk(file TEXT NOT NULL, at BIGINT NOT NULL, bytes BYTEA NOT NULL,
  PRIMARY KEY (file, at));
";
/// Chunks that one statement reads or removes: 4 MiB of a blob, which takes far less than a statement may, and holds the
/// lease's row no longer than a node that takes over would wait.
const PIECE: i64 = 16;
/// One statement, as for pages: a node that is paused holds no lock. Where more of the file is beyond than is removed at once,
/// nothing is put, and it says so.
const PUT: &str = "WITH held AS (SELECT number FROM lease WHERE number = $1 FOR SHARE), \
     beyond AS (SELECT count(*) > $5::bigint AS many FROM \
     (SELECT 1 FROM kept_chunk WHERE file = $2::text AND at > $3::bigint LIMIT $5::bigint + 1) next), \
     cut AS (DELETE FROM kept_chunk USING held, beyond WHERE file = $2::text AND at > $3::bigint AND NOT many), \
     put AS (INSERT INTO kept_chunk(file, at, bytes) SELECT $2::text, $3::bigint, $4::bytea FROM held, beyond \
     WHERE NOT many ON CONFLICT (file, at) DO UPDATE SET bytes = excluded.bytes) SELECT many FROM held, beyond";
const SHOW: &str =
    "SELECT at, bytes FROM kept_chunk WHERE file = $1 AND at > $2 ORDER BY at LIMIT $3";
/// A file ends with its last chunk, which may begin and end within the one before.
const LIST: &str = "SELECT DISTINCT ON (file) file, at + octet_length(bytes) FROM kept_chunk WHERE starts_with(file, $1) \
     ORDER BY file, at DESC";
/// The last chunks of a file behind a place: a file that is removed in part is a shorter one. It says whether there may be more.
const REMOVE: &str = "WITH held AS (SELECT number FROM lease WHERE number = $1 FOR SHARE), \
     last AS (SELECT file, at FROM kept_chunk WHERE file = $2::text AND at > $3::bigint ORDER BY at DESC LIMIT $4::bigint), \
     gone AS (DELETE FROM kept_chunk USING held, last WHERE kept_chunk.file = last.file AND kept_chunk.at = last.at \
     RETURNING 1) SELECT (SELECT count(*) FROM gone) = $4::bigint FROM held";
/// Before the first chunk.
const BEFORE: i64 = -1;

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

    /// Changes something by the lease: whether there is more of it to do.
    fn change(
        &self,
        op: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> io::Result<bool> {
        let _turn = self.turn.lock();
        let changed = async {
            let client = self.pair.client(op).await?;
            let statement = client.prepare_cached(sql).await;
            let statement = statement.map_err(|error| failed(op, &error))?;
            let row = client.query_opt(&statement, params).await;
            row.map_err(|error| failed(op, &error))
        };
        match self.runtime.block_on(changed).map_err(other)? {
            Some(row) => Ok(row.get(0)),
            None => Err(io::Error::other("another node writes")),
        }
    }

    /// Removes what is behind a place of a file, from its end, a piece at a time.
    fn cut(&self, file: &str, behind: i64) -> io::Result<()> {
        let op = "remove chunks";
        while self.change(op, REMOVE, &[&self.lease, &file, &behind, &PIECE])? {}
        Ok(())
    }

    /// The next chunks of a file behind a place, each with its own.
    fn piece(&self, file: &str, behind: i64) -> io::Result<Vec<(i64, Vec<u8>)>> {
        let _turn = self.turn.lock();
        let op = "read chunks";
        let read = async {
            let client = self.pair.client(op).await?;
            let statement = client.prepare_cached(SHOW).await;
            let statement = statement.map_err(|error| failed(op, &error))?;
            let params: [&(dyn ToSql + Sync); 3] = [&file, &behind, &PIECE];
            let rows = client.query(&statement, &params).await;
            rows.map_err(|error| failed(op, &error))
        };
        let rows = self.runtime.block_on(read).map_err(other)?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

impl Chunks for KeptChunks {
    fn put(&self, file: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = i64::try_from(at).map_err(io::Error::other)?;
        let params: [&(dyn ToSql + Sync); 5] = [&self.lease, &file, &at, &bytes, &PIECE];
        while self.change("put a chunk", PUT, &params)? {
            self.cut(file, at)?;
        }
        Ok(())
    }

    fn show(
        &self,
        file: &str,
        see: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
    ) -> io::Result<Option<u64>> {
        let (mut joined, mut last) = (Joined::default(), BEFORE);
        loop {
            let piece = self.piece(file, last)?;
            let Some((end, _)) = piece.last() else {
                break;
            };
            last = *end;
            for (at, bytes) in piece {
                joined.next(u64::try_from(at).map_err(io::Error::other)?, bytes, see)?;
            }
        }
        let length = joined.end(see)?;
        Ok((last > BEFORE).then_some(length))
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
        files.iter().try_for_each(|file| self.cut(file, BEFORE))
    }
}

fn other(error: StoreError) -> io::Error {
    io::Error::other(error)
}
