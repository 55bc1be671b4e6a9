//! What a facility says of a table: its columns with their units and ranges, as TOML.
use crate::study::{self, Problem};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The most columns: as many as a study may have features, and labels besides.
const MAX_COLUMNS: usize = 1_024;
const MAX_CODES: usize = 100;

/// A table as its facility describes it.
///
/// ```toml
/// key = "record"                  # identifies a record: read, compared, never stored
/// missing = ["", "?"]             # how a missing value is written; [""] when left out
/// ignore = ["slope", "ca"]        # columns of the file that are not taken over
/// names = ["age", "sex"]          # the columns of a file that has no header line
/// equal_records = false           # whether two records may have the same values
///
/// [[columns]]
/// name = "age"
/// unit = "a"                      # UCUM; `1` for what has none
/// min = 0
/// max = 120
///
/// [[columns]]
/// name = "chol"
/// unit = "mg/dL"
/// missing = true                  # records may lack it
///
/// [[columns]]
/// name = "cp"
/// unit = "1"
/// categories = [1, 2, 3, 4]       # no other values
///
/// [[columns]]
/// name = "split"
/// unit = "1"
/// codes = { train = 0, test = 1 } # words that stand for numbers; no other values
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The column that identifies a record: no two may have the same. It is not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether two records may have the same values in every column and no key to tell them apart.
    #[serde(default)]
    pub equal_records: bool,
    /// How a missing value is written.
    #[serde(default = "Schema::nothing")]
    pub missing: Vec<String>,
    /// Columns of the file that are not taken over.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// The columns of a file without a header line, in its order.
    #[serde(default)]
    pub names: Vec<String>,
    /// The columns of the table.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// What it is called, in the file and in studies.
    pub name: String,
    /// UCUM unit; `1` for what has none.
    pub unit: String,
    /// Whether records may lack it.
    #[serde(default)]
    pub missing: bool,
    /// The least value that is no mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest value that is no mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The values that there are, when these are categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<i64>,
    /// Words of the file and the numbers that they stand for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, f64>,
}

impl Schema {
    fn nothing() -> Vec<String> {
        vec![String::new()]
    }

    /// Everything that is wrong with it; empty when nothing is.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let have = self.columns.len();
        if !(1..=MAX_COLUMNS).contains(&have) {
            let message = format!("has from 1 to {MAX_COLUMNS} columns, not {have}");
            found.push(Problem::new("columns", message));
        }
        let mut names = BTreeSet::new();
        for (index, column) in self.columns.iter().enumerate() {
            let mut say = |key: &str, message: String| {
                found.push(Problem::new(format!("columns[{index}].{key}"), message));
            };
            if !names.insert(column.name.as_str()) {
                say("name", format!("`{}` is named twice", column.name));
            }
            column.problems(&mut say);
            if let Some(word) = self
                .missing
                .iter()
                .find(|word| column.codes.contains_key(*word))
            {
                say("codes", format!("has `{word}`, which is one of `missing`"));
            }
        }
        self.other_names(&names, &mut found);
        found
    }

    /// What is wrong with the names of columns that are not taken over, and of a file without a header line.
    fn other_names(&self, columns: &BTreeSet<&str>, found: &mut Vec<Problem>) {
        let mut say = |path: &str, message: String| found.push(Problem::new(path, message));
        let mut others = BTreeSet::new();
        for name in self.ignore.iter().chain(&self.key) {
            if columns.contains(name.as_str()) {
                let path = if self.key.as_ref() == Some(name) {
                    "key"
                } else {
                    "ignore"
                };
                say(path, format!("`{name}` is one of `columns`"));
            } else if !others.insert(name.as_str()) {
                say("ignore", format!("`{name}` is named twice"));
            }
        }
        let mut unique = BTreeSet::new();
        for name in &self.names {
            if !unique.insert(name.as_str()) {
                say("names", format!("`{name}` is named twice"));
            }
            if !columns.contains(name.as_str()) && !others.contains(name.as_str()) {
                say(
                    "names",
                    format!("`{name}` is not in `columns`, `ignore` or `key`"),
                );
            }
        }
        if !self.names.is_empty() {
            for name in columns.iter().chain(self.key.as_deref().iter()) {
                if !unique.contains(name) {
                    say("names", format!("lacks `{name}`"));
                }
            }
        }
    }
}

impl Column {
    fn problems(&self, say: &mut impl FnMut(&str, String)) {
        if let Some(message) = study::name_problem(&self.name) {
            say("name", message);
        }
        if let Some(message) = study::unit_problem(&self.unit) {
            say("unit", message);
        }
        let finite = |limit: &Option<f64>| limit.is_none_or(f64::is_finite);
        if !finite(&self.min) || !finite(&self.max) {
            say("min", "and `max` are finite numbers".into());
        } else if self.min.zip(self.max).is_some_and(|(min, max)| min > max) {
            say("min", "is above `max`".into());
        }
        for at in study::again(&self.categories) {
            say(&format!("categories[{at}]"), "names a value twice".into());
        }
        if self.categories.len() == 1 || self.categories.len() > MAX_CODES {
            say("categories", format!("has from 2 to {MAX_CODES} values"));
        }
        if self.codes.len() > MAX_CODES || self.codes.values().any(|code| !code.is_finite()) {
            say(
                "codes",
                format!("are {MAX_CODES} finite numbers at the most"),
            );
        }
        for (word, code) in &self.codes {
            if let Err(message) = self.within(*code) {
                say("codes", format!("`{word}` {message}"));
            }
        }
    }

    /// The values that there may be, where the schema names them; nothing is read of a record for it.
    pub(crate) fn named(&self) -> Vec<f64> {
        if self.categories.is_empty() {
            return self.codes.values().copied().collect();
        }
        self.categories.iter().map(|value| *value as f64).collect()
    }

    /// Whether it says yes or no: the schema names no other values than 0 and 1.
    pub(crate) fn is_yes_or_no(&self) -> bool {
        let named = self.named();
        !named.is_empty() && named.iter().all(|value| *value == 0.0 || *value == 1.0)
    }

    /// The value that a cell stands for, or what is wrong with the cell. Nothing of the cell is repeated.
    pub(super) fn value(&self, cell: &str) -> Result<f64, String> {
        let value = if self.codes.is_empty() {
            number(cell).ok_or("is not a number")?
        } else {
            let words = || self.codes.keys().map(String::as_str).collect::<Vec<_>>();
            *self
                .codes
                .get(cell)
                .ok_or_else(|| format!("is none of {}", words().join(", ")))?
        };
        self.within(value)
    }

    /// The value, where it is one that the column may have.
    fn within(&self, value: f64) -> Result<f64, String> {
        let category = |known: &i64| *known as f64 == value;
        if !self.categories.is_empty() && !self.categories.iter().any(category) {
            let known: Vec<_> = self.categories.iter().map(ToString::to_string).collect();
            return Err(format!("is none of {}", known.join(", ")));
        }
        match (self.min, self.max) {
            (Some(min), _) if value < min => Err(format!("is below {min} {}", self.unit)),
            (_, Some(max)) if value > max => Err(format!("is above {max} {}", self.unit)),
            // Without the sign of a zero.
            _ => Ok(value + 0.0),
        }
    }
}

/// A decimal number as people and spreadsheets write them; nothing else that a parser might take for one.
fn number(cell: &str) -> Option<f64> {
    let decimal = cell
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let value: f64 = cell.parse().ok().filter(|_| decimal)?;
    value.is_finite().then_some(value)
}
