//! Equality, equivalence and order (FHIRPath 2.0 §6.1, §6.2).
use super::{
    Decimal, PathError,
    system::{Item, System, calendar_code},
};
use crate::json::Json;
use std::cmp::Ordering;

/// `=`: none where it cannot be said.
pub fn equal(a: &Item<'_>, b: &Item<'_>) -> Option<bool> {
    match (a.system(), b.system()) {
        (Some(a), Some(b)) => equal_values(&a, &b),
        (None, None) => match (a, b) {
            (Item::Element(a), Item::Element(b)) => match (a.quantity(), b.quantity()) {
                (Some(one), Some(other)) if one.unit != other.unit => {
                    quantities(a.quantity(), b.quantity())
                }
                _ => Some(same_json(a.json(), b.json())),
            },
            (Item::Elsewhere(a), Item::Elsewhere(b)) => Some(a == b),
            _ => Some(false),
        },
        _ => quantities(a.quantity(), b.quantity()),
    }
}

fn quantities(a: Option<super::Quantity>, b: Option<super::Quantity>) -> Option<bool> {
    let (Some(a), Some(b)) = (a, b) else {
        return Some(false);
    };
    // A year of the calendar is no fixed number of seconds.
    let is_vague = |unit: &str| matches!(unit, "year" | "month");
    if is_vague(&a.unit) != is_vague(&b.unit) {
        return None;
    }
    a.comparable(&b)
        .map(|(a, b)| (a - b).abs() <= f64::EPSILON * a.abs().max(b.abs()))
}

fn equal_values(a: &System<'_>, b: &System<'_>) -> Option<bool> {
    match (a, b) {
        (System::Bool(a), System::Bool(b)) => Some(a == b),
        (System::Text(a), System::Text(b)) => Some(a == b),
        (System::Moment(a), System::Moment(b)) => {
            a.compare(b).map(|order| order == Ordering::Equal)
        }
        (System::Quantity(_), _) | (_, System::Quantity(_)) => {
            let of = |value: &System<'_>| Item::System(value.clone()).quantity();
            quantities(of(a), of(b))
        }
        _ => match (a.number(), b.number()) {
            (Some(a), Some(b)) => Some(a == b),
            _ => Some(false),
        },
    }
}

/// `~`.
pub fn equivalent(a: &Item<'_>, b: &Item<'_>) -> bool {
    match (a.system(), b.system()) {
        (Some(System::Text(a)), Some(System::Text(b))) => plain(&a) == plain(&b),
        (Some(System::Moment(a)), Some(System::Moment(b))) => a.is_equivalent(&b),
        (Some(one), Some(other)) => match (one.number(), other.number()) {
            (Some(one), Some(other)) => {
                let places = one.normal().scale().min(other.normal().scale()).max(0);
                let places = u8::try_from(places).unwrap_or(u8::MAX);
                one.rounded(places) == other.rounded(places)
            }
            _ => equal(a, b).unwrap_or(false) || about(a, b),
        },
        (None, None) => match (a, b) {
            (Item::Element(one), Item::Element(other)) => {
                equal(a, b) == Some(true) || alike_json(one.json(), other.json())
            }
            _ => equal(a, b) == Some(true),
        },
        _ => about(a, b),
    }
}

/// Quantities that are about the same, calendar and UCUM alike.
fn about(a: &Item<'_>, b: &Item<'_>) -> bool {
    let (Some(a), Some(b)) = (a.quantity(), b.quantity()) else {
        return false;
    };
    let code = |unit: &str| calendar_code(unit).map_or_else(|| unit.to_owned(), str::to_owned);
    let least = a.value.normal().scale().min(b.value.normal().scale());
    let tolerance = Decimal::new(1, least).half_unit().to_f64();
    match code(&a.unit) == code(&b.unit) {
        true => (a.value.to_f64() - b.value.to_f64()).abs() < tolerance,
        false => a
            .comparable(&b)
            .is_some_and(|(a, b)| (a - b).abs() <= a.abs().max(b.abs()) * 1e-9),
    }
}

/// A text without case, in which every white space is alike (FHIRPath 2.0 §6.1.2).
fn plain(text: &str) -> String {
    let alike = |c: char| if c.is_whitespace() { ' ' } else { c };
    text.chars()
        .map(alike)
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether two values of JSON are the same: numbers by their values, members in any order.
fn same_json(a: Option<&Json<'_>>, b: Option<&Json<'_>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => compare_json(a, b, &|a, b| a == b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// The same, with texts compared as `~` does.
fn alike_json(a: Option<&Json<'_>>, b: Option<&Json<'_>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => compare_json(a, b, &|a, b| plain(a) == plain(b)),
        _ => false,
    }
}

fn compare_json(a: &Json<'_>, b: &Json<'_>, texts: &dyn Fn(&str, &str) -> bool) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => match (Decimal::parse(a), Decimal::parse(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
        (Json::Text(a), Json::Text(b)) => texts(a, b),
        (Json::List(a), Json::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| compare_json(a, b, texts))
        }
        (Json::Object(a), Json::Object(b)) => {
            let held = |(name, value): &(_, Json<'_>)| {
                let name: &std::borrow::Cow<'_, str> = name;
                b.get(name)
                    .is_some_and(|other| compare_json(value, other, texts))
            };
            a.0.len() == b.0.len() && a.0.iter().all(held)
        }
        (a, b) => a == b,
    }
}

/// `<` and its like: none where it cannot be said.
pub fn order(
    a: &Item<'_>,
    b: &Item<'_>,
    operation: &'static str,
) -> Result<Option<Ordering>, PathError> {
    let wrong = PathError::Operand {
        operation,
        problem: "two numbers, texts, dates or quantities are expected",
    };
    match (a.system(), b.system()) {
        (Some(System::Text(a)), Some(System::Text(b))) => Ok(Some(a.cmp(&b))),
        (Some(System::Moment(a)), Some(System::Moment(b))) => Ok(a.compare(&b)),
        (Some(a), Some(b)) if a.number().is_some() && b.number().is_some() => {
            Ok(a.number().cmp(&b.number()).into())
        }
        _ => match (a.quantity(), b.quantity()) {
            (Some(a), Some(b)) => Ok(a.comparable(&b).and_then(|(a, b)| a.partial_cmp(&b))),
            _ => Err(wrong),
        },
    }
}
