//! How a sample is stored: which identity it has, whom it belongs to, and what is said of one whose identity is taken.
//!
//! | the identity (device, epoch, sequence number) was stored | | |
//! |---|---|---|
//! | with the same payload | duplicate | nothing changes |
//! | and deleted since, with a source time among those that were deleted | duplicate | no digest is left to compare |
//! | with another payload, measured before this one | the counter restarted | a run of the edge's own begins ([`super::runs`]), with one alarm |
//! | with another payload, measured when this one was or later | refused | one alarm for the device's run |
//!
//! Where the counter stands still, the identity is (device, epoch, sequence number, source time). Of one that was deleted
//! nobody can tell any more whether it was ever stored, so that it is refused.
use super::{
    DeviceEntry, StoreError,
    apply::Apply,
    prepared::{EDGE_EPOCH, EdgeSample, Number, Prepared, prepare_edge},
    runs, stored,
};
use ingest::{Rejected, SampleReading, Stored, Urgency};
use rusqlite::{Transaction, params};
use types::{AbsentReason, Flags, Freshness, Priority, Value};

type Answer = Result<Stored, Rejected>;

/// Where a sample is to be stored.
#[derive(Clone, Copy)]
struct At {
    device: i64,
    run: u32,
    epoch: u32,
    seq: i64,
}

impl At {
    fn key(self) -> i64 {
        runs::key(self.run, self.epoch)
    }
}

/// What is known of an identity within a run.
enum Known {
    /// Nothing was stored under it.
    Free,
    /// This very sample was.
    Same,
    /// Another one was, measured then (ms since 1970).
    Other(i64),
}

impl Apply<'_> {
    /// Stores a sample.
    pub(super) fn append(&mut self, sample: &Prepared) -> Result<Answer, StoreError> {
        let device = self.directory.device(self.tx, &sample.device)?;
        let (epoch, seq) = match sample.number {
            Number::Device { epoch, seq } => (epoch, seq),
            Number::Edge => {
                let seq = next_edge_seq(self.tx, device.row)?;
                return self.insert(sample, &device, (0, EDGE_EPOCH, seq));
            }
        };
        let source_ms = sample.source_time.0;
        let (run, candidates) = self.runs.look(device.row, source_ms);
        let in_run = |runs: &runs::Runs, run| At {
            device: device.row,
            run,
            epoch,
            seq: runs.seq_in((device.row, run), (epoch, seq), source_ms),
        };
        let at = in_run(self.runs, run);
        for run in candidates.into_iter().skip(1) {
            if let Known::Same = self.known(in_run(self.runs, run), sample)? {
                return Ok(self.duplicate());
            }
        }
        let known = match runs::is_by_time(at.seq) {
            true => self.known_by_time(at, (epoch, seq), sample)?,
            false => self.forgotten(at, sample),
        };
        match known {
            Known::Same => return Ok(self.duplicate()),
            Known::Other(stored_ms) => return self.taken(sample, &device, at, stored_ms),
            Known::Free => {}
        }
        if !self.bounds.admits(sample.urgency, self.used) {
            // What is stored already needs no room.
            return match self.known(at, sample)? {
                Known::Same => Ok(self.duplicate()),
                Known::Other(stored_ms) => self.taken(sample, &device, at, stored_ms),
                Known::Free => Ok(self.full()),
            };
        }
        self.insert(sample, &device, (run, epoch, at.seq))
    }

    /// Stores a sample in a run, unless its identity is taken there.
    fn insert(
        &mut self,
        sample: &Prepared,
        device: &DeviceEntry,
        (run, epoch, seq): (u32, u32, i64),
    ) -> Result<Answer, StoreError> {
        if !self.bounds.admits(sample.urgency, self.used) {
            return Ok(self.full());
        }
        let at = At {
            device: device.row,
            run,
            epoch,
            seq,
        };
        let patient = self.patient_of(&device.facts.bed, sample)?;
        let at_bed = sample.owned_at;
        let stay = self.directory.stay(self.tx, device, patient, at_bed)?;
        let flags = self.arrival_flags(sample, device);
        let priority = match sample.urgency {
            Urgency::Alarm => Priority::Alarm,
            Urgency::Routine => self.routine,
        };
        let waits = self.must_wait(device.row, priority)?;
        let parcel = match waits {
            true => None,
            false => self.reserve(priority, sample.readings.len())?,
        };
        let new = self.insert.execute(params![
            device.row,
            at.key(),
            seq,
            sample.source_time.0,
            self.now.mesh.0,
            patient,
            flags.bits(),
            priority.rank(),
            parcel,
            sample.digest,
            sample.packed,
            stay.row,
        ])?;
        if new == 0 {
            return match self.known(at, sample)? {
                Known::Other(stored_ms) => self.taken(sample, device, at, stored_ms),
                Known::Same | Known::Free => Ok(self.duplicate()),
            };
        }
        if let Number::Device { epoch, seq } = sample.number {
            self.runs.stored(device.row, run, sample.source_time.0);
            self.runs.counted(device.row, (epoch, seq));
        }
        if waits {
            self.waits = true;
            // As a draft would: once in the table and once more in a parcel.
            self.used += sample.packed.len() as u64;
        } else {
            self.draft(priority, (device, stay.pseudonym), patient, sample, flags)?;
        }
        self.tally.stored += 1;
        self.tally.readings += sample.readings.len() as u64;
        self.used += sample.packed.len() as u64;
        Ok(Ok(Stored::New))
    }

    const fn duplicate(&mut self) -> Answer {
        self.tally.duplicates += 1;
        Ok(Stored::Duplicate)
    }

    const fn full(&mut self) -> Answer {
        self.tally.full += 1;
        Err(Rejected::Full)
    }

    fn known(&self, at: At, sample: &Prepared) -> Result<Known, StoreError> {
        Ok(match stored::find(self.tx, at.device, at.key(), at.seq)? {
            Some((digest, _)) if digest == sample.digest => Known::Same,
            Some((_, source_ms)) => Known::Other(source_ms),
            None => self.forgotten(at, sample),
        })
    }

    /// What is known of a sample in a run where its counter stood still. When the counter has gone on since, and says the
    /// number again of what is measured now, it restarted.
    fn known_by_time(
        &self,
        at: At,
        number: (u32, i64),
        sample: &Prepared,
    ) -> Result<Known, StoreError> {
        let newest_ms = self.runs.newest_ms(at.device).unwrap_or(i64::MIN);
        Ok(match self.known(at, sample)? {
            Known::Free
                if newest_ms < sample.source_time.0
                    && !self.runs.stands_still(at.device, number) =>
            {
                Known::Other(newest_ms)
            }
            known => known,
        })
    }

    /// What was deleted under an identity. A source time that none of what was deleted around it had is another
    /// sample's: the counter restarted, and its data would be acknowledged and thrown away.
    fn forgotten(&self, at: At, sample: &Prepared) -> Known {
        match self.forgotten.times(at.device, at.key(), at.seq) {
            None => Known::Free,
            // Which source times among them were stored is not known any more.
            Some(_) if runs::is_by_time(at.seq) => Known::Other(sample.source_time.0),
            Some((oldest_ms, newest_ms))
                if (oldest_ms..=newest_ms).contains(&sample.source_time.0) =>
            {
                Known::Same
            }
            Some((_, newest_ms)) => Known::Other(newest_ms),
        }
    }

    /// Another sample has the identity. One that was measured later has a number of a counter that restarted.
    fn taken(
        &mut self,
        sample: &Prepared,
        device: &DeviceEntry,
        at: At,
        stored_ms: i64,
    ) -> Result<Answer, StoreError> {
        if sample.source_time.0 <= stored_ms {
            return self.refuse(sample, at);
        }
        if !self.bounds.admits(sample.urgency, self.used) {
            return Ok(self.full());
        }
        let number = numbered(sample, at);
        let again = self.runs.stands_still(device.row, number);
        if !again {
            let alarm = prepare_edge(identity_alarm(sample), self.entropy);
            if self.append(&alarm)?.is_err() {
                return Ok(self.full());
            }
            tracing::warn!(
                device = %sample.device,
                epoch = at.epoch,
                "the sample counter restarted in the same epoch: a run of the edge's own begins"
            );
            self.runs.began_with(device.row, number);
        }
        let source_ms = sample.source_time.0;
        let run = self
            .runs
            .begin(device.row, source_ms, again.then_some(number));
        let seq = self.runs.seq_in((device.row, run), number, source_ms);
        self.tally.restarts += 1;
        self.insert(sample, device, (run, at.epoch, seq))
    }

    /// Refuses a sample whose identity another one has that was not measured before it, and raises the alarm of it
    /// once for the device's run.
    fn refuse(&mut self, sample: &Prepared, at: At) -> Result<Answer, StoreError> {
        self.tally.conflicts += 1;
        if self.runs.is_first_refusal(at.device, at.run) {
            let alarm = prepare_edge(identity_alarm(sample), self.entropy);
            if self.append(&alarm)?.is_ok() {
                self.runs.alarmed(at.device, at.run);
            }
        }
        let (epoch, seq) = numbered(sample, at);
        Ok(Err(Rejected::Conflict {
            epoch,
            seq: seq.unsigned_abs(),
        }))
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
}

/// The number that the device gave a sample.
const fn numbered(sample: &Prepared, at: At) -> (u32, i64) {
    match sample.number {
        Number::Device { epoch, seq } => (epoch, seq),
        Number::Edge => (at.epoch, at.seq),
    }
}

fn next_edge_seq(tx: &Transaction<'_>, device: i64) -> Result<i64, StoreError> {
    Ok(tx
        .prepare_cached(
            "UPDATE device SET edge_seq = edge_seq + 1 WHERE row = ?1 RETURNING edge_seq",
        )?
        .query_row([device], |row| row.get(0))?)
}

/// A device that gives one identity to two payloads has lost its counter or its memory: somebody must know.
fn identity_alarm(sample: &Prepared) -> EdgeSample {
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
