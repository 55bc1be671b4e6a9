//! One commit: everything that waits becomes rows of one transaction.
//!
//! An outer error means that the transaction cannot stand and everybody in it is refused; an inner one concerns one
//! caller, while the others are stored.
use super::{
    DeviceEntry, StoreError, StoreErrorKind,
    bounds::Bounds,
    directory::{Directory, set_meta},
    draft::Draft,
    journal::{EDGE_EPOCH, EdgeSample, Number, Prepared, prepare_edge, stored_digest},
    parcels::Parcels,
    retained,
    retention::{self, Cursor, Forgotten, Swept},
    tally::Tally,
    transit::Departed,
};
use crate::{
    clockguard::Now,
    ingest::{Rejected, RetainedMessage, SampleReading, Stored, Urgency},
};
use bytes::Bytes;
use federation::{
    identity::Identity,
    profile::Profile,
    wire::{DeviceRecords, Receipt},
};
use rusqlite::{CachedStatement, Transaction, params};
use std::sync::Arc;
use types::{AbsentReason, DeviceId, Flags, Freshness, Priority, Purpose, Timestamp, Value};

/// Messages that cannot be understood which are kept of one device: the newest. The older ones make room, counted,
/// so that a device which sends nothing else cannot fill the disk.
const MAX_UNREADABLE_ROWS: i64 = 1_000;

const INSERT: &str = "INSERT INTO sample
 (device, epoch, seq, source_ms, arrived_ms, patient, flags, priority, parcel, digest, readings)
 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";

/// What became of a message that is kept as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is kept.
    Durably,
    /// The disk bound is reached.
    Full,
    /// The facility has retained messages on as many topics as it may.
    TooManyTopics,
}

/// A commit in the making.
pub(super) struct Apply<'t> {
    tx: &'t Transaction<'t>,
    directory: &'t mut Directory,
    forgotten: &'t mut Forgotten,
    pub(super) parcels: &'t mut Parcels,
    bounds: Bounds,
    pub(super) now: Now,
    routine: Priority,
    profile: Option<Profile>,
    entropy: super::Entropy,
    insert: CachedStatement<'t>,
    /// By priority: the sequence that the parcel will have, if it may be shipped at all.
    drafts: [Option<(Option<i64>, Draft)>; 3],
    used: u64,
    departed: Vec<Departed>,
    pub tally: Tally,
}

/// What a commit stands on.
pub(super) struct Ground<'t> {
    pub tx: &'t Transaction<'t>,
    pub directory: &'t mut Directory,
    pub forgotten: &'t mut Forgotten,
    pub parcels: &'t mut Parcels,
    pub bounds: Bounds,
    pub now: Now,
    pub link_up: bool,
    /// Bytes of the log beyond what it is allowed to have.
    pub log_bytes: u64,
    pub profile: Option<Profile>,
    pub entropy: super::Entropy,
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
            parcels: ground.parcels,
            bounds: ground.bounds,
            now: ground.now,
            routine,
            profile: ground.profile,
            entropy: ground.entropy,
            drafts: [None, None, None],
            used,
            departed: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Stores a sample.
    pub(super) fn append(
        &mut self,
        sample: &Prepared,
    ) -> Result<Result<Stored, Rejected>, StoreError> {
        let device = self.directory.device(self.tx, &sample.device)?;
        let (epoch, seq) = match sample.number {
            Number::Device { epoch, seq } => (epoch, seq),
            Number::Edge => (EDGE_EPOCH, next_edge_seq(self.tx, device.row)?),
        };
        if let Some(newest_ms) = self.forgotten.newest_ms(device.row, epoch, seq) {
            // No digest is left to compare. What is newer than all that was deleted cannot be one of it: the device's
            // counter restarted, and its data would be acknowledged and thrown away.
            if sample.source_time.0 > newest_ms {
                return self.conflict(sample, device.row, epoch, seq);
            }
            self.tally.duplicates += 1;
            return Ok(Ok(Stored::Duplicate));
        }
        if !self.bounds.admits(sample.urgency, self.used) {
            // What is stored already needs no room.
            if stored_digest(self.tx, device.row, epoch, seq)?.is_some() {
                return self.judge_repeated(sample, device.row, epoch, seq);
            }
            self.tally.full += 1;
            return Ok(Err(Rejected::Full));
        }
        let patient = self.patient_of(&device.facts.bed, sample)?;
        let flags = self.arrival_flags(sample, &device);
        let priority = match sample.urgency {
            Urgency::Alarm => Priority::Alarm,
            Urgency::Routine => self.routine,
        };
        let parcel = self.reserve(priority, sample.readings.len())?;
        let new = self.insert.execute(params![
            device.row,
            epoch,
            seq,
            sample.source_time.0,
            self.now.mesh.0,
            patient,
            flags.bits(),
            priority.rank(),
            parcel,
            sample.digest,
            sample.packed,
        ])?;
        if new == 0 {
            return self.judge_repeated(sample, device.row, epoch, seq);
        }
        self.draft(priority, &device, patient, sample, flags)?;
        self.tally.stored += 1;
        self.tally.readings += sample.readings.len() as u64;
        self.used += sample.packed.len() as u64;
        Ok(Ok(Stored::New))
    }

    /// Adds the readings of a stored sample to the draft of its priority.
    pub(super) fn draft(
        &mut self,
        priority: Priority,
        device: &DeviceEntry,
        patient: Option<i64>,
        sample: &Prepared,
        flags: Flags,
    ) -> Result<(), StoreError> {
        let entry = match patient {
            Some(row) => Some(self.directory.patient_entry(self.tx, row)?),
            None => None,
        };
        if let Some(profile) = self.profile
            && let Some((_, draft)) = &mut self.drafts[usize::from(priority.rank())]
        {
            draft.push(device, entry, sample, flags, (profile, self.now.mesh));
        }
        // Once in the table and once more in a parcel.
        self.used += sample.packed.len() as u64;
        Ok(())
    }

    /// Whether profile and rules let readings leave now.
    pub(super) fn may_ship(&self) -> bool {
        self.profile.is_some() && self.parcels.next_seq(Priority::Backlog).is_some()
    }

    /// Whether a routine sample would be taken in.
    pub(super) const fn has_routine_room(&self) -> bool {
        self.bounds.admits(Urgency::Routine, self.used)
    }

    /// Whether no parcel waits for its receipt.
    pub(super) fn nothing_waits(&self) -> Result<bool, StoreError> {
        let load = federation::outbox::load(self.tx)?;
        Ok(load.parcels.0.iter().all(|waiting| *waiting == 0))
    }

    pub(super) const fn tx(&self) -> &'t Transaction<'t> {
        self.tx
    }

    /// The patient whom the device names, or whoever lay in its bed when it measured what the sample is about.
    fn patient_of(
        &mut self,
        bed: &Option<String>,
        sample: &Prepared,
    ) -> Result<Option<i64>, StoreError> {
        match (&sample.patient, bed) {
            (Some(id), _) => Ok(Some(self.directory.patient(self.tx, id)?)),
            (None, Some(bed)) => Ok(self.directory.patient_of_bed(bed, sample.owned_at)),
            (None, None) => Ok(None),
        }
    }

    /// What the edge adds to the readings of a sample when it comes in.
    fn arrival_flags(&self, sample: &Prepared, device: &DeviceEntry) -> Flags {
        let arrived = Freshness::on_arrival(sample.source_time, self.now.mesh, device.facts.limits);
        let late = match arrived {
            Freshness::Historical => Flags::HISTORICAL,
            Freshness::Live | Freshness::Stale | Freshness::Absent => Flags::NONE,
        };
        if self.now.trusted && !Freshness::is_ahead(sample.source_time, self.now.mesh) {
            late
        } else {
            late.with(Flags::CLOCK_UNTRUSTED)
        }
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
        let slot = usize::from(priority.rank());
        let full = matches!(&self.drafts[slot], Some((_, draft)) if draft.is_full_for(readings));
        if full {
            self.ship(priority)?;
        }
        if let Some((seq, _)) = &self.drafts[slot] {
            return Ok(*seq);
        }
        let seq = self.parcels.next_seq(priority);
        self.drafts[slot] = Some((seq, Draft::default()));
        Ok(seq)
    }

    pub(super) fn ship(&mut self, priority: Priority) -> Result<(), StoreError> {
        let Some((seq, draft)) = self.drafts[usize::from(priority.rank())].take() else {
            return Ok(());
        };
        let (batch, first) = draft.finish();
        if batch.readings.is_empty() {
            return Ok(());
        }
        let given = self
            .parcels
            .ship(self.tx, priority, Purpose::Care, batch, &self.now)?;
        if given != seq {
            let op = "ship: another sequence than the samples were stored with";
            return Err(StoreError::new(StoreErrorKind::Internal, op));
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

    /// The identity was stored before: the same payload is a duplicate, another one a conflict.
    fn judge_repeated(
        &mut self,
        sample: &Prepared,
        device: i64,
        epoch: u32,
        seq: i64,
    ) -> Result<Result<Stored, Rejected>, StoreError> {
        if stored_digest(self.tx, device, epoch, seq)? == Some(sample.digest) {
            self.tally.duplicates += 1;
            return Ok(Ok(Stored::Duplicate));
        }
        self.conflict(sample, device, epoch, seq)
    }

    /// Refuses a sample whose identity another one has, and raises the alarm of it once.
    fn conflict(
        &mut self,
        sample: &Prepared,
        device: i64,
        epoch: u32,
        seq: i64,
    ) -> Result<Result<Stored, Rejected>, StoreError> {
        self.tally.conflicts += 1;
        if self.forgotten.first_conflict(device, epoch, seq) {
            let alarm = prepare_edge(conflict_alarm(sample), self.entropy);
            if self.append(&alarm)?.is_err() {
                self.forgotten.forget_conflict(device, epoch, seq);
            }
        }
        Ok(Err(Rejected::Conflict {
            epoch,
            seq: seq.unsigned_abs(),
        }))
    }

    /// Keeps a message that could not be understood, as long as a routine sample would be kept: whether it was.
    pub(super) fn quarantine(
        &mut self,
        device: &DeviceId,
        reason: &str,
        message: &Bytes,
    ) -> Result<Kept, StoreError> {
        if !self.has_routine_room() {
            self.tally.full += 1;
            return Ok(Kept::Full);
        }
        self.used += message.len() as u64;
        self.tx
            .prepare_cached(
                "INSERT INTO unreadable (device, reason, at_ms, message) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                device.as_str(),
                reason,
                self.now.mesh.0,
                &message[..]
            ])?;
        let dropped = self
            .tx
            .prepare_cached(
                "DELETE FROM unreadable WHERE row IN (
                   SELECT row FROM unreadable WHERE device = ?1 ORDER BY row DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![device.as_str(), MAX_UNREADABLE_ROWS])?;
        self.tally.crowded_out += dropped as u64;
        Ok(Kept::Durably)
    }

    /// Keeps or deletes the retained message of a topic: whether there was room. A short one may use the reserve.
    pub(super) fn retain(&mut self, message: &RetainedMessage) -> Result<Kept, StoreError> {
        let admitted = self.bounds.admits(retained::urgency(message), self.used);
        if !message.payload.is_empty() && !admitted {
            self.tally.full += 1;
            return Ok(Kept::Full);
        }
        self.used += (message.payload.len() + message.properties.len()) as u64;
        retained::keep(self.tx, message, self.now)
    }

    /// Applies verified receipts.
    pub(super) fn settle(&mut self, receipts: &[Receipt]) -> Result<(), StoreError> {
        let settled = self.parcels.settle(self.tx, receipts, &self.now)?;
        self.tally.settled.add(settled);
        Ok(())
    }

    /// Ships what the catalog is to know.
    pub(super) fn ship_devices(&mut self, records: DeviceRecords) -> Result<(), StoreError> {
        let priority = Priority::Live;
        // Readings of this commit were promised the sequence that this parcel would take.
        self.ship(priority)?;
        let given =
            self.parcels
                .ship(self.tx, priority, Purpose::Operations, records, &self.now)?;
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

    /// The crosswalk of a device, drawn if it is new.
    pub(super) fn device(&mut self, id: &DeviceId) -> Result<Arc<DeviceEntry>, StoreError> {
        Ok(self.directory.device(self.tx, id)?)
    }

    /// One step of retention, and the time kept as the floor of the clock at the next boot (an untrusted one too: it
    /// is the floor run on).
    pub(super) fn housekeep(
        &mut self,
        cursor: &mut Cursor,
        cutoff: Timestamp,
    ) -> Result<Swept, StoreError> {
        set_meta(self.tx, super::TIME, self.now.real.0)?;
        retained::drop_lapsed(self.tx, self.now)?;
        retention::step(self.tx, self.forgotten, cursor, cutoff)
    }

    /// Ships the rest. After it only the commit is left.
    pub(super) fn finish(mut self) -> Result<(Tally, Vec<Departed>), StoreError> {
        for priority in Priority::ALL {
            self.ship(priority)?;
        }
        self.tally.used = self.used;
        Ok((self.tally, self.departed))
    }
}

/// What the database holds, without the pages that are free for reuse, in bytes.
pub(super) fn used_bytes(db: &rusqlite::Connection) -> Result<u64, StoreError> {
    let pragma =
        |sql| -> rusqlite::Result<i64> { db.prepare_cached(sql)?.query_row([], |row| row.get(0)) };
    let pages = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok((pages * super::schema::PAGE_BYTES).unsigned_abs())
}

fn next_edge_seq(tx: &Transaction<'_>, device: i64) -> Result<i64, StoreError> {
    Ok(tx
        .prepare_cached(
            "UPDATE device SET edge_seq = edge_seq + 1 WHERE row = ?1 RETURNING edge_seq",
        )?
        .query_row([device], |row| row.get(0))?)
}

/// A device that gives one identity to two payloads has lost its counter or its memory: nothing that it says in this
/// sample can be believed, and somebody must know.
fn conflict_alarm(sample: &Prepared) -> EdgeSample {
    EdgeSample {
        device: sample.device.clone(),
        source_time: sample.source_time,
        patient: sample.patient.clone(),
        owned_at: sample.owned_at,
        readings: sample
            .readings
            .iter()
            .map(|reading| SampleReading {
                value: Value::Absent(AbsentReason::Error),
                ..reading.clone()
            })
            .collect(),
    }
}
