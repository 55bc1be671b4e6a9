//! Compares what devices emitted with what the regions store. It shares no code with the nodes: it reads
//! `sent.ndjson`, asks `medmesh edge crosswalk`, and searches by FHIR.
use crate::mesh::Mesh;
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

/// What makes an emitted reading recognisable in its region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Pseudonym of the patient.
    pub patient: String,
    /// Pseudonym of the device.
    pub device: String,
    /// `8867-4` or `urn:medmesh:code|…`.
    pub code: String,
    /// Time of the region, RFC 3339.
    pub time: String,
    /// Decimal text and unit, or the reason of absence.
    pub value: String,
}

impl Row {
    /// Whether it is an alarm of staleness: the edge's own word, which no device emitted.
    #[must_use]
    pub fn is_staleness(&self) -> bool {
        self.value == "temp-unknown"
    }
}

/// How often each row is there.
pub type Rows = BTreeMap<Row, usize>;

/// Pseudonyms and shifts of one facility.
pub struct Crosswalk {
    patients: HashMap<String, (String, i32)>,
    /// By name of the device and id of the patient: what it is called for them, since which instant, in this order.
    devices: HashMap<(String, String), Vec<(types::Timestamp, String)>>,
}

impl Crosswalk {
    /// Asks `medmesh edge crosswalk`.
    ///
    /// # Errors
    /// The command fails or prints another shape.
    pub fn read(mesh: &Mesh, facility: &str) -> Result<Self> {
        let config = mesh.dir.join("edge").join(facility).join("edge.toml");
        let config = config.to_str().context("the folder's name is text")?;
        Self::of(&mesh.medmesh(&["edge", "crosswalk", "--config", config, "--json"])?)
    }

    /// Reads what `medmesh edge crosswalk --json` printed.
    ///
    /// # Errors
    /// It has another shape.
    pub fn of(json: &Value) -> Result<Self> {
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let rows = |key: &str| json[key].as_array().cloned().unwrap_or_default();
        let days = |row: &Value| {
            row["shift_days"]
                .as_i64()
                .and_then(|days| i32::try_from(days).ok())
        };
        let mut devices: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows("devices") {
            let since = match row["since"].as_str() {
                Some(since) => since.parse()?,
                None => types::Timestamp::EARLIEST,
            };
            let of = (text(&row, "device"), text(&row, "patient"));
            let called = (since, text(&row, "pseudonym"));
            devices.entry(of).or_default().push(called);
        }
        devices.values_mut().for_each(|called| called.sort());
        Ok(Self {
            devices,
            patients: rows("patients")
                .iter()
                .map(|row| {
                    (
                        text(row, "patient"),
                        (text(row, "pseudonym"), days(row).unwrap_or_default()),
                    )
                })
                .collect(),
        })
    }

    /// Pseudonyms of the facility's patients.
    pub fn pseudonyms(&self) -> impl Iterator<Item = &str> {
        self.patients
            .values()
            .map(|(pseudonym, _)| pseudonym.as_str())
    }

    /// By how many days the times of a patient are shifted.
    #[must_use]
    pub fn shift_days(&self, id: &str) -> Option<i32> {
        self.patients.get(id).map(|(_, days)| *days)
    }

    /// What a device is called for what it measured of a patient at an instant.
    fn device(&self, device: &str, patient: &str, at: types::Timestamp) -> Option<&str> {
        let called = self.devices.get(&(device.to_owned(), patient.to_owned()))?;
        let until = called.partition_point(|(since, _)| *since <= at);
        Some(called.get(until.checked_sub(1)?)?.1.as_str())
    }

    /// The pseudonym of a patient of the facility.
    #[must_use]
    pub fn patient(&self, id: &str) -> Option<&str> {
        self.patients
            .get(id)
            .map(|(pseudonym, _)| pseudonym.as_str())
    }
}

/// What the devices of a facility have emitted so far, as their region should show it.
///
/// # Errors
/// A line is not JSON, or names a patient or device that the crosswalk lacks.
pub fn emitted(mesh: &Mesh, facility: &str) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    each_emitted(mesh, facility, |line| {
        lines.push(line);
        Ok(())
    })?;
    Ok(lines)
}

/// Goes through what the devices of a facility have emitted so far, without holding it: a week is some hundred MB.
///
/// # Errors
/// A line is not JSON, or `see` fails.
pub fn each_emitted(
    mesh: &Mesh,
    facility: &str,
    see: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    each_line(
        &mesh.dir.join("edge").join(facility).join("sent.ndjson"),
        see,
    )
}

/// Goes through what was emitted, as `sent.ndjson` has it.
///
/// # Errors
/// As [`each_emitted`].
pub fn each_line(path: &Path, mut see: impl FnMut(Value) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
        see(serde_json::from_str(&line)?)?;
        line.clear();
    }
    Ok(())
}

/// Emitted lines as rows of the region.
///
/// # Errors
/// A line names a patient or device that the crosswalk lacks.
pub fn expected(lines: &[Value], crosswalk: &Crosswalk) -> Result<Rows> {
    let mut rows = Rows::new();
    for line in lines {
        *rows.entry(emitted_row(line, crosswalk)?).or_default() += 1;
    }
    Ok(rows)
}

/// An emitted line as a row of the region.
///
/// # Errors
/// It names a patient or device that the crosswalk lacks.
pub fn emitted_row(line: &Value, crosswalk: &Crosswalk) -> Result<Row> {
    let field = |key: &str| {
        line[key]
            .as_str()
            .with_context(|| format!("{key} in {line}"))
    };
    let (patient, days) = crosswalk
        .patients
        .get(field("patient")?)
        .context("patient without pseudonym")?;
    let time: types::Timestamp = field("time")?.parse()?;
    let device = crosswalk
        .device(field("device")?, field("patient")?, time)
        .context("device without pseudonym")?;
    let value = match line["absent"].as_str() {
        Some(reason) => reason.to_owned(),
        None => format!("{} {}", field("value")?, field("unit")?),
    };
    Ok(Row {
        patient: patient.clone(),
        device: device.to_owned(),
        code: field("code")?.to_owned(),
        time: time.plus_days(*days).to_rfc3339(),
        value,
    })
}

/// What a region shows of these patients; alarms of staleness, which no device emits, are left out.
///
/// # Errors
/// The region refuses or breaks off.
pub async fn found(
    mesh: &Mesh,
    region: &str,
    patients: impl Iterator<Item = &str>,
) -> Result<Rows> {
    let mut rows = Rows::new();
    for patient in patients {
        for resource in mesh
            .search(region, &format!("Observation?patient={patient}&_count=500"))
            .await?
        {
            let row = stored_row(patient, &resource);
            if !row.is_staleness() {
                *rows.entry(row).or_default() += 1;
            }
        }
    }
    Ok(rows)
}

/// An Observation of a patient as a row.
#[must_use]
pub fn stored_row(patient: &str, resource: &Value) -> Row {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let coding = &resource["code"]["coding"][0];
    let quantity = &resource["valueQuantity"];
    let code = text(&coding["code"]);
    Row {
        patient: patient.to_owned(),
        device: text(&resource["device"]["reference"]).replace("Device/", ""),
        code: match coding["system"].as_str() {
            Some("http://loinc.org") | None => code,
            Some(system) => format!("{system}|{code}"),
        },
        time: text(&resource["effectiveDateTime"]),
        value: if quantity.is_null() {
            text(&resource["dataAbsentReason"]["coding"][0]["code"])
        } else {
            format!("{} {}", quantity["value"], text(&quantity["code"]))
        },
    }
}

/// Rows of `want` that `have` lacks (lost), and rows of `have` beyond `want` (applied twice, or invented).
#[must_use]
pub fn difference(want: &Rows, have: &Rows) -> (Vec<Row>, Vec<Row>) {
    let beyond = |a: &Rows, b: &Rows| {
        a.iter()
            .filter(|(row, count)| b.get(row).unwrap_or(&0) < count)
            .map(|(row, _)| row.clone())
            .collect()
    };
    (beyond(want, have), beyond(have, want))
}
