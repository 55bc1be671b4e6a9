//! What is known of a patient, told to the region also where nothing is measured of them.
//!
//! A patient goes along with their readings. Who is entered in a bed without any, and who becomes better known than the
//! region was told, is told in a parcel without readings; [`super::unshipped`] asks for it.
use super::{StoreError, apply::Apply, draft::Draft, shipped};
use rusqlite::Connection;
use types::Purpose;

/// Patients in one parcel.
const STEP_ROWS: i64 = 500;

/// Patients that were entered in a bed, and of whom the region was not told what is known now.
const UNTOLD: &str = "FROM patient WHERE parcel IS NULL AND row IN (SELECT patient FROM bed_entry)";

/// Whether there is one.
pub(super) fn any_untold(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached(&format!("SELECT 1 {UNTOLD} LIMIT 1"))?
        .exists([])
}

impl Apply<'_> {
    /// One bounded step: how many patients it told the region of.
    pub(super) fn tell(&mut self) -> Result<usize, StoreError> {
        let rows: Vec<i64> = self
            .tx
            .prepare_cached(&format!("SELECT row {UNTOLD} ORDER BY row LIMIT ?1"))?
            .query_map([STEP_ROWS], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        if rows.is_empty() {
            return Ok(0);
        }
        let mut draft = Draft::default();
        for row in &rows {
            draft.tell(self.directory.patient_entry(self.tx, *row)?, self.now.mesh);
        }
        let priority = self.routine;
        // Readings of this commit were promised the sequence that this parcel would take.
        self.ship(priority)?;
        let (batch, _) = draft.finish(self.entropy);
        let given = self
            .parcels
            .ship(self.tx, priority, Purpose::Care, batch, &self.now)?;
        let Some(parcel) = given else {
            return Ok(0);
        };
        shipped::note(self.tx, priority, parcel, 0, self.now.real)?;
        self.tally.parcels += 1;
        for row in &rows {
            self.told(*row, priority, parcel)?;
        }
        Ok(rows.len())
    }
}
