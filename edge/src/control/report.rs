//! What the facility tells its region: each step of a command, and what its devices report, in the commit that made it so.
use super::{Control, rows};
use commands::{Command, Entry as Taken, Reason, Signed, State};
use federation::audit::{Decision, Entry};
use messages::{CommandReport, CommandReports, TwinProperty, TwinReport};
use modbus::Shown;
use serde_json::{Map, Value as Json};
use store::{Commit, StoreError};
use types::{DeviceId, Priority, Purpose, Timestamp};

/// Instants at which a device was seen are told in steps of half a minute: finer ones would tell apart which of the
/// facility's devices in the catalog is which in clinical data.
const SEEN_STEP_MS: i64 = 30_000;

/// Who says something of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Edge,
    Staff,
    Device,
}

impl By {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Staff => "staff",
            Self::Device => "device",
        }
    }
}

/// A step of a command, with its audit row.
pub(super) fn step(
    commit: &mut Commit<'_, '_>,
    signed: &Signed,
    (state, reason): (State, Option<Reason>),
    by: By,
) -> Result<(), StoreError> {
    let now = commit.now().real;
    let command = signed.command();
    let decision = match state {
        State::Queued | State::Delivered => Decision::CommandDelivered,
        State::Acknowledged => Decision::CommandDone,
        State::Refused => Decision::CommandRefused,
        State::Expired => Decision::CommandExpired,
        State::Failed => Decision::CommandFailed,
    };
    if state.is_end() {
        metrics::counter!("medmesh_commands_total", "state" => state.as_str()).increment(1);
    }
    let who = match by {
        By::Device => format!("device/{}", command.device),
        By::Staff => format!("{}/staff", commit.place()),
        By::Edge => commit.place().to_string(),
    };
    let entry = Entry::of_command(
        now,
        (decision, reason.map_or("", Reason::as_str)),
        (&who, commit.place()),
        command.name.as_str(),
        command.id,
        Some(&signed.to_bytes()),
    );
    commit.note(&[entry])?;
    let report = CommandReport {
        command: command.id.as_bytes().to_vec().into(),
        device: command.device.as_bytes().to_vec().into(),
        state: state.as_str().into(),
        reason: reason.map_or("", Reason::as_str).into(),
        time_ms: now.0,
        by: by.as_str().into(),
    };
    let body = CommandReports {
        reports: vec![report],
    };
    // What the rules keep in the facility is audited there.
    commit
        .ship(Priority::Live, Purpose::Operations, body)
        .map(drop)
}

/// A device has carried out a command that sets a property: it reports it from now on.
pub(super) fn property(
    commit: &mut Commit<'_, '_>,
    control: &Control,
    device: &DeviceId,
    command: &Command,
) -> Result<(), StoreError> {
    let table = control.table(device);
    let Some(entry) = table.and_then(|table| table.entry(command.name.as_str())) else {
        return Ok(());
    };
    let Some((property, value)) = entry.property_of(&command.parameters) else {
        return Ok(());
    };
    let Some(value) = not_set_since(commit, entry, (device, command), value)? else {
        return Ok(());
    };
    let (version, mut reported) = rows::reported(commit.tx(), device)?;
    // What the command does not name of it stands.
    let value = match (reported.get(property), value) {
        (Some(Json::Object(stands)), Json::Object(given)) => {
            let mut all = stands.clone();
            all.extend(given);
            Json::Object(all)
        }
        (_, value) => value,
    };
    reported.insert(property.to_owned(), value);
    keep_and_tell((commit, control), device, version, &reported)
}

/// What of a value no later command has set: an answer may come after the device carried out another one.
fn not_set_since(
    commit: &Commit<'_, '_>,
    entry: &Taken,
    (device, command): (&DeviceId, &Command),
    mut value: Json,
) -> Result<Option<Json>, StoreError> {
    if rows::mark(commit.tx(), device)?.sequence <= command.sequence {
        return Ok(Some(value));
    }
    for later in rows::done_after(commit.tx(), device, command.sequence)? {
        let later = later.command();
        if later.name != command.name {
            continue;
        }
        match (&mut value, entry.property_of(&later.parameters)) {
            (Json::Object(parts), Some((_, Json::Object(set)))) => {
                parts.retain(|name, _| !set.contains_key(name));
                if parts.is_empty() {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(value))
}

/// A Modbus device shows what it has of what commands set: that is what it reports, and nothing of what it does not show. What
/// cannot be read back is unknown once the device may have been away.
pub(super) fn shown(
    commit: &mut Commit<'_, '_>,
    control: &Control,
    shown: &Shown,
) -> Result<(), StoreError> {
    let Some(table) = control.table(&shown.device) else {
        return Ok(());
    };
    let (version, before) = rows::reported(commit.tx(), &shown.device)?;
    let mut reported = before.clone();
    for entry in &table.0 {
        let Some(property) = &entry.property else {
            continue;
        };
        let value = if entry.is_shown() {
            entry.shown(|write| shown.number(write))
        } else if shown.afresh {
            None
        } else {
            continue;
        };
        match value {
            Some(value) => reported.insert(property.as_str().to_owned(), value),
            None => reported.remove(property.as_str()),
        };
    }
    if reported == before {
        return Ok(());
    }
    keep_and_tell((commit, control), &shown.device, version, &reported)
}

/// Keeps what a device reports from now on, and tells the region; `version` is that of what it reported before.
fn keep_and_tell(
    (commit, control): (&mut Commit<'_, '_>, &Control),
    device: &DeviceId,
    version: u64,
    reported: &Map<String, Json>,
) -> Result<(), StoreError> {
    // A store that was put back goes on above what it told before.
    let version = (version + 1).max(commit.now().real.0.unsigned_abs());
    rows::keep_reported(commit.tx(), device, (version, reported))?;
    let seen = commit.now().real;
    let Some(twin) = twin(commit, device, true, Some(seen))? else {
        return Ok(());
    };
    tell(commit, control, vec![(device.clone(), twin)])
}

fn twin(
    commit: &Commit<'_, '_>,
    device: &DeviceId,
    connected: bool,
    seen: Option<Timestamp>,
) -> Result<Option<TwinReport>, StoreError> {
    let Some(id) = rows::catalog_of(commit.tx(), device)? else {
        return Ok(None);
    };
    let (version, reported): (u64, Map<String, Json>) = rows::reported(commit.tx(), device)?;
    let properties = reported.iter().map(|(name, value)| TwinProperty {
        name: name.clone(),
        value: value.to_string(),
    });
    let step = |seen: Timestamp| seen.0 - seen.0.rem_euclid(SEEN_STEP_MS);
    Ok(Some(TwinReport {
        device: id.as_bytes().to_vec().into(),
        version,
        properties: properties.collect(),
        connected,
        seen_ms: seen.map_or(0, step),
        // Given with the message's tables.
        table: 0,
    }))
}

/// Tells the region which devices can be reached, with what they report.
pub(crate) fn presence(
    commit: &mut Commit<'_, '_>,
    control: &Control,
    devices: &[(DeviceId, bool, Option<Timestamp>)],
) -> Result<(), StoreError> {
    let mut twins = Vec::with_capacity(devices.len());
    for (device, connected, seen) in devices {
        let twin = twin(commit, device, *connected, *seen)?;
        twins.extend(twin.map(|twin| (device.clone(), twin)));
    }
    tell(commit, control, twins)
}

/// Tells the region of devices, and which commands they take.
fn tell(
    commit: &mut Commit<'_, '_>,
    control: &Control,
    twins: Vec<(DeviceId, TwinReport)>,
) -> Result<(), StoreError> {
    for body in control.with_tables(twins) {
        commit.ship(Priority::Live, Purpose::Operations, body)?;
    }
    Ok(())
}
