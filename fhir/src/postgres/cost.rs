//! What a page costs in PostgreSQL, for the contract: the blocks of tables and indexes that its statement reads, of memory
//! or of files (PostgreSQL, `EXPLAIN (ANALYZE, BUFFERS)`).
use super::{PostgresStore, failed, general, query};
use crate::contract::Asked;
use crate::query::sql::Dialect;
use crate::sql;
use crate::store::{Kind, StoreError};
use serde_json::Value;
use tokio_postgres::Row;

/// What stands before a statement that is carried out and told of.
const EXPLAIN: &str = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) ";

impl PostgresStore {
    /// The blocks of a page.
    ///
    /// # Errors
    /// By what the engine says; [`Kind::Corrupt`] when it tells of no blocks.
    pub async fn cost(&self, asked: &Asked) -> Result<u64, StoreError> {
        let client = self.client("cost").await?;
        let sql = match asked {
            Asked::Search(query) => {
                let row = query::explained(&client, query, EXPLAIN).await;
                return blocks(&row.map_err(|error| failed("cost", &error))?);
            }
            Asked::Find(find) => sql::page(Dialect::Postgres, find),
            Asked::Guard(guard) => sql::few(Dialect::Postgres, guard),
            Asked::Extent(extent) => sql::extent(Dialect::Postgres, extent),
            Asked::History(query) => sql::history(Dialect::Postgres, query),
        };
        let text = format!("{EXPLAIN}{}", sql.text);
        let row = client
            .query_typed_one(&text, &general::typed(&sql))
            .await
            .map_err(|error| failed("cost", &error))?;
        blocks(&row)
    }
}

/// The blocks that a plan tells of: those of its first node count what is below it too.
fn blocks(row: &Row) -> Result<u64, StoreError> {
    let plan: Value = row.get(0);
    let of = |name: &str| {
        let node = plan.pointer(&format!("/0/Plan/{name}"));
        node.and_then(Value::as_u64)
            .ok_or_else(|| StoreError::new(Kind::Corrupt, "cost"))
    };
    Ok(of("Shared Hit Blocks")? + of("Shared Read Blocks")?)
}
