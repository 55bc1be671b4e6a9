//! What was found, and how it is shown: a line for each thing, and below a fault what to do next. Pure.
use crate::out::wrapped;
use serde_json::{Value, json};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// A person should look.
    Warning,
    /// It keeps a node from its work, or what is promised from being kept.
    Bad,
}

impl Level {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "look",
            Self::Bad => "bad",
        }
    }

    /// The exit code of a command whose worst finding it is.
    pub const fn exit_code(self) -> u8 {
        self as u8
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: `clock`, `disk`, …
    pub check: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub says: String,
    /// What to do next; empty where there is nothing to do.
    pub advice: String,
}

impl Finding {
    /// As it should be.
    pub fn good(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Level::Good, says, "")
    }

    /// A person should look.
    pub fn warning(check: &'static str, says: impl Into<String>, advice: &str) -> Self {
        Self::new(check, Level::Warning, says, advice)
    }

    /// It keeps a node from its work.
    pub fn bad(check: &'static str, says: impl Into<String>, advice: &str) -> Self {
        Self::new(check, Level::Bad, says, advice)
    }

    /// A finding of a level.
    pub fn new(check: &'static str, level: Level, says: impl Into<String>, advice: &str) -> Self {
        Self {
            check,
            level,
            says: says.into(),
            advice: advice.to_owned(),
        }
    }
}

/// What was found of a node, or of the machine.
#[derive(Debug)]
pub struct Report {
    /// Of whom.
    pub subject: String,
    /// What.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst of it.
    pub fn level(&self) -> Level {
        let levels = self.findings.iter().map(|finding| finding.level);
        levels.max().unwrap_or(Level::Good)
    }

    /// For programs.
    pub fn json(&self) -> Vec<Value> {
        let one = |it: &Finding| {
            json!({
                "subject": self.subject, "check": it.check, "level": it.level.as_str(),
                "says": it.says, "advice": it.advice,
            })
        };
        self.findings.iter().map(one).collect()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.subject);
        for it in &self.findings {
            let head = format!("  {:<4}  {:<12} ", it.level.as_str(), it.check);
            text.push_str(&wrapped(&head, &it.says));
            if !it.advice.is_empty() {
                text.push_str(&wrapped(&format!("{:<21}→ ", ""), &it.advice));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::WIDTH;

    #[test]
    fn a_report_fits_a_terminal_and_breaks_no_word() {
        let path = "/a/".repeat(30);
        let says = format!("{path} {}", "is wide ".repeat(20));
        let report = Report {
            subject: "us-f1".into(),
            findings: vec![
                Finding::good("disk", "12 GiB free"),
                Finding::bad("permissions", says, "chmod 600 it"),
            ],
        };
        let text = report.text();
        let long = text.lines().filter(|line| line.chars().count() > WIDTH);
        assert!(long.clone().all(|line| line.contains(&path)), "{text}");
        assert!(
            text.contains("  ok    disk         12 GiB free\n"),
            "{text}"
        );
        assert!(text.contains("→ chmod 600 it\n"), "{text}");
        assert_eq!(report.level(), Level::Bad);
        assert_eq!(report.json()[1]["advice"], "chmod 600 it");
    }
}
