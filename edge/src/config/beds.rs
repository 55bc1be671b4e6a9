//! Who lies where, as the configuration says it.
use ingest::patient_id;
use node::config::Problem;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fmt};
use store::BedFact;
use store::deid::PatientRecord;
use types::{Phi, Timestamp};

/// A patient lies in a bed from an instant on, until the bed's next assignment. The node takes each in once, for a bed
/// and an instant; `medmesh edge beds` says what changes afterwards.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BedAssignment {
    /// The bed.
    pub bed: String,
    /// From when on (RFC 3339, mesh time).
    pub from: String,
    /// The facility's own patient id; left out: nobody.
    #[serde(default)]
    pub patient: Option<String>,
    /// Name, kept in the facility.
    #[serde(default)]
    pub name: Option<String>,
    /// Medical record number, kept in the facility.
    #[serde(default)]
    pub mrn: Option<String>,
    /// Date of birth (YYYY-MM-DD), kept in the facility.
    #[serde(default)]
    pub birth_date: Option<String>,
    /// FHIR AdministrativeGender.
    #[serde(default)]
    pub gender: Option<String>,
    /// Height in cm, a decimal in quotes.
    #[serde(default)]
    pub height_cm: Option<String>,
    /// Weight in kg, a decimal in quotes.
    #[serde(default)]
    pub weight_kg: Option<String>,
    /// The kind of care unit: `CCU`, `CSRU`, `MICU`, `SICU`.
    #[serde(default)]
    pub care_unit: Option<String>,
}

/// Nothing of the patient.
impl fmt::Debug for BedAssignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BedAssignment")
            .field("bed", &self.bed)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl BedAssignment {
    /// What it says, with what identifies the patient marked as such; none when `from` is no time.
    #[must_use]
    pub fn fact(&self) -> Option<BedFact> {
        let phi = |text: &Option<String>| text.clone().map(Phi::new);
        let patient = self.patient.as_ref().map(|id| PatientRecord {
            facility_id: Some(Phi::new(id.clone())),
            name: phi(&self.name),
            mrn: phi(&self.mrn),
            birth_date: phi(&self.birth_date),
            gender: phi(&self.gender),
            height_cm: phi(&self.height_cm),
            weight_kg: phi(&self.weight_kg),
            care_unit: phi(&self.care_unit),
            ..PatientRecord::default()
        });
        Some(BedFact {
            bed: self.bed.clone(),
            from: self.from.parse().ok()?,
            patient,
            by: store::BY_CONFIGURATION.into(),
        })
    }
}

pub(super) fn bed_problems(beds: &[BedAssignment]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut known = HashMap::new();
    for (index, bed) in beds.iter().enumerate() {
        let at = |key: &str| format!("beds[{index}].{key}");
        if bed
            .patient
            .as_deref()
            .is_some_and(|id| !patient_id::is_one(id))
        {
            problems.push(Problem::new(at("patient"), patient_id::PROBLEM));
        }
        // As an id of a patient: a bed that looks like another one is where the wrong patient lies.
        if !patient_id::is_one(&bed.bed) {
            let message = "is 1 to 64 bytes without control or invisible characters";
            problems.push(Problem::new(at("bed"), message));
        }
        // What the store would refuse at the start is said before.
        let refused = bed.fact().and_then(|fact| store::check_bed(&fact).err());
        if let Some((field, message)) = refused.and_then(|reason| reason.split_once(": "))
            && !["patient", "bed"].contains(&field)
        {
            problems.push(Problem::new(at(field), message));
        }
        match bed.from.parse::<Timestamp>() {
            Err(error) => problems.push(Problem::new(at("from"), error.to_string())),
            Ok(from) => {
                let first = known.entry((&bed.bed, from)).or_insert(&bed.patient);
                if *first != &bed.patient {
                    let message = "the bed has another patient from that instant on";
                    problems.push(Problem::new(at("from"), message));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bed_that_the_store_would_refuse_is_a_problem_at_its_key() {
        let bed = |from: &str, patient: Option<&str>| BedAssignment {
            bed: "b".into(),
            from: from.into(),
            patient: patient.map(Into::into),
            ..BedAssignment::default()
        };
        let long = "x".repeat(patient_id::MAX_BYTES + 1);
        let beds = [
            bed("2026-11-22T10:00:00Z", Some("p")),
            bed("2026-11-22T11:00:00Z", Some("")),
            bed("2026-11-22T12:00:00Z", Some(&long)),
            bed("2026-11-22T11:00:00+01:00", Some("q")),
            bed("2026-11-22T10:00:00Z", Some("p")),
            bed("noon", None),
            BedAssignment {
                bed: "b\u{200b}".into(),
                ..bed("2026-11-22T10:00:00Z", None)
            },
            BedAssignment::default(),
        ];
        let paths: Vec<_> = bed_problems(&beds).into_iter().map(|p| p.path).collect();
        let expected = [
            "beds[1].patient",
            "beds[2].patient",
            "beds[3].from",
            "beds[5].from",
            "beds[6].bed",
            "beds[7].bed",
            "beds[7].from",
        ];
        assert_eq!(paths, expected);
    }
}
