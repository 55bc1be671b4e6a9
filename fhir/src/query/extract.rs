//! From a resource to the rows of its index.
//!
//! Every standard parameter of the type is evaluated on the resource; what its expression finds is read as the kind of
//! the parameter wants it (FHIR R4 search.html, tables of each kind). What a kind does not know has no row. `_id` and
//! `_lastUpdated` have none: an engine has them as columns.
mod quantity;
mod reference;
mod time;
mod token;

use super::{
    IndexRow, Kind, Param, Part, Value, params,
    text::{cut, fold},
};
use crate::{
    fhirpath::{Element, Item, Path, Surroundings, System},
    json::{Json, Object},
    r4::R4,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{LazyLock, OnceLock},
};

pub(super) use quantity::UCUM;
pub(super) use reference::is_id;
pub use reference::{Target, split_reference};

/// Values of one parameter up to which one that stands twice is looked for one by one.
const FEW: usize = 32;

/// A parameter with its expressions read.
struct Compiled {
    param: &'static Param,
    path: Path,
    parts: Vec<(&'static Part, Path)>,
    /// The elements at the top that it looks at; none where it looks at more.
    tops: Option<Vec<String>>,
}

impl Compiled {
    /// Whether it looks at one of the elements that are there.
    fn looks_at(&self, there: &[&str]) -> bool {
        let is_there = |top: &String| there.contains(&top.as_str());
        self.tops
            .as_ref()
            .is_none_or(|tops| tops.iter().any(is_there))
    }
}

/// The parameters of each type, read when a resource of the type is first seen.
static COMPILED: LazyLock<HashMap<&'static str, OnceLock<Vec<Compiled>>>> = LazyLock::new(|| {
    let unread = |kind: &&'static str| (*kind, OnceLock::new());
    R4.resources().iter().map(unread).collect()
});

fn compiled_of(kind: &str) -> &'static [Compiled] {
    let cell = COMPILED.get(kind);
    cell.map_or(&[], |cell| {
        cell.get_or_init(|| params(kind).filter_map(compile).collect())
    })
}

/// A parameter whose expression cannot be read has no rows; a test finds that there is none.
fn compile(param: &'static Param) -> Option<Compiled> {
    if matches!(param.code, "_id" | "_lastUpdated") {
        return None;
    }
    // R4 writes the name of FHIRPath's type in one place where its own is meant (Observation code-value-date).
    let read = |expression: &str| {
        Path::parse(&expression.replace("ofType(DateTime)", "ofType(dateTime)")).ok()
    };
    let parts = param
        .parts
        .iter()
        .map(|part| Some((part, read(part.expression)?)));
    let path = read(param.expression)?;
    let tops = path
        .tops()
        .map(|tops| tops.into_iter().map(str::to_owned).collect());
    Some(Compiled {
        param,
        path,
        parts: parts.collect::<Option<_>>()?,
        tops,
    })
}

/// The rows of a resource: the values of every parameter of its type, each once. `base` is the URL of this server, with
/// which its own absolute references begin, without a slash at its end. A resource of no type of R4 has none.
#[must_use]
pub fn extract(resource: &Json<'_>, base: &str) -> Vec<IndexRow> {
    let mut rows = Vec::new();
    let Some(object) = resource.object() else {
        return rows;
    };
    let kind = object.text("resourceType").unwrap_or_default();
    let there = elements_of(kind, object);
    let all = compiled_of(kind).iter();
    for compiled in all.filter(|one| one.looks_at(&there)) {
        // An expression that fails on a resource finds nothing in it.
        let found = compiled
            .path
            .evaluate(resource, Surroundings::default())
            .unwrap_or_default();
        let (start, mut known) = (rows.len(), HashSet::new());
        if compiled.param.kind == Kind::Composite {
            composite(compiled, resource, &found, base, &mut rows);
            continue;
        }
        for item in &found {
            for value in values(compiled.param.kind, item, base) {
                let own = rows.get(start..).unwrap_or_default();
                if !is_known(own, &mut known, &value) {
                    rows.push(IndexRow {
                        param: compiled.param.code,
                        group: 0,
                        part: 0,
                        value,
                    });
                }
            }
        }
    }
    rows
}

/// Whether a value is among those of some rows, which a parameter has of one resource: few are looked at one by one; of many
/// each is known by how it is written, or tens of thousands would be compared with each other.
fn is_known(own: &[IndexRow], known: &mut HashSet<String>, value: &Value) -> bool {
    if own.len() < FEW {
        return own.iter().any(|row| row.value == *value);
    }
    if known.is_empty() {
        known.extend(own.iter().map(|row| format!("{:?}", row.value)));
    }
    !known.insert(format!("{value:?}"))
}

/// The elements at the top of a resource that are there.
fn elements_of(kind: &str, object: &Object<'_>) -> Vec<&'static str> {
    let Some((_, shape)) = R4.resource(kind) else {
        return Vec::new();
    };
    let field_of = |name: &str| shape.fields.get(name.trim_start_matches('_'));
    let fields = object.0.iter().filter_map(|(name, _)| field_of(name));
    fields.map(|field| field.element).collect()
}

/// The values of an item, as a kind of parameter reads it.
fn values(kind: Kind, item: &Item<'_>, base: &str) -> Vec<Value> {
    match kind {
        Kind::Token => token::values(item),
        Kind::Date => time::values(item),
        Kind::Number => quantity::numbers(item),
        Kind::Quantity => quantity::quantities(item),
        Kind::String => texts(item),
        Kind::Reference => reference::values(item, base),
        Kind::Uri => uris(item),
        Kind::Special => positions(item),
        Kind::Composite => Vec::new(),
    }
}

/// Each element that a composite finds is a group, when every part has a value in it.
fn composite(
    compiled: &Compiled,
    resource: &Json<'_>,
    found: &[Item<'_>],
    base: &str,
    rows: &mut Vec<IndexRow>,
) {
    let around = Surroundings {
        resource: Some(resource),
        now: None,
    };
    let mut group = 0;
    for item in found {
        let Item::Element(element) = item else {
            continue;
        };
        let of_part = |(part, path): &(&'static Part, Path)| {
            let items = path.evaluate_at(element, around).unwrap_or_default();
            let values = items.iter().flat_map(|item| values(part.kind, item, base));
            values.collect::<Vec<_>>()
        };
        let parts: Vec<Vec<Value>> = compiled.parts.iter().map(of_part).collect();
        if parts.is_empty() || parts.iter().any(Vec::is_empty) {
            continue;
        }
        for (part, values) in (0_u8..).zip(parts) {
            rows.extend(values.into_iter().map(|value| IndexRow {
                param: compiled.param.code,
                group,
                part,
                value,
            }));
        }
        group += 1;
    }
}

fn text(text: &str) -> Value {
    Value::Text {
        exact: cut(text).to_owned(),
        folded: fold(text),
    }
}

/// Each part of a name or an address is a text of its own.
fn texts(item: &Item<'_>) -> Vec<Value> {
    const NAME: &[&str] = &["text", "family", "given", "prefix", "suffix"];
    const ADDRESS: &[&str] = &[
        "text",
        "line",
        "city",
        "district",
        "state",
        "postalCode",
        "country",
    ];
    let parts = match item {
        Item::Element(element) => match element.type_name() {
            "HumanName" => Some((element, NAME)),
            "Address" => Some((element, ADDRESS)),
            "CodeableConcept" => Some((element, &["text"][..])),
            "ContactPoint" | "Identifier" => Some((element, &["value"][..])),
            _ => None,
        },
        _ => None,
    };
    match parts {
        Some((element, names)) => {
            let parts = names.iter().flat_map(|name| element.children_of(name));
            parts
                .filter_map(|part| Some(text(&Item::Element(part).text()?)))
                .collect()
        }
        None => item
            .system()
            .map(|value| text(&value.text()))
            .into_iter()
            .collect(),
    }
}

/// A canonical URL is found with its version and without.
fn uris(item: &Item<'_>) -> Vec<Value> {
    let Some(whole) = item.text() else {
        return Vec::new();
    };
    let mut uris = vec![Value::Uri(cut(&whole).to_owned())];
    if let (Some("canonical"), Some((url, _))) = (type_of(item), whole.split_once('|')) {
        uris.push(Value::Uri(cut(url).to_owned()));
    }
    uris
}

fn type_of<'i>(item: &'i Item<'_>) -> Option<&'i str> {
    match item {
        Item::Element(element) => Some(element.type_name()),
        _ => None,
    }
}

/// Location `near`.
fn positions(item: &Item<'_>) -> Vec<Value> {
    let Item::Element(element) = item else {
        return Vec::new();
    };
    let degrees = |name: &str| {
        let one = element.children_of(name).into_iter().next()?;
        one.system()
            .and_then(|value| value.number())
            .map(|number| number.to_f64())
    };
    match (degrees("latitude"), degrees("longitude")) {
        (Some(latitude), Some(longitude)) => vec![Value::Position {
            latitude,
            longitude,
        }],
        _ => Vec::new(),
    }
}

/// A child of an element, when there is one.
fn child<'a>(element: &Element<'a>, name: &str) -> Option<Element<'a>> {
    element.children_of(name).into_iter().next()
}

/// The moment of a child.
fn moment(element: &Element<'_>, name: &str) -> Option<crate::fhirpath::Moment> {
    match child(element, name)?.system()? {
        System::Moment(moment) => Some(moment),
        _ => None,
    }
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
