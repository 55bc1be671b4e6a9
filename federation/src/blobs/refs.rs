//! What many blobs are needed for together: names under one prefix, and messages that count once their blob is whole.
use super::{Digest, refer};
use crate::{
    blobs::{Descriptor, digest_at},
    db::DbError,
};
use rusqlite::Connection;
use types::Place;

/// Messages that are taken in one step.
const MAX_COME: u32 = 16;

/// The step of the schema that messages need.
pub(super) const MESSAGES: &str = "
CREATE TABLE blob_message (
    n      INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    name   TEXT NOT NULL,                 -- of what needs the blob here
    sender TEXT NOT NULL,
    body   BLOB NOT NULL,
    UNIQUE (digest, name, sender)
) STRICT;
";

/// A message whose blob is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Come {
    /// Who sent it.
    pub sender: Place,
    /// What it was kept for.
    pub name: String,
    /// The message.
    pub body: Vec<u8>,
}

/// Keeps a message until its blob, which is wanted ([`super::want`]) for what is called `name`, is whole ([`come`]).
///
/// # Errors
/// [`DbError`].
pub fn keep_message(
    tx: &Connection,
    digest: Digest,
    name: &str,
    sender: &Place,
    body: &[u8],
) -> Result<(), DbError> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO blob_message (digest, name, sender, body) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((digest.as_bytes(), name, sender.to_string(), body))?;
    Ok(())
}

/// Takes the messages whose blobs are whole, some of them, in the order in which they came.
///
/// # Errors
/// [`DbError`].
pub fn come(tx: &Connection) -> Result<Vec<Come>, DbError> {
    let mut query = tx.prepare_cached(
        "SELECT n, blob_message.sender, name, body FROM blob_message JOIN blob USING (digest)
          WHERE whole = 1 ORDER BY n LIMIT ?1",
    )?;
    let mut rows = query.query([MAX_COME])?;
    let (mut taken, mut found) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let sender: String = row.get(1)?;
        taken.push(row.get::<_, i64>(0)?);
        found.push(Come {
            sender: sender
                .parse()
                .map_err(|_| DbError::Corrupt("the sender of a message"))?,
            name: row.get(2)?,
            body: row.get(3)?,
        });
    }
    for n in taken {
        tx.prepare_cached("DELETE FROM blob_message WHERE n = ?1")?
            .execute([n])?;
    }
    Ok(found)
}

/// What is called `name` needs these blobs too, which are known here.
///
/// # Errors
/// [`DbError`].
pub fn refer_to(tx: &Connection, blobs: &[Descriptor], name: &str) -> Result<(), DbError> {
    blobs
        .iter()
        .try_for_each(|descriptor| refer(tx, descriptor.digest, name))
}

/// Of everything whose name begins with `prefix`, only what is called `kept` needs blobs any longer: what nothing else
/// needs is granted to nobody, and deleted at the next [`super::sweep`].
///
/// # Errors
/// [`DbError`].
pub fn release_others(tx: &Connection, prefix: &str, kept: Option<&str>) -> Result<(), DbError> {
    let kept = kept.unwrap_or_default();
    let mut query = tx.prepare_cached(
        "DELETE FROM blob_ref WHERE substr(name, 1, length(?1)) = ?1 AND name <> ?2 RETURNING digest",
    )?;
    let mut rows = query.query((prefix, kept))?;
    let mut released = Vec::new();
    while let Some(row) = rows.next()? {
        released.push(digest_at(row)?);
    }
    for digest in released {
        tx.prepare_cached(
            "DELETE FROM blob_grant WHERE digest = ?1
               AND NOT EXISTS (SELECT 1 FROM blob_ref WHERE blob_ref.digest = ?1)",
        )?
        .execute([digest.as_bytes()])?;
    }
    tx.prepare_cached(
        "DELETE FROM blob_message WHERE substr(name, 1, length(?1)) = ?1 AND name <> ?2",
    )?
    .execute((prefix, kept))?;
    Ok(())
}
