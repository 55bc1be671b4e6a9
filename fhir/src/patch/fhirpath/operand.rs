//! The value of an operation: a `value[x]`, a resource, or parts that make an object.
use crate::{
    json::{Json, Object},
    r4::{Field, Kind, R4, Shape},
};
use std::borrow::Cow;

/// Objects made of parts within each other.
const MAX_DEPTH: u8 = 8;

/// A value.
#[derive(Clone, Debug)]
pub enum Operand<'a> {
    /// A value, with its type as it stands in the name of its member: `DateTime` of `valueDateTime`.
    Value(String, Json<'a>),
    /// A resource.
    Resource(Json<'a>),
    /// Elements by their names.
    Parts(Vec<(String, Self)>),
}

impl<'a> Operand<'a> {
    /// Of a part of Parameters.
    pub fn read(part: &Object<'a>) -> Option<Self> {
        Self::read_at(part, 0)
    }

    fn read_at(part: &Object<'a>, depth: u8) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        if let Some(resource) = part.get("resource") {
            return Some(Self::Resource(resource.clone()));
        }
        let value = part.0.iter().find_map(|(name, value)| {
            let kind = name.strip_prefix("value").filter(|kind| !kind.is_empty())?;
            Some(Self::Value(kind.to_owned(), value.clone()))
        });
        if value.is_some() {
            return value;
        }
        let parts = part.each("part").filter_map(Json::object).map(|part| {
            let name = part.text("name")?.to_owned();
            Some((name, Self::read_at(part, depth + 1)?))
        });
        let parts: Vec<(String, Self)> = parts.collect::<Option<_>>()?;
        (!parts.is_empty()).then_some(Self::Parts(parts))
    }

    /// The value for a field; none where it does not fit.
    pub fn into_json(self, field: &Field) -> Option<Json<'a>> {
        match self {
            Self::Value(_, value) | Self::Resource(value) => Some(value),
            Self::Parts(parts) => match field.kind {
                Kind::Object(at) => object(parts, R4.shape(at)?),
                _ => None,
            },
        }
    }
}

fn object<'a>(parts: Vec<(String, Operand<'a>)>, shape: &Shape) -> Option<Json<'a>> {
    let mut object = Object::default();
    for (name, operand) in parts {
        let (member, field) = field_of(shape, &name, &operand)?;
        let value = operand.into_json(field)?;
        let known = object
            .0
            .iter_mut()
            .find(|(known, _)| known.as_ref() == member);
        match (known, field.is_list) {
            (Some((_, Json::List(list))), true) => list.push(value),
            (Some(_), _) => return None,
            (None, true) => object.0.push((Cow::Owned(member), Json::List(vec![value]))),
            (None, false) => object.0.push((Cow::Owned(member), value)),
        }
    }
    Some(Json::Object(object))
}

/// The member that an element of a name has in JSON, for a value: of a choice of types, the one of its type.
pub fn field_of<'s>(
    shape: &'s Shape,
    name: &str,
    value: &Operand<'_>,
) -> Option<(String, &'s Field)> {
    if let Some(field) = shape.fields.get(name).filter(|field| field.element == name) {
        return Some((name.to_owned(), field));
    }
    let Operand::Value(kind, _) = value else {
        return None;
    };
    let member = format!("{name}{kind}");
    let field = shape
        .fields
        .get(&member)
        .filter(|field| field.element == name)?;
    Some((member, field))
}
