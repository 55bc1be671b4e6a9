//! What columns answer of a condition on readings, which have no rows of an index. Pure.
use super::{Match, ReferenceMatch, TokenMatch};
use crate::map::{CATEGORIES, READING_SYSTEM};
use crate::search::Filter;
use crate::store::FhirId;
use types::{Category, Code};

/// Parameters of R4 that no reading has a value of: only what clients write is found by them.
const NEVER: [&str; 23] = [
    "based-on",
    "code-value-concept",
    "code-value-date",
    "code-value-string",
    "combo-code-value-concept",
    "combo-value-concept",
    "component-code",
    "component-code-value-concept",
    "component-code-value-quantity",
    "component-data-absent-reason",
    "component-value-concept",
    "component-value-quantity",
    "derived-from",
    "encounter",
    "focus",
    "has-member",
    "method",
    "part-of",
    "performer",
    "specimen",
    "value-concept",
    "value-date",
    "value-string",
];

/// Whether no reading has a value of a parameter.
#[must_use]
pub fn is_of_clients(code: &str) -> bool {
    NEVER.contains(&code)
}

/// What a column answers of a parameter; none of what it does not.
#[must_use]
pub fn as_column(code: &str, matches: &[Match]) -> Option<Filter> {
    match code {
        "code" => {
            let of = |code: &Code| is_one(matches, code.info().system, code.info().code);
            is_coded(matches).then(|| Filter::Code(Code::all().filter(of).collect()))
        }
        "category" => {
            let all = CATEGORIES.into_iter();
            let of = |one: &Category| is_one(matches, one.system(), one.as_str());
            is_coded(matches).then(|| Filter::Category(all.filter(of).collect()))
        }
        "date" => as_dates(matches),
        "identifier" => as_identifiers(matches),
        code if is_of_clients(code) => Some(Filter::Id(Vec::new())),
        _ => as_reference(code, matches),
    }
}

/// The one identifier of a reading is its id (`crate::map`), and has no type.
fn as_identifiers(matches: &[Match]) -> Option<Filter> {
    let mut ids: Vec<FhirId> = Vec::new();
    for one in matches {
        match one {
            Match::Token(TokenMatch::Code(value)) => ids.extend(value.parse::<FhirId>()),
            Match::Token(TokenMatch::Coded(system, value)) if system == READING_SYSTEM => {
                ids.extend(value.parse::<FhirId>());
            }
            Match::Token(TokenMatch::System(system)) if system == READING_SYSTEM => return None,
            _ => {}
        }
    }
    Some(Filter::Id(ids))
}

fn is_coded(matches: &[Match]) -> bool {
    matches.iter().all(|one| {
        matches!(
            one,
            Match::Token(TokenMatch::Code(_) | TokenMatch::Coded(..) | TokenMatch::System(_))
        )
    })
}

/// Whether a code, which has a system, is one of these. Readings have codes and categories of closed tables alone.
fn is_one(matches: &[Match], system: &str, code: &str) -> bool {
    matches.iter().any(|one| match one {
        Match::Token(TokenMatch::Code(wanted)) => wanted == code,
        Match::Token(TokenMatch::Coded(of, wanted)) => of == system && wanted == code,
        Match::Token(TokenMatch::System(of)) => of == system,
        _ => false,
    })
}

/// What a column answers of a reference.
fn as_reference(code: &str, matches: &[Match]) -> Option<Filter> {
    let (mut patients, mut devices) = (Vec::new(), Vec::new());
    for one in matches {
        let Match::Reference(ReferenceMatch::Local {
            resource_type,
            id,
            version: None,
        }) = one
        else {
            return None;
        };
        let id: FhirId = id.parse().ok()?;
        // An id alone is of any type that the parameter leads to; no reading is of anything else than these.
        let is_of = |kind: &str| resource_type.as_deref().is_none_or(|named| named == kind);
        if is_of("Patient") {
            patients.push(id.clone());
        }
        if is_of("Device") {
            devices.push(id);
        }
    }
    match code {
        "patient" => Some(Filter::Patient(patients)),
        "device" => Some(Filter::Device(devices)),
        "subject" => Some(Filter::Subject { patients, devices }),
        _ => None,
    }
}

/// A reading has one time, to the millisecond.
fn as_dates(matches: &[Match]) -> Option<Filter> {
    let mut intervals = Vec::new();
    for one in matches {
        match one {
            Match::Date(span) => intervals.extend(span.intervals()),
            _ => return None,
        }
    }
    (!intervals.is_empty()).then_some(Filter::Date(intervals))
}

/// Whether a condition on readings holds of none.
#[must_use]
pub const fn finds_nothing(column: &Filter) -> bool {
    match column {
        Filter::Id(ids) | Filter::Patient(ids) | Filter::Device(ids) => ids.is_empty(),
        Filter::Subject { patients, devices } => patients.is_empty() && devices.is_empty(),
        Filter::Code(codes) => codes.is_empty(),
        Filter::Category(list) => list.is_empty(),
        Filter::Date(intervals) | Filter::Updated(intervals) => intervals.is_empty(),
        Filter::Commits(list) => list.is_empty(),
        Filter::Source(list) => list.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::fixture;
    use crate::query::param;
    use crate::store::rows_of;

    #[test]
    fn no_reading_has_a_value_of_what_readings_are_said_to_have_none_of() {
        let readings = (0..200).map(fixture::observation);
        for reading in readings.chain((0..20).map(fixture::withdrawn)) {
            for row in rows_of(reading.json(), None) {
                assert!(!NEVER.contains(&row.param), "{}", row.param);
            }
        }
        for code in NEVER {
            assert!(param("Observation", code).is_some(), "{code}");
        }
    }
}
