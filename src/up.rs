//! `medmesh up`: a whole mesh on this machine. Every node is a process of its own, so that one can be killed; this
//! process makes the identities and the configuration, starts the others, restarts what dies, and shows a live table.
mod addresses;
pub(crate) mod config;
mod console;
mod engines;
pub(crate) mod files;
pub(crate) mod identity;
mod mesh_json;
mod mesh_time;
pub mod metrics;
pub(crate) mod plan;
mod ports;
pub(crate) mod process;
mod summary;
mod watch;

use crate::{cli::UpArgs, failure::Failure, https::Https};
use addresses::Addresses;
use anyhow::{Context, Result, bail};
use config::{Configs, Replay};
use console::Console;
use device_fw::sim::Survey;
use engines::Engines;
use mesh_time::Remembered;
use node::{clock::Clock, config::LogConfig, shutdown, telemetry};
use plan::{Extent, Plan};
use ports::Ports;
use process::Process;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use types::{Jurisdiction, MeshClock, Place};
use watch::Watch;

/// Events of the processes that wait to be seen; each process has at most two at a time.
const EVENTS: usize = 64;

/// Runs the command.
pub async fn run(args: UpArgs) -> Result<(), Failure> {
    let begin = Instant::now();
    telemetry::init_logs(&LogConfig {
        filter: "warn".to_owned(),
        json: false,
    })?;
    let stop = shutdown::on_signals()?;
    Ok(mesh(args, begin, stop).await?)
}

async fn mesh(args: UpArgs, begin: Instant, stop: CancellationToken) -> Result<()> {
    let dir = open_dir(&args.dir)?;
    let _lock = lock(&dir)?;
    let extent = Extent {
        jurisdictions: jurisdictions(&args.regions),
        facilities: args.facilities,
        beds: args.beds,
        pairs: args.pairs,
    };
    let plan = Plan::new(dir, &extent)?;
    let devices: usize = plan
        .facilities()
        .map(|(_, facility)| facility.devices.len())
        .sum();
    let nodes = plan.places().len();
    let console = Console::new(devices + 2 * nodes);
    let prepared = Prepared::new(plan, &args, &console).await?;

    let (sender, mut events) = mpsc::channel(EVENTS);
    let mut kept = JoinSet::new();
    let end = CancellationToken::new();
    for (index, process) in prepared.processes.iter().enumerate() {
        kept.spawn(process::keep(
            index,
            process.clone(),
            sender.clone(),
            end.clone(),
        ));
    }
    drop(sender);
    let renewing = tokio::spawn(renew(prepared.plan.clone(), end.clone()));
    let mut watch = Watch::new(prepared, console, begin, args.duration)?;
    let result = watch.until(&stop, &mut events).await;
    watch.stopping();
    end.cancel();
    while kept.join_next().await.is_some() {}
    renewing.abort();
    watch.stopped();
    result.and(watch.summary())
}

/// How often certificates and the revocation list are looked at: both are replaced weeks before they end.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);

/// Replaces what ends soon; the nodes read it again by themselves.
async fn renew(plan: Plan, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
        let plan = plan.clone();
        let renewed = tokio::task::spawn_blocking(move || {
            identity::prepare(&plan, Clock::new(None).real(), || ())
        });
        match renewed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "certificates cannot be renewed"),
            Err(_) => return,
        }
    }
}

/// Each once, in the order of [`Jurisdiction::ALL`], however they were given.
fn jurisdictions(asked: &[Jurisdiction]) -> Vec<Jurisdiction> {
    let all = Jurisdiction::ALL.into_iter();
    all.filter(|one| asked.contains(one)).collect()
}

/// Everything in the folder is this user's alone, but for the authority's certificate.
fn open_dir(dir: &Path) -> Result<PathBuf> {
    let at = || dir.display().to_string();
    storage::private::make_private();
    let is_certificate = |path: &Path| path.ends_with("pki/ca.pem");
    storage::private::claim_except(dir, &is_certificate).with_context(at)?;
    fs::canonicalize(dir).with_context(at)
}

/// Two meshes in one folder would share identities and stores.
fn lock(dir: &Path) -> Result<File> {
    let file = File::create(dir.join("up.lock"))?;
    if file.try_lock().is_err() {
        bail!("another `medmesh up` runs in {}", dir.display());
    }
    Ok(file)
}

/// A mesh that is ready to be started.
struct Prepared {
    plan: Plan,
    addresses: Addresses,
    clock: MeshClock,
    replay: Option<String>,
    /// What is in the data that is replayed.
    survey: Survey,
    /// The nodes in the order of [`Plan::places`], then the devices of each facility, then the second nodes of regions.
    processes: Vec<Process>,
    https: Https,
}

impl Prepared {
    async fn new(plan: Plan, args: &UpArgs, console: &Console) -> Result<Self> {
        let dir = &plan.dir;
        let _none_yet = fs::remove_file(mesh_json::file(dir));
        let real = Clock::new(None).real();
        console.stage("identities");
        identity::prepare(&plan, real, || console.step())?;
        let clients = plan::CLIENTS.map(|client| identity::client(&plan, client));
        let clients = clients.into_iter().collect::<Result<_>>()?;

        console.stage("configuration");
        let engines = Engines::new(&plan, args)?;
        engines.prepare(&plan).await?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a seed"
        )]
        let seed = real.0 as u16;
        let addresses = Addresses::choose(&plan, Ports::open(ports::file(dir), seed)?)?;
        let files = args.replay.as_deref();
        let files = files.map(|path| Replay::of(path, args.outcomes.as_deref()));
        let files = files.transpose()?;
        let replay = files.as_ref().map(|files| replay_name(files, args));
        let remembered = mesh_time::read(dir)?;
        let clock = mesh_time::next(remembered.as_ref(), real, args.speed.0, replay.as_deref());
        let sources = config::sources(&plan, files.as_ref(), args.stays)?;
        let survey = summary::survey(&plan, &sources)?;
        Configs {
            plan: &plan,
            addresses: &addresses,
            clock,
            sources,
            clients,
            engines: &engines,
            retention: args.retention,
            traces: args.otlp.clone().map(|otlp| (otlp, args.trace_ratio)),
        }
        .write()?;
        Ok(Self {
            https: Https::new(&plan.pki_dir().join("ca.pem"))?,
            processes: processes(&plan),
            addresses,
            clock,
            replay,
            survey,
            plan,
        })
    }

    fn remember(&self) -> Result<()> {
        let remembered = Remembered {
            clock: self.clock,
            last: self.clock.at(Clock::new(None).real()),
            replay: self.replay.clone(),
        };
        mesh_time::note(&self.plan.dir, &remembered)
    }
}

/// What makes a replay the same replay: its files, number of stays, and which beds share them.
fn replay_name(files: &Replay, args: &UpArgs) -> String {
    let outcomes = files.outcomes.as_ref();
    let outcomes = outcomes.map(|path| format!(" {}", path.display()));
    format!(
        "{} {:?} {:?} {} {}{}",
        files.path.display(),
        args.stays,
        jurisdictions(&args.regions),
        args.facilities,
        args.beds,
        outcomes.unwrap_or_default(),
    )
}

fn processes(plan: &Plan) -> Vec<Process> {
    let process = |name: String, command: &[&str], config: PathBuf, log: PathBuf| Process {
        name,
        args: command
            .iter()
            .map(|word| (*word).to_owned())
            .chain(["--config".to_owned(), config.display().to_string()])
            .collect(),
        log,
    };
    let node = |place: &Place| {
        let dir = plan.node_dir(place);
        let tier = place.tier().to_string();
        let config = config::node_file(&dir, place);
        process(label(place), &[&tier], config, dir.join("node.log"))
    };
    let devices = |place: Place| {
        let dir = plan.node_dir(&place);
        let name = format!("devices of {}", label(&place));
        let config = config::devices_file(&dir);
        process(
            name,
            &["device", "simulate"],
            config,
            dir.join("devices.log"),
        )
    };
    let mut all: Vec<Process> = plan.places().iter().map(node).collect();
    all.extend(
        plan.facilities()
            .map(|(region, facility)| devices(region.edge(facility))),
    );
    let second = |region: &plan::Region| {
        let dir = plan.node_dir(&region.place());
        let name = format!("{} (b)", label(&region.place()));
        let config = config::second_file(&dir);
        process(name, &["regional"], config, dir.join("node-b.log"))
    };
    let of_two = plan.regions.iter().filter(|_| plan.pairs);
    all.extend(of_two.map(second));
    all
}

/// What people call a node: `edge us-f1`, `regional us`, `global`.
fn label(place: &Place) -> String {
    match place {
        Place::Edge { facility, .. } => format!("edge {}", facility.as_str()),
        Place::Regional { region, .. } => format!("regional {}", region.as_str()),
        Place::Global => "global".to_owned(),
    }
}
