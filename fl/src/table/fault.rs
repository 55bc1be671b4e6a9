//! What is wrong in a file.
use std::fmt;

/// One thing wrong in a file. It repeats nothing that the file says of anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: u64,
    /// The column, by its name.
    pub column: Option<String>,
    /// What is wrong.
    pub what: String,
}

impl Fault {
    pub(super) fn of_line(line: u64, what: impl Into<String>) -> Self {
        Self {
            line,
            column: None,
            what: what.into(),
        }
    }

    pub(super) fn of_column(line: u64, column: &str, what: impl Into<String>) -> Self {
        Self {
            column: Some(column.into()),
            ..Self::of_line(line, what)
        }
    }
}

/// `12: column "chol": is not a number`, so that a file's name and a colon may stand before it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "{}: column \"{column}\": {}", self.line, self.what),
            None => write!(f, "{}: {}", self.line, self.what),
        }
    }
}
