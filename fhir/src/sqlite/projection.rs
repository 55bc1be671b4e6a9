//! What a facility's own store holds, as resources beside those that its clients write. The facility's store is the
//! truth; this is a copy of it that can be searched, kept up step by step, with the place that it was made up to in the
//! same transaction. Whatever comes a second time changes nothing.
//!
//! The copy is bounded by what the facility keeps and by a size: beyond it the oldest readings of the copy go first.
use super::{SqliteStore, general, writer::Head, writer::Job};
use crate::store::{Draft, FhirId, Index, NewResource, ResourceType, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashSet;
use types::Timestamp;

/// The name under which the place is kept, among those of readers: no client has it.
pub const PLACE: &str = "*projection";
/// Bytes of a page, the default of SQLite and of SQLCipher, which does not say it of an encrypted file.
const PAGE_BYTES: i64 = 4_096;
/// Readings that one projection takes off where the file is too large: more than it brings, so that it shrinks.
const TRIM: i64 = 4_000;

/// Steps that are one.
#[derive(Clone, Debug)]
pub struct Projection {
    /// In this order.
    pub steps: Vec<Step>,
    /// Up to where the facility's store was read, for whoever goes on from there.
    pub place: String,
    /// Bytes of the file above which the oldest readings go.
    pub max_bytes: u64,
    /// When, as the commit keeps it.
    pub now: Timestamp,
}

/// What has become of something in the facility's store.
#[derive(Clone, Debug)]
pub enum Step {
    /// A reading was stored, or withdrawn.
    Reading(NewResource),
    /// That is now known of something else.
    Known(Draft),
    /// These are the stays of a patient, and no others.
    Stays {
        /// The Patient.
        patient: FhirId,
        /// Encounters.
        stays: Vec<Draft>,
    },
    /// The facility keeps the reading of that id no longer.
    Gone(FhirId),
}

impl SqliteStore {
    /// Does the steps in one transaction, and keeps the place: all of it, or nothing. The place is read as the marks of
    /// [`PLACE`].
    ///
    /// # Errors
    /// What the engine says; nothing was done then.
    pub async fn project(&self, projection: Projection) -> Result<(), StoreError> {
        self.writing(|reply| Job::Project { projection, reply })
            .await
    }
}

const KNOWN: &str =
    "SELECT version, body, author IS NULL FROM resource WHERE type = ?1 AND id = ?2";
/// The last version, and whether a client wrote any.
const LAST: &str =
    "SELECT max(version), count(author) > 0 FROM history WHERE type = ?1 AND id = ?2";
const DEMOTE: &str = "INSERT OR IGNORE INTO history(type, id, version, updated, body, seq) \
     SELECT type, id, version, updated, body, seq FROM resource WHERE type = ?1 AND id = ?2";
const FORGET: &str = "DELETE FROM resource WHERE type = ?1 AND id = ?2";
const GONE: &str = "DELETE FROM resource WHERE type = ?1 AND id = ?2 AND author IS NULL";
const FORGET_PAST: &str = "DELETE FROM history WHERE type = ?1 AND id = ?2";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, patient, device, code, category, \
     effective) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const REMEMBER: &str =
    "INSERT INTO history(type, id, version, updated, body, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const STAYS: &str =
    "SELECT id FROM resource WHERE type = 'Encounter' AND author IS NULL AND patient = ?1";
const OLDEST: &str =
    "SELECT id FROM resource WHERE type = 'Observation' AND author IS NULL ORDER BY seq LIMIT ?1";

/// Does the steps within the transaction of the connection.
pub(super) fn project(
    connection: &Connection,
    projection: &Projection,
    head: &mut Head,
) -> rusqlite::Result<()> {
    for step in &projection.steps {
        match step {
            Step::Reading(reading) => {
                let (kind, id) = (reading.kind(), reading.id());
                put(
                    connection,
                    head,
                    (kind, id),
                    reading.json(),
                    reading.index(),
                )?;
            }
            Step::Known(draft) => known(connection, head, draft)?,
            Step::Stays { patient, stays } => {
                let now: HashSet<&str> = stays.iter().map(|one| one.id().as_str()).collect();
                for id in ids(connection, STAYS, patient.as_str())? {
                    if !now.contains(id.as_str()) {
                        end(connection, head, "Encounter", &id)?;
                    }
                }
                for stay in stays {
                    known(connection, head, stay)?;
                }
            }
            Step::Gone(id) => gone(connection, head, id.as_str())?,
        }
    }
    if used_bytes(connection)? > projection.max_bytes {
        let oldest = ids(connection, OLDEST, TRIM)?;
        let trimmed = u64::try_from(oldest.len()).unwrap_or_default();
        metrics::counter!("medmesh_fhir_readings_trimmed_total").increment(trimmed);
        for id in oldest {
            gone(connection, head, &id)?;
        }
    }
    Ok(())
}

fn known(connection: &Connection, head: &mut Head, draft: &Draft) -> rusqlite::Result<()> {
    let index = Index {
        patient: draft.patient().cloned(),
        ..Index::default()
    };
    let key = (draft.kind(), draft.id());
    if put(connection, head, key, draft.json(), &index)? {
        general::forget(connection, key.0.as_str(), key.1.as_str())?;
        general::index(connection, key.0.as_str(), key.1.as_str(), draft.rows())?;
    }
    Ok(())
}

/// Whether it is a new version. A reading that was withdrawn stays so.
fn put(
    connection: &Connection,
    head: &mut Head,
    (kind, id): (ResourceType, &FhirId),
    json: &str,
    index: &Index,
) -> rusqlite::Result<bool> {
    let (name, id) = (kind.as_str(), id.as_str());
    let current: Option<(u32, String, bool)> = connection
        .prepare_cached(KNOWN)?
        .query_row([name, id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let version = match &current {
        // The ids of what is projected are derived with a key, so that nobody has one by accident.
        Some((_, body, is_own)) if !is_own || body == json => return Ok(false),
        Some((version, ..)) if !kind.is_versioned() && *version > 1 => return Ok(false),
        Some((version, ..)) => *version,
        None => match last(connection, [name, id])? {
            // What a client deleted stays the client's.
            (_, true) => return Ok(false),
            (version, false) => version,
        },
    };
    if current.is_some() {
        if !kind.is_versioned() {
            connection.prepare_cached(DEMOTE)?.execute([name, id])?;
        }
        connection.prepare_cached(FORGET)?.execute([name, id])?;
    } else {
        count(head, kind, 1);
    }
    head.seq += 1;
    let version = version.saturating_add(1);
    connection.prepare_cached(WRITE)?.execute(params![
        head.seq,
        name,
        id,
        version,
        head.updated,
        json,
        index.patient.as_ref().map(FhirId::as_str),
        index.device.as_ref().map(FhirId::as_str),
        index.code.map(|code| code.to_string()),
        index.category.map(|category| category.as_str()),
        index.effective.map(|time| time.0),
    ])?;
    if kind.is_versioned() {
        let values = params![name, id, version, head.updated, json, head.seq];
        connection.prepare_cached(REMEMBER)?.execute(values)?;
    }
    Ok(true)
}

/// The last version, 0 where there is none, and whether a client wrote any.
fn last(connection: &Connection, key: [&str; 2]) -> rusqlite::Result<(u32, bool)> {
    let mut last = connection.prepare_cached(LAST)?;
    last.query_row(key, |row| {
        Ok((row.get::<_, Option<u32>>(0)?.unwrap_or(0), row.get(1)?))
    })
}

/// Says that a resource is no more, as a client's delete does.
fn end(connection: &Connection, head: &mut Head, kind: &str, id: &str) -> rusqlite::Result<()> {
    let (version, _) = last(connection, [kind, id])?;
    connection.prepare_cached(FORGET)?.execute([kind, id])?;
    general::forget(connection, kind, id)?;
    head.seq += 1;
    let version = version.saturating_add(1);
    let values = params![kind, id, version, head.updated, "", head.seq];
    connection.prepare_cached(REMEMBER)?.execute(values)?;
    Ok(())
}

/// Forgets a reading with every version of it.
fn gone(connection: &Connection, head: &mut Head, id: &str) -> rusqlite::Result<()> {
    let kind = ResourceType::Observation;
    let key = [kind.as_str(), id];
    if connection.prepare_cached(GONE)?.execute(key)? > 0 {
        count(head, kind, -1);
        connection.prepare_cached(FORGET_PAST)?.execute(key)?;
    }
    Ok(())
}

fn count(head: &mut Head, kind: ResourceType, by: i64) {
    if let Some(count) = kind.of_mut(&mut head.counts) {
        *count = count.saturating_add(by).max(0);
    }
}

fn ids(
    connection: &Connection,
    sql: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare_cached(sql)?;
    let ids = select.query_map([value], |row| row.get(0))?;
    ids.collect()
}

/// Bytes of the pages that hold something.
fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let of = |name: &str| -> rusqlite::Result<i64> {
        connection
            .prepare_cached(&format!("PRAGMA {name}"))?
            .query_row([], |row| row.get(0))
    };
    let pages = of("page_count")?.saturating_sub(of("freelist_count")?);
    Ok(u64::try_from(pages.saturating_mul(PAGE_BYTES)).unwrap_or(0))
}

#[cfg(test)]
#[path = "projection_tests.rs"]
mod tests;
