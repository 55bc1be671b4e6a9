//! A shifted clock for the tests: every test binary, and every process that it starts, runs under `faketime`.
//!
//! No test may know today's date. `--at '+400 days'` shows it, and continuous integration runs the end-to-end part at
//! a date that nobody chose. Cargo, the compilers and the engines keep the true clock, and so do monotonic clocks and
//! the times of files.
use crate::run::{host, on_path};
use anyhow::{Context, Result, bail};
use std::{
    process::Command,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

/// How many days ahead continuous integration goes at most: four years, so that each day of the calendar comes up,
/// a leap day among them.
const MOST_DAYS_AHEAD: u64 = 1_461;
const DAY_S: u64 = 86_400;

/// How far the tests' clock is ahead of the machine's, or behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    seconds: i64,
}

impl FromStr for Offset {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("{text:?} is not written like +400 days, -3 hours or +90 seconds");
        let (sign, rest) = match text.split_at_checked(1).with_context(wrong)? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => bail!(wrong()),
        };
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, unit) = rest.split_at(digits);
        let number: i64 = number.parse().with_context(wrong)?;
        let unit = match unit.trim().trim_end_matches('s') {
            "d" | "day" => 86_400,
            "h" | "hour" => 3_600,
            "m" | "min" | "minute" => 60,
            "" | "sec" | "second" => 1,
            "y" | "year" => 365 * 86_400,
            _ => bail!(wrong()),
        };
        let seconds = number.checked_mul(unit).with_context(wrong)?;
        Ok(Self {
            seconds: sign * seconds,
        })
    }
}

impl Offset {
    /// A date that nobody chose: another one each hour, at another time of day.
    #[expect(
        clippy::disallowed_methods,
        reason = "which date is drawn is all that the clock decides"
    )]
    pub fn drawn() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        // Knuth's multiplicative hash spreads neighbouring hours over the range.
        let drawn = (now / 3_600).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
        let seconds = DAY_S + drawn % (MOST_DAYS_AHEAD * DAY_S);
        Ok(Self {
            seconds: i64::try_from(seconds)?,
        })
    }

    /// Lets cargo run what it has built under this clock.
    pub fn shift(self, command: &mut Command) -> Result<()> {
        let faketime = on_path("faketime").context("faketime is not installed")?;
        let variable = host()?.to_uppercase().replace(['-', '.'], "_");
        command
            .env(
                format!("CARGO_TARGET_{variable}_RUNNER"),
                format!(
                    "{} -m --exclude-monotonic -f {:+}",
                    faketime.display(),
                    self.seconds
                ),
            )
            .env("NO_FAKE_STAT", "1");
        Ok(())
    }

    /// As it is given to `--at`.
    pub fn argument(self) -> String {
        format!("{:+} seconds", self.seconds)
    }
}

/// What is said before a stage that runs at another date.
pub fn announce(offset: Offset, stage: &str) {
    eprintln!(
        "the clock of the tests is shifted; the same again: cargo xtask test --only {stage} --at '{}'",
        offset.argument()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_sign_a_number_and_a_unit() {
        for (text, seconds) in [
            ("+400 days", 400 * 86_400),
            ("+1 day", 86_400),
            ("-3h", -10_800),
            ("+90", 90),
            ("+2 years", 730 * 86_400),
        ] {
            assert_eq!(text.parse::<Offset>().unwrap().seconds, seconds, "{text}");
        }
        for text in [
            "",
            "400 days",
            "+days",
            "+4 fortnights",
            "+99999999999999999 days",
            "é",
        ] {
            assert!(text.parse::<Offset>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_drawn_date_lies_in_the_next_four_years() {
        let offset = Offset::drawn().unwrap();
        assert!((86_400..=(1_462 * 86_400)).contains(&offset.seconds));
        assert_eq!(offset.argument().parse::<Offset>().unwrap(), offset);
    }
}
