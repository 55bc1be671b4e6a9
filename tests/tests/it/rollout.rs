//! `infra/terraform/environments/local` by terraform, as `cargo xtask rollout local` applies it: a mesh comes up, grows
//! to three jurisdictions while nothing else is restarted, has a dead node found and started again, takes a new version
//! region by region without a failed request or a lost reading and refuses a broken one, and leaves nothing behind, also when what applied it was killed.
mod load;

use anyhow::{Context, Result, ensure};
use load::Load;
use medmesh_tests::{
    binary,
    checker::{self, Crosswalk, Rows},
    region_file::RegionFile,
    steps, wait,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long devices stand still at a time: everything that had left them is with the region long before.
const STILL: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/terraform");
/// The lowest and the highest port of `regions.tfvars.json`, with those above that the last facility takes.
const PORTS: (u16, u16) = (21_000, 24_520);

#[test]
#[cfg_attr(not(has_terraform), ignore = "terraform is not installed")]
fn a_mesh_by_terraform_grows_heals_takes_a_new_version_and_leaves_nothing() -> Result<()> {
    let mesh = Applied::new()?;
    let program = binary::medmesh();
    mesh.timed("one jurisdiction comes up", &["--only", "eu"], &program)?;
    let first = mesh.pids()?;
    ensure!(first.contains_key("edge-charite-berlin"), "{first:?}");
    ensure!(
        mesh.readings("charite-berlin")? > 0,
        "no reading was emitted"
    );

    // It grows to all three jurisdictions, and what runs goes on.
    mesh.timed("it grows to three", &[], &program)?;
    let grown = mesh.pids()?;
    for place in ["regional-us-east-1", "edge-umc-tokyo"] {
        ensure!(grown.contains_key(place), "{place} is not there: {grown:?}");
    }
    for (name, pid) in &first {
        ensure!(grown.get(name) == Some(pid), "{name} was restarted");
    }

    // A node that was killed is found, and it alone is started again.
    signal("KILL", grown["regional-eu-west-1"])?;
    mesh.timed("a dead region is found and runs again", &[], &program)?;
    let healed = mesh.pids()?;
    let restarted: Vec<&String> = healed
        .iter()
        .filter(|(name, pid)| grown.get(*name) != Some(pid))
        .map(|(name, _)| name)
        .collect();
    ensure!(restarted == ["regional-eu-west-1"], "{restarted:?}");

    // A version that does not run comes to the canary alone, which gets its former one back.
    let broken = mesh.dir.path().join("broken");
    fs::write(&broken, "#!/bin/sh\nexit 1\n")?;
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755))?;
    ensure!(
        mesh.rollout(&[], &broken).is_err(),
        "a broken version was rolled out"
    );
    let (kept, former) = (mesh.pids()?, mesh.programs()?);
    for (name, pid) in &healed {
        ensure!(
            kept.get(name) == Some(pid),
            "{name} was touched by a version that does not run"
        );
    }

    // A new one comes to every process, and no client of a region sees it.
    let new = mesh.dir.path().join("new");
    let mut bytes = fs::read(&program)?;
    bytes.extend(b"a version of its own");
    fs::write(&new, bytes)?;
    let load = Load::start(&mesh.folder(), "eu-central-1")?;
    let rolled = mesh.timed("a new version comes to every place", &[], &new);
    load.end()?;
    rolled?;
    let (renewed, programs) = (mesh.pids()?, mesh.programs()?);
    for (name, pid) in &kept {
        ensure!(
            programs[name].1 && programs[name].0 != former[name].0,
            "{name} still runs the former version: {programs:?}"
        );
        // A node goes on in its process, with its listeners; devices are started anew.
        ensure!(
            (renewed.get(name) == Some(pid)) != name.starts_with("devices-"),
            "{name}: {pid} became {:?}",
            renewed.get(name)
        );
    }
    mesh.nothing_is_lost("charite-berlin", "eu-central-1")?;

    mesh.timed("it is destroyed", &["--destroy"], &new)?;
    mesh.nothing_is_left()
}

#[test]
#[cfg_attr(not(has_terraform), ignore = "terraform is not installed")]
fn what_a_killed_rollout_began_ends_with_the_mesh() -> Result<()> {
    let mesh = Applied::new()?;
    let mut child = mesh
        .command(&["--only", "us"], &binary::medmesh())
        .spawn()?;
    let begun = || -> bool { mesh.processes().is_ok_and(|processes| processes.len() > 1) };
    let deadline = Instant::now() + wait::PATIENCE;
    while !begun() {
        ensure!(Instant::now() < deadline, "nothing was started");
        std::thread::yield_now();
    }
    // All of them at once: the rollout, terraform and what starts nodes for it.
    let group = format!("-{}", child.id());
    ensure!(
        Command::new("kill")
            .args(["-KILL", "--", &group])
            .status()?
            .success(),
        "not killed"
    );
    child.wait()?;
    // As if it had been killed while it wrote down which version runs where.
    fs::write(mesh.environment().join("versions.auto.tfvars.json"), "{")?;
    mesh.rollout(&["--destroy"], &binary::medmesh())?;
    mesh.nothing_is_left()
}

/// A copy of the configuration, applied to a folder and ports of its own.
struct Applied {
    dir: TempDir,
    shift: u16,
}

impl Applied {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        copy(Path::new(SOURCE), &dir.path().join("terraform"))?;
        Ok(Self {
            dir,
            shift: free_shift()?,
        })
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("mesh")
    }

    fn environment(&self) -> PathBuf {
        self.dir.path().join("terraform/environments/local")
    }

    /// No process, no folder, and in the environment's folder what the clone has and nothing else.
    fn nothing_is_left(&self) -> Result<()> {
        ensure!(!self.folder().exists(), "the folder is still there");
        let left = self.processes()?;
        ensure!(left.is_empty(), "processes are still there: {left:?}");
        for entry in fs::read_dir(self.environment())? {
            let name = entry?.file_name();
            let own = Path::new(SOURCE).join("environments/local").join(&name);
            let is_own = own.is_file() && !name.to_string_lossy().contains("tfstate");
            ensure!(is_own, "{} is still there", name.display());
        }
        Ok(())
    }

    /// `cargo xtask rollout local`, the built one.
    fn command(&self, arguments: &[&str], binary: &Path) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(binary::medmesh().with_file_name("xtask"));
        command
            .args(["rollout", "local", "--source"])
            .arg(self.dir.path().join("terraform"))
            .arg("--dir")
            .arg(self.folder())
            .arg("--binary")
            .arg(binary)
            .args(["--port-shift", &self.shift.to_string()])
            .args(arguments)
            .env("CARGO_TARGET_DIR", self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        command
    }

    fn rollout(&self, arguments: &[&str], binary: &Path) -> Result<()> {
        let log = fs::File::create(self.dir.path().join("log"))?;
        let mut command = self.command(arguments, binary);
        let status = command.stdout(log.try_clone()?).stderr(log).status()?;
        let said = fs::read_to_string(self.dir.path().join("log"))?;
        ensure!(status.success(), "rollout {arguments:?}: {said}");
        Ok(())
    }

    /// The same, whose time is said.
    fn timed(&self, step: &str, arguments: &[&str], binary: &Path) -> Result<()> {
        let begun = Instant::now();
        self.rollout(arguments, binary)?;
        steps::took(&format!("Terraform: {step}"), begun.elapsed());
        Ok(())
    }

    /// Which process each part of the mesh is.
    fn pids(&self) -> Result<BTreeMap<String, u64>> {
        let mut pids = BTreeMap::new();
        for entry in fs::read_dir(self.folder().join("run"))? {
            let path = entry?.path();
            let run: Value = serde_json::from_slice(&fs::read(&path)?)?;
            let name = path
                .file_stem()
                .context("a name")?
                .to_string_lossy()
                .into_owned();
            pids.insert(name, run["pid"].as_u64().context("a pid")?);
        }
        Ok(pids)
    }

    /// Which program each part of the mesh was noted to run, and whether its process does.
    fn programs(&self) -> Result<BTreeMap<String, (String, bool)>> {
        let mut programs = BTreeMap::new();
        for (name, pid) in self.pids()? {
            let path = self.folder().join("run").join(format!("{name}.json"));
            let run: Value = serde_json::from_slice(&fs::read(path)?)?;
            let noted = run["binary"].as_str().context("a binary")?.to_owned();
            let runs = fs::read_link(format!("/proc/{pid}/exe"))?;
            let is_noted = runs == fs::canonicalize(&noted)?;
            programs.insert(name, (noted, is_noted));
        }
        Ok(programs)
    }

    /// While the devices of a facility stand still, its region has every reading that they emitted, and each once. One that
    /// was under way when they were stopped comes after they went on.
    fn nothing_is_lost(&self, facility: &str, region: &str) -> Result<()> {
        let devices = self.pids()?[&format!("devices-edge-{facility}")];
        let home = self.folder().join("edge").join(facility);
        let crosswalk = Command::new(binary::medmesh())
            .args(["edge", "crosswalk", "--json", "--config"])
            .arg(home.join("edge.toml"))
            .output()?;
        let crosswalk = Crosswalk::of(&serde_json::from_slice(&crosswalk.stdout)?)?;
        let sent = home.join("sent.ndjson");
        let mut differs = String::new();
        let deadline = Instant::now() + wait::PATIENCE;
        while Instant::now() < deadline {
            signal("STOP", devices)?;
            let still = Instant::now() + STILL;
            while Instant::now() < still {
                let (want, have) = (emitted(&sent, &crosswalk)?, self.served(region)?);
                let (lost, beyond) = checker::difference(&want, &have);
                if lost.is_empty() && beyond.is_empty() {
                    println!("{} readings emitted, {} served", want.len(), have.len());
                    return signal("CONT", devices);
                }
                differs = format!("lost: {lost:?}; beyond what was emitted: {beyond:?}");
                std::thread::sleep(PAUSE);
            }
            signal("CONT", devices)?;
            std::thread::sleep(PAUSE);
        }
        anyhow::bail!("{differs}")
    }

    /// Readings of patients that a region has.
    fn served(&self, region: &str) -> Result<Rows> {
        let mut have = Rows::new();
        RegionFile::within(&self.folder(), region)?.each(|one| {
            // What is measured of no patient is not in the devices' file.
            if one.patient.is_empty() {
                return Ok(());
            }
            let row = checker::stored_row(&one.patient, &one.resource);
            *have.entry(row).or_default() += 1;
            Ok(())
        })?;
        Ok(have)
    }

    /// Readings that the devices of a facility have emitted, as soon as there is one.
    fn readings(&self, facility: &str) -> Result<usize> {
        let sent = self
            .folder()
            .join("edge")
            .join(facility)
            .join("sent.ndjson");
        let deadline = Instant::now() + wait::PATIENCE;
        loop {
            let lines = fs::read_to_string(&sent)
                .unwrap_or_default()
                .lines()
                .count();
            if lines > 0 || Instant::now() > deadline {
                return Ok(lines);
            }
            std::thread::yield_now();
        }
    }

    /// Command lines of living processes that name the mesh's folder.
    fn processes(&self) -> Result<Vec<String>> {
        let folder = self.folder().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let line = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("--config") && line.contains(&folder) {
                found.push(line);
            }
        }
        Ok(found)
    }
}

impl Drop for Applied {
    fn drop(&mut self) {
        if self.folder().exists() {
            self.rollout(&["--destroy"], &binary::medmesh()).ok();
        }
    }
}

/// Readings that devices have written down as emitted.
fn emitted(sent: &Path, crosswalk: &Crosswalk) -> Result<Rows> {
    let mut want = Rows::new();
    checker::each_line(sent, |line| {
        let row = checker::emitted_row(&line, crosswalk)?;
        *want.entry(row).or_default() += 1;
        Ok(())
    })?;
    Ok(want)
}

fn signal(name: &str, pid: u64) -> Result<()> {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()?;
    ensure!(sent.success(), "{pid} got no {name}");
    Ok(())
}

/// What is added to every port so that all of them are free now.
fn free_shift() -> Result<u16> {
    let free = |shift: &u16| {
        (PORTS.0..=PORTS.1)
            .step_by(1)
            .filter(|port| port % 100 < 10)
            .all(|port| TcpListener::bind(("127.0.0.1", port + shift)).is_ok())
    };
    let from = u16::try_from(std::process::id() % 70)? * 100;
    let mut shifts = (from..8_000).step_by(100).chain((0..from).step_by(100));
    shifts.find(free).context("no ports are free")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.')
            || name.to_string_lossy().contains("tfstate")
            || name.to_string_lossy().contains(".auto.")
        {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(name))?;
        } else {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
