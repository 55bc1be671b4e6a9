//! One commit: everything that waits becomes rows of one transaction.
//!
//! An outer error means that the transaction cannot stand and everybody in it is refused; an inner one concerns one
//! caller, while the others are stored.
//!
//! This is what a commit stands on and what its steps share. The steps are in files of their own, each with what it asks of
//! the tables ([`super::append`], [`super::unshipped`], [`super::correction`] and others); the writer alone knows them all
//! ([`super::writer`]).
use super::{
    Entropy, StoreError,
    bounds::Bounds,
    catalogued,
    directory::{DeviceEntry, Directory},
    draft::{self, Draft},
    forgotten::Forgotten,
    parcels::Parcels,
    prepared::Prepared,
    runs::Runs,
    schema::PAGE_BYTES,
    shipped,
    stored::INSERT,
    tally::Tally,
    transit::Departed,
};
use crate::clockguard::Now;
use federation::{
    audit::Entry,
    identity::Identity,
    outbox::{self, Reserved},
    profile::Profile,
    wire::Receipt,
};
use ingest::Urgency;
use messages::DeviceRecords;
use rusqlite::{CachedStatement, Transaction, params};
use std::sync::Arc;
use types::{DeviceId, DevicePseudonym, Flags, Priority, Purpose};

/// A commit in the making.
pub(super) struct Apply<'t> {
    pub(super) tx: &'t Transaction<'t>,
    pub(super) directory: &'t mut Directory,
    pub(super) forgotten: &'t mut Forgotten,
    pub(super) runs: &'t mut Runs,
    pub(super) parcels: &'t mut Parcels,
    pub(super) bounds: Bounds,
    pub(super) now: Now,
    pub(super) routine: Priority,
    pub(super) profile: Option<Profile>,
    pub(super) entropy: Entropy,
    pub(super) insert: CachedStatement<'t>,
    /// By priority: the place that the parcel will have, if it may be shipped at all.
    drafts: [Option<(Option<Reserved>, Draft)>; 3],
    pub(super) used: u64,
    /// Whether samples may be stored that were never shipped.
    pub(super) unshipped: bool,
    /// Whether one of this commit waits for them.
    pub(super) waits: bool,
    departed: Vec<Departed>,
    /// The kinds of which a handler took something in.
    pub(super) touched: Vec<String>,
    /// Whether the store is to meet the region again.
    pub(super) meet_again: bool,
    pub tally: Tally,
}

/// What a commit has done, to be told once it stands.
pub(super) struct Done {
    pub tally: Tally,
    pub departed: Vec<Departed>,
    /// The kinds of which a handler took something in.
    pub touched: Vec<String>,
    /// Whether the store is to meet the region again.
    pub meet_again: bool,
}

/// What a commit stands on.
pub(super) struct Ground<'t> {
    pub tx: &'t Transaction<'t>,
    pub directory: &'t mut Directory,
    pub forgotten: &'t mut Forgotten,
    pub runs: &'t mut Runs,
    pub parcels: &'t mut Parcels,
    pub bounds: Bounds,
    pub now: Now,
    pub link_up: bool,
    pub unshipped: bool,
    /// Bytes of the log beyond what it is allowed to have.
    pub log_bytes: u64,
    pub profile: Option<Profile>,
    pub entropy: Entropy,
}

impl<'t> Apply<'t> {
    pub(super) fn begin(ground: Ground<'t>) -> Result<Self, StoreError> {
        let used = used_bytes(ground.tx)? + ground.log_bytes;
        ground.parcels.begin(ground.tx)?;
        let routine = ground.parcels.routine(ground.link_up);
        Ok(Self {
            insert: ground.tx.prepare_cached(INSERT)?,
            tx: ground.tx,
            directory: ground.directory,
            forgotten: ground.forgotten,
            runs: ground.runs,
            parcels: ground.parcels,
            bounds: ground.bounds,
            now: ground.now,
            routine,
            profile: ground.profile,
            entropy: ground.entropy,
            drafts: [None, None, None],
            used,
            unshipped: ground.unshipped,
            waits: false,
            departed: Vec::new(),
            touched: Vec::new(),
            meet_again: false,
            tally: Tally::default(),
        })
    }

    /// Adds the readings of a stored sample to the draft of its priority.
    pub(super) fn draft(
        &mut self,
        priority: Priority,
        device: (&DeviceEntry, DevicePseudonym),
        patient: Option<i64>,
        sample: &Prepared,
        flags: Flags,
    ) -> Result<(), StoreError> {
        if !draft::leaves(sample) {
            // Its patient has not been told of by it either.
            return Ok(());
        }
        let entry = match patient {
            Some(row) => Some(self.directory.patient_entry(self.tx, row)?),
            None => None,
        };
        if let Some(profile) = self.profile
            && let Some((_, draft)) = priority.of_mut(&mut self.drafts)
        {
            draft.push(device, entry, sample, flags, (profile, self.now.mesh));
        }
        let untold = entry.filter(|entry| !entry.told).map(|entry| entry.row);
        let draft = priority.of(&self.drafts).as_ref();
        if let (Some(row), Some((Some(place), _))) = (untold, draft) {
            let parcel = sequence(place);
            self.told(row, priority, parcel)?;
        }
        // Once in the table and once more in a parcel.
        self.used += sample.packed.len() as u64;
        Ok(())
    }

    /// Keeps with which parcel the region is told of a patient.
    pub(super) fn told(
        &mut self,
        row: i64,
        priority: Priority,
        parcel: i64,
    ) -> Result<(), StoreError> {
        self.tx
            .prepare_cached("UPDATE patient SET priority = ?2, parcel = ?3 WHERE row = ?1")?
            .execute(params![row, priority.rank(), parcel])?;
        self.directory.forget_patient(row);
        Ok(())
    }

    /// Whether profile and rules let readings leave now.
    pub(super) fn may_ship(&self) -> bool {
        self.profile.is_some() && self.parcels.may_leave()
    }

    /// Whether a routine sample would be taken in.
    pub(super) const fn has_routine_room(&self) -> bool {
        self.bounds.admits(Urgency::Routine, self.used)
    }

    /// Whether no parcel waits for its receipt.
    pub(super) fn nothing_waits(&self) -> Result<bool, StoreError> {
        let load = outbox::load(self.tx)?;
        Ok(load.parcels.0.iter().all(|waiting| *waiting == 0))
    }

    pub(super) const fn tx(&self) -> &'t Transaction<'t> {
        self.tx
    }

    /// The outbox sequence of the parcel that a sample of this priority goes into; a full one is shipped first. None
    /// when its readings may not leave: they stay until they may ([`super::unshipped`]).
    pub(super) fn reserve(
        &mut self,
        priority: Priority,
        readings: usize,
    ) -> Result<Option<i64>, StoreError> {
        if self.profile.is_none() {
            self.tally.uncleared += 1;
            return Ok(None);
        }
        let draft = priority.of(&self.drafts);
        if matches!(draft, Some((_, draft)) if draft.is_full_for(readings)) {
            self.ship(priority)?;
        }
        if let Some((place, _)) = priority.of(&self.drafts) {
            return Ok(place.as_ref().map(sequence));
        }
        let place = self.parcels.reserve(self.tx, priority)?;
        let seq = place.as_ref().map(sequence);
        *priority.of_mut(&mut self.drafts) = Some((place, Draft::default()));
        Ok(seq)
    }

    pub(super) fn ship(&mut self, priority: Priority) -> Result<(), StoreError> {
        let Some((mut place, draft)) = priority.of_mut(&mut self.drafts).take() else {
            return Ok(());
        };
        let trace = draft.trace();
        let (batch, first) = draft.finish(self.entropy);
        if batch.readings.is_empty() {
            // When something else was put behind its place, it goes as it is: the region waits for it.
            place = match place {
                Some(place) => outbox::give_back(self.tx, place)?,
                None => None,
            };
            if place.is_none() {
                return Ok(());
            }
        }
        let readings = batch.readings.len();
        let given = match place {
            Some(place) => {
                let place = place.traced(trace);
                Some(self.parcels.fill(self.tx, place, batch, &self.now)?)
            }
            // Asked once more, for the row in the audit log that says who keeps it back.
            None => self
                .parcels
                .ship(self.tx, priority, Purpose::Care, batch, &self.now)?,
        };
        if let Some(seq) = given {
            shipped::note(self.tx, priority, seq, readings, self.now.real)?;
        }
        if let (Some(seq), Some(arrived)) = (given, first) {
            self.departed.push(Departed {
                priority,
                seq,
                arrived,
            });
        }
        let count = if given.is_some() {
            &mut self.tally.parcels
        } else {
            &mut self.tally.uncleared
        };
        *count += 1;
        Ok(())
    }

    /// Applies verified receipts.
    pub(super) fn settle(&mut self, receipts: &[Receipt]) -> Result<(), StoreError> {
        let settled = self.parcels.settle(self.tx, receipts, &self.now)?;
        self.tally.settled.add(settled);
        Ok(())
    }

    /// Ships what the catalog is to know.
    pub(super) fn ship_devices(&mut self, mut records: DeviceRecords) -> Result<(), StoreError> {
        catalogued::date(self.tx, &mut records, self.now.real, self.entropy)?;
        let (priority, purpose) = (Priority::Live, Purpose::Operations);
        let given = self
            .parcels
            .ship(self.tx, priority, purpose, records, &self.now)?;
        self.tally.parcels += u64::from(given.is_some());
        Ok(())
    }

    /// Writes down a peer that was turned away.
    pub(super) fn turned_away(
        &mut self,
        peer: &Identity,
        reason: &'static str,
    ) -> Result<(), StoreError> {
        self.parcels.turned_away(self.tx, peer, reason, &self.now)
    }

    /// Writes entries to the audit log that are of no parcel.
    pub(super) fn note(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.parcels.note(self.tx, entries)
    }

    /// The audit log of a node that starts.
    pub(super) fn begin_log(&mut self, has_run: bool) -> Result<(), StoreError> {
        let sender = self.parcels.sender(&self.now);
        let (me, now) = (sender.place, self.now.real);
        Ok(federation::started::begin_log(
            self.tx,
            me,
            sender.signer,
            now,
            has_run,
        )?)
    }

    /// The crosswalk of a device, drawn if it is new.
    pub(super) fn device(&mut self, id: &DeviceId) -> Result<Arc<DeviceEntry>, StoreError> {
        Ok(self.directory.device(self.tx, id)?)
    }

    /// Ships the rest. After it only the commit is left.
    pub(super) fn finish(mut self) -> Result<Done, StoreError> {
        for priority in Priority::ALL {
            self.ship(priority)?;
        }
        self.runs.save(self.tx)?;
        self.tally.used = self.used;
        Ok(Done {
            tally: self.tally,
            departed: self.departed,
            touched: self.touched,
            meet_again: self.meet_again,
        })
    }
}

/// The sequence of a place, as the tables of samples hold it.
fn sequence(place: &Reserved) -> i64 {
    i64::try_from(place.seq()).unwrap_or(i64::MAX)
}

/// What the database holds, without the pages that are free for reuse, in bytes.
///
/// # Errors
/// As any read.
pub fn used_bytes(db: &rusqlite::Connection) -> Result<u64, StoreError> {
    let pragma =
        |sql| -> rusqlite::Result<i64> { db.prepare_cached(sql)?.query_row([], |row| row.get(0)) };
    let pages = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok((pages * PAGE_BYTES).unsigned_abs())
}
