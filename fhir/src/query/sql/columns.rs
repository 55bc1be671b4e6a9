//! A column of a row beside the text that is wanted there.
use super::condition::Compiler;

/// The last character: what begins with a text is not above the text with two of them.
const LAST: &str = "\u{10ffff}\u{10ffff}";

impl Compiler<'_, '_> {
    /// `row.column = value`.
    pub(super) fn is(&mut self, row: &str, column: &str, value: &str) {
        self.push(&format!("{row}.{column} = "));
        self.sql.bind_text(value);
    }

    /// The same of a column that finds much beside one that finds little, such as the system of a code: as an
    /// expression, so that no engine goes by an index of it, which one without statistics may think as good.
    pub(super) fn beside(&mut self, row: &str, column: &str, value: &str) {
        self.push(&format!("{row}.{column} || '' = "));
        self.sql.bind_text(value);
    }

    pub(super) fn starts(&mut self, row: &str, column: &str, text: &str) {
        self.push(&format!("{row}.{column} >= "));
        self.sql.bind_text(text);
        self.push(&format!(" AND {row}.{column} <= "));
        self.sql.bind_text(&format!("{text}{LAST}"));
    }
}
