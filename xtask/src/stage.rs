//! The stages of `cargo xtask test`: each is timed, shows its output, and hides none of the later ones.
use crate::{
    clock::{self, Offset},
    engines::Engines,
    fhir, infra,
    place::{Places, in_ci},
    run::{Counts, cargo, shown},
};
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// One stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Stage {
    /// Installs and starts what the suites need.
    Engines,
    /// Formatting.
    Fmt,
    /// Lints, warnings refused.
    Clippy,
    /// The Terraform modules: format, validation, their tests, and their guards taken out one by one.
    Infra,
    /// The tables of FHIR R4, made anew of the definitions: no difference.
    Fhir,
    /// The firmware core in a program that has no standard library.
    Bare,
    /// The binary without the residency guard, in which the canary scan must find what it looks for.
    Unguarded,
    /// The binary and all tests.
    Build,
    /// Unit tests.
    Unit,
    /// The pages of the documentation without a warning, and doc tests.
    Doc,
    /// One suite of promises against every engine.
    Contract,
    /// Process tests over the real binary.
    E2e,
}

/// The program without a standard library.
const BARE: &str = "device-fw/bare/Cargo.toml";

/// What became of a stage.
struct Outcome {
    stage: Stage,
    took: Duration,
    counts: Counts,
    ok: bool,
}

/// Runs the stages; whether nothing failed. The last line printed is `N passed, N failed, N ignored`.
pub fn test(only: &[Stage], keep: bool, at: Option<Offset>) -> Result<bool> {
    let places = Places::find()?;
    if places.data.is_none() {
        eprintln!("no reference data (MEDMESH_DATA): the tests that replay it are ignored");
    }
    let asked = |stage: Stage| only.is_empty() || only.contains(&stage);
    let needs_engines = [Stage::Engines, Stage::Contract, Stage::E2e]
        .into_iter()
        .any(asked)
        // The clock is shifted by a package that is installed with the engines.
        || at.is_some();
    let mut run = Run {
        engines: None,
        at,
        places,
        outcomes: Vec::new(),
    };
    for stage in Stage::value_variants() {
        let wanted = asked(*stage) || (*stage == Stage::Engines && needs_engines);
        let hidden = matches!(
            stage,
            Stage::Unit | Stage::Doc | Stage::Contract | Stage::E2e
        ) && run.failed(Stage::Build);
        if wanted && !hidden {
            run.stage(*stage)?;
        }
    }
    run.settle();
    if keep && let Some(engines) = &mut run.engines {
        engines.hold()?;
    }
    drop(run.engines.take());
    Ok(run.summary())
}

struct Run {
    places: Places,
    engines: Option<Engines>,
    at: Option<Offset>,
    outcomes: Vec<Outcome>,
}

impl Run {
    fn stage(&mut self, stage: Stage) -> Result<()> {
        eprintln!("\n── {} ──", name(stage));
        let start = Instant::now();
        if stage == Stage::Bare {
            // It is not of the workspace, and takes the same versions all the same.
            let lock = self.places.root.join("Cargo.lock");
            fs::copy(
                lock,
                self.places.root.join(BARE).with_file_name("Cargo.lock"),
            )?;
        }
        let (ok, counts) = match stage {
            Stage::Engines => {
                // What cannot be installed stops the run here, with the line to copy.
                self.engines = Some(Engines::start(&self.places)?);
                (true, Counts::default())
            }
            Stage::Contract | Stage::E2e => self.with_engines(stage)?,
            Stage::Infra => infra::check(&self.places)?,
            Stage::Fhir => fhir::stage(&self.places)?,
            Stage::Doc => self.documented()?,
            _ => shown(&mut self.timed(stage)?)?,
        };
        if stage == Stage::Unguarded && ok {
            fs::copy(self.binary(), self.unguarded()).context("keep the unguarded binary")?;
        }
        let (ok, counts) = judged(stage, ok, counts);
        let took = start.elapsed();
        self.outcomes.push(Outcome {
            stage,
            took,
            counts,
            ok,
        });
        Ok(())
    }

    /// The pages of the documentation, of which no link may lead nowhere, and the tests in them.
    fn documented(&self) -> Result<(bool, Counts)> {
        let mut pages = cargo(
            &self.places,
            &["doc", "--workspace", "--no-deps", "--quiet"],
        );
        pages
            .env(
                "RUSTDOCFLAGS",
                "--deny warnings --allow rustdoc::private_intra_doc_links",
            )
            .env_remove("MEDMESH_UNGUARDED");
        let (made, _) = shown(&mut pages)?;
        let (passed, counts) = shown(&mut self.timed(Stage::Doc)?)?;
        Ok((made && passed, counts))
    }

    /// Waits for the engines, which came up beside the build; a suite without them has failed.
    fn with_engines(&mut self, stage: Stage) -> Result<(bool, Counts)> {
        let mut command = self.timed(stage)?;
        if let Some(engines) = &mut self.engines {
            match engines.ready() {
                Ok(variables) => command.envs(variables.iter().map(|(name, value)| (name, value))),
                Err(error) => {
                    eprintln!("engines: {error:#}");
                    return Ok((false, Counts::default()));
                }
            };
        }
        shown(&mut command)
    }

    /// Waits for the engines where no suite did; one that did not come up fails its stage.
    fn settle(&mut self) {
        let Some(Err(error)) = self.engines.as_mut().map(Engines::ready) else {
            return;
        };
        eprintln!("engines: {error:#}");
        for outcome in &mut self.outcomes {
            if outcome.stage == Stage::Engines {
                outcome.ok = false;
                outcome.counts = Counts {
                    failed: 1,
                    ..Counts::default()
                };
            }
        }
    }

    /// The command of a stage, under the clock that its tests are to have: the one asked for; in continuous integration
    /// one that nobody chose for the end-to-end tests; else the machine's.
    fn timed(&self, stage: Stage) -> Result<Command> {
        let mut command = self.command(stage);
        let offset = match (self.at, stage) {
            (Some(at), Stage::Unit | Stage::Contract | Stage::E2e) => Some(at),
            (None, Stage::E2e) if in_ci() => Some(Offset::drawn()?),
            _ => None,
        };
        if let Some(offset) = offset {
            clock::announce(offset, &name(stage));
            offset.shift(&mut command)?;
        }
        Ok(command)
    }

    /// Every selection is `--workspace`, and the build covers all targets: features resolve alike each time, so
    /// nothing is compiled twice.
    fn command(&self, stage: Stage) -> Command {
        let arguments: &[&str] = match stage {
            // These are no commands of cargo.
            Stage::Engines | Stage::Infra | Stage::Fhir => &["--version"],
            Stage::Fmt => &["fmt", "--all", "--check"],
            Stage::Clippy => &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ],
            Stage::Bare => &["build", "--manifest-path", BARE],
            Stage::Unguarded => &["build", "--workspace", "--bin", "medmesh"],
            Stage::Build => &["build", "--workspace", "--all-targets"],
            Stage::Unit => &["test", "--workspace", "--lib", "--bins", "--no-fail-fast"],
            Stage::Doc => &["test", "--workspace", "--doc", "--no-fail-fast"],
            Stage::Contract => &[
                "test",
                "--workspace",
                "--test",
                "contract",
                "--no-fail-fast",
            ],
            // One at a time: each starts a mesh of its own, and this is about what happens, not how fast.
            Stage::E2e => &[
                "test",
                "--workspace",
                "--test",
                "it",
                "--test",
                "node",
                "--no-fail-fast",
                "--",
                "--test-threads=1",
            ],
        };
        let mut command = cargo(&self.places, arguments);
        match stage {
            Stage::Unguarded => {
                command.env("MEDMESH_UNGUARDED", "1");
            }
            Stage::Bare => {
                command.env("CARGO_TARGET_DIR", self.places.target.join("bare"));
            }
            _ => {
                command.env_remove("MEDMESH_UNGUARDED");
            }
        }
        command.env("MEDMESH_BIN", self.binary());
        if self.unguarded().exists() {
            command.env("MEDMESH_UNGUARDED_BIN", self.unguarded());
        }
        command
    }

    fn binary(&self) -> PathBuf {
        self.places.target.join("debug/medmesh")
    }

    fn unguarded(&self) -> PathBuf {
        self.places.target.join("medmesh-unguarded")
    }

    fn failed(&self, stage: Stage) -> bool {
        self.outcomes
            .iter()
            .any(|outcome| outcome.stage == stage && !outcome.ok)
    }

    fn summary(&self) -> bool {
        let mut all = Counts::default();
        let mut took = Duration::ZERO;
        println!(
            "\n{:<10} {:>6} {:>9} {:>7} {:>7} {:>8}",
            "stage", "result", "time", "passed", "failed", "ignored"
        );
        for outcome in &self.outcomes {
            let counts = outcome.counts;
            println!(
                "{:<10} {:>6} {:>9} {:>7} {:>7} {:>8}",
                name(outcome.stage),
                if outcome.ok { "ok" } else { "FAILED" },
                clock(outcome.took),
                counts.passed,
                counts.failed,
                counts.ignored
            );
            all += counts;
            took += outcome.took;
        }
        println!("{:<10} {:>6} {:>9}", "all", "", clock(took));
        println!(
            "{} passed, {} failed, {} ignored",
            all.passed, all.failed, all.ignored
        );
        all.failed == 0
    }
}

/// The result of a stage, and its counts: a stage without tests counts as one, and a suite that ran no test has failed,
/// whatever its command says.
fn judged(stage: Stage, ok: bool, mut counts: Counts) -> (bool, Counts) {
    use Stage::{Contract, Doc, E2e, Unit};
    let ran_nothing = counts.passed + counts.failed == 0;
    let is_suite = matches!(stage, Unit | Doc | Contract | E2e);
    let ok = ok && !(is_suite && ran_nothing);
    if is_suite && ran_nothing {
        eprintln!("{}: no test ran", name(stage));
    }
    counts.passed += u64::from(ok && ran_nothing);
    counts.failed += u64::from(!ok && counts.failed == 0);
    (ok, counts)
}

fn name(stage: Stage) -> String {
    stage
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_string())
}

/// Minutes and seconds.
fn clock(took: Duration) -> String {
    let tenths = took.as_millis() / 100;
    format!("{}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_that_ran_no_test_has_failed() {
        let counts = |passed, failed, ignored| Counts {
            passed,
            failed,
            ignored,
        };
        for stage in [Stage::Unit, Stage::Doc, Stage::Contract, Stage::E2e] {
            for none in [counts(0, 0, 0), counts(0, 0, 7)] {
                let (ok, judged) = judged(stage, true, none);
                assert!(!ok && judged.failed == 1 && judged.passed == 0, "{stage:?}");
            }
            assert_eq!(
                judged(stage, true, counts(1, 0, 7)),
                (true, counts(1, 0, 7))
            );
        }
        // What holds no tests is one itself.
        let plain = |ok| judged(Stage::Clippy, ok, Counts::default());
        assert_eq!(plain(true), (true, counts(1, 0, 0)));
        assert_eq!(plain(false), (false, counts(0, 1, 0)));
        let broken = judged(Stage::E2e, false, counts(3, 0, 0));
        assert_eq!(broken, (false, counts(3, 1, 0)));
    }
}
