//! Recorded stays as they are, without devices: what a replay would emit, for whoever compares what came of it.
use super::{Outcomes, Stay, archive, convert, outcomes, samples};
use crate::{
    signal::Reading,
    sim::{SimError, survey::Survey},
};
use std::path::Path;
use types::{CareUnit, Code, Decimal, Timestamp};

/// A recorded stay.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The record; the patient is `p-` and it.
    pub record: u32,
    /// Age in years, where it is known.
    pub age: Option<u32>,
    /// FHIR AdministrativeGender, where it is known.
    pub gender: Option<&'static str>,
    /// Height in cm, where it is known.
    pub height_cm: Option<String>,
    /// Weight in kg at admission, where it is known.
    pub weight_kg: Option<String>,
    /// The kind of care unit, where it is known.
    pub care_unit: Option<CareUnit>,
    /// Every reading, each with its time in ms after the stay began, in the order of their times.
    pub readings: Vec<(i64, Code, Decimal)>,
}

/// The stays of an archive with their outcomes, in the archive's order.
///
/// # Errors
/// [`SimError`] when a file is broken.
pub fn recorded(archive: &Path, ends: Option<&Path>) -> Result<Vec<Recorded>, SimError> {
    let ends = ends.map(outcomes::read).transpose()?;
    let mut all = Vec::new();
    archive::scan(archive, |record, entry| {
        let stay = Stay {
            record,
            text: entry.text()?.into(),
            died: ends
                .as_ref()
                .and_then(|ends: &Outcomes| ends.get(&record).copied()),
        };
        all.push(read(&stay).map_err(|error| error.to_string())?);
        Ok(true)
    })?;
    Ok(all)
}

fn read(stay: &Stay) -> Result<Recorded, SimError> {
    let mut readings = Vec::new();
    for minute in samples(stay, &mut Survey::default()) {
        let at = minute.at * 60_000;
        for (signal, reading) in minute.vitals {
            if let Reading::Value { mantissa, exponent } = reading {
                let value = Decimal::from_parts(i64::from(mantissa), exponent);
                readings.push((at, convert::code(signal)?, value));
            }
        }
        let others = minute.others.into_iter();
        readings.extend(others.map(|(code, value)| (at, code, value)));
    }
    let end = super::outcome(stay, Timestamp(0));
    if let Some(sample) = end {
        let told = sample.readings.into_iter();
        readings.extend(told.map(|(code, value)| (sample.time.0, code, value)));
    }
    Ok(Recorded {
        record: stay.record,
        age: stay.descriptor("Age").and_then(|age| age.parse().ok()),
        gender: stay.gender(),
        height_cm: stay.measure("Height"),
        weight_kg: stay.measure("Weight"),
        care_unit: stay.care_unit(),
        readings,
    })
}
