//! Ages, births and deaths that an Observation or the answer to a question tells by its code, since its value is of a data
//! type that says nothing of them. A value in years is an age of that many, whatever its code.
use super::ages::{TOO_OLD, is_old};
use super::{OLD, YEAR_ALONE};
use crate::json::{Json, Object};

const LOINC: &str = "http://loinc.org";
/// Ages of a person in LOINC: estimated, reported, calculated, in general, at an adverse event, at death.
const AGES: [&str; 6] = [
    "21611-9", "21612-7", "29553-5", "30525-0", "30972-4", "39016-1",
];
/// The day of a birth, of a death, and of a death with its time, as it was and as it was pronounced.
const DAYS: [&str; 4] = ["21112-8", "81954-0", "81956-5", "80616-6"];
/// Years of UCUM: as such, Julian, tropical, Gregorian.
const YEARS: [&str; 4] = ["a", "a_j", "a_t", "a_g"];

/// What a value is of, by its code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Age,
    Day,
    Anything,
}

impl Of {
    fn code(code: &str) -> Self {
        match code {
            _ if AGES.contains(&code) => Self::Age,
            _ if DAYS.contains(&code) => Self::Day,
            _ => Self::Anything,
        }
    }

    /// By any coding of LOINC.
    fn concept(concept: Option<&Object<'_>>) -> Self {
        let codings = concept
            .into_iter()
            .flat_map(|concept| concept.each("coding"));
        let codes = codings.filter_map(Json::object).filter_map(|coding| {
            let is_of_loinc = coding.text("system") == Some(LOINC);
            coding.text("code").filter(|_| is_of_loinc)
        });
        let mut known = codes.map(Self::code).filter(|of| *of != Self::Anything);
        known.next().unwrap_or(Self::Anything)
    }
}

/// The element of an object of a data type that tells too much, and why. `is_year` says which years are taken.
pub fn told(
    shape: &str,
    object: &Object<'_>,
    is_year: impl Fn(&str) -> bool,
) -> Option<(&'static str, &'static str)> {
    match shape {
        "Observation" | "Observation.component" => {
            let of = Of::concept(object.get("code").and_then(Json::object));
            problem(of, object, &is_year).map(|problem| ("value", problem))
        }
        "QuestionnaireResponse.item" => {
            let asked = object.text("linkId").unwrap_or_default();
            let of = Of::code(asked.rsplit('/').next().unwrap_or_default());
            let mut answers = object.each("answer").filter_map(Json::object);
            let found = answers.find_map(|answer| problem(of, answer, &is_year));
            found.map(|problem| ("answer", problem))
        }
        _ => None,
    }
}

/// What is wrong with the value of an object, if anything.
fn problem(of: Of, object: &Object<'_>, is_year: &impl Fn(&str) -> bool) -> Option<&'static str> {
    let inner = |name: &str| object.get(name).and_then(Json::object);
    if of == Of::Day {
        let mut texts = ["valueDateTime", "valueDate"].into_iter();
        let is_day = texts.any(|name| object.text(name).is_some_and(|text| !is_year(text)));
        return (is_day || inner("valuePeriod").is_some()).then_some(YEAR_ALONE);
    }
    let ends = inner("valueRange").map(|range| ["low", "high"].map(|end| range.get(end)));
    let ends = ends
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(Json::object);
    let is_too_old = |quantity: &Object<'_>| {
        let in_years = quantity
            .text("code")
            .is_some_and(|code| YEARS.contains(&code));
        (of == Of::Age || in_years) && is_old(quantity, false)
    };
    let is_count = match ["valueInteger", "valueDecimal"].map(|name| object.get(name)) {
        [Some(Json::Number(number)), _] | [None, Some(Json::Number(number))] => {
            of == Of::Age
                && !number
                    .parse()
                    .is_ok_and(|years: f64| years < f64::from(OLD))
        }
        _ => false,
    };
    let is_old = is_count
        || inner("valueQuantity")
            .into_iter()
            .chain(ends)
            .any(is_too_old);
    is_old.then_some(TOO_OLD)
}
