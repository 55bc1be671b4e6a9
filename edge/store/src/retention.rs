//! What is deleted; what is remembered of it is in [`super::forgotten`]. Nothing goes without a receipt, and nothing that the
//! region refused, put into quarantine or stored in part: of that the region keeps digests, so the facility has the only
//! copy, until a person has looked.
use super::{
    StoreError, apply::Apply, forgotten::Forgotten, meta, parcels, retained, shipped, steps::Swept,
};
use rusqlite::{Transaction, params};
use types::{Priority, Timestamp};

/// Samples that one step looks at, whether it deletes them or not: a step is one commit, so it must stay short beside
/// the samples that wait. The next step goes on where it stopped.
const STEP_ROWS: usize = 2_000;
/// Free pages that one step gives back to the file system.
const STEP_PAGES: i64 = 1_000;

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

impl Apply<'_> {
    /// One step of retention, and the time kept as the floor of the clock at the next boot (an untrusted one too: it
    /// is the floor run on).
    pub(super) fn housekeep(
        &mut self,
        cursor: &mut Cursor,
        cutoff: Timestamp,
    ) -> Result<Swept, StoreError> {
        meta::set(self.tx, meta::TIME, self.now.real.0)?;
        retained::drop_lapsed(self.tx, self.now)?;
        shipped::forget(self.tx)?;
        step(self.tx, self.forgotten, cursor, cutoff)
    }
}

struct Old {
    at: Cursor,
    source_ms: i64,
    taken: bool,
}

/// One bounded step: deletes samples that arrived before `cutoff` and whose parcel the region has taken.
fn step(
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
