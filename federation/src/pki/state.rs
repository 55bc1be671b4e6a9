//! What the authority remembers, in one SQLite file: invitations and certificates. It holds no private key.
use super::{PkiError, Reason};
use crate::{
    identity::{Identity, Serial},
    tpm::quote::Measured,
};
use parking_lot::Mutex;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Row, TransactionBehavior, params, types::Type,
};
use std::{path::Path, time::Duration};
use types::Timestamp;

/// How long one process waits for another's step: a step signs one certificate and syncs a few pages.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Version of the schema. It only goes forward.
const VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE invitation (
        code_hash BLOB PRIMARY KEY,
        identity TEXT NOT NULL,
        names TEXT NOT NULL,
        expires_ms INTEGER NOT NULL,
        used_by BLOB,
        measured TEXT
    ) STRICT;
    CREATE TABLE certificate (
        n INTEGER PRIMARY KEY,
        serial BLOB NOT NULL UNIQUE,
        identity TEXT NOT NULL,
        names TEXT NOT NULL,
        not_before_ms INTEGER NOT NULL,
        not_after_ms INTEGER NOT NULL,
        pem TEXT NOT NULL,
        revoked_ms INTEGER,
        reason TEXT
    ) STRICT;
    CREATE TABLE crl (number INTEGER NOT NULL) STRICT;
    INSERT INTO crl VALUES (0);
    PRAGMA user_version = 2;";

/// What invitations of the first version lack. A program that does not know it would sign for a machine that it did not
/// look at, and refuses the file.
const FROM_1: &str = "ALTER TABLE invitation ADD COLUMN measured TEXT; PRAGMA user_version = 2;";

const SELECT: &str =
    "SELECT serial, identity, names, not_before_ms, not_after_ms, pem, revoked_ms, reason
    FROM certificate";

/// When and why a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// When (real time).
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// A certificate that the authority issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its number.
    pub serial: Serial,
    /// Its holder.
    pub identity: Identity,
    /// DNS names and IP addresses beside the identity.
    pub names: Vec<String>,
    /// Begin of its validity (real time).
    pub not_before: Timestamp,
    /// End of its validity (real time).
    pub not_after: Timestamp,
    /// The certificate.
    pub pem: String,
    /// When and why it was revoked.
    pub revoked: Option<Revoked>,
}

pub(super) struct Invitation {
    pub(super) code_hash: [u8; 32],
    pub(super) identity: Identity,
    pub(super) names: Vec<String>,
    pub(super) expires: Timestamp,
    pub(super) used: bool,
    /// What its machine had booted when it was measured; none when nobody asks.
    pub(super) measured: Option<Measured>,
}

pub(super) struct State(Mutex<Connection>);

/// One step, with the file to itself.
pub(super) struct Step<'a>(&'a Connection);

impl State {
    pub(super) fn open(path: &Path) -> Result<Self, PkiError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch("PRAGMA synchronous = FULL;")?;
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match tx.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            0 => tx.execute_batch(SCHEMA)?,
            1 => tx.execute_batch(FROM_1)?,
            VERSION => {}
            found => {
                return Err(PkiError::NewerState {
                    found,
                    known: VERSION,
                });
            }
        }
        tx.commit()?;
        Ok(Self(Mutex::new(connection)))
    }

    /// That of an authority which is there. A lost one is no empty one: what was revoked would be good again.
    pub(super) fn reopen(path: &Path) -> Result<Self, PkiError> {
        let about = std::fs::metadata(path).map_err(|source| PkiError::io(path, source))?;
        if about.len() == 0 {
            return Err(PkiError::io(path, std::io::Error::other("is empty")));
        }
        Self::open(path)
    }

    /// Runs one step in a transaction: an error undoes all of it.
    pub(super) fn exclusively<T>(
        &self,
        step: impl FnOnce(&Step<'_>) -> Result<T, PkiError>,
    ) -> Result<T, PkiError> {
        let mut connection = self.0.lock();
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = step(&Step(&tx))?;
        tx.commit()?;
        Ok(done)
    }
}

/// Whether an invitation has this code, without the file to itself.
pub(super) fn is_invitation(path: &Path, code_hash: &[u8; 32]) -> Result<bool, PkiError> {
    // Not read-only: what a kill left half-done is undone first.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mut query = connection.prepare("SELECT 1 FROM invitation WHERE code_hash = ?1")?;
    Ok(query.exists([code_hash])?)
}

impl Step<'_> {
    pub(super) fn add_invitation(&self, invitation: &Invitation) -> Result<(), PkiError> {
        self.0.execute(
            "INSERT INTO invitation (code_hash, identity, names, expires_ms, measured)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                invitation.code_hash,
                invitation.identity.to_uri(),
                invitation.names.join(" "),
                invitation.expires.0,
                invitation.measured.as_ref().map(written)
            ],
        )?;
        Ok(())
    }

    pub(super) fn invitation(&self, code_hash: &[u8; 32]) -> Result<Option<Invitation>, PkiError> {
        let read = |row: &Row<'_>| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get(2)?,
                row.get(3)?,
                measured(row, 4)?,
            ))
        };
        let found = self
            .0
            .query_row(
                "SELECT identity, names, expires_ms, used_by IS NOT NULL, measured
                 FROM invitation WHERE code_hash = ?1",
                [code_hash],
                read,
            )
            .optional()?;
        let Some((uri, names, expires_ms, used, measured)) = found else {
            return Ok(None);
        };
        Ok(Some(Invitation {
            code_hash: *code_hash,
            identity: uri.parse()?,
            names: split(&names),
            expires: Timestamp(expires_ms),
            used,
            measured,
        }))
    }

    pub(super) fn use_invitation(
        &self,
        code_hash: &[u8; 32],
        serial: &Serial,
    ) -> Result<(), PkiError> {
        self.0.execute(
            "UPDATE invitation SET used_by = ?2 WHERE code_hash = ?1",
            params![code_hash, serial.as_bytes()],
        )?;
        Ok(())
    }

    /// Ends the time of invitations that nobody has used yet: how many there were.
    pub(super) fn expire_invitations(
        &self,
        now: Timestamp,
        whose: impl Fn(&Identity) -> bool,
    ) -> Result<usize, PkiError> {
        let sql =
            "SELECT code_hash, identity FROM invitation WHERE used_by IS NULL AND expires_ms > ?1";
        let mut statement = self.0.prepare(sql)?;
        let rows = statement.query_map([now.0], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?))
        })?;
        let mut ended = 0;
        for row in rows.collect::<Result<Vec<_>, _>>()? {
            if whose(&row.1.parse()?) {
                let sql = "UPDATE invitation SET expires_ms = ?2 WHERE code_hash = ?1";
                ended += self.0.execute(sql, params![row.0, now.0])?;
            }
        }
        Ok(ended)
    }

    pub(super) fn add_certificate(&self, issued: &Issued) -> Result<(), PkiError> {
        self.0.execute(
            "INSERT INTO certificate (serial, identity, names, not_before_ms, not_after_ms, pem)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                issued.serial.as_bytes(),
                issued.identity.to_uri(),
                issued.names.join(" "),
                issued.not_before.0,
                issued.not_after.0,
                issued.pem
            ],
        )?;
        Ok(())
    }

    pub(super) fn certificate(&self, serial: &Serial) -> Result<Option<Issued>, PkiError> {
        self.0
            .query_row(
                &format!("{SELECT} WHERE serial = ?1"),
                [serial.as_bytes()],
                |row| Ok(issued(row)),
            )
            .optional()?
            .transpose()
    }

    /// The certificate of this number, one of ours that holds now.
    pub(super) fn holding(
        &self,
        serial: &Serial,
        now: Timestamp,
        is_it: impl FnOnce(&Issued) -> bool,
    ) -> Result<Issued, PkiError> {
        let found = self.certificate(serial)?.filter(is_it);
        let found = found.ok_or_else(|| PkiError::NotIssued(serial.clone()))?;
        if found.revoked.is_some() {
            return Err(PkiError::IsRevoked(found.serial));
        }
        if now < found.not_before || found.not_after < now {
            return Err(PkiError::NotValidNow(found.serial));
        }
        Ok(found)
    }

    pub(super) fn certificates(&self) -> Result<Vec<Issued>, PkiError> {
        let mut statement = self.0.prepare(&format!("{SELECT} ORDER BY n"))?;
        let rows = statement.query_map([], |row| Ok(issued(row)))?;
        rows.map(|row| row?).collect()
    }

    pub(super) fn revoke(&self, serial: &Serial, revoked: &Revoked) -> Result<(), PkiError> {
        self.0.execute(
            "UPDATE certificate SET revoked_ms = ?2, reason = ?3 WHERE serial = ?1 AND revoked_ms IS NULL",
            params![serial.as_bytes(), revoked.at.0, revoked.reason.as_str()],
        )?;
        Ok(())
    }

    pub(super) fn next_crl_number(&self) -> Result<u64, PkiError> {
        let number: i64 = self.0.query_row(
            "UPDATE crl SET number = number + 1 RETURNING number",
            [],
            |row| row.get(0),
        )?;
        Ok(number.unsigned_abs())
    }
}

/// What is plain data always has its JSON.
fn written(measured: &Measured) -> String {
    serde_json::to_string(measured).unwrap_or_default()
}

/// What cannot be read is an error, and no invitation of which nothing is asked.
fn measured(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Measured>> {
    let text: Option<String> = row.get(column)?;
    let read = text.map(|text| serde_json::from_str(&text)).transpose();
    read.map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn issued(row: &Row<'_>) -> Result<Issued, PkiError> {
    let revoked = match (row.get(6)?, row.get::<_, Option<String>>(7)?) {
        (Some(at), Some(reason)) => Some(Revoked {
            at: Timestamp(at),
            reason: reason.parse().unwrap_or(Reason::Unspecified),
        }),
        _ => None,
    };
    Ok(Issued {
        serial: Serial::new(&row.get::<_, Vec<u8>>(0)?),
        identity: row.get::<_, String>(1)?.parse()?,
        names: split(&row.get::<_, String>(2)?),
        not_before: Timestamp(row.get(3)?),
        not_after: Timestamp(row.get(4)?),
        pem: row.get(5)?,
        revoked,
    })
}

/// Host names hold no space.
fn split(names: &str) -> Vec<String> {
    names.split_whitespace().map(str::to_owned).collect()
}
