//! What is deleted, and what is remembered of it. Nothing goes without a receipt, and nothing that the region refused,
//! put into quarantine or stored in part: of that the region keeps digests, so the facility has the only copy, until a
//! person has looked.
use super::{StoreError, parcels, runs::is_by_time};
use rusqlite::{Connection, Transaction, params};
use std::collections::{BTreeMap, HashMap};
use types::{Priority, Timestamp};

/// Samples that one step looks at, whether it deletes them or not: a step is one commit, so it must stay short beside
/// the samples that wait. The next step goes on where it stopped.
const STEP_ROWS: usize = 2_000;
/// Free pages that one step gives back to the file system.
const STEP_PAGES: i64 = 1_000;
/// A device, and an epoch within a run ([`super::runs::key`]).
type Key = (i64, i64);

/// A run of numbers, from its key in the map on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The last number.
    last: i64,
    /// The oldest and the newest source time of its samples, ms since 1970: what is older or newer was never stored.
    oldest_ms: i64,
    newest_ms: i64,
}

/// Which sequence numbers were stored once and deleted since, as runs of numbers.
#[derive(Default)]
pub(super) struct Forgotten {
    /// By (device, epoch), then by the first number.
    runs: HashMap<Key, BTreeMap<i64, Run>>,
}

impl Forgotten {
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut forgotten = Self::default();
        let mut query =
            db.prepare("SELECT device, epoch, first, last, oldest_ms, newest_ms FROM forgotten")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let key = (row.get(0)?, row.get(1)?);
            let runs = forgotten.runs.entry(key).or_default();
            let run = Run {
                last: row.get(3)?,
                oldest_ms: row.get(4)?,
                newest_ms: row.get(5)?,
            };
            runs.insert(row.get(2)?, run);
        }
        Ok(forgotten)
    }

    /// Begins anew after a commit that failed: runs may not have been written.
    pub(super) fn reload(&mut self, db: &Connection) -> rusqlite::Result<()> {
        *self = Self::load(db)?;
        Ok(())
    }

    /// If that sample was stored and deleted: the oldest and the newest source time (ms since 1970) of the run of
    /// numbers that it lies in.
    pub(super) fn times(&self, device: i64, epoch: i64, seq: i64) -> Option<(i64, i64)> {
        let runs = self.runs.get(&(device, epoch))?;
        let (_, run) = runs.range(..=seq).next_back()?;
        (seq <= run.last).then_some((run.oldest_ms, run.newest_ms))
    }

    /// Adds a number that was deleted; neighbours become one run. Returns the run with its first number, and the first
    /// number of the one that it swallowed.
    fn add(&mut self, key: Key, seq: i64, source_ms: i64) -> ((i64, Run), Option<i64>) {
        let runs = self.runs.entry(key).or_default();
        let mut first = seq;
        let mut run = Run {
            last: seq,
            oldest_ms: source_ms,
            newest_ms: source_ms,
        };
        // Of numbers that are source times nothing tells apart which were stored: they are one run, with what lies
        // between, so that a counter that stands still leaves one row.
        let joins =
            |from: i64, to: i64| from.saturating_add(1) >= to || is_by_time(from) && is_by_time(to);
        if let Some((start, before)) = runs.range(..=seq).next_back()
            && joins(before.last, seq)
        {
            first = *start;
            run = run.with(*before);
        }
        let after = seq.checked_add(1);
        let after = after.and_then(|after| runs.range(after..).next());
        let after = after.filter(|(start, _)| joins(seq, **start));
        let after = after.map(|(start, _)| *start);
        let swallowed = after.and_then(|start| runs.remove_entry(&start));
        if let Some((_, after)) = swallowed {
            run = run.with(after);
        }
        runs.insert(first, run);
        ((first, run), swallowed.map(|(start, _)| start))
    }
}

impl Run {
    fn with(self, other: Self) -> Self {
        Self {
            last: self.last.max(other.last),
            oldest_ms: self.oldest_ms.min(other.oldest_ms),
            newest_ms: self.newest_ms.max(other.newest_ms),
        }
    }
}

/// Where the last step stopped looking, in the order of arrival: that of a device's numbers may be another, since there
/// are devices that count down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    arrived_ms: i64,
    device: i64,
    epoch: i64,
    seq: i64,
}

impl Default for Cursor {
    fn default() -> Self {
        Self {
            arrived_ms: i64::MIN,
            device: i64::MIN,
            epoch: 0,
            seq: i64::MIN,
        }
    }
}

/// What one step of retention did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Old samples that it looked at.
    pub looked: usize,
    /// Samples that it deleted.
    pub deleted: usize,
    /// Whether it came to the end of the samples: the next step begins anew.
    pub done: bool,
}

struct Old {
    at: Cursor,
    source_ms: i64,
    taken: bool,
}

/// One bounded step: deletes samples that arrived before `cutoff` and whose parcel the region has taken.
pub(super) fn step(
    tx: &Transaction<'_>,
    forgotten: &mut Forgotten,
    cursor: &mut Cursor,
    cutoff: Timestamp,
) -> Result<Swept, StoreError> {
    let old = look(tx, *cursor, cutoff)?;
    let mut swept = Swept {
        looked: old.len(),
        deleted: 0,
        done: old.len() < STEP_ROWS,
    };
    for sample in old.iter().filter(|sample| sample.taken) {
        delete(tx, forgotten, sample)?;
        swept.deleted += 1;
    }
    *cursor = match old.last() {
        Some(last) if !swept.done => last.at,
        _ => Cursor::default(),
    };
    give_back(tx)?;
    Ok(swept)
}

/// The next old samples, in the order of their arrival.
fn look(tx: &Transaction<'_>, from: Cursor, cutoff: Timestamp) -> Result<Vec<Old>, StoreError> {
    let mut query = tx.prepare_cached(
        "SELECT arrived_ms, device, epoch, seq, priority, parcel, source_ms FROM sample INDEXED BY sample_arrived
         WHERE arrived_ms < ?5 AND (arrived_ms, device, epoch, seq) > (?1, ?2, ?3, ?4)
         ORDER BY arrived_ms, device, epoch, seq LIMIT ?6",
    )?;
    let limit = i64::try_from(STEP_ROWS).unwrap_or(i64::MAX);
    let mut rows = query.query(params![
        from.arrived_ms,
        from.device,
        from.epoch,
        from.seq,
        cutoff.0,
        limit
    ])?;
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        let at = Cursor {
            arrived_ms: row.get(0)?,
            device: row.get(1)?,
            epoch: row.get(2)?,
            seq: row.get(3)?,
        };
        let priority = Priority::from_rank(row.get(4)?);
        let parcel: Option<i64> = row.get(5)?;
        let taken = match (priority, parcel) {
            (Some(priority), Some(parcel)) => parcels::is_taken(tx, priority, parcel)?,
            _ => false,
        };
        old.push(Old {
            at,
            source_ms: row.get(6)?,
            taken,
        });
    }
    Ok(old)
}

fn delete(tx: &Transaction<'_>, forgotten: &mut Forgotten, sample: &Old) -> Result<(), StoreError> {
    let Cursor {
        device, epoch, seq, ..
    } = sample.at;
    tx.prepare_cached("DELETE FROM sample WHERE device = ?1 AND epoch = ?2 AND seq = ?3")?
        .execute(params![device, epoch, seq])?;
    tx.prepare_cached("DELETE FROM withdrawal WHERE device = ?1 AND epoch = ?2 AND seq = ?3")?
        .execute(params![device, epoch, seq])?;
    let ((first, run), swallowed) = forgotten.add((device, epoch), seq, sample.source_ms);
    if let Some(first) = swallowed {
        tx.prepare_cached("DELETE FROM forgotten WHERE device = ?1 AND epoch = ?2 AND first = ?3")?
            .execute(params![device, epoch, first])?;
    }
    tx.prepare_cached(
        "INSERT INTO forgotten (device, epoch, first, last, oldest_ms, newest_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (device, epoch, first) DO UPDATE SET last = ?4, oldest_ms = ?5, newest_ms = ?6",
    )?
    .execute(params![device, epoch, first, run.last, run.oldest_ms, run.newest_ms])?;
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
    use super::{super::runs::by_time, *};

    #[test]
    fn forgotten_numbers_become_runs_without_gaps_and_know_their_times() {
        let mut forgotten = Forgotten::default();
        let key = (1, 7);
        let run = |first, last, oldest_ms, newest_ms| {
            let run = Run {
                last,
                oldest_ms,
                newest_ms,
            };
            (first, run)
        };
        assert_eq!(forgotten.add(key, 5, 50), (run(5, 5, 50, 50), None));
        assert_eq!(forgotten.add(key, 6, 40), (run(5, 6, 40, 50), None));
        assert_eq!(forgotten.add(key, 8, 80), (run(8, 8, 80, 80), None));
        assert_eq!(forgotten.add(key, 7, 70), (run(5, 8, 40, 80), Some(8)));
        assert_eq!(forgotten.add(key, 4, 10), (run(4, 8, 10, 80), Some(5)));
        // Source times are one run, whatever lies between, and no neighbours of numbers.
        let (early, late) = (by_time(1_000), by_time(9_000));
        assert_eq!(
            forgotten.add(key, late, 90),
            (run(late, late, 90, 90), None)
        );
        assert_eq!(
            forgotten.add(key, early, 10),
            (run(early, late, 10, 90), Some(late))
        );
        assert_eq!(forgotten.times(1, 7, by_time(5_000)), Some((10, 90)));
        assert_eq!(forgotten.times(1, 7, by_time(9_001)), None);
        for (seq, known) in [
            (3, None),
            (4, Some((10, 80))),
            (8, Some((10, 80))),
            (9, None),
        ] {
            assert_eq!(forgotten.times(1, 7, seq), known, "{seq}");
            assert_eq!(forgotten.times(2, 7, seq), None);
            assert_eq!(forgotten.times(1, 8, seq), None);
        }
    }
}
