//! The rows of commands and twins in the ledger's file.
use commands::{History, State, Value};
use federation::db::DbError;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use types::{CatalogId, FacilityId, Id128, Name, Timestamp};

/// The steps from each version of the tables to the next.
pub const SCHEMA: &[&str] = &["
CREATE TABLE command(number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, device BLOB NOT NULL, facility TEXT NOT NULL,
  name TEXT NOT NULL, parameters TEXT NOT NULL, by TEXT NOT NULL, key TEXT, request TEXT, safety INTEGER NOT NULL,
  approved_by TEXT, approved INTEGER, sequence INTEGER, signed BLOB, asked INTEGER NOT NULL, expires INTEGER NOT NULL,
  state TEXT NOT NULL, history TEXT NOT NULL, ended INTEGER, property TEXT) STRICT;
CREATE UNIQUE INDEX command_key ON command(by, key) WHERE key IS NOT NULL;
CREATE INDEX command_of_device ON command(device, number);
CREATE INDEX command_open ON command(expires) WHERE ended IS NULL;
CREATE INDEX command_ended ON command(ended) WHERE ended IS NOT NULL;
CREATE TABLE twin(device BLOB PRIMARY KEY, version INTEGER NOT NULL, desired TEXT NOT NULL, desired_by TEXT,
  desired_time INTEGER, reported TEXT NOT NULL, reported_version INTEGER NOT NULL, reported_time INTEGER,
  connected INTEGER NOT NULL, seen INTEGER, heard INTEGER, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE want(device BLOB NOT NULL, property TEXT NOT NULL, facility TEXT NOT NULL, name TEXT NOT NULL,
  parameters TEXT NOT NULL, by TEXT NOT NULL, command BLOB, retry INTEGER NOT NULL, settled INTEGER NOT NULL,
  PRIMARY KEY (device, property)) STRICT, WITHOUT ROWID;
CREATE INDEX want_open ON want(retry) WHERE settled = 0 AND command IS NULL;
", super::tables::SCHEMA, "
ALTER TABLE want ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
UPDATE want SET settled = 2 WHERE settled = 1 AND command IN (SELECT id FROM command WHERE state = 'acknowledged');
CREATE TABLE withdrawn(command BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
", "
CREATE INDEX command_open_of_device ON command(device) WHERE ended IS NULL;
CREATE INDEX command_of_wish ON command(device, property, number) WHERE property IS NOT NULL;
CREATE INDEX command_ended_wish ON command(ended) WHERE ended IS NOT NULL AND property IS NOT NULL AND key IS NULL;
CREATE TABLE command_kept(one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL) STRICT;
INSERT INTO command_kept SELECT 1, count(*) FROM command;
CREATE TRIGGER command_comes AFTER INSERT ON command BEGIN UPDATE command_kept SET count = count + 1; END;
CREATE TRIGGER command_goes AFTER DELETE ON command BEGIN UPDATE command_kept SET count = count - 1; END;
"];

/// Commands of a device that have not ended: few, and found without the others.
const OPEN_OF: &str = "SELECT count(*) FROM command WHERE device = ?1 AND ended IS NULL";
/// How many commands there are: counted as they come and go.
const KEPT: &str = "SELECT count FROM command_kept";

/// Commands on a page at most.
pub const MAX_PAGE: u16 = 1_000;

const COLUMNS: &str = "id, device, facility, name, parameters, by, key, request, safety, approved_by, approved, sequence, \
     signed, asked, expires, history, property, number";

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: Id128,
    pub device: CatalogId,
    pub facility: FacilityId,
    pub name: Name,
    pub parameters: BTreeMap<String, Value>,
    pub by: String,
    /// The client's idempotency key, and the request that it is of; a twin's command has neither.
    pub key: Option<(String, String)>,
    pub safety: bool,
    pub approval: Option<(String, Timestamp)>,
    /// Once it is signed.
    pub sequence: Option<u64>,
    pub signed: Option<Vec<u8>>,
    pub asked: Timestamp,
    pub expires: Timestamp,
    pub history: History,
    /// The property of the twin that it is to bring about.
    pub property: Option<String>,
    /// The order of commands; 0 before it is stored.
    pub number: i64,
}

/// A text, number or blob of a row that does not make sense.
fn corrupt() -> DbError {
    DbError::Corrupt("a command or a twin")
}

pub fn parameters_json(parameters: &BTreeMap<String, Value>) -> Json {
    let all = parameters.iter();
    let all = all.map(|(name, value)| (name.clone(), value.to_json()));
    Json::Object(all.collect())
}

pub fn parameters_of(text: &str) -> Option<BTreeMap<String, Value>> {
    let object: Map<String, Json> = serde_json::from_str(text).ok()?;
    let value = |(name, json): (String, Json)| Some((name, Value::from_json(&json).ok()?));
    object.into_iter().map(value).collect()
}

impl Row {
    /// Whether it waits for a second person.
    pub const fn needs_approval(&self) -> bool {
        self.safety && self.approval.is_none()
    }

    fn read(row: &SqlRow<'_>) -> Result<Self, DbError> {
        let text = |column| row.get::<_, String>(column);
        let id = |column| -> Result<Id128, DbError> {
            let bytes: Vec<u8> = row.get(column)?;
            bytes[..].try_into().map_err(|_| corrupt())
        };
        let key: Option<String> = row.get(6)?;
        let request: Option<String> = row.get(7)?;
        let approved_by: Option<String> = row.get(9)?;
        let approved: Option<i64> = row.get(10)?;
        let sequence: Option<i64> = row.get(11)?;
        let history = serde_json::from_str(&text(15)?).map_err(|_| corrupt())?;
        Ok(Self {
            id: id(0)?,
            device: CatalogId(id(1)?),
            facility: text(2)?.parse().map_err(|_| corrupt())?,
            name: text(3)?.parse().map_err(|_| corrupt())?,
            parameters: parameters_of(&text(4)?).ok_or_else(corrupt)?,
            by: text(5)?,
            key: key.zip(request),
            safety: row.get(8)?,
            approval: approved_by.zip(approved.map(Timestamp)),
            sequence: sequence.map(i64::unsigned_abs),
            signed: row.get(12)?,
            asked: Timestamp(row.get(13)?),
            expires: Timestamp(row.get(14)?),
            history,
            property: row.get(16)?,
            number: row.get(17)?,
        })
    }

    /// Stores it anew.
    pub fn insert(&self, tx: &Connection) -> Result<(), DbError> {
        let sql = "INSERT INTO command(id, device, facility, name, parameters, by, key, request, safety, asked, expires, \
             state, history, property) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
        let (key, request) = match &self.key {
            Some((key, request)) => (Some(key), Some(request)),
            None => (None, None),
        };
        tx.prepare_cached(sql)?.execute(params![
            self.id.as_bytes(),
            self.device.as_bytes(),
            self.facility.as_str(),
            self.name.as_str(),
            parameters_json(&self.parameters).to_string(),
            self.by,
            key,
            request,
            self.safety,
            self.asked.0,
            self.expires.0,
            self.history.state().as_str(),
            history_text(&self.history)?,
            self.property,
        ])?;
        self.update(tx)
    }

    /// Stores what changes of it.
    pub fn update(&self, tx: &Connection) -> Result<(), DbError> {
        let sql = "UPDATE command SET approved_by = ?2, approved = ?3, sequence = ?4, signed = ?5, state = ?6, \
             history = ?7, ended = ?8 WHERE id = ?1";
        let (approved_by, approved) = match &self.approval {
            Some((by, time)) => (Some(by), Some(time.0)),
            None => (None, None),
        };
        let state = self.history.state();
        let last = self.history.events().last();
        let ended = last.filter(|_| state.is_end()).map(|event| event.time.0);
        let sequence = self
            .sequence
            .map(|sequence| i64::try_from(sequence).unwrap_or(i64::MAX));
        tx.prepare_cached(sql)?.execute(params![
            self.id.as_bytes(),
            approved_by,
            approved,
            sequence,
            self.signed,
            state.as_str(),
            history_text(&self.history)?,
            ended,
        ])?;
        Ok(())
    }

    /// The command of an id.
    pub fn find(tx: &Connection, id: Id128) -> Result<Option<Self>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM command WHERE id = ?1");
        one(tx, &sql, params![id.as_bytes()])
    }

    /// The command that a client asked for with an idempotency key.
    pub fn by_key(tx: &Connection, by: &str, key: &str) -> Result<Option<Self>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM command WHERE by = ?1 AND key = ?2");
        one(tx, &sql, params![by, key])
    }

    /// Commands of a device, the newest first, before a number.
    pub fn of_device(
        tx: &Connection,
        device: CatalogId,
        before: i64,
        limit: u16,
    ) -> Result<Vec<Self>, DbError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM command WHERE device = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3"
        );
        many(tx, &sql, params![device.as_bytes(), before, limit])
    }

    /// Commands whose time has ended, and of which nobody has said what became of them.
    pub fn overdue(tx: &Connection, now: Timestamp, limit: u16) -> Result<Vec<Self>, DbError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM command WHERE ended IS NULL AND expires <= ?1 AND (state = ?3 OR expires <= ?2) LIMIT ?4"
        );
        let later = now.plus_ms(-super::GRACE_MS);
        let queued = State::Queued.as_str();
        many(tx, &sql, params![now.0, later.0, queued, limit])
    }

    /// Signed commands for a facility that have not ended.
    pub fn open_of(tx: &Connection, facility: &FacilityId) -> Result<Vec<Self>, DbError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM command WHERE ended IS NULL AND signed IS NOT NULL AND facility = ?1 ORDER BY number"
        );
        many(tx, &sql, params![facility.as_str()])
    }

    /// How many commands of a device have not ended, and how many are kept in all.
    pub fn counts(tx: &Connection, device: CatalogId) -> Result<(u32, u32), DbError> {
        let open = tx
            .prepare_cached(OPEN_OF)?
            .query_row([device.as_bytes()], |row| row.get(0))?;
        let kept = tx.prepare_cached(KEPT)?.query_row([], |row| row.get(0))?;
        Ok((open, kept))
    }

    /// Forgets the commands of what is desired of a property that have ended, but for the newest.
    pub fn forget_wishes(
        tx: &Connection,
        device: CatalogId,
        property: &str,
        kept: u32,
    ) -> Result<usize, DbError> {
        let ended = "device = ?1 AND property = ?2 AND key IS NULL AND ended IS NOT NULL";
        let sql = format!(
            "DELETE FROM command WHERE {ended} AND number NOT IN \
             (SELECT number FROM command WHERE {ended} ORDER BY number DESC LIMIT ?3)"
        );
        let by = params![device.as_bytes(), property, kept];
        Ok(tx.prepare_cached(&sql)?.execute(by)?)
    }

    /// Forgets the commands of what is desired that ended first, to make room for others.
    pub fn make_room_of_wishes(tx: &Connection, limit: u16) -> Result<usize, DbError> {
        let sql = "DELETE FROM command WHERE number IN (SELECT number FROM command \
             WHERE ended IS NOT NULL AND property IS NOT NULL AND key IS NULL ORDER BY ended LIMIT ?1)";
        Ok(tx.prepare_cached(sql)?.execute(params![limit])?)
    }

    /// Forgets the commands that ended first, to make room.
    pub fn make_room(tx: &Connection, limit: u16) -> Result<usize, DbError> {
        let sql = "DELETE FROM command WHERE number IN \
             (SELECT number FROM command WHERE ended IS NOT NULL ORDER BY ended LIMIT ?1)";
        Ok(tx.prepare_cached(sql)?.execute(params![limit])?)
    }

    /// Forgets commands that ended before an instant.
    pub fn forget(tx: &Connection, before: Timestamp, limit: u16) -> Result<usize, DbError> {
        let sql = "DELETE FROM command WHERE number IN (SELECT number FROM command WHERE ended < ?1 LIMIT ?2)";
        Ok(tx.prepare_cached(sql)?.execute(params![before.0, limit])?)
    }
}

fn history_text(history: &History) -> Result<String, DbError> {
    serde_json::to_string(history).map_err(|_| corrupt())
}

fn one(tx: &Connection, sql: &str, by: impl rusqlite::Params) -> Result<Option<Row>, DbError> {
    Ok(many(tx, sql, by)?.into_iter().next())
}

fn many(tx: &Connection, sql: &str, by: impl rusqlite::Params) -> Result<Vec<Row>, DbError> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(by)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Row::read(row)?);
    }
    Ok(found)
}

/// A twin.
#[derive(Clone, Debug, PartialEq)]
pub struct Twin {
    pub device: CatalogId,
    /// Of what is desired; 0 before anything was.
    pub version: u64,
    pub desired: Map<String, Json>,
    pub desired_by: Option<String>,
    pub desired_time: Option<Timestamp>,
    pub reported: Map<String, Json>,
    /// Of what is reported, as its facility counts.
    pub reported_version: u64,
    pub reported_time: Option<Timestamp>,
    /// Whether its facility could reach it, when it was last heard of.
    pub connected: bool,
    /// When its facility last saw it.
    pub seen: Option<Timestamp>,
    /// When its facility last spoke of it, at most now.
    pub heard: Option<Timestamp>,
    /// The last sequence number of its commands.
    pub sequence: u64,
}

impl Twin {
    fn new(device: CatalogId) -> Self {
        Self {
            device,
            version: 0,
            desired: Map::new(),
            desired_by: None,
            desired_time: None,
            reported: Map::new(),
            reported_version: 0,
            reported_time: None,
            connected: false,
            seen: None,
            heard: None,
            sequence: 0,
        }
    }

    #[cfg(test)]
    pub fn empty() -> Self {
        Self::new(CatalogId::from_bytes([0; 16]))
    }

    /// The twin of a device; an empty one when there is none yet.
    pub fn find(tx: &Connection, device: CatalogId) -> Result<Self, DbError> {
        let sql = "SELECT version, desired, desired_by, desired_time, reported, reported_version, reported_time, connected, \
             seen, heard, sequence FROM twin WHERE device = ?1";
        let read = |row: &SqlRow<'_>| {
            let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            let time = |column| -> rusqlite::Result<Option<Timestamp>> {
                Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
            };
            let object = |column| -> rusqlite::Result<Map<String, Json>> {
                let text: String = row.get(column)?;
                serde_json::from_str(&text)
                    .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, 0))
            };
            Ok(Self {
                device,
                version: number(0)?,
                desired: object(1)?,
                desired_by: row.get(2)?,
                desired_time: time(3)?,
                reported: object(4)?,
                reported_version: number(5)?,
                reported_time: time(6)?,
                connected: row.get(7)?,
                seen: time(8)?,
                heard: time(9)?,
                sequence: number(10)?,
            })
        };
        let found = tx
            .prepare_cached(sql)?
            .query_row([device.as_bytes()], read)
            .optional()?;
        Ok(found.unwrap_or_else(|| Self::new(device)))
    }

    /// Stores it.
    pub fn put(&self, tx: &Connection) -> Result<(), DbError> {
        let sql = "INSERT OR REPLACE INTO twin(device, version, desired, desired_by, desired_time, reported, \
             reported_version, reported_time, connected, seen, heard, sequence) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let text = |object: &Map<String, Json>| Json::Object(object.clone()).to_string();
        tx.prepare_cached(sql)?.execute(params![
            self.device.as_bytes(),
            number(self.version),
            text(&self.desired),
            self.desired_by,
            self.desired_time.map(|time| time.0),
            text(&self.reported),
            number(self.reported_version),
            self.reported_time.map(|time| time.0),
            self.connected,
            self.seen.map(|time| time.0),
            self.heard.map(|time| time.0),
            number(self.sequence),
        ])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_file_says_was_brought_about_is_known_to_be_and_what_was_refused_stays_so() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA[0]).unwrap();
        for (number, state) in [(1_u8, "acknowledged"), (2, "refused")] {
            let id = vec![number; 16];
            let sql = "INSERT INTO command(id, device, facility, name, parameters, by, safety, asked, expires, state, history) \
                 VALUES (?1, ?1, 'eu-f1', 'set-interval', '{}', 'operator', 0, 0, 0, ?2, '[]')";
            db.execute(sql, params![id, state]).unwrap();
            let sql = "INSERT INTO want(device, property, facility, name, parameters, by, command, retry, settled) \
                 VALUES (?1, 'interval', 'eu-f1', 'set-interval', '{}', 'operator', ?1, 0, 1)";
            db.execute(sql, params![id]).unwrap();
        }
        for step in &SCHEMA[1..] {
            db.execute_batch(step).unwrap();
        }
        let sql = "SELECT settled, failures FROM want ORDER BY device";
        let mut statement = db.prepare(sql).unwrap();
        let read = |row: &SqlRow<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?));
        let rows: Result<Vec<_>, _> = statement.query_map([], read).unwrap().collect();
        assert_eq!(rows.unwrap(), [(2, 0), (1, 0)]);
        let device = CatalogId::from_bytes([1; 16]);
        assert_eq!(
            Row::counts(&db, device).unwrap(),
            (1, 2),
            "they are counted"
        );
    }

    #[test]
    fn commands_are_counted_as_they_come_and_go_and_none_is_looked_at_for_it() {
        let db = Connection::open_in_memory().unwrap();
        for step in SCHEMA {
            db.execute_batch(step).unwrap();
        }
        let (one, other) = ([1_u8; 16], [2_u8; 16]);
        for (number, device, ended) in [
            (1_u8, one, None),
            (2, one, Some(7)),
            (3, other, None),
            (4, one, None),
        ] {
            let sql = "INSERT INTO command(id, device, facility, name, parameters, by, safety, asked, expires, state, history, ended) \
                 VALUES (?1, ?2, 'eu-f1', 'set-interval', '{}', 'operator', 0, 0, 0, 'queued', '[]', ?3)";
            db.execute(sql, params![[number; 16], device, ended])
                .unwrap();
        }
        let device = CatalogId::from_bytes(one);
        assert_eq!(Row::counts(&db, device).unwrap(), (2, 4));
        assert_eq!(Row::forget(&db, Timestamp(8), 10).unwrap(), 1);
        assert_eq!(Row::counts(&db, device).unwrap(), (2, 3));
        for sql in [OPEN_OF, KEPT] {
            let plan = format!("EXPLAIN QUERY PLAN {sql}");
            let mut statement = db.prepare(&plan).unwrap();
            let by: Vec<&dyn rusqlite::ToSql> = match sql {
                OPEN_OF => vec![&one],
                _ => Vec::new(),
            };
            let steps = statement.query_map(&by[..], |row| row.get::<_, String>(3));
            let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
            let steps = steps.join(", ");
            let is_bounded =
                steps.contains("command_open_of_device") || steps.ends_with("command_kept");
            assert!(is_bounded, "{steps}");
        }
    }
}
