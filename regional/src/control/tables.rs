//! Which commands each device takes: its facility says so with what the device reports, where its table is not that of its
//! kind that comes with the product. What is asked for, desired and approved is held against it.
//!
//! It is kept as the text that [`Table::text`] writes, so that nothing else of what a facility sends is. Of a text that
//! cannot be read nothing is believed: the device takes no command then, rather than those of the product.
use super::{Control, Own, rows::Row};
use crate::registry::Device;
use commands::{Reason, Table};
use federation::{db::DbError, port::PortError};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::sync::Arc;
use types::{CatalogId, DeviceKind};

/// A device without a row takes the commands of its kind that come with the product.
pub const SCHEMA: &str = "
CREATE TABLE device_table(device BLOB PRIMARY KEY, commands TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// The tables of one message of a facility.
pub struct Told(Vec<Arc<Table>>);

impl Told {
    /// Reads each once.
    pub fn read(texts: &[String]) -> Self {
        let tables = texts.iter().map(|text| Arc::new(Table::told(text)));
        Self(tables.collect())
    }

    /// The table of a device that refers to position + 1; none: the product's. One that is not there cannot be read.
    pub fn of(&self, position: u32) -> Option<Arc<Table>> {
        let index = usize::try_from(position).ok()?.checked_sub(1)?;
        Some(self.0.get(index).cloned().unwrap_or_default())
    }
}

/// Keeps what a facility says of a device's table; none: it is the product's.
pub fn keep(tx: &Connection, device: CatalogId, table: Option<&Table>) -> Result<(), DbError> {
    let text = table.map(Table::text);
    if text == find(tx, device)? {
        return Ok(());
    }
    match text {
        Some(text) => {
            let sql = "INSERT OR REPLACE INTO device_table(device, commands) VALUES (?1, ?2)";
            tx.prepare_cached(sql)?
                .execute(params![device.as_bytes(), text])?;
        }
        None => {
            let sql = "DELETE FROM device_table WHERE device = ?1";
            tx.prepare_cached(sql)?
                .execute(params![device.as_bytes()])?;
        }
    }
    Ok(())
}

fn find(tx: &Connection, device: CatalogId) -> Result<Option<String>, DbError> {
    let sql = "SELECT commands FROM device_table WHERE device = ?1";
    let found = tx
        .prepare_cached(sql)?
        .query_row([device.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(found)
}

/// The table of a device.
pub fn of(
    own: &Own,
    tx: &Connection,
    device: CatalogId,
    kind: DeviceKind,
) -> Result<Table, DbError> {
    Ok(match find(tx, device)? {
        Some(text) => Table::told(&text),
        None => own.table(kind).cloned().unwrap_or_default(),
    })
}

/// Whether a command that waited may still be given: its facility may have said meanwhile that its device takes others.
pub fn judge(
    own: &Own,
    tx: &Connection,
    row: &Row,
    kind: DeviceKind,
) -> Result<Option<Reason>, DbError> {
    let table = of(own, tx, row.device, kind)?;
    Ok(table.admit(row.name.as_str(), &row.parameters).err())
}

impl Control {
    /// The table of a device, as its facility said last.
    pub(super) async fn table(&self, device: &Device) -> Result<Table, PortError> {
        let (own, id, kind) = (Arc::clone(&self.own), device.id, device.kind);
        let step = self
            .ledger
            .commit("look at a table of commands", move |commit| {
                of(&own, commit.tx(), id, kind)
            });
        step.await
    }
}
