//! The audit log of a node that starts.
use crate::{
    audit::{self, Decision, Entry, Signer, append, heads, sign_head},
    db::DbError,
    gap,
    wire::Loss,
};
use rusqlite::Connection;
use types::{Place, Timestamp};

/// The log of a node that starts: an empty one begins with an entry, so that a node that has run has a head. One that
/// is empty though its node `has_run` was emptied, which is a gap. The tables of [`crate::gap`] must be there too.
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub fn begin_log(
    tx: &Connection,
    me: &Place,
    signer: &Signer,
    now: Timestamp,
    has_run: bool,
) -> Result<(), DbError> {
    if !audit::is_empty(tx)? {
        return Ok(());
    }
    heads::forget_beyond(tx, 0)?;
    let event = |decision, reason| Entry::of_event(now, decision, reason, (me, me), 0);
    append(tx, &event(Decision::Started, ""))?;
    if has_run {
        append(tx, &event(Decision::PutBack, gap::LOG_LOST))?;
        gap::declare(tx, (me, me), gap::LOG_LOST, &Loss::default(), now)?;
    }
    sign_head(tx, signer)
}
