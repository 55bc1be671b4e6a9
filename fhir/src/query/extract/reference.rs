//! References (FHIR R4 search.html#reference).
use super::child;
use crate::{
    bases::Bases,
    fhirpath::{Element, Item},
    query::{Value, text::cut},
    r4::R4,
};

/// What a reference leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A resource of this server: type, id, and version where there is one.
    Local(&'a str, &'a str, Option<&'a str>),
    /// A resource elsewhere: the URL without its version, the type where the URL names one, and the version.
    Elsewhere(&'a str, Option<&'a str>, Option<&'a str>),
}

/// What a relative or absolute reference leads to; none of what is contained, and of nothing.
#[must_use]
pub fn split_reference<'a>(text: &'a str, base: Bases<'_>) -> Option<Target<'a>> {
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let own = base.below(text);
    let (path, version) = match text.split_once("/_history/") {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    let relative = own.map_or(path, |own| {
        own.split_once("/_history/").map_or(own, |(path, _)| path)
    });
    if let Some((kind, id)) = relative.split_once('/')
        && R4.is_resource(kind)
        && is_id(id)
    {
        return Some(Target::Local(kind, id, version));
    }
    let named = path.rsplit_once('/').and_then(|(before, id)| {
        let kind = before.rsplit('/').next()?;
        (R4.is_resource(kind) && is_id(id)).then_some(kind)
    });
    Some(Target::Elsewhere(path, named, version))
}

/// FHIR R4 datatypes.html#id.
pub fn is_id(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(is_part)
}

#[derive(Default)]
struct Row<'a> {
    kind: Option<&'a str>,
    id: Option<&'a str>,
    version: Option<&'a str>,
    url: Option<&'a str>,
    identifier: Option<(Option<String>, String)>,
}

fn row(row: Row<'_>) -> Value {
    let text = |text: Option<&str>| text.map(|text| cut(text).to_owned());
    Value::Reference {
        resource_type: text(row.kind),
        id: text(row.id),
        version: text(row.version),
        url: text(row.url),
        identifier: row.identifier,
    }
}

fn to<'a>(target: Target<'a>) -> Row<'a> {
    match target {
        Target::Local(kind, id, version) => Row {
            kind: Some(kind),
            id: Some(id),
            version,
            ..Row::default()
        },
        Target::Elsewhere(url, kind, version) => Row {
            kind,
            version,
            url: Some(url),
            ..Row::default()
        },
    }
}

pub fn values(item: &Item<'_>, base: &str) -> Vec<Value> {
    let Item::Element(element) = item else {
        return Vec::new();
    };
    match element.type_name() {
        "Reference" => reference(element, base).into_iter().collect(),
        "canonical" | "uri" | "url" => canonical(element, base),
        kind if R4.is_resource(kind) => {
            let id = element.member("id");
            id.map(|id| row(to(Target::Local(kind, id, None))))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

/// A reference that names something and leads nowhere, by a display or an identifier without a value, has a row all the same:
/// it is not missing. What is contained is in no index.
fn reference(element: &Element<'_>, base: &str) -> Option<Value> {
    let identifier = child(element, "identifier").and_then(|identifier| {
        let value = cut(identifier.member("value")?).to_owned();
        Some((
            identifier
                .member("system")
                .map(|system| cut(system).to_owned()),
            value,
        ))
    });
    let target = element
        .member("reference")
        .and_then(|text| split_reference(text, Bases::of(base)));
    let mut found = target.map(to).unwrap_or_default();
    if target.is_none() && identifier.is_none() {
        let is_named =
            element.member("display").is_some() || child(element, "identifier").is_some();
        let leads_within = element.member("reference").is_some();
        if leads_within || !is_named {
            return None;
        }
    }
    found.kind = found.kind.or_else(|| element.member("type"));
    found.identifier = identifier;
    Some(row(found))
}

/// The URL without its version and its fragment; where it is one of this server, the resource too.
fn canonical(element: &Element<'_>, base: &str) -> Vec<Value> {
    let Some(text) = element.json().and_then(crate::json::Json::text) else {
        return Vec::new();
    };
    let (url, version) = match text.split_once('|') {
        Some((url, version)) => (url, Some(version)),
        None => (text, None),
    };
    let url = url.split('#').next().unwrap_or_default();
    if url.is_empty() {
        return Vec::new();
    }
    let mut values = vec![row(Row {
        version,
        url: Some(url),
        ..Row::default()
    })];
    if let Some(local @ Target::Local(..)) = split_reference(url, Bases::of(base)) {
        values.push(row(to(local)));
    }
    values
}
