//! Samples that were stored while nothing might leave (a lapsed profile, a policy that refused), or that the region lost
//! when it was put back: shipped once they may, alarms first. What is measured later of the same device goes behind
//! them, within alarms and within the backlog, so that order holds; what is live overtakes a backlog as always.
use super::{
    StoreError, StoreErrorKind,
    apply::Apply,
    stays,
    steps::Late,
    stored::{self, Stored},
    telling, withdrawal,
};
use ingest::Urgency;
use rusqlite::{Connection, Transaction, params};
use types::Priority;

/// Samples that one step ships: a step is one commit, so it must stay short beside the samples that wait.
const STEP_ROWS: i64 = 500;

/// Whether there is one, or a withdrawal that is to be shipped, or a patient of whom the region is to be told.
pub(super) fn any(db: &Connection) -> rusqlite::Result<bool> {
    let samples = db
        .prepare_cached("SELECT 1 FROM sample WHERE parcel IS NULL LIMIT 1")?
        .exists([])?;
    Ok(samples || withdrawal::any_unshipped(db)? || telling::any_untold(db)?)
}

impl Apply<'_> {
    /// Whether a sample of a device and priority must wait for an older one that was never shipped. Never shipped itself
    /// then, it is shipped behind that one at the end of the commit, or by a later step where there are too many.
    pub(super) fn must_wait(&self, device: i64, priority: Priority) -> Result<bool, StoreError> {
        if !self.unshipped || !self.may_ship() {
            return Ok(false);
        }
        let which = match priority {
            Priority::Alarm => ALARMS,
            Priority::Live => return Ok(false),
            Priority::Backlog => OTHERS,
        };
        let sql = format!(
            "SELECT 1 FROM sample WHERE parcel IS NULL AND {which} AND device = ?1 LIMIT 1"
        );
        Ok(self.tx().prepare_cached(&sql)?.exists([device])?)
    }

    /// Ships what waits of this commit for older samples that were never shipped.
    pub(super) fn ship_what_waits(&mut self) -> Result<(), StoreError> {
        if self.waits {
            self.tally.left = self.ship_late()?.left;
        }
        Ok(())
    }

    /// One bounded step, in the order of each device. When the disk is full only while nothing else waits, as shipping
    /// takes room before it gives any; alarms may take what is kept for them.
    pub(super) fn ship_late(&mut self) -> Result<Late, StoreError> {
        let allowed = self.may_ship();
        let mut shipped = 0;
        if allowed {
            let room = self.has_routine_room() || self.nothing_waits()?;
            let late = if room {
                next(self.tx())?
            } else if self.bounds.admits(Urgency::Alarm, self.used) {
                next_of(self.tx(), ALARMS, STEP_ROWS)?
            } else {
                Vec::new()
            };
            for late in late {
                self.ship_one(&late)?;
                shipped += 1;
            }
            if room {
                shipped += self.withdraw_again()? + self.tell()?;
            }
        }
        let left = any(self.tx())?;
        self.unshipped = left;
        Ok(Late {
            shipped,
            allowed,
            left,
        })
    }

    fn ship_one(&mut self, late: &Stored) -> Result<(), StoreError> {
        let (priority, sample) = (late.priority, &late.sample);
        let parcel = self.reserve(priority, sample.readings.len())?;
        if parcel.is_none() {
            return Ok(());
        }
        self.tx()
            .prepare_cached(
                "UPDATE sample SET priority = ?4, parcel = ?5 WHERE device = ?1 AND epoch = ?2 AND seq = ?3",
            )?
            .execute(params![late.device, late.epoch, late.seq, priority.rank(), parcel])?;
        let device = self.device(&sample.device)?;
        let called = stays::pseudonym_of(self.tx(), late.device, late.stay)?;
        let called = called.ok_or_else(|| {
            StoreError::new(
                StoreErrorKind::Corrupt,
                "read the stay of a sample to be shipped",
            )
        })?;
        self.draft(
            priority,
            (&device, called),
            late.patient,
            sample,
            late.flags,
        )
    }
}

/// Which samples are alarms, and which are not.
const ALARMS: &str = "priority = 0";
const OTHERS: &str = "priority > 0";

/// The next samples that were never shipped: alarms, then the rest.
fn next(tx: &Transaction<'_>) -> Result<Vec<Stored>, StoreError> {
    let mut found = next_of(tx, ALARMS, STEP_ROWS)?;
    let room = STEP_ROWS - i64::try_from(found.len()).unwrap_or(STEP_ROWS);
    if room > 0 {
        found.extend(next_of(tx, OTHERS, room)?);
    }
    Ok(found)
}

fn next_of(tx: &Transaction<'_>, which: &str, limit: i64) -> Result<Vec<Stored>, StoreError> {
    let mut query = tx.prepare_cached(&format!(
        "SELECT sample.device, device.id, epoch, seq, source_ms, flags, patient, stay, priority, readings
         FROM sample JOIN device ON device.row = sample.device
         WHERE parcel IS NULL AND {which} ORDER BY sample.device, epoch, seq LIMIT ?1",
    ))?;
    let mut rows = query.query([limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(stored::read(row, "read a sample to be shipped")?);
    }
    Ok(found)
}
