//! `medmesh local start`: one process, from its identity to its first good answer.
//!
//! What runs is touched only after the new configuration was found good, so that a wrong one changes nothing. A node
//! that runs goes on as the new program in its process, with its listeners ([`node::renewal`]): whoever connects
//! meanwhile waits. Devices, and a node that cannot do that, are stopped and started.
use super::{
    folder::{Folder, Run, file_name},
    order::{Kind, Start},
    process,
    ready::{self, Probe, Started},
};
use crate::{
    command::{device::SimFile, node::read},
    failure::Failure,
    https::Https,
    out,
    up::{config, files, identity, plan::Plan},
};
use anyhow::{Context, Result, anyhow, bail};
use device_fw::sim::config::Source;
use edge::config::EdgeConfig;
use federation::{identity::Identity, pki::Ca};
use global::config::GlobalConfig;
use node::clock::Clock;
use regional::config::RegionalConfig;
use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use types::{DeviceId, Place};

/// Where the parts of a process lie.
struct Job<'a> {
    order: &'a Start,
    folder: Folder,
    place: Place,
    /// The folder of the node, or of the facility.
    dir: PathBuf,
    config: PathBuf,
    log: PathBuf,
    arguments: Vec<&'static str>,
    binary: PathBuf,
}

/// Runs the command.
pub async fn start(order: &Start) -> Result<(), Failure> {
    let job = Job::new(order)?;
    let _open = job.folder.open_to_starts()?;
    job.enrol()?;
    let (probe, new) = job.check()?;
    if job.adopt()? {
        fs::remove_file(&new)?;
        return Ok(out::line(format!("{} runs already", order.name))?);
    }
    let mut started = job.renew_or_spawn(&new)?;
    job.note(started.id())?;
    let https = Https::new(&job.folder.plan().pki_dir().join("ca.pem"))?;
    let limit = Duration::from_secs(order.patience_s);
    if let Err(error) = ready::wait(&mut started, &probe, &https, limit, &job.log).await {
        started.end();
        return Err(error.context(order.name.clone()).into());
    }
    Ok(out::line(format!(
        "{} is ready, process {}",
        order.name,
        started.id()
    ))?)
}

impl<'a> Job<'a> {
    fn new(order: &'a Start) -> Result<Self> {
        file_name(&order.name)?;
        let folder = Folder::open(&order.dir)?;
        let place: Place = order
            .place
            .parse()
            .map_err(|_| anyhow!("place: {:?} is none", order.place))?;
        let dir = folder.plan().node_dir(&place);
        let (config, log, arguments) = match (order.kind, &place) {
            (Kind::Node, _) => (
                config::node_file(&dir, &place),
                dir.join("node.log"),
                vec![place.tier().as_str()],
            ),
            (Kind::Devices, Place::Edge { .. }) => (
                config::devices_file(&dir),
                dir.join("devices.log"),
                vec!["device", "simulate"],
            ),
            (Kind::Devices, _) => bail!("place: devices are of a facility"),
        };
        Ok(Self {
            order,
            folder,
            place,
            dir,
            config,
            log,
            arguments,
            binary: std::env::current_exe().context("this program's own path")?,
        })
    }

    /// Certificates and keys that are missing or end soon, one start at a time.
    fn enrol(&self) -> Result<()> {
        let plan = self.folder.plan();
        let _alone = self.folder.alone("pki.lock")?;
        let (ca, now) = (Ca::open(&plan.pki_dir())?, Clock::new(None).real());
        match self.order.kind {
            Kind::Node => {
                identity::enrol_node(&ca, &plan, &self.place, now)?;
                if matches!(self.place, Place::Edge { .. }) {
                    identity::facility_key(&self.dir)?;
                    config::write_profiles(&self.dir.join("profiles"), &Source::Physiology)?;
                }
            }
            Kind::Devices => {
                for id in self.devices()? {
                    let (cert, key) = Plan::device_pair(&self.dir, &id);
                    fs::create_dir_all(self.dir.join("devices"))?;
                    identity::enrol_device(&ca, cert, key, self.identity(id)?, now)?;
                }
            }
        }
        Ok(())
    }

    fn devices(&self) -> Result<Vec<DeviceId>> {
        let id = |text: &String| {
            text.parse()
                .map_err(|_| anyhow!("devices: {text:?} is no device's name"))
        };
        self.order.devices.iter().map(id).collect()
    }

    fn identity(&self, device: DeviceId) -> Result<Identity> {
        match &self.place {
            Place::Edge {
                jurisdiction,
                region,
                facility,
            } => Ok(Identity::Device {
                jurisdiction: *jurisdiction,
                region: region.clone(),
                facility: facility.clone(),
                device,
            }),
            _ => Err(anyhow!("place: devices are of a facility")),
        }
    }

    /// Writes the configuration beside its place and looks for what is wrong with it.
    fn check(&self) -> Result<(Probe, PathBuf), Failure> {
        let new = self.config.with_extension("new.toml");
        files::replace_secret(&new, self.order.config.as_bytes())?;
        let probe = match (self.order.kind, &self.place) {
            (Kind::Devices, _) => {
                let SimFile(config) = read(&new)?;
                Probe::Devices(
                    config
                        .devices
                        .iter()
                        .filter_map(|device| device.listen)
                        .collect(),
                )
            }
            (Kind::Node, Place::Edge { .. }) => Probe::Node(read::<EdgeConfig>(&new)?.https.listen),
            (Kind::Node, Place::Regional { .. }) => {
                Probe::Node(read::<RegionalConfig>(&new)?.https.listen)
            }
            (Kind::Node, Place::Global) => Probe::Node(read::<GlobalConfig>(&new)?.https.listen),
        };
        Ok((probe, new))
    }

    /// Whether the same thing runs already; then it is this start's from now on.
    fn adopt(&self) -> Result<bool> {
        let Some(run) = self.folder.run(&self.order.name)? else {
            return Ok(false);
        };
        let same = run.binary == self.binary
            && run.restarts == self.order.restarts
            && fs::read(&self.config).is_ok_and(|text| text == self.order.config.as_bytes())
            && run.process().lives();
        if same {
            self.note(run.pid)?;
        }
        Ok(same)
    }

    /// Puts the new configuration in its place, and lets what runs, or a new process, go by it.
    fn renew_or_spawn(&self, new: &Path) -> Result<Started> {
        let name = &self.order.name;
        let run = self.folder.run(name)?;
        let program = Some(self.folder.program(name));
        let former = run.filter(|run| {
            let process = run.process();
            self.order.kind == Kind::Node && process.lives() && process.program() == program
        });
        if let Some(run) = former {
            // Should this end here, nobody takes what runs for what was ordered.
            let unknown = Run {
                binary: PathBuf::new(),
                ..run
            };
            self.folder.note(name, &unknown)?;
            self.folder.point(name, &self.binary)?;
            storage::file::rename(new, &self.config)?;
            if unknown.process().renew() {
                return Ok(Started::Renewed(unknown.process()));
            }
            self.stop_former()?;
        } else {
            self.stop_former()?;
            self.folder.point(name, &self.binary)?;
            storage::file::rename(new, &self.config)?;
        }
        self.spawn().map(Started::New)
    }

    /// Whatever runs with this configuration, noted or not, ends first.
    fn stop_former(&self) -> Result<()> {
        let mut former = process::below(&self.dir)?;
        former.retain(|process| process.config == self.config);
        process::stop(&former);
        Ok(())
    }

    fn note(&self, pid: u32) -> Result<()> {
        let run = Run {
            pid,
            token: self.order.token.clone(),
            restarts: self.order.restarts,
            config: self.config.clone(),
            binary: self.binary.clone(),
        };
        self.folder.note(&self.order.name, &run)
    }

    /// In a process group of its own, so that Ctrl-C does not reach it, and with no pipe that anybody waits for.
    fn spawn(&self) -> Result<Child> {
        let log = open_log(&self.log)?;
        Command::new(self.folder.program(&self.order.name))
            .args(&self.arguments)
            .arg("--config")
            .arg(&self.config)
            .current_dir(self.folder.dir())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.order.name))
    }
}

fn open_log(path: &Path) -> Result<fs::File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| path.display().to_string())
}
