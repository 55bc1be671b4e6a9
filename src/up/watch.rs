//! The mesh while it runs: which processes there are, what their metrics say, and what a person is told.
use super::{
    Prepared,
    addresses::second,
    config::done_file,
    console::{Console, Row},
    label,
    mesh_json::MeshJson,
    metrics::{Figures, Snapshot},
    process::{Event, log_end},
};
use anyhow::{Result, bail};
use node::{clock::Clock, config::EXIT_CODE, quantity::Span};
use std::{
    collections::{BTreeMap, VecDeque},
    process::ExitStatus,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use types::Place;

/// How often the nodes are asked: for readiness, then for metrics.
const TICK: Duration = Duration::from_millis(250);
/// How often the table is shown on a terminal.
const TABLE_EVERY: Duration = Duration::from_secs(1);
/// How often a plain line is written elsewhere.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Rates and quantiles are of so many tables back.
const WINDOW: usize = 10;
/// A start that takes longer has failed.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A mesh that runs.
pub struct Watch {
    mesh: Prepared,
    console: Console,
    begin: Instant,
    limit: Option<Span>,
    places: Vec<Place>,
    /// By index of the process.
    pids: BTreeMap<usize, u32>,
    /// Nodes that have been ready once.
    ready: Vec<bool>,
    serving: bool,
    replaying: bool,
    shown: Instant,
    /// Snapshots of each region, the oldest first.
    history: VecDeque<(Instant, Vec<Snapshot>)>,
}

impl Watch {
    /// A mesh whose processes are being started.
    pub fn new(
        mesh: Prepared,
        console: Console,
        begin: Instant,
        limit: Option<Span>,
    ) -> Result<Self> {
        mesh.remember()?;
        console.stage("processes");
        let places = mesh.plan.places();
        Ok(Self {
            ready: vec![false; places.len()],
            places,
            replaying: mesh.replay.is_some(),
            mesh,
            console,
            begin,
            limit,
            pids: BTreeMap::new(),
            serving: false,
            shown: begin,
            history: VecDeque::new(),
        })
    }

    /// Says what became of a replay, at the end.
    ///
    /// # Errors
    /// A row of it was left out.
    pub fn summary(&self) -> Result<()> {
        super::summary::say(&self.mesh, |text| self.console.say(text))
    }

    /// Watches until `stop` or the end of the time given.
    pub async fn until(
        &mut self,
        stop: &CancellationToken,
        events: &mut mpsc::Receiver<Event>,
    ) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(event) = events.recv() => self.see(event)?,
                _ = tick.tick() => {
                    if self.limit.is_some_and(|limit| self.begin.elapsed() >= limit.0) {
                        return Ok(());
                    }
                    self.look().await?;
                }
            }
        }
    }

    fn see(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Started { index, pid } => {
                let before = self.pids.insert(index, pid);
                if before.is_some() {
                    let name = &self.mesh.processes[index].name;
                    self.console
                        .say(&format!("{name} was started again, process {pid}"));
                    // Its counters begin again: what is shown is measured from here on.
                    self.history.clear();
                }
                let is_node = index < self.places.len() || index >= self.first_second();
                if self.serving && is_node {
                    self.write_mesh_json()?;
                }
                Ok(())
            }
            Event::Ended { index, status } => self.ended(index, status),
            Event::Failed { index, error } => {
                Err(error.context(self.mesh.processes[index].name.clone()))
            }
        }
    }

    /// A process that has never worked is not started for ever.
    fn ended(&mut self, index: usize, status: ExitStatus) -> Result<()> {
        let process = &self.mesh.processes[index];
        let worked = self.ready.get(index).copied().unwrap_or(self.serving);
        let misconfigured = status.code() == Some(i32::from(EXIT_CODE));
        if misconfigured || (!worked && status.code().is_some()) {
            bail!(
                "{} ended: {status}\n{}",
                process.name,
                log_end(&process.log)
            );
        }
        self.console
            .say(&format!("{} ended: {status}", process.name));
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        if !self.serving {
            return self.look_for_ready().await;
        }
        let every = if self.console.is_terminal() {
            TABLE_EVERY
        } else {
            LINE_EVERY
        };
        if self.shown.elapsed() >= every {
            self.shown = Instant::now();
            self.mesh.remember()?;
            self.show().await;
            self.look_for_end_of_replay();
        }
        Ok(())
    }

    async fn look_for_ready(&mut self) -> Result<()> {
        for index in 0..self.places.len() {
            if !self.ready[index] && self.is_ready(&self.places[index]).await {
                self.ready[index] = true;
                self.console.step();
                self.console
                    .stage_quietly(&format!("{} is ready", label(&self.places[index])));
            }
        }
        let started =
            self.ready.iter().all(|ready| *ready) && self.pids.len() == self.mesh.processes.len();
        if started && self.seconds_are_ready().await {
            self.serving = true;
            self.console.started();
            self.write_mesh_json()?;
            self.welcome()?;
            let first = self.snapshots().await;
            self.history.push_back((Instant::now(), first));
        } else if self.begin.elapsed() > START_LIMIT {
            let missing: Vec<String> = self.missing().map(label).collect();
            bail!(
                "not ready after {} s: {}",
                START_LIMIT.as_secs(),
                missing.join(", ")
            );
        }
        Ok(())
    }

    /// The index of the first process of a second node.
    fn first_second(&self) -> usize {
        let of_two = self
            .mesh
            .plan
            .regions
            .iter()
            .filter(|_| self.mesh.plan.pairs);
        self.mesh.processes.len() - of_two.count()
    }

    async fn seconds_are_ready(&self) -> bool {
        if !self.mesh.plan.pairs {
            return true;
        }
        for region in &self.mesh.plan.regions {
            let Ok(address) = self.mesh.addresses.of(&region.place(), &second("https")) else {
                return false;
            };
            let url = format!("https://{address}/ready");
            if !matches!(self.mesh.https.get(&url).await, Ok((200, _))) {
                return false;
            }
        }
        true
    }

    fn missing(&self) -> impl Iterator<Item = &Place> {
        let all = self.places.iter().zip(&self.ready);
        all.filter(|(_, ready)| !**ready).map(|(place, _)| place)
    }

    async fn is_ready(&self, place: &Place) -> bool {
        let answer = self.get(place, "/ready").await;
        answer.is_some_and(|(status, _)| status == 200)
    }

    async fn get(&self, place: &Place, path: &str) -> Option<(u16, String)> {
        let address = self.mesh.addresses.of(place, "https").ok()?;
        let url = format!("https://{address}{path}");
        self.mesh.https.get(&url).await.ok()
    }

    async fn show(&mut self) {
        let now = Instant::now();
        let snapshots = self.snapshots().await;
        let (then, before) = match self.history.front() {
            Some((then, before)) => (*then, before.clone()),
            None => (now, snapshots.clone()),
        };
        let seconds = now.duration_since(then).as_secs_f64();
        let regions = self.mesh.plan.regions.iter();
        let rows: Vec<Row> = regions
            .zip(before.iter().zip(&snapshots))
            .map(|(region, (before, now))| Row {
                region: region.id.as_str().to_owned(),
                figures: Figures::between(before, now, seconds),
            })
            .collect();
        let mesh_time = self.mesh.clock.at(Clock::new(None).real());
        self.console.table(&rows, mesh_time);
        self.history.push_back((now, snapshots));
        if self.history.len() > WINDOW {
            self.history.pop_front();
        }
    }

    /// What the edges of each region say now. A node that does not answer counts as nothing.
    async fn snapshots(&self) -> Vec<Snapshot> {
        let mut snapshots = Vec::new();
        for region in &self.mesh.plan.regions {
            let mut snapshot = Snapshot::default();
            for facility in &region.facilities {
                if let Some((200, text)) = self.get(&region.edge(facility), "/metrics").await {
                    snapshot.add(&text);
                }
            }
            snapshots.push(snapshot);
        }
        snapshots
    }

    fn look_for_end_of_replay(&mut self) {
        let plan = &self.mesh.plan;
        let over = |(region, facility): (&super::plan::Region, &super::plan::Facility)| {
            done_file(&plan.node_dir(&region.edge(facility))).exists()
        };
        if self.replaying && plan.facilities().all(over) {
            self.replaying = false;
            self.console
                .say("the replay is over; the mesh keeps serving");
        }
    }

    fn write_mesh_json(&self) -> Result<()> {
        let pids = self.places.iter().enumerate();
        let pids = pids.filter_map(|(index, place)| Some((place.clone(), *self.pids.get(&index)?)));
        MeshJson {
            plan: &self.mesh.plan,
            addresses: &self.mesh.addresses,
            pids: pids.collect(),
            seconds: self
                .pids
                .range(self.first_second()..)
                .map(|(_, pid)| *pid)
                .collect(),
        }
        .write()
    }

    fn welcome(&self) -> Result<()> {
        let plan = &self.mesh.plan;
        let facilities = plan.facilities().count();
        let devices: usize = plan.facilities().map(|(_, f)| f.devices.len()).sum();
        self.console.say(&format!(
            "MedMesh is ready after {:.1} s: {} regions, {facilities} facilities, {devices} devices",
            self.begin.elapsed().as_secs_f64(),
            plan.regions.len(),
        ));
        for region in &plan.regions {
            let address = self.mesh.addresses.of(&region.place(), "https")?;
            self.console.say(&format!(
                "  {:<7} https://{address}/fhir",
                region.id.as_str()
            ));
            if plan.pairs {
                let address = self.mesh.addresses.of(&region.place(), &second("https"))?;
                self.console
                    .say(&format!("  {:<7} https://{address}/fhir", ""));
            }
        }
        for (region, facility) in plan.facilities() {
            let address = self.mesh.addresses.of(&region.edge(facility), "https")?;
            let name = facility.id.as_str();
            self.console
                .say(&format!("  {name:<7} https://{address}/fhir"));
        }
        let address = self.mesh.addresses.of(&Place::Global, "https")?;
        self.console
            .say(&format!("  {:<7} https://{address}/api/v1", "global"));
        self.console.say(&format!(
            "  everything else: {}",
            plan.dir.join("mesh.json").display()
        ));
        Ok(())
    }

    /// Says that the mesh is being stopped.
    pub fn stopping(&mut self) {
        self.console.started();
        self.console.clear();
        self.console.say("stopping");
        if let Err(error) = self.mesh.remember() {
            self.console
                .say(&format!("the mesh clock was not noted: {error:#}"));
        }
    }

    /// Says that every process has ended.
    pub fn stopped(&self) {
        self.console.say("stopped");
    }
}
