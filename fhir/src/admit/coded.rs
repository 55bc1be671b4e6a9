//! Codes and units with the words that stand beside them.
use super::lists::SYSTEMS;
use super::{is_below, is_digits, units};
use crate::json::Object;
use types::Code;

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
        "http://loinc.org" => is_loinc(code),
        "http://snomed.info/sct" => is_digits(code, 18),
        "http://www.nlm.nih.gov/research/umls/rxnorm" => is_digits(code, 8),
        _ => true,
    };
    if !has_form {
        return Some("the code is none of its system");
    }
    let known = Code::of(system, code)
        .ok()
        .map(|known| known.info().display);
    let display = object.text("display");
    (display.is_some() && display != known).then_some("a code is taken without words beside it")
}

/// A number and its check digit, behind the letters of a part or an answer.
pub(super) fn is_loinc(code: &str) -> bool {
    let code = code
        .strip_prefix("LP")
        .or(code.strip_prefix("LA"))
        .unwrap_or(code);
    code.split_once('-')
        .is_some_and(|(number, check)| is_digits(number, 7) && is_digits(check, 1))
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
