//! The shell around the pollers: one task per device, one line per connection or serial bus, real time and journal.
use super::{
    Observer,
    address::{Address, InvalidAddress},
    condition::{Condition, Conditions},
    decode::Decoder,
    device::Device,
    line::Line,
    plan::PlanError,
    poll::{Input, Now, Poller, Step},
    profile::Profiles,
    settings::{self, Settings},
    talk::{Answer, Pace, Question},
    wire::Ask,
    writes::{self, Told, What, Writes},
};
use bytes::Bytes;
use commands::Reason;
use ingest::{Journal, Sample};
use node::{
    clock::Clock,
    trace::{self, Name},
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use types::DeviceId;

/// The first read of a device is delayed by up to this long, so that a facility's devices are not all asked at once.
const SPREAD: Duration = Duration::from_millis(50);

/// What the Modbus side of a facility needs.
#[derive(Clone)]
pub struct Bridge {
    /// The facility's devices; those without an address are not Modbus devices and are left alone.
    pub devices: Vec<Device>,
    /// The profiles they name.
    pub profiles: Profiles,
    /// Where samples become durable.
    pub journal: Arc<dyn Journal>,
    /// Real and mesh time.
    pub clock: Clock,
    /// The number of this start of the edge, larger than every earlier one: the epoch of devices without a counter.
    pub boot: u32,
    /// Is told what is seen.
    pub observer: Arc<dyn Observer>,
    /// Which devices do not answer.
    pub conditions: Arc<Conditions>,
    /// What devices are told besides.
    pub writes: Writes,
}

/// Why the Modbus side does not run.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A device names a profile that is not there.
    #[error("device {device}: there is no profile {profile}")]
    Profile {
        /// The device.
        device: DeviceId,
        /// The profile.
        profile: String,
    },
    /// The address of a device.
    #[error("device {device}: {source}")]
    Address {
        /// The device.
        device: DeviceId,
        /// What is wrong.
        #[source]
        source: InvalidAddress,
    },
    /// A profile that cannot be planned.
    #[error("device {device}: {source}")]
    Plan {
        /// The device.
        device: DeviceId,
        /// What is wrong.
        #[source]
        source: PlanError,
    },
    /// The poller of a device panicked.
    #[error("a poller stopped")]
    Stopped(#[source] JoinError),
}

/// Polls the devices until `stop`.
///
/// # Errors
/// [`BridgeError`] for a configuration that [`super::problems`] would have found, before anything is opened.
pub async fn run(bridge: Bridge, stop: CancellationToken) -> Result<(), BridgeError> {
    let mut lines: HashMap<String, Arc<Line>> = HashMap::new();
    let mut ready = Vec::new();
    for device in &bridge.devices {
        let (Some(name), Some(address)) = (&device.profile, &device.address) else {
            continue;
        };
        let id = device.id.clone();
        let profile = bridge.profiles.get(name).cloned();
        let profile = profile.ok_or_else(|| BridgeError::Profile {
            device: id.clone(),
            profile: name.clone(),
        })?;
        let address: Address = address.parse().map_err(|source| BridgeError::Address {
            device: id.clone(),
            source,
        })?;
        let decoder = Decoder::new(profile).map_err(|source| BridgeError::Plan {
            device: id.clone(),
            source,
        })?;
        let line = lines
            .entry(address.line())
            .or_insert_with(|| Arc::new(Line::new(address, rand::random())))
            .clone();
        ready.push((id, device.unit_id, decoder, line));
    }
    let mut tasks = JoinSet::new();
    for (id, unit, decoder, line) in ready {
        tasks.spawn(Driver::new(&bridge, id, unit, decoder, line).drive(stop.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(BridgeError::Stopped)?;
    }
    stop.cancelled().await;
    Ok(())
}

/// Does the steps of one device's poller.
struct Driver {
    device: DeviceId,
    unit: u8,
    pace: Pace,
    /// Whether the device may lose the first request after a pause.
    loses_first: bool,
    poller: Poller,
    line: Arc<Line>,
    journal: Arc<dyn Journal>,
    clock: Clock,
    observer: Arc<dyn Observer>,
    condition: Condition,
    conditions: Arc<Conditions>,
    told: Option<mpsc::Receiver<Told>>,
    writes: Writes,
    settings: Settings,
}

impl Driver {
    fn new(bridge: &Bridge, device: DeviceId, unit: u8, decoder: Decoder, line: Arc<Line>) -> Self {
        let interval_ms = bridge.clock.real_ms(decoder.profile.interval.as_ms());
        Self {
            pace: decoder.profile.pace(),
            loses_first: decoder.profile.timing.first_request_lost,
            settings: Settings::of(&decoder.profile),
            poller: Poller::new(device.clone(), Arc::new(decoder), interval_ms, bridge.boot),
            unit,
            line,
            journal: bridge.journal.clone(),
            clock: bridge.clock,
            observer: bridge.observer.clone(),
            condition: Condition::default(),
            conditions: bridge.conditions.clone(),
            told: bridge.writes.take(&device),
            writes: bridge.writes.clone(),
            device,
        }
    }

    async fn drive(mut self, stop: CancellationToken) {
        let mut step = Step::Wait(SPREAD.mul_f64(rand::random()));
        let mut notices = Vec::new();
        let mut told = self.told.take();
        let is_told = told.is_some();
        // When the first request went out for what is read now.
        let mut asked = None;
        loop {
            if matches!(step, Step::Ask(_)) {
                self.before_asking(&mut told).await;
            }
            let until = match step {
                Step::Wait(span) => Some(Instant::now() + span),
                _ => None,
            };
            let is_idle = until.is_some();
            let due = self.settings.due();
            asked = match &step {
                Step::Wait(_) => None,
                _ => asked.or_else(|| Some(Instant::now())),
            };
            let input = tokio::select! {
                // A sample in hand is not lost: the device keeps it until it is acknowledged.
                () = stop.cancelled() => return,
                command = writes::next(&mut told), if is_idle => {
                    self.carry_out(command).await;
                    self.settings.changed(Instant::now());
                    Input::Waited
                }
                () = settings::wait(due), if is_idle && is_told => {
                    self.look().await;
                    // The next cycle begins when it would have.
                    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                    step = Step::Wait(left.unwrap_or_default());
                    continue;
                }
                input = self.perform(step, asked) => input,
            };
            let now = Now {
                mesh: self.clock.mesh(),
                real: self.clock.real(),
                random: rand::random(),
            };
            step = self.poller.step(input, now, &mut notices);
            for notice in notices.drain(..) {
                metrics::counter!("medmesh_modbus_notices_total", "notice" => notice.as_str())
                    .increment(1);
                self.condition.note(&self.device, notice, &self.conditions);
                self.settings.note(notice, Instant::now());
                self.observer.notice(&self.device, now.mesh, notice);
            }
        }
    }

    /// Does what waits before the next request goes out: a device that has always more to read is told, too.
    async fn before_asking(&mut self, told: &mut Option<mpsc::Receiver<Told>>) {
        let Some(commands) = told else {
            return;
        };
        if let Ok(command) = commands.try_recv() {
            self.carry_out(command).await;
            self.settings.changed(Instant::now());
        } else if self.settings.due().is_some_and(|due| due <= Instant::now()) {
            self.look().await;
        }
    }

    /// Writes what the device is told, unless its time ended while it waited for its turn. It stops at what the device does
    /// not confirm.
    async fn carry_out(&self, told: Told) {
        let outcome = self.write_all(&told).await;
        // Who wanted to know is gone only when the node stops; then the command was interrupted.
        let _gone = told.answer.send((told.id, outcome)).await;
    }

    async fn write_all(&self, told: &Told) -> Result<(), Reason> {
        let in_time = || Instant::now() < told.until;
        if !in_time() {
            return Err(Reason::Stale);
        }
        // A device that does not answer a read is told nothing: nobody could say what became of it.
        if !self.is_there().await {
            return Err(Reason::Unreached);
        }
        let requests = self.requests(&told.what).await?;
        if !in_time() {
            return Err(Reason::Stale);
        }
        self.write(&requests).await
    }

    /// The requests that carry it, by what the device shows now where that matters. A device that does not answer, or does not
    /// show it, is told nothing.
    async fn requests(&self, what: &What) -> Result<Vec<writes::Request>, Reason> {
        match what {
            What::Writes(writes) => writes::requests(writes),
            What::Beside(entry, parameters) => {
                let answers = self.read_settings().await.ok_or(Reason::Unreached)?;
                let shown = self.settings.shown(&self.device, &answers);
                let writes = entry.writes_beside(parameters, |write| shown.number(write))?;
                writes::requests(&writes)
            }
        }
    }

    /// Whether the device answers, whatever it says.
    async fn is_there(&self) -> bool {
        match self.poller.first_read() {
            None => true,
            Some(ask) => matches!(
                self.ask_twice(&ask).await,
                Answer::Registers(_) | Answer::Refused(_)
            ),
        }
    }

    /// Reads what the device has of its settings and hands it on. What does not come is looked for with the next look.
    async fn look(&mut self) {
        let answers = self.read_settings().await;
        let was_told = answers.is_some_and(|answers| {
            let shown = self.settings.shown(&self.device, &answers);
            self.writes.show(shown)
        });
        self.settings.looked(was_told, Instant::now());
    }

    /// What the device answers to each read of its settings; none when one of them says nothing of them.
    async fn read_settings(&self) -> Option<Vec<Option<Vec<u16>>>> {
        let mut answers = Vec::new();
        for read in self.settings.reads() {
            let answer = self.ask_twice(&Ask::Read(read)).await;
            answers.push(settings::said(answer)?);
        }
        Some(answers)
    }

    async fn write(&self, requests: &[writes::Request]) -> Result<(), Reason> {
        let mut is_begun = false;
        for (ask, backs) in requests {
            let Some(answer) = self.line.tell(&self.question(ask)).await else {
                return Err(if is_begun {
                    Reason::Interrupted
                } else {
                    Reason::Unreached
                });
            };
            let said = writes::written(&answer);
            if is_begun && said == Err(Reason::OverRange) {
                // A part was written before: as a whole it was not refused.
                return Err(Reason::DeviceFailed);
            }
            is_begun = true;
            said?;
            for (ask, shown) in backs {
                match self.ask(ask).await {
                    Answer::Registers(words) if words == *shown => {}
                    _ => return Err(Reason::NotReadBack),
                }
            }
        }
        Ok(())
    }

    /// Asks for what changes nothing: once more where the device may have lost the request.
    async fn ask_twice(&self, ask: &Ask) -> Answer {
        match self.ask(ask).await {
            Answer::TimedOut if self.loses_first => self.ask(ask).await,
            answer => answer,
        }
    }

    async fn ask(&self, ask: &Ask) -> Answer {
        self.line.ask(&self.question(ask)).await
    }

    const fn question<'a>(&'a self, ask: &'a Ask) -> Question<'a> {
        Question {
            unit: self.unit,
            ask,
            barrier: self.poller.barrier(),
            pace: &self.pace,
        }
    }

    async fn perform(&self, step: Step, asked: Option<Instant>) -> Input {
        match step {
            Step::Ask(ask) => Input::Answer(self.ask(&ask).await),
            Step::Append(sample) => {
                let points = sample.readings.len() as u64;
                let began = asked.unwrap_or_else(Instant::now);
                let storing = self.journal.append(sample);
                let stored = trace::source(Name::ModbusRead, began, storing).await;
                if stored.is_ok() {
                    metrics::counter!("medmesh_modbus_points_total").increment(points);
                }
                Input::Stored(stored)
            }
            Step::Quarantine(reason, sample) => {
                let kept = self
                    .journal
                    .quarantine(&self.device, reason, written_out(&sample))
                    .await;
                Input::Kept(kept.is_ok())
            }
            Step::Wait(time) => {
                tokio::time::sleep(time).await;
                Input::Waited
            }
        }
    }
}

/// A sample as text, for the facility's own quarantine.
fn written_out(sample: &Sample) -> Bytes {
    Bytes::from(format!("{sample:?}"))
}
