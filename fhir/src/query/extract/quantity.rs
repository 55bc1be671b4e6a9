//! Numbers and quantities (FHIR R4 search.html#number, #quantity).
use super::child;
use crate::{
    fhirpath::{Decimal, Element, Item},
    query::{Canonical, Value, text::cut},
    ucum::Unit,
};

/// UCUM.
pub const UCUM: &str = "http://unitsofmeasure.org";
/// Currencies of a Money.
const CURRENCIES: &str = "urn:iso:std:iso:4217";

/// A unit as a resource names it.
#[derive(Default)]
struct Named<'a> {
    system: Option<&'a str>,
    code: Option<&'a str>,
    unit: Option<&'a str>,
}

pub fn numbers(item: &Item<'_>) -> Vec<Value> {
    let point = item
        .system()
        .and_then(|value| value.number())
        .map(|number| (number.to_f64(), number.to_f64()));
    let span = point.or_else(|| match item {
        Item::Element(element) if element.type_name() == "Range" => {
            range(element).map(|(low, high, _)| {
                (
                    low.map_or(f64::NEG_INFINITY, Decimal::to_f64),
                    high.map_or(f64::INFINITY, Decimal::to_f64),
                )
            })
        }
        Item::Element(element) => {
            decimal(element, "value").map(|value| (value.to_f64(), value.to_f64()))
        }
        _ => None,
    });
    let span = span.filter(|(low, high)| !low.is_nan() && !high.is_nan());
    span.map(|(low, high)| Value::Number { low, high })
        .into_iter()
        .collect()
}

pub fn quantities(item: &Item<'_>) -> Vec<Value> {
    let Item::Element(element) = item else {
        return Vec::new();
    };
    let span = match element.type_name() {
        "Range" => range(element),
        "SampledData" => samples(element),
        "Money" => decimal(element, "value").map(|value| {
            let named = Named {
                system: Some(CURRENCIES),
                code: element.member("currency"),
                unit: None,
            };
            (Some(value), Some(value), named)
        }),
        _ if element.is_a("Quantity") => quantity(element),
        _ => {
            let number = element.system().and_then(|value| value.number());
            number.map(|number| (Some(number), Some(number), Named::default()))
        }
    };
    span.and_then(|(low, high, named)| row(low, high, &named))
        .into_iter()
        .collect()
}

fn decimal(element: &Element<'_>, name: &str) -> Option<Decimal> {
    child(element, name)?.system()?.number()
}

fn named<'a>(element: &Element<'a>) -> Named<'a> {
    Named {
        system: element.member("system"),
        code: element.member("code"),
        unit: element.member("unit"),
    }
}

type Span<'a> = (Option<Decimal>, Option<Decimal>, Named<'a>);

/// A comparator opens one end.
fn quantity<'a>(element: &Element<'a>) -> Option<Span<'a>> {
    let value = decimal(element, "value")?;
    let (low, high) = match element.member("comparator") {
        Some("<" | "<=") => (None, Some(value)),
        Some(">" | ">=") => (Some(value), None),
        _ => (Some(value), Some(value)),
    };
    Some((low, high, named(element)))
}

fn range<'a>(element: &Element<'a>) -> Option<Span<'a>> {
    let (low, high) = (child(element, "low"), child(element, "high"));
    let unit = low.as_ref().or(high.as_ref()).map(named)?;
    let value = |end: Option<Element<'_>>| end.and_then(|end| decimal(&end, "value"));
    let (low, high) = (value(low), value(high));
    (low.is_some() || high.is_some()).then_some((low, high, unit))
}

/// From the least to the greatest sample: `origin + factor × sample`.
fn samples<'a>(element: &Element<'a>) -> Option<Span<'a>> {
    let origin = child(element, "origin")?;
    let zero = decimal(&origin, "value").unwrap_or(Decimal::from(0));
    let factor = decimal(element, "factor").unwrap_or(Decimal::from(1));
    let words = element
        .member("data")
        .unwrap_or_default()
        .split_ascii_whitespace();
    // E, U and L stand for what could not be measured.
    let values = words
        .filter_map(Decimal::parse)
        .filter_map(|value| value.times(factor)?.plus(zero));
    let (mut low, mut high): (Option<Decimal>, Option<Decimal>) = (None, None);
    for value in values {
        low = Some(low.map_or(value, |known| known.min(value)));
        high = Some(high.map_or(value, |known| known.max(value)));
    }
    Some((Some(low?), Some(high?), named(&origin)))
}

fn row(low: Option<Decimal>, high: Option<Decimal>, named: &Named<'_>) -> Option<Value> {
    let ends = |of: &dyn Fn(Decimal) -> f64| {
        let ends = (
            low.map_or(f64::NEG_INFINITY, of),
            high.map_or(f64::INFINITY, of),
        );
        (!ends.0.is_nan() && !ends.1.is_nan()).then_some(ends)
    };
    let text = |text: Option<&str>| text.map(|text| cut(text).to_owned());
    let is_ucum = named.system == Some(UCUM);
    let unit = named.code.filter(|_| is_ucum).and_then(Unit::parse);
    let canonical = unit.and_then(|unit| {
        let (low, high) = ends(&|value| unit.base_value(value))?;
        Some(Canonical {
            low,
            high,
            unit: cut(&unit.dimension()).to_owned(),
        })
    });
    let (low, high) = ends(&Decimal::to_f64)?;
    Some(Value::Quantity {
        low,
        high,
        system: text(named.system),
        code: text(named.code),
        unit: text(named.unit),
        canonical,
    })
}
