//! How much a value says about a person, and what it may be used for.
use core::fmt;

/// The class of a piece of data. It decides where the data may go; the rules are in `federation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataClass {
    /// Identifies a patient. Never leaves the facility.
    Phi,
    /// Random pseudonyms, none of the 18 identifiers, dates shifted. Never leaves the jurisdiction.
    Pseudonymous,
    /// Counts and statistics over at least 11 people.
    Aggregate,
    /// One facility's masked share of a model update.
    ModelUpdate,
    /// An aggregated model with its privacy spend.
    ModelRelease,
    /// What a device is: kind, model, firmware. Nothing of a patient.
    DeviceMetadata,
    /// What a device is told to do, or to be like. Says how somebody is treated.
    Command,
    /// What a device answers to a command, and how it says that it is set. Says how somebody is treated.
    DeviceReport,
    /// Device software and its signatures.
    Firmware,
    /// Rules, leases and approvals.
    Policy,
    /// Signed heads of audit logs.
    AuditCheckpoint,
}

impl DataClass {
    /// Every class.
    pub const ALL: [Self; 11] = [
        Self::Phi,
        Self::Pseudonymous,
        Self::Aggregate,
        Self::ModelUpdate,
        Self::ModelRelease,
        Self::DeviceMetadata,
        Self::Command,
        Self::DeviceReport,
        Self::Firmware,
        Self::Policy,
        Self::AuditCheckpoint,
    ];

    /// The class's name in policies, audit rows and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Phi => "phi",
            Self::Pseudonymous => "pseudonymous",
            Self::Aggregate => "aggregate",
            Self::ModelUpdate => "model-update",
            Self::ModelRelease => "model-release",
            Self::DeviceMetadata => "device-metadata",
            Self::Command => "command",
            Self::DeviceReport => "device-report",
            Self::Firmware => "firmware",
            Self::Policy => "policy",
            Self::AuditCheckpoint => "audit-checkpoint",
        }
    }

    /// The class of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

impl fmt::Display for DataClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why data is moved (the purpose of GDPR Art. 5(1)(b), the permitted use of 45 CFR 164.506 and 164.512).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Treatment of the patient.
    Care,
    /// Running devices and the mesh.
    Operations,
    /// Learning across patients.
    Research,
    /// Proving what happened.
    Audit,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 4] = [Self::Care, Self::Operations, Self::Research, Self::Audit];

    /// The purpose's name in policies, audit rows and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Care => "care",
            Self::Operations => "operations",
            Self::Research => "research",
            Self::Audit => "audit",
        }
    }

    /// The purpose of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
