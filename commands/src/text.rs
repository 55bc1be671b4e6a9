//! A table as a text that [`Table::read`] reads back: how a facility tells its region which commands a device takes.
//!
//! It says what clients may ask for. Which registers carry it is the facility's own.
use crate::{
    parameter::{Bound, Parameter},
    table::{Entry, MAX_TABLE_BYTES, Table},
};
use serde_json::Value as Json;

impl Table {
    /// The table as TOML, without what is written to a Modbus device; nothing of the text that it was read from.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for entry in &self.0 {
            entry_lines(entry, &mut lines);
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Reads the text that a facility tells of a device. Of one that cannot be read, or is longer than
    /// [`MAX_TABLE_BYTES`], nothing is believed: the device takes no command.
    #[must_use]
    pub fn told(text: &str) -> Self {
        let read = if text.len() <= MAX_TABLE_BYTES {
            Self::read(text).ok()
        } else {
            None
        };
        let mut table = read.unwrap_or_default();
        for entry in &mut table.0 {
            entry.write.clear();
        }
        table
    }
}

/// A TOML basic string. JSON's escapes are TOML's too.
fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

fn entry_lines(entry: &Entry, lines: &mut Vec<String>) {
    lines.push("[[command]]".into());
    lines.push(format!("name = {}", quoted(entry.name.as_str())));
    if entry.safety {
        lines.push("safety = true".into());
    }
    if let Some(property) = &entry.property {
        lines.push(format!("property = {}", quoted(property.as_str())));
    }
    for parameter in &entry.parameters {
        parameter_lines(parameter, lines);
    }
}

fn parameter_lines(parameter: &Parameter, lines: &mut Vec<String>) {
    lines.push("[[command.parameters]]".into());
    lines.push(format!("name = {}", quoted(parameter.name.as_str())));
    lines.push(format!("type = {}", quoted(parameter.kind.as_str())));
    if let Some(unit) = &parameter.unit {
        lines.push(format!("unit = {}", quoted(unit)));
    }
    if let Some((low, high)) = &parameter.range {
        lines.push(format!("range = [{}, {}]", bound(low), bound(high)));
    }
    if !parameter.values.is_empty() {
        let words: Vec<String> = parameter.values.iter().map(|word| quoted(word)).collect();
        lines.push(format!("values = [{}]", words.join(", ")));
    }
    if parameter.optional {
        lines.push("optional = true".into());
    }
    if let Some(below) = &parameter.below {
        lines.push(format!("below = {}", quoted(below.as_str())));
    }
}

fn bound(bound: &Bound) -> String {
    match bound {
        Bound::Whole(number) => number.to_string(),
        // With its point: what has one is read as a number that may have a fraction.
        Bound::Number(number) => format!("{number:?}"),
        Bound::Span(text) => quoted(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::BUILT_IN;

    /// A table of a device with everything that a table may say.
    const ALL: &str = r#"
        # Nothing of this line is told.
        [[command]]
        name = "set-limits"
        safety = true
        property = "limits"
        [[command.parameters]]
        name = "low"
        type = "decimal"
        unit = "/min"
        range = [-0.5, 1e16]
        optional = true
        below = "high"
        [[command.parameters]]
        name = "high"
        type = "decimal"
        unit = "/min"
        range = [5, 20.0]
        [[command.parameters]]
        name = "pace"
        type = "span"
        range = ["5s", "30s"]
        [[command.parameters]]
        name = "mode"
        type = "choice"
        values = ["day", "night"]
        [[command.parameters]]
        name = "loud"
        type = "flag"
        [[command.write]]
        parameter = "loud"
        address = 5
        words = 0
        [[command]]
        name = "silence"
    "#;

    #[test]
    fn a_table_is_read_from_its_text_as_it_was_without_its_writes() {
        let texts = BUILT_IN.iter().map(|(_, text)| *text);
        for text in texts.chain([ALL, ""]) {
            let mut table = Table::read(text).unwrap();
            let told = table.text();
            for entry in &mut table.0 {
                entry.write.clear();
            }
            assert_eq!(Table::read(&told).as_ref(), Ok(&table), "{told}");
            assert_eq!(Table::told(&told), table);
            assert_eq!(table.text(), told);
            assert!(!told.contains("this line"));
        }
    }

    #[test]
    fn of_a_text_that_cannot_be_read_or_is_too_long_no_command_is_taken() {
        let long = format!("{ALL}#{}", "x".repeat(MAX_TABLE_BYTES));
        assert!(Table::read(&long).is_ok());
        for text in ["[[command]]", "name = 1", long.as_str()] {
            assert_eq!(Table::told(text), Table::default(), "{:.20}", text);
        }
        assert!(Table::told(ALL).entry("silence").is_some());
    }

    #[test]
    fn a_table_whose_region_could_not_be_told_is_refused_where_it_is_configured() {
        let mut table = Table::read(ALL).unwrap();
        assert!(table.problems().is_empty());
        let words = (0..64).map(|number| format!("{number:0>60}")).collect();
        table.0[0].parameters[3].values = words;
        assert!(
            table.problems().is_empty(),
            "64 words of 60 letters are some 4 KiB"
        );
        for number in 0..4 {
            let mut entry = table.0[0].clone();
            entry.name = format!("set-{number}").parse().unwrap();
            entry.property = None;
            table.0.push(entry);
        }
        let problems = table.problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].1.contains("16384 bytes"), "{problems:?}");
    }
}
