//! A facility's own table of records for research: what its columns are, and the values.
//!
//! The values are about patients and stay at the facility: they have no `Serialize`, are not printed, and only
//! [`Table::values`] opens them. [`crate::features`] makes of them what a study asks for.
mod csv;
mod fault;
mod import;
mod schema;

pub use fault::Fault;
pub use import::{MAX_FAULTS, MAX_RECORDS, MAX_VALUES, import};
pub use schema::{Column, Schema};

use types::Phi;

/// Records of one value for each column, in the order in which they were read.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    /// One record after another; NaN where a value is missing.
    values: Phi<Vec<f64>>,
}

/// What a column holds, all records together.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Records that have a value.
    pub present: usize,
    /// Records that have none.
    pub missing: usize,
    /// The least value; none when all are missing.
    pub least: Option<f64>,
    /// The largest value.
    pub largest: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
}

impl Table {
    /// A table of values, one record after another and NaN for what is missing; none when they are no whole records.
    #[must_use]
    pub fn new(columns: Vec<Column>, values: Vec<f64>) -> Option<Self> {
        let whole = !columns.is_empty() && values.len().is_multiple_of(columns.len());
        whole.then(|| Self {
            columns,
            values: Phi::new(values),
        })
    }

    /// Its columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many records it has.
    #[must_use]
    pub fn records(&self) -> usize {
        self.values().len() / self.columns.len().max(1)
    }

    /// The place of a column.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The values of a column, record by record; none where one is missing.
    pub fn column(&self, at: usize) -> impl Iterator<Item = Option<f64>> + '_ {
        let values = self.values().iter().skip(at).step_by(self.columns.len());
        values.map(|value| (!value.is_nan()).then_some(*value))
    }

    /// A value of a record; none where it is missing, or there is no such record or column.
    pub(crate) fn value(&self, record: usize, column: usize) -> Option<f64> {
        let width = self.columns.len();
        let at = record.checked_mul(width)?.checked_add(column)?;
        let value = self.values().get(at).filter(|_| column < width)?;
        (!value.is_nan()).then_some(*value)
    }

    /// What each column holds.
    #[must_use]
    pub fn summaries(&self) -> Vec<Summary> {
        let of = |at| {
            let present: Vec<f64> = self.column(at).flatten().collect();
            let sum: f64 = present.iter().sum();
            Summary {
                missing: self.records() - present.len(),
                least: present.iter().copied().reduce(f64::min),
                largest: present.iter().copied().reduce(f64::max),
                mean: (!present.is_empty()).then(|| sum / present.len() as f64),
                present: present.len(),
            }
        };
        (0..self.columns.len()).map(of).collect()
    }

    /// The values as they are stored: 64-bit little-endian numbers, whole records, no more than `bytes` in a part
    /// (and one record at least).
    pub fn parts(&self, bytes: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
        let width = self.columns.len().max(1);
        let records = (bytes / (width * VALUE_BYTES)).max(1);
        let pack = |part: &[f64]| part.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.values().chunks(records * width).map(pack)
    }

    /// A table of the parts that [`Table::parts`] made; none when they are no whole records.
    pub fn of_parts<'a>(
        columns: Vec<Column>,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let mut values = Vec::new();
        for part in parts {
            let (numbers, rest) = part.as_chunks::<VALUE_BYTES>();
            if !rest.is_empty() {
                return None;
            }
            values.extend(numbers.iter().map(|number| f64::from_le_bytes(*number)));
        }
        Self::new(columns, values)
    }

    /// The values, one record after another.
    #[expect(
        clippy::disallowed_methods,
        reason = "what is learnt, summed up and stored is made of them at the facility"
    )]
    fn values(&self) -> &[f64] {
        self.values.expose()
    }
}

/// Bytes of a stored value.
const VALUE_BYTES: usize = 8;

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
