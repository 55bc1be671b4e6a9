//! The rows of deliveries in the region's ledger: what each is, and where it is at each facility that it is for.
use super::descriptor;
use federation::{
    blobs::{Descriptor, Digest},
    db::DbError,
};
use messages::{Delivery, delivery::Described};
use prost::Message;
use rusqlite::{Connection, Row as SqlRow};
use types::{DataClass, FacilityId, Id128, Purpose};

pub(super) const SCHEMA: &[&str] = &["
CREATE TABLE delivery (
  id        BLOB PRIMARY KEY,
  described BLOB NOT NULL,              -- its descriptor, as it came
  class     TEXT NOT NULL,
  purpose   TEXT NOT NULL,
  is_whole  INTEGER NOT NULL,           -- 1: its blob came, and the global node was told
  withdrawn INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE delivery_place (
  id       BLOB NOT NULL,
  facility TEXT NOT NULL,
  state    TEXT NOT NULL,
  PRIMARY KEY (id, facility)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_due ON delivery_place (id) WHERE state IN ('waiting', 'withdrawing');
"];
/// Deliveries and places that are looked at at once.
const MAX_LOOK: u32 = 1_000;

/// Where a delivery is at a facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The region does not have all of it yet, or as much waits for the facility as may.
    Waiting,
    /// Its descriptor was sent.
    Sent,
    /// The facility has all of it.
    Arrived,
    /// The rules keep it from there, or the facility does not take it.
    Refused,
    /// It is to be taken back.
    Withdrawing,
    /// It was taken back.
    Withdrawn,
}

impl State {
    const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Sent,
        Self::Arrived,
        Self::Refused,
        Self::Withdrawing,
        Self::Withdrawn,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Arrived => "arrived",
            Self::Refused => "refused",
            Self::Withdrawing => "withdrawing",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether a facility may say it of itself.
    pub(super) const fn is_said_below(self) -> bool {
        matches!(self, Self::Arrived | Self::Refused)
    }

    const fn is_end(self) -> bool {
        matches!(self, Self::Arrived | Self::Refused | Self::Withdrawn)
    }
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) described: Described,
    pub(super) class: DataClass,
    pub(super) purpose: Purpose,
    pub(super) is_whole: bool,
}

const COLUMNS: &str = "described, class, purpose, is_whole, withdrawn";

impl Row {
    pub(super) const fn digest(&self) -> Digest {
        self.descriptor().digest
    }

    pub(super) const fn descriptor(&self) -> Descriptor {
        descriptor(&self.described)
    }

    pub(super) const fn is_for_facilities(&self) -> bool {
        !self.described.facilities.is_empty()
    }

    fn read(row: &SqlRow<'_>) -> rusqlite::Result<Option<Self>> {
        let described: Vec<u8> = row.get(0)?;
        let (class, purpose): (String, String) = (row.get(1)?, row.get(2)?);
        let (is_whole, withdrawn) = (row.get(3)?, row.get(4)?);
        let read = || {
            let mut described = Described::read(&Delivery::decode(&described[..]).ok()?)?;
            described.withdrawn = withdrawn;
            Some(Self {
                described,
                class: DataClass::parse(&class)?,
                purpose: Purpose::parse(&purpose)?,
                is_whole,
            })
        };
        Ok(read())
    }

    fn all(
        tx: &Connection,
        which: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<Self>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM delivery {which}");
        let mut query = tx.prepare_cached(&sql)?;
        let rows = query.query_map(parameters, Self::read)?;
        let known =
            |row: rusqlite::Result<Option<Self>>| row?.ok_or(DbError::Corrupt("a delivery"));
        rows.map(known).collect()
    }

    pub(super) fn find(tx: &Connection, id: Id128) -> Result<Option<Self>, DbError> {
        Ok(Self::all(tx, "WHERE id = ?1", [id.as_bytes()])?.pop())
    }

    /// Those whose blob has not come yet.
    pub(super) fn not_whole(tx: &Connection) -> Result<Vec<Self>, DbError> {
        let which = "WHERE is_whole = 0 AND withdrawn = 0 LIMIT ?1";
        Self::all(tx, which, [MAX_LOOK])
    }

    /// Those that are for a facility, and were sent to it or taken back.
    pub(super) fn of(tx: &Connection, facility: &FacilityId) -> Result<Vec<Self>, DbError> {
        let which = "WHERE id IN (SELECT id FROM delivery_place WHERE facility = ?1
             AND state IN ('sent', 'arrived', 'withdrawn'))";
        Self::all(tx, which, [facility.as_str()])
    }

    /// What is to be said to which facility now.
    pub(super) fn due(tx: &Connection) -> Result<Vec<(Id128, FacilityId)>, DbError> {
        let mut query = tx.prepare_cached(
            "SELECT place.id, facility FROM delivery_place AS place JOIN delivery USING (id)
             WHERE state = 'withdrawing' OR (state = 'waiting' AND is_whole = 1) LIMIT ?1",
        )?;
        let rows = query.query_map([MAX_LOOK], |row| {
            Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, String>(1)?))
        })?;
        let read = |row: rusqlite::Result<([u8; 16], String)>| {
            let (id, facility) = row?;
            let facility = facility
                .parse()
                .map_err(|_| DbError::Corrupt("a facility"))?;
            Ok((Id128::from_bytes(id), facility))
        };
        rows.map(read).collect()
    }

    pub(super) fn put(&self, tx: &Connection) -> Result<(), DbError> {
        let sql = "INSERT INTO delivery (id, described, class, purpose, is_whole, withdrawn)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE
             SET is_whole = excluded.is_whole, withdrawn = excluded.withdrawn";
        tx.prepare_cached(sql)?.execute((
            self.described.id.as_bytes(),
            self.described.to_delivery().encode_to_vec(),
            self.class.as_str(),
            self.purpose.as_str(),
            self.is_whole,
            self.described.withdrawn,
        ))?;
        Ok(())
    }
}

pub(super) fn set_state(
    tx: &Connection,
    id: Id128,
    facility: &FacilityId,
    state: State,
) -> Result<(), DbError> {
    let sql = "INSERT OR REPLACE INTO delivery_place (id, facility, state) VALUES (?1, ?2, ?3)";
    tx.prepare_cached(sql)?
        .execute((id.as_bytes(), facility.as_str(), state.as_str()))?;
    Ok(())
}

/// A delivery is to be taken back wherever it was sent; where it was not, nothing needs to be said.
pub(super) fn withdraw(tx: &Connection, id: Id128) -> Result<(), DbError> {
    let sql = "UPDATE delivery_place SET state = iif(state IN ('sent', 'arrived'), 'withdrawing', 'withdrawn')
         WHERE id = ?1 AND state <> 'withdrawn'";
    tx.prepare_cached(sql)?.execute([id.as_bytes()])?;
    Ok(())
}

/// Whether a delivery is for a facility.
pub(super) fn is_for(tx: &Connection, id: Id128, facility: &FacilityId) -> Result<bool, DbError> {
    Ok(tx
        .prepare_cached("SELECT 1 FROM delivery_place WHERE id = ?1 AND facility = ?2")?
        .exists((id.as_bytes(), facility.as_str()))?)
}

/// Whether a facility still waits for it.
pub(super) fn is_awaited(tx: &Connection, id: Id128) -> Result<bool, DbError> {
    Ok(tx
        .prepare_cached(
            "SELECT 1 FROM delivery_place WHERE id = ?1 AND state IN ('waiting', 'sent')",
        )?
        .exists([id.as_bytes()])?)
}

/// The facilities where it has come to an end.
pub(super) fn ended(tx: &Connection, id: Id128) -> Result<Vec<(FacilityId, State)>, DbError> {
    let mut query =
        tx.prepare_cached("SELECT facility, state FROM delivery_place WHERE id = ?1")?;
    let rows = query.query_map([id.as_bytes()], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut ended = Vec::new();
    for row in rows {
        let (facility, state) = row?;
        let facility = facility
            .parse()
            .map_err(|_| DbError::Corrupt("a facility"))?;
        let state = State::parse(&state).ok_or(DbError::Corrupt("state of a delivery"))?;
        if state.is_end() {
            ended.push((facility, state));
        }
    }
    Ok(ended)
}
