//! What is deleted, and what is remembered of it. Nothing goes without a receipt, and nothing that the region refused,
//! put into quarantine or stored in part: of that the region keeps digests, so the facility has the only copy, until a
//! person has looked.
use super::{StoreError, parcels};
use rusqlite::{Connection, Transaction, params};
use std::collections::{BTreeMap, HashMap, VecDeque};
use types::{Priority, Timestamp};

/// Samples that one look yields at most: a step is one commit, so it must stay short beside the samples that wait.
const STEP_ROWS: usize = 2_000;
/// Times that one step looks: past the newer samples of as many devices.
const STEP_LOOKS: usize = 256;
/// Free pages that one step gives back to the file system.
const STEP_PAGES: i64 = 1_000;
/// Conflicts that are remembered so that each raises one alarm only.
const MAX_CONFLICTS: usize = 1_024;

type Key = (i64, u32);

/// Which sequence numbers were stored once and deleted since, as runs; and which conflicts were alarmed.
#[derive(Default)]
pub(super) struct Forgotten {
    /// By (device, epoch): first → last.
    runs: HashMap<Key, BTreeMap<i64, i64>>,
    conflicts: VecDeque<(i64, u32, i64)>,
}

impl Forgotten {
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut forgotten = Self::default();
        let mut query = db.prepare("SELECT device, epoch, first, last FROM forgotten")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let key = (row.get(0)?, row.get(1)?);
            let runs = forgotten.runs.entry(key).or_default();
            runs.insert(row.get(2)?, row.get(3)?);
        }
        Ok(forgotten)
    }

    /// Reads the runs again after a commit that failed.
    pub(super) fn reload(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.runs = Self::load(db)?.runs;
        Ok(())
    }

    /// Whether that sample was stored and deleted.
    pub(super) fn contains(&self, device: i64, epoch: u32, seq: i64) -> bool {
        let runs = self.runs.get(&(device, epoch));
        runs.and_then(|runs| runs.range(..=seq).next_back())
            .is_some_and(|(_, last)| seq <= *last)
    }

    /// Adds a number that was deleted; neighbours become one run. Returns the run, and what it swallowed.
    fn add(&mut self, key: Key, seq: i64) -> ((i64, i64), Option<i64>) {
        let runs = self.runs.entry(key).or_default();
        let mut first = seq;
        if let Some((start, last)) = runs.range_mut(..=seq).next_back()
            && *last + 1 >= seq
        {
            *last = (*last).max(seq);
            first = *start;
        } else {
            runs.insert(seq, seq);
        }
        let swallowed = runs.remove_entry(&(seq + 1));
        if let (Some((_, last)), Some(run)) = (swallowed, runs.get_mut(&first)) {
            *run = last;
        }
        let last = runs.get(&first).copied().unwrap_or(seq);
        ((first, last), swallowed.map(|(start, _)| start))
    }

    /// Whether this conflict was not seen lately.
    pub(super) fn first_conflict(&mut self, device: i64, epoch: u32, seq: i64) -> bool {
        let conflict = (device, epoch, seq);
        if self.conflicts.contains(&conflict) {
            return false;
        }
        if self.conflicts.len() == MAX_CONFLICTS {
            self.conflicts.pop_front();
        }
        self.conflicts.push_back(conflict);
        true
    }
}

/// Where the last step stopped looking.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    device: i64,
    epoch: u32,
    seq: i64,
}

/// What one step of retention did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Samples that it deleted.
    pub deleted: usize,
    /// Whether it came to the end of the samples: the next step begins anew.
    pub done: bool,
}

struct Old {
    key: Key,
    seq: i64,
    taken: bool,
}

/// One bounded step: deletes samples that arrived before `cutoff` and whose parcel the region has taken.
pub(super) fn step(
    tx: &Transaction<'_>,
    forgotten: &mut Forgotten,
    cursor: &mut Cursor,
    cutoff: Timestamp,
) -> Result<Swept, StoreError> {
    let mut swept = Swept::default();
    for _ in 0..STEP_LOOKS {
        let (old, next) = look(tx, *cursor, cutoff)?;
        for sample in old.iter().filter(|sample| sample.taken) {
            delete(tx, forgotten, sample)?;
            swept.deleted += 1;
        }
        *cursor = next.unwrap_or_default();
        swept.done = next.is_none();
        if swept.done || swept.deleted >= STEP_ROWS {
            break;
        }
    }
    give_back(tx)?;
    Ok(swept)
}

/// The old samples among the next rows, and where to look next; none after the last row.
fn look(
    tx: &Transaction<'_>,
    from: Cursor,
    cutoff: Timestamp,
) -> Result<(Vec<Old>, Option<Cursor>), StoreError> {
    let mut query = tx.prepare_cached(
        "SELECT device, epoch, seq, arrived_ms, priority, parcel FROM sample
         WHERE (device, epoch, seq) > (?1, ?2, ?3) ORDER BY device, epoch, seq LIMIT ?4",
    )?;
    let limit = i64::try_from(STEP_ROWS).unwrap_or(i64::MAX);
    let mut rows = query.query(params![from.device, from.epoch, from.seq, limit])?;
    let (mut old, mut next) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let mut at = Cursor {
            device: row.get(0)?,
            epoch: row.get(1)?,
            seq: row.get(2)?,
        };
        if row.get::<_, i64>(3)? >= cutoff.0 {
            // Within a device's epoch samples arrive in their order, more or less: the rest is newer.
            at.seq = i64::MAX;
            return Ok((old, Some(at)));
        }
        let priority = Priority::from_rank(row.get(4)?);
        let parcel: Option<i64> = row.get(5)?;
        let taken = match (priority, parcel) {
            (Some(priority), Some(parcel)) => parcels::is_taken(tx, priority, parcel)?,
            _ => false,
        };
        old.push(Old {
            key: (at.device, at.epoch),
            seq: at.seq,
            taken,
        });
        next = Some(at);
    }
    Ok((old, next))
}

fn delete(tx: &Transaction<'_>, forgotten: &mut Forgotten, sample: &Old) -> Result<(), StoreError> {
    let (device, epoch) = sample.key;
    tx.prepare_cached("DELETE FROM sample WHERE device = ?1 AND epoch = ?2 AND seq = ?3")?
        .execute(params![device, epoch, sample.seq])?;
    let ((first, last), swallowed) = forgotten.add(sample.key, sample.seq);
    if let Some(first) = swallowed {
        tx.prepare_cached("DELETE FROM forgotten WHERE device = ?1 AND epoch = ?2 AND first = ?3")?
            .execute(params![device, epoch, first])?;
    }
    tx.prepare_cached(
        "INSERT INTO forgotten (device, epoch, first, last) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (device, epoch, first) DO UPDATE SET last = ?4",
    )?
    .execute(params![device, epoch, first, last])?;
    Ok(())
}

/// Gives free pages back to the file system, a few at a time.
fn give_back(tx: &Transaction<'_>) -> Result<(), StoreError> {
    let mut vacuum = tx.prepare(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_numbers_become_runs_without_gaps() {
        let mut forgotten = Forgotten::default();
        let key = (1, 7);
        assert_eq!(forgotten.add(key, 5), ((5, 5), None));
        assert_eq!(forgotten.add(key, 6), ((5, 6), None));
        assert_eq!(forgotten.add(key, 8), ((8, 8), None));
        assert_eq!(forgotten.add(key, 7), ((5, 8), Some(8)));
        assert_eq!(forgotten.add(key, 4), ((4, 8), Some(5)));
        for (seq, known) in [(3, false), (4, true), (8, true), (9, false)] {
            assert_eq!(forgotten.contains(1, 7, seq), known, "{seq}");
            assert!(!forgotten.contains(2, 7, seq) && !forgotten.contains(1, 8, seq));
        }
    }

    #[test]
    fn a_conflict_is_the_first_one_once() {
        let mut forgotten = Forgotten::default();
        assert!(forgotten.first_conflict(1, 1, 1));
        assert!(!forgotten.first_conflict(1, 1, 1));
        assert!(forgotten.first_conflict(1, 1, 2));
    }
}
