//! Which patient lies in which bed, so that the edge's configuration says what the simulated devices will measure.
use super::{
    SimError,
    config::{BedStays, Source},
    physionet,
    sample::physiology_patient,
};
use std::path::Path;
use types::{CareUnit, Timestamp};

/// A patient lies in a bed from an instant on; without a patient the bed is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The bed.
    pub bed: String,
    /// From when on, mesh time.
    pub from: Timestamp,
    /// The facility's own patient id.
    pub patient: Option<String>,
    /// FHIR AdministrativeGender, where the data knows it.
    pub gender: Option<&'static str>,
    /// Year of birth, where the data knows the age: the year of the stay less the age. Nothing else of the date is known,
    /// and nothing is invented.
    pub birth_year: Option<i32>,
    /// Height in cm, where the data knows it.
    pub height_cm: Option<String>,
    /// Weight in kg at admission, where the data knows it.
    pub weight_kg: Option<String>,
    /// The kind of care unit, where the data knows it.
    pub care_unit: Option<CareUnit>,
}

impl Assignment {
    /// Nothing else is known.
    const fn new(bed: String, from: Timestamp, patient: Option<String>) -> Self {
        Self {
            bed,
            from,
            patient,
            gender: None,
            birth_year: None,
            height_cm: None,
            weight_kg: None,
            care_unit: None,
        }
    }
}

/// Deals the first `stays` stays of an archive (all when `None`) to the beds of facilities: one stay to each facility
/// in turn, each facility's to its beds in turn. `facilities` holds the names of the beds of each facility.
///
/// # Errors
/// [`SimError`] when there is no bed, when there are fewer stays, or when anything in the archive is broken: it is read
/// from end to end.
pub fn plan(
    archive: &Path,
    facilities: &[Vec<String>],
    stays: Option<usize>,
) -> Result<Vec<Vec<BedStays>>, SimError> {
    if facilities.is_empty() || facilities.iter().any(Vec::is_empty) {
        return Err(SimError::Config(
            "a replay of stays needs a bed in every facility".into(),
        ));
    }
    let empty = |bed: &String| BedStays {
        bed: bed.clone(),
        stays: Vec::new(),
    };
    let mut plan: Vec<Vec<BedStays>> = facilities
        .iter()
        .map(|beds| beds.iter().map(empty).collect())
        .collect();
    let records = physionet::records(archive)?;
    let count = stays.unwrap_or(records.len());
    if count > records.len() {
        let problem = format!("{} stays are in it, {count} are asked for", records.len());
        return Err(SimError::Data {
            path: archive.into(),
            problem,
        });
    }
    for (dealt, record) in records.into_iter().take(count).enumerate() {
        let facility = &mut plan[dealt % facilities.len()];
        let bed = dealt / facilities.len() % facility.len();
        facility[bed].stays.push(record);
    }
    Ok(plan)
}

/// The assignments of a facility's beds that belong to what its devices emit, in the order of time within a bed.
/// `origin` is the mesh instant at which the replay begins.
///
/// # Errors
/// [`SimError`] when the archive cannot be read or lacks a stay.
pub fn bed_assignments(
    source: &Source,
    origin: Timestamp,
    beds: &[String],
) -> Result<Vec<Assignment>, SimError> {
    let (archive, stays) = match source {
        Source::Physionet { archive, beds, .. } => (archive, beds),
        Source::Physiology | Source::Numerics { .. } => {
            let patient =
                |bed: &String| Assignment::new(bed.clone(), origin, Some(physiology_patient(bed)));
            return Ok(beds.iter().map(patient).collect());
        }
    };
    let schedules = physionet::schedules((archive, None), stays, origin)?;
    let mut assignments = Vec::new();
    for (bed, schedule) in stays.iter().zip(schedules) {
        for (start, stay) in schedule {
            let name = bed.bed.clone();
            let end = start.plus_ms(stay.length_ms());
            assignments.push(Assignment {
                gender: stay.gender(),
                birth_year: stay.birth_year(start),
                height_cm: stay.measure("Height"),
                weight_kg: stay.measure("Weight"),
                care_unit: stay.care_unit(),
                ..Assignment::new(name.clone(), start, Some(stay.patient()))
            });
            assignments.push(Assignment::new(name, end, None));
        }
    }
    Ok(assignments)
}
