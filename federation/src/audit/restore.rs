//! A person has seen that a node was put back: its gaps are acknowledged, and the heads that its log does not hold any
//! more are set aside.
use super::{Decision, Entry, Signer, append, heads, sign_head, witness::Witness};
use crate::{
    db::DbError,
    gap::{self, LOG_LOST},
    port::{PortError, PortErrorKind},
};
use rusqlite::{Connection, TransactionBehavior};
use types::{Place, Timestamp};

/// The node whose log it is.
pub struct Node<'a> {
    /// Its place.
    pub place: &'a Place,
    /// Signs its log.
    pub signer: &'a Signer,
    /// What its peers said that they hold of it.
    pub witness: &'a Witness,
    /// Real time.
    pub now: Timestamp,
}

/// What was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Gaps.
    pub gaps: usize,
    /// Heads that were set aside.
    pub heads: usize,
}

/// Acknowledges what is open, in one commit, and then sets the heads aside that the log does not hold. Twice is once.
///
/// # Errors
/// [`PortError`]; unavailable when a file cannot be written.
pub fn acknowledge(conn: &mut Connection, node: &Node<'_>) -> Result<Acknowledged, PortError> {
    const OP: &str = "acknowledge a restore";
    let gaps = write(conn, node).map_err(|error| error.port(OP))?;
    let held = |head: &_| heads::holds(conn, head).unwrap_or(true);
    let heads = node.witness.set_aside(held).map_err(|error| PortError {
        kind: PortErrorKind::Unavailable,
        op: OP,
        source: Some(error.into()),
    })?;
    Ok(Acknowledged { gaps, heads })
}

fn write(conn: &mut Connection, node: &Node<'_>) -> Result<usize, DbError> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = super::time_beside(&tx, node.now)?;
    let gaps = gap::acknowledge(&tx, node.place, now)?;
    let mut lost = 0;
    for note in node.witness.heads().unwrap_or_default() {
        if let Some(head) = node.witness.open(&note) {
            lost += u32::from(!heads::holds(&tx, &head)?);
        }
    }
    if lost > 0 {
        let here = (node.place, node.place);
        let entry = Entry::of_event(now, Decision::GapAcknowledged, LOG_LOST, here, lost);
        append(&tx, &entry)?;
    }
    if gaps > 0 || lost > 0 {
        sign_head(&tx, node.signer)?;
        tx.commit()?;
    }
    Ok(gaps)
}
