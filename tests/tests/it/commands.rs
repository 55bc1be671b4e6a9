//! Commands and twins on a mesh of real processes, as docs/commands.md has them: an interval through the region, limits
//! that a second person approves, a facility that is away, and kills of either end; each carried out once, and written
//! down at both ends.
use super::blobs;
use anyhow::{Context, Result, ensure};
use medmesh_tests::{mesh::Mesh, wait};
use serde_json::Value;
use std::time::Duration;

/// For a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
const FACILITY: &str = "edge:us-f1";
const REGION: &str = "regional:us";

/// What is asked of the region, and of which mesh.
struct Asked<'a>(&'a Mesh);

impl Asked<'_> {
    fn of(&self, args: &[&str]) -> Result<Vec<Value>> {
        let dir = self.0.dir.to_string_lossy();
        let common = ["--region", "us", "--dir", &dir, "--json"];
        self.0.medmesh_lines(&[args, &common].concat())
    }

    fn one(&self, args: &[&str]) -> Result<Value> {
        let mut answers = self.of(args)?;
        answers.pop().context("an answer")
    }

    /// Gives a command and waits for its end, or for who approves it.
    fn command(&self, device: &str, name: &str, parameters: &str, more: &[&str]) -> Result<Value> {
        let args = [
            "device",
            "command",
            device,
            name,
            "--parameters",
            parameters,
        ];
        self.one(&[&args[..], more].concat())
    }

    /// Waits until the twin says so.
    async fn twin(&self, device: &str, what: &str, says: impl Fn(&Value) -> bool) -> Result<Value> {
        let there = || async {
            let twin = self.one(&["twin", "get", device]).ok()?;
            says(&twin).then_some(twin)
        };
        wait::until(what, PATIENCE, there).await
    }
}

fn states(command: &Value) -> Vec<&str> {
    let steps = command["history"].as_array().into_iter().flatten();
    steps.filter_map(|step| step["state"].as_str()).collect()
}

#[tokio::test]
async fn a_device_is_told_once_whoever_is_killed_or_away_and_limits_need_a_second_person()
-> Result<()> {
    let dir = tempfile::tempdir()?;
    let args = ["--regions", "us", "--facilities", "1", "--beds", "1"];
    let mesh = Mesh::up(dir.path(), &args).await?;
    let asked = Asked(&mesh);
    let monitor = || async {
        let devices = asked.of(&["device", "list"]).ok()?;
        let found = devices
            .iter()
            .find(|device| device["kind"] == "bedside-monitor")?;
        Some(found["id"].as_str()?.to_owned())
    };
    let monitor = wait::until("the region knows the monitor", PATIENCE, monitor).await?;
    an_interval_and_limits(&asked, &monitor).await?;
    staff_holds_and_refuses(&asked, &monitor).await?;
    a_facility_that_is_away(&asked, &monitor).await?;
    blobs::a_file_comes_whole_and_goes(&mesh, (FACILITY, REGION)).await?;
    for node in [FACILITY, REGION] {
        let rows = mesh.listed(node, ["audit", "list"])?;
        let of = |kind: &str| rows.iter().filter(|row| row["kind"] == kind).count();
        ensure!(
            of("set-interval") > 0 && of("set-alarm-limits") > 0,
            "audited at {node}"
        );
    }
    mesh.stop().await
}

async fn an_interval_and_limits(asked: &Asked<'_>, monitor: &str) -> Result<()> {
    let interval = r#"{"interval": "5s"}"#;
    let command = asked.command(monitor, "set-interval", interval, &["--key", "first"])?;
    ensure!(
        states(&command) == ["queued", "delivered", "acknowledged"],
        "{command}"
    );
    let again = asked.command(monitor, "set-interval", interval, &["--key", "first"])?;
    ensure!(
        again["id"] == command["id"],
        "the same key is the same command: {again}"
    );
    for (parameters, names) in [
        (r#"{"interval": "5h"}"#, "interval"),
        (r#"{"speed": 1}"#, "speed"),
    ] {
        let refused = asked.command(monitor, "set-interval", parameters, &[]);
        let error = refused.err().context("it is refused")?.to_string();
        ensure!(error.contains(names), "{error}");
    }
    let limits = r#"{"heart-rate-high": 130}"#;
    let command = asked.command(monitor, "set-alarm-limits", limits, &[])?;
    ensure!(command["state"] == "queued", "{command}");
    let id = command["id"].as_str().context("an id")?;
    let own = asked.one(&["device", "approve", monitor, id, "--client", "operator"]);
    ensure!(own.is_err(), "who asked does not approve");
    asked.one(&["device", "approve", monitor, id])?;
    let reported = |twin: &Value| twin["reported"].to_string().contains("130");
    asked
        .twin(monitor, "the limit is reported", reported)
        .await?;
    Ok(())
}

/// What the facility's staff holds is told to no device, and what it refuses has ended for the region.
async fn staff_holds_and_refuses(asked: &Asked<'_>, monitor: &str) -> Result<()> {
    let config = asked.0.config(FACILITY);
    let staff = |args: &[&str]| {
        let common = ["--json", "--config", &config.to_string_lossy()];
        let all = [&["edge", "commands"], args, &common].concat();
        asked.0.medmesh_lines(&all)
    };
    let device = staff(&["list"])?.pop().context("a command")?;
    let device = device["device"].as_str().context("a device")?.to_owned();
    staff(&["hold", &device, "--by", "nurse"])?;
    let interval = r#"{"interval": "6s"}"#;
    let later = ["--no-wait", "--key", "held"];
    let command = asked.command(monitor, "set-interval", interval, &later)?;
    let id = command["id"].as_str().context("an id")?;
    let held = || async {
        let listed = staff(&["list"]).ok()?;
        let found = listed.iter().find(|command| command["id"] == id)?;
        (found["held_by"] == "nurse" && found["with_device"] == false).then_some(())
    };
    wait::until("the command is held", PATIENCE, held).await?;
    staff(&["refuse", id, "--by", "nurse"])?;
    staff(&["release", &device, "--by", "nurse"])?;
    let refused = asked.command(monitor, "set-interval", interval, &["--key", "held"]);
    ensure!(refused.is_err(), "the staff refused it: {refused:?}");
    let unknown = staff(&["hold", "monitor-99"]);
    let error = unknown
        .err()
        .context("there is no such device")?
        .to_string();
    ensure!(error.contains("no such device"), "{error}");
    Ok(())
}

async fn a_facility_that_is_away(asked: &Asked<'_>, monitor: &str) -> Result<()> {
    let mesh = asked.0;
    mesh.signal(FACILITY, "STOP")?;
    asked.one(&["twin", "set", monitor, r#"{"interval": "7s"}"#])?;
    let short = ["--ttl", "1s", "--no-wait", "--key", "short"];
    asked.command(monitor, "identify", "{}", &short)?;
    killed(mesh, REGION).await?;
    let desired = |twin: &Value| twin["desired"]["interval"] == "7s";
    asked
        .twin(monitor, "the region remembers what is desired", desired)
        .await?;
    // The command line fails for a command that was not carried out.
    let lapses = || async {
        let short = asked.command(monitor, "identify", "{}", &short);
        short.is_err().then_some(())
    };
    wait::until("the short command lapses", PATIENCE, lapses).await?;
    mesh.signal(FACILITY, "CONT")?;
    killed(mesh, FACILITY).await?;
    let reported = |twin: &Value| twin["reported"]["interval"] == "7s";
    asked
        .twin(monitor, "the facility converges", reported)
        .await?;
    let late = asked.command(monitor, "identify", "{}", &short);
    ensure!(
        late.is_err(),
        "what lapsed while nobody could hear it is not carried out: {late:?}"
    );
    Ok(())
}

async fn killed(mesh: &Mesh, node: &str) -> Result<()> {
    let before = mesh.pid(node)?;
    mesh.signal(node, "KILL")?;
    let back = || async { (mesh.pid(node).ok()? != before).then_some(()) };
    wait::until("the node is back", PATIENCE, back).await
}
