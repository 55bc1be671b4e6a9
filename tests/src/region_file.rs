//! The database file of a region's FHIR store, read beside the running node by SQL alone. FHIR gives a page at a time;
//! a comparison of a million resources, and the order in which they were committed, need the file.
use crate::mesh::Mesh;
use anyhow::Result;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::{path::Path, time::Duration};

/// How long a read waits while the node recovers its log.
const BUSY: Duration = Duration::from_secs(10);

/// An open file.
pub struct RegionFile(Connection);

/// One Observation.
pub struct Observation {
    /// Its place in the order of commits.
    pub seq: i64,
    /// Pseudonym of its patient; empty when it has none.
    pub patient: String,
    /// The resource.
    pub resource: Value,
}

impl RegionFile {
    /// Opens the file of a region that keeps its resources in SQLite.
    ///
    /// # Errors
    /// There is no such file.
    pub fn open(mesh: &Mesh, region: &str) -> Result<Self> {
        Self::within(&mesh.dir, region)
    }

    /// Opens it in the folder of a mesh.
    ///
    /// # Errors
    /// As [`RegionFile::open`].
    pub fn within(dir: &Path, region: &str) -> Result<Self> {
        let path = dir.join("regional").join(region).join("data/fhir.db");
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY)?;
        Ok(Self(connection))
    }

    /// The number of the last resource that was committed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn head(&self) -> Result<i64> {
        let mut statement = self.0.prepare_cached("SELECT seq FROM head")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Goes through every Observation in the order of commits. Alarms of staleness, which the edge raises itself of a
    /// patient's values, are left out.
    ///
    /// # Errors
    /// The file cannot be read, or `see` fails.
    pub fn each(&self, mut see: impl FnMut(Observation) -> Result<()>) -> Result<()> {
        let mut statement = self.0.prepare(
            "SELECT seq, coalesce(patient, ''), body FROM resource WHERE +type = 'Observation' ORDER BY seq",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let resource: Value = serde_json::from_str(row.get_ref(2)?.as_str()?)?;
            if resource["dataAbsentReason"]["coding"][0]["code"] == "temp-unknown" {
                continue;
            }
            see(Observation {
                seq: row.get(0)?,
                patient: row.get(1)?,
                resource,
            })?;
        }
        Ok(())
    }
}
