//! Whether a text is R4: beside reading it as JSON alone, and beside the models of `fhir.resources`.
use super::condition;
use crate::{
    Bed,
    report::{Aim, Figure, Report},
};
use anyhow::{Context, Result, ensure};
use fhir::{contract::fixture, json::Json, r4};
use std::{
    env,
    hint::black_box,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Variable with the path of a Python that has the package, set by `cargo xtask bench`.
const PYTHON: &str = "MEDMESH_TEST_PYTHON";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/bench_fhir.py");
const NOTHING: &str = "nothing is written";
/// The peer judges a share of them: it takes its time.
const SHARE: usize = 20;
/// Texts that are judged, and then read, before the next ones are.
const TURN: usize = 500;

/// Runs the benchmark.
pub fn run(bed: &Bed, count: usize, report: &mut Report) -> Result<()> {
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let text = |number: usize| match number % 2 {
        0 => condition(&patient, number).to_string(),
        _ => fixture::observation(u32::try_from(number).unwrap_or(1))
            .json()
            .to_owned(),
    };
    let texts: Vec<String> = (0..count).map(text).collect();
    let (mut ours, mut parsed, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    // The tables are read once in the life of a process, as the peer's models are made before it is timed.
    time(&texts[..2], |text| r4::validate(text).is_ok())?;
    for _ in 0..bed.runs {
        theirs.push(models(&texts[..(count / SHARE).max(20)])?);
        // In turns, so that what else the machine does is to the cost of both.
        let mut took = [Duration::ZERO; 2];
        for some in texts.chunks(TURN) {
            took[0] += time(some, |text| r4::validate(text).is_ok())?;
            took[1] += time(some, |text| Json::parse(text).is_ok())?;
        }
        let [judging, reading] = took.map(|took| per_second(texts.len(), took));
        ours.push(judging);
        parsed.push(reading);
    }
    let what = "FHIR validation, one core";
    report.add(
        Figure::new(what, "/s", NOTHING, ours.clone())
            .beside("fhir.resources (PyPI)", &theirs)
            .aim(Aim::RatioAtLeast(100.0)),
    );
    report.add(
        Figure::new(what, "/s", NOTHING, ours)
            .beside("parsing alone", &parsed)
            .aim(Aim::RatioAtLeast(0.3)),
    );
    Ok(())
}

fn time(texts: &[String], judge: impl Fn(&str) -> bool) -> Result<Duration> {
    let began = Instant::now();
    for text in texts {
        ensure!(judge(black_box(text)), "refused: {text}");
    }
    Ok(began.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "a count of resources")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Resources a second of the models, without the start of Python.
fn models(texts: &[String]) -> Result<f64> {
    let python = env::var(PYTHON)
        .with_context(|| format!("{PYTHON} names no Python: run this by cargo xtask bench"))?;
    let mut python = Command::new(python)
        .arg(SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start Python")?;
    let mut input = python.stdin.take().context("standard input")?;
    input.write_all(texts.join("\n").as_bytes())?;
    drop(input);
    let output = python.wait_with_output()?;
    ensure!(output.status.success(), "{SCRIPT} failed");
    let said = String::from_utf8(output.stdout)?;
    said.trim()
        .parse()
        .with_context(|| format!("{SCRIPT} said {said:?}"))
}
