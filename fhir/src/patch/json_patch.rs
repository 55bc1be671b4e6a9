//! JSON Patch (RFC 6902), of FHIR: what an operation leaves empty is taken away when all are done.
use super::{
    MAX_OPERATIONS, PatchError,
    pointer::{self, Pointer},
};
use crate::{
    fhirpath::Decimal,
    json::{Json, Object},
};
use std::cmp::Reverse;

pub fn apply<'a>(mut resource: Json<'a>, patch: &Json<'a>) -> Result<Json<'a>, PatchError> {
    let Json::List(operations) = patch else {
        return Err(PatchError::Malformed {
            place: "patch".to_owned(),
            problem: "a list of operations is expected (RFC 6902)".to_owned(),
        });
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::malformed(
            MAX_OPERATIONS,
            "more than 1,000 operations",
        ));
    }
    for (at, operation) in operations.iter().enumerate() {
        let Json::Object(operation) = operation else {
            return Err(PatchError::malformed(at, "an object is expected"));
        };
        one(&mut resource, at, operation)?;
    }
    let taken = operations.iter().filter_map(Json::object);
    let mut taken: Vec<Pointer> = taken.filter_map(taken_from).collect();
    // The last elements of a list first: those before them stay where they are.
    taken.sort_by_cached_key(|place| Reverse(steps_of(place)));
    for place in taken {
        drop_emptied(&mut resource, place);
    }
    Ok(resource)
}

/// From where an operation takes something.
fn taken_from(operation: &Object<'_>) -> Option<Pointer> {
    let from = match operation.text("op") {
        Some("remove") => operation.text("path"),
        Some("move") => operation.text("from"),
        _ => None,
    };
    from.and_then(Pointer::parse)
}

/// The steps of a place, of which those into a list go by their number.
fn steps_of(place: &Pointer) -> Vec<(Option<usize>, String)> {
    let steps = place.0.iter();
    steps
        .map(|step| (step.parse().ok(), step.clone()))
        .collect()
}

/// Takes away what an operation took the last element from, if nothing was put there since: in FHIR what has no elements is
/// not there (FHIR R4 json.html: no list and no object is empty).
fn drop_emptied(resource: &mut Json<'_>, mut place: Pointer) {
    while place.0.pop().is_some() && !place.0.is_empty() {
        let is_empty = match pointer::get(resource, &place) {
            Some(Json::List(list)) => list.is_empty(),
            Some(Json::Object(object)) => object.0.is_empty(),
            _ => false,
        };
        if !is_empty || pointer::remove(resource, &place).is_err() {
            return;
        }
    }
}

fn pointer(operation: &Object<'_>, at: usize, name: &str) -> Result<Pointer, PatchError> {
    let text = operation.text(name).and_then(Pointer::parse);
    text.ok_or_else(|| {
        PatchError::malformed(at, format!("{name} is expected: a JSON pointer (RFC 6901)"))
    })
}

fn value<'a>(operation: &Object<'a>, at: usize) -> Result<Json<'a>, PatchError> {
    let value = operation.get("value").cloned();
    value.ok_or_else(|| PatchError::malformed(at, "value is expected"))
}

fn one<'a>(resource: &mut Json<'a>, at: usize, operation: &Object<'a>) -> Result<(), PatchError> {
    let path = pointer(operation, at, "path")?;
    let fits = |done: Result<(), &'static str>| {
        done.map_err(|problem| PatchError::unprocessable(at, problem))
    };
    match operation.text("op") {
        Some("add") => fits(pointer::add(resource, &path, value(operation, at)?)),
        Some("remove") => fits(pointer::remove(resource, &path).map(drop)),
        Some("replace") => fits(pointer::replace(resource, &path, value(operation, at)?)),
        Some("move") => {
            let from = pointer(operation, at, "from")?;
            if from.is_before(&path) {
                return Err(PatchError::unprocessable(
                    at,
                    "a value is not moved into itself",
                ));
            }
            if from == path {
                return fits(
                    pointer::get(resource, &from)
                        .map(|_| ())
                        .ok_or("nothing is at from"),
                );
            }
            let moved = pointer::remove(resource, &from)
                .map_err(|problem| PatchError::unprocessable(at, problem))?;
            fits(pointer::add(resource, &path, moved))
        }
        Some("copy") => {
            let from = pointer(operation, at, "from")?;
            let copied = pointer::get(resource, &from).cloned();
            let copied =
                copied.ok_or_else(|| PatchError::unprocessable(at, "nothing is at from"))?;
            // Copies of copies grow without an end.
            if super::write(&copied).len() + super::write(resource).len() > super::MAX_BYTES {
                return Err(PatchError::unprocessable(
                    at,
                    "the resource becomes larger than 16 MiB",
                ));
            }
            fits(pointer::add(resource, &path, copied))
        }
        Some("test") => {
            let wanted = value(operation, at)?;
            let holds = pointer::get(resource, &path).is_some_and(|found| same(found, &wanted));
            fits(holds.then_some(()).ok_or("the test does not hold"))
        }
        _ => Err(PatchError::malformed(
            at,
            "op is expected: add, remove, replace, move, copy or test",
        )),
    }
}

/// RFC 6902 §4.6: numbers are the same by their value, objects whatever the order of their members.
fn same(a: &Json<'_>, b: &Json<'_>) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => match (Decimal::parse(a), Decimal::parse(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
        (Json::List(a), Json::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.0.len() == b.0.len()
                && a.0
                    .iter()
                    .all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        (a, b) => a == b,
    }
}
