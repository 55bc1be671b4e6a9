//! What columns answer of a condition on readings, which have no rows of an index. Pure.
use super::{Match, ReferenceMatch, TokenMatch};
use crate::map::CATEGORIES;
use crate::search::Filter;
use crate::store::FhirId;
use types::{Category, Code};

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
        _ => as_reference(code, matches),
    }
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
