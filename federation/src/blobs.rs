//! Blobs: what is larger than a parcel, named by the SHA-256 of its bytes.
//!
//! A parcel with the blob's [`Descriptor`] goes first, by the rules of its class, and both ends write the decision down.
//! With it the sender grants the blob to the receiver ([`grant`]) and the receiver wants it ([`want`]), each in the commit
//! of that parcel. Then the bytes follow a chunk at a time, whichever end dialled: one chunk is under way at most, so that no
//! alarm and no live reading waits behind more than that. What came is resumed where it stopped, checked as a whole before
//! anybody sees it, held once however many refer to it, and deleted when nothing does.
//!
//! The rows are tables in the caller's database; the bytes are files beside it ([`Files`]). Nothing that identifies a
//! patient may be a blob: the files are not encrypted.
mod carrier;
mod files;
mod kept;
mod refs;
mod spared;
pub use carrier::{Arrivals, Blobs, Bulk, Missing, Rows};
pub use files::{Files, Held, Taken, hash};
pub use refs::{Come, come, keep_message, refer_to, release_others};
pub use spared::{PutIn, Sweep};

use crate::{
    db::{Count, DbError, migrate},
    policy::Rules,
};
use rusqlite::{Connection, OptionalExtension as _};
use std::{collections::BTreeSet, fmt};
use types::{DataClass, Place, Purpose};

/// Bytes of a chunk of which nothing else is known: a fifth of a second of a line of 10 Mbit/s.
pub const CHUNK_BYTES: usize = 256 << 10;
/// The smallest chunk, in bytes: half a second of a line of 1 Mbit/s.
pub const MIN_CHUNK_BYTES: usize = 64 << 10;
/// The largest chunk, in bytes, of a fast line: as much as a call may have under way.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;
/// Bytes of a blob that one call carries to a node that does not say how many it takes: two calls are under way, so that
/// neither end waits for the other.
pub const HALF_BYTES: usize = CHUNK_BYTES / 2;
/// The largest blob, in bytes.
pub const MAX_BLOB_BYTES: u64 = 4 << 30;
/// All blobs of a node, in bytes: those that it has, and those that it wants.
pub const MAX_BLOBS_BYTES: u64 = 16 << 30;
/// Blobs that are looked at at once for what is missing of them.
const MAX_WANTED: u32 = 64;

const SCHEMA: &[&str] = &[
    "
CREATE TABLE blob (
    digest BLOB PRIMARY KEY,              -- SHA-256 of its bytes
    size   INTEGER NOT NULL,
    sender TEXT,                          -- the place from which it comes; null: it was made here
    whole  INTEGER NOT NULL               -- 1: all of it is here, and was checked
) STRICT, WITHOUT ROWID;
CREATE TABLE blob_ref (
    digest BLOB NOT NULL,
    name   TEXT NOT NULL,                 -- of what needs it here
    PRIMARY KEY (digest, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE blob_grant (
    digest  BLOB NOT NULL,
    place   TEXT NOT NULL,                -- to which its descriptor was sent
    class   TEXT NOT NULL,
    purpose TEXT NOT NULL,
    PRIMARY KEY (digest, place)
) STRICT, WITHOUT ROWID;
",
    refs::MESSAGES,
];

/// The SHA-256 of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes, which are the digest itself.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Of a field of a message; none when it is no digest.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a parcel says of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name.
    pub digest: Digest,
    /// Its length, in bytes.
    pub size: u64,
}

/// Makes the tables, or brings them up to date.
///
/// # Errors
/// [`DbError`]; [`DbError::Newer`] when a newer program wrote them.
pub fn schema(conn: &Connection) -> Result<(), DbError> {
    migrate(conn, "blobs", SCHEMA)
}

/// Wants a blob from the place that sent its descriptor, in the commit that takes the descriptor in: from then on it is
/// fetched, and kept for what is called `name` until [`release`].
///
/// # Errors
/// [`DbError`]. [`DbError::TooLarge`] when it is larger than [`MAX_BLOB_BYTES`], or not as large as is known;
/// [`DbError::Full`] when there is no room for it.
pub fn want(
    tx: &Connection,
    descriptor: Descriptor,
    sender: &Place,
    name: &str,
) -> Result<(), DbError> {
    add(tx, descriptor, Some(sender))?;
    refer(tx, descriptor.digest, name)
}

/// Keeps a blob that was made here ([`Files::put_in`]) for what is called `name`, until [`release`].
///
/// # Errors
/// As [`want`].
pub fn keep(tx: &Connection, descriptor: Descriptor, name: &str) -> Result<(), DbError> {
    add(tx, descriptor, None)?;
    tx.prepare_cached("UPDATE blob SET whole = 1 WHERE digest = ?1")?
        .execute([descriptor.digest.as_bytes()])?;
    refer(tx, descriptor.digest, name)
}

fn add(tx: &Connection, descriptor: Descriptor, sender: Option<&Place>) -> Result<(), DbError> {
    let Descriptor { digest, size } = descriptor;
    let too_large = DbError::TooLarge {
        bytes: usize::try_from(size).unwrap_or(usize::MAX),
    };
    let known: Option<Count> = tx
        .prepare_cached("SELECT size FROM blob WHERE digest = ?1")?
        .query_row([digest.as_bytes()], |row| row.get(0))
        .optional()?;
    if let Some(Count(known)) = known {
        return if known == size {
            Ok(())
        } else {
            Err(too_large)
        };
    }
    if size > MAX_BLOB_BYTES {
        return Err(too_large);
    }
    let Count(all) = tx
        .prepare_cached("SELECT coalesce(sum(size), 0) FROM blob")?
        .query_row([], |row| row.get(0))?;
    if all.saturating_add(size) > MAX_BLOBS_BYTES {
        return Err(DbError::Full);
    }
    tx.prepare_cached("INSERT INTO blob (digest, size, sender, whole) VALUES (?1, ?2, ?3, 0)")?
        .execute((
            digest.as_bytes(),
            Count(size),
            sender.map(ToString::to_string),
        ))?;
    Ok(())
}

fn refer(tx: &Connection, digest: Digest, name: &str) -> Result<(), DbError> {
    tx.prepare_cached("INSERT OR IGNORE INTO blob_ref (digest, name) VALUES (?1, ?2)")?
        .execute((digest.as_bytes(), name))?;
    Ok(())
}

/// What is called `name` needs the blob no longer. What nothing refers to is deleted at the next [`sweep`].
///
/// # Errors
/// [`DbError`].
pub fn release(tx: &Connection, digest: Digest, name: &str) -> Result<(), DbError> {
    tx.prepare_cached("DELETE FROM blob_ref WHERE digest = ?1 AND name = ?2")?
        .execute((digest.as_bytes(), name))?;
    Ok(())
}

/// Grants a blob to the place to which its descriptor is sent, in the commit that ships the descriptor. It is kept for
/// that place until [`revoke`].
///
/// # Errors
/// [`DbError`]; [`DbError::Corrupt`] when the blob is not known here.
pub fn grant(
    tx: &Connection,
    digest: Digest,
    to: &Place,
    (class, purpose): (DataClass, Purpose),
) -> Result<(), DbError> {
    let known = tx
        .prepare_cached("SELECT 1 FROM blob WHERE digest = ?1")?
        .exists([digest.as_bytes()])?;
    if !known {
        return Err(DbError::Corrupt("a grant of a blob that is not known"));
    }
    tx.prepare_cached(
        "INSERT OR REPLACE INTO blob_grant (digest, place, class, purpose) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((
        digest.as_bytes(),
        to.to_string(),
        class.as_str(),
        purpose.as_str(),
    ))?;
    Ok(())
}

/// A place gets the blob no longer: it has it, or is not to have it.
///
/// # Errors
/// [`DbError`].
pub fn revoke(tx: &Connection, digest: Digest, to: &Place) -> Result<(), DbError> {
    tx.prepare_cached("DELETE FROM blob_grant WHERE digest = ?1 AND place = ?2")?
        .execute((digest.as_bytes(), to.to_string()))?;
    Ok(())
}

/// Whether a place may have a blob: its descriptor was sent there, and the rules still let data of that class go there.
///
/// # Errors
/// [`DbError`].
pub fn is_granted(
    conn: &Connection,
    rules: &Rules,
    (here, to): (&Place, &Place),
    digest: Digest,
) -> Result<bool, DbError> {
    let row: Option<(String, String)> = conn
        .prepare_cached("SELECT class, purpose FROM blob_grant WHERE digest = ?1 AND place = ?2")?
        .query_row((digest.as_bytes(), to.to_string()), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((class, purpose)) = row else {
        return Ok(false);
    };
    let asked = DataClass::parse(&class).zip(Purpose::parse(&purpose));
    Ok(asked.is_some_and(|(class, purpose)| rules.decide(class, here, to, purpose).is_ok()))
}

/// Whether anything is granted to a place.
///
/// # Errors
/// [`DbError`].
pub fn grants_to(conn: &Connection, to: &Place) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM blob_grant WHERE place = ?1 LIMIT 1")?
        .exists([to.to_string()])?)
}

/// Blobs that are wanted from a place and not whole here, some of them.
///
/// # Errors
/// [`DbError`].
pub fn wanted(conn: &Connection, from: &Place) -> Result<Vec<Descriptor>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT digest, size FROM blob WHERE sender = ?1 AND whole = 0
           AND EXISTS (SELECT 1 FROM blob_ref WHERE blob_ref.digest = blob.digest) LIMIT ?2",
    )?;
    let mut rows = query.query((from.to_string(), MAX_WANTED))?;
    let mut wanted = Vec::new();
    while let Some(row) = rows.next()? {
        wanted.push(Descriptor {
            digest: digest_at(row)?,
            size: row.get::<_, Count>(1)?.0,
        });
    }
    Ok(wanted)
}

/// Whether all of a blob is here, and was checked.
///
/// # Errors
/// [`DbError`].
pub fn is_whole(conn: &Connection, digest: Digest) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM blob WHERE digest = ?1 AND whole = 1")?
        .exists([digest.as_bytes()])?)
}

/// All of a blob is here, and was checked.
///
/// # Errors
/// [`DbError`].
pub fn complete(tx: &Connection, digest: Digest) -> Result<(), DbError> {
    tx.prepare_cached("UPDATE blob SET whole = 1 WHERE digest = ?1")?
        .execute([digest.as_bytes()])?;
    Ok(())
}

/// Forgets the blobs that nothing refers to: those that are left.
///
/// # Errors
/// [`DbError`].
pub fn sweep(tx: &Connection) -> Result<BTreeSet<Digest>, DbError> {
    tx.execute_batch(
        "DELETE FROM blob WHERE digest NOT IN (SELECT digest FROM blob_ref UNION SELECT digest FROM blob_grant)",
    )?;
    let mut query = tx.prepare_cached("SELECT digest FROM blob")?;
    let mut rows = query.query([])?;
    let mut left = BTreeSet::new();
    while let Some(row) = rows.next()? {
        left.insert(digest_at(row)?);
    }
    Ok(left)
}

fn digest_at(row: &rusqlite::Row<'_>) -> Result<Digest, DbError> {
    let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
    Digest::read(bytes).ok_or(DbError::Corrupt("digest of a blob"))
}

#[cfg(test)]
#[path = "blobs_tests.rs"]
mod tests;
