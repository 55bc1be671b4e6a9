//! When the care was of which a record is, for `start` and `end` of `$everything` (FHIR R4
//! patient-operation-everything.html). A record without a date may be of any time, so that it is there; so is what has no
//! time of care: who somebody is, what they consented to, which relatives had what.
use super::super::{FhirApi, finding, outcome::Failure};
use crate::query::{self, Filter, Handling};
use crate::search;
use crate::store::ResourceType;
use types::Timestamp;

/// The parameter of the time of care, or of its period, by type.
const AT: &[(&str, &str)] = &[
    ("Account", "period"),
    ("AdverseEvent", "date"),
    ("Appointment", "date"),
    ("CarePlan", "date"),
    ("CareTeam", "date"),
    ("ChargeItem", "occurrence"),
    ("Claim", "created"),
    ("ClaimResponse", "created"),
    ("ClinicalImpression", "date"),
    ("Communication", "sent"),
    ("CommunicationRequest", "authored"),
    ("Composition", "date"),
    ("CoverageEligibilityRequest", "created"),
    ("CoverageEligibilityResponse", "created"),
    ("DetectedIssue", "identified"),
    ("DeviceRequest", "authored-on"),
    ("DiagnosticReport", "date"),
    ("DocumentManifest", "created"),
    ("DocumentReference", "date"),
    ("Encounter", "date"),
    ("EpisodeOfCare", "date"),
    ("ExplanationOfBenefit", "created"),
    ("Flag", "date"),
    ("ImagingStudy", "started"),
    ("Immunization", "date"),
    ("ImmunizationEvaluation", "date"),
    ("ImmunizationRecommendation", "date"),
    ("Invoice", "date"),
    ("List", "date"),
    ("MeasureReport", "period"),
    ("Media", "created"),
    ("MedicationAdministration", "effective-time"),
    ("MedicationDispense", "whenhandedover"),
    ("MedicationRequest", "authoredon"),
    ("MedicationStatement", "effective"),
    ("NutritionOrder", "datetime"),
    ("Observation", "date"),
    ("Procedure", "date"),
    ("QuestionnaireResponse", "authored"),
    ("RequestGroup", "authored"),
    ("ResearchSubject", "date"),
    ("RiskAssessment", "date"),
    ("Schedule", "date"),
    ("ServiceRequest", "authored"),
    ("Specimen", "collected"),
    ("SupplyRequest", "date"),
    ("VisionPrescription", "datewritten"),
];

/// Of what goes on until it is said to have ended: the parameters by which it begins, and by which it ends.
const LASTING: &[(&str, &[&str], &[&str])] = &[
    ("AllergyIntolerance", &["onset", "date"], &["last-date"]),
    (
        "Condition",
        &["onset-date", "recorded-date"],
        &["abatement-date"],
    ),
    ("Goal", &["start-date"], &[]),
];

/// From which instant to which one; without a bound where there is none.
#[derive(Default)]
pub struct Span {
    start: Option<String>,
    end: Option<String>,
}

impl Span {
    /// Takes `start` or `end`.
    ///
    /// # Errors
    /// Where it is no date, and where it comes twice.
    pub fn set(&mut self, name: &'static str, value: String) -> Result<(), Failure> {
        let bound = match name {
            "start" => &mut self.start,
            _ => &mut self.end,
        };
        // A prefix would make it a condition.
        let begins = value.starts_with(|first: char| first.is_ascii_digit());
        let period = search::period(&value).filter(|_| begins && bound.is_none());
        let Some((first, after)) = period else {
            return Err(Failure::value(name, "one date or instant is expected"));
        };
        // Of a year its first or its last instant: as a year it would be held against years.
        let at = match name {
            "start" => first,
            _ => after - 1,
        };
        *bound = Some(Timestamp(at).to_rfc3339());
        Ok(())
    }

    /// What holds of the records of a type of which the care was then.
    pub fn of(&self, api: &FhirApi, kind: ResourceType) -> Result<Filter, Failure> {
        let name = kind.as_str();
        let at = AT.iter().find(|(known, _)| *known == name);
        let lasting = LASTING.iter().find(|(known, ..)| *known == name);
        let one = at.map(|(_, code)| std::slice::from_ref(code));
        let (from, until): (&[&str], &[&str]) = match (one, lasting) {
            (Some(code), _) => (code, code),
            (None, Some((_, from, until))) => (*from, *until),
            (None, None) => (&[], &[]),
        };
        let (start, end) = (self.start.as_ref(), self.end.as_ref());
        let mut all = Vec::new();
        for (codes, prefix, bound) in [(from, "le", end), (until, "ge", start)] {
            if let (Some(bound), false) = (bound, codes.is_empty()) {
                all.push(any(api, kind, codes, &format!("{prefix}{bound}"))?);
            }
        }
        Ok(Filter::All(all))
    }

    /// The same of readings, each of which has a time.
    pub fn of_readings(&self, api: &FhirApi) -> Result<Vec<search::Filter>, Failure> {
        let bounds = [("ge", self.start.as_ref()), ("le", self.end.as_ref())];
        let bounds = bounds.into_iter();
        let dates = bounds.filter_map(|(prefix, bound)| Some(format!("{prefix}{}", bound?)));
        let pairs: Vec<(String, String)> = dates.map(|date| ("date".to_owned(), date)).collect();
        let context = search::Context {
            now: (api.now)(),
            base: api.bases(),
        };
        let search = search::parse(ResourceType::Observation, &pairs, context);
        Ok(search
            .map_err(|error| Failure::search(&error))?
            .query
            .filters)
    }
}

/// Any of these parameters has a value that fits, or none of them has any.
fn any(api: &FhirApi, kind: ResourceType, codes: &[&str], value: &str) -> Result<Filter, Failure> {
    let (mut any, mut none) = (Vec::new(), Vec::new());
    for code in codes {
        let pairs = [((*code).to_owned(), value.to_owned())];
        let search = finding::read(api, Some(kind), &pairs, Handling::Strict)?;
        any.push(Filter::All(search.filters));
        let param = query::param(kind.as_str(), code);
        none.extend(param.map(|param| Filter::Missing {
            param,
            missing: true,
        }));
    }
    any.push(Filter::All(none));
    Ok(Filter::Any(any))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Kind;
    use crate::r4::R4;

    fn is_date(name: &str, code: &str) -> bool {
        query::param(name, code).is_some_and(|param| param.kind == Kind::Date)
    }

    fn has_time_of_care(name: &str) -> bool {
        AT.iter().any(|(known, _)| *known == name)
            || LASTING.iter().any(|(known, ..)| *known == name)
    }

    #[test]
    fn every_record_of_a_patient_with_a_date_has_a_time_of_care_but_for_a_few() {
        for (name, code) in AT {
            assert!(is_date(name, code), "{name} {code}");
        }
        for (name, from, until) in LASTING {
            for code in from.iter().chain(*until) {
                assert!(is_date(name, code), "{name} {code}");
            }
        }
        let mut without = Vec::new();
        for name in R4.resources() {
            let has_date = R4.params_of(name).iter().any(|param| param.kind == "date");
            let is_of_a_patient = !R4.compartment("Patient", name).is_empty();
            if has_date && is_of_a_patient && !has_time_of_care(name) {
                without.push(*name);
            }
        }
        let standing = [
            "AuditEvent",
            "Basic",
            "Consent",
            "FamilyMemberHistory",
            "Patient",
            "Person",
            "Provenance",
            "RelatedPerson",
        ];
        assert_eq!(without, standing);
    }
}
