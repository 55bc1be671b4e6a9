//! The type of a resource: any of R4's.
use crate::r4::R4;
use std::fmt;

/// A resource type of R4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceType(&'static str);

#[expect(non_upper_case_globals, reason = "types are named as FHIR names them")]
impl ResourceType {
    /// A reading, or another observation.
    pub const Observation: Self = Self("Observation");
    /// A pseudonymous patient.
    pub const Patient: Self = Self("Patient");
    /// A pseudonymous device.
    pub const Device: Self = Self("Device");
    /// No type in particular: what concerns every one of them, such as the history of the whole store.
    pub const ANY: Self = Self("*");
    /// The types that facilities deliver to a region, and clients may write too.
    pub const DELIVERED: [Self; 3] = [Self::Observation, Self::Patient, Self::Device];
}

impl ResourceType {
    /// The FHIR name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The type of that FHIR name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let delivered = Self::DELIVERED.into_iter().find(|kind| kind.0 == text);
        delivered.or_else(|| {
            let at = R4.resources().binary_search(&text).ok()?;
            R4.resources().get(at).map(|name| Self(name))
        })
    }

    /// Every type of R4, by name.
    pub fn every() -> impl Iterator<Item = Self> {
        R4.resources().iter().map(|name| Self(name))
    }

    /// What an array in the order of [`ResourceType::DELIVERED`] has of this type; none when facilities deliver no such.
    pub(crate) fn of<T>(self, delivered: &[T; 3]) -> Option<&T> {
        let mut all = Self::DELIVERED.iter().zip(delivered);
        all.find(|(kind, _)| **kind == self).map(|(_, of)| of)
    }

    /// [`ResourceType::of`], to change it.
    pub(crate) fn of_mut<T>(self, delivered: &mut [T; 3]) -> Option<&mut T> {
        let mut all = Self::DELIVERED.iter().zip(delivered);
        all.find(|(kind, _)| **kind == self).map(|(_, of)| of)
    }

    /// Whether facilities deliver resources of this type.
    #[must_use]
    pub fn is_delivered(self) -> bool {
        Self::DELIVERED.contains(&self)
    }

    /// Whether all its resources have the rows of an index, by which every parameter of R4 finds them. Readings, of which
    /// there are many, have columns of their own instead; the Observations that clients write have rows.
    #[must_use]
    pub fn is_indexed(self) -> bool {
        self != Self::Observation
    }

    /// Whether another content that a facility delivers under the same id is a new version; otherwise it is a
    /// conflict. A reading never changes but for being withdrawn once; what is known of a patient or a device does.
    #[must_use]
    pub fn is_versioned(self) -> bool {
        self != Self::Observation
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
