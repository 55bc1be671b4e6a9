//! Compartments: what belongs to a patient, an encounter, a device, a practitioner or a related person
//! (FHIR R4 compartmentdefinition.html).
use super::{Filter, Kind, Match, Param, ReferenceMatch, param, params};
use crate::r4::R4;

/// What holds of a resource of a type that is in a compartment; none where the type is in no compartment of that kind.
#[must_use]
pub fn compartment(kind: &str, id: &str, resource_type: &str) -> Option<Filter> {
    let codes = R4.compartment(kind, resource_type).iter();
    let by = codes.filter_map(|code| param(resource_type, code));
    leading(by, kind, id, resource_type)
}

/// What holds of a resource of a type that is in a compartment, or refers to whose it is by any other parameter: a List of
/// several patients is in the compartment of none, and names each.
#[must_use]
pub fn naming(kind: &str, id: &str, resource_type: &str) -> Option<Filter> {
    let codes = R4.compartment(kind, resource_type);
    let leads = |param: &&Param| {
        let may = param.targets.is_empty() || param.targets.contains(&kind);
        param.kind == Kind::Reference && (may || codes.contains(&param.code))
    };
    leading(params(resource_type).filter(leads), kind, id, resource_type)
}

/// What any of these parameters leads to a resource from, and that resource itself.
fn leading(
    by: impl Iterator<Item = &'static Param>,
    kind: &str,
    id: &str,
    resource_type: &str,
) -> Option<Filter> {
    let of = |param| Filter::Param {
        param,
        matches: vec![Match::Reference(ReferenceMatch::Local {
            resource_type: Some(kind.to_owned()),
            id: id.to_owned(),
            version: None,
        })],
    };
    let mut any: Vec<Filter> = by.map(of).collect();
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
