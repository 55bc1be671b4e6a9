//! Standard output of commands that print data. A reader that closes the pipe early (`| head`) is no failure.
use std::{
    fmt::Display,
    io::{self, Write},
};

/// Columns that a terminal shows without a break.
pub const WIDTH: usize = 80;

/// Prints a line.
pub fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Prints text that ends its own lines.
pub fn text(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}

/// Says on standard error that a list has nothing, if it has: whoever sees no line may think that it was not read. Not for
/// programs, to which no line is an answer.
pub fn none(is_empty: bool, what: &str) {
    if is_empty {
        eprintln!("{what}");
    }
}

/// A text behind a head, its further lines below its first. A word that is longer than a line, such as a path, is not
/// broken: a person copies it.
pub fn wrapped(head: &str, text: &str) -> String {
    let indent = head.chars().count();
    let (mut lines, mut line) = (String::new(), head.to_owned());
    let mut at = indent;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if at > indent && at + 1 + width > WIDTH {
            lines.push_str(line.trim_end());
            lines.push('\n');
            line = " ".repeat(indent);
            at = indent;
        }
        if at > indent {
            line.push(' ');
            at += 1;
        }
        line.push_str(word);
        at += width;
    }
    lines + &line + "\n"
}

/// Whether an error only says that nobody reads any longer.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Characters that a terminal shows nothing of and orders others by (Unicode Bidirectional Algorithm, UAX #9), and separators of
/// lines and paragraphs.
const HIDDEN: [std::ops::RangeInclusive<char>; 4] = [
    '\u{200e}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2066}'..='\u{2069}',
    '\u{61c}'..='\u{61c}',
];

/// A text without control characters but line ends: names of files and what is in them are shown, never obeyed.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let is_hidden = HIDDEN.iter().any(|range| range.contains(&c));
        if is_hidden || c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_told_from_a_failure() {
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_closed_pipe(&closed.into()));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(!is_closed_pipe(&full.into()));
        assert!(!is_closed_pipe(&anyhow::anyhow!("broken pipe")));
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(
            printable("a\u{1b}[2Jb\r\u{9b}c\n"),
            "a\\u{1b}[2Jb\\r\\u{9b}c\n"
        );
        assert_eq!(
            printable("approved\u{202e}desufer\u{2066}é\u{61c}"),
            "approved\\u{202e}desufer\\u{2066}é\\u{61c}"
        );
    }
}
