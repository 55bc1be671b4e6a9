//! The order in which a region applied what a facility's devices emitted.
//!
//! What a region applied, and in which order, is read from its FHIR database: every row has the number of its commit
//! order. What was emitted is read from `sent.ndjson` and from what a test's own device saw acknowledged. Which row is
//! which reading, and with which priority it went, only the facility can say: `medmesh edge readings`.
use crate::{checker, mesh::Mesh};
use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// A reading's identity in its facility: device, epoch, sequence, index.
type Key = (String, u64, u64, u64);
/// Within one of these the order holds: device and priority.
type Lane = (String, String);

/// Fails unless the region applied what the facility's devices emitted in the order in which they did, within device
/// and priority. `acknowledged` are the messages of the device `external`, in the order of their acknowledgement.
/// Gives how many readings it compared, and in how many lanes.
///
/// # Errors
/// The first lane whose order differs, or something could not be read.
pub fn check(
    mesh: &Mesh,
    facility: &str,
    external: &str,
    acknowledged: &[Value],
) -> Result<(usize, usize)> {
    let stored = stored(mesh, facility)?;
    let region = facility.split('-').next().unwrap_or(facility);
    let mut lanes: BTreeMap<Lane, Vec<Key>> = BTreeMap::new();
    for uid in applied(mesh, region)? {
        if let Some((key, priority)) = stored.get(&uid) {
            let lane = (key.0.clone(), priority.clone());
            lanes.entry(lane).or_default().push(key.clone());
        }
    }
    let mut places: HashMap<Key, usize> = HashMap::new();
    let simulated = checker::emitted(mesh, facility)?;
    let own = acknowledged.iter().map(|message| key(external, message));
    for key in simulated.iter().map(key_of_line).chain(own) {
        let place = places.len();
        places.entry(key?).or_insert(place);
    }
    let mut compared = 0;
    for ((device, priority), keys) in &lanes {
        // What no device emitted, such as an alarm of the edge's own, has no place to compare.
        let emitted: Vec<_> = keys.iter().filter(|key| places.contains_key(key)).collect();
        compared += emitted.len();
        if let Some(pair) = emitted
            .windows(2)
            .find(|two| places[two[0]] > places[two[1]])
        {
            anyhow::bail!(
                "{device}, {priority}: {:?} was applied before {:?}",
                pair[0],
                pair[1]
            );
        }
    }
    ensure!(compared > 0, "{facility}: nothing was compared");
    Ok((compared, lanes.len()))
}

fn key_of_line(line: &Value) -> Result<Key> {
    let device = line["device"].as_str().context("a line without device")?;
    let number = |name: &str| {
        line[name]
            .as_u64()
            .with_context(|| format!("{name}: {line}"))
    };
    Ok((
        device.to_owned(),
        number("epoch")?,
        number("seq")?,
        number("index")?,
    ))
}

/// The first reading of a message that a test published.
fn key(device: &str, message: &Value) -> Result<Key> {
    let number = |name: &str| message[name].as_u64().with_context(|| name.to_owned());
    Ok((device.to_owned(), number("epoch")?, number("seq")?, 0))
}

/// Ids of a region's Observations in the order in which they were applied.
fn applied(mesh: &Mesh, region: &str) -> Result<Vec<String>> {
    let file = mesh
        .folder(&format!("regional:{region}"))
        .join("data/fhir.db");
    let db = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| file.display().to_string())?;
    let mut query =
        db.prepare("SELECT id FROM resource WHERE type = 'Observation' ORDER BY seq")?;
    let ids = query.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// By its id outside: which reading of the facility it is, and with which priority it went.
fn stored(mesh: &Mesh, facility: &str) -> Result<HashMap<String, (Key, String)>> {
    let config = mesh.config(&format!("edge:{facility}"));
    let config = config.to_str().context("the folder's name is text")?;
    let rows = mesh.medmesh_lines(&["edge", "readings", "--config", config, "--json"])?;
    let text = |row: &Value, name: &str| row[name].as_str().map(str::to_owned);
    rows.iter()
        .map(|row| {
            let uid = text(row, "uid").context("a reading without uid")?;
            let priority = text(row, "priority").context("a reading without priority")?;
            Ok((uid, (key_of_line(row)?, priority)))
        })
        .collect()
}
