//! From the text of a file to a table: all of it, or everything that is wrong, line by line and column by column.
use super::{Column, Fault, Schema, Table, csv::Records};
use ring::digest::{SHA256, digest};
use std::collections::{BTreeMap, HashMap};

/// The most records of a table.
pub const MAX_RECORDS: usize = 1_000_000;
/// The most values of a table: 128 MiB of them.
pub const MAX_VALUES: usize = 1 << 24;
/// So many faults are told; what is wrong beyond is seen when these are mended.
pub const MAX_FAULTS: usize = 100;

/// What becomes of a column of the file.
enum Use<'a> {
    /// A column of the table.
    Value(usize, &'a Column),
    /// What identifies a record.
    Key,
    Nothing,
}

/// Reads a table from the text of a file. `schema` has no problems.
///
/// # Errors
/// Everything that is wrong, [`MAX_FAULTS`] things at most and one at least.
pub fn import(schema: &Schema, text: &str) -> Result<Table, Vec<Fault>> {
    let mut records = Records::of(text);
    let uses = if schema.names.is_empty() {
        let header = records.next().map_err(|fault| vec![fault])?;
        let Some((line, header)) = header else {
            return Err(vec![Fault::of_line(1, "the file has no header line")]);
        };
        header_uses(schema, line, &header)?
    } else {
        schema
            .names
            .iter()
            .map(|name| use_of(schema, name).unwrap_or(Use::Nothing))
            .collect()
    };
    let mut import = Import {
        schema,
        values: Vec::new(),
        seen: HashMap::new(),
        faults: Vec::new(),
        full: false,
    };
    loop {
        match records.next() {
            Ok(Some((line, cells))) => import.record(line, &cells, &uses),
            Ok(None) => break,
            Err(fault) => {
                import.faults.push(fault);
                break;
            }
        }
        if import.full || import.faults.len() >= MAX_FAULTS {
            break;
        }
    }
    import.finish(records.line)
}

/// The column that a name stands for; none when the schema does not know it.
fn use_of<'a>(schema: &'a Schema, name: &str) -> Option<Use<'a>> {
    let mut columns = schema.columns.iter().enumerate();
    if let Some((at, column)) = columns.find(|(_, column)| column.name == name) {
        return Some(Use::Value(at, column));
    }
    if schema.key.as_deref() == Some(name) {
        return Some(Use::Key);
    }
    let ignored = schema.ignore.iter().any(|ignored| ignored == name);
    ignored.then_some(Use::Nothing)
}

/// A cell of a header as name and unit: `chol`, `chol [mg/dL]` or `chol (mg/dL)`.
fn name_and_unit(cell: &str) -> (&str, Option<&str>) {
    for (open, close) in [('[', ']'), ('(', ')')] {
        if let Some((name, unit)) = cell
            .strip_suffix(close)
            .and_then(|cell| cell.split_once(open))
        {
            return (name.trim_end(), Some(unit.trim()));
        }
    }
    (cell, None)
}

fn header_uses<'a>(
    schema: &'a Schema,
    line: u64,
    header: &[String],
) -> Result<Vec<Use<'a>>, Vec<Fault>> {
    if header.iter().any(|cell| cell.contains('\r')) {
        // All of the file is its header: nothing of it is repeated.
        let what = "lines end with a carriage return alone; write line feeds";
        return Err(vec![Fault::of_line(line, what)]);
    }
    let mut faults = Vec::new();
    let mut places = BTreeMap::new();
    let mut uses = Vec::new();
    for (index, cell) in header.iter().enumerate() {
        let (name, unit) = match use_of(schema, cell) {
            Some(_) => (cell.as_str(), None),
            None => name_and_unit(cell),
        };
        if let Some(first) = places.insert(name, index + 1) {
            let what = format!("is there twice, as number {first} and number {}", index + 1);
            faults.push(Fault::of_column(line, name, what));
        }
        let Some(found) = use_of(schema, name) else {
            let what = format!(
                "is number {} of the file and not in the schema: name it in `columns` or in `ignore`",
                index + 1
            );
            faults.push(Fault::of_column(line, name, what));
            continue;
        };
        if let (Use::Value(_, column), Some(unit)) = (&found, unit)
            && column.unit != unit
        {
            let what = format!("is in {unit}, and in the schema in {}", column.unit);
            faults.push(Fault::of_column(line, name, what));
        }
        uses.push(found);
    }
    let wanted = schema.columns.iter().map(|column| &column.name);
    for name in wanted.chain(&schema.key) {
        if !places.contains_key(name.as_str()) {
            faults.push(Fault::of_column(line, name, "is missing"));
        }
    }
    if header.len() == 1 && header.iter().any(|cell| cell.contains([';', '\t', '|'])) {
        faults.insert(
            0,
            Fault::of_line(line, "cells are separated by commas, and here they are not"),
        );
    }
    faults.truncate(MAX_FAULTS);
    if faults.is_empty() {
        Ok(uses)
    } else {
        Err(faults)
    }
}

/// A table on its way.
struct Import<'a> {
    schema: &'a Schema,
    values: Vec<f64>,
    /// Lines of what identifies records: digests of their keys, or of their values.
    seen: HashMap<[u8; 32], u64>,
    faults: Vec<Fault>,
    /// No record more fits.
    full: bool,
}

impl Import<'_> {
    fn record(&mut self, line: u64, cells: &[String], uses: &[Use]) {
        if cells.len() != uses.len() {
            let what = format!("has {} cells, not {}", cells.len(), uses.len());
            self.faults.push(Fault::of_line(line, what));
            return;
        }
        let width = self.schema.columns.len();
        let mut record = vec![f64::NAN; width];
        let mut key = None;
        for (cell, of) in cells.iter().zip(uses) {
            match of {
                Use::Nothing => {}
                Use::Key => key = Some(cell),
                Use::Value(at, column) => match (self.value(cell, column), record.get_mut(*at)) {
                    (Ok(value), Some(place)) => *place = value,
                    (Ok(_), None) => {
                        let what = "is no column of the schema".to_owned();
                        self.faults.push(Fault::of_column(line, &column.name, what));
                    }
                    (Err(what), _) => {
                        self.faults.push(Fault::of_column(line, &column.name, what));
                    }
                },
            }
        }
        self.only_once(line, key, &record);
        if self.values.len() / width.max(1) >= MAX_RECORDS || self.values.len() + width > MAX_VALUES
        {
            let what =
                format!("is beyond what a table holds: {MAX_RECORDS} records, {MAX_VALUES} values");
            self.faults.push(Fault::of_line(line, what));
            self.full = true;
            return;
        }
        self.values.extend(record);
    }

    fn value(&self, cell: &str, column: &Column) -> Result<f64, String> {
        if !self.schema.missing.iter().any(|missing| missing == cell) {
            return column.value(cell);
        }
        if column.missing {
            Ok(f64::NAN)
        } else {
            Err("has no value, and the schema does not say `missing = true`".into())
        }
    }

    /// Says when the record was there before.
    fn only_once(&mut self, line: u64, key: Option<&String>, record: &[f64]) {
        let (bytes, column, what): (Vec<u8>, _, _) = match key {
            Some(key) if key.is_empty() => {
                let name = self.schema.key.as_deref().unwrap_or_default();
                let what = "identifies records, and is empty";
                self.faults.push(Fault::of_column(line, name, what));
                return;
            }
            Some(key) => (
                key.as_bytes().to_vec(),
                self.schema.key.clone(),
                "identifies records, and is the same in line",
            ),
            None if self.schema.equal_records => return,
            None => (
                record
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
                None,
                "is the same record as line",
            ),
        };
        let mut identity = [0; 32];
        identity.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        if let Some(first) = self.seen.get(&identity) {
            let hint = if column.is_some() {
                ""
            } else {
                "; name a `key`, or write `equal_records = true`"
            };
            self.faults.push(Fault {
                line,
                column,
                what: format!("{what} {first}{hint}"),
            });
            return;
        }
        self.seen.insert(identity, line);
    }

    fn finish(mut self, end: u64) -> Result<Table, Vec<Fault>> {
        if self.values.is_empty() && self.faults.is_empty() {
            self.faults
                .push(Fault::of_line(end, "the file has no records"));
        }
        if !self.faults.is_empty() {
            self.faults.truncate(MAX_FAULTS);
            return Err(self.faults);
        }
        Table::new(self.schema.columns.clone(), self.values)
            .ok_or_else(|| vec![Fault::of_line(end, "the records are not whole")])
    }
}
