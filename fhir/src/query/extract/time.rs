//! Times (FHIR R4 search.html#date).
use super::{child, moment};
use crate::{
    fhirpath::{Element, Item, System},
    query::Value,
};

pub fn values(item: &Item<'_>) -> Vec<Value> {
    let span = match item {
        Item::Element(element) => match element.type_name() {
            "Period" => period(element),
            "Timing" => timing(element),
            _ => plain(item),
        },
        _ => plain(item),
    };
    span.map(|(low, high)| Value::Date { low, high })
        .into_iter()
        .collect()
}

fn plain(item: &Item<'_>) -> Option<(i64, i64)> {
    match item.system()? {
        System::Moment(moment) => Some(moment.span()),
        _ => None,
    }
}

/// An end that is missing is open.
fn period(element: &Element<'_>) -> Option<(i64, i64)> {
    let (start, end) = (moment(element, "start"), moment(element, "end"));
    if start.is_none() && end.is_none() {
        return None;
    }
    let low = start.map_or(i64::MIN, |start| start.span().0);
    let high = end.map_or(i64::MAX, |end| end.span().1);
    Some((low, high))
}

/// Only the outer limits of a schedule matter.
fn timing(element: &Element<'_>) -> Option<(i64, i64)> {
    let events = element.children_of("event");
    let mut spans: Vec<(i64, i64)> = events
        .into_iter()
        .filter_map(|event| plain(&Item::Element(event)))
        .collect();
    let bounds = child(element, "repeat").and_then(|repeat| child(&repeat, "bounds"));
    let bounds = bounds.filter(|bounds| bounds.type_name() == "Period");
    spans.extend(bounds.as_ref().and_then(period));
    let low = spans.iter().map(|(low, _)| *low).min()?;
    let high = spans.iter().map(|(_, high)| *high).max()?;
    Some((low, high))
}
