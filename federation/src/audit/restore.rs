//! A person has seen that a node was put back: its gaps are acknowledged, the heads that its log does not hold any more
//! are set aside, and where no head is left beside the log, the file begins anew.
use super::{
    Decision, Entry, Signer, append, checkpoint, frontier, heads, sign_head, witness::Witness,
};
use crate::{
    db::DbError,
    gap::{self, LOG_LOST},
    port::{PortError, PortErrorKind},
};
use rusqlite::{Connection, TransactionBehavior};
use std::io;
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Gaps.
    pub gaps: usize,
    /// Heads that were set aside.
    pub heads: usize,
    /// The file of heads was gone, or held none of this log, and begins anew.
    pub begun: bool,
}

/// Why the file of heads begins anew.
const HEADS_LOST: &str = "heads-lost";

/// Acknowledges what is open, in one commit, and then sets the heads aside that the log does not hold. Twice is once.
///
/// # Errors
/// [`PortError`]; unavailable when a file cannot be written.
pub fn acknowledge(conn: &mut Connection, node: &Node<'_>) -> Result<Acknowledged, PortError> {
    const OP: &str = "acknowledge a restore";
    let file = |source: io::Error| PortError {
        kind: PortErrorKind::Unavailable,
        op: OP,
        source: Some(source.into()),
    };
    let kept = node.witness.heads().map_err(file)?;
    let written = write(conn, node, &kept).map_err(|error| error.port(OP))?;
    let held = |head: &_| heads::holds(conn, head).unwrap_or(true);
    let heads = node.witness.set_aside(held).map_err(file)?;
    let now = checkpoint(conn).map_err(|error| error.port(OP))?;
    node.witness.create().map_err(file)?;
    node.witness.begin(&now.unwrap_or_default()).map_err(file)?;
    Ok(Acknowledged { heads, ..written })
}

fn write(conn: &mut Connection, node: &Node<'_>, kept: &[String]) -> Result<Acknowledged, DbError> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = super::time_beside(&tx, node.now)?;
    let gaps = gap::acknowledge(&tx, node.place, now)?;
    let mut lost = 0;
    for note in kept {
        if let Some(head) = node.witness.open(note) {
            lost += u32::from(!heads::holds(&tx, &head)?);
        }
    }
    let size = frontier(&tx)?.size();
    let begun = kept.is_empty() && size > 0;
    let here = (node.place, node.place);
    for (is_so, reason, count) in [(lost > 0, LOG_LOST, lost), (begun, HEADS_LOST, 0)] {
        if is_so {
            let entry = Entry::of_event(now, Decision::GapAcknowledged, reason, here, count);
            append(&tx, &entry)?;
        }
    }
    if gaps > 0 || lost > 0 || begun {
        heads::forget_beyond(&tx, frontier(&tx)?.size())?;
        sign_head(&tx, node.signer)?;
        tx.commit()?;
    }
    Ok(Acknowledged {
        gaps,
        heads: 0,
        begun,
    })
}
