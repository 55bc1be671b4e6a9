//! `medmesh doctor`: looks at everything that a node rests on, and says of each fault what to do next. It changes nothing.
//!
//! What is judged is a pure function of what was seen; each file holds the looks at one kind of thing and their judgement.
mod certificates;
mod engines;
mod finding;
mod machine;
mod network;

use super::nodes::{self, Node};
use crate::{cli::doctor::DoctorArgs, failure::Failure, out};
use anyhow::Result;
use finding::{Finding, Level, Report};
use node::clock::Clock;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs the command.
pub async fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let files = match (&args.dir, &args.config) {
        (Some(dir), _) => nodes::of_mesh(dir)?,
        (None, Some(file)) => vec![file.clone()],
        (None, None) => Vec::new(),
    };
    let mut reports = vec![machine::clock()];
    for file in &files {
        reports.push(examine(file).await);
    }
    let worst = reports.iter().map(Report::level).max();
    let worst = worst.unwrap_or(Level::Bad);
    if args.json {
        let findings: Vec<_> = reports.iter().flat_map(Report::json).collect();
        out::line(json!({"level": worst.as_str(), "findings": findings}))?;
    } else {
        let texts: Vec<_> = reports.iter().map(Report::text).collect();
        out::text(&out::printable(&texts.join("\n")))?;
    }
    match worst.exit_code() {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
}

/// Everything that a node rests on.
async fn examine(file: &Path) -> Report {
    let node = match Node::of(file) {
        Ok(node) => node,
        Err(failure) => return unreadable(file, failure),
    };
    let now = Clock::new(None).real();
    let mut findings = vec![Finding::good("config", "is as a node can use it")];
    findings.extend(machine::disk(&node.data_dir));
    findings.extend(machine::permissions(&node.data_dir));
    findings.extend(machine::belongs(&node));
    findings.extend(certificates::examine(&node, now));
    findings.extend(engines::examine(&node).await);
    findings.extend(network::ports(&node).await);
    findings.extend(network::above(&node).await);
    Report {
        subject: format!("{} ({})", node.name(), file.display()),
        findings,
    }
}

/// A configuration that no node can use: nothing else of it can be looked at.
fn unreadable(file: &Path, failure: Failure) -> Report {
    let advice = format!("mend it, then: medmesh check-config {}", file.display());
    let bad = |says: String| Finding::bad("config", says, &advice);
    let findings = match failure {
        Failure::Config(error) => {
            let problems = error.problems.iter();
            problems.map(|problem| bad(problem.to_string())).collect()
        }
        Failure::Failed(error) => vec![bad(format!("{error:#}"))],
        Failure::Said(_) => Vec::new(),
    };
    Report {
        subject: PathBuf::from(file).display().to_string(),
        findings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_fault_of_a_configuration_is_a_finding_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("global.toml");
        for (text, at_least) in [(None, 1), (Some("data_dir = 7\nhttps = 'x'\n"), 3)] {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let report = examine(&file).await;
            assert_eq!(report.level(), Level::Bad);
            assert!(report.findings.len() >= at_least, "{report:?}");
            let advised = |it: &Finding| it.check == "config" && it.advice.contains("check-config");
            assert!(report.findings.iter().all(advised), "{report:?}");
        }
    }
}
