//! Compartments: what belongs to a patient, an encounter, a device, a practitioner or a related person
//! (FHIR R4 compartmentdefinition.html).
use super::{Filter, Match, ReferenceMatch, param};
use crate::r4::R4;

/// What holds of a resource of a type that is in a compartment; none where the type is in no compartment of that kind.
#[must_use]
pub fn compartment(kind: &str, id: &str, resource_type: &str) -> Option<Filter> {
    let leads_here = || {
        vec![Match::Reference(ReferenceMatch::Local {
            resource_type: Some(kind.to_owned()),
            id: id.to_owned(),
            version: None,
        })]
    };
    let codes = R4.compartment(kind, resource_type).iter();
    let by_param = codes.filter_map(|code| {
        Some(Filter::Param {
            param: param(resource_type, code)?,
            matches: leads_here(),
        })
    });
    let mut any: Vec<Filter> = by_param.collect();
    if kind == resource_type && is_compartment(kind) {
        any.push(Filter::Id(vec![id.to_owned()]));
    }
    (!any.is_empty()).then_some(Filter::Any(any))
}

/// Whether resources of a type have a compartment.
#[must_use]
pub fn is_compartment(kind: &str) -> bool {
    matches!(
        kind,
        "Patient" | "Encounter" | "Device" | "Practitioner" | "RelatedPerson"
    )
}
