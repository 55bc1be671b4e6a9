//! FHIRPath Patch (FHIR R4 fhirpatch.html): operations as a Parameters resource, places as expressions.
//!
//! An expression has to lead to elements of the resource itself. Extensions of a primitive value are reached where the
//! value is no list.
mod operand;
mod place;

use super::{MAX_OPERATIONS, PatchError, pointer};
use crate::{
    fhirpath::{Element, Item, Path, Surroundings},
    json::{Json, Object},
};
use operand::Operand;
use place::Place;

pub fn apply<'a>(mut resource: Json<'a>, patch: &Json<'a>) -> Result<Json<'a>, PatchError> {
    let parameters = patch
        .object()
        .filter(|object| object.text("resourceType") == Some("Parameters"));
    let parameters = parameters.ok_or_else(|| PatchError::Malformed {
        place: "patch".to_owned(),
        problem: "a Parameters resource with parameters operation is expected".to_owned(),
    })?;
    for (at, parameter) in parameters.each("parameter").enumerate() {
        if at >= MAX_OPERATIONS {
            return Err(PatchError::malformed(at, "more than 1,000 operations"));
        }
        let object = parameter
            .object()
            .filter(|object| object.text("name") == Some("operation"));
        let object =
            object.ok_or_else(|| PatchError::malformed(at, "a parameter operation is expected"))?;
        Operation { at, object }.apply(&mut resource)?;
    }
    Ok(resource)
}

struct Operation<'p, 'a> {
    at: usize,
    object: &'p Object<'a>,
}

impl<'a> Operation<'_, 'a> {
    fn malformed(&self, problem: &str) -> PatchError {
        PatchError::malformed(self.at, problem)
    }

    fn unfit(&self, problem: &str) -> PatchError {
        PatchError::unprocessable(self.at, problem)
    }

    /// A part by its name.
    fn part(&self, name: &str) -> Option<&Object<'a>> {
        let mut parts = self.object.each("part").filter_map(Json::object);
        parts.find(|part| part.text("name") == Some(name))
    }

    fn text(&self, name: &str) -> Result<&str, PatchError> {
        let part = self.part(name);
        let text =
            part.and_then(|part| part.text("valueString").or_else(|| part.text("valueCode")));
        text.ok_or_else(|| self.malformed(&format!("a part {name} with a text is expected")))
    }

    fn index(&self, name: &str) -> Result<usize, PatchError> {
        let number = match self.part(name).and_then(|part| part.get("valueInteger")) {
            Some(Json::Number(text)) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| {
            self.malformed(&format!(
                "a part {name} with a whole number from 0 is expected"
            ))
        })
    }

    fn value(&self) -> Result<Operand<'a>, PatchError> {
        let part = self
            .part("value")
            .ok_or_else(|| self.malformed("a part value is expected"))?;
        Operand::read(part).ok_or_else(|| {
            self.malformed("a part value with value[x], a resource or parts is expected")
        })
    }

    /// Of two parts of a name nobody can say which is meant.
    fn has_each_part_once(&self) -> Result<(), PatchError> {
        let parts = self.object.each("part").filter_map(Json::object);
        let mut names: Vec<&str> = parts.filter_map(|part| part.text("name")).collect();
        names.sort_unstable();
        match names.windows(2).any(|pair| pair.first() == pair.last()) {
            true => Err(self.malformed("each part stands once")),
            false => Ok(()),
        }
    }

    fn apply(&self, resource: &mut Json<'a>) -> Result<(), PatchError> {
        self.has_each_part_once()?;
        match self.text("type")? {
            "add" => self.add(resource),
            "insert" => self.insert(resource),
            "delete" => match self.places(resource)?.as_slice() {
                [] => Ok(()),
                [place] => place
                    .remove(resource)
                    .map_err(|problem| self.unfit(problem)),
                _ => Err(self.unfit("the path leads to several elements")),
            },
            "replace" => {
                let place = self.single(resource)?;
                let value = self.value()?;
                place
                    .replace(resource, value)
                    .map_err(|problem| self.unfit(problem))
            }
            "move" => self.shift(resource),
            _ => {
                Err(self.malformed("a part type is expected: add, insert, delete, replace or move"))
            }
        }
    }

    /// The elements that the path leads to.
    fn places(&self, resource: &Json<'a>) -> Result<Vec<Place>, PatchError> {
        let path = Path::parse(self.text("path")?)
            .map_err(|error| self.malformed(&format!("path: {error}")))?;
        let found = path.evaluate(resource, Surroundings::default());
        let found = found.map_err(|error| self.unfit(&format!("path: {error}")))?;
        let place = |item: &Item<'_>| match item {
            Item::Element(element) => Place::of(resource, element),
            _ => None,
        };
        let places: Option<Vec<Place>> = found.iter().map(place).collect();
        places.ok_or_else(|| {
            self.unfit("the path leads to a value that is computed, or to an element without one")
        })
    }

    fn single(&self, resource: &Json<'a>) -> Result<Place, PatchError> {
        let mut places = self.places(resource)?;
        match (places.pop(), places.is_empty()) {
            (Some(place), true) => Ok(place),
            (None, _) => Err(self.unfit("the path leads to nothing")),
            _ => Err(self.unfit("the path leads to several elements")),
        }
    }

    fn add(&self, resource: &mut Json<'a>) -> Result<(), PatchError> {
        let place = self.single(resource)?;
        let (name, value) = (self.text("name")?, self.value()?);
        place
            .add(resource, name, value)
            .map_err(|problem| self.unfit(problem))
    }

    /// The list that holds all of the elements, and how many it has.
    fn list(&self, resource: &Json<'a>) -> Result<(pointer::Pointer, Place), PatchError> {
        let places = self.places(resource)?;
        let first = places
            .first()
            .ok_or_else(|| self.unfit("the path leads to nothing"))?;
        let list = first
            .list()
            .ok_or_else(|| self.unfit("the path leads to no list"))?;
        match places
            .iter()
            .all(|place| place.list().as_ref() == Some(&list))
        {
            true => Ok((list, first.clone())),
            false => Err(self.unfit("the path leads into several lists")),
        }
    }

    fn insert(&self, resource: &mut Json<'a>) -> Result<(), PatchError> {
        let (list, first) = self.list(resource)?;
        let (index, value) = (self.index("index")?, self.value()?);
        let value = first
            .value_for(value)
            .map_err(|problem| self.unfit(problem))?;
        let mut target = list.clone();
        target.0.push(index.to_string());
        pointer::add(resource, &target, value).map_err(|problem| self.unfit(problem))?;
        place::keep_beside(resource, &list, |beside| {
            if index <= beside.len() {
                beside.insert(index, Json::Null);
            }
        });
        Ok(())
    }

    /// From one index of a list to another.
    fn shift(&self, resource: &mut Json<'a>) -> Result<(), PatchError> {
        let (list, _) = self.list(resource)?;
        let (from, to) = (self.index("source")?, self.index("destination")?);
        let at = |index: usize| {
            let mut pointer = list.clone();
            pointer.0.push(index.to_string());
            pointer
        };
        let moved = pointer::remove(resource, &at(from)).map_err(|problem| self.unfit(problem))?;
        pointer::add(resource, &at(to), moved).map_err(|problem| self.unfit(problem))?;
        place::keep_beside(resource, &list, |beside| {
            if from < beside.len() && to < beside.len() {
                let moved = beside.remove(from);
                beside.insert(to, moved);
            }
        });
        Ok(())
    }
}

/// Whether an element is a primitive one.
fn is_primitive(element: &Element<'_>) -> bool {
    element.shape().is_none()
}
