//! The database file: how it is opened, its tables, and what its errors mean. Versions only go forward.
use super::{StoreError, StoreErrorKind, key::DataKey};
use rusqlite::{Connection, OpenFlags};
use std::{path::PathBuf, time::Duration};
use storage::{
    migrate,
    open::{Opening, lasting},
};
use types::Secret;

/// The version that this binary writes.
pub(super) const VERSION: i64 = 22;
/// Bytes of a page, SQLCipher's default.
pub(super) const PAGE_BYTES: i64 = 4_096;
/// How long a connection waits for the other one's lock: a checkpoint of the whole log on a slow disk.
const BUSY: Duration = Duration::from_secs(10);
/// Prepared statements that a connection keeps: all that the writer uses.
const STATEMENTS: usize = 256;

/// What leads from each version to the next.
const STEPS: [&str; VERSION as usize] = [
    TABLES,
    UNTAKEN,
    DEVICE_SHIFTS,
    RETAINED_TERMS,
    ARRIVALS,
    RUNS,
    STAYS,
    SHIPPED,
    UNSHIPPED_ALARMS,
    BEDS,
    KNOWN,
    STILL,
    DATASETS,
    MEASURED,
    STUDIES,
    COMMANDS,
    ANSWERED,
    DELIVERIES,
    STUDY_AS_OF,
    FEED,
    RESEARCH,
    REFUSED_BY,
];

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE device (
  row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, pseudonym BLOB NOT NULL, catalog_id BLOB NOT NULL,
  edge_seq INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE patient (
  row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, pseudonym BLOB NOT NULL, shift_days INTEGER NOT NULL,
  name TEXT, mrn TEXT, birth_date TEXT, gender TEXT) STRICT;
CREATE TABLE assignment (
  bed TEXT NOT NULL, from_ms INTEGER NOT NULL, patient INTEGER REFERENCES patient,
  PRIMARY KEY (bed, from_ms)) STRICT, WITHOUT ROWID;
CREATE TABLE sample (
  device INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, source_ms INTEGER NOT NULL,
  arrived_ms INTEGER NOT NULL, patient INTEGER, flags INTEGER NOT NULL, priority INTEGER NOT NULL,
  parcel INTEGER, digest BLOB NOT NULL, readings BLOB NOT NULL,
  PRIMARY KEY (device, epoch, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE forgotten (
  device INTEGER NOT NULL, epoch INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY (device, epoch, first)) STRICT, WITHOUT ROWID;
CREATE TABLE unreadable (
  row INTEGER PRIMARY KEY, device TEXT NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL,
  message BLOB NOT NULL) STRICT;
CREATE INDEX unreadable_device ON unreadable (device, row);
CREATE TABLE retained (topic TEXT PRIMARY KEY, message BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// What version 2 adds: parcels of which the region does not have every record.
const UNTAKEN: &str = "
CREATE TABLE untaken (priority INTEGER NOT NULL, parcel INTEGER NOT NULL, PRIMARY KEY (priority, parcel))
  STRICT, WITHOUT ROWID;
";

/// What version 3 adds. A device's shift is drawn when the device is next asked for. What was forgotten before had arrived by the last
/// instant that is known of.
const DEVICE_SHIFTS: &str = "
ALTER TABLE device ADD COLUMN shift_days INTEGER;
ALTER TABLE forgotten ADD COLUMN newest_ms INTEGER NOT NULL DEFAULT 0;
UPDATE forgotten SET newest_ms = max(
  coalesce((SELECT max(arrived_ms) FROM sample), 0),
  coalesce((SELECT value FROM meta WHERE name = 'time_ms'), 0));
CREATE INDEX sample_unshipped ON sample (device, epoch, seq) WHERE parcel IS NULL;
";

/// What version 4 adds: on which terms a message was retained. `expires_ms` is real time, and `boot` the start of the
/// node that stored it. What was kept before was delivered at QoS 1.
const RETAINED_TERMS: &str = "
ALTER TABLE retained ADD COLUMN qos INTEGER NOT NULL DEFAULT 1;
ALTER TABLE retained ADD COLUMN properties BLOB NOT NULL DEFAULT x'';
ALTER TABLE retained ADD COLUMN expires_ms INTEGER;
ALTER TABLE retained ADD COLUMN boot INTEGER NOT NULL DEFAULT 0;
";

/// What version 5 adds: samples in the order of their arrival, which is not that of their numbers where a device counts
/// down.
const ARRIVALS: &str = "
CREATE INDEX sample_arrived ON sample (arrived_ms, device, epoch, seq);
";

/// The runs of each device's counter that its epochs do not tell apart: between which source times they lie, and
/// whether the alarm of a refusal was raised.
macro_rules! runs_table {
    () => {
        "
CREATE TABLE run (
  device INTEGER NOT NULL, run INTEGER NOT NULL, after_ms INTEGER NOT NULL, newest_ms INTEGER NOT NULL,
  alarmed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (device, run)) STRICT, WITHOUT ROWID;
"
    };
}

/// The table of runs alone, for tests.
#[cfg(test)]
pub(super) const RUNS_TABLE: &str = runs_table!();

/// What version 6 adds: runs. What was stored before is the first run of its device; 4294967295 is the epoch of the
/// edge. Of what was forgotten before, nothing is known of the oldest.
const RUNS: &str = concat!(
    runs_table!(),
    "
INSERT INTO run (device, run, after_ms, newest_ms)
  SELECT device, 0, -9223372036854775808, max(newest_ms) FROM (
    SELECT device, max(source_ms) AS newest_ms FROM sample WHERE epoch <> 4294967295 GROUP BY device
    UNION ALL SELECT device, max(newest_ms) FROM forgotten WHERE epoch <> 4294967295 GROUP BY device)
  GROUP BY device;
ALTER TABLE forgotten ADD COLUMN oldest_ms INTEGER NOT NULL DEFAULT -9223372036854775808;
"
);

/// What version 7 adds. What clinical data calls a device belongs to one stay of one patient (0: nobody) at it. A sample
/// without a stay is from before: it went out under the device's one pseudonym, which stands for all of them (-1).
/// And what the catalog was told of a device last.
const STAYS: &str = "
CREATE TABLE stay (
  row INTEGER PRIMARY KEY, device INTEGER NOT NULL REFERENCES device, patient INTEGER NOT NULL,
  since_ms INTEGER NOT NULL, pseudonym BLOB NOT NULL, UNIQUE (device, patient, since_ms)) STRICT;
INSERT INTO stay (device, patient, since_ms, pseudonym) SELECT row, -1, 0, pseudonym FROM device;
ALTER TABLE sample ADD COLUMN stay INTEGER;
CREATE TABLE catalogued (
  device INTEGER PRIMARY KEY REFERENCES device, facts TEXT NOT NULL, updated_ms INTEGER NOT NULL) STRICT;
";

/// What version 8 adds: how many readings each parcel held, so that a gap can be counted when their samples are gone,
/// and as which parcel the region took what it had not taken at first.
const SHIPPED: &str = "
CREATE TABLE shipped (
  n INTEGER PRIMARY KEY, priority INTEGER NOT NULL, parcel INTEGER NOT NULL, readings INTEGER NOT NULL,
  at_ms INTEGER NOT NULL) STRICT;
CREATE TABLE cured (
  priority INTEGER NOT NULL, parcel INTEGER NOT NULL, now_priority INTEGER NOT NULL, now_parcel INTEGER NOT NULL,
  PRIMARY KEY (priority, parcel)) STRICT, WITHOUT ROWID;
";

/// What version 9 adds: alarms among the samples that were never shipped, which go first.
const UNSHIPPED_ALARMS: &str = "
CREATE INDEX sample_unshipped_alarm ON sample (device, epoch, seq) WHERE parcel IS NULL AND priority = 0;
";

/// What version 10 adds: beds at run time ([`super::beds`], [`super::correction`]). Every device stood where it stands.
/// A sample without a parcel that was `shipped` was sent before the region was put back ([`super::resync`]).
const BEDS: &str = "
CREATE TABLE bed_entry (
  row INTEGER PRIMARY KEY, bed TEXT NOT NULL, from_ms INTEGER NOT NULL, patient INTEGER REFERENCES patient,
  entered_ms INTEGER NOT NULL, entered_by TEXT NOT NULL) STRICT;
CREATE INDEX bed_entry_bed ON bed_entry (bed, from_ms, row);
INSERT INTO bed_entry (bed, from_ms, patient, entered_ms, entered_by)
  SELECT bed, from_ms, patient, coalesce((SELECT value FROM meta WHERE name = 'time_ms'), 0), 'configuration'
  FROM assignment ORDER BY bed, from_ms;
DROP TABLE assignment;
CREATE TABLE placement (
  device INTEGER NOT NULL, since_ms INTEGER NOT NULL, bed TEXT, PRIMARY KEY (device, since_ms)) STRICT, WITHOUT ROWID;
CREATE INDEX placement_bed ON placement (bed);
CREATE TABLE correction (
  row INTEGER PRIMARY KEY, bed TEXT NOT NULL, from_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,
  device INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL) STRICT;
CREATE TABLE withdrawal (
  row INTEGER PRIMARY KEY, device INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
  priority INTEGER NOT NULL, parcel INTEGER, was_priority INTEGER NOT NULL, was_parcel INTEGER, patient INTEGER,
  stay INTEGER, at_ms INTEGER NOT NULL, readings BLOB NOT NULL) STRICT;
CREATE INDEX withdrawal_sample ON withdrawal (device, epoch, seq);
CREATE INDEX withdrawal_unshipped ON withdrawal (row) WHERE parcel IS NULL;
ALTER TABLE sample ADD COLUMN shipped INTEGER NOT NULL DEFAULT 0;
";

/// What version 11 adds: what more is known of a patient, and with which parcel the region was told of them last.
const KNOWN: &str = "
ALTER TABLE patient ADD COLUMN height_cm TEXT;
ALTER TABLE patient ADD COLUMN weight_kg TEXT;
ALTER TABLE patient ADD COLUMN care_unit TEXT;
ALTER TABLE patient ADD COLUMN priority INTEGER;
ALTER TABLE patient ADD COLUMN parcel INTEGER;
CREATE INDEX patient_untold ON patient (row) WHERE parcel IS NULL;
";

/// What version 12 adds: the number at which a device's counter stands still in a run, if it does.
pub(super) const STILL: &str = "
ALTER TABLE run ADD COLUMN still_epoch INTEGER;
ALTER TABLE run ADD COLUMN still_seq INTEGER;
";

/// What version 13 adds: research tables (`edge::dataset`). Rows are not given twice, so that parts of what was removed
/// are nobody else's. One that is not complete is still coming, or its import was killed.
const DATASETS: &str = "
CREATE TABLE dataset (
  row INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, columns TEXT NOT NULL, records INTEGER NOT NULL,
  imported_ms INTEGER NOT NULL, imported_by TEXT NOT NULL, digest BLOB NOT NULL, complete INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX dataset_name ON dataset (name) WHERE complete = 1;
CREATE TABLE dataset_part (row INTEGER PRIMARY KEY, dataset INTEGER NOT NULL, numbers BLOB NOT NULL) STRICT;
CREATE INDEX dataset_part_of ON dataset_part (dataset);
";

/// What version 14 adds: what each device measured in the order of its source times, and alarms, for who reads series.
const MEASURED: &str = "
CREATE INDEX sample_measured ON sample (device, source_ms);
CREATE INDEX sample_alarm ON sample (source_ms) WHERE priority = 0;
";

/// What version 15 adds: studies at this facility (`edge::learning`): asks that wait, rounds with their secrets, what a
/// person decided, and what was debited. Debits are never deleted.
const STUDIES: &str = "
CREATE TABLE study_ask (
  n INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL,
  step TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (study, round, attempt, step)) STRICT;
CREATE TABLE study_member (
  study TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, at_ms INTEGER NOT NULL,
  PRIMARY KEY (study, round, attempt)) STRICT, WITHOUT ROWID;
CREATE TABLE study_consent (
  study TEXT NOT NULL, digest TEXT NOT NULL, text TEXT NOT NULL, decided TEXT NOT NULL, by TEXT NOT NULL,
  at_ms INTEGER NOT NULL, PRIMARY KEY (study, digest)) STRICT, WITHOUT ROWID;
CREATE TABLE study_debit (
  n INTEGER PRIMARY KEY AUTOINCREMENT, release TEXT NOT NULL UNIQUE, sampling REAL NOT NULL,
  noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL, epsilon_after REAL NOT NULL, delta REAL NOT NULL,
  at_ms INTEGER NOT NULL) STRICT;
";

/// What version 16 adds: commands to devices (`edge::control`).
const COMMANDS: &str = "
CREATE TABLE command (
  number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, device TEXT NOT NULL, sequence INTEGER NOT NULL,
  signed BLOB NOT NULL, state TEXT NOT NULL, reason TEXT, begun INTEGER NOT NULL, ended INTEGER NOT NULL) STRICT;
CREATE INDEX command_open ON command (device, sequence) WHERE ended = 0;
CREATE TABLE command_mark (
  device TEXT PRIMARY KEY, sequence INTEGER NOT NULL, floor INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE command_hold (device TEXT PRIMARY KEY, by TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE device_twin (
  device TEXT PRIMARY KEY, version INTEGER NOT NULL, reported TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// What version 17 adds: which rounds of studies were answered, so that none is answered twice, and what the facility keeps
/// of its update in each round.
const ANSWERED: &str = "
CREATE TABLE study_done (
  study TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, at_ms INTEGER NOT NULL,
  PRIMARY KEY (study, round, attempt)) STRICT, WITHOUT ROWID;
CREATE TABLE study_memory (
  study TEXT NOT NULL, round INTEGER NOT NULL, memory TEXT NOT NULL, at_ms INTEGER NOT NULL,
  PRIMARY KEY (study, round)) STRICT;
";

/// What version 18 adds: files that come down (`edge::deliveries`).
const DELIVERIES: &str = "
CREATE TABLE delivery (
  id BLOB PRIMARY KEY, name TEXT NOT NULL, sha256 BLOB NOT NULL, size INTEGER NOT NULL, class TEXT NOT NULL,
  purpose TEXT NOT NULL, come_ms INTEGER NOT NULL, arrived_ms INTEGER) STRICT, WITHOUT ROWID;
";

/// What version 19 adds: as of which instant (mesh time, in ms) a study looks at the facility.
const STUDY_AS_OF: &str = "
CREATE TABLE study_as_of (study TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// What version 20 adds: what has changed ([`super::feed`]). What there is already is fed in the order in which it refers to each other.
const FEED: &str = "
CREATE TABLE feed (
  n INTEGER PRIMARY KEY, kind INTEGER NOT NULL, a INTEGER NOT NULL, b INTEGER NOT NULL DEFAULT 0,
  c INTEGER NOT NULL DEFAULT 0, readings BLOB) STRICT;
CREATE TRIGGER feed_device AFTER INSERT ON device BEGIN
  INSERT INTO feed (kind, a) VALUES (1, NEW.row); END;
CREATE TRIGGER feed_patient AFTER INSERT ON patient BEGIN
  INSERT INTO feed (kind, a) VALUES (2, NEW.row); END;
CREATE TRIGGER feed_described AFTER UPDATE OF name, mrn, birth_date, gender, height_cm, weight_kg, care_unit ON patient
BEGIN INSERT INTO feed (kind, a) VALUES (2, NEW.row); END;
CREATE TRIGGER feed_bed AFTER INSERT ON bed_entry BEGIN
  INSERT INTO feed (kind, a) VALUES (3, NEW.row); END;
CREATE TRIGGER feed_sample AFTER INSERT ON sample BEGIN
  INSERT INTO feed (kind, a, b, c) VALUES (4, NEW.device, NEW.epoch, NEW.seq); END;
CREATE TRIGGER feed_moved AFTER UPDATE OF readings ON sample BEGIN
  INSERT INTO feed (kind, a, b, c) VALUES (4, NEW.device, NEW.epoch, NEW.seq); END;
CREATE TRIGGER feed_withdrawn AFTER INSERT ON withdrawal BEGIN
  INSERT INTO feed (kind, a) VALUES (5, NEW.row); END;
CREATE TRIGGER feed_gone AFTER DELETE ON sample BEGIN
  INSERT INTO feed (kind, a, readings) VALUES (6, OLD.device, OLD.readings); END;
CREATE TRIGGER feed_withdrawn_gone AFTER DELETE ON withdrawal BEGIN
  INSERT INTO feed (kind, a, readings) VALUES (6, OLD.device, OLD.readings); END;
INSERT INTO feed (kind, a) SELECT 1, row FROM device ORDER BY row;
INSERT INTO feed (kind, a) SELECT 2, row FROM patient ORDER BY row;
INSERT INTO feed (kind, a) SELECT 3, row FROM bed_entry ORDER BY row;
INSERT INTO feed (kind, a, b, c) SELECT 4, device, epoch, seq FROM sample;
INSERT INTO feed (kind, a) SELECT 5, row FROM withdrawal ORDER BY row;
";

/// What version 21 adds ([`super::research`]): 0 may be used, 1 may not; none: nobody ever said that it may not.
const RESEARCH: &str = "
ALTER TABLE patient ADD COLUMN research_choice INTEGER;
ALTER TABLE patient ADD COLUMN research_told INTEGER NOT NULL DEFAULT 1;
CREATE INDEX patient_research ON patient (row) WHERE research_choice IS NOT NULL;
CREATE INDEX patient_research_untold ON patient (row) WHERE research_told = 0;
";

/// What version 22 adds: who of the facility's staff refused a command.
const REFUSED_BY: &str = "
ALTER TABLE command ADD COLUMN refused_by TEXT;
";

/// With what every connection to a file of the facility begins. What SQLCipher logs names files and pages; errors come
/// back to us anyway.
pub(super) fn first_statements(key: &DataKey) -> Secret<String> {
    let key = key.pragma();
    Secret::new(format!(
        "PRAGMA cipher_log_level = NONE; {}; PRAGMA trusted_schema = 0; PRAGMA cell_size_check = 1;",
        key.reveal()
    ))
}

/// Where the database is and how it is opened.
#[derive(Clone)]
pub(super) struct File {
    pub path: PathBuf,
    pub key: DataKey,
    /// SQLite's virtual file system; its own when none is named.
    pub vfs: Option<&'static str>,
}

impl File {
    /// The writer's connection: tables made or checked, and the whole log written into the database, so that no
    /// commit ever follows a part of the log whose fsync is in doubt.
    pub(super) fn open_writer(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut connection = self.connect(flags)?;
        let configure = |connection: &Connection| {
            // Before the first table, or it has no effect.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            lasting(connection)?;
            // The writer writes the log into the database itself, after it has answered its callers.
            connection.pragma_update(None, "wal_autocheckpoint", 0)
        };
        configure(&connection).map_err(StoreError::sqlite("configure the database"))?;
        make_tables(&mut connection)?;
        checkpoint(&connection, "TRUNCATE")?;
        Ok(connection)
    }

    /// A connection that only reads.
    pub(super) fn open_reader(&self) -> Result<Connection, StoreError> {
        // Not READ_ONLY: a reader of a log needs to write its shared index. `query_only` refuses the rest.
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(StoreError::sqlite("configure the database"))?;
        if migrate::version(&connection, VERSION)? < VERSION {
            let op = "open the database: its schema is older than this binary; start the node once";
            return Err(StoreError::new(StoreErrorKind::Refused, op));
        }
        Ok(connection)
    }

    /// A connection that writes beside the node's own writer: it takes its turn, and leaves the log to the node.
    pub(super) fn open_beside(&self) -> Result<Connection, StoreError> {
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let configure = || {
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "wal_autocheckpoint", 0)
        };
        configure().map_err(StoreError::sqlite("configure the database"))?;
        if migrate::version(&connection, VERSION)? < VERSION {
            let op = "open the database: its schema is older than this binary; start the node once";
            return Err(StoreError::new(StoreErrorKind::Refused, op));
        }
        Ok(connection)
    }

    /// A connection to a database without tables, for tests of the way forward.
    #[cfg(test)]
    pub(super) fn open_bare(&self) -> Result<Connection, StoreError> {
        self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    fn connect(&self, flags: OpenFlags) -> Result<Connection, StoreError> {
        let first = first_statements(&self.key);
        let opening = Opening {
            flags,
            vfs: self.vfs,
            first: first.reveal(),
            busy: BUSY,
            statements: STATEMENTS,
        };
        opening
            .open(&self.path)
            .map_err(StoreError::sqlite("open the database"))
    }
}

/// Writes the log into the database: `PASSIVE` as much as readers allow, `TRUNCATE` all of it.
pub(super) fn checkpoint(connection: &Connection, mode: &'static str) -> Result<(), StoreError> {
    let busy: i64 = connection
        .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            row.get(0)
        })
        .map_err(StoreError::sqlite("write the log into the database"))?;
    if busy != 0 && mode == "TRUNCATE" {
        let op = "write the log into the database";
        return Err(StoreError::new(StoreErrorKind::Unavailable, op));
    }
    Ok(())
}

/// Pages of the log that are not in the database yet.
pub(super) fn log_pages(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
        .map_err(StoreError::sqlite("look at the log"))
}

fn make_tables(connection: &mut Connection) -> Result<(), StoreError> {
    federation::audit::schema(connection)?;
    federation::outbox::schema(connection)?;
    federation::inbox::schema(connection)?;
    federation::ledger::notes::schema(connection)?;
    federation::blobs::schema(connection)?;
    federation::gap::schema(connection)?;
    migrate::file(connection, VERSION, |tx, found| {
        migrate::forward(tx, found, &STEPS)
    })
}

/// Makes the tables as the first version did, for tests of the way forward.
#[cfg(test)]
pub(super) fn make_first_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(STEPS[0])?;
    connection.pragma_update(None, "user_version", 1)
}
