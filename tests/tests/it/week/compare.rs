//! What was emitted against what the region has: every reading once, and in which order it was committed.
//!
//! A page of FHIR takes milliseconds a resource, so the whole set is read from the region's own file; what FHIR serves
//! is compared with it for one bed.
use super::{ALARMS, FACILITY, Live, REGION, live};
use anyhow::{Context, Result, ensure};
use medmesh_tests::{
    checker::{self, Crosswalk, Row},
    mesh::Mesh,
    region_file::{Observation, RegionFile},
};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};
use types::Timestamp;

/// A live reading that was stored.
pub struct Stored {
    /// Monitors' readings that were committed between its acknowledgement and itself.
    pub let_pass: usize,
}

/// Where in the order of the region's commits things are.
pub struct Arrivals {
    /// The last alarm of the outage.
    pub last_alarm: i64,
    /// The first reading that was measured when the link was down.
    pub first_backlog: i64,
    /// Live readings.
    pub live: Vec<Stored>,
    /// Readings of the backlog between the first and the last live one.
    pub backlog_beside_live: u64,
}

/// What the region's file holds.
#[derive(Default)]
struct Found {
    /// Readings of monitors, by fingerprint.
    rows: Vec<u128>,
    /// Commits of alarms.
    alarms: Vec<i64>,
    /// Commits of monitors' readings, in order.
    commits: Vec<i64>,
    /// Commits of those of the outage, in order.
    backlog: Vec<i64>,
    /// By value: commit, and when.
    live: HashMap<String, Vec<i64>>,
}

/// Compares everything that was emitted and published with what is stored.
pub async fn all(mesh: &Mesh, cut: Timestamp, live: &[Live]) -> Result<Arrivals> {
    let crosswalk = Crosswalk::read(mesh, FACILITY)?;
    let mut found = look(mesh, &crosswalk, cut)?;
    compare_rows(mesh, &crosswalk, &mut found.rows)?;
    compare_fhir(mesh, &crosswalk).await?;
    ensure!(
        found.alarms.len() as u64 == ALARMS,
        "{} alarms",
        found.alarms.len()
    );
    let mut stored = Vec::with_capacity(live.len());
    let in_outage = found.live.get("1.50 mmol/L").map_or(0, Vec::len);
    ensure!(
        in_outage == 1,
        "stored {in_outage} times, acknowledged in the outage"
    );
    let mut ends = Vec::new();
    for reading in live {
        let times = found
            .live
            .get(&reading.value)
            .map_or(&[][..], |times| times);
        let [seq] = times else {
            anyhow::bail!("{} is stored {} times", reading.value, times.len());
        };
        ends.push(*seq);
        let position = |seq: i64| found.commits.partition_point(|other| *other < seq);
        let let_pass = position(*seq).saturating_sub(position(reading.head + 1));
        stored.push(Stored { let_pass });
    }
    let beside = |seq: &&i64| ends.first() < Some(*seq) && Some(*seq) < ends.last();
    Ok(Arrivals {
        last_alarm: found.alarms.last().copied().context("no alarm")?,
        first_backlog: found.backlog.first().copied().context("no backlog")?,
        live: stored,
        backlog_beside_live: found.backlog.iter().filter(beside).count() as u64,
    })
}

/// Reads the region's file once through.
fn look(mesh: &Mesh, crosswalk: &Crosswalk, cut: Timestamp) -> Result<Found> {
    let beds: Vec<String> = (1..=10).map(|bed| format!("p-b{bed}")).collect();
    let beds: HashMap<&str, String> = beds
        .iter()
        .filter_map(|id| {
            let cut = cut.plus_days(crosswalk.shift_days(id)?);
            Some((crosswalk.patient(id)?, cut.to_rfc3339()))
        })
        .collect();
    ensure!(beds.len() == 10, "{} patients in beds", beds.len());
    let alarmed = crosswalk.patient("week-alarm").context("no alarm")?;
    let living = crosswalk.patient(live::PATIENT).context("nothing live")?;
    let mut found = Found::default();
    RegionFile::open(mesh, REGION)?.each(|one: Observation| {
        let row = checker::stored_row(&one.patient, &one.resource);
        if row.is_staleness() {
            return Ok(());
        }
        if one.patient == alarmed {
            found.alarms.push(one.seq);
        } else if one.patient == living {
            found.live.entry(row.value).or_default().push(one.seq);
        } else if let Some(cut) = beds.get(one.patient.as_str()) {
            if row.time > *cut {
                found.backlog.push(one.seq);
            }
            found.commits.push(one.seq);
            found.rows.push(fingerprint(&row));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Every reading that the monitors of a facility emitted is in the region once, and nothing else of their patients.
pub fn monitors(mesh: &Mesh, beds: usize) -> Result<()> {
    let crosswalk = Crosswalk::read(mesh, FACILITY)?;
    let ids: Vec<String> = (1..=beds).map(|bed| format!("p-b{bed}")).collect();
    let patients: Vec<_> = ids.iter().filter_map(|id| crosswalk.patient(id)).collect();
    let mut rows = Vec::new();
    RegionFile::open(mesh, REGION)?.each(|one| {
        if patients.contains(&one.patient.as_str()) {
            let row = checker::stored_row(&one.patient, &one.resource);
            rows.extend((!row.is_staleness()).then(|| fingerprint(&row)));
        }
        Ok(())
    })?;
    compare_rows(mesh, &crosswalk, &mut rows)
}

/// Every emitted reading is there once, and nothing else is.
fn compare_rows(mesh: &Mesh, crosswalk: &Crosswalk, have: &mut [u128]) -> Result<()> {
    have.sort_unstable();
    let twice = have.windows(2).filter(|pair| pair[0] == pair[1]).count();
    ensure!(twice == 0, "{twice} readings are stored twice");
    let (mut emitted, mut lost) = (0, None);
    checker::each_emitted(mesh, FACILITY, |line| {
        let row = checker::emitted_row(&line, crosswalk)?;
        emitted += 1;
        if have.binary_search(&fingerprint(&row)).is_err() {
            lost.get_or_insert(line);
        }
        Ok(())
    })?;
    ensure!(lost.is_none(), "not stored as emitted: {lost:?}");
    ensure!(
        have.len() == emitted,
        "{} stored, {emitted} emitted",
        have.len()
    );
    println!("{emitted} readings are stored once, with the values that were emitted");
    Ok(())
}

/// FHIR serves what the file holds: the first page of a bed's patient.
async fn compare_fhir(mesh: &Mesh, crosswalk: &Crosswalk) -> Result<()> {
    let patient = crosswalk.patient("p-b10").context("no patient in bed 10")?;
    let json = mesh.json()?;
    let base = json["regions"][REGION]["fhir"].as_str().context("fhir")?;
    let url = format!("{base}/Observation?patient={patient}&_sort=date&_count=500");
    let token = mesh.token("fhir-reader", REGION).await?;
    let bundle = mesh.https.get(&url, Some(&token)).await?.json()?;
    let entries = bundle["entry"].as_array().context("no entries")?;
    ensure!(entries.len() == 500, "FHIR serves {}", entries.len());
    // Alarms of staleness, which no device emits, are the edge's own.
    let served: Vec<Row> = entries
        .iter()
        .map(|entry| checker::stored_row(patient, &entry["resource"]))
        .filter(|row| !row.is_staleness())
        .collect();
    ensure!(!served.is_empty(), "FHIR serves alarms alone");
    let mut emitted = std::collections::HashSet::new();
    checker::each_emitted(mesh, FACILITY, |line| {
        if line["patient"] == "p-b10" && emitted.len() < 1_000 {
            emitted.insert(fingerprint(&checker::emitted_row(&line, crosswalk)?));
        }
        Ok(())
    })?;
    let strange = served
        .iter()
        .find(|row| !emitted.contains(&fingerprint(row)));
    ensure!(strange.is_none(), "FHIR serves {strange:?}");
    Ok(())
}

/// 128 bits of a row, so that a million of them fit into memory.
fn fingerprint(row: &Row) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, row).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}
