//! What is not ours, in Python: Google's dp-accounting, Flower, OpenSSL by way of cryptography, and PyTorch where it is.
use crate::report::median;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    env,
    io::Write as _,
    process::{Command, Stdio},
};

/// Variable with the path of a Python that has the packages, set by `cargo xtask bench`.
const PYTHON: &str = "MEDMESH_TEST_PYTHON";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/bench_federated.py");

/// Seconds of the same call made again and again.
pub struct Calls {
    /// Of the first one, whose results have no memory yet.
    pub first: f64,
    /// The median of the others.
    pub warm: f64,
}

/// The Python of the peers.
pub struct Peer(String);

impl Peer {
    /// The Python that was installed for them.
    pub fn find() -> Result<Self> {
        let python = env::var(PYTHON);
        Ok(Self(python.with_context(|| {
            format!("{PYTHON} names no Python: run this by cargo xtask bench")
        })?))
    }

    /// Seconds for ε of every event (sampling probability, noise multiplier, steps) at `delta`.
    pub fn accountant(&self, events: &[(f64, f64, u64)], delta: f64) -> Result<f64> {
        self.seconds(json!({ "work": "accountant", "events": events, "delta": delta }))
    }

    /// Seconds of Flower's mean of so many updates of so many 32-bit numbers.
    pub fn aggregate(&self, updates: usize, parameters: usize) -> Result<Calls> {
        let work = json!({ "work": "aggregate", "updates": updates, "parameters": parameters });
        let spent = self.said(work)?;
        let spent: Vec<f64> = serde_json::from_value(spent)?;
        let (first, others) = spent.split_first().context("calls")?;
        Ok(Calls {
            first: *first,
            warm: median(others),
        })
    }

    /// Seconds of a round of two clients that give back what they were given, of so many 32-bit numbers: with a SuperLink and
    /// two SuperNodes, as Flower is deployed.
    pub fn deployed(&self, parameters: usize, rounds: u32) -> Result<f64> {
        self.seconds(json!({ "work": "deployed", "parameters": parameters, "rounds": rounds }))
    }

    /// The same with Flower's older server, in memory.
    pub fn noop(&self, parameters: usize, rounds: u32) -> Result<f64> {
        self.seconds(json!({ "work": "no-op", "parameters": parameters, "rounds": rounds }))
    }

    /// Seconds of training with PyTorch; none where it is not installed.
    pub fn train(&self, given: Value) -> Result<Option<f64>> {
        Ok(self
            .said(json!({ "work": "train", "given": given }))?
            .as_f64())
    }

    /// Seconds for so many key streams of so many bytes.
    pub fn key_stream(&self, streams: usize, bytes: usize) -> Result<f64> {
        self.seconds(json!({ "work": "key-stream", "streams": streams, "bytes": bytes }))
    }

    fn seconds(&self, work: Value) -> Result<f64> {
        let said = self.said(work)?;
        said.as_f64()
            .with_context(|| format!("{SCRIPT} said {said}, not a number of seconds"))
    }

    /// Starts it, and has it time the work alone.
    fn said(&self, work: Value) -> Result<Value> {
        let mut python = Command::new(&self.0)
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start Python")?;
        let mut input = python.stdin.take().context("standard input")?;
        input.write_all(work.to_string().as_bytes())?;
        drop(input);
        let output = python.wait_with_output()?;
        ensure!(output.status.success(), "{SCRIPT} failed");
        let said = output.stdout.as_slice();
        serde_json::from_slice(said).with_context(|| format!("what {SCRIPT} said"))
    }
}
