//! What a Consent says of research (FHIR R4 consent.html), read so that whatever is in doubt counts as an opt-out. Pure.
//!
//! A Consent is about research when its scope is `research`, when a category of it is one of research, or when a purpose of a
//! provision of it is a kind of research (v3-PurposeOfUse HRESCH). It opts out while it is `active`, unless it is plainly a
//! permission: a root provision of type `permit` that says nothing else, or the policy rule `OPTIN` without a provision. So a
//! deny, a policy rule `OPTOUT`, and a permission with exceptions, a period or an actor all opt out: nothing here could keep to
//! half of one. Any other status, and no Consent at all, opt nobody out.
use crate::json::{Json, Object};
use crate::store::FhirId;

/// Purposes of use that are research (FHIR R4 v3-PurposeOfUse, HRESCH and below).
const RESEARCH: [&str; 7] = [
    "HRESCH",
    "BIORCH",
    "CLINTRCH",
    "CLINTRCHNPC",
    "CLINTRCHPC",
    "PRECLINTRCH",
    "TRANSRCH",
];

/// Categories that are of research (FHIR R4 consentcategorycodes): access to what a study has, to what is de-identified, and
/// to what may be told apart again.
const CATEGORIES: [&str; 3] = ["research", "rsdid", "rsreid"];

/// The patient of an opt-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptOut {
    /// The Patient of that id here.
    Of(FhirId),
    /// It does not say whose it is in a way that is understood here (`Patient/id`).
    OfNobody,
}

/// What a Consent opts out of research; none where it does not, or where the resource is no Consent.
#[must_use]
pub fn opt_out(resource: &Json<'_>) -> Option<OptOut> {
    let consent = resource.object()?;
    let is_one = consent.text("resourceType") == Some("Consent");
    if !is_one || consent.text("status") != Some("active") || !is_of_research(consent) {
        return None;
    }
    if is_plain_permission(consent) {
        return None;
    }
    Some(patient(resource).map_or(OptOut::OfNobody, OptOut::Of))
}

/// The patient of a Consent, whatever it says.
#[must_use]
pub fn patient(resource: &Json<'_>) -> Option<FhirId> {
    let patient = resource.object()?.get("patient")?.object()?;
    let id = patient.text("reference")?.strip_prefix("Patient/")?;
    id.parse().ok()
}

fn is_of_research(consent: &Object<'_>) -> bool {
    let provision = consent.get("provision").and_then(Json::object);
    let is_category = |one| CATEGORIES.iter().any(|code| has_code(Some(one), code));
    has_code(consent.get("scope"), "research")
        || consent.each("category").any(is_category)
        || provision.is_some_and(is_for_research)
}

/// Whether a purpose of a provision, or of one within it, is research. How deep resources nest is bounded where they are read.
fn is_for_research(provision: &Object<'_>) -> bool {
    let mut purposes = provision.each("purpose").filter_map(Json::object);
    let is_research = |coding: &Object<'_>| {
        coding
            .text("code")
            .is_some_and(|code| RESEARCH.contains(&code))
    };
    let mut inner = provision.each("provision").filter_map(Json::object);
    purposes.any(is_research) || inner.any(is_for_research)
}

fn is_plain_permission(consent: &Object<'_>) -> bool {
    match consent.get("provision").and_then(Json::object) {
        None => !consent.has("provision") && has_code(consent.get("policyRule"), "OPTIN"),
        Some(provision) => {
            let mut members = provision.0.iter();
            let says_more = members.any(|(name, _)| name != "type" && name != "purpose");
            provision.text("type") == Some("permit")
                && !says_more
                && !has_code(consent.get("policyRule"), "OPTOUT")
        }
    }
}

/// Whether a CodeableConcept has a coding of that code.
fn has_code(concept: Option<&Json<'_>>, code: &str) -> bool {
    let concept = concept.and_then(Json::object);
    let mut codings = concept
        .into_iter()
        .flat_map(|concept| concept.each("coding"))
        .filter_map(Json::object);
    codings.any(|coding| coding.text("code") == Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent(status: &str, rest: &str) -> String {
        format!(
            r#"{{"resourceType":"Consent","status":"{status}","patient":{{"reference":"Patient/p"}},{rest}}}"#
        )
    }

    const RESEARCH: &str = r#""scope":{"coding":[{"code":"research"}]}"#;
    const CARE: &str = r#""scope":{"coding":[{"code":"treatment"}]}"#;
    const PRIVACY: &str = r#""scope":{"coding":[{"code":"patient-privacy"}]}"#;
    const OPTOUT: &str = r#""policyRule":{"coding":[{"code":"OPTOUT"}]}"#;
    const OPTIN: &str = r#""policyRule":{"coding":[{"code":"OPTIN"}]}"#;
    const DENY: &str = r#""provision":{"type":"deny"}"#;
    const PERMIT: &str = r#""provision":{"type":"permit"}"#;

    fn opts_out(status: &str, rest: &[&str]) -> bool {
        let text = consent(status, &rest.join(","));
        let found = opt_out(&Json::parse(&text).unwrap());
        assert!(found.is_none() || found == Some(OptOut::Of("p".parse().unwrap())));
        found.is_some()
    }

    #[test]
    fn whatever_is_not_plainly_a_permission_of_research_opts_out_and_nothing_else_does() {
        let but = r#""provision":{"type":"permit","provision":[{"type":"deny"}]}"#;
        let until = r#""provision":{"type":"permit","period":{"end":"2020"}}"#;
        let no_trial = r#""provision":{"type":"deny","purpose":[{"code":"CLINTRCH"}]}"#;
        let deidentified =
            r#""category":[{"coding":[{"code":"59284-0"}]},{"coding":[{"code":"rsdid"}]}]"#;
        let npp = r#""category":[{"coding":[{"code":"npp"}]}]"#;
        let trial = r#""provision":{"type":"permit","purpose":[{"code":"HRESCH"}]}"#;
        for rest in [
            &[RESEARCH, DENY][..],
            &[RESEARCH, OPTOUT],
            &[RESEARCH],
            &[RESEARCH, but],
            &[RESEARCH, until],
            &[RESEARCH, OPTOUT, PERMIT],
            &[CARE, no_trial],
            &[PRIVACY, deidentified, OPTOUT],
            &[CARE, deidentified, DENY],
        ] {
            assert!(opts_out("active", rest), "{rest:?}");
        }
        for rest in [
            &[RESEARCH, PERMIT][..],
            &[RESEARCH, OPTIN],
            &[CARE, DENY],
            &[CARE, trial],
            &[PRIVACY, deidentified, PERMIT],
            &[PRIVACY, npp, DENY],
        ] {
            assert!(!opts_out("active", rest), "{rest:?}");
        }
        for status in [
            "inactive",
            "draft",
            "proposed",
            "rejected",
            "entered-in-error",
        ] {
            assert!(!opts_out(status, &[RESEARCH, DENY]), "{status}");
        }
        let text = consent("active", RESEARCH).replace("Patient/p", "https://elsewhere/Patient/p");
        let tree = Json::parse(&text).unwrap();
        assert_eq!(opt_out(&tree), Some(OptOut::OfNobody));
    }
}
