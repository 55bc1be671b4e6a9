//! The rows of deliveries in the global node's ledger: what each is, and where it is.
use federation::db::DbError;
use rusqlite::{Connection, Row as SqlRow};
use types::{DataClass, Id128, Label, Purpose, Timestamp};

pub(super) const SCHEMA: &[&str] = &["
CREATE TABLE delivery (
  n       INTEGER PRIMARY KEY AUTOINCREMENT,
  id      BLOB NOT NULL UNIQUE,
  name    TEXT NOT NULL,
  sha256  BLOB NOT NULL,
  size    INTEGER NOT NULL,
  class   TEXT NOT NULL,
  purpose TEXT NOT NULL,
  by      TEXT NOT NULL,                -- the client that sends it
  at_ms   INTEGER NOT NULL,
  state   TEXT NOT NULL
) STRICT;
CREATE INDEX delivery_state ON delivery (state);
CREATE TABLE delivery_place (
  id      BLOB NOT NULL,
  place   TEXT NOT NULL,                -- a region, or a facility
  state   TEXT NOT NULL,
  at_ms   INTEGER NOT NULL,             -- since when
  PRIMARY KEY (id, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_place_due ON delivery_place (place) WHERE state = 'incoming';
"];
/// Deliveries that are looked at at once.
const MAX_LOOK: u32 = 1_000;

/// How many deliveries there are.
pub(super) struct Counts {
    /// Whose bytes are being put up.
    pub incoming: u32,
    /// Those of one client among them.
    pub incoming_of_client: u32,
    /// All that are known.
    pub all: u32,
}

/// Where a delivery is, as a whole or at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its bytes are being put up, or wait to be sent to that place.
    Incoming,
    /// It is on its way.
    Sent,
    /// All of it is there, and was checked.
    Arrived,
    /// The rules keep it from there, or it is not taken there.
    Refused,
    /// It was taken back.
    Withdrawn,
}

impl State {
    const ALL: [Self; 5] = [
        Self::Incoming,
        Self::Sent,
        Self::Arrived,
        Self::Refused,
        Self::Withdrawn,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Sent => "sent",
            Self::Arrived => "arrived",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether a region may say it.
    pub(super) const fn is_said_below(self) -> bool {
        matches!(self, Self::Arrived | Self::Refused | Self::Withdrawn)
    }
}

/// A delivery at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A region, or a facility.
    pub place: types::Place,
    /// Where it is there.
    pub state: State,
    /// Since when (real time).
    pub since: Timestamp,
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What it is called by.
    pub id: Id128,
    /// The file's name.
    pub name: Label,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its length, in bytes.
    pub size: u64,
    /// What it is.
    pub class: DataClass,
    /// What it is sent for.
    pub purpose: Purpose,
    /// The client that sends it.
    pub by: String,
    /// When it was begun (real time).
    pub created: Timestamp,
    /// As a whole: `Incoming`, `Sent` or `Withdrawn`.
    pub state: State,
    /// Where it goes, with the regions on the way.
    pub places: Vec<Place>,
}

const COLUMNS: &str = "id, name, sha256, size, class, purpose, by, at_ms, state";

impl Delivery {
    fn read(row: &SqlRow<'_>) -> rusqlite::Result<Option<Self>> {
        let text = |column| row.get::<_, String>(column);
        let (name, class, purpose, state) = (text(1)?, text(4)?, text(5)?, text(8)?);
        let (id, sha256, size) = (row.get(0)?, row.get(2)?, row.get::<_, i64>(3)?);
        let (by, created) = (text(6)?, Timestamp(row.get(7)?));
        let read = || {
            Some(Self {
                id: Id128::from_bytes(id),
                name: name.parse().ok()?,
                sha256,
                size: size.unsigned_abs(),
                class: DataClass::parse(&class)?,
                purpose: Purpose::parse(&purpose)?,
                by,
                created,
                state: State::parse(&state)?,
                places: Vec::new(),
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
        let known = |row: rusqlite::Result<Option<Self>>| {
            let mut delivery = row?.ok_or(DbError::Corrupt("a delivery"))?;
            delivery.places = places(tx, delivery.id)?;
            Ok(delivery)
        };
        rows.map(known).collect()
    }

    pub(super) fn find(tx: &Connection, id: Id128) -> Result<Option<Self>, DbError> {
        Ok(Self::all(tx, "WHERE id = ?1", [id.as_bytes()])?.pop())
    }

    /// The newest first.
    pub(super) fn list(tx: &Connection, most: u16) -> Result<Vec<Self>, DbError> {
        Self::all(tx, "ORDER BY n DESC LIMIT ?1", [most])
    }

    /// Those whose bytes are being put up.
    pub(super) fn incoming(tx: &Connection) -> Result<Vec<Self>, DbError> {
        Self::all(tx, "WHERE state = 'incoming' LIMIT ?1", [MAX_LOOK])
    }

    /// How many are being put up, of a client among them, and how many there are.
    pub(super) fn counts(tx: &Connection, client: &str) -> Result<Counts, DbError> {
        let sql = "SELECT count(*) FILTER (WHERE state = 'incoming'),
                     count(*) FILTER (WHERE state = 'incoming' AND by = ?1), count(*) FROM delivery";
        let counts = tx.prepare_cached(sql)?.query_row([client], |row| {
            Ok(Counts {
                incoming: row.get(0)?,
                incoming_of_client: row.get(1)?,
                all: row.get(2)?,
            })
        });
        Ok(counts?)
    }

    /// What is to be sent to which region now.
    pub(super) fn due(tx: &Connection) -> Result<Vec<(Id128, types::Place)>, DbError> {
        let mut query = tx.prepare_cached(
            "SELECT place.id, place FROM delivery_place AS place JOIN delivery USING (id)
             WHERE place.state = 'incoming' AND delivery.state <> 'incoming'
               AND place LIKE 'regional/%' LIMIT ?1",
        )?;
        let rows = query.query_map([MAX_LOOK], |row| {
            Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, String>(1)?))
        })?;
        let read = |row: rusqlite::Result<([u8; 16], String)>| {
            let (id, place) = row?;
            Ok((Id128::from_bytes(id), parse(&place)?))
        };
        rows.map(read).collect()
    }

    pub(super) fn put(&self, tx: &Connection) -> Result<(), DbError> {
        let sql = "INSERT INTO delivery (id, name, sha256, size, class, purpose, by, at_ms, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state";
        tx.prepare_cached(sql)?.execute((
            self.id.as_bytes(),
            self.name.as_str(),
            self.sha256,
            i64::try_from(self.size).unwrap_or(i64::MAX),
            self.class.as_str(),
            self.purpose.as_str(),
            &self.by,
            self.created.0,
            self.state.as_str(),
        ))?;
        Ok(())
    }
}

fn parse(place: &str) -> Result<types::Place, DbError> {
    place
        .parse()
        .map_err(|_| DbError::Corrupt("a place of a delivery"))
}

fn places(tx: &Connection, id: Id128) -> Result<Vec<Place>, DbError> {
    let mut query = tx.prepare_cached(
        "SELECT place, state, at_ms FROM delivery_place WHERE id = ?1 ORDER BY place DESC",
    )?;
    let rows = query.query_map([id.as_bytes()], |row| {
        let text = |column| row.get::<_, String>(column);
        Ok((text(0)?, text(1)?, row.get(2)?))
    })?;
    let read = |row: rusqlite::Result<(String, String, i64)>| {
        let (place, state, since) = row?;
        Ok(Place {
            place: parse(&place)?,
            state: State::parse(&state).ok_or(DbError::Corrupt("state of a delivery"))?,
            since: Timestamp(since),
        })
    };
    rows.map(read).collect()
}

pub(super) fn set_place(
    tx: &Connection,
    id: Id128,
    place: &types::Place,
    (state, at): (State, Timestamp),
) -> Result<(), DbError> {
    let sql =
        "INSERT OR REPLACE INTO delivery_place (id, place, state, at_ms) VALUES (?1, ?2, ?3, ?4)";
    tx.prepare_cached(sql)?
        .execute((id.as_bytes(), place.to_string(), state.as_str(), at.0))?;
    Ok(())
}

/// What a region says of a delivery at a place, if it goes there and was not taken back.
pub(super) fn said(
    tx: &Connection,
    id: Id128,
    place: &types::Place,
    (state, at): (State, Timestamp),
) -> Result<(), DbError> {
    let sql = "UPDATE delivery_place SET state = ?3, at_ms = ?4 WHERE id = ?1 AND place = ?2
         AND (state <> 'withdrawn' OR ?3 = 'withdrawn')";
    tx.prepare_cached(sql)?
        .execute((id.as_bytes(), place.to_string(), state.as_str(), at.0))?;
    Ok(())
}

/// A region was put back: what was sent to it, or taken back there, is sent again.
pub(super) fn lacked_by(tx: &Connection, region: &types::Place) -> Result<(), DbError> {
    let sql =
        "UPDATE delivery_place SET state = 'incoming' WHERE place = ?1 AND state <> 'refused'";
    tx.prepare_cached(sql)?.execute([region.to_string()])?;
    Ok(())
}
