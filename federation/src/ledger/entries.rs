//! The audit log of a ledger as its own node reads it: by position, while it grows.
use super::Ledger;
use crate::{
    db::{Count, DbError},
    port::PortError,
};
use rusqlite::Connection;

const SIZE: &str = "SELECT size FROM audit_head";
const LEAVES: &str = "SELECT leaf FROM audit_entry WHERE idx >= ?1 AND idx < ?2 ORDER BY idx";

/// Entries of an audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaves {
    /// How many entries the log has.
    pub size: u64,
    /// Those that were asked for, as they are, in order.
    pub leaves: Vec<Vec<u8>>,
}

impl Ledger {
    /// Entries from a position on, at most `limit`, and how many there are, of one instant. [`crate::audit::Entry::decode`]
    /// reads them, which is not done here: nothing is written meanwhile.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn leaves(&self, start: u64, limit: u32) -> Result<Leaves, PortError> {
        let read = move |tx: &Connection| -> Result<Leaves, DbError> {
            let mut size = tx.prepare_cached(SIZE)?;
            let Count(size) = size.query_row([], |row| row.get(0))?;
            let mut leaves = Vec::new();
            if limit > 0 && start < size {
                let end = start.saturating_add(u64::from(limit));
                let mut statement = tx.prepare_cached(LEAVES)?;
                let rows = statement.query_map((Count(start), Count(end)), |row| row.get(0))?;
                leaves = rows.collect::<Result<_, _>>()?;
            }
            Ok(Leaves { size, leaves })
        };
        self.db.step("leaves", read).await
    }
}
