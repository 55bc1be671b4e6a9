//! Commands: how long until a connected device has carried one out and its region says so, and a million replays, none of
//! which may be carried out.
use crate::{
    Bed, disk,
    report::{Aim, Figure, Report, quantile},
};
use anyhow::{Context, Result, ensure};
use commands::{Acceptor, Command, Held, Marks, Outcome, Signed, State, Table, Taker, Value};
use ed25519_dalek::SigningKey;
use medmesh_tests::{
    https::{self, Session},
    mesh::Mesh,
    wait,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, Instant},
};
use types::{CatalogId, DeviceKind, Id128, Place, Timestamp};

/// Commands of one run: enough for a 99th percentile.
const COMMANDS: usize = 300;
/// Between two looks at a command: what is measured is at most so much too long.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Longest wait for one command.
const PATIENCE: Duration = Duration::from_secs(60);
/// Commits that a command is in until its region says that it was carried out: asked for, taken in, begun, kept by the device
/// before and after, answered, reported.
const COMMITS: f64 = 7.0;
/// What the region's time-critical path promises, in ms.
const PROMISE_MS: f64 = 100.0;
/// Replays of one run.
const REPLAYS: u64 = 1_000_000;
/// A device is switched off and on so often while it is replayed to, and its clock jumps.
const RESTART_EVERY: u64 = 1_000;
const DURABILITY: &str = "fsync of region, edge and device, before and after";

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let (mut p50, mut p99, mut floor, mut judged) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bed.runs {
        floor.push(COMMITS * quantile(&disk::fdatasyncs()?, 0.99));
        let took = commands().await?;
        p50.push(quantile(&took, 0.5));
        p99.push(quantile(&took, 0.99));
        judged.push(replays()?);
    }
    let figure = |p: &str, runs| {
        let what = format!("command to acknowledged, MQTT device, {p}");
        Figure::new(what, "ms", DURABILITY, runs)
    };
    report.add(figure("p50", p50));
    report.add(
        figure("p99", p99)
            .beside("7 x fdatasync p99", &floor)
            .aim(Aim::AtMost(PROMISE_MS))
            .bound("hand-overs between three processes, TLS, signatures, and up to 2 ms until the next look"),
    );
    report.add(
        Figure::new(
            "commands replayed to a device, judged",
            "/s",
            "the device's mark",
            judged,
        )
        .note(format!(
            "{REPLAYS} replays a run over restarts and clock jumps; carried out again 0"
        )),
    );
    Ok(())
}

/// Milliseconds of each command to the simulated analyser.
async fn commands() -> Result<Vec<f64>> {
    let dir = tempfile::tempdir()?;
    let args = ["--regions", "us", "--facilities", "1", "--beds", "1"];
    let mesh = Mesh::up(dir.path(), &args).await?;
    let json = mesh.json()?;
    let api = json["regions"]["us"]["api"].as_str().context("api")?;
    let (authority, base) = https::split(api)?;
    let token = mesh.token("operator", "us").await?;
    let mut session = mesh.https.session(authority).await?;
    let device = wait::until("the region knows the analyser", PATIENCE, || async {
        let list = mesh
            .https
            .get(&format!("{api}/devices"), Some(&token))
            .await;
        let list = list.ok()?.json().ok()?;
        let mut items = list["items"].as_array()?.iter();
        let found = items.find(|device| device["kind"] == "lab-analyser")?;
        Some(found["id"].as_str()?.to_owned())
    })
    .await?;
    let path = format!("{base}/devices/{device}/commands");
    let mut took = Vec::new();
    // The first ones wait until the device has subscribed.
    for number in 0..COMMANDS + 3 {
        let ms = command(&mut session, &path, &token, number).await?;
        if number >= 3 {
            took.push(ms);
        }
    }
    mesh.stop().await?;
    Ok(took)
}

async fn command(session: &mut Session, path: &str, token: &str, number: usize) -> Result<f64> {
    let body = json!({"name": "identify", "parameters": {}, "ttl": "60s"}).to_string();
    let began = Instant::now();
    let key = format!("bench-{number}");
    let extra = [("idempotency-key", key.as_str())];
    let asked = session.post_json(path, token, &extra, body);
    let asked = asked.await?.json()?;
    let id = asked["id"].as_str().context("an id")?;
    let path = format!("{path}/{id}");
    loop {
        let shown = session.get(&path, Some(token)).await?.json()?;
        match shown["state"].as_str() {
            Some("acknowledged") => return Ok(began.elapsed().as_secs_f64() * 1e3),
            Some("queued" | "delivered") => {}
            other => anyhow::bail!("the command ended {other:?}: {shown}"),
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "the command has no end: {shown}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a device keeps.
#[derive(Clone, Default)]
struct Kept(Held);

impl Marks for Kept {
    type Error = Infallible;

    fn keep(&mut self, held: &Held) -> Result<(), Infallible> {
        self.0 = held.clone();
        Ok(())
    }
}

fn signed(sequence: u64, key: &SigningKey) -> Result<Signed> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&sequence.to_be_bytes());
    let command = Command {
        id: Id128::from_bytes(id),
        facility: "edge/us/us/us-f1".parse()?,
        device: CatalogId::from_bytes([7; 16]),
        sequence,
        name: "set-interval".parse()?,
        parameters: BTreeMap::from([("interval".to_owned(), Value::Text("5s".into()))]),
        issued: Timestamp(1_000_000),
        expires: Timestamp(1_060_000),
        by: "operator".into(),
        approved_by: None,
    };
    Ok(command.sign(key))
}

/// Replays what a device has carried out, in every order, over restarts and clock jumps: judged a second.
fn replays() -> Result<f64> {
    let key = SigningKey::from_bytes(&[3; 32]);
    let (region, facility): (_, Place) = (key.verifying_key(), "edge/us/us/us-f1".parse()?);
    let table = Table::built_in(DeviceKind::LabAnalyser);
    let acceptor = Acceptor {
        facility: &facility,
        device: CatalogId::from_bytes([7; 16]),
        key: &region,
        table: &table,
        has: None,
    };
    let all: Vec<Signed> = (1..=64)
        .map(|sequence| signed(sequence, &key))
        .collect::<Result<_>>()?;
    let mut taker = Taker::new(Kept::default(), Held::default());
    let mut carried_out = 0;
    let mut offer = |taker: &mut Taker<Kept>, signed: &Signed, now: Timestamp| {
        taker
            .take(&acceptor, signed, now, |_| {
                carried_out += 1;
                Outcome::Done
            })
            .map_err(|never| match never.0 {})
    };
    for signed in &all {
        let Ok(answer) = offer(&mut taker, signed, Timestamp(1_000_000));
        ensure!(answer.state == State::Acknowledged, "the first time");
    }
    let began = Instant::now();
    for replay in 0..REPLAYS {
        if replay % RESTART_EVERY == 0 {
            let held = taker.held().clone();
            taker = Taker::new(Kept(held.clone()), held);
        }
        let jump = i64::try_from(replay % 97).unwrap_or(0) * 1_000;
        let at = usize::try_from(replay * 31 % 64).unwrap_or(0);
        let signed = all.get(at).context("a command")?;
        let Ok(_) = offer(&mut taker, signed, Timestamp(960_000 + jump));
    }
    let took = began.elapsed().as_secs_f64();
    ensure!(
        carried_out == 64,
        "{} were carried out again",
        carried_out - 64
    );
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    Ok(REPLAYS as f64 / took)
}
