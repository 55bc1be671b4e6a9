//! Twins: a client sets what is desired, a facility says what its devices report.
use super::{
    FRESH_MS,
    body::{Unless, Wrong},
    rows::Twin,
    wants::{self, Want},
};
use crate::registry::Device;
use commands::{ETag, MAX_TWIN_BYTES, Table, merge_patch};
use federation::{
    audit::{Decision, Entry},
    db::DbError,
    ledger::Commit,
};
use serde_json::{Map, Value as Json, json};
use types::{CatalogId, Timestamp};

fn wrong(field: impl Into<String>, detail: impl Into<String>) -> Wrong {
    Wrong {
        field: field.into(),
        detail: detail.into(),
    }
}

/// What becomes of a patch.
#[derive(Clone, Debug, PartialEq)]
pub enum Patched {
    /// The twin as it is now.
    Yes(Twin),
    /// It has another version than the client says.
    OtherVersion(Twin),
    /// It has a version that the client does not let be changed.
    SameVersion(Twin),
    /// It would not be a twin of this device.
    Wrong(Wrong),
}

/// A client's patch of a twin.
pub struct Patch {
    pub device: Device,
    pub table: Table,
    /// RFC 7396, of the twin as it is shown.
    pub patch: Map<String, Json>,
    /// The versions that the client lets be changed; none: any.
    pub seen: Option<Vec<ETag>>,
    /// The versions that it does not let be changed.
    pub unless: Option<Unless>,
    pub by: String,
}

/// Applies a patch.
pub fn patch(commit: &mut Commit<'_>, patch: &Patch) -> Result<Patched, DbError> {
    let mut twin = Twin::find(commit.tx(), patch.device.id)?;
    let seen = patch.seen.as_ref();
    if seen.is_some_and(|seen| !seen.contains(&ETag(twin.version))) {
        return Ok(Patched::OtherVersion(twin));
    }
    // RFC 9110 §13.2.2: after `If-Match`, before anything is done.
    let unless = patch.unless.as_ref();
    if unless.is_some_and(|unless| unless.holds(twin.version)) {
        return Ok(Patched::SameVersion(twin));
    }
    let desired = match desired(&twin.desired, &patch.patch) {
        Ok(desired) => desired,
        Err(wrong) => return Ok(Patched::Wrong(wrong)),
    };
    let set = match wants(patch, &desired) {
        Ok(set) => set,
        Err(wrong) => return Ok(Patched::Wrong(wrong)),
    };
    let (mut desired, mut wants) = (Map::new(), Vec::new());
    for (want, value) in set {
        // What is not named stays as it is, in whichever spelling.
        let named = patch.patch.get("desired");
        let is_named = named.is_some_and(|named| named.get(&want.property).is_some());
        let is_new = is_named && twin.desired.get(&want.property) != Some(&value);
        if is_new || is_set_again(commit, patch, &twin, (&want, &value))? {
            wants.push(want.clone());
        }
        desired.insert(want.property, value);
    }
    if desired == twin.desired && wants.is_empty() {
        return Ok(Patched::Yes(twin));
    }
    let gone = twin
        .desired
        .keys()
        .filter(|name| !desired.contains_key(*name));
    for name in gone {
        Want::forget(commit.tx(), patch.device.id, name)?;
    }
    for want in wants {
        want.put(commit.tx())?;
    }
    let now = commit.now();
    twin.desired = desired;
    twin.version = twin.version.saturating_add(1);
    twin.desired_by = Some(patch.by.clone());
    twin.desired_time = Some(now);
    twin.put(commit.tx())?;
    let entry = Entry::of_command(
        now,
        (Decision::TwinChanged, ""),
        (&patch.by, commit.place()),
        "Twin",
        patch.device.id.0,
        None,
    );
    commit.note(&entry)?;
    Ok(Patched::Yes(twin))
}

/// What is desired after a patch of the twin, which may hold nothing else.
fn desired(
    before: &Map<String, Json>,
    patch: &Map<String, Json>,
) -> Result<Map<String, Json>, Wrong> {
    if let Some(name) = patch.keys().find(|name| *name != "desired") {
        let detail = "only what is desired can be set: {\"desired\": {…}}";
        return Err(wrong(format!("/{name}"), detail));
    }
    let Some(patch) = patch.get("desired") else {
        return Ok(before.clone());
    };
    let too_deep = |_| wrong("/desired", "objects lie within each other more than 8 deep");
    match merge_patch(&Json::Object(before.clone()), patch).map_err(too_deep)? {
        Json::Object(desired) => {
            if Json::Object(desired.clone()).to_string().len() > MAX_TWIN_BYTES {
                return Err(wrong(
                    "/desired",
                    format!("is at most {MAX_TWIN_BYTES} bytes"),
                ));
            }
            Ok(desired)
        }
        // RFC 7396: null removes the member.
        Json::Null => Ok(Map::new()),
        _ => Err(wrong("/desired", "is an object")),
    }
}

/// What can be desired of a device.
fn desirable(table: &Table) -> String {
    let known = table.0.iter().filter(|entry| !entry.safety);
    let known = known.filter_map(|entry| entry.property.as_ref());
    let known: Vec<_> = known.map(ToString::to_string).collect();
    match known.is_empty() {
        true => "nothing can be desired of this device".to_owned(),
        false => format!("can be desired: {}", known.join(", ")),
    }
}

/// What is desired after the patch, each property with the command that brings it about and its value as a device reports it:
/// `5000ms` is `5s`. Every one is of the device's table.
fn wants(patch: &Patch, desired: &Map<String, Json>) -> Result<Vec<(Want, Json)>, Wrong> {
    let mut wants = Vec::new();
    for (property, value) in desired {
        let field = format!(
            "/desired/{}",
            property.replace('~', "~0").replace('/', "~1")
        );
        let Some(entry) = patch.table.setter(property) else {
            return Err(wrong(field, desirable(&patch.table)));
        };
        if entry.safety {
            let detail = format!("needs a second person: give the command {}", entry.name);
            return Err(wrong(field, detail));
        }
        let parameters = entry
            .parameters_for(value)
            .map_err(|misuse| wrong(format!("{field}{}", misuse.field), misuse.detail))?;
        let value = entry.property_of(&parameters);
        let value = value.map_or(Json::Null, |(_, value)| value);
        let want = Want {
            device: patch.device.id,
            property: property.clone(),
            facility: patch.device.facility.clone(),
            name: entry.name.clone(),
            parameters,
            by: patch.by.clone(),
        };
        wants.push((want, value));
    }
    Ok(wants)
}

/// Whether the patch sets a property again to what was desired of it, which was brought about and does not hold any more, or
/// was refused. A client that only asks again before that sets nothing.
fn is_set_again(
    commit: &Commit<'_>,
    patch: &Patch,
    twin: &Twin,
    (want, value): (&Want, &Json),
) -> Result<bool, DbError> {
    let named = patch.patch.get("desired");
    let is_named = named.is_some_and(|desired| desired.get(&want.property).is_some());
    let holds = reports(&twin.reported, &want.property, value);
    Ok(is_named && !holds && Want::is_settled(commit.tx(), want.device, &want.property)?)
}

/// Whether a device reports a property as it is desired. It may report more of it than what is desired.
fn reports(reported: &Map<String, Json>, property: &str, desired: &Json) -> bool {
    match (reported.get(property), desired) {
        (Some(Json::Object(reported)), Json::Object(desired)) => desired
            .iter()
            .all(|(name, value)| reported.get(name) == Some(value)),
        (reported, desired) => reported == Some(desired),
    }
}

/// What a facility says of one device.
pub struct Report {
    pub device: CatalogId,
    pub version: u64,
    pub reported: Map<String, Json>,
    pub connected: bool,
    pub seen: Option<Timestamp>,
}

/// Takes what a facility says. An older version changes nothing of what is reported, as of a facility that was put back; whether
/// the device is there, and when it was seen, it says of now.
pub fn report(commit: &mut Commit<'_>, report: Report) -> Result<(), DbError> {
    let mut twin = Twin::find(commit.tx(), report.device)?;
    let now = commit.now();
    // A report that waited for the link says what was, not what is.
    let seen = report.seen.map(|seen| seen.min(now));
    twin.heard = Some(now);
    twin.connected = report.connected;
    // A facility that has just begun has not seen it yet.
    twin.seen = seen.or(twin.seen);
    if report.version >= twin.reported_version {
        if report.reported != twin.reported {
            // The version is the facility's clock when it changed; what was seen of the device is told in coarser steps.
            let changed = i64::try_from(report.version).map_or(now, Timestamp);
            twin.reported_time = Some(changed.min(now));
        }
        let is_lost = |name: &&String| {
            twin.desired.contains_key(*name) && !report.reported.contains_key(*name)
        };
        for name in twin.reported.keys().filter(is_lost) {
            wants::lost(commit, report.device, name)?;
        }
        twin.reported = report.reported;
        twin.reported_version = report.version;
    }
    twin.put(commit.tx())
}

/// Whether the device is there, in one word. A device is `connected` while its facility has seen it lately; when nothing
/// is heard of its facility it is `unknown`, whatever was said last.
pub fn connection(twin: &Twin, now: Timestamp) -> &'static str {
    let fresh = |time: Option<Timestamp>| {
        time.is_some_and(|time| (0..=FRESH_MS).contains(&now.since(time)))
    };
    match (twin.connected, fresh(twin.heard), fresh(twin.seen)) {
        (true, true, true) => "connected",
        (false, true, _) => "disconnected",
        _ => "unknown",
    }
}

/// The twin as clients see it.
pub fn json(device: &Device, twin: &Twin, now: Timestamp) -> Json {
    let time = |time: Option<Timestamp>| time.map(Timestamp::to_rfc3339);
    let age = twin.seen.map(|seen| now.since(seen).max(0) / 1_000);
    let differs = |(name, value): &(&String, &Json)| !reports(&twin.reported, name, value);
    let pending: Vec<&String> = twin
        .desired
        .iter()
        .filter(differs)
        .map(|(name, _)| name)
        .collect();
    json!({
        "id": device.id.to_string(),
        "kind": device.kind.as_str(),
        "facility": device.facility.as_str(),
        "version": twin.version,
        "desired": twin.desired,
        "desired_time": time(twin.desired_time),
        "desired_by": twin.desired_by,
        "reported": twin.reported,
        "reported_version": twin.reported_version,
        "reported_time": time(twin.reported_time),
        "pending": pending,
        "connection": connection(twin, now),
        "seen": time(twin.seen),
        "seen_seconds_ago": age,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::DeviceKind;

    #[test]
    fn what_can_be_desired_is_named_and_nothing_is_too() {
        for (kind, said) in [
            (DeviceKind::BedsideMonitor, "can be desired: interval"),
            (
                DeviceKind::ColdChain,
                "nothing can be desired of this device",
            ),
        ] {
            assert_eq!(desirable(&Table::built_in(kind)), said);
        }
    }

    #[test]
    fn a_device_that_is_gone_never_looks_connected() {
        let now = Timestamp(10_000_000);
        let at = |ago: i64| Some(now.plus_ms(-ago));
        for (connected, heard, seen, word) in [
            (true, at(0), at(30_000), "connected"),
            (true, at(FRESH_MS), at(FRESH_MS), "connected"),
            (true, at(FRESH_MS + 1), at(0), "unknown"),
            (true, at(0), at(FRESH_MS + 1), "unknown"),
            (true, at(0), None, "unknown"),
            (true, at(-5_000), at(-5_000), "unknown"),
            (false, at(0), at(0), "disconnected"),
            (false, at(FRESH_MS + 1), at(0), "unknown"),
            (false, None, None, "unknown"),
        ] {
            let twin = Twin {
                connected,
                heard,
                seen,
                ..Twin::empty()
            };
            assert_eq!(
                connection(&twin, now),
                word,
                "{connected} {heard:?} {seen:?}"
            );
        }
    }
}
