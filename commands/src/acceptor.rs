//! Who accepts a command: the one judgement of edge and device.
//!
//! It rests on a mark that the acceptor keeps durably: the highest sequence number that it took, and the latest instant
//! that a command of the region has proved. A clock that is set back, or a copy of an old command, then gains nothing.
use crate::{MAX_LIFE_MS, Reason, Signed, Table};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use types::{CatalogId, Place, Timestamp};

/// How far the clocks of region and device may differ, in milliseconds: a minute. A command that was made later than that
/// from now is not believed.
pub const CLOCK_SKEW_MS: i64 = 60_000;

/// What an acceptor has of a device's commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The highest sequence number that was taken; 0 before the first.
    pub sequence: u64,
    /// When the region signed the latest command that was taken: it is not earlier than that.
    pub floor: Timestamp,
}

/// What a command is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Acceptor<'a> {
    /// The facility.
    pub facility: &'a Place,
    /// The device.
    pub device: CatalogId,
    /// The region's key.
    pub key: &'a VerifyingKey,
    /// What the device takes.
    pub table: &'a Table,
    /// What the device has of its properties, as an object: what is asked for has to go with it. None where that is judged
    /// later, when the command's turn comes.
    pub has: Option<&'a Json>,
}

impl Acceptor<'_> {
    /// The mark to keep before anything is carried out, when the command may be. `now` is real time.
    ///
    /// # Errors
    /// Why it may not. Nothing that the command says is believed before its signature is.
    pub fn judge(&self, signed: &Signed, mark: Mark, now: Timestamp) -> Result<Mark, Reason> {
        let command = signed.command();
        if !signed.is_by(self.key) {
            return Err(Reason::Forged);
        }
        if command.facility != *self.facility {
            return Err(Reason::Foreign);
        }
        if command.device != self.device {
            return Err(Reason::OtherDevice);
        }
        if command.sequence <= mark.sequence {
            let is_last = command.sequence == mark.sequence;
            return Err(if is_last {
                Reason::Replayed
            } else {
                Reason::Reordered
            });
        }
        self.in_time(signed, now.max(mark.floor))?;
        let entry = self
            .table
            .admit(command.name.as_str(), &command.parameters)?;
        let second = command.approved_by.as_ref();
        if entry.safety && second.is_none_or(|second| *second == command.by) {
            return Err(Reason::Unapproved);
        }
        if let Some((property, has)) = entry.property.as_ref().zip(self.has) {
            entry.goes_with(&command.parameters, has.get(property.as_str()))?;
        }
        Ok(Mark {
            sequence: command.sequence,
            floor: mark.floor.max(command.issued),
        })
    }

    fn in_time(&self, signed: &Signed, now: Timestamp) -> Result<(), Reason> {
        let command = signed.command();
        let life = command.expires.since(command.issued);
        if !(1..=MAX_LIFE_MS).contains(&life) {
            Err(Reason::TooLong)
        } else if command.issued.since(now) > CLOCK_SKEW_MS {
            Err(Reason::NotYet)
        } else if command.expires <= now {
            Err(Reason::Stale)
        } else {
            Ok(())
        }
    }
}
