//! Rows of the audit log about what the node that waits has shown and written, until the node that writes has them in the
//! region's one log. What they say and what they are signed with is for the nodes to know; here they are bytes.
use super::{Pair, again, failed};
use crate::store::{Kind, StoreError};
use tokio_postgres::types::ToSql;

/// Bundles of rows that wait at once. One more is refused, and with it the answers whose rows they are. The node that
/// writes takes them every second, and where there is none the one that waits becomes it.
const MAX_WAITING: i64 = 16_384;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS waiting_rows(number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id BYTEA NOT NULL UNIQUE,
  rows BYTEA NOT NULL, seal BYTEA NOT NULL);
";
/// The same bundle again is there once, and there are never two of one id.
const PUT: &str = "INSERT INTO waiting_rows(id, rows, seal) SELECT $1::bytea, $2::bytea, $3::bytea \
     WHERE (SELECT count(*) FROM waiting_rows) < $4::bigint \
     ON CONFLICT (id) DO UPDATE SET seal = excluded.seal \
     WHERE waiting_rows.rows = excluded.rows AND waiting_rows.seal = excluded.seal";
const READ: &str =
    "SELECT number, id, rows, seal FROM waiting_rows WHERE number > $1 ORDER BY number LIMIT $2";
const FORGET: &str = "DELETE FROM waiting_rows WHERE id = ANY($1)";

/// Rows that were written down together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place among all of them.
    pub number: i64,
    /// Tells it from every other one.
    pub id: Vec<u8>,
    /// The rows.
    pub rows: Vec<u8>,
    /// What says that a node of the region wrote them.
    pub seal: Vec<u8>,
}

impl Pair {
    /// Puts rows, durably.
    ///
    /// # Errors
    /// By what the engine says: they may be there. [`Kind::Unavailable`] also when too many wait: they are not there.
    pub async fn put_rows(&self, id: &[u8], rows: &[u8], seal: &[u8]) -> Result<(), StoreError> {
        let put = again(&self.pool, "put audit rows", |client| async move {
            let put = async {
                let statement = client.prepare_cached(PUT).await?;
                let params: [&(dyn ToSql + Sync); 4] = [&id, &rows, &seal, &MAX_WAITING];
                client.execute(&statement, &params).await
            };
            let put = put.await;
            (Some(client), put)
        });
        match put.await? {
            0 => Err(StoreError::new(
                Kind::Unavailable,
                "put audit rows: too many wait",
            )),
            _ => Ok(()),
        }
    }

    /// At most so many of those that wait, by their numbers, after a number.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn waiting_rows(&self, after: i64, most: i64) -> Result<Vec<Waiting>, StoreError> {
        let op = "read audit rows";
        let client = self.client(op).await?;
        let read = async {
            let statement = client.prepare_cached(READ).await?;
            client.query(&statement, &[&after, &most]).await
        };
        let rows = read.await.map_err(|error| failed(op, &error))?;
        let waiting = rows.iter().map(|row| Waiting {
            number: row.get(0),
            id: row.get(1),
            rows: row.get(2),
            seal: row.get(3),
        });
        Ok(waiting.collect())
    }

    /// Forgets those that are in the log.
    ///
    /// # Errors
    /// By what the engine says: they may be gone.
    pub async fn forget_rows(&self, ids: &[Vec<u8>]) -> Result<(), StoreError> {
        let op = "forget audit rows";
        let client = self.client(op).await?;
        let forgotten = client.execute(FORGET, &[&ids]).await;
        forgotten.map_err(|error| failed(op, &error))?;
        Ok(())
    }
}
