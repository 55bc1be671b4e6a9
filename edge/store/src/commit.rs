//! A commit as handlers and other parts of the node see it: their rows, the parcels that they ship upwards and what they
//! write into the audit log are one with everything else in it.
use super::{StoreError, StoreErrorKind, apply::Apply};
use crate::clockguard::Now;
use federation::audit::Entry;
use messages::Body;
use rusqlite::Transaction;
use types::{Place, Priority, Purpose};

/// A commit of the store, as handlers and other parts of the node see it.
pub struct Commit<'a, 't>(pub(super) &'a mut Apply<'t>);

impl<'t> Commit<'_, 't> {
    /// The tables of the store.
    #[must_use]
    pub const fn tx(&self) -> &'t Transaction<'t> {
        self.0.tx
    }

    /// The time of the commit.
    #[must_use]
    pub const fn now(&self) -> Now {
        self.0.now
    }

    /// The facility.
    #[must_use]
    pub const fn place(&self) -> &Place {
        self.0.parcels.place()
    }

    /// The region of the facility.
    #[must_use]
    pub const fn region(&self) -> &Place {
        self.0.parcels.region()
    }

    /// Random bytes.
    pub fn draw(&self, bytes: &mut [u8]) {
        (self.0.entropy)(bytes);
    }

    /// Ships a message to the region in this commit: whether it may go. A refusal of the rules is audited.
    ///
    /// # Errors
    /// As any write.
    pub fn ship<T: Body>(
        &mut self,
        priority: Priority,
        purpose: Purpose,
        body: T,
    ) -> Result<bool, StoreError> {
        let now = self.0.now;
        let given = self
            .0
            .parcels
            .ship(self.0.tx, priority, purpose, body, &now)?;
        self.0.tally.parcels += u64::from(given.is_some());
        Ok(given.is_some())
    }

    /// Writes entries to the audit log that are of no parcel.
    ///
    /// # Errors
    /// As any write.
    pub fn note(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.0.parcels.note(self.0.tx, entries)
    }
}

impl<'t> Apply<'t> {
    /// A step whose own fault undoes it alone.
    pub(super) fn alone<T>(
        &mut self,
        step: impl FnOnce(&mut Commit<'_, 't>) -> Result<T, StoreError>,
    ) -> Result<Result<T, StoreError>, StoreError> {
        let savepoint = |sql| self.tx.execute_batch(sql);
        savepoint("SAVEPOINT alone")?;
        let tx = self.tx;
        match step(&mut Commit(self)) {
            Ok(done) => {
                tx.execute_batch("RELEASE alone")?;
                Ok(Ok(done))
            }
            Err(error) if is_of_the_step(error.kind) => {
                tx.execute_batch("ROLLBACK TO alone; RELEASE alone")?;
                Ok(Err(error))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether an error is a fault of the step alone, and nothing is wrong with the store.
const fn is_of_the_step(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Internal | StoreErrorKind::Refused)
}
