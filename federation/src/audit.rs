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

use crate::db::{Count, DbError, migrate};
use crate::floor::Refusal;
use crate::merkle::{Frontier, Hash, leaf_hash};
use crate::note::{NoteError, TreeHead};
use crate::wire::{Body, Parcel, class_of_kind};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use types::{DataClass, Place, Purpose, Timestamp};

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
"];

/// The longest peer name that is written out, in bytes: a certificate's URI of five names fits; a longer one is
/// written as its digest.
const MAX_PEER_BYTES: usize = 255;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The sender let it go.
    Cleared,
    /// The sender kept it.
    Refused,
    /// The receiver let it in.
    Admitted,
    /// The receiver kept it out.
    Denied,
    /// The receiver did not speak with the peer at all.
    PeerDenied,
    /// The receiver told the sender that it refused a parcel.
    RefusedByPeer,
    /// The receiver told the sender that it put a parcel into quarantine.
    QuarantinedByPeer,
}

impl Decision {
    /// The label for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cleared => "cleared",
            Self::Refused => "refused",
            Self::Admitted => "admitted",
            Self::Denied => "denied",
            Self::PeerDenied => "peer-denied",
            Self::RefusedByPeer => "refused-by-peer",
            Self::QuarantinedByPeer => "quarantined-by-peer",
        }
    }
}

/// One entry. Its JSON, keys in this order and no white space, is the leaf. What does not apply is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    v: u8,
    time: String,
    decision: Decision,
    reason: String,
    class: String,
    purpose: String,
    from: String,
    to: String,
    kind: String,
    count: u32,
    id: String,
    digest: String,
}

impl Entry {
    fn blank(time: Timestamp, decision: Decision, reason: &'static str) -> Self {
        Self {
            v: 1,
            time: time.to_rfc3339(),
            decision,
            reason: reason.into(),
            class: String::new(),
            purpose: String::new(),
            from: String::new(),
            to: String::new(),
            kind: String::new(),
            count: 0,
            id: String::new(),
            digest: String::new(),
        }
    }

    /// The sender cleared an envelope and sealed it into this parcel, which it wrote itself.
    #[must_use]
    pub(crate) fn sealed(time: Timestamp, parcel: &Parcel) -> Self {
        Self {
            class: parcel.data_class.clone(),
            purpose: parcel.purpose.clone(),
            from: parcel.from.clone(),
            to: parcel.to.clone(),
            kind: parcel.kind.clone(),
            count: parcel.count,
            id: hex::encode(&parcel.id),
            digest: hex::encode(&parcel.digest),
            ..Self::blank(time, Decision::Cleared, "")
        }
    }

    /// The sender refused to clear an envelope.
    #[must_use]
    pub fn refused<T: Body>(
        time: Timestamp,
        refusal: Refusal,
        (from, to, purpose): (&Place, &Place, Purpose),
        count: u32,
    ) -> Self {
        Self {
            class: T::CLASS.as_str().into(),
            purpose: purpose.as_str().into(),
            from: from.to_string(),
            to: to.to_string(),
            kind: T::KIND.into(),
            count,
            ..Self::blank(time, Decision::Refused, refusal.reason())
        }
    }

    /// A parcel was let in or kept out by its receiver. Words of the parcel that are not from a closed set are left
    /// out, as a peer may have written anything there; `from` is the place that its certificate names.
    #[must_use]
    pub fn of_parcel(
        time: Timestamp,
        decision: Decision,
        reason: &'static str,
        from: &Place,
        to: &Place,
        parcel: &Parcel,
    ) -> Self {
        let known = class_of_kind(&parcel.kind);
        let purpose = Purpose::parse(&parcel.purpose);
        Self {
            class: known.map_or("", DataClass::as_str).into(),
            purpose: purpose.map_or("", Purpose::as_str).into(),
            from: from.to_string(),
            to: to.to_string(),
            kind: known.map_or("", |_| parcel.kind.as_str()).into(),
            count: parcel.count,
            id: hex_of::<16>(&parcel.id),
            digest: hex_of::<32>(&parcel.digest),
            ..Self::blank(time, decision, reason)
        }
    }

    /// A peer was turned away for what its certificate says.
    #[must_use]
    pub fn peer_denied(time: Timestamp, peer_uri: &str, me: &Place, reason: &'static str) -> Self {
        Self {
            from: printable(peer_uri),
            to: me.to_string(),
            ..Self::blank(time, Decision::PeerDenied, reason)
        }
    }

    /// What was decided.
    #[must_use]
    pub const fn decision(&self) -> Decision {
        self.decision
    }

    /// Why, from a closed set; empty when it went through.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The place or peer that sent.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// The place that was to receive.
    #[must_use]
    pub fn to(&self) -> &str {
        &self.to
    }

    /// Records in the parcel.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The leaf: one line of JSON.
    ///
    /// # Errors
    /// [`DbError::Corrupt`] never happens: every field is text or a number.
    pub fn encode(&self) -> Result<Vec<u8>, DbError> {
        serde_json::to_vec(self).map_err(|_| DbError::Corrupt("audit entry"))
    }

    /// The entry of a leaf, which must be written exactly as [`Entry::encode`] writes it.
    ///
    /// # Errors
    /// [`DbError::Corrupt`] for anything else.
    pub fn decode(leaf: &[u8]) -> Result<Self, DbError> {
        let entry: Self =
            serde_json::from_slice(leaf).map_err(|_| DbError::Corrupt("audit entry"))?;
        if entry.v == 1 && entry.encode()? == leaf {
            Ok(entry)
        } else {
            Err(DbError::Corrupt("audit entry"))
        }
    }
}

/// An id or digest of N bytes as hexadecimal; what has another length is not one.
fn hex_of<const N: usize>(bytes: &[u8]) -> String {
    if bytes.len() == N {
        hex::encode(bytes)
    } else {
        String::new()
    }
}

/// A peer's name as written in its certificate, or its digest when it has characters that an identity never has.
fn printable(peer: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte);
    if peer.len() <= MAX_PEER_BYTES && peer.bytes().all(plain) {
        peer.to_owned()
    } else {
        format!("sha256:{}", hex::encode(Sha256::digest(peer)))
    }
}

/// Who signs the heads of a log.
pub struct Signer {
    origin: String,
    key: SigningKey,
}

/// The name of a place's log: `medmesh/edge/us/us/us-f1`.
#[must_use]
pub fn origin(place: &Place) -> String {
    format!("medmesh/{place}")
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
}

/// Makes the tables, or brings them up to date.
///
/// # Errors
/// [`DbError`]; [`DbError::Newer`] when a newer program wrote them.
pub fn schema(conn: &Connection) -> Result<(), DbError> {
    migrate(conn, "audit", SCHEMA)
}

/// Appends an entry and returns its position. Call it within the transaction that stores what was decided.
///
/// # Errors
/// [`DbError`]; the caller rolls back.
pub fn append(tx: &Connection, entry: &Entry) -> Result<u64, DbError> {
    let mut frontier = frontier(tx)?;
    let index = frontier.size();
    let leaf = entry.encode()?;
    frontier.push(leaf_hash(&leaf));
    tx.prepare_cached("INSERT INTO audit_entry (idx, leaf) VALUES (?1, ?2)")?
        .execute((Count(index), leaf))?;
    tx.prepare_cached("UPDATE audit_head SET size = ?1, frontier = ?2")?
        .execute((Count(frontier.size()), frontier.roots().concat()))?;
    Ok(index)
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

/// The last signed head, in the format of C2SP tlog-checkpoint; none before the first.
///
/// # Errors
/// [`DbError`].
pub fn checkpoint(conn: &Connection) -> Result<Option<String>, DbError> {
    let note: String = conn.query_row("SELECT checkpoint FROM audit_head", [], |row| row.get(0))?;
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
    #[error("the log has {entries} entries, its signed head {signed}")]
    Size {
        /// Entries in the log.
        entries: u64,
        /// Entries that the signed head covers.
        signed: u64,
    },
    /// A head is not signed by the log's key.
    #[error("signed head: {0}")]
    Note(#[from] NoteError),
}

/// Recomputes the whole log and compares it with its own signed head and with every head that others hold of it.
/// Any edited, dropped, reordered or added entry is found; so is a fork or an old copy, when `witnessed` has a head of
/// the true log.
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
    Ok(own)
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
    Err(VerifyError::Size {
        entries: entries.size(),
        signed: 0,
    })
}

/// Hashes every entry in order, and compares the root with each head as its size is passed.
fn recompute(conn: &Connection, heads: &[TreeHead]) -> Result<Frontier, VerifyError> {
    let mut frontier = Frontier::default();
    let compare = |frontier: &Frontier| {
        let differs =
            |head: &&TreeHead| head.size == frontier.size() && head.root != frontier.root();
        match heads.iter().find(differs) {
            Some(head) => Err(VerifyError::Root { size: head.size }),
            None => Ok(()),
        }
    };
    compare(&frontier)?;
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
    }
    Ok(frontier)
}

fn frontier(conn: &Connection) -> Result<Frontier, DbError> {
    let stored: Option<(Count, Vec<u8>)> = conn
        .prepare_cached("SELECT size, frontier FROM audit_head")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (Count(size), roots) = stored.ok_or(DbError::Corrupt("audit head"))?;
    let (roots, rest) = roots.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(DbError::Corrupt("audit head"));
    }
    Frontier::from_parts(size, roots.to_vec()).ok_or(DbError::Corrupt("audit head"))
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
