//! What is remembered of samples that retention deleted: their numbers, as runs of numbers, with the times between which
//! they were measured.
use super::runs::is_by_time;
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};

/// A device, and an epoch within a run ([`super::runs::key`]).
type Key = (i64, i64);

/// A run of numbers, from its key in the map on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The last number.
    pub(super) last: i64,
    /// The oldest and the newest source time of its samples, ms since 1970: what is older or newer was never stored.
    pub(super) oldest_ms: i64,
    pub(super) newest_ms: i64,
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
    pub(super) fn add(&mut self, key: Key, seq: i64, source_ms: i64) -> ((i64, Run), Option<i64>) {
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
