//! Replay of ICU stays of the PhysioNet/CinC Challenge 2012: `RecordID.txt` files with rows `Time,Parameter,Value` in
//! one archive. The text of a value is kept; vital signs go to the bed's monitor, everything else that has a code to
//! the facility's analyser. -1 means unknown and is not emitted. Age, gender, unit and record number are no readings.
use super::{
    SimError,
    config::BedStays,
    emit,
    feed::{LabSample, MonitorSample, layers},
};
use crate::{
    registers::Signal,
    window::{Reading, Sample},
};
use flate2::read::GzDecoder;
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufReader, Read},
    path::Path,
    sync::Arc,
};
use types::{Code, Decimal, Timestamp};

/// A bed is empty for so long between two stays, in mesh milliseconds: a late value of the former stay is not the
/// next patient's.
const TURNOVER_MS: i64 = 60 * 60_000;
/// The largest file of a stay, in bytes. The largest of set A has 40 KiB.
const MAX_FILE: u64 = 1 << 20;

/// What was found in the data that could not be emitted as it stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceCounts {
    /// Values written another way than FHIR writes decimals, emitted in FHIR's way.
    pub(super) normalised: u64,
    /// Unknown values (-1), not emitted.
    pub(super) unknown: u64,
    /// Rows that are not a reading of a known parameter, not emitted.
    pub(super) unreadable: u64,
}

enum Target {
    Monitor(Signal),
    Analyser(&'static str, &'static str),
    Person,
}

/// Parameter → who measures it and as what (`parameters.csv` of the data set).
fn target(parameter: &str) -> Option<Target> {
    use Target::{Analyser, Monitor, Person};
    const L: &str = Code::LOINC;
    Some(match parameter {
        "RecordID" | "Age" | "Gender" | "ICUType" => Person,
        "HR" => Monitor(Signal::HeartRate),
        "RespRate" => Monitor(Signal::RespiratoryRate),
        "Temp" => Monitor(Signal::Temperature),
        "SaO2" => Monitor(Signal::SaO2),
        "SysABP" => Monitor(Signal::Systolic),
        "DiasABP" => Monitor(Signal::Diastolic),
        "MAP" => Monitor(Signal::Mean),
        "NISysABP" => Monitor(Signal::CuffSystolic),
        "NIDiasABP" => Monitor(Signal::CuffDiastolic),
        "NIMAP" => Monitor(Signal::CuffMean),
        "Height" => Analyser(L, "8302-2"),
        "Weight" => Analyser(L, "29463-7"),
        "GCS" => Analyser(L, "9269-2"),
        "FiO2" => Analyser(L, "3150-6"),
        "MechVent" => Analyser(Code::MEDMESH, "mechanical-ventilation"),
        "Urine" => Analyser(L, "9187-6"),
        "pH" => Analyser(L, "2744-1"),
        "PaO2" => Analyser(L, "2703-7"),
        "PaCO2" => Analyser(L, "2019-8"),
        "HCT" => Analyser(L, "4544-3"),
        "K" => Analyser(L, "2823-3"),
        "Na" => Analyser(L, "2951-2"),
        "HCO3" => Analyser(L, "1963-8"),
        "Mg" => Analyser(L, "2601-3"),
        "BUN" => Analyser(L, "3094-0"),
        "Creatinine" => Analyser(L, "2160-0"),
        "Bilirubin" => Analyser(L, "1975-2"),
        "Glucose" => Analyser(L, "2345-7"),
        "Cholesterol" => Analyser(L, "2093-3"),
        "Lactate" => Analyser(L, "2524-7"),
        "WBC" => Analyser(L, "6690-2"),
        "Platelets" => Analyser(L, "777-3"),
        "Albumin" => Analyser(L, "1751-7"),
        "ALP" => Analyser(L, "6768-6"),
        "ALT" => Analyser(L, "1742-6"),
        "AST" => Analyser(L, "1920-8"),
        "TroponinI" => Analyser(L, "10839-9"),
        "TroponinT" => Analyser(L, "6598-7"),
        _ => return None,
    })
}

/// One row: minute of the stay, parameter, value.
fn rows(text: &str) -> impl Iterator<Item = Option<(i64, &str, &str)>> {
    let lines = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    lines.map(|line| {
        let mut fields = line.trim().splitn(3, ',');
        let (time, parameter, value) = (fields.next()?, fields.next()?, fields.next()?);
        let (hours, minutes) = time.split_once(':')?;
        let minute = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
        Some((minute, parameter, value))
    })
}

/// What is known of a stay before it is replayed.
#[derive(Clone, Debug)]
pub(super) struct Stay {
    pub(super) record: u32,
    text: Arc<str>,
}

impl Stay {
    /// The patient's id in the facility.
    pub(super) fn patient(&self) -> String {
        format!("p-{}", self.record)
    }

    /// FHIR AdministrativeGender, where the record knows it.
    pub(super) fn gender(&self) -> Option<&'static str> {
        let value = rows(&self.text)
            .flatten()
            .find(|(_, parameter, _)| *parameter == "Gender");
        match value?.2 {
            "0" => Some("female"),
            "1" => Some("male"),
            _ => None,
        }
    }

    /// How long the patient is in the bed, in milliseconds: until a minute after the last row.
    pub(super) fn length_ms(&self) -> i64 {
        let last = rows(&self.text).flatten().map(|(minute, ..)| minute).max();
        (last.unwrap_or(0) + 1) * 60_000
    }
}

/// Calls `take` with the record number and the text of each stay, in the archive's order, until it says to stop.
pub(super) fn scan(
    archive: &Path,
    mut take: impl FnMut(u32, &mut dyn Read) -> std::io::Result<bool>,
) -> Result<(), SimError> {
    let failed = |error| SimError::io(archive.display().to_string())(error);
    let file = BufReader::new(File::open(archive).map_err(failed)?);
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.into_owned();
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse().ok());
        let (Some(record), Some("txt")) = (name, path.extension().and_then(|it| it.to_str()))
        else {
            continue;
        };
        if !take(record, &mut entry.take(MAX_FILE)).map_err(failed)? {
            break;
        }
    }
    Ok(())
}

/// A bed's stays with the instants at which they begin, one after another from `origin` on.
pub(super) type Schedule = Vec<(Timestamp, Stay)>;

/// Reads the stays of beds. Every stay that is asked for must be in the archive.
pub(super) fn schedules(
    archive: &Path,
    beds: &[BedStays],
    origin: Timestamp,
) -> Result<Vec<Schedule>, SimError> {
    let mut wanted: HashSet<u32> = beds
        .iter()
        .flat_map(|bed| bed.stays.iter().copied())
        .collect();
    let mut texts = HashMap::new();
    if !wanted.is_empty() {
        scan(archive, |record, file| {
            if wanted.remove(&record) {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                texts.insert(record, Arc::<str>::from(text));
            }
            Ok(!wanted.is_empty())
        })?;
    }
    if let Some(record) = wanted.iter().min() {
        let problem = format!("{} stays are not in it, such as {record}", wanted.len());
        return Err(SimError::Data {
            path: archive.into(),
            problem,
        });
    }
    let schedule = |bed: &BedStays| {
        let mut start = origin;
        let stays = bed.stays.iter().filter_map(|record| {
            Some(Stay {
                record: *record,
                text: texts.get(record)?.clone(),
            })
        });
        stays
            .map(|stay| {
                let begin = start;
                start = start.plus_ms(stay.length_ms() + TURNOVER_MS);
                (begin, stay)
            })
            .collect()
    };
    Ok(beds.iter().map(schedule).collect())
}

/// The beds of a facility with their stays.
pub(super) struct Ward {
    beds: Vec<(String, Schedule)>,
    counts: SourceCounts,
}

impl Ward {
    pub(super) fn load(
        archive: &Path,
        beds: &[BedStays],
        origin: Timestamp,
    ) -> Result<Self, SimError> {
        let schedules = schedules(archive, beds, origin)?;
        let mut counts = SourceCounts::default();
        schedules
            .iter()
            .flatten()
            .for_each(|(_, stay)| samples(stay, &mut counts).for_each(drop));
        let beds = beds
            .iter()
            .map(|bed| bed.bed.clone())
            .zip(schedules)
            .collect();
        Ok(Self { beds, counts })
    }

    /// What was found in the data of these stays.
    pub(super) const fn counts(&self) -> SourceCounts {
        self.counts
    }

    /// What the monitor at a bed emits.
    pub(super) fn monitor(&self, bed: &str) -> impl Iterator<Item = MonitorSample> + Send + use<> {
        let schedule = self
            .beds
            .iter()
            .find(|(name, _)| name == bed)
            .map(|(_, schedule)| schedule.clone());
        schedule
            .unwrap_or_default()
            .into_iter()
            .flat_map(|(start, stay)| {
                let patient: Arc<str> = stay.patient().into();
                let minutes: Vec<_> = samples(&stay, &mut SourceCounts::default()).collect();
                minutes.into_iter().flat_map(move |minute| {
                    let (time, patient) = (start.plus_ms(minute.at * 60_000), patient.clone());
                    layers(minute.vitals)
                        .into_iter()
                        .map(move |layer| MonitorSample {
                            time,
                            patient: Some(patient.clone()),
                            readings: layer
                                .into_iter()
                                .fold(Sample::default(), |sample, (signal, reading)| {
                                    sample.with(signal, reading)
                                })
                                .readings,
                        })
                })
            })
    }

    /// What the analyser emits: everything else of every bed, in the order of time.
    pub(super) fn analyser(&self) -> impl Iterator<Item = LabSample> + Send + use<> {
        let mut beds: Vec<_> = self
            .beds
            .iter()
            .map(|(_, schedule)| laboratory(schedule.clone()).peekable())
            .collect();
        std::iter::from_fn(move || {
            let times = beds
                .iter_mut()
                .enumerate()
                .filter_map(|(at, bed)| Some((bed.peek()?.time, at)));
            let (_, next) = times.min()?;
            beds[next].next()
        })
    }
}

fn laboratory(schedule: Schedule) -> impl Iterator<Item = LabSample> + Send {
    schedule.into_iter().flat_map(|(start, stay)| {
        let patient: Arc<str> = stay.patient().into();
        let minutes: Vec<_> = samples(&stay, &mut SourceCounts::default()).collect();
        minutes.into_iter().flat_map(move |minute| {
            let (time, patient) = (start.plus_ms(minute.at * 60_000), patient.clone());
            layers(minute.others)
                .into_iter()
                .map(move |readings| LabSample {
                    time,
                    patient: Some(patient.clone()),
                    readings,
                })
        })
    })
}

/// The readings of one minute of a stay, in the order of the rows.
#[derive(Debug, Default)]
struct Minute {
    at: i64,
    vitals: Vec<(Signal, Reading)>,
    others: Vec<(Code, Decimal)>,
}

/// The minutes of a stay in order.
fn samples(stay: &Stay, counts: &mut SourceCounts) -> std::vec::IntoIter<Minute> {
    let mut minutes: Vec<Minute> = Vec::new();
    let mut rows: Vec<_> = rows(&stay.text).collect();
    // Stable: rows of one minute keep their order.
    rows.sort_by_key(|row| row.map(|(at, ..)| at));
    for row in rows {
        let Some((at, parameter, text)) = row else {
            counts.unreadable += 1;
            continue;
        };
        if minutes.last().is_none_or(|minute| minute.at != at) {
            minutes.push(Minute {
                at,
                ..Minute::default()
            });
        }
        let Some(minute) = minutes.last_mut() else {
            continue;
        };
        if add(minute, parameter, text, counts).is_none() {
            counts.unreadable += 1;
        }
    }
    minutes.into_iter()
}

fn add(minute: &mut Minute, parameter: &str, text: &str, counts: &mut SourceCounts) -> Option<()> {
    let target = target(parameter)?;
    if matches!(target, Target::Person) {
        return Some(());
    }
    if text == "-1" {
        counts.unknown += 1;
        return Some(());
    }
    let (decimal, as_written) = decimal(text)?;
    let mut exact = as_written;
    match target {
        Target::Monitor(signal) => {
            let reading = emit::value(&decimal)?;
            if let Reading::Value { mantissa, exponent } = reading {
                exact &= Decimal::from_parts(i64::from(mantissa), exponent) == decimal;
            }
            minute.vitals.push((signal, reading));
        }
        Target::Analyser(system, code) => {
            minute.others.push((Code::of(system, code).ok()?, decimal))
        }
        Target::Person => {}
    }
    counts.normalised += u64::from(!exact);
    Some(())
}

/// The decimal of a text, and whether it is the text.
fn decimal(text: &str) -> Option<(Decimal, bool)> {
    if let Ok(decimal) = text.parse() {
        return Some((decimal, true));
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let rest = rest.trim_start_matches('0').trim_end_matches('.');
    let zero = if rest.starts_with(|c: char| c.is_ascii_digit()) {
        ""
    } else {
        "0"
    };
    Some((format!("{sign}{zero}{rest}").parse().ok()?, false))
}

#[cfg(test)]
mod tests;
