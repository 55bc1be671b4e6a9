//! What of a type an export has: what the token covers, what was asked for, and what is in a compartment of the patients
//! whom it is about (FHIR R4 compartmentdefinition-patient.html). Each version is judged by itself, as a read by its id is,
//! since it may have been changed in the store meanwhile.
use super::super::{FhirApi, Pairs, conditional, outcome::Failure, sight, sight::Sight};
use super::record::{Of, Part};
use crate::audit;
use crate::query::{IndexRow, Value};
use crate::r4::R4;
use crate::store::{ResourceType, Stored, rows_of};
use std::collections::HashSet;

/// The name of the type of patients.
const PATIENT: &str = "Patient";

/// Whether resources of a type can be in the compartment of a patient.
pub fn may_belong(kind: ResourceType) -> bool {
    kind == ResourceType::Patient || !R4.compartment(PATIENT, kind.as_str()).is_empty()
}

/// See the head of this file.
pub struct Judge<'a> {
    sight: Sight,
    asked: Sight,
    /// Whether the server's own AuditEvents are exported.
    own: bool,
    of: &'a Of,
    patients: HashSet<&'a str>,
    codes: &'static [&'static str],
}

impl<'a> Judge<'a> {
    /// None when the scopes say what none may.
    pub fn of(api: &FhirApi, kind: ResourceType, part: &Part, of: &'a Of) -> Option<Self> {
        let patients = match of {
            Of::Patients(ids) => ids.iter().map(String::as_str).collect(),
            Of::Everybody | Of::AnyPatient => HashSet::new(),
        };
        Some(Self {
            sight: Sight::of(api, kind, &part.only)?,
            asked: Sight::of(api, kind, &part.filters)?,
            own: part.named,
            of,
            patients,
            codes: R4.compartment(PATIENT, kind.as_str()),
        })
    }

    /// Whether it takes every resource of the type.
    fn takes_all(&self) -> bool {
        let all = Sight::Everything;
        self.sight == all && self.asked == all && *self.of == Of::Everybody
    }

    /// Whether a version that holds something is exported.
    pub fn takes(&self, stored: &Stored) -> bool {
        if audit::is_left_out(stored.kind.as_str(), stored.id.as_str(), self.own) {
            return false;
        }
        if self.takes_all() {
            return true;
        }
        let source = stored.source.map(|source| source.to_string());
        let rows = rows_of(&stored.json, source.as_deref());
        let holds = |sight: &Sight| sight.holds(stored.kind, &stored.id, &rows);
        holds(&self.sight) && holds(&self.asked) && self.belongs(stored, &rows)
    }

    /// Whether it is told that a resource was deleted: as in a history, to who sees everything of the type. `before` is the
    /// last version that held something.
    pub fn tells_deleted(&self, before: Option<&Stored>) -> bool {
        if self.sight != Sight::Everything {
            return false;
        }
        self.takes_all() || before.is_some_and(|before| self.takes(before))
    }

    fn belongs(&self, stored: &Stored, rows: &[IndexRow]) -> bool {
        let is_one = |id: &str| match self.of {
            Of::Everybody | Of::AnyPatient => true,
            Of::Patients(_) => self.patients.contains(id),
        };
        if *self.of == Of::Everybody {
            return true;
        }
        if stored.kind == ResourceType::Patient && is_one(stored.id.as_str()) {
            return true;
        }
        let mut own = rows.iter().filter(|row| self.codes.contains(&row.param));
        own.any(|row| match &row.value {
            Value::Reference {
                resource_type: Some(kind),
                id: Some(id),
                ..
            } => kind == PATIENT && is_one(id),
            _ => false,
        })
    }
}

/// Checks that `_typeFilter` of a type can be judged by a resource alone. Where instants are logical the date of an
/// AuditEvent of the server's own is none of what it holds, and goes by where its reader stands ([`audit::understand`]).
pub fn check(api: &FhirApi, kind: ResourceType, text: &str) -> Result<(), Failure> {
    let pairs: Pairs = conditional::pairs_of(text)?;
    let filter = conditional::conditions(api, kind, &pairs)?;
    if sight::is_plain(&filter) && !pairs.is_empty() {
        return Ok(());
    }
    let is_date = |(name, _): &(String, String)| name.split(':').next() == Some("date");
    let is_of_events = kind.as_str() == audit::AUDIT_EVENT && pairs.iter().any(is_date);
    Err(Failure::value(
        "_typeFilter",
        match is_of_events {
            true => {
                "the date of an AuditEvent is no condition on the resource itself here, since instants are logical: \
                 _since is expected instead"
            }
            false => {
                "conditions on the resource itself are expected, without chains, _has, _list and _lastUpdated"
            }
        },
    ))
}
