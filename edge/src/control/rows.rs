//! The rows of commands, marks, holds and twins in the facility's store.
use commands::{Mark, Reason, Signed, State, Value};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};
use store::StoreError;
use types::{CatalogId, DeviceId, Id128, Name, Timestamp};

/// Commands that have ended are kept at most.
const MAX_ENDED: u32 = 10_000;
/// So many commands of a device are looked back upon for those that it may have carried out.
const MAX_LOOKED_BACK: u32 = 200;
/// Commands that have not ended are listed at most: with some 500 bytes for each a list is read at once.
const MAX_OPEN_LISTED: u32 = 5_000;

/// A command that came down.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) device: DeviceId,
    pub(super) signed: Signed,
    pub(super) state: State,
    pub(super) reason: Option<Reason>,
    /// It was handed to the device, or is about to be.
    pub(super) begun: bool,
}

const COLUMNS: &str = "device, signed, state, reason, begun";

impl Row {
    fn read(row: &SqlRow<'_>) -> rusqlite::Result<Self> {
        let wrong = |column| rusqlite::Error::IntegralValueOutOfRange(column, 0);
        let text = |column| row.get::<_, String>(column);
        let signed: Vec<u8> = row.get(1)?;
        let reason: Option<String> = row.get(3)?;
        Ok(Self {
            device: text(0)?.parse().map_err(|_| wrong(0))?,
            signed: Signed::from_bytes(&signed).map_err(|_| wrong(1))?,
            state: State::parse(&text(2)?).ok_or_else(|| wrong(2))?,
            reason: reason.and_then(|reason| Reason::parse(&reason)),
            begun: row.get(4)?,
        })
    }

    pub(super) fn find(tx: &Connection, id: Id128) -> Result<Option<Self>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM command WHERE id = ?1");
        let mut statement = tx.prepare_cached(&sql)?;
        Ok(statement
            .query_row([id.as_bytes()], Self::read)
            .optional()?)
    }

    /// Commands that have not ended, in the order of their devices' numbers.
    pub(super) fn open(tx: &Connection) -> Result<Vec<Self>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM command WHERE ended = 0 ORDER BY device, sequence");
        let mut statement = tx.prepare_cached(&sql)?;
        let rows = statement.query_map([], Self::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Commands of a device that have not ended, in the order of their numbers.
    pub(super) fn open_of(tx: &Connection, device: &DeviceId) -> Result<Vec<Self>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM command WHERE ended = 0 AND device = ?1 ORDER BY sequence"
        );
        let mut statement = tx.prepare_cached(&sql)?;
        let rows = statement.query_map([device.as_str()], Self::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many commands of a device have not ended.
    pub(super) fn count_open(tx: &Connection, device: &DeviceId) -> Result<u32, StoreError> {
        let sql = "SELECT count(*) FROM command WHERE ended = 0 AND device = ?1";
        let mut statement = tx.prepare_cached(sql)?;
        Ok(statement.query_row([device.as_str()], |row| row.get(0))?)
    }

    /// Those that have not ended, whenever they came, and the newest ones that have: the newest first.
    pub(super) fn list(tx: &Connection, ended: u32) -> Result<Vec<Self>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM command WHERE number IN (SELECT number FROM command WHERE ended = 0 LIMIT ?2) \
             OR number IN (SELECT number FROM command WHERE ended = 1 ORDER BY number DESC LIMIT ?1) ORDER BY number DESC"
        );
        let mut statement = tx.prepare_cached(&sql)?;
        let rows = statement.query_map([ended, MAX_OPEN_LISTED], Self::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn put(&self, tx: &Connection) -> Result<(), StoreError> {
        let command = self.signed.command();
        let sql = "INSERT INTO command(id, device, sequence, signed, state, reason, begun, ended) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET state = excluded.state, \
             reason = excluded.reason, begun = excluded.begun, ended = excluded.ended";
        tx.prepare_cached(sql)?.execute(params![
            command.id.as_bytes(),
            self.device.as_str(),
            i64::try_from(command.sequence).unwrap_or(i64::MAX),
            self.signed.to_bytes(),
            self.state.as_str(),
            self.reason.map(Reason::as_str),
            self.begun,
            self.state.is_end(),
        ])?;
        Ok(())
    }
}

/// Commands of a device that it carried out, of those with a greater number.
pub(super) fn done_after(
    tx: &Connection,
    device: &DeviceId,
    sequence: u64,
) -> Result<Vec<Signed>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM command WHERE device = ?1 AND sequence > ?2 AND state = ?3 ORDER BY sequence"
    );
    let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
    let by = params![device.as_str(), sequence, State::Acknowledged.as_str()];
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query_map(by, |row| Ok(Row::read(row)?.signed))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What a device may have been set to by commands of a name, though nobody knows: the parameters of each that it was handed and
/// may have carried out, but for those that a later one has set, which it did carry out.
pub(super) fn perhaps_done(
    tx: &Connection,
    device: &DeviceId,
    name: &Name,
) -> Result<Vec<BTreeMap<String, Value>>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM command WHERE device = ?1 AND begun = 1 ORDER BY sequence DESC LIMIT ?2"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query_map(params![device.as_str(), MAX_LOOKED_BACK], Row::read)?;
    let (mut found, mut known) = (Vec::new(), BTreeSet::new());
    for row in rows {
        let row = row?;
        let command = row.signed.command();
        if command.name != *name {
            continue;
        }
        match row.state {
            State::Acknowledged => known.extend(command.parameters.keys().cloned()),
            State::Refused => {}
            State::Queued | State::Delivered | State::Expired | State::Failed => {
                let mut set = command.parameters.clone();
                set.retain(|own, _| !known.contains(own));
                found.push(set);
            }
        }
    }
    Ok(found)
}

/// Forgets the oldest commands that have ended, beyond the bound.
pub(super) fn forget(tx: &Connection) -> Result<(), StoreError> {
    let sql =
        "DELETE FROM command WHERE ended = 1 AND number <= (SELECT max(number) FROM command) - ?1";
    tx.prepare_cached(sql)?.execute([MAX_ENDED])?;
    Ok(())
}

/// The facility's device of a catalog id.
pub(super) fn device_of(tx: &Connection, id: CatalogId) -> Result<Option<DeviceId>, StoreError> {
    let sql = "SELECT id FROM device WHERE catalog_id = ?1";
    let found: Option<String> = tx
        .prepare_cached(sql)?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(found.and_then(|id| id.parse().ok()))
}

/// The catalog id of a device.
pub(super) fn catalog_of(tx: &Connection, id: &DeviceId) -> Result<Option<CatalogId>, StoreError> {
    let sql = "SELECT catalog_id FROM device WHERE id = ?1";
    let found: Option<Vec<u8>> = tx
        .prepare_cached(sql)?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.and_then(|id| id[..].try_into().ok()))
}

pub(super) fn mark(tx: &Connection, device: &DeviceId) -> Result<Mark, StoreError> {
    let sql = "SELECT sequence, floor FROM command_mark WHERE device = ?1";
    let read = |row: &SqlRow<'_>| {
        Ok(Mark {
            sequence: row.get::<_, i64>(0)?.unsigned_abs(),
            floor: Timestamp(row.get(1)?),
        })
    };
    let found = tx
        .prepare_cached(sql)?
        .query_row([device.as_str()], read)
        .optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn keep_mark(tx: &Connection, device: &DeviceId, mark: Mark) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO command_mark(device, sequence, floor) VALUES (?1, ?2, ?3)";
    let sequence = i64::try_from(mark.sequence).unwrap_or(i64::MAX);
    tx.prepare_cached(sql)?
        .execute(params![device.as_str(), sequence, mark.floor.0])?;
    Ok(())
}

/// Who holds the commands of a device back, if somebody does.
pub(super) fn held(tx: &Connection, device: &DeviceId) -> Result<Option<String>, StoreError> {
    let sql = "SELECT by FROM command_hold WHERE device = ?1";
    Ok(tx
        .prepare_cached(sql)?
        .query_row([device.as_str()], |row| row.get(0))
        .optional()?)
}

/// The devices whose commands are held back, each with who holds them.
pub(super) fn holds(tx: &Connection) -> Result<Vec<(DeviceId, String)>, StoreError> {
    let sql = "SELECT device, by FROM command_hold ORDER BY device";
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let (device, by): (String, String) = (row.get(0)?, row.get(1)?);
        let device: Result<DeviceId, _> = device.parse();
        let device = device.map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, 0))?;
        Ok((device, by))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Keeps who of the facility's staff refused a command.
pub(super) fn refused_by(tx: &Connection, id: Id128, by: &str) -> Result<(), StoreError> {
    let sql = "UPDATE command SET refused_by = ?2 WHERE id = ?1";
    tx.prepare_cached(sql)?
        .execute(params![id.as_bytes(), by])?;
    Ok(())
}

/// Who of the facility's staff refused a command, if somebody did.
pub(super) fn who_refused(tx: &Connection, id: Id128) -> Result<Option<String>, StoreError> {
    let sql = "SELECT refused_by FROM command WHERE id = ?1";
    let found: Option<Option<String>> = tx
        .prepare_cached(sql)?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}

pub(super) fn hold(tx: &Connection, device: &DeviceId, by: Option<&str>) -> Result<(), StoreError> {
    match by {
        Some(by) => {
            let sql = "INSERT OR REPLACE INTO command_hold(device, by) VALUES (?1, ?2)";
            tx.prepare_cached(sql)?.execute([device.as_str(), by])?;
        }
        None => {
            let sql = "DELETE FROM command_hold WHERE device = ?1";
            tx.prepare_cached(sql)?.execute([device.as_str()])?;
        }
    }
    Ok(())
}

/// What a device reports, and its version.
pub(super) fn reported(
    tx: &Connection,
    device: &DeviceId,
) -> Result<(u64, Map<String, Json>), StoreError> {
    let sql = "SELECT version, reported FROM device_twin WHERE device = ?1";
    let read = |row: &SqlRow<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    let found = tx
        .prepare_cached(sql)?
        .query_row([device.as_str()], read)
        .optional()?;
    Ok(found.map_or_else(Default::default, |(version, text)| {
        (
            version.unsigned_abs(),
            serde_json::from_str(&text).unwrap_or_default(),
        )
    }))
}

pub(super) fn keep_reported(
    tx: &Connection,
    device: &DeviceId,
    (version, reported): (u64, &Map<String, Json>),
) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO device_twin(device, version, reported) VALUES (?1, ?2, ?3)";
    let text = Json::Object(reported.clone()).to_string();
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    tx.prepare_cached(sql)?
        .execute(params![device.as_str(), version, text])?;
    Ok(())
}
