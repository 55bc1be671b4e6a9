//! What is not ours, in Python: Google's dp-accounting, Flower, and OpenSSL by way of cryptography.
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

    /// Seconds for Flower's mean of so many updates of so many 32-bit numbers.
    pub fn aggregate(&self, updates: usize, parameters: usize) -> Result<f64> {
        self.seconds(json!({ "work": "aggregate", "updates": updates, "parameters": parameters }))
    }

    /// Seconds for so many key streams of so many bytes.
    pub fn key_stream(&self, streams: usize, bytes: usize) -> Result<f64> {
        self.seconds(json!({ "work": "key-stream", "streams": streams, "bytes": bytes }))
    }

    /// Starts it, and has it time the work alone.
    fn seconds(&self, work: Value) -> Result<f64> {
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
        let said = String::from_utf8(output.stdout)?;
        said.trim()
            .parse()
            .with_context(|| format!("{SCRIPT} said {said:?}, not a number of seconds"))
    }
}
