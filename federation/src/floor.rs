//! The floor of the residency rules: which class of data may go which way and for what, as one total function.
//!
//! No configuration reaches it. Cedar policies ([`crate::policy`]) stand on top and can only tighten. There is no
//! `_` arm: a new class, tier or purpose does not compile until somebody decides it here.

use types::{DataClass, Place, Purpose};

/// Why a flow is refused: a closed set of words for receipts, audit rows and metrics. It holds no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("refused: {}", self.reason())]
pub enum Refusal {
    /// Protected health information never leaves its facility (45 CFR 164.502(a), GDPR Art. 5(1)(f)).
    PhiStaysInFacility,
    /// Patient-level data never leaves the jurisdiction (GDPR Art. 44).
    OtherJurisdiction,
    /// A facility speaks with the regional node of its own region only.
    OtherRegion,
    /// There is no link between these tiers: facilities do not speak with each other or with the global node.
    NoLink,
    /// Sender and receiver are the same place: nothing is sent.
    SamePlace,
    /// The receiver's tier may not hold, or the sender's tier does not make, data of this class.
    WrongTier,
    /// Data of this class is not moved for this purpose.
    WrongPurpose,
    /// The floor allows it, a Cedar policy does not.
    Policy,
    /// A Cedar policy could not be evaluated: that is never a yes.
    PolicyError,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 9] = [
        Self::PhiStaysInFacility,
        Self::OtherJurisdiction,
        Self::OtherRegion,
        Self::NoLink,
        Self::SamePlace,
        Self::WrongTier,
        Self::WrongPurpose,
        Self::Policy,
        Self::PolicyError,
    ];

    /// The word for receipts, audit rows and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::PhiStaysInFacility => "phi-stays-in-facility",
            Self::OtherJurisdiction => "other-jurisdiction",
            Self::OtherRegion => "other-region",
            Self::NoLink => "no-link",
            Self::SamePlace => "same-place",
            Self::WrongTier => "wrong-tier",
            Self::WrongPurpose => "wrong-purpose",
            Self::Policy => "policy",
            Self::PolicyError => "policy-error",
        }
    }
}

/// The ways that exist between places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    FacilityToRegion,
    RegionToFacility,
    /// Between two regions of one jurisdiction.
    RegionToSibling,
    /// Between regions of two jurisdictions.
    RegionAbroad,
    RegionToGlobal,
    GlobalToRegion,
}

impl Way {
    fn between(from: &Place, to: &Place) -> Result<Self, Refusal> {
        match (from, to) {
            (Place::Edge { .. }, Place::Regional { .. }) => {
                own_region(from, to).map(|()| Self::FacilityToRegion)
            }
            (Place::Regional { .. }, Place::Edge { .. }) => {
                own_region(from, to).map(|()| Self::RegionToFacility)
            }
            (Place::Regional { .. }, Place::Regional { .. }) => {
                if from == to {
                    Err(Refusal::SamePlace)
                } else if from.jurisdiction() == to.jurisdiction() {
                    Ok(Self::RegionToSibling)
                } else {
                    Ok(Self::RegionAbroad)
                }
            }
            (Place::Regional { .. }, Place::Global) => Ok(Self::RegionToGlobal),
            (Place::Global, Place::Regional { .. }) => Ok(Self::GlobalToRegion),
            (Place::Global, Place::Global) => Err(Refusal::SamePlace),
            (Place::Edge { .. }, Place::Edge { .. }) if from == to => Err(Refusal::SamePlace),
            (Place::Edge { .. }, Place::Edge { .. } | Place::Global)
            | (Place::Global, Place::Edge { .. }) => Err(Refusal::NoLink),
        }
    }
}

fn own_region(one: &Place, other: &Place) -> Result<(), Refusal> {
    if one.jurisdiction() != other.jurisdiction() {
        Err(Refusal::OtherJurisdiction)
    } else if one.region() != other.region() {
        Err(Refusal::OtherRegion)
    } else {
        Ok(())
    }
}

/// The floor: whether data of a class may go from one place to another for a purpose.
///
/// # Errors
/// The [`Refusal`], the first that applies.
pub fn decide(class: DataClass, from: &Place, to: &Place, purpose: Purpose) -> Result<(), Refusal> {
    if matches!(class, DataClass::Phi) {
        return Err(Refusal::PhiStaysInFacility);
    }
    let way = Way::between(from, to)?;
    permit_way(class, way)?;
    permit_purpose(class, way, purpose)
}

/// Who makes a class and who may hold it: the table of ARCHITECTURE.md, "Classes of data".
fn permit_way(class: DataClass, way: Way) -> Result<(), Refusal> {
    match (class, way) {
        (DataClass::Phi, _) => Err(Refusal::PhiStaysInFacility),
        // Facilities make it, regions of the same jurisdiction may hold it. Nothing patient-level goes back down:
        // a facility has no right to another facility's patients.
        (DataClass::Pseudonymous, Way::FacilityToRegion | Way::RegionToSibling) => Ok(()),
        (DataClass::Pseudonymous, Way::RegionAbroad) => Err(Refusal::OtherJurisdiction),
        (
            DataClass::Pseudonymous,
            Way::RegionToFacility | Way::RegionToGlobal | Way::GlobalToRegion,
        ) => Err(Refusal::WrongTier),
        // Regions make it over at least 11 people; one facility alone is too few to hide in.
        (
            DataClass::Aggregate,
            Way::RegionToSibling | Way::RegionAbroad | Way::RegionToGlobal | Way::GlobalToRegion,
        ) => Ok(()),
        (DataClass::Aggregate, Way::FacilityToRegion | Way::RegionToFacility) => {
            Err(Refusal::WrongTier)
        }
        // A masked share means something only in the sum that its own region makes.
        (DataClass::ModelUpdate, Way::FacilityToRegion) => Ok(()),
        (DataClass::ModelUpdate, Way::RegionAbroad) => Err(Refusal::OtherJurisdiction),
        (
            DataClass::ModelUpdate,
            Way::RegionToFacility
            | Way::RegionToSibling
            | Way::RegionToGlobal
            | Way::GlobalToRegion,
        ) => Err(Refusal::WrongTier),
        // A device is told what to do by the region of its facility alone: no command comes from further away, and none
        // goes past a facility or between regions.
        (DataClass::Command, Way::RegionToFacility) => Ok(()),
        // What a device says of itself tells how the patient at it is treated, so it goes no further than their data.
        (DataClass::DeviceReport, Way::FacilityToRegion) => Ok(()),
        (DataClass::Command | DataClass::DeviceReport, Way::RegionAbroad) => {
            Err(Refusal::OtherJurisdiction)
        }
        (
            DataClass::Command,
            Way::FacilityToRegion
            | Way::RegionToSibling
            | Way::RegionToGlobal
            | Way::GlobalToRegion,
        )
        | (
            DataClass::DeviceReport,
            Way::RegionToFacility
            | Way::RegionToSibling
            | Way::RegionToGlobal
            | Way::GlobalToRegion,
        ) => Err(Refusal::WrongTier),
        // Models are released by regions and the global node, firmware comes down: a facility makes neither.
        (DataClass::ModelRelease | DataClass::Firmware, Way::FacilityToRegion) => {
            Err(Refusal::WrongTier)
        }
        (
            DataClass::ModelRelease | DataClass::Firmware,
            Way::RegionToFacility
            | Way::RegionToSibling
            | Way::RegionAbroad
            | Way::RegionToGlobal
            | Way::GlobalToRegion,
        )
        | (DataClass::DeviceMetadata | DataClass::Policy | DataClass::AuditCheckpoint, _) => Ok(()),
    }
}

/// What a class may be moved for (GDPR Art. 5(1)(b), purpose limitation; 45 CFR 164.502(b), minimum necessary).
fn permit_purpose(class: DataClass, way: Way, purpose: Purpose) -> Result<(), Refusal> {
    let permitted = match (class, purpose) {
        (DataClass::Phi, _) => false,
        // Treatment of the patient whose data it is (45 CFR 164.506(c)(2), GDPR Art. 9(2)(h)).
        (DataClass::Pseudonymous, Purpose::Care) => true,
        // Equipment readings (a store of medicines, a device at no bed) travel in the same message, and
        // 45 CFR 164.506(c)(4) permits quality assessment; only upwards, to the own region.
        (DataClass::Pseudonymous, Purpose::Operations) => matches!(way, Way::FacilityToRegion),
        // Research learns from masked model updates and aggregates; audit rows hold digests. Neither moves a reading.
        (DataClass::Pseudonymous, Purpose::Research | Purpose::Audit) => false,
        // Supply, planning and science. A patient is treated by their own data; audit needs none of it.
        (DataClass::Aggregate, Purpose::Operations | Purpose::Research) => true,
        (DataClass::Aggregate, Purpose::Care | Purpose::Audit) => false,
        // Learning is all that a masked share can serve.
        (DataClass::ModelUpdate, Purpose::Research) => true,
        (DataClass::ModelUpdate, Purpose::Care | Purpose::Operations | Purpose::Audit) => false,
        // A released model is used in care, watched in operation, improved in research and audited for provenance.
        (
            DataClass::ModelRelease,
            Purpose::Care | Purpose::Operations | Purpose::Research | Purpose::Audit,
        ) => true,
        // What runs the mesh is moved to run it and to prove how it ran. Kept out of care and research, so that
        // the catalog's device ids never stand beside clinical pseudonyms.
        (
            DataClass::DeviceMetadata | DataClass::Firmware | DataClass::Policy,
            Purpose::Operations | Purpose::Audit,
        ) => true,
        (
            DataClass::DeviceMetadata | DataClass::Firmware | DataClass::Policy,
            Purpose::Care | Purpose::Research,
        ) => false,
        // Commands run devices, and what became of them is proof. Neither is moved to treat anybody by it elsewhere, nor
        // to learn from it.
        (DataClass::Command | DataClass::DeviceReport, Purpose::Operations | Purpose::Audit) => {
            true
        }
        (DataClass::Command | DataClass::DeviceReport, Purpose::Care | Purpose::Research) => false,
        // A signed head proves; it does nothing else.
        (DataClass::AuditCheckpoint, Purpose::Audit) => true,
        (DataClass::AuditCheckpoint, Purpose::Care | Purpose::Operations | Purpose::Research) => {
            false
        }
    };
    if permitted {
        Ok(())
    } else {
        Err(Refusal::WrongPurpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap()
    }

    #[test]
    fn phi_goes_nowhere() {
        for from in ["edge/us/us/f1", "regional/us/us", "global"] {
            for to in ["edge/us/us/f2", "regional/us/us", "global"] {
                for purpose in Purpose::ALL {
                    assert_eq!(
                        decide(DataClass::Phi, &place(from), &place(to), purpose),
                        Err(Refusal::PhiStaysInFacility)
                    );
                }
            }
        }
    }

    #[test]
    fn an_eu_facility_reaches_its_own_region_and_no_other() {
        for (to, expected) in [
            ("regional/eu/eu", Ok(())),
            ("regional/eu/eu-north", Err(Refusal::OtherRegion)),
            ("regional/us/us", Err(Refusal::OtherJurisdiction)),
            ("regional/us/eu", Err(Refusal::OtherJurisdiction)),
            ("edge/eu/eu/eu-f2", Err(Refusal::NoLink)),
            ("edge/eu/eu/eu-f1", Err(Refusal::SamePlace)),
            ("global", Err(Refusal::NoLink)),
        ] {
            let from = place("edge/eu/eu/eu-f1");
            let decided = decide(DataClass::Pseudonymous, &from, &place(to), Purpose::Care);
            assert_eq!(decided, expected, "{to}");
        }
    }

    #[test]
    fn a_command_goes_from_a_region_to_its_own_facility_alone_and_its_answer_back() {
        let (facility, region) = (place("edge/eu/eu/eu-f1"), place("regional/eu/eu"));
        let operations = Purpose::Operations;
        let places = [
            "edge/eu/eu/eu-f1",
            "edge/eu/eu/eu-f2",
            "edge/eu/eu-north/f1",
            "edge/us/us/us-f1",
            "regional/eu/eu",
            "regional/eu/eu-north",
            "regional/us/us",
            "global",
        ]
        .map(place);
        for from in &places {
            for to in &places {
                let down = decide(DataClass::Command, from, to, operations);
                let own = matches!(to, Place::Edge { .. })
                    && from.jurisdiction() == to.jurisdiction()
                    && from.region() == to.region();
                let is_region = matches!(from, Place::Regional { .. });
                assert_eq!(down.is_ok(), own && is_region, "{from} {to}");
                let up = decide(DataClass::DeviceReport, to, from, operations);
                assert_eq!(up.is_ok(), down.is_ok(), "{to} {from}");
            }
        }
        for purpose in [Purpose::Care, Purpose::Research] {
            let decided = decide(DataClass::Command, &region, &facility, purpose);
            assert_eq!(decided, Err(Refusal::WrongPurpose));
        }
    }

    #[test]
    fn patient_level_data_never_reaches_the_global_node_or_another_jurisdiction() {
        for class in [
            DataClass::Phi,
            DataClass::Pseudonymous,
            DataClass::ModelUpdate,
        ] {
            for purpose in Purpose::ALL {
                for to in ["global", "regional/us/us", "edge/us/us/us-f1"] {
                    for from in ["edge/eu/eu/eu-f1", "regional/eu/eu"] {
                        assert!(decide(class, &place(from), &place(to), purpose).is_err());
                    }
                }
            }
        }
    }
}
