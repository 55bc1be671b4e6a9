//! What this node did not take in: notes for its operator. A note is digests and a word, never a payload; the content
//! is held by who sent it.
//!
//! A parcel that is not taken has a note as a whole, or one for each record that was left out. The sender ships the
//! same body again once the cause may be cured (`outbox::again`); when all of it is taken its notes go.
use super::Ledger;
use crate::{
    db::{Count, DbError, migrate},
    port::{PortError, Verdict},
    reason,
    wire::Parcel,
};
use rusqlite::{Connection, OptionalExtension as _, Row};
use types::{Place, Timestamp};

/// Notes that are kept, the newest: a sender that is refused all the time must not fill the disk.
pub const MAX_NOTES: u64 = 100_000;

const SCHEMA: &[&str] = &["
CREATE TABLE IF NOT EXISTS inbox_note (
    n        INTEGER PRIMARY KEY,
    sender   TEXT NOT NULL,
    body     BLOB NOT NULL,               -- digest of the parcel's body, which stays when it is shipped again
    position INTEGER NOT NULL,            -- of the record in the parcel; -1 is the parcel as a whole
    parcel   BLOB NOT NULL,               -- id of the parcel
    reason   TEXT NOT NULL,
    digest   BLOB NOT NULL,               -- of what was not taken
    time     TEXT NOT NULL,
    UNIQUE (sender, body, position)
) STRICT;
CREATE INDEX IF NOT EXISTS inbox_note_reason ON inbox_note (reason, sender);
"];

/// The position of a note on a parcel as a whole.
const WHOLE: i64 = -1;

/// A record of a parcel that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its position in the parcel.
    pub position: u32,
    /// Why, from a closed set.
    pub reason: &'static str,
    /// SHA-256 of it.
    pub digest: Vec<u8>,
}

/// A note as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its number in this node.
    pub number: u64,
    /// The place of the sender, which has the content.
    pub sender: String,
    /// Id of the parcel.
    pub parcel: Vec<u8>,
    /// Position of the record; none for the parcel as a whole.
    pub position: Option<u32>,
    /// Why it was not taken, from a closed set.
    pub reason: String,
    /// SHA-256 of what was not taken.
    pub digest: Vec<u8>,
    /// When (real time, RFC 3339).
    pub time: String,
}

/// How much is noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Notes in all.
    pub notes: u64,
    /// Whether a sender wrote, or tried to write, what another one owns.
    pub wrong_sender: bool,
}

/// Makes the table, or brings it up to date.
///
/// # Errors
/// [`DbError`]; [`DbError::Newer`] when a newer program wrote it.
pub fn schema(conn: &Connection) -> Result<(), DbError> {
    migrate(conn, "notes", SCHEMA)
}

impl Ledger {
    /// Notes the records of a parcel that were left out, instead of what was noted of its body before.
    ///
    /// # Errors
    /// [`PortError`]; nothing was noted.
    pub async fn note(
        &self,
        from: &Place,
        parcel: &Parcel,
        left_out: Vec<LeftOut>,
    ) -> Result<(), PortError> {
        let (from, parcel) = (from.clone(), parcel.clone());
        self.step("note", move |inner, tx| {
            forget(tx, &from, &parcel)?;
            let now = (inner.now)();
            for one in &left_out {
                let position = i64::from(one.position);
                insert(tx, &from, &parcel, position, (one.reason, &one.digest), now)?;
            }
            bound(tx)
        })
        .await
    }

    /// Takes over notes that an earlier version kept elsewhere. The same twice is one.
    ///
    /// # Errors
    /// [`PortError`]; nothing was noted.
    pub async fn take_over_notes(&self, notes: Vec<Note>) -> Result<(), PortError> {
        self.step("take over notes", move |_, tx| {
            for note in &notes {
                // The body's digest was not kept: the parcel's id stands for it, and a person discards the note.
                tx.prepare_cached(
                    "INSERT OR IGNORE INTO inbox_note (sender, body, position, parcel, reason, digest, time)
                     VALUES (?1, ?2, ?3, ?2, ?4, ?5, ?6)",
                )?
                .execute((
                    &note.sender,
                    &note.parcel,
                    note.position.map_or(WHOLE, i64::from),
                    &note.reason,
                    &note.digest,
                    &note.time,
                ))?;
            }
            Ok(())
        })
        .await
    }

    /// How much is noted. Cheap.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn noted(&self) -> Result<Noted, PortError> {
        self.db.step("noted", noted).await
    }
}

/// How much is noted.
///
/// # Errors
/// [`DbError`].
pub fn noted(conn: &Connection) -> Result<Noted, DbError> {
    let Count(notes) = conn
        .prepare_cached("SELECT count(*) FROM inbox_note")?
        .query_row([], |row| row.get(0))?;
    let wrong_sender = conn
        .prepare_cached("SELECT 1 FROM inbox_note WHERE reason = ?1 LIMIT 1")?
        .exists([reason::WRONG_SENDER])?;
    Ok(Noted {
        notes,
        wrong_sender,
    })
}

/// Notes in the order in which they came, after a number, at most `limit`.
///
/// # Errors
/// [`DbError`].
pub fn list(conn: &Connection, after: u64, limit: u32) -> Result<Vec<Note>, DbError> {
    let mut statement = conn.prepare_cached(
        "SELECT n, sender, parcel, position, reason, digest, time FROM inbox_note
         WHERE n > ?1 ORDER BY n LIMIT ?2",
    )?;
    let rows = statement.query_map((Count(after), limit), read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One note.
///
/// # Errors
/// [`DbError`].
pub fn get(conn: &Connection, number: u64) -> Result<Option<Note>, DbError> {
    Ok(conn
        .prepare_cached(
            "SELECT n, sender, parcel, position, reason, digest, time FROM inbox_note WHERE n = ?1",
        )?
        .query_row([Count(number)], read)
        .optional()?)
}

/// Deletes a note that a person has looked at. Says whether there was one.
///
/// # Errors
/// [`DbError`]: roll back.
pub fn discard(tx: &Connection, number: u64) -> Result<bool, DbError> {
    let deleted = tx
        .prepare_cached("DELETE FROM inbox_note WHERE n = ?1")?
        .execute([Count(number)])?;
    Ok(deleted > 0)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Note> {
    Ok(Note {
        number: row.get::<_, Count>(0)?.0,
        sender: row.get(1)?,
        parcel: row.get(2)?,
        position: u32::try_from(row.get::<_, i64>(3)?).ok(),
        reason: row.get(4)?,
        digest: row.get(5)?,
        time: row.get(6)?,
    })
}

/// Notes what a final answer leaves with the sender, or forgets what was noted of a body that is taken now.
pub(crate) fn answered(
    tx: &Connection,
    from: &Place,
    parcel: &Parcel,
    verdict: &Verdict,
    now: Timestamp,
) -> Result<(), DbError> {
    match verdict {
        Verdict::Accepted { stored } if *stored >= parcel.count => forget(tx, from, parcel),
        Verdict::Refused { reason } | Verdict::Quarantined { reason } => {
            note_whole(tx, from, parcel, reason, now)
        }
        Verdict::Accepted { .. } | Verdict::Deferred { .. } => Ok(()),
    }
}

/// Notes a parcel as a whole, unless there are notes on its records.
fn note_whole(
    tx: &Connection,
    from: &Place,
    parcel: &Parcel,
    reason: &'static str,
    now: Timestamp,
) -> Result<(), DbError> {
    if reason == reason::WRONG_SENDER {
        alarm(tx, from)?;
    }
    let noted = tx
        .prepare_cached("SELECT 1 FROM inbox_note WHERE sender = ?1 AND body = ?2 LIMIT 1")?
        .exists((from.to_string(), &parcel.digest[..]))?;
    if noted {
        return Ok(());
    }
    let what = (reason, &parcel.digest[..]);
    insert(tx, from, parcel, WHOLE, what, now)?;
    bound(tx)
}

/// Somebody must know that a sender writes what is another's: once, until its notes are discarded.
fn alarm(tx: &Connection, from: &Place) -> Result<(), DbError> {
    metrics::counter!("medmesh_wrong_sender_parcels_total").increment(1);
    let known = tx
        .prepare_cached("SELECT 1 FROM inbox_note WHERE reason = ?1 AND sender = ?2 LIMIT 1")?
        .exists((reason::WRONG_SENDER, from.to_string()))?;
    if !known {
        tracing::error!(
            sender = %from,
            "a sender writes what another sender owns; it is refused: look at `quarantine list`"
        );
    }
    Ok(())
}

fn insert(
    tx: &Connection,
    from: &Place,
    parcel: &Parcel,
    position: i64,
    (reason, digest): (&'static str, &[u8]),
    now: Timestamp,
) -> Result<(), DbError> {
    tx.prepare_cached(
        "INSERT INTO inbox_note (sender, body, position, parcel, reason, digest, time)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (sender, body, position) DO NOTHING",
    )?
    .execute((
        from.to_string(),
        &parcel.digest[..],
        position,
        &parcel.id[..],
        reason,
        digest,
        now.to_rfc3339(),
    ))?;
    Ok(())
}

fn forget(tx: &Connection, from: &Place, parcel: &Parcel) -> Result<(), DbError> {
    tx.prepare_cached("DELETE FROM inbox_note WHERE sender = ?1 AND body = ?2")?
        .execute((from.to_string(), &parcel.digest[..]))?;
    Ok(())
}

/// The oldest notes make room for the newest.
fn bound(tx: &Connection) -> Result<(), DbError> {
    let Count(newest) = tx
        .prepare_cached("SELECT coalesce(max(n), 0) FROM inbox_note")?
        .query_row([], |row| row.get(0))?;
    let dropped = tx
        .prepare_cached("DELETE FROM inbox_note WHERE n <= ?1")?
        .execute([Count(newest.saturating_sub(MAX_NOTES))])?;
    metrics::counter!("medmesh_quarantine_notes_dropped_total").increment(dropped as u64);
    Ok(())
}
