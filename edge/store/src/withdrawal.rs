//! Parcels that correct others, and readings that were withdrawn: said again to a region that was put back.
//!
//! A region that was put back to an older copy may have a reading as of the patient before, and no longer know that it
//! was withdrawn. So [`super::resync`] takes the parcel off each withdrawal that the region lacks, and it is shipped
//! again as samples are that were never shipped ([`super::unshipped`]).
use super::{
    StoreError, StoreErrorKind,
    apply::Apply,
    draft::{Draft, Standing},
    prepared::Prepared,
    shipped, stays,
    stored::{self, Stored},
};
use messages::Correction;
use rusqlite::{Connection, Transaction, params};
use types::{DevicePseudonym, Flags, Priority, Purpose};

/// Withdrawals that one step ships.
const STEP_ROWS: i64 = 500;

/// Whether there is one that is to be shipped.
pub(super) fn any_unshipped(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM withdrawal WHERE parcel IS NULL LIMIT 1")?
        .exists([])
}

impl Apply<'_> {
    /// What a stored sample's device was called, by its row and that of the stay.
    pub(super) fn called(
        &self,
        (device, stay): (i64, Option<i64>),
    ) -> Result<DevicePseudonym, StoreError> {
        let called = stays::pseudonym_of(self.tx, device, stay)?;
        let op = "read the stay of a sample";
        called.ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, op))
    }

    /// Adds one side of a correction to a draft.
    pub(super) fn draw(
        &mut self,
        draft: &mut Draft,
        standing: Standing,
        called: DevicePseudonym,
        patient: Option<i64>,
        (sample, packed): (&Prepared, &[u8]),
        flags: Flags,
    ) -> Result<(), StoreError> {
        let device = self.device(&sample.device)?;
        let patient = match patient {
            Some(row) => Some(self.directory.patient_entry(self.tx, row)?),
            None => None,
        };
        if let Some(profile) = self.profile {
            let whose = ((&*device, called), patient);
            let when = (profile, self.now.mesh);
            draft.push_as(standing, whose, (sample, packed), flags, when);
        }
        // Once in the table and once more in a parcel.
        self.used += 2 * packed.len() as u64;
        Ok(())
    }

    /// Ships a correction that holds so many readings which stand: its sequence.
    pub(super) fn ship_correction(
        &mut self,
        priority: Priority,
        draft: Draft,
        standing: usize,
    ) -> Result<i64, StoreError> {
        // Readings of this commit were promised the sequence that this parcel would take.
        self.ship(priority)?;
        let batch = Some(draft.finish(self.entropy).0);
        let body = Correction { batch };
        let given = self
            .parcels
            .ship(self.tx, priority, Purpose::Care, body, &self.now)?;
        let op = "correct: what was cleared a moment ago is refused";
        let parcel = given.ok_or_else(|| StoreError::new(StoreErrorKind::Internal, op))?;
        shipped::note(self.tx, priority, parcel, standing, self.now.real)?;
        self.tally.parcels += 1;
        Ok(parcel)
    }

    /// One bounded step of the withdrawals that the region lacks: how many it shipped.
    pub(super) fn withdraw_again(&mut self) -> Result<usize, StoreError> {
        let lacking = next(self.tx)?;
        for priority in [Priority::Alarm, Priority::Backlog] {
            let mut draft = Draft::default();
            let is_of = |(_, lacking): &&(i64, Stored)| lacking.priority == priority;
            let of: Vec<_> = lacking.iter().filter(is_of).collect();
            for (_, one) in &of {
                let called = self.called((one.device, one.stay))?;
                let packing = (&one.sample, &one.sample.packed[..]);
                let standing = Standing::Withdrawn;
                self.draw(
                    &mut draft,
                    standing,
                    called,
                    one.patient,
                    packing,
                    one.flags,
                )?;
            }
            if of.is_empty() {
                continue;
            }
            let parcel = self.ship_correction(priority, draft, 0)?;
            for (row, _) in of {
                self.tx
                    .prepare_cached(
                        "UPDATE withdrawal SET priority = ?2, parcel = ?3 WHERE row = ?1",
                    )?
                    .execute(params![row, priority.rank(), parcel])?;
            }
        }
        Ok(lacking.len())
    }
}

fn next(tx: &Transaction<'_>) -> Result<Vec<(i64, Stored)>, StoreError> {
    let mut query = tx.prepare_cached(
        "SELECT w.device, d.id, w.epoch, w.seq, s.source_ms, s.flags, w.patient, w.stay, w.priority, w.readings, w.row
         FROM withdrawal w JOIN device d ON d.row = w.device
         JOIN sample s ON s.device = w.device AND s.epoch = w.epoch AND s.seq = w.seq
         WHERE w.parcel IS NULL ORDER BY w.row LIMIT ?1",
    )?;
    let mut rows = query.query([STEP_ROWS])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let stored = stored::read(row, "read a withdrawal to be shipped")?;
        found.push((row.get(10)?, stored));
    }
    Ok(found)
}
