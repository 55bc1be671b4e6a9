//! Tokens (FHIR R4 search.html#token).
use super::child;
use crate::{
    fhirpath::{Element, Item, System},
    query::{
        Value,
        text::{cut, fold},
    },
};

/// The system of booleans (FHIR R4 codesystem-special-values.html).
pub const BOOLEANS: &str = "http://terminology.hl7.org/CodeSystem/special-values";

fn token(system: Option<&str>, code: Option<&str>, text: Option<&str>) -> Value {
    Value::Token {
        system: system.map(|system| cut(system).to_owned()),
        code: code.map(|code| cut(code).to_owned()),
        text: text.map(fold),
    }
}

pub fn values(item: &Item<'_>) -> Vec<Value> {
    if let Item::Element(element) = item {
        match element.type_name() {
            "Coding" => return coding(element).into_iter().collect(),
            "CodeableConcept" => return concept(element),
            "Identifier" => return identifier(element),
            "ContactPoint" => return contact(element),
            "code" => {
                let code = element.json().and_then(crate::json::Json::text);
                return code
                    .map(|code| token(element.system_of_code(), Some(code), None))
                    .into_iter()
                    .collect();
            }
            _ => {}
        }
    }
    match item.system() {
        Some(System::Bool(value)) => vec![token(Some(BOOLEANS), Some(&value.to_string()), None)],
        Some(value) => vec![token(None, Some(&value.text()), None)],
        None => Vec::new(),
    }
}

fn coding(element: &Element<'_>) -> Option<Value> {
    let (system, code, display) = (
        element.member("system"),
        element.member("code"),
        element.member("display"),
    );
    let is_one = system.is_some() || code.is_some() || display.is_some();
    is_one.then(|| token(system, code, display))
}

fn concept(element: &Element<'_>) -> Vec<Value> {
    let codings = element.children_of("coding");
    let mut values: Vec<Value> = codings.iter().filter_map(coding).collect();
    values.extend(
        element
            .member("text")
            .map(|text| token(None, None, Some(text))),
    );
    values
}

/// The identifier itself, and a row for each coding of its type.
fn identifier(element: &Element<'_>) -> Vec<Value> {
    let kind = child(element, "type");
    let text = kind.as_ref().and_then(|kind| kind.member("text"));
    let Some(value) = element.member("value") else {
        let system = element.member("system");
        return system
            .map(|system| token(Some(system), None, text))
            .into_iter()
            .collect();
    };
    let mut values = vec![token(element.member("system"), Some(value), text)];
    let codings = kind
        .map(|kind| kind.children_of("coding"))
        .unwrap_or_default();
    values.extend(codings.iter().filter_map(|coding| {
        Some(Value::OfType {
            system: coding.member("system").map(|system| cut(system).to_owned()),
            code: cut(coding.member("code")?).to_owned(),
            value: cut(value).to_owned(),
        })
    }));
    values
}

/// A contact is found by its value, and by its kind before a bar (`phone|555`).
fn contact(element: &Element<'_>) -> Vec<Value> {
    let Some(value) = element.member("value") else {
        return Vec::new();
    };
    let mut values = vec![token(None, Some(value), None)];
    values.extend(
        element
            .member("system")
            .map(|system| token(Some(system), Some(value), None)),
    );
    values
}
