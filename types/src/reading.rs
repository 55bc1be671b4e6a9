//! One reading of one device: its identity, its value or the reason why there is none, and what is to be known of it.
use crate::{Decimal, DeviceId};
use core::fmt;

/// What makes a reading itself. The same key with another payload is refused.
///
/// An epoch begins when a device's sample counter restarts. Order holds by (epoch, sequence, index) within a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadingKey {
    /// The device within its facility.
    pub device: DeviceId,
    /// The run of the device's sample counter.
    pub epoch: u32,
    /// The sample within the epoch.
    pub seq: u64,
    /// The reading within the sample.
    pub index: u16,
}

/// A measured value, or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// A number, with the precision that the device gave it.
    Quantity(Decimal),
    /// No value.
    Absent(AbsentReason),
}

/// Why there is no value (FHIR R4 `Observation.dataAbsentReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AbsentReason {
    /// The device measured and got nothing, as with a lead off: `not-performed` would claim too much, `unknown` is said.
    Unknown,
    /// The device reports an error of its own: `error`.
    Error,
    /// The device could be reached but the value is no longer fresh: `temp-unknown`.
    Stale,
}

impl AbsentReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Error, Self::Stale];

    /// The code of `http://terminology.hl7.org/CodeSystem/data-absent-reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Error => "error",
            Self::Stale => "temp-unknown",
        }
    }

    /// The reason of that code.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// What a reader must know of a reading: a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// Nothing to know.
    pub const NONE: Self = Self(0);
    /// Outside the valid range of the device's profile. Passed on unchanged, kept out of scores and control.
    pub const IMPLAUSIBLE: Self = Self(1);
    /// Taken while the facility's clock was not trusted, or by a clock far ahead of it ([`crate::Freshness::is_ahead`]).
    pub const CLOCK_UNTRUSTED: Self = Self(2);
    /// Delivered later than its freshness limit: true of its time, no longer of now.
    pub const HISTORICAL: Self = Self(4);

    /// Outside what is plausible for its code, whatever device measured it. Passed on unchanged, kept out of scores and
    /// control.
    pub const IMPLAUSIBLE_FOR_CODE: Self = Self(8);

    const KNOWN: u8 = 15;

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags of these bits; none when a bit is unknown.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::KNOWN == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What goes first when a link is scarce. Order holds within (device, priority).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Alarms: a reserve of the disk is kept for them.
    Alarm,
    /// Readings taken while the link was up.
    Live,
    /// Readings taken while the link was down.
    Backlog,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Alarm, Self::Live, Self::Backlog];

    /// The priority's name in metrics and audit rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Live => "live",
            Self::Backlog => "backlog",
        }
    }

    /// Its place in [`Priority::ALL`], as stored and sent.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Alarm => 0,
            Self::Live => 1,
            Self::Backlog => 2,
        }
    }

    /// What an array in the order of [`Priority::ALL`] has of this priority.
    #[must_use]
    pub const fn of<T>(self, ranked: &[T; 3]) -> &T {
        let [alarm, live, backlog] = ranked;
        match self {
            Self::Alarm => alarm,
            Self::Live => live,
            Self::Backlog => backlog,
        }
    }

    /// [`Priority::of`], to change it.
    #[must_use]
    pub const fn of_mut<T>(self, ranked: &mut [T; 3]) -> &mut T {
        let [alarm, live, backlog] = ranked;
        match self {
            Self::Alarm => alarm,
            Self::Live => live,
            Self::Backlog => backlog,
        }
    }

    /// The priority of that rank.
    #[must_use]
    pub fn from_rank(rank: u8) -> Option<Self> {
        Self::ALL.get(usize::from(rank)).copied()
    }
}

/// What a device is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// Vital signs at a bed, by Modbus.
    BedsideMonitor,
    /// Temperature and humidity of a store of medicines, by Modbus.
    ColdChain,
    /// Laboratory values, scores, urine and ventilation, by MQTT.
    LabAnalyser,
    /// Enrolled and allowed to publish, driven by nobody of ours.
    External,
}

impl DeviceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::BedsideMonitor,
        Self::ColdChain,
        Self::LabAnalyser,
        Self::External,
    ];

    /// The kind's name in configuration and in the catalog.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BedsideMonitor => "bedside-monitor",
            Self::ColdChain => "cold-chain",
            Self::LabAnalyser => "lab-analyser",
            Self::External => "external",
        }
    }

    /// Whether such a device measures patients: when it does so, and when it does not, says something of them.
    #[must_use]
    pub const fn serves_patients(self) -> bool {
        match self {
            Self::BedsideMonitor | Self::LabAnalyser | Self::External => true,
            Self::ColdChain => false,
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a device is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceStatus {
    /// It reports.
    Active,
    /// It is enrolled and does not report.
    Silent,
    /// It is no longer in use.
    Retired,
}

impl DeviceStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Active, Self::Silent, Self::Retired];

    /// The status's name in the catalog and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Silent => "silent",
            Self::Retired => "retired",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
