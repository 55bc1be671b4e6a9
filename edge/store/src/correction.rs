//! Readings that were given to the wrong patient, since what was entered of their bed came late: given to the right one.
//!
//! An entry leaves one row for each device that stood at the bed ([`super::beds`]). A step looks at a bounded number of
//! the device's samples, the newest first, and moves those that belong to somebody else by what is known now; where it
//! stopped is in its commit, so that a kill changes nothing. It asks what is true now and not what changed, so that
//! several late entries can wait in any order, and a step that ran twice would find nothing to do.
//!
//! A reading that moves is withdrawn under its old id, with its old patient's shift, and shipped again under a new id ([`pack::moved`]),
//! both in one parcel of kind `Correction` ([`super::withdrawal`]). What was withdrawn is kept beside the sample for as
//! long as that is.
//! A sample whose device named its patient is never moved; an alarm of the edge's own about a patient who had left when it
//! was raised, as is known now, is withdrawn and stands nowhere.
use super::{
    StoreError, StoreErrorKind,
    apply::Apply,
    beds::placements,
    draft::{Draft, Standing},
    pack,
    prepared::{EDGE_EPOCH, Number, Prepared, WITHDRAWN_FOR_GOOD, owned_at_of_edge},
    runs,
    steps::Corrected,
    stored,
};
use ingest::Urgency;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::time::Instant;
use types::{DeviceId, Flags, Priority, Timestamp};

/// Samples that one step looks at: a step is one commit, so it must stay short beside the samples that wait.
const STEP_LOOKS: i64 = 2_000;
/// Readings that one step moves: both sides of each are in one parcel.
const STEP_READINGS: usize = super::draft::MAX_READINGS / 4;

/// A device whose samples are looked through.
struct Todo {
    row: i64,
    bed: String,
    from: i64,
    until: i64,
    device: i64,
    /// What the device was called once for all, and is called nowhere any more.
    secret: [u8; 16],
    /// Where the last step stopped: samples below are not looked at yet.
    below: (i64, i64),
}

/// A sample in the interval.
struct Found {
    epoch: i64,
    seq: i64,
    source_ms: i64,
    arrived_ms: i64,
    patient: Option<i64>,
    flags: u8,
    priority: u8,
    parcel: Option<i64>,
    was_shipped: bool,
    stay: Option<i64>,
    digest: [u8; pack::DIGEST],
    /// None outside the interval, but for the edge's own.
    readings: Option<Vec<u8>>,
}

/// Where a sample moves to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// To a patient, or to nobody.
    Owner(Option<i64>),
    /// It should not have been: an alarm of a patient who had left by then.
    Nowhere,
}

/// A sample on its way to another patient.
struct Move {
    epoch: i64,
    seq: i64,
    from: Option<i64>,
    to: To,
    flags: Flags,
    priority: Priority,
    /// Whether the region may have it.
    was_shipped: bool,
    /// With which priority and parcel, where that is known.
    was: (u8, Option<i64>),
    stay: Option<i64>,
    old: Prepared,
    packed: Vec<u8>,
}

impl Apply<'_> {
    /// One bounded step.
    pub(super) fn correct(&mut self) -> Result<Corrected, StoreError> {
        let Some(mut todo) = next(self.tx)? else {
            return Ok(Corrected::default());
        };
        if !self.may_ship() || !(self.has_routine_room() || self.nothing_waits()?) {
            return Ok(Corrected {
                left: true,
                held: true,
                moved: 0,
            });
        }
        let id = device_id(self.tx, todo.device)?;
        let found = look(self.tx, &todo)?;
        let mut done = i64::try_from(found.len()).unwrap_or(i64::MAX) < STEP_LOOKS;
        let places = placements(self.tx, todo.device)?;
        let (mut moves, mut moved) = (Vec::new(), 0);
        for sample in found {
            todo.below = (sample.epoch, sample.seq);
            if let Some(found) = self.judge(&todo, &id, &places, sample)? {
                moved += found.old.readings.len();
                moves.push(found);
            }
            if moved >= STEP_READINGS {
                done = false;
                break;
            }
        }
        for priority in [Priority::Alarm, Priority::Backlog] {
            self.move_all(&todo, priority, &moves)?;
        }
        advance(self.tx, &todo, done)?;
        self.tally.corrected += moved as u64;
        Ok(Corrected {
            moved,
            left: !done || next(self.tx)?.is_some(),
            held: false,
        })
    }

    /// Whose a sample is by what is known now, and the instant (ms since 1970) that says so; none when it is not of the
    /// bed and the interval, or when the device named its patient.
    fn whose(
        &self,
        todo: &Todo,
        places: &[(i64, Option<String>)],
        found: &Found,
    ) -> Option<(i64, To)> {
        let own = found.epoch == i64::from(EDGE_EPOCH);
        let owned_ms = match own {
            true => owned_at_of_edge(&found.digest)?,
            false => found.source_ms,
        };
        let mut stood = places.iter().rev();
        let stood = stood.find(|(since, _)| *since <= found.arrived_ms)?;
        let interval = todo.from..todo.until;
        let touched = interval.contains(&owned_ms) || interval.contains(&found.source_ms);
        if stood.1.as_ref() != Some(&todo.bed) || !touched {
            return None;
        }
        let lay = |ms| self.directory.patient_of_bed(&todo.bed, Timestamp(ms));
        let owner = lay(owned_ms);
        let left = own && owner.is_some() && lay(found.source_ms) != owner;
        Some((owned_ms, if left { To::Nowhere } else { To::Owner(owner) }))
    }

    /// Whether a sample belongs to somebody else by what is known now; if so, what is needed to move it.
    fn judge(
        &mut self,
        todo: &Todo,
        id: &DeviceId,
        places: &[(i64, Option<String>)],
        found: Found,
    ) -> Result<Option<Move>, StoreError> {
        let own = found.epoch == i64::from(EDGE_EPOCH);
        let (Some((owned_ms, to)), Some(blob)) = (self.whose(todo, places, &found), found.readings)
        else {
            return Ok(None);
        };
        if to == To::Owner(found.patient) {
            return Ok(None);
        }
        let corrupt = || StoreError::new(StoreErrorKind::Corrupt, "read a sample to be corrected");
        let readings = stored::readings(&blob).ok_or_else(corrupt)?;
        let source_time = Timestamp(found.source_ms);
        let alarm = Priority::from_rank(found.priority) == Some(Priority::Alarm);
        let urgency = if alarm {
            Urgency::Alarm
        } else {
            Urgency::Routine
        };
        if !own && !pack::is_of_nobody(&found.digest, source_time, urgency, &readings) {
            return Ok(None);
        }
        let called = match to {
            To::Owner(Some(row)) => Some(self.directory.patient_entry(self.tx, row)?.pseudonym),
            To::Owner(None) | To::Nowhere => None,
        };
        let packed = pack::moved(&blob, &todo.secret, called).ok_or_else(corrupt)?;
        let (_, epoch) = runs::split(found.epoch);
        Ok(Some(Move {
            epoch: found.epoch,
            seq: found.seq,
            from: found.patient,
            to,
            flags: Flags::from_bits(found.flags).ok_or_else(corrupt)?,
            priority: if alarm {
                Priority::Alarm
            } else {
                Priority::Backlog
            },
            was_shipped: found.was_shipped,
            was: (found.priority, found.parcel),
            stay: found.stay,
            old: Prepared {
                device: id.clone(),
                number: Number::Device {
                    epoch,
                    seq: found.seq,
                },
                source_time,
                patient: None,
                owned_at: Timestamp(owned_ms),
                urgency,
                readings,
                packed: blob,
                digest: found.digest,
                arrived: Instant::now(),
                trace: None,
            },
            packed,
        }))
    }

    /// Ships both sides of what moves with a priority in one parcel, and writes down where each sample is now.
    fn move_all(
        &mut self,
        todo: &Todo,
        priority: Priority,
        moves: &[Move],
    ) -> Result<(), StoreError> {
        let moves: Vec<_> = moves.iter().filter(|m| m.priority == priority).collect();
        if moves.is_empty() {
            return Ok(());
        }
        let mut draft = Draft::default();
        let (mut stays, mut right) = (Vec::with_capacity(moves.len()), 0);
        for moving in &moves {
            if moving.was_shipped {
                let (standing, was) = (Standing::Withdrawn, (todo.device, moving.stay));
                let called = self.called(was)?;
                let packing = (&moving.old, &moving.old.packed[..]);
                self.draw(
                    &mut draft,
                    standing,
                    called,
                    moving.from,
                    packing,
                    moving.flags,
                )?;
            }
            stays.push(match moving.to {
                To::Owner(owner) => {
                    let (bed, at) = ((todo.device, &todo.bed[..]), moving.old.owned_at);
                    let stay = self.directory.stay_at(self.tx, bed, owner, at)?;
                    let packing = (&moving.old, &moving.packed[..]);
                    let called = stay.pseudonym;
                    self.draw(
                        &mut draft,
                        Standing::Good,
                        called,
                        owner,
                        packing,
                        moving.flags,
                    )?;
                    right += moving.old.readings.len();
                    Some(stay.row)
                }
                To::Nowhere => moving.stay,
            });
        }
        let parcel = self.ship_correction(priority, draft, right)?;
        for (moving, stay) in moves.into_iter().zip(stays) {
            self.write_down(todo, moving, stay, parcel)?;
        }
        Ok(())
    }

    fn write_down(
        &self,
        todo: &Todo,
        moving: &Move,
        stay: Option<i64>,
        parcel: i64,
    ) -> Result<(), StoreError> {
        if moving.was_shipped {
            self.tx
                .prepare_cached(
                    "INSERT INTO withdrawal (device, epoch, seq, priority, parcel, was_priority, was_parcel, patient, stay,
                       at_ms, readings) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?
                .execute(params![
                    todo.device,
                    moving.epoch,
                    moving.seq,
                    moving.priority.rank(),
                    parcel,
                    moving.was.0,
                    moving.was.1,
                    moving.from,
                    moving.stay,
                    self.now.mesh.0,
                    moving.old.packed,
                ])?;
        }
        let (owner, packed, digest) = match moving.to {
            To::Owner(owner) => (owner, &moving.packed, moving.old.digest),
            To::Nowhere => (moving.from, &moving.old.packed, WITHDRAWN_FOR_GOOD),
        };
        self.tx
            .prepare_cached(
                "UPDATE sample SET patient = ?4, readings = ?5, priority = ?6, parcel = ?7, digest = ?8, stay = ?9
                 WHERE device = ?1 AND epoch = ?2 AND seq = ?3",
            )?
            .execute(params![
                todo.device,
                moving.epoch,
                moving.seq,
                owner,
                packed,
                moving.priority.rank(),
                parcel,
                digest,
                stay,
            ])?;
        Ok(())
    }
}

fn next(tx: &Transaction<'_>) -> rusqlite::Result<Option<Todo>> {
    tx.prepare_cached(
        "SELECT c.row, bed, from_ms, until_ms, device, epoch, seq, d.pseudonym
         FROM correction c JOIN device d ON d.row = c.device ORDER BY c.row LIMIT 1",
    )?
    .query_row([], |row| {
        Ok(Todo {
            row: row.get(0)?,
            bed: row.get(1)?,
            from: row.get(2)?,
            until: row.get(3)?,
            device: row.get(4)?,
            below: (row.get(5)?, row.get(6)?),
            secret: row.get(7)?,
        })
    })
    .optional()
}

/// Where the next step goes on; nowhere when this one came to the end.
fn advance(tx: &Transaction<'_>, todo: &Todo, done: bool) -> rusqlite::Result<()> {
    if done {
        tx.prepare_cached("DELETE FROM correction WHERE row = ?1")?
            .execute([todo.row])?;
    } else {
        tx.prepare_cached("UPDATE correction SET epoch = ?2, seq = ?3 WHERE row = ?1")?
            .execute((todo.row, todo.below.0, todo.below.1))?;
    }
    Ok(())
}

fn device_id(tx: &Transaction<'_>, device: i64) -> Result<DeviceId, StoreError> {
    let id: String = tx
        .prepare_cached("SELECT id FROM device WHERE row = ?1")?
        .query_row([device], |row| row.get(0))?;
    id.parse()
        .map_err(|_| StoreError::new(StoreErrorKind::Corrupt, "read the name of a device"))
}

/// The next samples of a device, the newest first. Readings are read where they can be needed.
fn look(tx: &Transaction<'_>, todo: &Todo) -> rusqlite::Result<Vec<Found>> {
    let mut query = tx.prepare_cached(
        "SELECT epoch, seq, source_ms, arrived_ms, patient, flags, priority, parcel, parcel IS NOT NULL OR shipped, stay, digest,
           CASE WHEN epoch = ?5 OR (source_ms >= ?6 AND source_ms < ?7) THEN readings END
         FROM sample WHERE device = ?1 AND (epoch, seq) < (?2, ?3) ORDER BY epoch DESC, seq DESC LIMIT ?4",
    )?;
    let rows = query.query_map(
        params![
            todo.device,
            todo.below.0,
            todo.below.1,
            STEP_LOOKS,
            EDGE_EPOCH,
            todo.from,
            todo.until
        ],
        found,
    )?;
    rows.collect()
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok(Found {
        epoch: row.get(0)?,
        seq: row.get(1)?,
        source_ms: row.get(2)?,
        arrived_ms: row.get(3)?,
        patient: row.get(4)?,
        flags: row.get(5)?,
        priority: row.get(6)?,
        parcel: row.get(7)?,
        was_shipped: row.get(8)?,
        stay: row.get(9)?,
        digest: row.get(10)?,
        readings: row.get(11)?,
    })
}
