//! The tables in PostgreSQL, and what leads from each version of them to the next. The tables of what a resource is found by
//! are elsewhere ([`crate::query::sql::TABLES`]).
use super::{events, rules};

/// The schema that this binary writes. It only goes forward.
pub const SCHEMA_VERSION: i64 = 10;

/// Version 1.
pub(super) const SCHEMA: &str = r#"
CREATE TABLE head(one BOOLEAN PRIMARY KEY CHECK (one), version BIGINT NOT NULL, seq BIGINT NOT NULL,
  updated BIGINT NOT NULL, observations BIGINT NOT NULL, patients BIGINT NOT NULL, devices BIGINT NOT NULL);
INSERT INTO head VALUES (TRUE, 1, 0, 0, 0, 0, 0);
-- seq is the order of commits; the columns after body are what a resource is found by.
CREATE TABLE resource(seq BIGINT NOT NULL UNIQUE, type TEXT NOT NULL, id TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL, updated BIGINT NOT NULL, body TEXT NOT NULL, patient TEXT, device TEXT, code TEXT,
  category TEXT, effective BIGINT, PRIMARY KEY (type, id));
CREATE INDEX resource_patient ON resource(patient, effective, id) WHERE patient IS NOT NULL;
CREATE INDEX resource_device ON resource(device, effective, id) WHERE device IS NOT NULL;
CREATE INDEX resource_code ON resource(code, effective, id) WHERE code IS NOT NULL;
CREATE INDEX resource_date ON resource(effective, id) WHERE effective IS NOT NULL;
-- every version of the types that have more than one
CREATE TABLE history(type TEXT NOT NULL, id TEXT COLLATE "C" NOT NULL, version BIGINT NOT NULL,
  updated BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (type, id, version));
CREATE TABLE parcel(id BYTEA PRIMARY KEY, conflicts TEXT NOT NULL);
"#;

/// What leads from each version to the next, from version 1 on. Version 2 keeps which facility owns an id; version 3 the
/// order of past versions, and what readers were shown; version 4 what clients write, of any type;
/// version 5 what that is found by ([`crate::query::sql::TABLES`]); version 6 subscriptions; version 7 another order of
/// the index of codes ([`crate::query::sql::CODES_BY_ID`]); version 8 lists the Observations of clients by their times, and past
/// versions but those of the server's own AuditEvents in their order; version 9 keeps what was created by POST, and
/// lists the Observations that have changed in the order of commits; version 10 keeps what the index was made by.
pub(super) const STEPS: [&str; SCHEMA_VERSION as usize - 1] = [
    "
CREATE TABLE facility(place TEXT PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE);
ALTER TABLE resource ADD COLUMN source TEXT;
UPDATE head SET version = 2;
",
    "
ALTER TABLE history ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
CREATE TABLE reader(name TEXT PRIMARY KEY, marks TEXT NOT NULL);
UPDATE head SET version = 3;
",
    "
-- which client wrote it; none where a facility delivered it
ALTER TABLE resource ADD COLUMN author TEXT;
ALTER TABLE history ADD COLUMN author TEXT;
CREATE INDEX history_order ON history(seq);
CREATE INDEX history_type ON history(type, seq);
UPDATE head SET version = 4;
",
    "
UPDATE head SET version = 5;
",
    events::STEP,
    "
UPDATE head SET version = 7;
",
    "
CREATE INDEX resource_written ON resource(effective, id) WHERE author IS NOT NULL AND type = 'Observation';
CREATE INDEX history_others ON history(seq) WHERE NOT (type = 'AuditEvent' AND author IS NULL);
UPDATE head SET version = 8;
",
    "
CREATE INDEX resource_withdrawn ON resource(seq) WHERE type = 'Observation' AND version > 1;
-- 1 where a client created it by POST, 0 where it was put; none of what no client wrote, and of what is older
ALTER TABLE history ADD COLUMN posted BIGINT;
UPDATE head SET version = 9;
",
    rules::STEP,
];
