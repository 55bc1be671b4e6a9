//! The audit log of a node: an append-only Merkle log of residency decisions, in tables of the caller's database.
//!
//! An entry is one line of JSON with its keys in a fixed order: that text is the leaf (RFC 6962 §2.1, C2SP
//! tlog-tiles), and nothing else of the entry is stored, so that no column can say something the leaf does not. It
//! holds who, what class, why, how many and a digest; never a payload. The tree's frontier is stored beside it, so an
//! append costs O(log n) hashes.
//!
//! [`append`] runs in the transaction that stores what was decided, and [`sign_head`] runs once in the same
//! transaction after the last append: every committed state has its own signed head, and there is no state in which
//! a parcel waits but its decision is not in the signed log. Signing on a timer would save tens of microseconds beside an
//! fsync and leave a tail that nobody vouches for.
//!
//! It is not the witness: that an old copy of the whole file was not put back is seen by who holds a later head
//! ([`verify`] takes such heads).

use crate::db::{self, Count, DbError, migrate};
use crate::merkle::{Frontier, Hash, leaf_hash};
use crate::note::{self, TreeHead};
use ed25519_dalek::SigningKey;
use rusqlite::{Connection, OptionalExtension as _};
use types::{Place, Timestamp};

mod decision;
mod entry;
mod export;
pub mod heads;
mod log;
pub mod restore;
mod verify;
pub mod witness;
pub use decision::{Decision, count};
pub use entry::{Asked, Entry, about};
pub use export::{ExportError, export};
pub use log::Log;
pub use verify::{VerifyError, verify};

const SCHEMA: &[&str] = &["
CREATE TABLE IF NOT EXISTS audit_entry (
    idx  INTEGER PRIMARY KEY,             -- position in the log, dense from 0
    leaf BLOB NOT NULL                    -- the canonical entry
) STRICT;
CREATE TABLE IF NOT EXISTS audit_head (
    only       INTEGER PRIMARY KEY CHECK (only = 0),
    size       INTEGER NOT NULL,          -- entries
    frontier   BLOB NOT NULL,             -- roots of the perfect subtrees, 32 bytes each, the largest first
    checkpoint TEXT NOT NULL              -- the last signed head
) STRICT;
INSERT OR IGNORE INTO audit_head VALUES (0, 0, x'', '');
", heads::HEADS, heads::FRONTIERS, heads::EVERY_FRONTIER, heads::TOLD];

/// The part of the schema that this is.
const PART: &str = "audit";

/// Entries that a log has at most when nothing but its beginning is in it.
const BEGINNING: u32 = 2;

/// A machine's clock that is so far ahead of the last entry is not believed, in ms: 90 days, as an edge's is not.
const MAX_AHEAD_MS: i64 = 90 * 86_400_000;

/// Who signs the heads of a log.
pub struct Signer {
    origin: String,
    key: SigningKey,
}

/// Begins the name of every log.
pub(crate) const ORIGIN: &str = "medmesh/";

/// The name of a place's log: `medmesh/edge/us/us/us-f1`.
#[must_use]
pub fn origin(place: &Place) -> String {
    format!("{ORIGIN}{place}")
}

impl Signer {
    /// The signer of a place's log; `key` is the node's key that its certificate states.
    #[must_use]
    pub fn new(place: &Place, key: SigningKey) -> Self {
        Self {
            origin: origin(place),
            key,
        }
    }

    /// The key that its heads are verified with.
    #[must_use]
    pub fn verifying_key(&self) -> ed25519_dalek::VerifyingKey {
        self.key.verifying_key()
    }

    /// A text that is no head, as a note of another name, and the key that it is verified with. Its first line is the
    /// name, and it ends with a newline.
    #[must_use]
    pub fn sign_text(&self, text: &str, name: &str) -> (String, String) {
        let key = note::verifier_key(name, &self.verifying_key());
        (note::sign(text, name, &self.key), key)
    }

    /// The head in a note, if it is one of this log that this key signed.
    #[must_use]
    pub fn open(&self, note: &str) -> Option<TreeHead> {
        TreeHead::open(note, &self.origin, &self.verifying_key()).ok()
    }
}

/// Makes the tables, or brings them up to date.
///
/// # Errors
/// [`DbError`]; [`DbError::Newer`] when a newer program wrote them.
pub fn schema(conn: &Connection) -> Result<(), DbError> {
    if (1..=heads::WITHOUT_EARLIER).contains(&db::version(conn, PART)?) {
        let earlier = SCHEMA.get(..heads::WITHOUT_EARLIER as usize);
        migrate(conn, PART, earlier.unwrap_or_default())?;
        heads::keep_earlier(conn)?;
    }
    migrate(conn, PART, SCHEMA)
}

/// Appends an entry and returns its position. Call it within the transaction that stores what was decided.
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub fn append(tx: &Connection, entry: &Entry) -> Result<u64, DbError> {
    append_all(tx, std::slice::from_ref(entry))
}

/// Appends entries in their order and returns the position of the first.
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub(crate) fn append_all(tx: &Connection, entries: &[Entry]) -> Result<u64, DbError> {
    let mut frontier = frontier(tx)?;
    let first = frontier.size();
    let mut insert = tx.prepare_cached("INSERT INTO audit_entry (idx, leaf) VALUES (?1, ?2)")?;
    for entry in entries {
        let leaf = entry.encode()?;
        insert.execute((Count(frontier.size()), &leaf))?;
        frontier.push(leaf_hash(&leaf));
        heads::remember(tx, &frontier)?;
    }
    tx.prepare_cached("UPDATE audit_head SET size = ?1, frontier = ?2")?
        .execute((Count(frontier.size()), frontier.roots().concat()))?;
    Ok(first)
}

/// Signs the head after the last append of a transaction, in that transaction.
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub fn sign_head(tx: &Connection, signer: &Signer) -> Result<(), DbError> {
    let frontier = frontier(tx)?;
    let head = TreeHead {
        origin: signer.origin.clone(),
        size: frontier.size(),
        root: frontier.root(),
    };
    tx.prepare_cached("UPDATE audit_head SET checkpoint = ?1")?
        .execute([head.sign(&signer.key)])?;
    Ok(())
}

/// Whether the log has no entry: before it begins, the file of its heads is made ([`witness::Witness::create`]).
///
/// # Errors
/// [`DbError`].
pub fn is_empty(conn: &Connection) -> Result<bool, DbError> {
    Ok(frontier(conn)?.size() == 0)
}

/// The head of a log that holds nothing but its beginning: what the file of its heads begins with
/// ([`witness::Witness::begin`]). None of a log that has grown.
///
/// # Errors
/// [`DbError`].
pub fn first_head(conn: &Connection) -> Result<Option<String>, DbError> {
    let first = match list(conn, 0, BEGINNING + 1) {
        // Entries that are not canonical are found when the log is verified; the node starts, and says so.
        Err(DbError::Corrupt(_)) => return Ok(None),
        listed => listed?,
    };
    let begins = |(_, entry): &(u64, Entry)| {
        matches!(entry.decision(), Decision::Started | Decision::PutBack)
    };
    if first.len() <= BEGINNING as usize && first.iter().all(begins) {
        checkpoint(conn)
    } else {
        Ok(None)
    }
}

/// The last signed head, in the format of C2SP tlog-checkpoint; none before the first.
///
/// # Errors
/// [`DbError`].
pub fn checkpoint(conn: &Connection) -> Result<Option<String>, DbError> {
    let note: String = conn
        .prepare_cached("SELECT checkpoint FROM audit_head")?
        .query_row([], |row| row.get(0))?;
    Ok((!note.is_empty()).then_some(note))
}

/// Entries from a position on, at most `limit`, in order.
///
/// # Errors
/// [`DbError`]; [`DbError::Corrupt`] when an entry is not canonical.
pub fn list(conn: &Connection, start: u64, limit: u32) -> Result<Vec<(u64, Entry)>, DbError> {
    let mut statement = conn.prepare_cached(
        "SELECT idx, leaf FROM audit_entry WHERE idx >= ?1 ORDER BY idx LIMIT ?2",
    )?;
    let mut rows = statement.query((Count(start), limit))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let leaf: Vec<u8> = row.get(1)?;
        entries.push((row.get::<_, Count>(0)?.0, Entry::decode(&leaf)?));
    }
    Ok(entries)
}

/// The last entry; none in an empty log.
///
/// # Errors
/// [`DbError`]; [`DbError::Corrupt`] when it is not canonical.
pub fn last(conn: &Connection) -> Result<Option<Entry>, DbError> {
    let leaf: Option<Vec<u8>> = conn
        .prepare_cached("SELECT leaf FROM audit_entry ORDER BY idx DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    leaf.map(|leaf| Entry::decode(&leaf)).transpose()
}

/// The time for an entry that a command writes beside the node: the machine's, unless it lies before the last entry, or
/// so far behind it that the machine's clock is in doubt. A node that starts again does not go back before its last
/// entry, so a wrong time here would stay.
///
/// # Errors
/// [`DbError`].
pub fn time_beside(conn: &Connection, now: Timestamp) -> Result<Timestamp, DbError> {
    let last = last(conn)?.and_then(|entry| entry.time());
    let is_doubtful = |last: &Timestamp| !(last.0..=last.0 + MAX_AHEAD_MS).contains(&now.0);
    Ok(last.filter(is_doubtful).unwrap_or(now))
}

/// The leaf hashes of the first `size` entries, for [`crate::merkle::inclusion_proof`] and
/// [`crate::merkle::consistency_proof`]. 32 bytes an entry.
///
/// # Errors
/// [`DbError`]; [`DbError::Corrupt`] when there are fewer.
pub fn leaf_hashes(conn: &Connection, size: u64) -> Result<Vec<Hash>, DbError> {
    let mut statement = conn.prepare("SELECT leaf FROM audit_entry WHERE idx < ?1 ORDER BY idx")?;
    let rows = statement.query_map([Count(size)], |row| {
        Ok(leaf_hash(row.get_ref(0)?.as_blob()?))
    })?;
    let hashes = rows.collect::<Result<Vec<Hash>, _>>()?;
    if hashes.len() as u64 == size {
        Ok(hashes)
    } else {
        Err(DbError::Corrupt("audit log has gaps"))
    }
}

fn frontier(conn: &Connection) -> Result<Frontier, DbError> {
    let stored: Option<(Count, Vec<u8>)> = conn
        .prepare_cached("SELECT size, frontier FROM audit_head")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (Count(size), roots) = stored.ok_or(DbError::Corrupt("audit head"))?;
    frontier_of(size, &roots)
}

/// The frontier of a size whose roots are stored one behind the other.
fn frontier_of(size: u64, roots: &[u8]) -> Result<Frontier, DbError> {
    let (roots, rest) = roots.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(DbError::Corrupt("audit head"));
    }
    Frontier::from_parts(size, roots.to_vec()).ok_or(DbError::Corrupt("audit head"))
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
