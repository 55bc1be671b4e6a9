//! Functions along the tree, and those that FHIR adds (FHIRPath 2.0 §5.8, FHIR R4 fhirpath.html#functions).
use super::{
    Element,
    ast::Function,
    eval::{Evaluator, Values},
    operators::truth,
    system::Item,
};
use crate::{json::Json, r4::R4};

pub fn call<'a>(
    evaluator: &Evaluator<'a>,
    function: Function,
    items: &[Item<'a>],
    arguments: &[Vec<Item<'a>>],
) -> Values<'a> {
    let elements = || {
        items.iter().filter_map(|item| match item {
            Item::Element(element) => Some(element),
            _ => None,
        })
    };
    match function {
        Function::Children => Ok(elements()
            .flat_map(Element::children)
            .map(Item::Element)
            .collect()),
        Function::Descendants => {
            let mut all: Vec<Element<'a>> = Vec::new();
            let mut level: Vec<Element<'a>> = elements().copied().collect();
            while !level.is_empty() {
                let next: Vec<Element<'a>> = level.iter().flat_map(Element::children).collect();
                evaluator.count(next.len())?;
                all.extend(&next);
                level = next;
            }
            Ok(all.into_iter().map(Item::Element).collect())
        }
        Function::Extension => {
            let url = arguments
                .first()
                .and_then(|argument| argument.first())
                .and_then(Item::text);
            let Some(url) = url else {
                return Ok(Vec::new());
            };
            let extensions = elements().flat_map(|element| element.children_of("extension"));
            Ok(extensions
                .filter(|one| one.member("url") == Some(&url))
                .map(Item::Element)
                .collect())
        }
        Function::HasValue => Ok(truth(Some(match items {
            [Item::Element(element)] => element.has_value(),
            [Item::System(_)] => true,
            _ => false,
        }))),
        Function::GetValue => Ok(match items {
            [one] => one.system().map(Item::System).into_iter().collect(),
            _ => Vec::new(),
        }),
        _ => Ok(items
            .iter()
            .filter_map(|item| resolve(evaluator, item))
            .collect()),
    }
}

/// What a reference leads to: a contained resource, or the type alone of one that is elsewhere.
fn resolve<'a>(evaluator: &Evaluator<'a>, item: &Item<'a>) -> Option<Item<'a>> {
    let Item::Element(element) = item else {
        return None;
    };
    let (reference, named) = match element.type_name() {
        "Reference" => (element.member("reference"), element.member("type")),
        _ => (element.json().and_then(Json::text), None),
    };
    if let Some(id) = reference.and_then(|reference| reference.strip_prefix('#')) {
        if id.is_empty() {
            return Some(Item::Element(evaluator.resource));
        }
        let contained = evaluator.resource.children_of("contained");
        return contained
            .into_iter()
            .find(|one| one.member("id") == Some(id))
            .map(Item::Element);
    }
    let kind = reference.and_then(type_in).or(named)?;
    let at = R4.resources().binary_search(&kind).ok()?;
    R4.resources().get(at).map(|kind| Item::Elsewhere(kind))
}

/// The type that a reference names: `Patient` of `https://example.org/fhir/Patient/1/_history/2`.
fn type_in(reference: &str) -> Option<&str> {
    let path = reference
        .split_once("/_history/")
        .map_or(reference, |(path, _)| path);
    let (before, id) = path.rsplit_once('/')?;
    let kind = before.rsplit('/').next()?;
    (!id.is_empty() && R4.is_resource(kind)).then_some(kind)
}
