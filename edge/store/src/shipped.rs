//! What is remembered of parcels after they left: how many readings each held, and as which parcel the region took what it
//! had not taken at first. [`super::resync`] counts a gap with it.
use super::StoreError;
use rusqlite::{Transaction, params};
use types::{Priority, Timestamp};

/// Parcels whose number of readings is remembered, some 30 bytes each: weeks of a busy facility. A gap that is older is
/// declared without them.
const MAX_SHIPPED: i64 = 262_144;

/// Remembers how many readings a parcel holds.
pub(super) fn note(
    tx: &Transaction<'_>,
    priority: Priority,
    parcel: i64,
    readings: usize,
    now: Timestamp,
) -> Result<(), StoreError> {
    let readings = i64::try_from(readings).unwrap_or(i64::MAX);
    tx.prepare_cached(
        "INSERT INTO shipped (priority, parcel, readings, at_ms) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![priority.rank(), parcel, readings, now.0])?;
    Ok(())
}

/// Remembers as which parcel the region took what it had not taken at first.
pub(super) fn note_cured(
    tx: &Transaction<'_>,
    (priority, parcel): (Priority, i64),
    (now_priority, now_parcel): (Priority, u64),
) -> Result<(), StoreError> {
    tx.prepare_cached("INSERT OR REPLACE INTO cured VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            priority.rank(),
            parcel,
            now_priority.rank(),
            i64::try_from(now_parcel).unwrap_or(i64::MAX)
        ])?;
    Ok(())
}

/// Forgets the oldest beyond the bound.
pub(super) fn forget(tx: &Transaction<'_>) -> Result<(), StoreError> {
    tx.prepare_cached("DELETE FROM shipped WHERE n <= (SELECT max(n) FROM shipped) - ?1")?
        .execute([MAX_SHIPPED])?;
    Ok(())
}
