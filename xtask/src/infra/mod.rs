//! What is checked of `infra/terraform`: its format, every module and root by `validate`, their own tests, that each
//! guard of residency is one that a test misses when it is taken out, what the plans of regions would make, that a malformed
//! file of the mesh is refused by name, and that variables of one name agree. Nothing is applied to a cloud. And of
//! `infra/observability`: the rules for Prometheus; of `infra/packaging`: a package; of `infra/systemd`: what the unit leaves
//! open.
//!
//! Everything happens in a copy below the build folder, so that the clone stays clean.
pub mod checkov;
mod guards;
mod malformed;
mod observability;
mod plans;
mod policy;
pub mod rollout;
mod terraform;
mod variables;

use crate::{package, place::Places, run::Counts};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};
use terraform::Terraform;

/// Where the configuration lies in the clone.
const SOURCE: &str = "infra/terraform";
/// Folders of a module or root that are not part of it.
const NOT_COPIED: [&str; 4] = [".terraform", ".mesh", ".programs", "terraform.tfstate"];

/// Runs every check; whether all of them passed, and how many there were. Without terraform the stage is ignored.
pub fn check(places: &Places) -> Result<(bool, Counts)> {
    let mut tally = Tally::default();
    observability::check(places, &mut tally)?;
    let differences = variables::differences(&places.root.join(SOURCE))?;
    let text = differences.join("\n");
    tally.say("variables of one name", differences.is_empty(), &text);
    for (what, found) in package::check(places) {
        match found {
            Some(Ok(())) => tally.say(what, true, ""),
            Some(Err(error)) => tally.say(what, false, &format!("{error:#}")),
            None => {
                eprintln!(
                    "infra: {what}: ignored, as the machine has no dpkg-deb or systemd-analyze"
                );
                tally.counts.ignored += 1;
            }
        }
    }
    let Some(terraform) = Terraform::find(&places.target)? else {
        eprintln!(
            "infra: terraform is not on the PATH and no package registry has it: install version 1.11 or newer by hand"
        );
        tally.counts.ignored += 1;
        return Ok((tally.counts.failed == 0, tally.counts));
    };
    let copy = places.target.join("infra");
    fresh_copy(&places.root.join(SOURCE), &copy)?;
    // A place of the mesh in a cloud has its rules, by a path that leads out of the folder.
    let rules = places.target.join("observability");
    fresh_copy(&places.root.join("infra/observability"), &rules)?;
    tally.note(
        "fmt",
        terraform.run(&copy, &["fmt", "-check", "-diff", "-recursive"])?,
    );
    for dir in roots(&copy)? {
        let name = dir
            .strip_prefix(&copy)
            .unwrap_or(&dir)
            .display()
            .to_string();
        // A plan validates first.
        if plans::has(&name) {
            continue;
        }
        let ready = terraform.init(&dir)?;
        if !ready.ok {
            tally.note(&name, ready);
            continue;
        }
        // A test validates first.
        if dir.join("tests").is_dir() {
            tally.tests(&name, terraform.run(&dir, &["test", "-no-color"])?);
        } else {
            tally.note(&name, terraform.run(&dir, &["validate", "-no-color"])?);
        }
    }
    guards::check(&terraform, &copy, &mut tally)?;
    malformed::check(&terraform, &copy, &mut tally)?;
    plans::check(&terraform, &copy, &mut tally)?;
    Ok((tally.counts.failed == 0, tally.counts))
}

/// What has passed and failed so far.
#[derive(Default)]
struct Tally {
    counts: Counts,
}

impl Tally {
    /// One check, whose output is shown when it failed.
    fn note(&mut self, what: &str, said: terraform::Said) {
        self.say(what, said.ok, &said.text);
    }

    fn say(&mut self, what: &str, ok: bool, text: &str) {
        println!("infra: {what}: {}", if ok { "ok" } else { "FAILED" });
        if ok {
            self.counts.passed += 1;
        } else {
            println!("{text}");
            self.counts.failed += 1;
        }
    }

    /// The tests of a module, counted one by one.
    fn tests(&mut self, what: &str, said: terraform::Said) {
        let (passed, failed) = terraform::counted(&said.text);
        println!("infra: {what}: {passed} passed, {failed} failed");
        self.counts.passed += passed;
        self.counts.failed += failed.max(u64::from(!said.ok || passed == 0));
        if !said.ok {
            println!("{}", said.text);
        }
    }
}

/// Every folder with a configuration of its own: modules, their examples, stacks and environments.
fn roots(copy: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![copy.to_path_buf()];
    while let Some(dir) = open.pop() {
        let mut inside = entries(&dir)?;
        inside.retain(|path| !named(path, &NOT_COPIED) && !named(path, &["tests"]));
        if inside
            .iter()
            .any(|path| path.extension().is_some_and(|end| end == "tf"))
        {
            found.push(dir);
        }
        open.extend(inside.into_iter().filter(|path| path.is_dir()));
    }
    found.sort();
    Ok(found)
}

fn named(path: &Path, names: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default();
    names.iter().any(|one| name == *one)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths: Vec<_> = read.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// A copy without what terraform left in the clone; what is in `to` goes.
fn fresh_copy(from: &Path, to: &Path) -> Result<()> {
    fs::remove_dir_all(to).ok();
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for path in entries(from)? {
        let name = path.file_name().unwrap_or_default();
        if named(&path, &NOT_COPIED) {
            continue;
        }
        if path.is_dir() {
            fresh_copy(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
