//! A node whose operator says that it was put back from a backup: its log says so, and it doubts everybody below it.
//!
//! Whoever delivers to this node and agrees with it may have been put back to the same moment, and cannot know
//! ([`crate::meet`]); a person who restores knows. So nothing of a sender below is taken before it has met this node: one
//! that has what is missing ships it again, and one that agrees begins anew, with a gap at both ends. What comes down is
//! sent again by whoever keeps it ([`crate::ledger::Ledger::lacking`]).
use crate::{
    audit::{self, Decision, Entry, Signer},
    db::DbError,
    inbox,
    outbox::is_below,
    port::PortError,
};
use rusqlite::{Connection, TransactionBehavior};
use types::{Place, Timestamp};

/// Why the log has a row.
const FROM_BACKUP: &str = "restored-from-backup";

/// Marks the tables of a node that is not running as put back: how many senders are doubted.
///
/// # Errors
/// [`PortError`]; nothing was changed.
pub fn mark(
    connection: &mut Connection,
    here: &Place,
    signer: &Signer,
    now: Timestamp,
) -> Result<usize, PortError> {
    write(connection, here, signer, now).map_err(|error| error.port("mark a restore"))
}

fn write(
    connection: &mut Connection,
    here: &Place,
    signer: &Signer,
    now: Timestamp,
) -> Result<usize, DbError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let doubted = inbox::doubt_all(&tx, |sender| is_below(sender, here))?;
    let time = audit::time_beside(&tx, now)?;
    let entry = Entry::of_event(time, Decision::PutBack, FROM_BACKUP, (here, here), 0);
    audit::append(&tx, &entry)?;
    audit::sign_head(&tx, signer)?;
    tx.commit()?;
    Ok(doubted)
}
