//! Device profiles: what the registers of a kind of device mean, as TOML. Every problem is found before a line is opened.
use super::{
    address::Address,
    device::Device,
    plan::{Limits, Plan, PlanError, Space, Span as Registers, plan},
    point::Point,
    talk::{Barrier, Micros, Pace},
};
use commands::{Table, Write};
use node::{
    config::{ConfigError, Problem, Validate},
    quantity::Span,
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::Arc,
};
use types::DeviceKind;

/// The profiles that come with the product: file name and text. `medmesh up` installs them.
pub const BUILT_IN: &[(&str, &str)] = &[
    (
        "medmesh-monitor.toml",
        include_str!("../../profiles/medmesh-monitor.toml"),
    ),
    ("xy-md02.toml", include_str!("../../profiles/xy-md02.toml")),
    (
        "xy-md02-x100.toml",
        include_str!("../../profiles/xy-md02-x100.toml"),
    ),
    ("sdm630.toml", include_str!("../../profiles/sdm630.toml")),
];

/// Points of a profile at most: they are the readings of one sample.
const MAX_POINTS: usize = ingest::Sample::MAX_READINGS;
/// A profile's file at most, in bytes, is what [`node::config::load`] allows; files in the directory at most.
const MAX_PROFILES: usize = 1_000;

/// How a kind of device is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name in the configuration of devices.
    pub name: String,
    /// Maker and model, for people.
    pub model: String,
    /// How often it is read, mesh time. A device with samples that wait is read again at once.
    pub interval: Span,
    /// How long an answer may take, real time.
    pub timeout: Span,
    /// A last value this old is stale, mesh time.
    pub stale_after: Span,
    /// A value this old when it comes in is historical, mesh time.
    pub late_after: Span,
    /// A device whose heartbeat and clock stand still for so long is frozen, real time.
    #[serde(default = "frozen_after")]
    pub frozen_after: Span,
    /// What the device allows.
    #[serde(default)]
    pub limits: Limits,
    /// What the device needs in time.
    #[serde(default)]
    pub timing: Timing,
    /// The registers of a store-and-forward device's sample window; without one the device shows states, which the
    /// edge numbers and times itself.
    #[serde(default)]
    pub window: Option<WindowMap>,
    /// The values, in the order of the readings of a sample.
    pub points: Vec<Point>,
    /// The commands that the device takes, with what is written for each.
    #[serde(default)]
    pub command: Table,
}

/// What a device needs in time, real time. What is left out is what a plain device needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// No request for so long after a connection was made.
    pub after_connect: Span,
    /// Between the end of an answer and the next request, to whatever unit of the line; 3.5 characters on RTU at least.
    pub between_requests: Span,
    /// Whether the first request of a cycle may be lost, as by a device that sleeps: it is then asked once more at once.
    pub first_request_lost: bool,
    /// Time-outs in a row after which a network connection is given up: 1 gives it up at once, more keep it.
    pub reconnect_after: u32,
    /// No answer comes later than this. Left out: five time-outs, and two seconds at least.
    pub longest_answer: Option<Span>,
    /// On a serial line a copy of an answer comes within this time; 0 when the device and its line never repeat one:
    /// registers that show the same are then read faster. Left out: the time-out, and half a second at most.
    pub copies_within: Option<Span>,
    /// Whether the device may be asked, on a serial line, for a register by the function that the profile does not use:
    /// it shows that no late answer can come any more. If not, a device is left alone for its longest answer time.
    pub barriers: bool,
}

impl Timing {
    /// Connections are kept after one time-out: some devices drop what comes soon after a connect.
    const RECONNECT_AFTER: u32 = 2;
    /// Time-outs in a row that may be asked for.
    const MAX_RECONNECT_AFTER: u32 = 1_000;
    /// A delay or pause at most: others wait for the line meanwhile.
    const MAX_PAUSE: Span = Span::ms(60_000);
    /// Copies come within this time where the profile does not say, in µs.
    const COPIES_WITHIN: Micros = 500_000;
    /// The longest answer time at most: a unit is not asked meanwhile.
    const MAX_ANSWER: Span = Span::ms(600_000);
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            after_connect: Span::ms(0),
            between_requests: Span::ms(0),
            first_request_lost: false,
            reconnect_after: Self::RECONNECT_AFTER,
            longest_answer: None,
            copies_within: None,
            barriers: true,
        }
    }
}

const fn frozen_after() -> Span {
    Span::ms(2_000)
}

/// Input registers of a sample window, by the address of their first register.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowMap {
    /// Fault bits (1 register).
    pub health: u16,
    /// Device time, ms since 1970 (4).
    pub device_time: u16,
    /// Counts while the device's main loop runs (1).
    pub heartbeat: u16,
    /// Changes with the shown sample; read before it (1).
    pub guard_begin: u16,
    /// Epoch (2).
    pub epoch: u16,
    /// Sequence number (4).
    pub seq: u16,
    /// Samples that wait, the shown one too (1).
    pub pending: u16,
    /// Source time, ms since 1970 (4).
    pub time: u16,
    /// The same value as `guard_begin`; read after the sample (1).
    pub guard_end: u16,
    /// Holding registers to which epoch (2) and seq (4) are written to acknowledge.
    pub acknowledge: u16,
}

impl WindowMap {
    /// The registers to read, in the order of [`WindowPlaces`].
    fn spans(&self) -> [Registers; 9] {
        let span = |address, count| Registers {
            space: Space::Input,
            address,
            count,
        };
        [
            span(self.health, 1),
            span(self.device_time, 4),
            span(self.heartbeat, 1),
            span(self.guard_begin, 1),
            span(self.epoch, 2),
            span(self.seq, 4),
            span(self.pending, 1),
            span(self.time, 4),
            span(self.guard_end, 1),
        ]
    }
}

impl Profile {
    /// The requests for everything in the profile: the points' places first, then the window's.
    ///
    /// # Errors
    /// [`PlanError`] when something does not fit into a request; [`Validate`] has found it before.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let window = self.window.iter().flat_map(WindowMap::spans);
        let spans: Vec<Registers> = self.points.iter().map(Point::span).chain(window).collect();
        plan(&spans, self.limits)
    }

    /// What the device needs in time.
    pub(super) fn pace(&self) -> Pace {
        let micros = |span: Span| Micros::try_from(span.0.as_micros()).unwrap_or(Micros::MAX / 4);
        let timeout = micros(self.timeout);
        let longest = self.timing.longest_answer.map(micros);
        Pace {
            timeout,
            after_connect: micros(self.timing.after_connect),
            between_requests: micros(self.timing.between_requests),
            longest_answer: longest.unwrap_or_else(|| (5 * timeout).max(2_000_000)),
            copies_within: self
                .timing
                .copies_within
                .map_or_else(|| timeout.min(Timing::COPIES_WITHIN), micros),
            reconnect_after: self.timing.reconnect_after,
        }
    }

    /// Reads that no request of the plan looks like: of registers that the profile reads, by the other function, or
    /// of numbers of registers that no other request has.
    pub(super) fn barrier(&self, plan: &Plan) -> Option<Barrier> {
        let first = plan.reads.first().filter(|_| self.timing.barriers)?;
        let uses = |space| plan.reads.iter().any(|read| read.space == space);
        let mut spaces = [Space::Holding, Space::Input].into_iter();
        let unused = spaces.find(|space| !uses(*space));
        let space = unused.unwrap_or(Space::Holding);
        let others = plan.reads.iter().filter(|read| read.space == space);
        let address = others.clone().next().unwrap_or(first).address;
        let fits = |count: &u16| u32::from(address) + u32::from(*count) <= 1 << 16;
        let told = self.read_back();
        let counts: Vec<u16> = (1..=self.limits.max_read)
            .filter(fits)
            .filter(|count| others.clone().all(|read| read.count != *count))
            .filter(|count| space != Space::Holding || !told.contains(count))
            .take(Barrier::KINDS)
            .collect();
        (!counts.is_empty()).then_some(Barrier {
            space,
            address,
            counts,
            alone: unused.is_some(),
        })
    }

    /// What commands set of the twin's properties and the device shows afterwards, and the reads of it; nothing where no
    /// request can carry one of them.
    pub(super) fn settings(&self) -> (Vec<Write>, Plan) {
        let entries = self.command.0.iter();
        let entries = entries.filter(|entry| entry.property.is_some());
        let writes = entries.flat_map(|entry| &entry.write);
        let writes = writes.filter(|write| write.read_back && write.parameter.is_some());
        let writes: Vec<Write> = writes.cloned().collect();
        let span = |write: &Write| Registers {
            space: match write.words {
                0 => Space::Coil,
                _ => Space::Holding,
            },
            address: write.address,
            count: u16::from(write.words.max(1)),
        };
        let spans: Vec<Registers> = writes.iter().map(span).collect();
        match plan(&spans, self.limits) {
            Ok(plan) => (writes, plan),
            Err(_) => (
                Vec::new(),
                Plan {
                    reads: Vec::new(),
                    places: Vec::new(),
                },
            ),
        }
    }

    /// How many holding registers are read at once for commands: settings, and what was written.
    fn read_back(&self) -> BTreeSet<u16> {
        let writes = self.command.0.iter().flat_map(|entry| &entry.write);
        let writes = writes.filter(|write| write.read_back && write.words > 0);
        let mut counts: BTreeSet<u16> = writes.map(|write| u16::from(write.words)).collect();
        let (_, settings) = self.settings();
        let reads = settings.reads.iter();
        let reads = reads.filter(|read| read.space == Space::Holding);
        counts.extend(reads.map(|read| read.count));
        counts
    }
}

impl Timing {
    fn problems(&self, timeout: Span) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        for (key, pause) in [
            ("after_connect", self.after_connect),
            ("between_requests", self.between_requests),
            ("copies_within", self.copies_within.unwrap_or(Span::ms(0))),
        ] {
            if pause > Self::MAX_PAUSE {
                found.push((key, "is at most 1m"));
            }
        }
        if !(1..=Self::MAX_RECONNECT_AFTER).contains(&self.reconnect_after) {
            found.push(("reconnect_after", "is 1 to 1000 time-outs"));
        }
        if let Some(longest) = self.longest_answer
            && !(timeout..=Self::MAX_ANSWER).contains(&longest)
        {
            found.push(("longest_answer", "is at least the timeout and at most 10m"));
        }
        found
    }
}

impl Validate for Profile {
    fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut say = |path: String, message: &str| found.push(Problem::new(path, message));
        if !(1..=Limits::PROTOCOL_MAX).contains(&self.limits.max_read) {
            say("limits.max_read".into(), "is 1 to 125 registers");
        }
        for (key, span) in [
            ("interval", self.interval),
            ("timeout", self.timeout),
            ("stale_after", self.stale_after),
            ("late_after", self.late_after),
            ("frozen_after", self.frozen_after),
        ] {
            if span.as_ms() < 1 {
                say(key.into(), "is at least 1ms");
            }
        }
        if !(1..=Limits::PROTOCOL_MAX_BITS).contains(&self.limits.max_read_bits) {
            say("limits.max_read_bits".into(), "is 1 to 2000 bits");
        }
        for (key, message) in self.timing.problems(self.timeout) {
            say(format!("timing.{key}"), message);
        }
        if self.points.is_empty() || self.points.len() > MAX_POINTS {
            say("points".into(), "are 1 to 256");
        }
        let alone = Limits {
            max_gap: 0,
            ..self.limits
        };
        for (index, point) in self.points.iter().enumerate() {
            for (key, message) in point.problems(self.limits, self.window.is_some()) {
                say(format!("points[{index}].{key}"), message);
            }
        }
        if let Some(window) = &self.window
            && plan(&window.spans(), alone).is_err()
        {
            say("window".into(), "the registers do not fit into one request");
        }
        for (path, message) in self.command.problems() {
            say(path, &message);
        }
        for (index, entry) in self.command.0.iter().enumerate() {
            if entry.write.is_empty() {
                let path = format!("command[{index}].write");
                say(
                    path,
                    "is missing: a Modbus device is told by registers or coils",
                );
            }
        }
        found
    }
}

/// The profiles of a facility, by name.
#[derive(Clone, Debug, Default)]
pub struct Profiles(BTreeMap<String, Arc<Profile>>);

impl Profiles {
    /// Reads every `*.toml` file of a directory.
    ///
    /// # Errors
    /// A [`ConfigError`] for each file that cannot be used, with all its problems.
    pub fn load(directory: &Path) -> Result<Self, Vec<ConfigError>> {
        let whole = |message: String| {
            let problems = vec![Problem::new("", message)];
            vec![ConfigError {
                path: directory.to_owned(),
                problems,
            }]
        };
        let listed: io::Result<Vec<_>> = fs::read_dir(directory)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let mut files = listed.map_err(|error| whole(error.to_string()))?;
        files.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        });
        files.sort();
        if files.len() > MAX_PROFILES {
            return Err(whole(format!("holds more than {MAX_PROFILES} profiles")));
        }
        let (mut profiles, mut errors) = (Self::default(), Vec::new());
        for path in files {
            match node::config::load::<Profile>(&path, []) {
                Ok(profile) if profiles.0.contains_key(&profile.name) => {
                    let problems = vec![Problem::new(
                        "name",
                        "another file has a profile of this name",
                    )];
                    errors.push(ConfigError { path, problems });
                }
                Ok(profile) => drop(profiles.insert(profile)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(profiles)
        } else {
            Err(errors)
        }
    }

    /// Adds a profile; an earlier one of the same name is given back.
    pub fn insert(&mut self, profile: Profile) -> Option<Arc<Profile>> {
        self.0.insert(profile.name.clone(), Arc::new(profile))
    }

    /// The profile of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Profile>> {
        self.0.get(name)
    }
}

/// What is wrong with the Modbus side of a facility's devices, with key paths below `devices`.
#[must_use]
pub fn problems(devices: &[Device], profiles: &Profiles) -> Vec<Problem> {
    let (mut found, mut units, mut lines) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    for (index, device) in devices.iter().enumerate() {
        let mut say = |key: &str, message: &str| {
            found.push(Problem::new(format!("devices[{index}].{key}"), message))
        };
        let modbus = matches!(
            device.kind,
            DeviceKind::BedsideMonitor | DeviceKind::ColdChain
        );
        match (&device.profile, &device.address) {
            (None, None) if !modbus => continue,
            (Some(_), Some(_)) => {}
            (None, _) => say(
                "profile",
                "is missing: a device with an address has a profile",
            ),
            (Some(_), None) => say(
                "address",
                "is missing: a device with a profile has an address",
            ),
        }
        if device
            .profile
            .as_ref()
            .is_some_and(|name| profiles.get(name).is_none())
        {
            say("profile", "there is no such profile");
        }
        let address = match device.address.as_ref().map(|text| text.parse::<Address>()) {
            None => continue,
            Some(Err(error)) => {
                say("address", &error.to_string());
                continue;
            }
            Some(Ok(address)) => address,
        };
        // 0 and 255 mean a TCP device itself (Messaging on TCP/IP 1.0b §4.4.2.3); on a serial line 0 is everybody and
        // 248 to 255 are reserved (Serial Line 1.02 §2.2).
        if address.is_rtu() && !(1..=247).contains(&device.unit_id) {
            say("unit_id", "is 1 to 247 on a serial line");
        }
        if lines
            .entry(address.line())
            .or_insert_with(|| address.clone())
            != &address
        {
            say("address", "another device has other settings for this line");
        } else if !units.insert((address.line(), device.unit_id)) {
            say("unit_id", "another device has this address and unit");
        }
    }
    found
}

#[cfg(test)]
mod tests;
