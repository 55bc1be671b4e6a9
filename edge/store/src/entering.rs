//! Entering who lies in a bed from when on, and what that leaves to be corrected ([`super::correction`]).
use super::{
    Store, StoreError, StoreErrorKind,
    apply::Apply,
    beds::{self, BY_CONFIGURATION, BedFact, BedRow, Entered, Timeline, check},
    directory::{Directory, Precedence},
    job::Job,
    prepared::EDGE_EPOCH,
    runs::Runs,
    steps::Corrected,
};
use federation::audit::Entry;
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use types::Timestamp;

/// Entries that a facility keeps: ten a day for each of 64 beds, over four years. One more is refused.
const MAX_ENTRIES: i64 = 1 << 20;

fn refused(op: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Refused, op)
}

impl Apply<'_> {
    /// Appends an entry, and writes down who made it.
    pub(super) fn enter(
        &mut self,
        fact: &BedFact,
    ) -> Result<Result<Entered, &'static str>, StoreError> {
        let entered = enter(self.tx, self.directory, self.runs, fact, self.now.mesh)?;
        if entered.is_ok_and(|entered| entered.changed || entered.described) {
            let what = match &fact.patient {
                Some(_) => "assign",
                None => "discharge",
            };
            let me = self.parcels.sender(&self.now).place;
            self.note(&[Entry::of_bed(self.now.real, &fact.by, me, what)])?;
        }
        Ok(entered)
    }
}

/// Appends an entry, unless it says what holds already; what it changes of the past is left to be corrected.
fn enter(
    db: &Connection,
    directory: &mut Directory,
    runs: &Runs,
    fact: &BedFact,
    now: Timestamp,
) -> Result<Result<Entered, &'static str>, StoreError> {
    if let Err(reason) = check(fact) {
        return Ok(Err(reason));
    }
    let entries: i64 = db
        .prepare_cached("SELECT count(*) FROM bed_entry")?
        .query_row([], |row| row.get(0))?;
    if entries >= MAX_ENTRIES {
        return Ok(Err("the facility has as many entries of beds as it may"));
    }
    let (patient, described) = match &fact.patient {
        Some(record) => {
            let (row, described) = directory.describe(db, record, Precedence::Now)?;
            (Some(row), described)
        }
        None => (None, false),
    };
    if directory.bed_entry(&fact.bed, fact.from) == Some(patient) {
        return Ok(Ok(Entered {
            described,
            ..Entered::default()
        }));
    }
    let before = directory.patient_of_bed(&fact.bed, fact.from);
    append(db, fact, patient, now)?;
    directory.load_beds(db)?;
    let mut corrects = false;
    if before != patient {
        let until = directory.next_entry(&fact.bed, fact.from);
        corrects = correct_later(db, runs, &fact.bed, (fact.from.0, until))?;
    }
    Ok(Ok(Entered {
        changed: true,
        described,
        corrects,
    }))
}

/// Leaves it to be corrected whose the readings are that were measured at a bed in an interval, if there can be any:
/// whether there can.
fn correct_later(
    db: &Connection,
    runs: &Runs,
    bed: &str,
    (from, until): (i64, i64),
) -> Result<bool, StoreError> {
    let devices: Vec<i64> = db
        .prepare_cached("SELECT DISTINCT device FROM placement WHERE bed = ?1")?
        .query_map([bed], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut any = false;
    for device in devices {
        let alarm: Option<i64> = db
            .prepare_cached("SELECT max(source_ms) FROM sample WHERE device = ?1 AND epoch = ?2")?
            .query_row((device, EDGE_EPOCH), |row| row.get(0))?;
        let newest = runs.newest_ms(device).max(alarm);
        if newest.is_none_or(|newest| newest < from) {
            continue;
        }
        any = true;
        db.prepare_cached(
            "INSERT INTO correction (bed, from_ms, until_ms, device, epoch, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        )?
        .execute(params![bed, from, until, device, i64::MAX])?;
    }
    Ok(any)
}

/// Takes in what the configuration says of beds, once for each bed and instant: afterwards only an entry at run time
/// changes it.
///
/// # Errors
/// `Refused` when it says something else than it said before, or what no entry may say.
pub(super) fn import(
    db: &Connection,
    directory: &mut Directory,
    runs: &Runs,
    facts: &[BedFact],
    now: Timestamp,
) -> Result<(), StoreError> {
    directory.load_beds(db)?;
    for fact in facts {
        check(fact).map_err(refused)?;
        // What was said since at run time is not said otherwise by an old file.
        let patient = match &fact.patient {
            Some(record) => Some(directory.describe(db, record, Precedence::Before)?.0),
            None => None,
        };
        let first: Option<Option<i64>> = db
            .prepare_cached(
                "SELECT patient FROM bed_entry WHERE bed = ?1 AND from_ms = ?2 AND entered_by = ?3",
            )?
            .query_row(params![fact.bed, fact.from.0, BY_CONFIGURATION], |row| {
                row.get(0)
            })
            .optional()?;
        match first {
            Some(known) if known == patient => {}
            Some(_) => {
                return Err(refused(
                    "write the bed assignments: the configuration gave the bed another patient from that instant on; correct it with `medmesh edge beds`",
                ));
            }
            None if directory.bed_entry(&fact.bed, fact.from).is_some() => {}
            None => {
                enter(db, directory, runs, fact, now)?.map_err(refused)?;
            }
        }
    }
    Ok(())
}

fn append(
    db: &Connection,
    fact: &BedFact,
    patient: Option<i64>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO bed_entry (bed, from_ms, patient, entered_ms, entered_by) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![fact.bed, fact.from.0, patient, now.0, fact.by])?;
    Ok(())
}

impl Directory {
    /// Writes down where the configured devices stand now, if they stood elsewhere: what they measure belongs to that
    /// bed by the time of its arrival.
    pub(super) fn place(&mut self, db: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        let facts: Vec<_> = self
            .facts()
            .map(|f| (f.id.clone(), f.bed.clone()))
            .collect();
        for (id, bed) in facts {
            let device = self.device(db, &id)?.row;
            let last: Option<(i64, Option<String>)> = db
                .prepare_cached(
                    "SELECT since_ms, bed FROM placement WHERE device = ?1 ORDER BY since_ms DESC LIMIT 1",
                )?
                .query_row([device], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let since = match &last {
                Some((_, known)) if *known == bed => continue,
                Some((since, _)) => now.0.max(since.saturating_add(1)),
                None => i64::MIN,
            };
            db.prepare_cached("INSERT INTO placement (device, since_ms, bed) VALUES (?1, ?2, ?3)")?
                .execute(params![device, since, bed])?;
        }
        Ok(())
    }
}

impl Store {
    /// Appends an entry of who lies in a bed; what it changes of the past is corrected by [`Store::correct`].
    ///
    /// # Errors
    /// `Refused` with the reason when it cannot be made; as any write.
    pub async fn enter(&self, fact: BedFact) -> Result<Entered, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Enter(Box::new(fact), reply), answer).await?
    }

    /// Gives readings to those whom they belong to by what was entered late: one bounded step.
    ///
    /// # Errors
    /// As any write.
    pub async fn correct(&self) -> Result<Corrected, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Correct(reply), answer).await?
    }

    /// A number that changes when who lies where may have changed.
    #[must_use]
    pub fn beds_version(&self) -> u32 {
        self.0.status.beds.load(Ordering::Relaxed)
    }

    /// Who lies where from when on.
    ///
    /// # Errors
    /// As any read.
    pub async fn beds(&self) -> Result<Timeline, StoreError> {
        self.read(|db| Ok(beds::timeline(db)?)).await
    }

    /// Every entry of beds, and how many devices' readings are still being corrected.
    ///
    /// # Errors
    /// As any read.
    pub async fn bed_rows(&self) -> Result<(Vec<BedRow>, u64), StoreError> {
        self.read(beds::read).await
    }
}
