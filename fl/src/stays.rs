//! From the readings of stays to a table: what a study's `data.stays` asks for, one record for each stay.
//!
//! The features of a stay are of its first hours alone, window by window; its label may be of any time of it. A reading
//! that is implausible or in doubt is none: the shell leaves it out, as it is kept out of scores and control. Values are
//! about patients and stay at the facility, as those of every [`Table`].
use crate::{
    features::{Prepared, Split, is_held_back, prepare_from},
    study::{Data, Feature, Label, Missing, PrivacyUnit, Problem, Study, Summary},
    table::{Column, MAX_RECORDS, MAX_VALUES, Table},
};
use std::collections::{BTreeMap, BTreeSet};
use types::{CareUnit, Code, Unit};

const HOUR_MS: i64 = 3_600_000;

/// What a facility knows of the patient of a stay. Like the readings it is not printed.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Facts {
    /// Whole years, when the stay began.
    pub age: Option<f64>,
    /// 0 female, 1 male.
    pub sex: Option<f64>,
    /// In cm.
    pub height: Option<f64>,
    /// In kg.
    pub weight: Option<f64>,
    /// The kind of unit where the patient lay.
    pub care_unit: Option<CareUnit>,
}

impl Facts {
    fn of(&self, name: &str) -> Option<f64> {
        match name {
            "age" => self.age,
            "sex" => self.sex,
            "height" => self.height,
            "weight" => self.weight,
            "care-unit" => self.care_unit.map(|unit| match unit {
                CareUnit::Coronary => 1.0,
                CareUnit::CardiacSurgeryRecovery => 2.0,
                CareUnit::Medical => 3.0,
                CareUnit::Surgical => 4.0,
            }),
            _ => None,
        }
    }
}

/// A value that a device measured in a stay.
#[derive(Clone, Copy, PartialEq)]
pub struct Measured {
    /// What.
    pub code: Code,
    /// In which unit.
    pub unit: Unit,
    /// When, in ms after the stay began.
    pub at_ms: i64,
    /// The value.
    pub value: f64,
}

/// A stay of a patient.
#[derive(Clone, Default, PartialEq)]
pub struct Stay {
    /// Who it is, by a number of the facility's own: stays of one patient are trained with or judged with together.
    pub patient: u64,
    /// What is known without readings.
    pub facts: Facts,
    /// The readings, in the order in which they were measured.
    pub readings: Vec<Measured>,
}

/// Makes a table of stays, one after another.
pub struct StayTable<'a> {
    study: &'a Study,
    label: Code,
    /// By code the features that are made of it.
    of_code: BTreeMap<Code, Vec<usize>>,
    columns: Vec<Column>,
    values: Vec<f64>,
    patients: Vec<u64>,
    /// How many stays there are, also those that are no record.
    stays: usize,
    /// Codes of which a stay had a reading.
    seen: BTreeSet<Code>,
    problems: BTreeSet<Problem>,
}

impl<'a> StayTable<'a> {
    /// An empty one; none where the study is not one of stays with a label from a reading.
    #[must_use]
    pub fn of(study: &'a Study) -> Option<Self> {
        let (Some(_), Label::Binary { code, .. }) = (study.data.stays, &study.data.label) else {
            return None;
        };
        let mut of_code: BTreeMap<Code, Vec<usize>> = BTreeMap::new();
        for (at, feature) in study.data.features.iter().enumerate() {
            if let Some(code) = feature.code {
                of_code.entry(code).or_default().push(at);
            }
        }
        Some(Self {
            label: (*code)?,
            of_code,
            columns: columns(&study.data),
            study,
            values: Vec::new(),
            patients: Vec::new(),
            stays: 0,
            seen: BTreeSet::new(),
            problems: BTreeSet::new(),
        })
    }

    /// How long a stay has to have lasted, where it has not ended, in ms.
    #[must_use]
    pub fn least_ms(&self) -> i64 {
        span(&self.study.data).0
    }

    /// Whether readings of a code are asked for: within the first hours, or of the whole stay.
    #[must_use]
    pub fn wants(&self, code: Code) -> bool {
        code == self.label || self.of_code.contains_key(&code)
    }

    /// Adds a stay. One that has no label yet is none.
    pub fn push(&mut self, stay: &Stay) {
        self.stays += 1;
        let label = stay.readings.iter().rev();
        let label = label
            .filter(|of| of.code == self.label && self.fits(of, None))
            .map(|of| of.value)
            .next();
        let known = stay.readings.iter().map(|of| of.code);
        self.seen.extend(known);
        let mut by_code: BTreeMap<Code, Vec<(i64, f64)>> = BTreeMap::new();
        for reading in &stay.readings {
            let Some(of) = self.of_code.get(&reading.code) else {
                continue;
            };
            if !(0..span(&self.study.data).0).contains(&reading.at_ms) {
                continue;
            }
            match of.first() {
                Some(at) if !self.fits(reading, Some(*at)) => self.refuse(reading, *at),
                _ => by_code
                    .entry(reading.code)
                    .or_default()
                    .push((reading.at_ms, reading.value)),
            }
        }
        let Some(label) = label else {
            return;
        };
        if self.is_full() {
            return;
        }
        self.row(stay, &by_code);
        self.values.push(label);
        self.patients.push(stay.patient);
    }

    /// Whether a reading is in the unit of the study.
    fn fits(&self, reading: &Measured, feature: Option<usize>) -> bool {
        let unit = match feature.and_then(|at| self.study.data.features.get(at)) {
            Some(feature) => feature.unit.as_str(),
            None => reading.code.info().unit,
        };
        reading.unit.as_str() == unit
    }

    fn refuse(&mut self, reading: &Measured, at: usize) {
        let (code, here) = (reading.code, reading.unit);
        let asked = self.study.data.features.get(at);
        let asked = asked.map_or("", |feature| feature.unit.as_str());
        let message = format!("readings of `{code}` are in {here} here, not in {asked}");
        let path = format!("data.features[{at}].unit");
        self.problems.insert(Problem::new(path, message));
    }

    fn is_full(&mut self) -> bool {
        let (records, width) = (self.patients.len(), self.columns.len());
        let full = records >= MAX_RECORDS || (records + 1).saturating_mul(width) > MAX_VALUES;
        if full {
            let message = format!("the facility has more than {records} stays, which are too many");
            self.problems.insert(Problem::new("data.stays", message));
        }
        full
    }

    fn row(&mut self, stay: &Stay, by_code: &BTreeMap<Code, Vec<(i64, f64)>>) {
        let data = &self.study.data;
        let (_, window_ms) = span(data);
        for feature in &data.features {
            let Some(code) = feature.code else {
                let fact = stay.facts.of(&feature.name);
                self.values.push(fact.unwrap_or(f64::NAN));
                continue;
            };
            let all = by_code.get(&code).map_or(&[][..], Vec::as_slice);
            for window in 0..data.windows() {
                let from = i64::try_from(window)
                    .unwrap_or(i64::MAX)
                    .saturating_mul(window_ms);
                let within = |at: i64| (from..from.saturating_add(window_ms)).contains(&at);
                let own: Vec<_> = all.iter().copied().filter(|(at, _)| within(*at)).collect();
                let taken = feature.summaries.iter().map(|summary| summary.of(&own));
                self.values
                    .extend(taken.map(|value| value.unwrap_or(f64::NAN)));
            }
        }
    }

    /// The records of the study.
    ///
    /// # Errors
    /// What of the study does not fit the facility's readings, each with the study's key. It is told to the coordinator:
    /// it names codes and units, and nothing of a stay.
    pub fn prepare(self) -> Result<Prepared, Vec<Problem>> {
        let seed = self.study.training.seed;
        let share = self.study.evaluation.test_share;
        // By the patient, so that nobody is on both sides, and stays that come later move nobody.
        self.prepare_judging(|patient| is_held_back(seed, share, &patient.to_le_bytes()))
    }

    /// The same, where it is said which patients are judged with: for cross-validation.
    ///
    /// # Errors
    /// As of [`StayTable::prepare`].
    pub fn prepare_judging(
        mut self,
        is_judged: impl Fn(u64) -> bool,
    ) -> Result<Prepared, Vec<Problem>> {
        // That somebody has a reading of a code is told only where nothing is promised.
        if self.study.privacy.unit == PrivacyUnit::None {
            self.lacking();
        }
        if !self.problems.is_empty() {
            return Err(self.problems.into_iter().collect());
        }
        let table = Table::new(self.columns, self.values).ok_or_else(|| {
            let message = "the facility's stays are no whole records";
            vec![Problem::new("data.stays", message)]
        })?;
        let held: Vec<bool> = self.patients.iter().map(|of| is_judged(*of)).collect();
        let split = Split::Given {
            held: &held,
            stays: self.stays,
        };
        prepare_from(self.study, &table, split)
    }

    /// Codes that no stay has a reading of, where records are nothing without them.
    fn lacking(&mut self) {
        let mut say = |path: String, code: Code| {
            let message = format!("no stay here has a reading of `{code}`");
            self.problems.insert(Problem::new(path, message));
        };
        if !self.seen.contains(&self.label) {
            say("data.label.code".into(), self.label);
        }
        for (at, feature) in self.study.data.features.iter().enumerate() {
            let Some(code) = feature
                .code
                .filter(|_| feature.missing == Missing::DropRecord)
            else {
                continue;
            };
            if !self.seen.contains(&code) {
                say(format!("data.features[{at}].code"), code);
            }
        }
    }
}

/// How much of a stay is looked at, and a window of it, in ms.
fn span(data: &Data) -> (i64, i64) {
    let Some(stays) = data.stays else {
        return (0, 1);
    };
    let window = stays.window_hours.unwrap_or(stays.hours).max(1);
    (
        i64::from(stays.hours) * HOUR_MS,
        i64::from(window) * HOUR_MS,
    )
}

/// The values of a fact that is one of a few.
fn categories(name: &str) -> Vec<i64> {
    match name {
        "sex" => vec![0, 1],
        "care-unit" => vec![1, 2, 3, 4],
        _ => Vec::new(),
    }
}

/// The columns of the table, in the order in which [`StayTable::row`] writes them: of each feature window by window, and
/// the label last.
fn columns(data: &Data) -> Vec<Column> {
    let column = |name: String, unit: &str| Column {
        categories: categories(&name),
        name,
        unit: unit.to_owned(),
        missing: true,
        min: None,
        max: None,
        codes: BTreeMap::new(),
    };
    let of = |feature: &Feature| -> Vec<Column> {
        let windows = if feature.code.is_some() {
            data.windows()
        } else {
            1
        };
        (0..windows)
            .flat_map(|window| data.columns_of(feature, window))
            .map(|name| column(name, &feature.unit))
            .collect()
    };
    let mut all: Vec<_> = data.features.iter().flat_map(of).collect();
    all.push(column(Data::LABEL_OF_STAY.into(), "1"));
    all
}

impl Summary {
    /// What it is of readings: their times in ms, in order, and values. None where there are too few of them.
    #[must_use]
    pub fn of(self, readings: &[(i64, f64)]) -> Option<f64> {
        let values = || readings.iter().map(|(_, value)| *value);
        let count = readings.len() as f64;
        match self {
            Self::Count => Some(count),
            Self::Mean => (count > 0.0).then(|| values().sum::<f64>() / count),
            Self::Min => values().reduce(f64::min),
            Self::Max => values().reduce(f64::max),
            Self::First => values().next(),
            Self::Last => values().next_back(),
            Self::Trend => trend(readings),
        }
    }
}

/// The slope of the least-squares line, per hour; none where all readings are of one instant.
fn trend(readings: &[(i64, f64)]) -> Option<f64> {
    let count = readings.len() as f64;
    let hours = |at: i64| at as f64 / HOUR_MS as f64;
    let centre = readings.iter().map(|(at, _)| hours(*at)).sum::<f64>() / count;
    let mean = readings.iter().map(|(_, value)| value).sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for (at, value) in readings {
        let off = hours(*at) - centre;
        above += off * (value - mean);
        below += off * off;
    }
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
#[path = "stays_tests.rs"]
mod tests;
