//! `cargo xtask checkov`: what other people's rules for Terraform find in `infra/terraform`.
//!
//! It is no stage of the suite: it takes half a minute and an installation of its own. What it is not to ask is listed with
//! the reasons in `infra/terraform/checkov.yaml`. Whatever else it finds fails, and so do a line of that list which nothing
//! needs any longer, and a file that it cannot read: what was not looked at has not passed.
use super::SOURCE;
use crate::{place::Places, run::step};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The rules are those of a version.
const REQUIREMENT: &str = "checkov==3.3.30";
/// The list of what is not asked, below [`SOURCE`].
const LIST: &str = "checkov.yaml";

/// Runs it; whether it found nothing that is not listed.
pub fn check() -> Result<bool> {
    let places = Places::find()?;
    let program = installed(&places.cache.join("checkov"))?;
    let source = places.root.join(SOURCE);
    let list = fs::read_to_string(source.join(LIST)).context(LIST)?;
    let said = Command::new(program)
        .args(["--framework", "terraform", "--skip-download"])
        .args(["--output", "json", "--directory"])
        .arg(&source)
        .output()
        .context("checkov")?;
    let told: Value = serde_json::from_slice(&said.stdout)
        .with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())?;
    let passed = told["summary"]["passed"].as_u64().unwrap_or_default();
    ensure!(passed > 0, "checkov looked at nothing");
    let failed = failed(&told);
    let mut wrong = compared(&skipped(&list), &failed);
    wrong.extend(unread(&told));
    for line in &wrong {
        println!("checkov: {line}");
    }
    let listed = failed.values().map(BTreeSet::len).sum::<usize>();
    println!(
        "checkov: {passed} passed, {} failed, {listed} findings in all with those of the list",
        wrong.len()
    );
    Ok(wrong.is_empty())
}

/// Checks that failed, by their names, with where.
type Failed = BTreeMap<String, BTreeSet<String>>;

fn failed(told: &Value) -> Failed {
    let mut found = Failed::new();
    let all = told["results"]["failed_checks"].as_array();
    for one in all.into_iter().flatten() {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let place = format!("{} ({})", text("resource"), text("check_name"));
        found.entry(text("check_id")).or_default().insert(place);
    }
    found
}

/// The files that it could not read.
fn unread(told: &Value) -> Vec<String> {
    let files = told["results"]["parsing_errors"].as_array();
    let files = files.into_iter().flatten().filter_map(Value::as_str);
    files
        .map(|file| format!("{file}: checkov cannot read it"))
        .collect()
}

/// What the list names.
fn skipped(list: &str) -> BTreeSet<String> {
    let lines = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "));
    let names = lines.filter(|name| name.starts_with("CKV"));
    names.map(str::to_owned).collect()
}

/// What is found and not listed, and what is listed and not found.
fn compared(list: &BTreeSet<String>, failed: &Failed) -> Vec<String> {
    let unlisted = failed.iter().filter(|(name, _)| !list.contains(*name));
    let unlisted = unlisted
        .flat_map(|(name, places)| places.iter().map(move |place| format!("{name}: {place}")));
    let needless = list.iter().filter(|name| !failed.contains_key(*name));
    let needless = needless.map(|name| format!("{name}: nothing needs this line of {LIST}"));
    unlisted.chain(needless).collect()
}

/// An environment of its own in the cache: it shares no version with the clients of the tests.
fn installed(cache: &Path) -> Result<PathBuf> {
    let program = cache.join("bin/checkov");
    let stamp = cache.join("requirements");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == REQUIREMENT) && program.exists() {
        return Ok(program);
    }
    fs::remove_dir_all(cache).ok();
    step(Command::new("python3").args(["-m", "venv"]).arg(cache))?;
    step(
        Command::new(cache.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--retries", "5"])
            .arg(REQUIREMENT),
    )?;
    fs::write(&stamp, REQUIREMENT).context("write the stamp")?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_listed_and_what_is_listed_for_nothing_are_both_told() {
        let list = "# reasons\nframework:\n  - terraform\nskip-check:\n  # why\n  - CKV_AWS_1\n  - CKV2_AWS_2\n";
        let list = skipped(list);
        let finding = |id: &str| json!({"check_id": id, "check_name": "n", "resource": "r"});
        let of = |ids: &[&str]| {
            let all: Vec<_> = ids.iter().map(|id| finding(id)).collect();
            failed(&json!({"results": {"failed_checks": all}}))
        };
        let wrong = compared(&list, &of(&["CKV_AWS_1", "CKV2_AWS_2"]));
        assert_eq!(wrong, Vec::<String>::new());
        let wrong = compared(&list, &of(&["CKV_AWS_1", "CKV_AWS_3"]));
        let expected = [
            "CKV_AWS_3: r (n)",
            "CKV2_AWS_2: nothing needs this line of checkov.yaml",
        ];
        assert_eq!(wrong, expected);
    }

    #[test]
    fn a_file_that_could_not_be_read_has_not_passed() {
        let of = |files: &[&str]| unread(&json!({"results": {"parsing_errors": files}}));
        assert_eq!(of(&[]), Vec::<String>::new());
        assert_eq!(
            of(&["/a.tf", "/b.tf"]),
            [
                "/a.tf: checkov cannot read it",
                "/b.tf: checkov cannot read it"
            ]
        );
    }
}
