//! The steps of a command, each a commit of the ledger with its audit row: asked for, approved, signed and shipped, and
//! what its facility says of it.
use super::{
    KEPT_AT_LEAST_MS, MAX_KEPT, MAX_OPEN, Own, SAFETY_OPEN, rows::Row, rows::Twin, settled, tables,
};
use crate::registry::Device;
use commands::{Command, Event, History, Reason, State, Value, WITHDRAW, withdrawal};
use federation::{
    audit::{Decision, Entry},
    db::DbError,
    ledger::{Commit, Shipped},
};
use messages::DeviceCommand;
use std::collections::BTreeMap;
use types::{CatalogId, EnvelopeId, FacilityId, Id128, Name, Place, Priority, Purpose};

/// Ended commands that make room at once.
const MADE_ROOM: u16 = 128;

/// What a client asks for, checked against the device's table.
#[derive(Clone, Debug)]
pub struct Ask {
    pub device: CatalogId,
    pub facility: FacilityId,
    pub name: Name,
    pub parameters: BTreeMap<String, Value>,
    pub safety: bool,
    pub property: Option<String>,
    pub ttl_ms: i64,
    pub by: String,
    /// The idempotency key, and what was asked for with it.
    pub key: Option<(String, String)>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// There is a new command.
    New(Row),
    /// The client asked before, with the same key and body: this is what it made.
    Same(Row),
    /// The client used the key for something else.
    OtherRequest,
    /// So many commands of the device have not ended: more may not be open.
    TooManyOpen(u32),
    /// The region keeps as many commands as it may for what is asked.
    Full,
}

/// A client asks for a command.
pub fn ask(own: &Own, commit: &mut Commit<'_>, ask: Ask) -> Result<Asked, DbError> {
    let tx = commit.tx();
    if let Some((key, request)) = &ask.key
        && let Some(row) = Row::by_key(tx, &ask.by, key)?
    {
        let is_same = row.key.as_ref().is_some_and(|(_, own)| own == request);
        return Ok(if is_same {
            Asked::Same(row)
        } else {
            Asked::OtherRequest
        });
    }
    let (open, kept) = Row::counts(tx, ask.device)?;
    let is_wish = ask.property.is_some();
    match no_room((ask.safety, is_wish), open, kept) {
        None => {}
        Some(Asked::Full) if makes_room(commit, is_wish)? => {}
        Some(full) => return Ok(full),
    }
    if kept >= MAX_KEPT {
        Row::make_room(tx, MADE_ROOM)?;
    }
    let now = commit.now();
    let mut row = Row {
        id: Id128::from_bytes((own.draw)()),
        device: ask.device,
        facility: ask.facility,
        name: ask.name,
        parameters: ask.parameters,
        history: History::begin(now, ask.by.clone()),
        by: ask.by,
        key: ask.key,
        safety: ask.safety,
        approval: None,
        sequence: None,
        signed: None,
        asked: now,
        expires: now.plus_ms(ask.ttl_ms),
        property: ask.property,
        number: 0,
    };
    row.insert(tx)?;
    note(commit, Decision::CommandAsked, "", &row.by, &row)?;
    if !row.safety {
        sign_and_ship(own, commit, &mut row)?;
    }
    Ok(Asked::New(row))
}

/// Whether some of those that have ended made room: of what is desired the oldest that was brought about, else many devices
/// would be set once a month; of the others what ended long enough ago, so that nobody's many commands keep out everybody's for
/// a month.
fn makes_room(commit: &Commit<'_>, is_wish: bool) -> Result<bool, DbError> {
    let gone = match is_wish {
        true => Row::make_room_of_wishes(commit.tx(), MADE_ROOM)?,
        false => {
            let before = commit.now().plus_ms(-KEPT_AT_LEAST_MS);
            Row::forget(commit.tx(), before, MADE_ROOM)?
        }
    };
    Ok(gone > 0)
}

/// Why there is no room for one more beside those that are open and kept. What is desired comes back by itself and never
/// takes the room of what a person gives; what is of safety is never kept out by others that have ended.
fn no_room((safety, is_wish): (bool, bool), open: u32, kept: u32) -> Option<Asked> {
    let may_be_open = if safety {
        MAX_OPEN + SAFETY_OPEN
    } else {
        MAX_OPEN
    };
    let may_be_kept = match (safety, is_wish) {
        (true, _) => u32::MAX,
        (false, true) => MAX_KEPT / 2,
        (false, false) => MAX_KEPT / 10 * 9,
    };
    if open >= may_be_open {
        Some(Asked::TooManyOpen(may_be_open))
    } else {
        (kept >= may_be_kept).then_some(Asked::Full)
    }
}

/// What becomes of an approval.
#[derive(Clone, Debug, PartialEq)]
pub enum Approved {
    /// It is approved, now or by the same client before.
    Yes(Row),
    /// There is no such command of the device.
    Missing,
    /// The command needs no approval.
    NotNeeded,
    /// Who asked for it cannot approve it, nor a client with the same key.
    SamePerson,
    /// It has ended, or another client has approved it.
    TooLate(Row),
    /// Its device does not take it any more, so it has ended.
    NotTaken(Row),
}

/// A second person approves a command.
pub fn approve(
    own: &Own,
    commit: &mut Commit<'_>,
    (device, id): &(Device, Id128),
    by: &str,
) -> Result<Approved, DbError> {
    let found = Row::find(commit.tx(), *id)?;
    let Some(mut row) = found.filter(|row| row.device == device.id) else {
        return Ok(Approved::Missing);
    };
    if !row.safety {
        return Ok(Approved::NotNeeded);
    }
    if own.is_same_person(&row.by, by) {
        note(
            commit,
            Decision::CommandNotApproved,
            "same-person",
            by,
            &row,
        )?;
        return Ok(Approved::SamePerson);
    }
    match &row.approval {
        Some((before, _)) if before == by => return Ok(Approved::Yes(row)),
        Some(_) => return Ok(Approved::TooLate(row)),
        None => {}
    }
    let now = commit.now();
    if row.history.state().is_end() || row.expires <= now {
        return Ok(Approved::TooLate(row));
    }
    if let Some(reason) = tables::judge(own, commit.tx(), &row, device.kind)? {
        let by = own.here.to_string();
        end(commit, &mut row, State::Refused, by, Some(reason))?;
        return Ok(Approved::NotTaken(row));
    }
    row.approval = Some((by.to_owned(), now));
    note(commit, Decision::CommandApproved, "", by, &row)?;
    sign_and_ship(own, commit, &mut row)?;
    Ok(Approved::Yes(row))
}

/// The next sequence number of a device.
///
/// It is greater than every earlier one of the device, and never less than the time: a region that was put back
/// to an older copy then goes on above what it gave out before.
fn next_number(commit: &Commit<'_>, device: CatalogId) -> Result<u64, DbError> {
    let mut twin = Twin::find(commit.tx(), device)?;
    let clock = commit.now().0.unsigned_abs();
    twin.sequence = twin.sequence.saturating_add(1).max(clock);
    twin.put(commit.tx())?;
    Ok(twin.sequence)
}

/// Gives a command its sequence number, signs it, and ships it to its facility.
fn sign_and_ship(own: &Own, commit: &mut Commit<'_>, row: &mut Row) -> Result<(), DbError> {
    let now = commit.now();
    let Some(facility) = own.facility(&row.facility) else {
        return Err(DbError::Corrupt("the place of a region"));
    };
    let sequence = next_number(commit, row.device)?;
    let command = Command {
        id: row.id,
        facility,
        device: row.device,
        sequence,
        name: row.name.clone(),
        parameters: row.parameters.clone(),
        issued: now,
        expires: row.expires,
        by: row.by.clone(),
        approved_by: row.approval.as_ref().map(|(by, _)| by.clone()),
    };
    row.sequence = Some(sequence);
    row.signed = Some(command.sign(&own.key).to_bytes());
    ship(own, commit, row)
}

/// Ships a signed command. What the rules do not let go has ended.
pub fn ship(own: &Own, commit: &mut Commit<'_>, row: &mut Row) -> Result<(), DbError> {
    let (Some(facility), Some(signed)) = (own.facility(&row.facility), row.signed.clone()) else {
        return Err(DbError::Corrupt("a command that is not signed"));
    };
    if !send(own, commit, &facility, signed)? {
        let by = own.here.to_string();
        return end(commit, row, State::Refused, by, Some(Reason::Policy));
    }
    row.update(commit.tx())
}

/// Sends a signed command to a facility; says whether the rules let it go.
fn send(
    own: &Own,
    commit: &mut Commit<'_>,
    facility: &Place,
    signed: Vec<u8>,
) -> Result<bool, DbError> {
    let body = DeviceCommand {
        signed: signed.into(),
        certificate: own.certificate()?.into(),
    };
    let id = EnvelopeId::from_bytes((own.draw)());
    let how = (Purpose::Operations, Priority::Live);
    let shipped = commit.ship(facility, how, id, body)?;
    Ok(!matches!(shipped, Shipped::Refused(_)))
}

/// Takes a command back that is not wanted any more: its facility lets it go if the device was not told yet, and says what
/// became of it. Here it has ended until then.
pub fn withdraw(own: &Own, commit: &mut Commit<'_>, row: &mut Row) -> Result<(), DbError> {
    if let Some(number) = row.sequence {
        let Some(facility) = own.facility(&row.facility) else {
            return Err(DbError::Corrupt("the place of a region"));
        };
        let corrupt = |_| DbError::Corrupt("the name of a withdrawal");
        let name: Name = WITHDRAW.parse().map_err(corrupt)?;
        let now = commit.now();
        let command = Command {
            id: Id128::from_bytes((own.draw)()),
            facility: facility.clone(),
            device: row.device,
            sequence: next_number(commit, row.device)?,
            name,
            parameters: withdrawal::parameters(number),
            issued: now,
            // It need not live longer than what it takes back.
            expires: row.expires.max(now.plus_ms(1)),
            by: row.by.clone(),
            approved_by: None,
        };
        let signed = command.sign(&own.key).to_bytes();
        send(own, commit, &facility, signed)?;
    }
    let by = own.here.to_string();
    end(commit, row, State::Expired, by, Some(Reason::Superseded))
}

/// The region ends a command.
pub fn end(
    commit: &mut Commit<'_>,
    row: &mut Row,
    state: State,
    by: String,
    reason: Option<Reason>,
) -> Result<(), DbError> {
    let time = commit.now();
    let event = Event {
        state,
        time,
        by,
        reason,
    };
    step(commit, row, event).map(drop)
}

/// Something became of a command; says whether that is news.
pub fn step(commit: &mut Commit<'_>, row: &mut Row, event: Event) -> Result<bool, DbError> {
    let (state, reason, by) = (event.state, event.reason, event.by.clone());
    if !row.history.add(event) {
        return Ok(false);
    }
    row.update(commit.tx())?;
    let decision = match state {
        State::Queued => Decision::CommandAsked,
        State::Delivered => Decision::CommandDelivered,
        State::Acknowledged => Decision::CommandDone,
        State::Refused => Decision::CommandRefused,
        State::Expired => Decision::CommandExpired,
        State::Failed => Decision::CommandFailed,
    };
    note(
        commit,
        decision,
        reason.map_or("", Reason::as_str),
        &by,
        row,
    )?;
    settled::follow(commit, row, state)?;
    Ok(true)
}

fn note(
    commit: &mut Commit<'_>,
    decision: Decision,
    reason: &'static str,
    by: &str,
    row: &Row,
) -> Result<(), DbError> {
    let entry = Entry::of_command(
        commit.now(),
        (decision, reason),
        (by, commit.place()),
        row.name.as_str(),
        row.id,
        row.signed.as_deref(),
    );
    commit.note(&entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_safety_has_room_when_others_have_none() {
        let (safety, plain, wish) = ((true, false), (false, false), (false, true));
        let (full, most) = (Some(Asked::Full), MAX_OPEN + SAFETY_OPEN);
        for (what, open, kept, expected) in [
            (wish, 0, MAX_KEPT / 2 - 1, None),
            (wish, 0, MAX_KEPT / 2, full.clone()),
            (plain, 0, MAX_KEPT / 2, None),
            (plain, 0, MAX_KEPT - 1, full),
            (plain, MAX_OPEN, 0, Some(Asked::TooManyOpen(MAX_OPEN))),
            (wish, MAX_OPEN, 0, Some(Asked::TooManyOpen(MAX_OPEN))),
            (safety, MAX_OPEN, MAX_KEPT, None),
            (safety, most, 0, Some(Asked::TooManyOpen(most))),
        ] {
            let found = no_room(what, open, kept);
            assert_eq!(found, expected, "{what:?} {open} {kept}");
        }
    }
}
