//! The rows of a stay: `hh:mm,parameter,value`, each readable or with the reason why it is not.
use types::Decimal;

/// One readable row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// Minute of the stay.
    pub(super) minute: i64,
    pub(super) parameter: &'a str,
    pub(super) value: &'a str,
}

/// The rows after the header, with the numbers of their lines. Empty lines are none.
pub(super) fn rows(text: &str) -> impl Iterator<Item = (usize, Result<Row<'_>, &'static str>)> {
    let lines = (1..).zip(text.lines()).skip(1);
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| (number, row(line)))
}

fn row(line: &str) -> Result<Row<'_>, &'static str> {
    let mut fields = line.trim_end_matches('\r').split(',');
    match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some(time), Some(parameter), Some(value), None) => Ok(Row {
            minute: minute(time).ok_or("the time is not hh:mm")?,
            parameter,
            value,
        }),
        (.., None) => Err("fewer than three fields"),
        _ => Err("more than three fields"),
    }
}

/// The minute of a time `hh:mm`; hours may be more than 99.
fn minute(time: &str) -> Option<i64> {
    let (hours, minutes) = time.split_once(':')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if hours.len() < 2 || minutes.len() != 2 || !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60 && hours < MOST_HOURS).then(|| hours * 60 + minutes)
}

/// A stay is shorter than a century: its times are instants that can be stored.
const MOST_HOURS: i64 = 100 * 366 * 24;

/// The decimal of a value, and whether it is written as FHIR writes it. `+4.2`, `.5`, `5.`, `007` and spaces around
/// are other ways to write a number; what has no digit is none.
pub(super) fn decimal(text: &str) -> Result<(Decimal, bool), &'static str> {
    if let Ok(decimal) = text.parse() {
        return Ok((decimal, true));
    }
    let text = text.trim_matches(' ');
    if text.is_empty() {
        return Err("no value");
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return Err("not a number");
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let point = if fraction.is_empty() { "" } else { "." };
    let plain = format!("{sign}{whole}{point}{fraction}{exponent}");
    match plain.parse() {
        Ok(decimal) => Ok((decimal, false)),
        Err(_) if exponent.len() == 1 => Err("not a number"),
        Err(_) => Err("a number with too many digits or too large an exponent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_or_has_a_reason() {
        let good = |minute, parameter, value| {
            Ok(Row {
                minute,
                parameter,
                value,
            })
        };
        for (line, expected) in [
            ("00:07,HR,73", good(7, "HR", "73")),
            ("123:59,HR,73", good(123 * 60 + 59, "HR", "73")),
            ("00:07,K,", good(7, "K", "")),
            ("00:07,HR,73\r", good(7, "HR", "73")),
            ("00:01,HR", Err("fewer than three fields")),
            ("00:06,HR,73,x", Err("more than three fields")),
            ("00:08,K,4,1", Err("more than three fields")),
            ("7:5,HR,70", Err("the time is not hh:mm")),
            ("-1:30,HR,71", Err("the time is not hh:mm")),
            ("-0:05,HR,71", Err("the time is not hh:mm")),
            ("00:-5,HR,71", Err("the time is not hh:mm")),
            ("00:99,HR,72", Err("the time is not hh:mm")),
            ("xx,HR,1", Err("the time is not hh:mm")),
            ("99999999999999999999:00,HR,1", Err("the time is not hh:mm")),
            ("9223372036854775807:07,HR,1", Err("the time is not hh:mm")),
        ] {
            assert_eq!(row(line), expected, "{line}");
        }
    }

    #[test]
    fn a_value_is_the_number_that_is_written_or_has_a_reason() {
        for (text, expected) in [
            ("4.10", Ok(("4.10", true))),
            ("1E2", Ok(("1E2", true))),
            ("-0", Ok(("-0", true))),
            ("+4.2", Ok(("4.2", false))),
            (".5", Ok(("0.5", false))),
            ("-.5", Ok(("-0.5", false))),
            ("5.", Ok(("5", false))),
            ("007.50", Ok(("7.50", false))),
            ("00", Ok(("0", false))),
            (" 4.3", Ok(("4.3", false))),
            ("", Err("no value")),
            ("  ", Err("no value")),
            (".", Err("not a number")),
            ("-", Err("not a number")),
            ("+", Err("not a number")),
            ("--5", Err("not a number")),
            ("e5", Err("not a number")),
            ("high", Err("not a number")),
            ("NaN", Err("not a number")),
            ("4,1", Err("not a number")),
            ("0x10", Err("not a number")),
        ] {
            let seen = decimal(text).map(|(decimal, exact)| (decimal.to_string(), exact));
            let expected = expected.map(|(text, exact): (&str, bool)| (text.to_owned(), exact));
            assert_eq!(seen, expected, "{text:?}");
        }
        for text in ["1e999", "4.1000000000000000000000000000000000"] {
            assert!(decimal(text).is_err(), "{text}");
        }
    }
}
