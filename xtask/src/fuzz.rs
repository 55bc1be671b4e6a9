//! `cargo xtask fuzz`: the parsers of everything that comes from outside, fed for as long as is asked.
//!
//! Where a nightly toolchain is found it builds the targets with coverage counters and runs them under libFuzzer, which
//! grows a corpus of its own in the cache. Elsewhere it runs the suite's own mutations, for longer. Neither writes into
//! what is committed: a found input is named at the end, and belongs into `tests/fuzz/corpus` with its mend.
use crate::{
    place::Places,
    run::{cargo, host, step},
};
use anyhow::{Context, Result, ensure};
use std::{fs, process::Command};

/// Longest time for one input, in seconds: parsers are to be done in milliseconds.
const TIMEOUT_S: u32 = 10;
/// Memory of one target, in MiB: what a node must never need for one message.
const RSS_MIB: u32 = 2_048;
/// Longest input, in bytes: beyond it every listener refuses.
const MAX_LEN: u32 = 64 << 10;
/// Coverage counters in every edge of the program, as libFuzzer reads them.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Fuzzes these targets, all when none is named, each for so many seconds; whether none failed.
pub fn fuzz(targets: &[String], seconds: u64) -> Result<bool> {
    let places = Places::find()?;
    if !has_nightly() {
        eprintln!(
            "no nightly toolchain (rustup toolchain install nightly): mutations without coverage"
        );
        return mutations(&places, targets, seconds);
    }
    let host = host()?;
    let target_dir = places.target.join("fuzz");
    // The versions of everything that it shares with the product are the product's.
    let lock = places.root.join("Cargo.lock");
    fs::copy(&lock, places.root.join("tests/fuzz/Cargo.lock"))?;
    step(
        Command::new("cargo")
            .args(["+nightly", "build", "--release", "--target", &host])
            .args(["--manifest-path", "tests/fuzz/Cargo.toml"])
            .current_dir(&places.root)
            .env("CARGO_TARGET_DIR", &target_dir)
            .env("RUSTFLAGS", COVERAGE),
    )?;
    let program = target_dir.join(&host).join("release/medmesh-fuzz");
    let mut failed = Vec::new();
    for target in named(&places, targets)? {
        eprintln!("\n── {target} ──");
        let grown = places.cache.join("fuzz").join(&target);
        fs::create_dir_all(&grown)?;
        let status = Command::new(&program)
            .arg(&grown)
            .arg(places.root.join("tests/fuzz/corpus").join(&target))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={TIMEOUT_S}"))
            .arg(format!("-rss_limit_mb={RSS_MIB}"))
            .arg(format!("-max_len={MAX_LEN}"))
            .arg(format!("-artifact_prefix={}/failed-", grown.display()))
            .arg("-print_final_stats=1")
            .env("MEDMESH_FUZZ_TARGET", &target)
            .status()
            .context("start the fuzzer")?;
        if !status.success() {
            failed.push(format!(
                "{target}: the input is {}/failed-…",
                grown.display()
            ));
        }
    }
    for line in &failed {
        eprintln!("failed: {line}");
    }
    Ok(failed.is_empty())
}

/// The suite's own seeded mutations, for longer.
fn mutations(places: &Places, targets: &[String], seconds: u64) -> Result<bool> {
    let mut command = cargo(
        places,
        &[
            "test",
            "--workspace",
            "--lib",
            "--",
            "fuzz::tests",
            "--nocapture",
        ],
    );
    command.env("MEDMESH_FUZZ_SECONDS", seconds.to_string());
    let asked = named(places, targets)?;
    command.env("MEDMESH_FUZZ_TARGETS", asked.join(","));
    Ok(command.status()?.success())
}

/// The targets that are asked for: each has a folder with the inputs that it begins with.
fn named(places: &Places, targets: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(places.root.join("tests/fuzz/corpus"))? {
        all.push(entry?.file_name().to_string_lossy().into_owned());
    }
    all.sort_unstable();
    for target in targets {
        ensure!(
            all.contains(target),
            "{target} is none of {}",
            all.join(", ")
        );
    }
    all.retain(|one| targets.is_empty() || targets.contains(one));
    Ok(all)
}

fn has_nightly() -> bool {
    Command::new("cargo")
        .args(["+nightly", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
