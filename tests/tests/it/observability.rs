//! What is written about metrics is true: the list names every metric of the code and no other, and dashboards and rules
//! name only what is in the list. So is what is written about alerts: each has its page, and each page an alert. Whether Prometheus understands the rules is asked of `promtool` where it is installed.
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What the crates that ship anything are called.
const CRATES: [&str; 16] = [
    "src",
    "commands/src",
    "device-fw/src",
    "edge/src",
    "edge/broker/src",
    "edge/ingest/src",
    "edge/modbus/src",
    "edge/store/src",
    "federation/src",
    "fhir/src",
    "fl/src",
    "global/src",
    "messages/src",
    "node/src",
    "regional/src",
    "storage/src",
];
/// Behind the names of a histogram's series.
const SERIES: [&str; 3] = ["_bucket", "_count", "_sum"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file below a folder whose name ends so.
fn below(dir: &Path, end: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            below(&path, end, found)?;
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    Ok(())
}

/// The words of a text that are names of metrics.
fn metrics(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c: char| !word(c));
    words
        .filter(|word| word.starts_with("medmesh_") || word.starts_with("process_"))
        .filter(|word| !word.ends_with('_'))
        .map(str::to_owned)
        .collect()
}

/// The metrics that the code gives: names in quotes before the tests of each file.
fn in_code() -> Result<BTreeSet<String>> {
    let mut files = Vec::new();
    for part in CRATES {
        below(&root().join(part), ".rs", &mut files)?;
    }
    let mut found = BTreeSet::new();
    for file in files
        .iter()
        .filter(|file| !file.to_string_lossy().ends_with("tests.rs"))
    {
        let text = fs::read_to_string(file)?;
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        for quoted in shipped.split('"') {
            let name = SERIES.iter().fold(quoted, |name, end| match *end {
                "_count" => name,
                end => name.strip_suffix(end).unwrap_or(name),
            });
            if metrics(name).contains(name) {
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found)
}

/// The metrics that the list documents: the first column of its tables.
fn in_list() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(root().join("docs/metrics.md"))?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    Ok(rows
        .filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect())
}

#[test]
fn the_list_of_metrics_names_every_metric_of_the_code_and_no_other() -> Result<()> {
    let (code, list) = (in_code()?, in_list()?);
    ensure!(
        code.len() > 50,
        "only {} metrics were found in the code",
        code.len()
    );
    let missing: Vec<_> = code.difference(&list).collect();
    ensure!(missing.is_empty(), "docs/metrics.md lacks {missing:?}");
    let gone: Vec<_> = list.difference(&code).collect();
    ensure!(
        gone.is_empty(),
        "docs/metrics.md names {gone:?}, which no code gives"
    );
    Ok(())
}

/// The expressions of a dashboard, and of all that is in it.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| expressions(value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn every_metric_that_a_rule_or_a_dashboard_names_exists_and_every_alert_says_what_to_do()
-> Result<()> {
    let list = in_list()?;
    let known = |name: &str| {
        list.contains(name)
            || SERIES
                .iter()
                .any(|end| name.strip_suffix(end).is_some_and(|it| list.contains(it)))
    };
    let dir = root().join("infra/observability");
    let mut texts = vec![(
        "rules.yaml".to_owned(),
        fs::read_to_string(dir.join("rules.yaml"))?,
    )];
    let mut boards = Vec::new();
    below(&dir.join("dashboards"), ".json", &mut boards)?;
    ensure!(boards.len() >= 3, "{boards:?}");
    for board in boards {
        let json: Value = serde_json::from_slice(&fs::read(&board)?).context("a dashboard")?;
        let mut found = Vec::new();
        expressions(&json, &mut found);
        ensure!(!found.is_empty(), "{} asks nothing", board.display());
        texts.push((board.display().to_string(), found.join("\n")));
    }
    for (file, text) in &texts {
        for name in metrics(text) {
            ensure!(known(&name), "{file} names {name}, which is in no list");
        }
    }
    let rules = &texts[0].1;
    let count = |what: &str| rules.matches(what).count();
    ensure!(count("- alert:") > 15, "{} alerts", count("- alert:"));
    for (what, each) in [("severity: P", 1), ("summary:", 1), ("action:", 1)] {
        ensure!(
            count(what) == each * count("- alert:"),
            "not every alert has {what}"
        );
    }
    for class in ["severity: P1", "severity: P2", "severity: P3"] {
        ensure!(count(class) > 2, "few alerts of {class}");
    }
    Ok(())
}

/// The names behind some words, one a line.
fn names_behind<'a>(text: &'a str, words: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().filter_map(move |line| {
        let (before, name) = line.split_once(words)?;
        before.trim().is_empty().then_some(name.trim())
    });
    lines.filter(|name| !name.is_empty())
}

#[test]
fn every_alert_says_when_it_fires_and_why_then_and_what_to_do_and_every_page_is_of_one()
-> Result<()> {
    let rules = fs::read_to_string(root().join("infra/observability/rules.yaml"))?;
    let guide = fs::read_to_string(root().join("docs/alerts.md"))?;
    let alerts: Vec<_> = names_behind(&rules, "- alert: ").collect();
    let pages: Vec<_> = names_behind(&guide, "### ").collect();
    ensure!(alerts == pages, "alerts {alerts:?}, pages {pages:?}");
    for (alert, page) in alerts.iter().zip(guide.split("\n### ").skip(1)) {
        for part in ["\n- When: ", "\n- Why so: ", "\n- Do: "] {
            ensure!(page.contains(part), "docs/alerts.md, {alert}: no {part:?}");
        }
    }
    let runbooks: Vec<_> = names_behind(&rules, "runbook: docs/alerts.md#").collect();
    let expected: Vec<_> = alerts.iter().map(|it| it.to_ascii_lowercase()).collect();
    ensure!(runbooks == expected, "{runbooks:?}, not {expected:?}");
    Ok(())
}

/// The recorded series that a text names.
fn recorded(text: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(move |c: char| !word(c));
    words.filter(|it| it.starts_with("medmesh:slo_")).collect()
}

#[test]
fn every_service_level_is_recorded_and_written_down_and_no_other_is_named() -> Result<()> {
    let rules = fs::read_to_string(root().join("infra/observability/rules.yaml"))?;
    let made: BTreeSet<_> = names_behind(&rules, "- record: ").collect();
    ensure!(made.len() >= 4, "{made:?}");
    let list = fs::read_to_string(root().join("docs/metrics.md"))?;
    ensure!(recorded(&list) == made, "docs/metrics.md names others");
    let mut files = vec![root().join("infra/observability/rules.yaml")];
    below(
        &root().join("infra/observability/dashboards"),
        ".json",
        &mut files,
    )?;
    for file in files {
        let text = fs::read_to_string(&file)?;
        let unknown: Vec<_> = recorded(&text).difference(&made).copied().collect();
        ensure!(unknown.is_empty(), "{}: {unknown:?}", file.display());
    }
    Ok(())
}
