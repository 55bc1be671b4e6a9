//! Places in a tree of JSON (RFC 6901).
use crate::json::{Json, Object};
use std::borrow::Cow;

/// Steps of one pointer.
const MAX_STEPS: usize = 64;

/// A pointer, as its steps without escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(pub Vec<String>);

impl Pointer {
    /// Reads a pointer; none where it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        let steps: Option<Vec<String>> =
            text.strip_prefix('/')?.split('/').map(unescaped).collect();
        steps.filter(|steps| steps.len() <= MAX_STEPS).map(Self)
    }

    /// Whether the other one leads to something within what this one leads to.
    pub fn is_before(&self, other: &Self) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0)
    }
}

fn unescaped(step: &str) -> Option<String> {
    let mut plain = String::with_capacity(step.len());
    let mut chars = step.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

/// An index without leading zeros.
fn index(step: &str) -> Option<usize> {
    let is_number = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && (step == "0" || !step.starts_with('0')))
        .then(|| step.parse().ok())
        .flatten()
}

/// What a pointer leads to.
pub fn get<'j, 'a>(root: &'j Json<'a>, pointer: &Pointer) -> Option<&'j Json<'a>> {
    pointer.0.iter().try_fold(root, |at, step| match at {
        Json::Object(object) => object.get(step),
        Json::List(list) => list.get(index(step)?),
        _ => None,
    })
}

fn get_mut<'j, 'a>(root: &'j mut Json<'a>, steps: &[String]) -> Option<&'j mut Json<'a>> {
    steps.iter().try_fold(root, |at, step| match at {
        Json::Object(object) => member_mut(object, step),
        Json::List(list) => list.get_mut(index(step)?),
        _ => None,
    })
}

fn member_mut<'j, 'a>(object: &'j mut Object<'a>, name: &str) -> Option<&'j mut Json<'a>> {
    object
        .0
        .iter_mut()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value)
}

/// Puts a value at a place: a member that stands there already is replaced, elements of a list move on.
pub fn add<'a>(
    root: &mut Json<'a>,
    pointer: &Pointer,
    value: Json<'a>,
) -> Result<(), &'static str> {
    let Some((last, before)) = pointer.0.split_last() else {
        *root = value;
        return Ok(());
    };
    match get_mut(root, before).ok_or("the path leads nowhere")? {
        Json::Object(object) => match member_mut(object, last) {
            Some(known) => *known = value,
            None => object.0.push((Cow::Owned(last.clone()), value)),
        },
        Json::List(list) => {
            let at = if last == "-" {
                Some(list.len())
            } else {
                index(last)
            };
            let at = at
                .filter(|at| *at <= list.len())
                .ok_or("the index is none of the list")?;
            list.insert(at, value);
        }
        _ => return Err("the path leads into a value that is no object and no list"),
    }
    Ok(())
}

/// Takes what stands at a place.
pub fn remove<'a>(root: &mut Json<'a>, pointer: &Pointer) -> Result<Json<'a>, &'static str> {
    const NOWHERE: &str = "nothing is there";
    let (last, before) = pointer
        .0
        .split_last()
        .ok_or("the whole resource is not removed")?;
    match get_mut(root, before).ok_or(NOWHERE)? {
        Json::Object(object) => {
            let at = object
                .0
                .iter()
                .position(|(name, _)| name == last)
                .ok_or(NOWHERE)?;
            Ok(object.0.remove(at).1)
        }
        Json::List(list) => {
            let at = index(last).filter(|at| *at < list.len()).ok_or(NOWHERE)?;
            Ok(list.remove(at))
        }
        _ => Err(NOWHERE),
    }
}

/// Puts a value in the place of what stands there.
pub fn replace<'a>(
    root: &mut Json<'a>,
    pointer: &Pointer,
    value: Json<'a>,
) -> Result<(), &'static str> {
    *get_mut(root, &pointer.0).ok_or("nothing is there")? = value;
    Ok(())
}
