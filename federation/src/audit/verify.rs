//! Whether an audit log is what was signed, and whether what is kept beside it is of it.
use super::{Entry, checkpoint, frontier, heads, heads::Kept, witness::HEADS_FILE};
use crate::db::{Count, DbError};
use crate::merkle::{Frontier, leaf_hash};
use crate::note::{NoteError, TreeHead};
use crate::port::PortErrorKind;
use ed25519_dalek::VerifyingKey;
use rusqlite::Connection;
use std::io;

/// Why a log is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read, or an entry is not canonical.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A position is missing or doubled.
    #[error("the log has {found} where entry {expected} should be")]
    Gap {
        /// The position that should follow.
        expected: u64,
        /// The position that does.
        found: u64,
    },
    /// The entries are not those that were signed.
    #[error("the entries up to {size} are not those that were signed")]
    Root {
        /// Entries that the signed head covers.
        size: u64,
    },
    /// Entries were added, or taken away, without a signature.
    #[error("the log has {entries} entries, a signed head of it {signed}")]
    Size {
        /// Entries in the log.
        entries: u64,
        /// Entries that a signed head covers: its own, or one that others hold.
        signed: u64,
    },
    /// A head is not signed by the log's key.
    #[error("signed head: {0}")]
    Note(#[from] NoteError),
    /// What is kept of the tree at a size, to compare heads with, is not of these entries, or is missing.
    #[error("the frontier that is kept of the first {size} entries is not of them")]
    Frontier {
        /// Entries.
        size: u64,
    },
    /// A head that is kept of another node's log is not the one that was taken.
    #[error("the head that is kept of {origin} is not one of its log")]
    Peer {
        /// The name of that log.
        origin: String,
    },
    /// The file of heads beside the log is gone, or holds none, though the log has entries.
    #[error(
        "no signed head is beside the log, in {HEADS_FILE}, though its node has run: once you know why, `medmesh audit acknowledge`"
    )]
    NoHeadBeside,
    /// The file of heads beside the log cannot be read.
    #[error("{HEADS_FILE}: {0}")]
    File(io::Error),
}

impl VerifyError {
    /// Unavailable when looking again may find otherwise; else the log is not to be believed.
    #[must_use]
    pub fn kind(&self) -> PortErrorKind {
        match self {
            Self::File(error) => match error.kind() {
                // As somebody left it, not as a machine that is short of something.
                io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => {
                    PortErrorKind::Corrupt
                }
                _ => PortErrorKind::Unavailable,
            },
            _ => PortErrorKind::Corrupt,
        }
    }
}

/// Recomputes the whole log and compares it with its own signed head and with every head that others hold of it.
/// Any edited, dropped, reordered or added entry is found; so is a fork or an old copy, when `witnessed` has a head of
/// the true log. What heads are compared with while the node runs must be of these entries too.
///
/// # Errors
/// [`VerifyError`], the first that is found.
pub fn verify(
    conn: &Connection,
    origin: &str,
    key: &VerifyingKey,
    witnessed: &[String],
) -> Result<TreeHead, VerifyError> {
    let Some(own) = checkpoint(conn)? else {
        return unsigned(conn, origin, witnessed);
    };
    let own = TreeHead::open(&own, origin, key)?;
    let mut heads = witnessed
        .iter()
        .map(|note| TreeHead::open(note, origin, key))
        .collect::<Result<Vec<_>, _>>()?;
    heads.push(own.clone());
    let frontier_now = recompute(conn, &heads)?;
    let entries = frontier_now.size();
    if let Some(head) = heads.iter().find(|head| head.size > entries) {
        return Err(VerifyError::Size {
            entries,
            signed: head.size,
        });
    }
    if own.size != entries {
        return Err(VerifyError::Size {
            entries,
            signed: own.size,
        });
    }
    if frontier(conn)? != frontier_now {
        return Err(VerifyError::Root { size: entries });
    }
    match heads::mistaken(conn)? {
        Some(origin) => Err(VerifyError::Peer { origin }),
        None => Ok(own),
    }
}

/// A log without a head is empty and known to nobody.
fn unsigned(
    conn: &Connection,
    origin: &str,
    witnessed: &[String],
) -> Result<TreeHead, VerifyError> {
    let entries = recompute(conn, &[])?;
    if entries.size() == 0 && witnessed.is_empty() {
        return Ok(TreeHead {
            origin: origin.to_owned(),
            size: 0,
            root: entries.root(),
        });
    }
    let signed = witnessed
        .iter()
        .filter_map(|note| TreeHead::read(note).ok());
    Err(VerifyError::Size {
        entries: entries.size(),
        signed: signed.map(|head| head.size).max().unwrap_or(0),
    })
}

/// Hashes every entry in order, and compares the root with each head as its size is passed.
fn recompute(conn: &Connection, heads: &[TreeHead]) -> Result<Frontier, VerifyError> {
    let mut frontier = Frontier::default();
    let mut due: Vec<&TreeHead> = heads.iter().collect();
    due.sort_unstable_by_key(|head| head.size);
    let mut due = due.into_iter().peekable();
    let mut compare = |frontier: &Frontier| {
        while let Some(head) = due.next_if(|head| head.size == frontier.size()) {
            if head.root != frontier.root() {
                return Err(VerifyError::Root { size: head.size });
            }
        }
        Ok(())
    };
    compare(&frontier)?;
    let mut kept = Kept::of(conn)?;
    let mut statement = conn
        .prepare("SELECT idx, leaf FROM audit_entry ORDER BY idx")
        .map_err(DbError::from)?;
    let mut rows = statement.query([]).map_err(DbError::from)?;
    while let Some(row) = rows.next().map_err(DbError::from)? {
        let Count(found) = row.get(0).map_err(DbError::from)?;
        let leaf: Vec<u8> = row.get(1).map_err(DbError::from)?;
        if found != frontier.size() {
            return Err(VerifyError::Gap {
                expected: frontier.size(),
                found,
            });
        }
        Entry::decode(&leaf)?;
        frontier.push(leaf_hash(&leaf));
        compare(&frontier)?;
        if !kept.agrees(&frontier) {
            let size = frontier.size();
            return Err(VerifyError::Frontier { size });
        }
    }
    match kept.rest() {
        Some(size) => Err(VerifyError::Frontier { size }),
        None => Ok(frontier),
    }
}
