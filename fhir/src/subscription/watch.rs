//! Which subscriptions a change is for: the filters of all of them, so that few are looked at.
//!
//! The meaning of a filter is that of a search ([`crate::query::holds`]). A filter that names a token or a reference is
//! looked up by that value, so that a thousand subscriptions to a thousand patients cost a reading two look-ups.
use super::{Spec, What};
use crate::query::{Filter, Found, Match, ReferenceMatch, TokenMatch, Value, holds};
use crate::store::{NewResource, ResourceType};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Different values of a parameter that are looked for in the text of a reading, before it is read as a whole.
const FEW_VALUES: usize = 32;

/// What one subscription watches.
#[derive(Debug)]
pub struct Watch {
    /// By what the store knows the subscription.
    pub key: i64,
    /// The changes.
    pub on: &'static [What],
    /// What holds of the resources, by their type.
    pub of: BTreeMap<&'static str, Filter>,
}

/// What every subscription watches.
#[derive(Debug, Default)]
pub struct Watches {
    all: Vec<Watch>,
    by_type: HashMap<&'static str, OfType>,
}

/// Positions of the watches of a type.
#[derive(Debug, Default)]
struct OfType {
    /// Those that no value tells.
    always: Vec<usize>,
    /// By parameter and value.
    by_value: BTreeMap<&'static str, HashMap<String, Vec<usize>>>,
}

impl Watches {
    /// Of the specifications that are watched. One that cannot be read finds nothing; who sends says so.
    #[must_use]
    pub fn of<'a>(specs: impl IntoIterator<Item = (i64, &'a str)>) -> Self {
        let mut watches = Self::default();
        for (key, text) in specs {
            let Some(watch) = Spec::of_text(text).and_then(|spec| spec.watch(key)) else {
                continue;
            };
            let at = watches.all.len();
            for (kind, filter) in &watch.of {
                let of_type = watches.by_type.entry(kind).or_default();
                match values(filter) {
                    None => of_type.always.push(at),
                    Some((param, values)) => {
                        let by_value = of_type.by_value.entry(param).or_default();
                        for value in values {
                            by_value.entry(value).or_default().push(at);
                        }
                    }
                }
            }
            watches.all.push(watch);
        }
        watches
    }

    /// Whether any of them is about resources of that type.
    #[must_use]
    pub fn look_at(&self, kind: ResourceType) -> bool {
        !self.by_type.is_empty() && self.by_type.contains_key(kind.as_str())
    }

    /// Whether one of them may find a reading: cheap, and never wrongly no.
    #[must_use]
    pub fn may_find(&self, reading: &NewResource) -> bool {
        let Some(of_type) = self.by_type.get(reading.kind().as_str()) else {
            return false;
        };
        let (text, index) = (reading.json(), reading.index());
        // What is escaped is not found by its letters.
        if !of_type.always.is_empty() || text.contains('\\') {
            return true;
        }
        of_type.by_value.iter().any(|(param, values)| {
            let of_reference = match *param {
                "patient" | "subject" => index.patient.as_ref(),
                "device" => index.device.as_ref(),
                _ if values.len() <= FEW_VALUES => {
                    return values.keys().any(|value| text.contains(value.as_str()));
                }
                _ => return true,
            };
            of_reference.is_none_or(|id| values.contains_key(id.as_str()))
        })
    }

    /// The subscriptions that are told of a change, by their keys.
    #[must_use]
    pub fn find(&self, what: What, resource: &Found<'_>) -> Vec<i64> {
        let Some(of_type) = self.by_type.get(resource.resource_type) else {
            return Vec::new();
        };
        let mut some: BTreeSet<usize> = of_type.always.iter().copied().collect();
        for row in resource.rows {
            let value = match &row.value {
                Value::Token { code, .. } => code.as_deref(),
                Value::Reference { id, .. } => id.as_deref(),
                _ => None,
            };
            let by_value = of_type.by_value.get(row.param);
            let found = value.and_then(|value| by_value?.get(value));
            some.extend(found.into_iter().flatten());
        }
        let watches = some.into_iter().filter_map(|at| self.all.get(at));
        let told = watches.filter(|watch| {
            let filter = watch.of.get(resource.resource_type);
            watch.on.contains(&what) && filter.is_some_and(|filter| holds(filter, resource, &[]))
        });
        told.map(|watch| watch.key).collect()
    }
}

/// A parameter, and the values one of which a resource has to have for the filter to hold of it.
fn values(filter: &Filter) -> Option<(&'static str, Vec<String>)> {
    match filter {
        Filter::All(all) => all.iter().find_map(values),
        Filter::Param { param, matches } => {
            let of_match = |one: &Match| match one {
                Match::Token(
                    TokenMatch::Code(code) | TokenMatch::Coded(_, code) | TokenMatch::Bare(code),
                ) => Some(code.clone()),
                Match::Reference(ReferenceMatch::Local { id, .. }) => Some(id.clone()),
                _ => None,
            };
            let values: Option<Vec<String>> = matches.iter().map(of_match).collect();
            Some((param.code, values?))
        }
        _ => None,
    }
}
