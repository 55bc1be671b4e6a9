//! What is desired and settled: brought about, or refused by somebody. What is neither is tried again, ever more seldom.
use super::{MAX_RETRY_MS, RETRY_MS, rows::Row};
use commands::{Reason, State};
use federation::{db::DbError, ledger::Commit};
use rusqlite::params;

/// What has ended and is not wanted again by itself: it was refused.
const REFUSED: u8 = 1;
/// What was brought about: it is wanted again when the device has it no more.
pub const DONE: u8 = 2;
/// What is desired of a device that its facility has no more: it is wanted again when the facility has the device again.
pub const RESTS: u8 = 3;

/// A command of a twin has come to an end: what it was to bring about is settled, or is tried again. What was refused for a
/// reason that may pass nobody has decided about: it is tried again as what failed, and so is what a device left without an
/// answer for another command before its time.
pub fn follow(commit: &mut Commit<'_>, row: &Row, state: State) -> Result<(), DbError> {
    let Some(property) = row.property.as_ref().filter(|_| state.is_end()) else {
        return Ok(());
    };
    let (device, id, now) = (row.device.as_bytes(), row.id.as_bytes(), commit.now());
    let reason = row.history.events().last().and_then(|event| event.reason);
    let settled = match (state, reason) {
        (State::Acknowledged, _) => Some(DONE),
        (State::Refused, Some(reason)) if reason.may_pass() => None,
        (State::Refused, _) => Some(REFUSED),
        _ => None,
    };
    let was_left = reason == Some(Reason::Unanswered) && row.expires > now;
    let tx = commit.tx();
    if let Some(settled) = settled {
        let sql = "UPDATE want SET settled = ?4, failures = 0 WHERE device = ?1 AND property = ?2 AND command = ?3";
        let by = params![device, property, id, settled];
        tx.prepare_cached(sql)?.execute(by)?;
    } else if state == State::Expired && !was_left {
        let sql = "UPDATE want SET command = NULL, retry = ?4 WHERE device = ?1 AND property = ?2 AND command = ?3";
        let by = params![device, property, id, now.0];
        tx.prepare_cached(sql)?.execute(by)?;
    } else {
        let sql = "UPDATE want SET command = NULL, failures = failures + 1, retry = ?4 + min(?5 << min(failures, 16), ?6) \
             WHERE device = ?1 AND property = ?2 AND command = ?3";
        let by = params![device, property, id, now.0, RETRY_MS, MAX_RETRY_MS];
        tx.prepare_cached(sql)?.execute(by)?;
    }
    Ok(())
}
