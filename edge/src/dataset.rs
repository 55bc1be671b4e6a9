//! Research tables of a facility, in its encrypted store: imported, listed, described and removed by its own staff,
//! beside a running node or without one.
//!
//! Nothing is half-imported. A table comes in parts, so that no transaction holds the node's writer up for long; it is
//! not there for anybody before the last one, which also writes the entry of the audit log. What a killed import left is
//! taken away by the next import or removal.
use crate::config::EdgeConfig;
use federation::{
    audit::{self, Decision, Entry, Signer},
    db::DbError,
    pki::{self, PkiError},
};
use fl::table::{Column, Table};
use node::quantity::Size;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use store::{self, StoreError, StoreErrorKind};
use types::{Name, Place, Secret, Timestamp};

/// Bytes of a part: written and synced in milliseconds.
const PART_BYTES: usize = 512 << 10;
/// Parts that one transaction takes away.
const SWEPT: i64 = 16;
/// Tables may fill the store up to this share of its size: the rest is for readings, which nobody can import again.
const SHARE_OF_STORE: u64 = 2;
/// The most tables.
const MAX_TABLES: i64 = 1_000;

/// Why a table cannot be stored, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The store.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The node's signing key.
    #[error("signing key: {0}")]
    Key(#[from] PkiError),
    /// There is one of that name already.
    #[error("`{0}` is there already; remove it first")]
    Exists(Name),
    /// There is none of that name.
    #[error("there is no data set `{0}`")]
    Missing(Name),
    /// There are too many.
    #[error("there are {MAX_TABLES} data sets, and no more are kept; remove one first")]
    TooMany,
    /// It would take room that is kept for readings.
    #[error(
        "the table takes {needed} bytes and the store has {used} of {max}: tables may fill it to a half, the rest is for readings"
    )]
    NoRoom {
        /// Bytes of the table.
        needed: u64,
        /// Bytes that are in use.
        used: u64,
        /// Bytes that the store may have.
        max: u64,
    },
    /// Another import or removal took this one's parts away.
    #[error("another import or removal ran at the same time; nothing was imported: try again")]
    Disturbed,
}

impl From<rusqlite::Error> for DatasetError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<DbError> for DatasetError {
    fn from(error: DbError) -> Self {
        Self::Store(error.into())
    }
}

/// A data set of the facility.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Its name.
    pub name: Name,
    /// Its columns.
    pub columns: Vec<Column>,
    /// How many records it has.
    pub records: u64,
    /// When it was imported, by the node's clock.
    pub imported: Timestamp,
    /// Who imported it.
    pub by: String,
    /// SHA-256 of the file that it came from.
    pub digest: [u8; 32],
}

impl Dataset {
    /// The digest of its file, as hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex::encode(self.digest)
    }
}

/// SHA-256 of a file's text.
#[must_use]
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Where a table comes from.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// Who imports it.
    pub by: &'a str,
    /// SHA-256 of its file.
    pub digest: [u8; 32],
    /// The machine's time.
    pub now: Timestamp,
}

/// The data sets of a facility.
pub struct Datasets {
    db: Connection,
    here: Place,
    signer: Signer,
    max: Size,
}

impl Datasets {
    /// Opens them.
    ///
    /// # Errors
    /// When there is no store, or it or the signing key cannot be used.
    pub fn open(config: &EdgeConfig) -> Result<Self, DatasetError> {
        let key = store::read_facility_key(&config.key_file)?;
        let here = config.place();
        let signing = pki::load_signing_key(&config.tls.signing_key)?;
        let signer = Signer::new(&here, signing);
        Self::of(
            &config.data_dir,
            &key,
            (here, signer),
            config.store.max_size,
        )
    }

    pub(crate) fn of(
        dir: &Path,
        key: &Secret<[u8; 32]>,
        (here, signer): (Place, Signer),
        max: Size,
    ) -> Result<Self, DatasetError> {
        Ok(Self {
            db: store::open_beside(dir, key)?,
            here,
            signer,
            max,
        })
    }

    /// Stores a table under a name, all of it or nothing.
    ///
    /// # Errors
    /// [`DatasetError`]; then there is no data set of that name that was not there before.
    pub fn import(
        &mut self,
        name: &Name,
        table: &Table,
        origin: &Origin,
    ) -> Result<Dataset, DatasetError> {
        self.sweep()?;
        let row = self.begin(name, table, origin)?;
        let mut parts = 0;
        for part in table.parts(PART_BYTES) {
            self.part(row, &part)?;
            parts += 1;
        }
        self.finish(name, (row, parts), table, origin)?;
        self.find(name)?
            .map(|(_, found)| found)
            .ok_or(DatasetError::Disturbed)
    }

    /// A row that nobody sees yet.
    fn begin(&mut self, name: &Name, table: &Table, origin: &Origin) -> Result<i64, DatasetError> {
        let needed = table.records() as u64 * table.columns().len() as u64 * 8;
        let columns = serde_json::to_string(table.columns()).map_err(|_| internal())?;
        let max = self.max.0;
        let tx = write(&mut self.db)?;
        if exists(&tx, name)? {
            return Err(DatasetError::Exists(name.clone()));
        }
        let have: i64 = tx.query_row("SELECT count(*) FROM dataset", [], |row| row.get(0))?;
        if have >= MAX_TABLES {
            return Err(DatasetError::TooMany);
        }
        let used = store::used_bytes(&tx)?;
        if used.saturating_add(needed) > max / SHARE_OF_STORE {
            return Err(DatasetError::NoRoom { needed, used, max });
        }
        let time = audit::time_beside(&tx, origin.now)?;
        let records = i64::try_from(table.records()).unwrap_or(i64::MAX);
        tx.execute(
            "INSERT INTO dataset (name, columns, records, imported_ms, imported_by, digest, complete)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
            params![name.as_str(), columns, records, time.0, origin.by, origin.digest],
        )?;
        let row = tx.last_insert_rowid();
        tx.commit()?;
        Ok(row)
    }

    fn part(&mut self, dataset: i64, part: &[u8]) -> Result<(), DatasetError> {
        let tx = write(&mut self.db)?;
        tx.prepare_cached("INSERT INTO dataset_part (dataset, numbers) VALUES (?1, ?2)")?
            .execute(params![dataset, part])?;
        Ok(tx.commit()?)
    }

    /// Lets everybody see it, and writes down that it was imported.
    fn finish(
        &mut self,
        name: &Name,
        (row, parts): (i64, i64),
        table: &Table,
        origin: &Origin,
    ) -> Result<(), DatasetError> {
        let Self {
            db, here, signer, ..
        } = self;
        let tx = write(db)?;
        if exists(&tx, name)? {
            return Err(DatasetError::Exists(name.clone()));
        }
        let have: i64 = tx.query_row(
            "SELECT count(*) FROM dataset_part WHERE dataset = ?1",
            [row],
            |row| row.get(0),
        )?;
        let done = tx.execute("UPDATE dataset SET complete = 1 WHERE row = ?1", [row])?;
        if have != parts || done != 1 {
            return Err(DatasetError::Disturbed);
        }
        let records = u32::try_from(table.records()).unwrap_or(u32::MAX);
        let what = (name, records, &origin.digest);
        note(
            &tx,
            Decision::DatasetImported,
            (origin.by, here, origin.now),
            what,
            signer,
        )?;
        Ok(tx.commit()?)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// As any read.
    pub fn list(&self) -> Result<Vec<Dataset>, DatasetError> {
        let mut statement = self.db.prepare(&format!("{SELECT} ORDER BY name"))?;
        let rows = statement.query_map([], stored)?;
        rows.map(|row| dataset(row?).map(|(_, found)| found))
            .collect()
    }

    /// One of them with its values, for whoever describes it or learns from it at the facility; that is written down
    /// first.
    ///
    /// # Errors
    /// [`DatasetError::Missing`]; as any read.
    pub fn table(
        &mut self,
        name: &Name,
        by: &str,
        now: Timestamp,
    ) -> Result<(Dataset, Table), DatasetError> {
        let Some((row, found)) = self.find(name)? else {
            return Err(DatasetError::Missing(name.clone()));
        };
        let Self {
            db, here, signer, ..
        } = self;
        let tx = write(db)?;
        let records = u32::try_from(found.records).unwrap_or(u32::MAX);
        let what = (name, records, &found.digest);
        note(&tx, Decision::DatasetRead, (by, here, now), what, signer)?;
        let parts: Vec<Vec<u8>> = tx
            .prepare("SELECT numbers FROM dataset_part WHERE dataset = ?1 ORDER BY row")?
            .query_map([row], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        tx.commit()?;
        let table = Table::of_parts(found.columns.clone(), parts.iter().map(Vec::as_slice));
        let whole = table.filter(|table| table.records() as u64 == found.records);
        let table = whole.ok_or_else(corrupt)?;
        Ok((found, table))
    }

    /// Removes one for good.
    ///
    /// # Errors
    /// [`DatasetError::Missing`]; as any write: then it is still there.
    pub fn remove(&mut self, name: &Name, by: &str, now: Timestamp) -> Result<(), DatasetError> {
        let Some((row, found)) = self.find(name)? else {
            return Err(DatasetError::Missing(name.clone()));
        };
        let Self {
            db, here, signer, ..
        } = self;
        let tx = write(db)?;
        if tx.execute("DELETE FROM dataset WHERE row = ?1", [row])? != 1 {
            return Err(DatasetError::Missing(name.clone()));
        }
        let records = u32::try_from(found.records).unwrap_or(u32::MAX);
        let what = (name, records, &found.digest);
        note(&tx, Decision::DatasetRemoved, (by, here, now), what, signer)?;
        tx.commit()?;
        self.sweep()
    }

    /// Takes away what imports that did not end have left, and the parts of what was removed: a step at a time.
    fn sweep(&mut self) -> Result<(), DatasetError> {
        let tx = write(&mut self.db)?;
        tx.execute("DELETE FROM dataset WHERE complete = 0", [])?;
        tx.commit()?;
        loop {
            let tx = write(&mut self.db)?;
            let gone = tx.execute(
                "DELETE FROM dataset_part WHERE row IN (SELECT row FROM dataset_part
                 WHERE dataset NOT IN (SELECT row FROM dataset) LIMIT ?1)",
                [SWEPT],
            )?;
            tx.commit()?;
            if gone == 0 {
                return Ok(());
            }
        }
    }

    fn find(&self, name: &Name) -> Result<Option<(i64, Dataset)>, DatasetError> {
        let mut statement = self.db.prepare(&format!("{SELECT} AND name = ?1"))?;
        let row = statement.query_row([name.as_str()], stored).optional()?;
        row.map(dataset).transpose()
    }
}

fn write(db: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    db.transaction_with_behavior(TransactionBehavior::Immediate)
}

const SELECT: &str = "SELECT row, name, columns, records, imported_ms, imported_by, digest FROM dataset WHERE complete = 1";

fn exists(db: &Connection, name: &Name) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM dataset WHERE name = ?1 AND complete = 1)";
    db.query_row(sql, [name.as_str()], |row| row.get(0))
}

/// A row as it is stored.
type Stored = (i64, String, String, i64, i64, String, [u8; 32]);

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
    ))
}

fn dataset(
    (row, name, columns, records, imported, by, digest): Stored,
) -> Result<(i64, Dataset), DatasetError> {
    let found = Dataset {
        name: name.parse().map_err(|_| corrupt())?,
        columns: serde_json::from_str(&columns).map_err(|_| corrupt())?,
        records: u64::try_from(records).map_err(|_| corrupt())?,
        imported: Timestamp(imported),
        by,
        digest,
    };
    Ok((row, found))
}

/// Writes down who did what to which data set.
fn note(
    tx: &Transaction<'_>,
    decision: Decision,
    (by, here, now): (&str, &Place, Timestamp),
    (name, records, digest): (&Name, u32, &[u8; 32]),
    signer: &Signer,
) -> Result<(), DatasetError> {
    let time = audit::time_beside(tx, now)?;
    let entry = Entry::of_dataset(time, decision, by, here, (name.as_str(), records, digest));
    audit::append(tx, &entry)?;
    Ok(audit::sign_head(tx, signer)?)
}

fn corrupt() -> DatasetError {
    StoreError::new(StoreErrorKind::Corrupt, "read a data set").into()
}

fn internal() -> DatasetError {
    StoreError::new(StoreErrorKind::Internal, "write a data set").into()
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
