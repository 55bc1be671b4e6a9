//! Runs of a device's sample counter that its epochs do not tell apart.
//!
//! A counter that restarts within its epoch says numbers again that were stored before. What is measured later under
//! such a number is another sample: the edge begins a run of its own for the device. What is stored is therefore
//! (device, run, epoch, sequence number), where run and epoch share one column ([`key`]): the device's epoch is its
//! lower half, so that rows which were written before there were runs are those of run 0.
//!
//! A run knows which source times lie in it: later than those of the run before when it began, and none later than its
//! newest. So a sample that comes again is looked for in the few runs which can hold it, however many there were.
//!
//! A counter that stands still would make a run of every sample. The second time that its number comes anew, with none
//! between, a run begins in which what comes under this number is told apart by its source time ([`by_time`]): so
//! a counter that stands still makes two runs, however long it does.
use rusqlite::{Connection, params};
use std::collections::{BTreeSet, HashMap};

/// Bits of the column that hold the device's epoch.
const EPOCH_BITS: u32 = 32;

/// What is stored for an epoch within a run.
pub(super) fn key(run: u32, epoch: u32) -> i64 {
    i64::from(run & (u32::MAX >> 1)) << EPOCH_BITS | i64::from(epoch)
}

/// The sequence number under which a sample is stored whose counter stands still: negative, which no device's is, and in
/// the order of source times (ms since 1970, within ±2^43).
pub(super) const fn by_time(source_ms: i64) -> i64 {
    source_ms - (1 << 62)
}

/// Whether a stored sequence number is of [`by_time`].
pub(super) const fn is_by_time(seq: i64) -> bool {
    seq < 0
}

/// Run and epoch of what is stored.
#[must_use]
pub fn split(key: i64) -> (u32, u32) {
    let run = u32::try_from(key >> EPOCH_BITS).unwrap_or(0);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    let epoch = (key & i64::from(u32::MAX)) as u32;
    (run, epoch)
}

/// Which source times lie in a run (ms since 1970): later than the first, not later than the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    after_ms: i64,
    newest_ms: i64,
    /// Whether the alarm was raised that a sample under an identity of this run was refused.
    alarmed: bool,
    /// Epoch and sequence number under which samples are told apart by their source time: the counter stood there.
    still: Option<(u32, i64)>,
}

impl Run {
    /// The run in which a device begins.
    const FIRST: Self = Self {
        after_ms: i64::MIN,
        newest_ms: i64::MIN,
        alarmed: false,
        still: None,
    };

    const fn may_hold(&self, source_ms: i64) -> bool {
        self.after_ms < source_ms && source_ms <= self.newest_ms
    }
}

/// The runs of every device, the oldest first. Their position is their number.
#[derive(Default)]
pub(super) struct Runs {
    of: HashMap<i64, Vec<Run>>,
    /// What this commit changed: (device, run).
    changed: BTreeSet<(i64, u32)>,
    /// Epoch and sequence number with which a device's newest run began, while no other number came.
    still: HashMap<i64, (u32, i64)>,
}

impl Runs {
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut runs = Self::default();
        let mut query = db.prepare(
            "SELECT device, after_ms, newest_ms, alarmed, still_epoch, still_seq FROM run ORDER BY device, run",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (epoch, seq): (Option<u32>, Option<i64>) = (row.get(4)?, row.get(5)?);
            runs.of.entry(row.get(0)?).or_default().push(Run {
                after_ms: row.get(1)?,
                newest_ms: row.get(2)?,
                alarmed: row.get(3)?,
                still: epoch.zip(seq),
            });
        }
        let newest = runs.of.iter();
        runs.still = newest
            .filter_map(|(device, runs)| Some((*device, runs.last()?.still?)))
            .collect();
        Ok(runs)
    }

    /// Writes down what this commit changed.
    pub(super) fn save(&mut self, db: &Connection) -> rusqlite::Result<()> {
        for (device, number) in std::mem::take(&mut self.changed) {
            let Some(run) = self.run(device, number) else {
                continue;
            };
            db.prepare_cached(
                "INSERT INTO run (device, run, after_ms, newest_ms, alarmed, still_epoch, still_seq)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (device, run) DO UPDATE SET newest_ms = ?4, alarmed = ?5",
            )?
            .execute(params![
                device,
                number,
                run.after_ms,
                run.newest_ms,
                run.alarmed,
                run.still.map(|(epoch, _)| epoch),
                run.still.map(|(_, seq)| seq),
            ])?;
        }
        Ok(())
    }

    fn run(&self, device: i64, number: u32) -> Option<Run> {
        let runs = self.of.get(&device)?;
        runs.get(usize::try_from(number).ok()?).copied()
    }

    /// The run that a sample of that source time belongs to, and those that it may have been stored in before: the
    /// newest first.
    pub(super) fn look(&self, device: i64, source_ms: i64) -> (u32, Vec<u32>) {
        let runs = self.of.get(&device).map_or(&[][..], Vec::as_slice);
        let end = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        let numbered = || (0..end).zip(runs).rev();
        let home = numbered()
            .find(|(_, run)| run.after_ms < source_ms)
            .map_or(0, |(number, _)| number);
        let others = numbered().filter(|(number, run)| *number != home && run.may_hold(source_ms));
        let mut all = vec![home];
        all.extend(others.map(|(number, _)| number));
        (home, all)
    }

    /// Under which sequence number a sample is stored in a run that its device gave this number: its source time's where
    /// the counter stood there.
    pub(super) fn seq_in(
        &self,
        (device, run): (i64, u32),
        number: (u32, i64),
        source_ms: i64,
    ) -> i64 {
        match self.run(device, run).and_then(|run| run.still) {
            Some(still) if still == number => by_time(source_ms),
            _ => number.1,
        }
    }

    /// The number of a run that begins with a sample of that source time, after everything that was stored before, and
    /// of the number at which the counter stands still, if it does.
    pub(super) fn begin(&mut self, device: i64, source_ms: i64, still: Option<(u32, i64)>) -> u32 {
        let runs = self.of.entry(device).or_insert_with(|| vec![Run::FIRST]);
        let newest_ms = runs.iter().map(|run| run.newest_ms).max();
        // A clock that went back a little begins its run where it is.
        let after_ms = newest_ms.unwrap_or(i64::MIN).min(source_ms - 1);
        runs.push(Run {
            after_ms,
            newest_ms: source_ms,
            alarmed: false,
            still,
        });
        let run = u32::try_from(runs.len() - 1).unwrap_or(u32::MAX);
        self.changed.insert((device, 0));
        self.changed.insert((device, run));
        run
    }

    /// Whether a device says this number again and again, each time of another sample: its counter stands still. That
    /// is one fault, however many runs it makes.
    pub(super) fn stands_still(&self, device: i64, number: (u32, i64)) -> bool {
        self.still.get(&device) == Some(&number)
    }

    /// A run began with this number, and it was said.
    pub(super) fn began_with(&mut self, device: i64, number: (u32, i64)) {
        self.still.insert(device, number);
    }

    /// A sample was stored under a number.
    pub(super) fn counted(&mut self, device: i64, number: (u32, i64)) {
        if self
            .still
            .get(&device)
            .is_some_and(|still| *still != number)
        {
            self.still.remove(&device);
        }
    }

    /// A sample was stored in a run.
    pub(super) fn stored(&mut self, device: i64, number: u32, source_ms: i64) {
        let runs = self.of.entry(device).or_insert_with(|| vec![Run::FIRST]);
        let run = usize::try_from(number).ok().and_then(|at| runs.get_mut(at));
        if let Some(run) = run
            && run.newest_ms < source_ms
        {
            run.newest_ms = source_ms;
            self.changed.insert((device, number));
        }
    }

    /// The newest source time of a device (ms since 1970), if anything of it was ever stored.
    pub(super) fn newest_ms(&self, device: i64) -> Option<i64> {
        self.of.get(&device)?.iter().map(|run| run.newest_ms).max()
    }

    /// Whether the alarm of a refusal in this run has not been raised.
    pub(super) fn is_first_refusal(&self, device: i64, number: u32) -> bool {
        self.run(device, number).is_none_or(|run| !run.alarmed)
    }

    /// The alarm of a refusal in this run is stored.
    pub(super) fn alarmed(&mut self, device: i64, number: u32) {
        let runs = self.of.entry(device).or_insert_with(|| vec![Run::FIRST]);
        let run = usize::try_from(number).ok().and_then(|at| runs.get_mut(at));
        if let Some(run) = run {
            run.alarmed = true;
            self.changed.insert((device, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_and_an_epoch_share_a_number_and_the_first_run_is_the_epoch_alone() {
        assert_eq!(key(0, 7), 7);
        assert_eq!(key(0, u32::MAX), i64::from(u32::MAX));
        for pair in [(0, 0), (1, 0), (1, u32::MAX), (u32::MAX >> 1, 9)] {
            assert_eq!(split(key(pair.0, pair.1)), pair);
        }
        assert!(key(1, 0) > key(0, u32::MAX));
    }

    #[test]
    fn a_sample_is_looked_for_in_the_runs_whose_times_can_hold_it() {
        let mut runs = Runs::default();
        assert_eq!(runs.look(1, 5), (0, vec![0]));
        for ms in [10, 20, 15] {
            runs.stored(1, 0, ms);
        }
        assert_eq!(runs.begin(1, 30, None), 1);
        runs.stored(1, 1, 40);
        assert_eq!(runs.begin(1, 50, None), 2);
        assert_eq!(runs.newest_ms(1), Some(50));
        for (source, home, all) in [
            (20, 0, vec![0]),
            (21, 1, vec![1]),
            (40, 1, vec![1]),
            (41, 2, vec![2]),
        ] {
            assert_eq!(runs.look(1, source), (home, all), "{source}");
        }
        // The clock went back by some hours with the counter: both runs can hold what it says then.
        assert_eq!(runs.begin(1, 35, None), 3);
        assert_eq!(runs.look(1, 36), (3, vec![3, 1]));
        assert_eq!(runs.look(1, 34), (1, vec![1]));
        assert_eq!(runs.look(2, 34), (0, vec![0]));
    }

    #[test]
    fn a_counter_stands_still_until_another_number_comes() {
        let mut runs = Runs::default();
        assert!(!runs.stands_still(1, (1, 7)));
        runs.began_with(1, (1, 7));
        runs.counted(1, (1, 7));
        assert!(runs.stands_still(1, (1, 7)));
        assert!(!runs.stands_still(2, (1, 7)));
        runs.counted(1, (1, 8));
        assert!(!runs.stands_still(1, (1, 7)));
        assert!(!runs.stands_still(1, (1, 8)));
    }

    #[test]
    fn runs_are_what_was_saved_of_them() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(super::super::schema::RUNS_TABLE).unwrap();
        db.execute_batch(super::super::schema::STILL).unwrap();
        let mut runs = Runs::default();
        runs.stored(7, 0, 100);
        runs.save(&db).unwrap();
        runs.begin(7, 200, None);
        runs.alarmed(7, 1);
        let lost = Runs::load(&db).unwrap();
        assert_eq!(lost.look(7, 300), (0, vec![0]));
        runs.save(&db).unwrap();
        let kept = Runs::load(&db).unwrap();
        assert_eq!(kept.of, runs.of);
        assert!(!kept.is_first_refusal(7, 1) && kept.is_first_refusal(7, 0));
        assert!(!kept.stands_still(7, (1, 5)));
        assert_eq!(runs.begin(7, 300, Some((1, 5))), 2);
        runs.save(&db).unwrap();
        let kept = Runs::load(&db).unwrap();
        assert_eq!(kept.of, runs.of);
        assert!(kept.stands_still(7, (1, 5)));
        assert_eq!(kept.seq_in((7, 2), (1, 5), 300), by_time(300));
        for (run, number) in [(1, (1, 5)), (2, (1, 6)), (2, (2, 5)), (9, (1, 5))] {
            assert_eq!(kept.seq_in((7, run), number, 300), number.1);
        }
    }
}
