//! What is desired of a device, brought about by commands: each property that a client sets is one, given again when its
//! time ends before the device has heard of it, however long its facility is away. While nothing is heard of the facility no
//! command is given; one that was given is taken back once the property is set anew, or is desired no more.
//!
//! The rule for conflicts: the region alone writes what is desired, the device alone what is reported, and a version of a
//! property is brought about once. Whoever changes it at the bedside afterwards, or whose staff refuses it, is not
//! overruled until a client sets the property again. What a device had and has no more, as after a loss of power, nobody has
//! changed: it is set again.
use super::{
    FRESH_MS, KEPT_OF_WISH, LOST_MS, MAX_RETRY_MS, Own, RETRY_MS, WANT_LIFE_MS,
    rows::{Row, parameters_json, parameters_of},
    settled::{self, DONE, RESTS},
    steps::{self, Ask},
};
use commands::Value;
use federation::{db::DbError, ledger::Commit};
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet};
use types::{CatalogId, FacilityId, Id128, Name, Timestamp};

/// A property that a client has set.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    pub device: CatalogId,
    pub property: String,
    pub facility: FacilityId,
    /// The command that brings it about.
    pub name: Name,
    pub parameters: BTreeMap<String, Value>,
    pub by: String,
}

impl Want {
    /// Replaces what was wanted of the property before; the next look brings it about.
    pub fn put(&self, tx: &Connection) -> Result<(), DbError> {
        give_up(tx, self.device, &self.property)?;
        let sql = "INSERT OR REPLACE INTO want(device, property, facility, name, parameters, by, command, retry, settled) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, 0, 0)";
        tx.prepare_cached(sql)?.execute(params![
            self.device.as_bytes(),
            self.property,
            self.facility.as_str(),
            self.name.as_str(),
            parameters_json(&self.parameters).to_string(),
            self.by,
        ])?;
        Ok(())
    }

    /// The property is not wanted any more.
    pub fn forget(tx: &Connection, device: CatalogId, property: &str) -> Result<(), DbError> {
        give_up(tx, device, property)?;
        let sql = "DELETE FROM want WHERE device = ?1 AND property = ?2";
        tx.prepare_cached(sql)?
            .execute(params![device.as_bytes(), property])?;
        Ok(())
    }

    /// Whether what was wanted of a property last was brought about, or refused.
    pub fn is_settled(tx: &Connection, device: CatalogId, property: &str) -> Result<bool, DbError> {
        let sql = "SELECT count(*) FROM want WHERE device = ?1 AND property = ?2 AND settled = 0";
        let open: i64 = tx
            .prepare_cached(sql)?
            .query_row(params![device.as_bytes(), property], |row| row.get(0))?;
        Ok(open == 0)
    }

    fn due(tx: &Connection, now: Timestamp, limit: u16) -> Result<Vec<Self>, DbError> {
        let sql = "SELECT want.device, property, facility, name, parameters, by FROM \
             (SELECT * FROM want WHERE settled = 0 AND command IS NULL AND retry <= ?1 UNION ALL \
             SELECT * FROM want WHERE settled = 0 AND command IS NULL AND retry > ?4) AS want \
             LEFT JOIN twin ON twin.device = want.device WHERE heard IS NULL OR heard >= ?2 LIMIT ?3";
        let heard = now.plus_ms(-FRESH_MS);
        // No try is ever set so late: the clock was ahead then.
        let never = now.plus_ms(MAX_RETRY_MS);
        let corrupt = || DbError::Corrupt("what is desired of a device");
        let mut statement = tx.prepare_cached(sql)?;
        let mut rows = statement.query(params![now.0, heard.0, limit, never.0])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let device: Vec<u8> = row.get(0)?;
            let text = |column| row.get::<_, String>(column);
            found.push(Self {
                device: device[..].try_into().map_err(|_| corrupt())?,
                property: text(1)?,
                facility: text(2)?.parse().map_err(|_| corrupt())?,
                name: text(3)?.parse().map_err(|_| corrupt())?,
                parameters: parameters_of(&text(4)?).ok_or_else(corrupt)?,
                by: text(5)?,
            });
        }
        Ok(found)
    }
}

/// The devices of which something is due.
pub fn due_of(tx: &Connection, now: Timestamp, limit: u16) -> Result<BTreeSet<CatalogId>, DbError> {
    let due = Want::due(tx, now, limit)?.into_iter();
    Ok(due.map(|want| want.device).collect())
}

/// A facility has a device no more: what is desired of the device rests, and what was given for it is taken back.
pub fn rest(tx: &Connection, device: CatalogId) -> Result<(), DbError> {
    let given = "INSERT OR IGNORE INTO withdrawn(command) SELECT command FROM want \
         WHERE device = ?1 AND settled = 0 AND command IS NOT NULL";
    tx.prepare_cached(given)?.execute([device.as_bytes()])?;
    let sql = "UPDATE want SET settled = ?2, command = NULL WHERE device = ?1 AND settled = 0";
    tx.prepare_cached(sql)?
        .execute(params![device.as_bytes(), RESTS])?;
    Ok(())
}

/// A facility has a device, perhaps again: what rested is wanted, at once.
pub fn returned(tx: &Connection, device: CatalogId) -> Result<(), DbError> {
    let sql =
        "UPDATE want SET settled = 0, retry = 0, failures = 0 WHERE device = ?1 AND settled = ?2";
    tx.prepare_cached(sql)?
        .execute(params![device.as_bytes(), RESTS])?;
    Ok(())
}

/// The command of what was wanted of a property until now is to be taken back.
fn give_up(tx: &Connection, device: CatalogId, property: &str) -> Result<(), DbError> {
    let sql = "INSERT OR IGNORE INTO withdrawn(command) SELECT command FROM want \
         WHERE device = ?1 AND property = ?2 AND settled = 0 AND command IS NOT NULL";
    tx.prepare_cached(sql)?
        .execute(params![device.as_bytes(), property])?;
    Ok(())
}

/// Takes the commands back that are not wanted any more; which.
fn take_back(own: &Own, commit: &mut Commit<'_>, limit: u16) -> Result<Vec<Id128>, DbError> {
    let ids = withdrawn(own, commit, limit)?;
    for id in &ids {
        if let Some(mut row) = Row::find(commit.tx(), *id)?
            && !row.history.state().is_end()
        {
            if !has_room(own, commit, &row.facility)? {
                continue;
            }
            steps::withdraw(own, commit, &mut row)?;
        }
        let sql = "DELETE FROM withdrawn WHERE command = ?1";
        let by = params![id.as_bytes()];
        commit.tx().prepare_cached(sql)?.execute(by)?;
    }
    Ok(ids)
}

/// The next ones that are to be taken back, but for those of which the facility can be told nothing now: they wait, and the
/// others do not wait for them.
fn withdrawn(own: &Own, commit: &Commit<'_>, limit: u16) -> Result<Vec<Id128>, DbError> {
    let sql = "SELECT withdrawn.command, facility FROM withdrawn LEFT JOIN command ON command.id = withdrawn.command";
    let corrupt = || DbError::Corrupt("a command that is taken back");
    let mut statement = commit.tx().prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let (mut found, mut room) = (Vec::new(), BTreeMap::new());
    while found.len() < usize::from(limit)
        && let Some(row) = rows.next()?
    {
        let id: Vec<u8> = row.get(0)?;
        let facility: Option<String> = row.get(1)?;
        if let Some(facility) = facility {
            let facility: FacilityId = facility.parse().map_err(|_| corrupt())?;
            let has_room = match room.get(&facility) {
                Some(known) => *known,
                None => has_room(own, commit, &facility)?,
            };
            room.insert(facility, has_room);
            if !has_room {
                continue;
            }
        }
        found.push(id[..].try_into().map_err(|_| corrupt())?);
    }
    Ok(found)
}

/// Whether a facility can be told something: less waits for it than may.
fn has_room(own: &Own, commit: &Commit<'_>, facility: &FacilityId) -> Result<bool, DbError> {
    own.facility(facility)
        .map_or(Ok(true), |place| commit.has_room(&place))
}

/// A device has a property no more that was brought about: it is wanted again, [`RETRY_MS`] after it was given last at the
/// earliest, so that a device that never keeps it is not told without end.
pub fn lost(commit: &Commit<'_>, device: CatalogId, property: &str) -> Result<(), DbError> {
    let sql = "UPDATE want SET settled = 0, command = NULL, retry = max(retry, ?3) \
         WHERE device = ?1 AND property = ?2 AND settled = ?4";
    let retry = commit.now().plus_ms(LOST_MS);
    let by = params![device.as_bytes(), property, retry.0, DONE];
    commit.tx().prepare_cached(sql)?.execute(by)?;
    Ok(())
}

/// Gives commands for what is wanted and not yet brought about, and takes those back that are not wanted any more, which it
/// names.
pub fn bring_about(own: &Own, commit: &mut Commit<'_>, limit: u16) -> Result<Vec<Id128>, DbError> {
    let taken_back = take_back(own, commit, limit)?;
    let due = Want::due(commit.tx(), commit.now(), limit)?;
    for want in due {
        if !has_room(own, commit, &want.facility)? {
            let sql = "UPDATE want SET retry = ?3 WHERE device = ?1 AND property = ?2";
            let retry = commit.now().plus_ms(RETRY_MS);
            let by = params![want.device.as_bytes(), want.property, retry.0];
            commit.tx().prepare_cached(sql)?.execute(by)?;
            continue;
        }
        // A try that failed is said by the last of them.
        Row::forget_wishes(commit.tx(), want.device, &want.property, KEPT_OF_WISH)?;
        let ask = Ask {
            device: want.device,
            facility: want.facility.clone(),
            name: want.name.clone(),
            parameters: want.parameters.clone(),
            // What needs a second person is never desired: the API refuses it.
            safety: false,
            property: Some(want.property.clone()),
            ttl_ms: WANT_LIFE_MS,
            by: want.by.clone(),
            key: None,
        };
        let sql = "UPDATE want SET command = ?3, retry = ?4 WHERE device = ?1 AND property = ?2";
        let given = match steps::ask(own, commit, ask)? {
            steps::Asked::New(row) => Some(row),
            steps::Asked::Same(_)
            | steps::Asked::OtherRequest
            | steps::Asked::TooManyOpen(_)
            | steps::Asked::Full => None,
        };
        let retry = commit.now().plus_ms(RETRY_MS);
        let id = given.as_ref().map(|row| row.id.as_bytes());
        let by = params![want.device.as_bytes(), want.property, id, retry.0];
        commit.tx().prepare_cached(sql)?.execute(by)?;
        // What the rules do not let go has ended before it was known whose it is.
        if let Some(row) = &given {
            settled::follow(commit, row, row.history.state())?;
        }
    }
    Ok(taken_back)
}
