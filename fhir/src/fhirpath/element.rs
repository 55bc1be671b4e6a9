//! Elements of a resource with their types, as the tables of R4 know them.
use super::{
    Decimal, Moment,
    ast::TypeName,
    system::{Item, Quantity, System},
};
use crate::{
    json::{Json, Object},
    r4::{Field, Kind, Primitive, R4, Shape, ValueSet},
};
use std::borrow::Cow;

/// An element: its value, and what stands beside it when it is a primitive one.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    value: Option<&'a Json<'a>>,
    beside: Option<&'a Json<'a>>,
    kind: ElementKind,
    /// The value set that its code has to be of.
    set: Option<&'static ValueSet>,
}

/// What is known of an element's type.
#[derive(Clone, Copy, Debug)]
enum ElementKind {
    Primitive(Primitive),
    Shape(&'static Shape),
    /// What R4 does not have.
    Unknown,
}

impl<'a> Element<'a> {
    /// A resource; none when it is no object that names its type.
    #[must_use]
    pub fn resource(value: &'a Json<'a>) -> Option<Self> {
        value.object()?.text("resourceType")?;
        Some(Self::of_resource(value))
    }

    fn of_resource(value: &'a Json<'a>) -> Self {
        let name = value
            .object()
            .and_then(|object| object.text("resourceType"));
        let shape = name
            .and_then(|name| R4.resource(name))
            .map(|(_, shape)| shape);
        Self {
            value: Some(value),
            beside: None,
            set: None,
            kind: shape.map_or(ElementKind::Unknown, ElementKind::Shape),
        }
    }

    fn of_field(field: &Field, value: Option<&'a Json<'a>>, beside: Option<&'a Json<'a>>) -> Self {
        let kind = match (field.kind, value) {
            (Kind::Resource, Some(value)) => return Self::of_resource(value),
            (Kind::Primitive(primitive), _) => ElementKind::Primitive(primitive),
            (Kind::Object(at), _) => R4
                .shape(at)
                .map_or(ElementKind::Unknown, ElementKind::Shape),
            (Kind::Resource, None) => ElementKind::Unknown,
        };
        Self {
            value,
            beside,
            kind,
            set: field.set,
        }
    }

    /// The name of its type, such as `HumanName`, `code` or `Observation.component`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            ElementKind::Primitive(primitive) => primitive.as_str(),
            ElementKind::Shape(shape) => shape.name.as_str(),
            ElementKind::Unknown => "",
        }
    }

    /// What an object of its type may hold; none of a primitive element.
    #[must_use]
    pub const fn shape(&self) -> Option<&'static Shape> {
        match self.kind {
            ElementKind::Shape(shape) => Some(shape),
            _ => None,
        }
    }

    /// The value as it stands in the resource.
    #[must_use]
    pub const fn json(&self) -> Option<&'a Json<'a>> {
        self.value
    }

    /// Its members, when it is an object.
    #[must_use]
    pub fn object(&self) -> Option<&'a Object<'a>> {
        self.value?.object()
    }

    /// The text of one of its members.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&'a str> {
        self.object()?.text(name)
    }

    /// Where its children are: a primitive element has them beside its value.
    fn parent(&self) -> Option<(&'a Object<'a>, &'static Shape)> {
        match self.kind {
            ElementKind::Shape(shape) => Some((self.value?.object()?, shape)),
            ElementKind::Primitive(_) => Some((self.beside?.object()?, R4.shape_of("Element")?)),
            ElementKind::Unknown => None,
        }
    }

    /// The elements of a name, a choice of types (`value[x]`) by the name before its type.
    #[must_use]
    pub fn children_of(&self, name: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let Some((object, shape)) = self.parent() else {
            return found;
        };
        match shape.fields.get(name) {
            Some(field) if field.element == name => {
                let beside = match field.kind {
                    Kind::Primitive(_) => beside(object, name),
                    _ => None,
                };
                add(&mut found, field, object.get(name), beside);
            }
            // The name of one type of a choice is no path.
            Some(_) => {}
            None => add_members(&mut found, object, shape, Some(name)),
        }
        found
    }

    /// All elements below, in their order.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        let mut found = Vec::new();
        if let Some((object, shape)) = self.parent() {
            add_members(&mut found, object, shape, None);
        }
        found
    }

    /// The system of a code, where the value set that it has to be of says one.
    #[must_use]
    pub fn system_of_code(&self) -> Option<&'static str> {
        let code = self.value?.text()?;
        self.set?.system_of(code)
    }

    /// Whether a primitive element has a value, and not only extensions.
    #[must_use]
    pub fn has_value(&self) -> bool {
        matches!(self.kind, ElementKind::Primitive(_))
            && self.value.is_some_and(|value| *value != Json::Null)
    }

    /// The value of a primitive element; none when it has none that can be read.
    #[must_use]
    pub fn system(&self) -> Option<System<'a>> {
        let ElementKind::Primitive(primitive) = self.kind else {
            return None;
        };
        Some(match (primitive, self.value?) {
            (_, Json::Bool(value)) => System::Bool(*value),
            (Primitive::Decimal, Json::Number(text)) => System::Decimal(Decimal::parse(text)?),
            (_, Json::Number(text)) => match text.parse() {
                Ok(number) => System::Integer(number),
                Err(_) => System::Decimal(Decimal::parse(text)?),
            },
            (Primitive::Date, Json::Text(text)) => System::Moment(Moment::parse(text)?),
            (Primitive::DateTime | Primitive::Instant, Json::Text(text)) => {
                System::Moment(Moment::parse(text)?.date_time())
            }
            (Primitive::Time, Json::Text(text)) => System::Moment(Moment::parse_time(text)?),
            (_, Json::Text(text)) => System::Text(Cow::Borrowed(text.as_ref())),
            _ => return None,
        })
    }

    /// As a quantity, when it is one.
    #[must_use]
    pub fn quantity(&self) -> Option<Quantity> {
        if let Some(value) = self.system().and_then(|value| value.number()) {
            return Some(Quantity {
                value,
                unit: "1".to_owned(),
            });
        }
        if !self.is_a("Quantity") {
            return None;
        }
        let Some(Json::Number(text)) = self.object()?.get("value") else {
            return None;
        };
        let unit = self
            .member("code")
            .or_else(|| self.member("unit"))
            .unwrap_or("1");
        Some(Quantity {
            value: Decimal::parse(text)?,
            unit: unit.to_owned(),
        })
    }

    /// Whether its type is the one of a name, or made from it.
    #[must_use]
    pub fn is_a(&self, name: &str) -> bool {
        derives(self.type_name(), name)
    }
}

/// Whether a type is another one, or made from it.
fn derives(kind: &str, base: &str) -> bool {
    let mut known = kind;
    // Types are made from each other over at most five steps.
    for _ in 0..8 {
        if known == base {
            return !known.is_empty();
        }
        match R4.base_of(known) {
            Some(next) => known = next,
            None => return false,
        }
    }
    false
}

/// What stands beside a primitive value.
fn beside<'a>(object: &'a Object<'a>, name: &str) -> Option<&'a Json<'a>> {
    let found = object
        .0
        .iter()
        .find(|(known, _)| known.strip_prefix('_') == Some(name));
    found.map(|(_, value)| value)
}

/// The members of an object, of one element when a name is given.
fn add_members<'a>(
    found: &mut Vec<Element<'a>>,
    object: &'a Object<'a>,
    shape: &'static Shape,
    name: Option<&str>,
) {
    for (member, value) in &object.0 {
        let (plain, is_beside) = match member.strip_prefix('_') {
            Some(plain) => (plain, true),
            None => (member.as_ref(), false),
        };
        let field = shape.fields.get(plain);
        let Some(field) = field.filter(|field| name.is_none_or(|name| field.element == name))
        else {
            continue;
        };
        let is_primitive = matches!(field.kind, Kind::Primitive(_));
        match is_beside {
            true if is_primitive && !object.has(plain) => add(found, field, None, Some(value)),
            true => {}
            false => {
                let beside = if is_primitive {
                    beside(object, plain)
                } else {
                    None
                };
                add(found, field, Some(value), beside);
            }
        }
    }
}

/// The elements of one member.
fn add<'a>(
    found: &mut Vec<Element<'a>>,
    field: &Field,
    value: Option<&'a Json<'a>>,
    beside: Option<&'a Json<'a>>,
) {
    let mut one = |value: Option<&'a Json<'a>>, beside: Option<&'a Json<'a>>| {
        let value = value.filter(|value| **value != Json::Null);
        let beside = beside.filter(|beside| **beside != Json::Null);
        if value.is_some() || beside.is_some() {
            found.push(Element::of_field(field, value, beside));
        }
    };
    let list = |value: Option<&'a Json<'a>>| match value {
        Some(Json::List(list)) => Some(list.as_slice()),
        _ => None,
    };
    match (list(value), list(beside)) {
        (None, None) => one(value, beside),
        (values, besides) => {
            let (values, besides) = (values.unwrap_or_default(), besides.unwrap_or_default());
            for at in 0..values.len().max(besides.len()) {
                one(values.get(at), besides.get(at));
            }
        }
    }
}

impl Item<'_> {
    /// Whether it is of a type (FHIRPath 2.0 §6.3). A name alone is a type of R4, or one of FHIRPath where R4 has none.
    #[must_use]
    pub(super) fn is_of(&self, of: &TypeName) -> bool {
        let space = of.space.as_deref();
        match self {
            Self::Element(element) => space != Some("System") && element.is_a(&of.name),
            Self::Elsewhere(kind) => space != Some("System") && derives(kind, &of.name),
            Self::System(value) => space != Some("FHIR") && value.type_name() == of.name,
        }
    }
}
