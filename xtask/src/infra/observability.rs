//! What is checked of `infra/observability`: the rules by `promtool`, and what they do with a mesh in trouble.
use super::Tally;
use crate::{place::Places, run::on_path};
use anyhow::{Context, Result};
use std::process::Command;

/// Where the rules lie in the clone.
const SOURCE: &str = "infra/observability";
/// What is asked of promtool.
const CHECKS: [(&str, &[&str]); 3] = [
    ("rules", &["check", "rules", "rules.yaml"]),
    ("rules at work", &["test", "rules", "rules.test.yaml"]),
    (
        "scraping",
        &["check", "config", "--syntax-only", "prometheus.yaml"],
    ),
];

/// Runs every check; without promtool they are ignored.
pub(super) fn check(places: &Places, tally: &mut Tally) -> Result<()> {
    let Some(promtool) = on_path("promtool") else {
        eprintln!(
            "infra: promtool is not on the PATH (Debian: prometheus): the rules are not checked"
        );
        tally.counts.ignored += CHECKS.len() as u64;
        return Ok(());
    };
    for (what, arguments) in CHECKS {
        let said = Command::new(&promtool)
            .args(arguments)
            .current_dir(places.root.join(SOURCE))
            .output()
            .context("start promtool")?;
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        tally.say(
            &format!("observability: {what}"),
            said.status.success(),
            &text,
        );
    }
    Ok(())
}
