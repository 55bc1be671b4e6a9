//! Codes and units with the words that stand beside them.
//!
//! Words are taken where they say no more than the code does: what the code is called by its own system, in letters of
//! either case. Whoever reads the code has read them.
use super::forms::{is_language, is_loinc, is_note};
use super::lists::SYSTEMS;
use super::{is_below, is_digits, units};
use crate::json::{Json, Object};
use crate::r4::display_of;
use types::Code;

const LOINC: &str = "http://loinc.org";

/// What LOINC calls the vital signs of R4 (its value set observation-vitalsignresult), beside the names of [`Code`]. LOINC is
/// copyright Regenstrief Institute, Inc.
const VITAL_SIGNS: &[(&str, &str)] = &[
    (
        "85353-1",
        "Vital signs, weight, height, head circumference, oxygen saturation and BMI panel",
    ),
    ("8480-6", "Systolic blood pressure"),
    ("8462-4", "Diastolic blood pressure"),
    ("8478-0", "Mean blood pressure"),
    ("85354-9", "Blood pressure panel with all children optional"),
    ("39156-5", "Body mass index (BMI) [Ratio]"),
    ("39156-5", "Body mass index"),
    ("9843-4", "Head Occipital-frontal circumference"),
];

/// A code of a standard's system, in the form that the system gives its codes, without words but those that are known
/// for it.
pub(super) fn coding(object: &Object<'_>) -> Option<&'static str> {
    let Some(system) = object.text("system") else {
        return Some("a code is taken with its system");
    };
    if !SYSTEMS.iter().any(|known| is_below(system, known)) {
        return Some("codes are taken of standards' systems alone");
    }
    let code = object.text("code").unwrap_or_default();
    let has_form = match system {
        LOINC => is_loinc(code),
        "http://snomed.info/sct" => is_digits(code, 18),
        "http://www.nlm.nih.gov/research/umls/rxnorm" => is_digits(code, 8),
        "urn:ietf:bcp:47" => is_language(code),
        _ => true,
    };
    if !has_form {
        return Some("the code is none of its system");
    }
    let display = object.text("display");
    let says_more = display.is_some_and(|words| !is_called((system, code), words));
    says_more.then_some("beside a code its system's own name of it is taken, and no other words")
}

/// Whether words are what a code is called by its own system, or the code itself.
fn is_called((system, code): (&str, &str), words: &str) -> bool {
    let of_mesh = Code::of(system, code).ok();
    let of_mesh = of_mesh.map(|known| known.info().display);
    let of_loinc = VITAL_SIGNS.iter().filter(|_| system == LOINC);
    let of_loinc = of_loinc.filter(|(known, _)| *known == code);
    let mut names = of_mesh
        .into_iter()
        .chain(display_of(system, code))
        .chain(of_loinc.map(|(_, name)| *name));
    words == code || names.any(|name| name.eq_ignore_ascii_case(words))
}

/// Whether the text of a concept says no more than one of its codes.
pub(super) fn is_told_by_codes(concept: &Object<'_>) -> bool {
    let Some(text) = concept.get("text") else {
        return true;
    };
    let Some(words) = text.text() else {
        return *text == Json::Null;
    };
    let mut codings = concept.each("coding").filter_map(Json::object);
    let is_of = |coding: &Object<'_>| {
        let key = coding.text("system").zip(coding.text("code"));
        key.is_some_and(|key| is_called(key, words))
    };
    is_note(words) || codings.any(is_of)
}

/// `unit` is free text; it may say the code, which is one of a standard's system, and no more.
pub(super) fn unit(object: &Object<'_>) -> Option<&'static str> {
    let (unit, code) = (object.text("unit"), object.text("code"));
    let known = |system: &str| SYSTEMS.iter().any(|known| is_below(system, known));
    let fits = match (object.text("system"), code) {
        (None, None) => unit.is_none(),
        (Some(system), Some(code)) => known(system) && unit.is_none_or(|it| units::says(code, it)),
        (system, _) => unit.is_none() && code.is_none() && system.is_none_or(known),
    };
    (!fits).then_some("a unit is taken by its code and system; the text beside it says no more")
}
