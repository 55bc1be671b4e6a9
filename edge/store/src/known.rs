//! What a facility has: beds, devices and patients by their names, so that whoever asks for one that there is not is told so.
use super::{
    Store, StoreError,
    view::{in_one, patient_row},
};
use rusqlite::Connection;
use types::Phi;

impl Store {
    /// The beds of which anything was ever entered, or at which a device stands or stood, in the order of their names.
    ///
    /// # Errors
    /// As any read.
    pub async fn bed_names(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT bed FROM bed_entry UNION SELECT bed FROM placement WHERE bed IS NOT NULL ORDER BY bed";
        self.look(move |db| Ok(names(db, sql)?)).await
    }

    /// The devices of the configuration, and those that have measured, in the order of their names.
    ///
    /// # Errors
    /// As any read.
    pub async fn device_names(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT id FROM device ORDER BY id";
        self.look(move |db| Ok(names(db, sql)?)).await
    }

    /// Whether anything was ever entered or measured of a patient, by the facility's own id.
    ///
    /// # Errors
    /// As any read.
    pub async fn knows_patient(&self, id: Phi<String>) -> Result<bool, StoreError> {
        self.look(move |db| in_one(db, |db| Ok(patient_row(db, &id)?.is_some())))
            .await
    }
}

fn names(db: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([], |row| row.get(0))?;
    rows.collect()
}
