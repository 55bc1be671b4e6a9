//! Records of comma-separated values (RFC 4180), with the line on which each begins.
use super::Fault;

/// Goes through a text record by record.
pub struct Records<'a> {
    rest: &'a str,
    /// The line of what comes next, from 1.
    pub line: u64,
}

impl<'a> Records<'a> {
    /// The records of a text; a byte order mark before it is passed over.
    pub fn of(text: &'a str) -> Self {
        Self {
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            line: 1,
        }
    }

    /// The next record that has anything, with its line; none at the end.
    ///
    /// # Errors
    /// A quote that does not end, or text after one that did: what follows cannot be told apart.
    pub fn next(&mut self) -> Result<Option<(u64, Vec<String>)>, Fault> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let line = self.line;
            let cells = self.record()?;
            if cells.len() > 1 || cells.first().is_some_and(|cell| !cell.is_empty()) {
                return Ok(Some((line, cells)));
            }
        }
    }

    fn record(&mut self) -> Result<Vec<String>, Fault> {
        let mut cells = Vec::new();
        loop {
            let cell = if self.rest.starts_with('"') {
                self.quoted()?
            } else {
                let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
                let (cell, rest) = self.rest.split_at(end);
                self.rest = rest;
                cell.trim().to_owned()
            };
            cells.push(cell);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            self.rest = self.rest.strip_prefix('\n').unwrap_or(self.rest);
            self.line += 1;
            return Ok(cells);
        }
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        let began = self.line;
        let mut cell = String::new();
        let mut rest = self.rest.strip_prefix('"').unwrap_or(self.rest);
        loop {
            let Some(end) = rest.find('"') else {
                return Err(Fault::of_line(
                    began,
                    "a quote begins here and does not end",
                ));
            };
            let (inside, after) = rest.split_at(end);
            cell.push_str(inside);
            self.line += inside.matches('\n').count() as u64;
            rest = after.strip_prefix('"').unwrap_or(after);
            if let Some(more) = rest.strip_prefix('"') {
                cell.push('"');
                rest = more;
                continue;
            }
            rest = rest.strip_prefix('\r').unwrap_or(rest);
            if !(rest.is_empty() || rest.starts_with([',', '\n'])) {
                return Err(Fault::of_line(self.line, "text follows a quote that ended"));
            }
            self.rest = rest;
            return Ok(cell.trim().to_owned());
        }
    }
}
