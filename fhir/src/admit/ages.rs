//! Ages of 90 years or more, which identify (45 CFR 164.514(b)(2)(i)(C)), in whichever unit and as an end of a range too.
use super::{OLD, Rule};
use crate::json::{Json, Object};

pub const TOO_OLD: &str = "an age is taken below 90 years";

/// Whether a quantity may be an age of 90 years or more, in whichever unit: what has none that is known counts as years.
pub fn is_old(object: &Object<'_>, is_needed: bool) -> bool {
    let Some(Json::Number(number)) = object.get("value") else {
        return is_needed || object.has("value");
    };
    let code = object.text("code").unwrap_or("a");
    // UCUM: a year has 365.25 days, a month 30.4375.
    let in_a_year = match code {
        "mo" => 12.0,
        "wk" => 365.25 / 7.0,
        "d" => 365.25,
        "h" => 365.25 * 24.0,
        "min" => 365.25 * 1_440.0,
        "s" => 365.25 * 86_400.0,
        _ => 1.0,
    };
    let is_young = |value: f64| value / in_a_year < f64::from(OLD);
    // More than so many may be any number.
    let is_open = matches!(object.text("comparator"), Some(">" | ">="));
    is_open || !number.parse().is_ok_and(is_young)
}

/// Whether a range is one of ages, and one of its ends is of 90 years or more.
pub fn is_of_ages(rule: Option<Rule>, range: &Object<'_>) -> bool {
    let ends = ["low", "high"].map(|end| range.get(end).and_then(Json::object));
    let mut ends = ends.into_iter().flatten();
    matches!(rule, Some(Rule::Age | Rule::Year)) && ends.any(|end| is_old(end, false))
}
