//! What a page costs in SQLite, for the contract: the instructions that its statement carries out.
use super::{SqliteStore, query};
use crate::contract::Asked;
use crate::query::sql::Dialect;
use crate::sql;
use crate::store::StoreError;
use rusqlite::{Connection, Params, StatementStatus, params_from_iter};

impl SqliteStore {
    /// The instructions of a page (SQLite, `SQLITE_STMTSTATUS_VM_STEP`).
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn cost(&self, asked: &Asked) -> Result<u64, StoreError> {
        let asked = asked.clone();
        self.reading("cost", move |reader| cost(reader, &asked))
            .await
    }
}

fn cost(connection: &Connection, asked: &Asked) -> rusqlite::Result<u64> {
    let sql = match asked {
        Asked::Search(query) => {
            let (text, values) = query::statement(query);
            return instructions(connection, &text, params_from_iter(values));
        }
        Asked::Find(find) => sql::page(Dialect::Sqlite, find),
        Asked::Guard(guard) => sql::few(Dialect::Sqlite, guard),
        Asked::Extent(extent) => sql::extent(Dialect::Sqlite, extent),
        Asked::History(query) => sql::history(Dialect::Sqlite, query),
    };
    instructions(connection, &sql.text, params_from_iter(sql.binds))
}

/// The instructions of a statement, all of whose rows are read.
fn instructions(connection: &Connection, text: &str, params: impl Params) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare(text)?;
    let mut rows = statement.query(params)?;
    while rows.next()?.is_some() {}
    drop(rows);
    let steps = statement.get_status(StatementStatus::VmStep);
    Ok(u64::try_from(steps).unwrap_or(0))
}
