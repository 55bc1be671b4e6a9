//! Replay of ICU stays of the PhysioNet/CinC Challenge 2012: `RecordID.txt` files with rows `Time,Parameter,Value` in
//! one archive. The text of a value is kept; vital signs go to the bed's monitor, everything else that has a code to
//! the facility's analyser. -1 means unknown and is not emitted. Age, gender, unit and record number are no readings.
//! An archive that is broken is refused ([`archive`]); a row that cannot be emitted is left out and told ([`rows`]).
//! What became of a stay ([`outcomes`]) is a reading like any other, the last one of the stay.
use super::{
    SimError,
    config::BedStays,
    convert,
    sample::{LabSample, MonitorSample, layers},
    survey::Survey,
};
use crate::signal::{Reading, Sample, Signal};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};
use types::{CareUnit, Code, Decimal, Timestamp};

pub(super) mod archive;
pub(super) mod outcomes;
pub(super) mod recorded;
mod rows;
pub(super) use archive::records;
use outcomes::Outcomes;
use rows::{Row, rows};

/// A bed is empty for so long between two stays, in mesh milliseconds: a late value of the former stay is not the
/// next patient's.
const TURNOVER_MS: i64 = 60 * 60_000;
/// So long before the bed is left it is said what became of the patient, in mesh milliseconds: after the last row.
const OUTCOME_MS: i64 = 1_000;
/// The longest height or weight of a patient's record, in bytes: what a facility takes.
const MAX_MEASURE: usize = 16;

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

/// What is known of a stay before it is replayed.
#[derive(Clone, Debug)]
pub(super) struct Stay {
    pub(super) record: u32,
    text: Arc<str>,
    /// Whether the patient died in hospital, where there are outcomes.
    died: Option<bool>,
}

impl Stay {
    /// The patient's id in the facility.
    pub(super) fn patient(&self) -> String {
        format!("p-{}", self.record)
    }

    /// FHIR AdministrativeGender, where the record knows it.
    pub(super) fn gender(&self) -> Option<&'static str> {
        match self.descriptor("Gender")? {
            "0" => Some("female"),
            "1" => Some("male"),
            _ => None,
        }
    }

    /// Year of birth of a patient whose stay begins at that instant, where the record knows the age in years. Ages of 90
    /// and more are one group in the data.
    pub(super) fn birth_year(&self, begin: Timestamp) -> Option<i32> {
        let age: i32 = self.descriptor("Age")?.parse().ok()?;
        let year: i32 = begin.to_rfc3339().get(..4)?.parse().ok()?;
        (0..=130).contains(&age).then(|| year - age)
    }

    /// The kind of care unit, where the record knows it.
    pub(super) fn care_unit(&self) -> Option<CareUnit> {
        Some(match self.descriptor("ICUType")? {
            "1" => CareUnit::Coronary,
            "2" => CareUnit::CardiacSurgeryRecovery,
            "3" => CareUnit::Medical,
            "4" => CareUnit::Surgical,
            _ => return None,
        })
    }

    /// A height in cm or a weight in kg, where the record knows it: -1 and what is no number above 0 is unknown.
    pub(super) fn measure(&self, parameter: &str) -> Option<String> {
        let (decimal, _) = rows::decimal(self.descriptor(parameter)?).ok()?;
        let text = decimal.as_str();
        let positive =
            !text.starts_with('-') && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
        (positive && text.len() <= MAX_MEASURE).then(|| text.to_owned())
    }

    /// A descriptor's text: what is known of the patient as a whole.
    fn descriptor(&self, parameter: &str) -> Option<&str> {
        let mut rows = rows(&self.text).filter_map(|(_, row)| row.ok());
        Some(rows.find(|row| row.parameter == parameter)?.value)
    }

    /// How long the patient is in the bed, in milliseconds: until a minute after the last row.
    pub(super) fn length_ms(&self) -> i64 {
        let rows = rows(&self.text).filter_map(|(_, row)| row.ok());
        let last = rows.map(|row| row.minute).max();
        (last.unwrap_or(0) + 1) * 60_000
    }
}

/// A bed's stays with the instants at which they begin, one after another from `origin` on.
pub(super) type Schedule = Vec<(Timestamp, Stay)>;

/// An archive, and the file with the outcomes of its stays if there is one.
pub(super) type Files<'a> = (&'a Path, Option<&'a Path>);

/// Reads the stays of beds. Every stay that is asked for must be in the archive, and in the outcomes where there are any.
pub(super) fn schedules(
    (archive, outcomes): Files<'_>,
    beds: &[BedStays],
    origin: Timestamp,
) -> Result<Vec<Schedule>, SimError> {
    let ends = outcomes.map(|path| ends(path, beds)).transpose()?;
    let mut wanted: HashSet<u32> = beds
        .iter()
        .flat_map(|bed| bed.stays.iter().copied())
        .collect();
    let mut texts = HashMap::new();
    if !wanted.is_empty() {
        archive::scan(archive, |record, entry| {
            if wanted.remove(&record) {
                texts.insert(record, Arc::<str>::from(entry.text()?));
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
                died: ends.as_ref().and_then(|ends| ends.get(record).copied()),
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

/// The outcomes of the stays of beds: each must be there.
fn ends(path: &Path, beds: &[BedStays]) -> Result<Outcomes, SimError> {
    let ends = outcomes::read(path)?;
    let mut asked = beds.iter().flat_map(|bed| &bed.stays);
    match asked.find(|record| !ends.contains_key(record)) {
        None => Ok(ends),
        Some(record) => Err(SimError::Data {
            path: path.into(),
            problem: format!("says nothing of stay {record}, which is replayed"),
        }),
    }
}

/// The beds of a facility with their stays.
pub(super) struct Ward {
    beds: Vec<(String, Schedule)>,
    survey: Survey,
}

impl Ward {
    pub(super) fn load(
        files: Files<'_>,
        beds: &[BedStays],
        origin: Timestamp,
    ) -> Result<Self, SimError> {
        let schedules = schedules(files, beds, origin)?;
        let mut survey = Survey::default();
        for (_, stay) in schedules.iter().flatten() {
            samples(stay, &mut survey).for_each(drop);
            let told = u64::from(stay.died.is_some());
            (survey.rows, survey.readings) = (survey.rows + told, survey.readings + told);
        }
        let beds = beds
            .iter()
            .map(|bed| bed.bed.clone())
            .zip(schedules)
            .collect();
        Ok(Self { beds, survey })
    }

    /// What was found in the data of these stays.
    pub(super) const fn survey(&self) -> &Survey {
        &self.survey
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
                let minutes: Vec<_> = samples(&stay, &mut Survey::default()).collect();
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
        let minutes: Vec<_> = samples(&stay, &mut Survey::default()).collect();
        let end = outcome(&stay, start);
        let measured = minutes.into_iter().flat_map(move |minute| {
            let (time, patient) = (start.plus_ms(minute.at * 60_000), patient.clone());
            layers(minute.others)
                .into_iter()
                .map(move |readings| LabSample {
                    time,
                    patient: Some(patient.clone()),
                    readings,
                })
        });
        measured.chain(end)
    })
}

/// What became of a stay, as its last sample.
fn outcome(stay: &Stay, start: Timestamp) -> Option<LabSample> {
    let died = Decimal::from_parts(i64::from(stay.died?), 0);
    let code = Code::of(Code::MEDMESH, outcomes::CODE).ok()?;
    Some(LabSample {
        time: start.plus_ms(stay.length_ms() - OUTCOME_MS),
        patient: Some(stay.patient().into()),
        readings: vec![(code, died)],
    })
}

/// Reads the text of a stay to its end.
pub(super) fn read(text: &str, survey: &mut Survey) {
    let stay = Stay {
        record: 0,
        text: text.into(),
        died: None,
    };
    samples(&stay, survey).for_each(drop);
}

/// The readings of one minute of a stay, in the order of the rows.
#[derive(Debug, Default)]
struct Minute {
    at: i64,
    vitals: Vec<(Signal, Reading)>,
    others: Vec<(Code, Decimal)>,
}

/// The minutes of a stay in order.
fn samples(stay: &Stay, survey: &mut Survey) -> std::vec::IntoIter<Minute> {
    let mut readable = Vec::new();
    for (line, row) in rows(&stay.text) {
        survey.rows += 1;
        match row {
            Ok(row) => readable.push((line, row)),
            Err(reason) => survey.leave_out(stay.record, line, reason),
        }
    }
    // Stable: rows of one minute keep their order.
    readable.sort_by_key(|(_, row)| row.minute);
    let mut minutes: Vec<Minute> = Vec::new();
    for (line, row) in readable {
        if minutes.last().is_none_or(|minute| minute.at != row.minute) {
            minutes.push(Minute {
                at: row.minute,
                ..Minute::default()
            });
        }
        let contradicts =
            is_of_person(row.parameter) && stay.descriptor(row.parameter) != Some(row.value);
        let added = match minutes.last_mut() {
            _ if contradicts => Err("says another thing of the patient than a row before"),
            Some(minute) => add(minute, row, survey),
            None => Ok(()),
        };
        if let Err(reason) = added {
            survey.leave_out(stay.record, line, reason);
        }
    }
    minutes.into_iter()
}

fn is_of_person(parameter: &str) -> bool {
    matches!(target(parameter), Some(Target::Person))
}

/// Whether what a row says of the patient can be understood: it travels with the bed, not as a reading.
fn person(row: Row<'_>, survey: &mut Survey) -> Result<(), &'static str> {
    let within = |range: std::ops::RangeInclusive<u32>| {
        row.value
            .parse()
            .is_ok_and(|number| range.contains(&number))
    };
    let known = match row.parameter {
        "Age" => (within(0..=130), "an age is 0 to 130 years"),
        "Gender" => (within(0..=1), "a gender is 0 or 1"),
        "ICUType" => (within(1..=4), "a care unit is 1 to 4"),
        // Compared with the name of the file when it was opened.
        _ => (true, ""),
    };
    match known {
        (true, _) => {
            survey.descriptors += 1;
            Ok(())
        }
        (false, _) if row.value == "-1" => {
            survey.unknown += 1;
            Ok(())
        }
        (false, reason) => Err(reason),
    }
}

/// Adds a row to its minute, or says why it cannot be emitted.
fn add(minute: &mut Minute, row: Row<'_>, survey: &mut Survey) -> Result<(), &'static str> {
    let target = target(row.parameter).ok_or("unknown parameter")?;
    if matches!(target, Target::Person) {
        return person(row, survey);
    }
    let (decimal, as_written) = rows::decimal(row.value)?;
    // Exact: -1 has a binary representation.
    if decimal.approximate() == -1.0 {
        survey.unknown += 1;
        return Ok(());
    }
    let mut exact = as_written;
    match target {
        Target::Monitor(signal) => {
            let reading =
                convert::value(&decimal).ok_or("does not fit into a monitor's registers")?;
            if let Reading::Value { mantissa, exponent } = reading {
                exact &= Decimal::from_parts(i64::from(mantissa), exponent) == decimal;
            }
            minute.vitals.push((signal, reading));
        }
        Target::Analyser(system, code) => {
            let code = Code::of(system, code).map_err(|_| "unknown parameter")?;
            minute.others.push((code, decimal));
        }
        Target::Person => {}
    }
    survey.readings += 1;
    survey.normalised += u64::from(!exact);
    Ok(())
}

#[cfg(test)]
mod tests;
