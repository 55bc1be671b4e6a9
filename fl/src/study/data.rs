//! What is learnt from: a table that facilities have imported, or the readings of stays.
use serde::{Deserialize, Serialize};
use types::{Code, Name};

/// What is known of a patient without readings, and in which unit.
pub const FACTS: [(&str, &str); 5] = [
    ("age", "a"),
    ("sex", "1"),
    ("height", "cm"),
    ("weight", "kg"),
    ("care-unit", "1"),
];

/// The records, their features and their label. Exactly one of `table` and `stays` is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A data set of each facility, by the name it was imported under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Name>,
    /// Stays of patients at the facility.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<Stays>,
    /// Windows of each record of a table, for models over windows: the feature `hr` is then in the columns `hr.1`, `hr.2`
    /// and so on, the earliest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<u16>,
    /// A facility with fewer records does not take part.
    pub minimum_records: u32,
    /// A facility with more records counts as one with this many; needed where updates are weighted by records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_records: Option<u32>,
    /// What is told of each record, in the order of the model's inputs.
    pub features: Vec<Feature>,
    /// What is to be predicted.
    pub label: Label,
}

/// Which part of a stay is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stays {
    /// Hours from the beginning of the stay.
    pub hours: u16,
    /// Hours of a window, for models over windows; the whole time is one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_hours: Option<u16>,
}

/// One thing that is told of each record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// The column of a table, or what the feature is called.
    pub name: String,
    /// UCUM unit. A facility whose values are in another one answers with a refusal. Of readings it is that of their
    /// values; a count has none, and a trend is of that unit per hour.
    pub unit: String,
    /// The readings that it is made of; none for a column or a fact about the patient ([`FACTS`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// What is taken of the readings of each window: one input each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub summaries: Vec<Summary>,
    /// The values of a column of categories: one input for each but the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<i64>,
    /// What becomes of a record without it.
    pub missing: Missing,
    /// From which value and by which width it is scaled; by mean and deviation of the facility's own training records
    /// when left out. Needed where records are hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
}

/// How a feature is scaled: (value − centre) / width, in its unit. A study takes them from what is known beforehand, such
/// as the range of a reference population.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// What becomes 0; it stands in for what is missing.
    pub centre: f64,
    /// What becomes 1.
    pub width: f64,
    /// Of how many widths a value that is farther from the centre counts, so that an artefact or a rare value does not
    /// outweigh all others; each value counts as it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
}

/// What is taken of the readings of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Summary {
    /// Mean.
    Mean,
    /// Least.
    Min,
    /// Largest.
    Max,
    /// First in time.
    First,
    /// Last in time.
    Last,
    /// How many.
    Count,
    /// Slope of the least-squares line, per hour.
    Trend,
}

/// What becomes of a record that lacks a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// The record is left out.
    DropRecord,
    /// The mean of the facility's own training records stands in; the centre of the feature's scale where one is given.
    Mean,
    /// Zero stands in, after values were scaled.
    Zero,
    /// The value of the window before stands in, and where there is none what `mean` says.
    CarryForward,
}

/// What is to be predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Label {
    /// Yes or no.
    Binary {
        /// The column of a table.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        column: Option<String>,
        /// Of stays: the code of the reading that says it, the last one of the whole stay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
        /// Yes when the value is above this; 0 for what has no unit, and needed for what is measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        positive_above: Option<f64>,
    },
    /// The time until something happens, or until it had not happened.
    Survival {
        /// The column of times, in days, of which the facility's schema says that none is below 0.
        time: String,
        /// The column that is 1 when it happened and 0 when it had not; the schema names no other values.
        event: String,
    },
}

impl Label {
    /// The columns that it is made of, or its code.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Binary { column, code, .. } => {
                let code = code.map(|code| code.to_string());
                column.iter().cloned().chain(code).collect()
            }
            Self::Survival { time, event } => vec![time.clone(), event.clone()],
        }
    }
}

impl Summary {
    /// Its name in a study.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
            Self::Count => "count",
            Self::Trend => "trend",
        }
    }

    /// Whether it is in the unit of the readings.
    #[must_use]
    pub const fn is_of_value(self) -> bool {
        !matches!(self, Self::Count | Self::Trend)
    }
}

impl Feature {
    /// How many inputs of the model it makes, of each window.
    #[must_use]
    pub fn inputs(&self) -> usize {
        if !self.categories.is_empty() {
            return self.categories.len().saturating_sub(1);
        }
        self.summaries.len().max(1)
    }
}

impl Data {
    /// Inputs of the model: of a record, or of each window.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.features.iter().map(Feature::inputs).sum()
    }

    /// The column with the label of stays.
    pub const LABEL_OF_STAY: &str = "label of the stay";

    /// The columns that a feature is in, in a window (from 0, the earliest): one, or of readings one for each of what is
    /// taken of them. A fact about a patient is the same in every window.
    #[must_use]
    pub fn columns_of(&self, feature: &Feature, window: usize) -> Vec<String> {
        let name = &feature.name;
        let of_window = |name: String| match self.windows() {
            1 => name,
            _ => format!("{name}.{}", window + 1),
        };
        match (self.stays, feature.code) {
            (None, _) => match self.windows {
                None => vec![name.clone()],
                Some(_) => vec![format!("{name}.{}", window + 1)],
            },
            (Some(_), None) => vec![name.clone()],
            (Some(_), Some(_)) => {
                let taken = feature.summaries.iter();
                taken
                    .map(|summary| of_window(format!("{name}.{}", summary.as_str())))
                    .collect()
            }
        }
    }

    /// How many windows a record has.
    #[must_use]
    pub fn windows(&self) -> usize {
        let Some(stays) = self.stays else {
            return self.windows.map_or(1, usize::from).max(1);
        };
        let window = stays.window_hours.unwrap_or(stays.hours).max(1);
        usize::from(stays.hours.div_ceil(window)).max(1)
    }
}
