//! Where an element is in the tree, and what may be put there.
use super::{
    is_primitive,
    operand::{Operand, field_of},
};
use crate::{
    fhirpath::Element,
    json::{Json, Object},
    patch::pointer::{self, Pointer},
    r4::{R4, Shape},
};
use std::borrow::Cow;

/// A place that an expression leads to.
#[derive(Clone, Debug)]
pub struct Place {
    /// From the resource.
    pointer: Pointer,
    /// What an object there may hold; none of a primitive value.
    shape: Option<&'static Shape>,
    /// What the object that holds it may hold, when it is a member or an element of a list that is one.
    parent: Option<&'static Shape>,
    is_primitive: bool,
}

const NOTHING: &str = "nothing is there";

impl Place {
    /// Where an element is; none where it has no value of its own in the tree.
    pub fn of(root: &Json<'_>, element: &Element<'_>) -> Option<Self> {
        let mut steps = Vec::new();
        let value = element.json()?;
        let start = root
            .object()?
            .text("resourceType")
            .and_then(|name| R4.shape_of(name));
        let parent = find(root, value, start, &mut steps)?;
        Some(Self {
            pointer: Pointer(steps),
            shape: element.shape(),
            parent,
            is_primitive: is_primitive(element),
        })
    }

    /// The list that it is in.
    pub fn list(&self) -> Option<Pointer> {
        let (last, before) = self.pointer.0.split_last()?;
        let is_index = last.bytes().all(|byte| byte.is_ascii_digit());
        is_index.then(|| Pointer(before.to_vec()))
    }

    /// The name of the member that holds it, or the list that it is in, and the pointer to that.
    fn member(&self) -> Option<(String, Pointer)> {
        let pointer = self.list().unwrap_or_else(|| self.pointer.clone());
        Some((pointer.0.last()?.clone(), pointer))
    }

    /// A value that may stand here.
    pub fn value_for<'a>(&self, value: Operand<'a>) -> Result<Json<'a>, &'static str> {
        const UNFIT: &str = "the value does not fit there";
        let (member, _) = self.member().ok_or(UNFIT)?;
        let field = self
            .parent
            .and_then(|shape| shape.fields.get(&member))
            .ok_or(UNFIT)?;
        value.into_json(field).ok_or(UNFIT)
    }

    /// Adds an element to the object here: to the end of its list, or where there is none yet.
    pub fn add<'a>(
        &self,
        root: &mut Json<'a>,
        name: &str,
        value: Operand<'a>,
    ) -> Result<(), &'static str> {
        if self.is_primitive {
            return self.add_beside(root, name, value);
        }
        let shape = self.shape.ok_or("what is there holds nothing")?;
        let (member, field) = field_of(shape, name, &value)
            .ok_or("the type has no such element, or not of that type")?;
        let is_there = |json: &Json<'_>| {
            let other_types = |(known, _): &(Cow<'_, str>, Json<'_>)| {
                shape
                    .fields
                    .get(known.as_ref())
                    .is_some_and(|other| other.element == field.element)
            };
            json.object()
                .is_some_and(|object| object.0.iter().any(other_types))
        };
        let exists = pointer::get(root, &self.pointer).is_some_and(is_there);
        let value = value
            .into_json(field)
            .ok_or("the value does not fit there")?;
        let mut target = self.pointer.clone();
        target.0.push(member);
        match (field.is_list, exists) {
            (false, true) => Err("the element is there already"),
            (false, false) => pointer::add(root, &target, value),
            (true, false) => pointer::add(root, &target, Json::List(vec![value])),
            (true, true) => {
                let list = target.clone();
                target.0.push("-".to_owned());
                pointer::add(root, &target, value)?;
                keep_beside(root, &list, |beside| beside.push(Json::Null));
                Ok(())
            }
        }
    }

    /// Adds an extension or an id to a primitive value that is no element of a list.
    fn add_beside<'a>(
        &self,
        root: &mut Json<'a>,
        name: &str,
        value: Operand<'a>,
    ) -> Result<(), &'static str> {
        const ALONE: &str = "extensions of a primitive value in a list are not reached";
        if self.list().is_some() {
            return Err(ALONE);
        }
        let (last, before) = self.pointer.0.split_last().ok_or(NOTHING)?;
        let mut beside = Pointer(before.to_vec());
        beside.0.push(format!("_{last}"));
        if pointer::get(root, &beside).is_none() {
            pointer::add(root, &beside, Json::Object(Object::default()))?;
        }
        let place = Self {
            pointer: beside,
            shape: R4.shape_of("Element"),
            parent: None,
            is_primitive: false,
        };
        place.add(root, name, value)
    }

    /// Takes the element away, with what stands beside it and with lists and objects that become empty.
    pub fn remove(&self, root: &mut Json<'_>) -> Result<(), &'static str> {
        if self.pointer.0.is_empty() {
            return Err("the whole resource is not removed");
        }
        match self.list() {
            Some(list) => {
                let index = self
                    .pointer
                    .0
                    .last()
                    .and_then(|last| last.parse::<usize>().ok());
                keep_beside(root, &list, |beside| {
                    if let Some(at) = index.filter(|at| *at < beside.len()) {
                        beside.remove(at);
                    }
                });
            }
            None => {
                if let (true, Some(beside)) = (self.is_primitive, beside_of(&self.pointer)) {
                    let _absent = pointer::remove(root, &beside);
                }
            }
        }
        pointer::remove(root, &self.pointer)?;
        let mut above = self.pointer.0.clone();
        while above.pop().is_some() && !above.is_empty() {
            let pointer = Pointer(above.clone());
            let is_empty = match pointer::get(root, &pointer) {
                Some(Json::List(list)) => list.is_empty(),
                Some(Json::Object(object)) => object.0.is_empty(),
                _ => false,
            };
            if !is_empty {
                break;
            }
            pointer::remove(root, &pointer)?;
            if let Some(beside) = beside_of(&pointer) {
                let _absent = pointer::remove(root, &beside);
            }
        }
        Ok(())
    }

    /// Puts a value in its place; of a choice of types, a value of another type too.
    pub fn replace<'a>(&self, root: &mut Json<'a>, value: Operand<'a>) -> Result<(), &'static str> {
        let choice = self.choice(&value);
        match choice {
            None => {
                let value = self.value_for(value)?;
                pointer::replace(root, &self.pointer, value)
            }
            Some((shape, element)) => {
                let (member, field) =
                    field_of(shape, element, &value).ok_or("the element has no such type")?;
                let value = value
                    .into_json(field)
                    .ok_or("the value does not fit there")?;
                pointer::remove(root, &self.pointer)?;
                if let Some(beside) = beside_of(&self.pointer) {
                    let _absent = pointer::remove(root, &beside);
                }
                let mut target = self.pointer.clone();
                target.0.pop();
                target.0.push(member);
                pointer::add(root, &target, value)
            }
        }
    }

    /// The choice of types that it is one of, where the value is of another of them.
    fn choice(&self, value: &Operand<'_>) -> Option<(&'static Shape, &'static str)> {
        let last = self.pointer.0.last()?;
        let shape = self.parent?;
        let element = shape.fields.get(last)?.element;
        let is_other = match value {
            Operand::Value(kind, _) => *last != format!("{element}{kind}"),
            _ => false,
        };
        (element != last && is_other).then_some((shape, element))
    }
}

/// The steps to a value, by where it lies in memory; the shape of the object that holds it.
#[expect(
    clippy::option_option,
    reason = "the inner none is the shape of an object that R4 does not have"
)]
fn find(
    at: &Json<'_>,
    wanted: &Json<'_>,
    shape: Option<&'static Shape>,
    steps: &mut Vec<String>,
) -> Option<Option<&'static Shape>> {
    // Only addresses are compared, so that lifetimes do not matter.
    if std::ptr::from_ref(at).cast::<u8>() == std::ptr::from_ref(wanted).cast::<u8>() {
        return Some(shape);
    }
    let Json::Object(object) = at else {
        return None;
    };
    for (name, value) in &object.0 {
        steps.push(name.to_string());
        let below = |value: &Json<'_>| below(shape, name, value);
        if std::ptr::from_ref(value).cast::<u8>() == std::ptr::from_ref(wanted).cast::<u8>() {
            return Some(shape);
        }
        let found = match value {
            Json::List(list) => list.iter().enumerate().find_map(|(index, value)| {
                steps.push(index.to_string());
                if std::ptr::from_ref(value).cast::<u8>() == std::ptr::from_ref(wanted).cast::<u8>()
                {
                    return Some(shape);
                }
                let found = find(value, wanted, below(value), steps);
                if found.is_none() {
                    steps.pop();
                }
                found
            }),
            value => find(value, wanted, below(value), steps),
        };
        if found.is_some() {
            return found;
        }
        steps.pop();
    }
    None
}

/// The shape of what a member holds.
fn below(shape: Option<&'static Shape>, name: &str, value: &Json<'_>) -> Option<&'static Shape> {
    use crate::r4::Kind;
    if name.starts_with('_') {
        return R4.shape_of("Element");
    }
    match shape?.fields.get(name)?.kind {
        Kind::Object(at) => R4.shape(at),
        Kind::Resource => R4.shape_of(value.object()?.text("resourceType")?),
        Kind::Primitive(_) => None,
    }
}

/// Where the id and extensions of a primitive value stand.
fn beside_of(pointer: &Pointer) -> Option<Pointer> {
    let (last, before) = pointer.0.split_last()?;
    let mut steps = before.to_vec();
    steps.push(format!("_{last}"));
    Some(Pointer(steps))
}

/// Changes the list beside a list of primitive values, where there is one, so that both stay in step.
pub fn keep_beside<'a>(
    root: &mut Json<'a>,
    list: &Pointer,
    change: impl FnOnce(&mut Vec<Json<'a>>),
) {
    let Some(beside) = beside_of(list) else {
        return;
    };
    if let Some(Json::List(mut known)) = pointer::get(root, &beside).cloned() {
        change(&mut known);
        let _absent = pointer::replace(root, &beside, Json::List(known));
    }
}
