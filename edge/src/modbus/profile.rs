//! Device profiles: what the registers of a kind of device mean, as TOML. Every problem is found before a line is opened.
use super::{
    line::Address,
    plan::{Limits, Plan, PlanError, Space, Span as Registers, plan},
};
use crate::config::DeviceConfig;
use node::{
    config::{ConfigError, Problem, Validate},
    quantity::Span,
};
use serde::{Deserialize, Deserializer, de};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::Arc,
};
use types::{Code, Decimal, DeviceKind, Unit};

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
const MAX_POINTS: usize = crate::ingest::Sample::MAX_READINGS;
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
    /// The registers of a store-and-forward device's sample window; without one the device shows states, which the
    /// edge numbers and times itself.
    #[serde(default)]
    pub window: Option<WindowMap>,
    /// The values, in the order of the readings of a sample.
    pub points: Vec<Point>,
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

/// One value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What it measures.
    pub code: Code,
    /// In which unit.
    pub unit: Unit,
    /// Which registers.
    #[serde(default)]
    pub space: Space,
    /// The address of the first one, from 0 as in the frame.
    pub address: u16,
    /// How the registers are read.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Which register of several comes first.
    #[serde(default)]
    pub word_order: Order,
    /// Which byte of a register comes first. The protocol says the most significant; some devices do not.
    #[serde(default)]
    pub byte_order: Order,
    /// One raw unit in the point's unit: `"0.1"` makes 62.8 of 628. Integers only.
    #[serde(default)]
    pub scale: Scale,
    /// The raw integer that means that there is no value.
    #[serde(default)]
    pub no_data: Option<i64>,
    /// The smallest and the largest plausible value. Others are passed on unchanged, with a flag.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
}

/// How registers are read as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One register, unsigned.
    U16,
    /// One register, two's complement.
    I16,
    /// Two registers, unsigned.
    U32,
    /// Two registers, two's complement.
    I32,
    /// Two registers, IEEE 754 single precision.
    F32,
    /// Three registers: mantissa (two's complement, two) and decimal exponent (one), with the markers of
    /// `device-fw/src/registers.rs`.
    Decimal,
}

impl Kind {
    /// How many registers.
    #[must_use]
    pub const fn registers(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::Decimal => 3,
        }
    }

    const fn is_integer(self) -> bool {
        matches!(self, Self::U16 | Self::I16 | Self::U32 | Self::I32)
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The most significant part.
    #[default]
    Big,
    /// The least significant part.
    Little,
}

/// A decimal factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Its digits, 1 to 9999.
    pub mantissa: i64,
    /// Its power of ten, -9 to 9.
    pub exponent: i8,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            mantissa: 1,
            exponent: 0,
        }
    }
}

impl<'de> Deserialize<'de> for Scale {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || de::Error::custom("write a scale as a decimal in quotes, such as \"0.1\"");
        let text = String::deserialize(deserializer)?;
        let decimal: Decimal = text.parse().map_err(|_| wrong())?;
        let (mantissa, exponent) = decimal.to_parts().ok_or_else(wrong)?;
        if !(1..=9_999).contains(&mantissa) || !(-9..=9).contains(&exponent) {
            return Err(wrong());
        }
        Ok(Self { mantissa, exponent })
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
}

impl Point {
    const fn span(&self) -> Registers {
        Registers {
            space: self.space,
            address: self.address,
            count: self.kind.registers(),
        }
    }

    fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        let integer = self.kind.is_integer();
        if !integer && self.scale != Scale::default() {
            found.push(("scale", "only integers have a scale"));
        }
        if !integer && self.no_data.is_some() {
            found.push(("no_data", "only integers have a value that means no data"));
        }
        if self
            .range
            .is_some_and(|[low, high]| !(low.is_finite() && high.is_finite() && low <= high))
        {
            found.push(("range", "the smaller value comes first"));
        }
        if self.code.info().unit != self.unit.as_str() {
            found.push(("unit", "is not the unit of this code"));
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
        if self.points.is_empty() || self.points.len() > MAX_POINTS {
            say("points".into(), "are 1 to 256");
        }
        let max = self.limits.max_read.clamp(1, Limits::PROTOCOL_MAX);
        for (index, point) in self.points.iter().enumerate() {
            for (key, message) in point.problems() {
                say(format!("points[{index}].{key}"), message);
            }
            if plan(
                &[point.span()],
                Limits {
                    max_read: max,
                    max_gap: 0,
                },
            )
            .is_err()
            {
                say(
                    format!("points[{index}].address"),
                    "the registers do not fit into one request",
                );
            }
            if self.window.is_none() && point.kind == Kind::Decimal {
                say(format!("points[{index}].type"), "a decimal needs a window");
            }
        }
        if let Some(window) = &self.window
            && plan(
                &window.spans(),
                Limits {
                    max_read: max,
                    max_gap: 0,
                },
            )
            .is_err()
        {
            say("window".into(), "the registers do not fit into one request");
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
pub fn problems(devices: &[DeviceConfig], profiles: &Profiles) -> Vec<Problem> {
    let (mut found, mut units) = (Vec::new(), BTreeSet::new());
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
        if !(1..=247).contains(&device.unit_id) {
            say("unit_id", "is 1 to 247");
        }
        let address = device.address.as_ref().map(|text| text.parse::<Address>());
        match address {
            Some(Err(error)) => say("address", &error.to_string()),
            Some(Ok(address)) if !units.insert((address.line(), device.unit_id)) => {
                say("unit_id", "another device has this address and unit");
            }
            Some(Ok(_)) | None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests;
