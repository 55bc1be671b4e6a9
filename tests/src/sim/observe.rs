//! What is stored at the upper nodes, read beside the product by SQL and from the text of the resources.
use super::nodes::Seen;
use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::path::Path;

/// A value in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The value as it was measured.
    pub value: String,
    /// The priority with which it came first, where that was seen.
    pub priority: Option<u32>,
}

/// Every value that a region shows, in the order in which it was committed. What was entered in error is not there.
///
/// # Errors
/// The file cannot be read.
pub fn region(dir: &Path, seen: &Seen) -> Result<Vec<Observed>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = Connection::open_with_flags(dir.join("fhir.db"), flags)?;
    let mut statement =
        file.prepare("SELECT body FROM resource WHERE +type = 'Observation' ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let mut observed = Vec::new();
    while let Some(row) = rows.next()? {
        let resource: Value = serde_json::from_str(row.get_ref(0)?.as_str()?)?;
        let value = &resource["valueQuantity"]["value"];
        if value.is_null() || resource["status"] == "entered-in-error" {
            continue;
        }
        let value = value.as_number().context("a value that is no number")?;
        let value = value.to_string();
        observed.push(Observed {
            priority: seen.priorities.get(&value).copied(),
            value,
        });
    }
    Ok(observed)
}
