//! Intensive care units, as far as the mesh tells them apart. Not an identifier of 45 CFR 164.514(b)(2): it may travel.

/// The kind of unit where a patient lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CareUnit {
    /// Coronary care unit.
    Coronary,
    /// Cardiac surgery recovery unit.
    CardiacSurgeryRecovery,
    /// Medical intensive care unit.
    Medical,
    /// Surgical intensive care unit.
    Surgical,
}

impl CareUnit {
    /// The system of its codes.
    pub const SYSTEM: &'static str = "urn:medmesh:care-unit";
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::Coronary,
        Self::CardiacSurgeryRecovery,
        Self::Medical,
        Self::Surgical,
    ];

    /// Its code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coronary => "CCU",
            Self::CardiacSurgeryRecovery => "CSRU",
            Self::Medical => "MICU",
            Self::Surgical => "SICU",
        }
    }

    /// The kind of that code.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == text)
    }
}
