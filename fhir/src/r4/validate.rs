//! Is it R4? Structure, cardinality, primitive values, required codes, references and rules, over the tables.
//!
//! What a profile asks for beyond R4 is not looked at, nor codes of value sets that are not required.
use super::{Field, Kind, R4, Shape, invariants, outcome::*};
use crate::json::{Json, JsonError, Object};
use std::collections::HashSet;

/// Checks the text of a resource; its type, when it is R4.
///
/// # Errors
/// Every issue, at most [`MAX_ISSUES`], never none.
pub fn validate(text: &str) -> Result<&'static str, Vec<Issue>> {
    validate_tree(&Json::parse(text).map_err(|error| vec![unreadable(&error)])?)
}

/// Checks a resource that was read already; its type, when it is R4.
///
/// # Errors
/// Every issue, at most [`MAX_ISSUES`], never none.
pub fn validate_tree(tree: &Json<'_>) -> Result<&'static str, Vec<Issue>> {
    let mut checker = Checker::default();
    let kind = checker.resource(tree, None);
    match kind {
        Some(kind) if checker.issues.is_empty() => Ok(kind),
        _ => Err(checker.issues),
    }
}

fn unreadable(error: &JsonError) -> Issue {
    Issue {
        fault: Fault::Invalid,
        expression: "Resource".into(),
        problem: format!("not JSON: {error}"),
    }
}

/// The resource that holds others.
struct Container<'a> {
    /// The ids of what it contains.
    ids: HashSet<&'a str>,
}

#[derive(Default)]
struct Checker {
    issues: Vec<Issue>,
    /// FHIRPath of the element in hand.
    at: String,
}

impl Checker {
    fn report(&mut self, fault: Fault, problem: impl Into<String>) {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(Issue {
                fault,
                expression: self.at.clone(),
                problem: problem.into(),
            });
        }
    }

    /// Does something at a step further down.
    fn below<T>(&mut self, step: &str, then: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.at.len();
        self.at.push_str(step);
        let done = then(self);
        self.at.truncate(length);
        done
    }

    /// A resource: alone, in a bundle or, where there is a container, within another.
    fn resource(
        &mut self,
        value: &Json<'_>,
        within: Option<&Container<'_>>,
    ) -> Option<&'static str> {
        if self.at.is_empty() {
            return match type_of(value) {
                Some(kind) => self.below(kind, |checker| checker.resource(value, within)),
                None => self.below("Resource", |checker| checker.untyped(value)),
            };
        }
        let (Some(object), Some(kind)) = (value.object(), type_of(value)) else {
            return self.untyped(value);
        };
        let shape = R4.shape_of(kind)?;
        let contained = object.each("contained").filter_map(Json::object);
        let own = Container {
            ids: contained.filter_map(|one| one.text("id")).collect(),
        };
        self.object(shape, object, within.unwrap_or(&own));
        for (key, element, rule) in invariants::of_resource(object, within.is_some()) {
            self.below(&element, |checker| checker.broken(key, rule));
        }
        Some(kind)
    }

    fn untyped(&mut self, value: &Json<'_>) -> Option<&'static str> {
        let problem = match value.object() {
            None => "a JSON object is expected",
            Some(object) if !object.has("resourceType") => "resourceType is missing",
            Some(_) => "resourceType is no resource type of R4",
        };
        self.report(Fault::Structure, problem);
        None
    }

    fn broken(&mut self, key: &str, rule: &str) {
        self.report(Fault::Invariant, format!("{key}: {rule}"));
    }

    fn object(&mut self, shape: &Shape, object: &Object<'_>, container: &Container<'_>) {
        if object.0.is_empty() {
            return self.report(
                Fault::Invariant,
                "ele-1: an element has a value or elements",
            );
        }
        let mut present: Vec<(&str, &str)> = Vec::with_capacity(object.0.len());
        for (name, value) in &object.0 {
            if name == "resourceType" && R4.is_resource(&shape.name) {
                continue;
            }
            let (member, is_beside) = match name.strip_prefix('_') {
                Some(member) => (member, true),
                None => (name.as_ref(), false),
            };
            let field = shape.fields.get(member);
            let field =
                field.filter(|field| !is_beside || matches!(field.kind, Kind::Primitive(_)));
            let Some(field) = field else {
                self.unknown(shape, name);
                continue;
            };
            present.push((field.element, member));
            let step = format!(".{}", field.element);
            self.below(&step, |checker| {
                if is_beside {
                    checker.beside(field, value, object.get(member), container);
                } else {
                    checker.member(field, value, object.get(&format!("_{member}")), container);
                }
            });
        }
        self.complete(shape, &present);
        for (key, element, rule) in invariants::broken(&shape.name, object) {
            let step = if element.is_empty() {
                String::new()
            } else {
                format!(".{element}")
            };
            self.below(&step, |checker| checker.broken(key, rule));
        }
    }

    /// An element that R4 does not have; its name is told where it looks like one.
    fn unknown(&mut self, shape: &Shape, name: &str) {
        let is_name = name.len() <= 64
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let name = if is_name { name } else { "a member" };
        let problem = format!("{name} is no element of {}", shape.name);
        self.report(Fault::Structure, problem);
    }

    fn complete(&mut self, shape: &Shape, present: &[(&str, &str)]) {
        for element in &shape.required {
            if !present.iter().any(|(known, _)| known == element) {
                let step = format!(".{element}");
                self.below(&step, |checker| {
                    checker.report(Fault::Required, "the element is required")
                });
            }
        }
        for (at, (element, member)) in present.iter().enumerate() {
            let before = present.iter().take(at);
            if before
                .into_iter()
                .any(|(known, other)| known == element && other != member)
            {
                let step = format!(".{element}");
                self.below(&step, |checker| {
                    checker.report(Fault::Structure, "the element stands with two types")
                });
            }
        }
    }

    fn member(
        &mut self,
        field: &Field,
        value: &Json<'_>,
        beside: Option<&Json<'_>>,
        container: &Container<'_>,
    ) {
        match (field.is_list, value) {
            (true, Json::List(list)) if list.is_empty() => {
                self.report(Fault::Structure, "a list is not empty");
            }
            (true, Json::List(list)) => {
                let extra = match beside {
                    Some(Json::List(extra)) => extra.as_slice(),
                    _ => &[],
                };
                for (index, value) in list.iter().enumerate() {
                    let extra = extra.get(index).is_some_and(|extra| *extra != Json::Null);
                    let step = format!("[{index}]");
                    self.below(&step, |checker| match value {
                        Json::Null if extra && matches!(field.kind, Kind::Primitive(_)) => {}
                        value => checker.one(field, value, container),
                    });
                }
            }
            (true, _) => self.report(Fault::Structure, "a list is expected"),
            (false, Json::List(_)) => {
                self.report(Fault::Structure, "one value is expected, not a list")
            }
            (false, value) => self.one(field, value, container),
        }
    }

    /// What stands beside a primitive value, under its name with an underscore: its id and extensions.
    fn beside(
        &mut self,
        field: &Field,
        value: &Json<'_>,
        primary: Option<&Json<'_>>,
        container: &Container<'_>,
    ) {
        let Some(shape) = R4.shape_of("Element") else {
            return;
        };
        let list = match (field.is_list, value) {
            (true, Json::List(list)) => list.as_slice(),
            (false, Json::Object(_)) => std::slice::from_ref(value),
            _ => {
                return self.report(
                    Fault::Structure,
                    "id and extensions of the value are expected",
                );
            }
        };
        let lengths_differ = |primary: &Json<'_>| match primary {
            Json::List(values) => values.len() != list.len(),
            _ => false,
        };
        if field.is_list && (list.is_empty() || primary.is_some_and(lengths_differ)) {
            self.report(
                Fault::Structure,
                "one element beside each value is expected, or null",
            );
        }
        for (index, value) in list.iter().enumerate() {
            let has_value = match primary {
                Some(Json::List(values)) => {
                    values.get(index).is_some_and(|value| *value != Json::Null)
                }
                _ => false,
            };
            match value {
                Json::Object(object) => self.object(shape, object, container),
                Json::Null if field.is_list && has_value => {}
                _ => self.report(
                    Fault::Structure,
                    "id and extensions of the value are expected",
                ),
            }
        }
    }

    fn one(&mut self, field: &Field, value: &Json<'_>, container: &Container<'_>) {
        match field.kind {
            Kind::Primitive(primitive) => {
                if let Some(expected) = primitive.refuses(value) {
                    self.report(Fault::Value, expected);
                } else if let (Some(set), Some(code)) =
                    (field.set.and_then(|set| R4.set(set)), value.text())
                    && !set.has_code(code)
                {
                    let set = field.set.unwrap_or_default();
                    self.report(Fault::CodeInvalid, format!("a code of {set} is expected"));
                }
            }
            Kind::Resource => {
                let within = self
                    .at
                    .rsplit('.')
                    .next()
                    .is_some_and(|last| last.starts_with("contained["));
                self.resource(value, within.then_some(container));
            }
            Kind::Object(shape) => {
                let (Some(object), Some(shape)) = (value.object(), R4.shape(shape)) else {
                    return self.report(Fault::Structure, "a JSON object is expected");
                };
                self.object(shape, object, container);
                self.coded(field, object);
                if shape.name == "Reference" {
                    self.reference(field, object, container);
                }
            }
        }
    }

    /// A required value set of a Coding or CodeableConcept: one of its codings is in it.
    fn coded(&mut self, field: &Field, object: &Object<'_>) {
        let Some(set) = field.set.and_then(|name| R4.set(name)) else {
            return;
        };
        let holds = |coding: &Object<'_>| {
            set.has(
                coding.text("system").unwrap_or_default(),
                coding.text("code").unwrap_or_default(),
            )
        };
        let codings = object.each("coding").filter_map(Json::object);
        let has_one = holds(object) || codings.into_iter().any(holds);
        if !has_one {
            let set = field.set.unwrap_or_default();
            self.report(Fault::CodeInvalid, format!("a coding of {set} is expected"));
        }
    }

    /// FHIR R4 ref-1, and the type that a relative reference names.
    fn reference(&mut self, field: &Field, object: &Object<'_>, container: &Container<'_>) {
        let Some(text) = object.text("reference") else {
            return;
        };
        if let Some(id) = text.strip_prefix('#') {
            if !id.is_empty() && !container.ids.contains(id) {
                self.broken("ref-1", "a local reference leads to a contained resource");
            }
            return;
        }
        let Some((kind, rest)) = text.split_once('/') else {
            return;
        };
        let is_relative = R4.is_resource(kind) && !rest.is_empty();
        if is_relative
            && !field.targets.is_empty()
            && !field.targets.split('|').any(|target| target == kind)
        {
            self.report(
                Fault::Structure,
                format!(
                    "a reference to {} is expected",
                    field.targets.replace('|', ", ")
                ),
            );
        }
    }
}

/// The resource type that a value names.
fn type_of(value: &Json<'_>) -> Option<&'static str> {
    let name = value.object()?.text("resourceType")?;
    let at = R4.resources().binary_search(&name).ok()?;
    R4.resources().get(at).copied()
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
