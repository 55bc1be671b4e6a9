//! Is it R4? Structure, cardinality, primitive values, required codes, references and rules, over the tables.
//!
//! What a profile asks for beyond R4 is not looked at, nor codes of value sets that are not required.
use super::{Field, Kind, R4, Shape, invariants, outcome::*, place::Place, primitive::is_id};
use crate::json::{Json, JsonError, Object};
use std::collections::HashSet;

/// What the name of a type may stand behind in `Reference.type`.
const DEFINITIONS: &str = "http://hl7.org/fhir/StructureDefinition/";

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
    let root = type_of(tree).map_or("Resource", |(kind, _)| kind);
    let kind = checker.resource(tree, None, &Place::root(root));
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
}

impl Checker {
    fn report(&mut self, at: &Place<'_>, fault: Fault, problem: impl Into<String>) {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(Issue {
                fault,
                expression: at.path(),
                problem: problem.into(),
            });
        }
    }

    /// A resource: alone, in a bundle or, where there is a container, within another.
    fn resource(
        &mut self,
        value: &Json<'_>,
        within: Option<&Container<'_>>,
        at: &Place<'_>,
    ) -> Option<&'static str> {
        let (Some(object), Some((kind, shape))) = (value.object(), type_of(value)) else {
            return self.untyped(value, at);
        };
        match within {
            Some(container) => {
                self.object(shape, object, container, at);
                self.rules(invariants::CONTAINED, object, at);
            }
            None => {
                let contained = object.each("contained").filter_map(Json::object);
                let own = Container {
                    ids: contained.filter_map(|one| one.text("id")).collect(),
                };
                self.object(shape, object, &own, at);
                let contained = at.element("contained");
                for index in invariants::unused(object) {
                    self.broken(&contained.index(index), "dom-3", invariants::UNUSED);
                }
                for index in invariants::doubled(object) {
                    let id = contained.index(index);
                    self.report(&id.element("id"), Fault::Invariant, invariants::DOUBLED);
                }
            }
        }
        Some(kind)
    }

    fn untyped(&mut self, value: &Json<'_>, at: &Place<'_>) -> Option<&'static str> {
        let problem = match value.object() {
            None => "a JSON object is expected",
            Some(object) if !object.has("resourceType") => "resourceType is missing",
            Some(_) => "resourceType is no resource type of R4",
        };
        self.report(at, Fault::Structure, problem);
        None
    }

    fn broken(&mut self, at: &Place<'_>, key: &str, rule: &str) {
        self.report(at, Fault::Invariant, format!("{key}: {rule}"));
    }

    fn rules(&mut self, rules: &[invariants::Rule], object: &Object<'_>, at: &Place<'_>) {
        for rule in rules.iter().filter(|rule| !rule.holds(object)) {
            match rule.element {
                "" => self.broken(at, rule.key, rule.words),
                element => self.broken(&at.element(element), rule.key, rule.words),
            }
        }
    }

    fn object(
        &mut self,
        shape: &Shape,
        object: &Object<'_>,
        container: &Container<'_>,
        at: &Place<'_>,
    ) {
        if object.0.is_empty() {
            let rule = "an element has a value or elements";
            return self.broken(at, "ele-1", rule);
        }
        let (mut present, mut is_repeated) = (0, false);
        for (name, value) in &object.0 {
            if shape.is_resource && name == "resourceType" {
                continue;
            }
            let Some((field, member, is_beside)) = field_of(shape, name) else {
                self.unknown(shape, name, at);
                continue;
            };
            is_repeated |= present & field.bit != 0;
            present |= field.bit;
            let at = at.element(field.element);
            if is_beside {
                self.beside(field, value, object.get(member), container, &at);
            } else {
                self.member(field, value, (object, member), container, &at);
            }
        }
        if shape.required_bits & !present != 0 {
            self.missing(shape, object, at);
        }
        if is_repeated {
            self.repeated(shape, object, at);
        }
        self.rules(shape.rules, object, at);
        for member in shape.simple {
            let mut quantities = object.each(member).filter_map(Json::object);
            if quantities.any(|quantity| quantity.has("comparator")) {
                let field = shape.fields.get(*member);
                let element = field.map_or(*member, |field| field.element);
                self.broken(&at.element(element), "sqty-1", invariants::NO_COMPARATOR);
            }
        }
    }

    /// An element that R4 does not have; its name is told where it looks like one.
    fn unknown(&mut self, shape: &Shape, name: &str, at: &Place<'_>) {
        let is_name = name.len() <= 64
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let name = if is_name { name } else { "a member" };
        let problem = format!("{name} is no element of {}", shape.name);
        self.report(at, Fault::Structure, problem);
    }

    fn missing(&mut self, shape: &Shape, object: &Object<'_>, at: &Place<'_>) {
        let present: Vec<&str> = elements(shape, object).map(|(known, _)| known).collect();
        for element in &shape.required {
            if !present.contains(element) {
                let at = at.element(element);
                self.report(&at, Fault::Required, "the element is required");
            }
        }
    }

    /// An element of a choice stands with one type.
    fn repeated(&mut self, shape: &Shape, object: &Object<'_>, at: &Place<'_>) {
        let present: Vec<(&str, &str)> = elements(shape, object).collect();
        for (index, (element, member)) in present.iter().enumerate() {
            let mut before = present.iter().take(index);
            if before.any(|(known, other)| known == element && other != member) {
                let at = at.element(element);
                let problem = "the element stands with two types";
                self.report(&at, Fault::Structure, problem);
            }
        }
    }

    /// A member; `named` is the object that it is of, and its name there.
    fn member(
        &mut self,
        field: &Field,
        value: &Json<'_>,
        named: (&Object<'_>, &str),
        container: &Container<'_>,
        at: &Place<'_>,
    ) {
        match (field.is_list, value) {
            (true, Json::List(list)) if list.is_empty() => {
                self.report(at, Fault::Structure, "a list is not empty");
            }
            (true, Json::List(list)) => {
                let extra = match field.kind {
                    Kind::Primitive(_) if list.contains(&Json::Null) => extra_of(named),
                    _ => &[],
                };
                for (index, value) in list.iter().enumerate() {
                    let has_extra = || extra.get(index).is_some_and(|extra| *extra != Json::Null);
                    if *value != Json::Null || !has_extra() {
                        self.one(field, value, container, &at.index(index));
                    }
                }
            }
            (true, _) => self.report(at, Fault::Structure, "a list is expected"),
            (false, Json::List(_)) => {
                self.report(at, Fault::Structure, "one value is expected, not a list");
            }
            (false, value) => self.one(field, value, container, at),
        }
    }

    /// What stands beside a primitive value, under its name with an underscore: its id and extensions.
    fn beside(
        &mut self,
        field: &Field,
        value: &Json<'_>,
        primary: Option<&Json<'_>>,
        container: &Container<'_>,
        at: &Place<'_>,
    ) {
        const EXPECTED: &str = "id and extensions of the value are expected";
        let Some(shape) = R4.shape_of("Element") else {
            return;
        };
        let list = match (field.is_list, value) {
            (true, Json::List(list)) => list.as_slice(),
            (false, Json::Object(_)) => std::slice::from_ref(value),
            _ => return self.report(at, Fault::Structure, EXPECTED),
        };
        let lengths_differ = |primary: &Json<'_>| match primary {
            Json::List(values) => values.len() != list.len(),
            _ => false,
        };
        if field.is_list && (list.is_empty() || primary.is_some_and(lengths_differ)) {
            let problem = "one element beside each value is expected, or null";
            self.report(at, Fault::Structure, problem);
        }
        for (index, value) in list.iter().enumerate() {
            let has_value = match primary {
                Some(Json::List(values)) => {
                    values.get(index).is_some_and(|value| *value != Json::Null)
                }
                _ => false,
            };
            match value {
                Json::Object(object) => self.object(shape, object, container, at),
                Json::Null if field.is_list && has_value => {}
                _ => self.report(at, Fault::Structure, EXPECTED),
            }
        }
    }

    fn one(&mut self, field: &Field, value: &Json<'_>, container: &Container<'_>, at: &Place<'_>) {
        match field.kind {
            Kind::Primitive(primitive) => {
                if let Some(expected) = primitive.refuses(value) {
                    self.report(at, Fault::Value, expected);
                } else if let (Some(set), Some(code)) = (field.set, value.text())
                    && !set.has_code(code)
                {
                    let problem = format!("a code of {} is expected", set.name());
                    self.report(at, Fault::CodeInvalid, problem);
                }
            }
            Kind::Resource => {
                let within = at.is_one_of("contained").then_some(container);
                self.resource(value, within, at);
            }
            Kind::Object(shape) => {
                let (Some(object), Some(shape)) = (value.object(), R4.shape(shape)) else {
                    return self.report(at, Fault::Structure, "a JSON object is expected");
                };
                self.object(shape, object, container, at);
                self.coded(field, object, at);
                if shape.name == "Reference" {
                    self.reference(field, object, container, at);
                }
            }
        }
    }

    /// A required value set of a Coding or CodeableConcept: one of its codings is in it.
    fn coded(&mut self, field: &Field, object: &Object<'_>, at: &Place<'_>) {
        let Some(set) = field.set else {
            return;
        };
        let holds = |coding: &Object<'_>| {
            set.has(
                coding.text("system").unwrap_or_default(),
                coding.text("code").unwrap_or_default(),
            )
        };
        let mut codings = object.each("coding").filter_map(Json::object);
        if !holds(object) && !codings.any(holds) {
            let problem = format!("a coding of {} is expected", set.name());
            self.report(at, Fault::CodeInvalid, problem);
        }
    }

    /// FHIR R4 ref-1, and the type that a relative reference names, which `type` names too where it is there.
    fn reference(
        &mut self,
        field: &Field,
        object: &Object<'_>,
        container: &Container<'_>,
        at: &Place<'_>,
    ) {
        let Some(text) = object.text("reference") else {
            return;
        };
        if let Some(id) = text.strip_prefix('#') {
            if !id.is_empty() && !container.ids.contains(id) {
                let rule = "a local reference leads to a contained resource";
                self.broken(at, "ref-1", rule);
            }
            return;
        }
        if !is_reference(text) {
            let problem = "Type/id, a URL, or # and the id of what is contained is expected";
            return self.report(&at.element("reference"), Fault::Value, problem);
        }
        let Some((kind, rest)) = text.split_once('/') else {
            return;
        };
        if rest.is_empty() || !R4.is_resource(kind) {
            return;
        }
        let named = object.text("type").unwrap_or(kind);
        if named.strip_prefix(DEFINITIONS).unwrap_or(named) != kind {
            let problem = "the type that the reference names is expected";
            self.report(&at.element("type"), Fault::Structure, problem);
        }
        let is_wanted =
            field.targets.is_empty() || field.targets.split('|').any(|target| target == kind);
        if !is_wanted {
            let targets = field.targets.replace('|', ", ");
            let problem = format!("a reference to {targets} is expected");
            self.report(at, Fault::Structure, problem);
        }
    }
}

/// A URL, a search (`Type?…`), or `Type/id` with or without a version (FHIR R4 references.html#literal).
fn is_reference(text: &str) -> bool {
    let first = text.split(['/', '?', '#']).next().unwrap_or_default();
    if first.contains(':') {
        return true;
    }
    if let Some((kind, _)) = text.split_once('?') {
        return R4.is_resource(kind);
    }
    let path = text.split('#').next().unwrap_or_default();
    let mut parts = path.split('/');
    let (Some(kind), Some(id)) = (parts.next(), parts.next()) else {
        return false;
    };
    let is_version = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => true,
        (Some("_history"), Some(version), None) => is_id(version),
        _ => false,
    };
    R4.is_resource(kind) && is_id(id) && is_version
}

/// The field of a member, the member's name without an underscore, and whether it had one: what stands beside a value.
fn field_of<'s, 'n>(shape: &'s Shape, name: &'n str) -> Option<(&'s Field, &'n str, bool)> {
    match name.strip_prefix('_') {
        None => Some((shape.fields.get(name)?, name, false)),
        Some(member) => {
            let field = shape.fields.get(member)?;
            matches!(field.kind, Kind::Primitive(_)).then_some((field, member, true))
        }
    }
}

/// The elements that are there, in their order, each with the name of its member.
fn elements<'a>(
    shape: &'a Shape,
    object: &'a Object<'_>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let names = object.0.iter().map(|(name, _)| name.as_ref());
    let names = names.filter(move |name| !(shape.is_resource && *name == "resourceType"));
    names.filter_map(move |name| {
        let (field, member, _) = field_of(shape, name)?;
        Some((field.element, member))
    })
}

/// What stands beside the values of a member that is a list.
fn extra_of<'a, 'j>((object, member): (&'a Object<'j>, &str)) -> &'a [Json<'j>] {
    let beside = object
        .0
        .iter()
        .find(|(name, _)| name.strip_prefix('_') == Some(member));
    match beside {
        Some((_, Json::List(extra))) => extra,
        _ => &[],
    }
}

/// The resource type that a value names, and its shape.
fn type_of(value: &Json<'_>) -> Option<(&'static str, &'static Shape)> {
    R4.resource(value.object()?.text("resourceType")?)
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
