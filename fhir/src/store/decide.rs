//! What every engine does with a resource, given what is stored under its id and who owns that. Pure.
use super::{FhirId, NewResource, ResourceType};
use crate::map::WITHDRAWN;
use serde::Deserialize;

/// What to do with a resource, given what is stored under its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Write it as this version.
    Write(u32),
    /// It is stored already.
    Same,
    /// It is stored already and nobody owned it until now.
    Adopt,
    /// Its id is taken.
    Conflict,
    /// Its id is another source's.
    Foreign,
}

/// What is stored under an id.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub version: u32,
    pub json: String,
    /// The pseudonym of the source that owns the id.
    pub source: Option<String>,
}

impl Known {
    pub(crate) fn is_of_another(&self, source: &str) -> bool {
        self.source.as_ref().is_some_and(|owner| owner != source)
    }
}

/// The one rule of both engines.
pub(crate) fn decide(known: Option<&Known>, new: &NewResource, source: &str) -> Decision {
    match known {
        None => Decision::Write(1),
        Some(known) if known.is_of_another(source) => Decision::Foreign,
        Some(known) if known.json == new.json() && known.source.is_none() => Decision::Adopt,
        Some(known) if known.json == new.json() => Decision::Same,
        // What was withdrawn stays so: the reading itself may come after its withdrawal, or again.
        Some(known) if is_withdrawn(&known.json) => Decision::Same,
        Some(known) if new.withdrawn || new.kind().is_versioned() => {
            Decision::Write(known.version.saturating_add(1))
        }
        Some(_) => Decision::Conflict,
    }
}

/// Whether the text under an id is a reading that was withdrawn.
fn is_withdrawn(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Status<'a> {
        status: Option<&'a str>,
    }
    serde_json::from_str(json).is_ok_and(|found: Status<'_>| found.status == Some(WITHDRAWN))
}

impl NewResource {
    /// What it refers to.
    pub(crate) fn references(&self) -> impl Iterator<Item = (ResourceType, &FhirId)> {
        let patient = self.index.patient.iter();
        let device = self.index.device.iter();
        let patient = patient.map(|id| (ResourceType::Patient, id));
        patient.chain(device.map(|id| (ResourceType::Device, id)))
    }
}
