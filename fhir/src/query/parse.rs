//! From the parameters of a request to a search (FHIR R4 search.html).
//!
//! What is not known or not offered is refused, or dropped and told where the client is lenient; a value that cannot be
//! read is refused always, for without its filter more would be found than was asked for. Every list is bounded.
mod condition;
mod control;
mod split;
mod value;

use super::{Filter, Problem, ProblemKind, Search, Summary};
use crate::bases::Bases;
use crate::r4::R4;
use std::cell::Cell;

/// Parameters in one search.
pub const MAX_PARAMS: usize = 64;
/// Values of one parameter, separated by commas.
pub const MAX_VALUES: usize = 200;
/// Characters of one value.
pub const MAX_VALUE_CHARS: usize = 8_192;
/// Steps of a chain, and `_has` within each other.
pub const MAX_CHAIN: usize = 4;
/// Conditions that a search comes to, when every chain is followed to every type that it may lead to.
pub const MAX_CONDITIONS: u32 = 300;
/// Keys of an order.
pub const MAX_SORT: usize = 4;
/// Elements of `_elements`.
pub const MAX_ELEMENTS: usize = 64;
/// Includes of one search.
pub const MAX_INCLUDES: usize = 32;

/// What happens to parameters that are not understood (`Prefer: handling`, FHIR R4 search.html#errors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// They are refused.
    Strict,
    /// They are dropped, and reported.
    Lenient,
}

/// What the values of a search are read against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time that `ap` is measured from, ms since 1970.
    pub now: i64,
    /// The bases of the server, with which its own absolute references begin.
    pub base: Bases<'a>,
    /// What happens to what is not understood.
    pub handling: Handling,
}

/// What is being read.
struct Reader<'a> {
    context: Context<'a>,
    /// Conditions so far.
    conditions: Cell<u32>,
}

/// Reads decoded `name=value` pairs of a search of a resource type; of every type when there is none.
///
/// # Errors
/// [`Problem`] for the first parameter that is refused.
pub fn parse(
    resource_type: Option<&str>,
    pairs: &[(String, String)],
    context: Context<'_>,
) -> Result<Search, Problem> {
    if pairs.len() > MAX_PARAMS {
        let last = pairs.get(MAX_PARAMS).map_or("", |(name, _)| name);
        return Err(Problem::limit(
            last,
            format!("more than {MAX_PARAMS} parameters"),
        ));
    }
    let reader = Reader {
        context,
        conditions: Cell::new(0),
    };
    let mut search = Search::all(control::types(resource_type, pairs)?);
    for (name, value) in pairs {
        match reader.read(&mut search, resource_type.is_none(), name, value) {
            Ok(()) if name == "_cursor" => {}
            Ok(()) => search.used.push((name.clone(), value.clone())),
            Err(problem) if context.handling == Handling::Lenient && is_dropped(problem.kind) => {
                search.dropped.push(problem);
            }
            Err(problem) => return Err(problem),
        }
    }
    // Nothing is left out by a summary that is none.
    search.summary = search.summary.filter(|one| *one != Summary::False);
    if search.summary.is_some() && !search.elements.is_empty() {
        return Err(Problem::invalid(
            "_elements",
            "either _summary or _elements is expected, not both",
        ));
    }
    Ok(search)
}

/// Reads conditions alone, as the query part of a SMART scope has them (SMART App Launch 2.2, scopes): all of them hold.
/// Nothing is dropped, whatever the handling is.
///
/// # Errors
/// [`Problem`] for the first that is no condition, or is refused.
pub fn parse_conditions(
    resource_type: &str,
    pairs: &[(String, String)],
    context: Context<'_>,
) -> Result<Filter, Problem> {
    let strict = Context {
        handling: Handling::Strict,
        ..context
    };
    if let Some((name, _)) = pairs.iter().find(|(name, _)| control::is_control(name)) {
        return Err(Problem::invalid(
            name,
            "a condition on resources is expected",
        ));
    }
    Ok(Filter::All(
        parse(Some(resource_type), pairs, strict)?.filters,
    ))
}

const fn is_dropped(kind: ProblemKind) -> bool {
    matches!(kind, ProblemKind::Unknown | ProblemKind::Unsupported)
}

impl Reader<'_> {
    fn read(
        &self,
        search: &mut Search,
        of_system: bool,
        name: &str,
        value: &str,
    ) -> Result<(), Problem> {
        if value.is_empty() {
            return Err(Problem::invalid(name, "the value is empty"));
        }
        if value.contains('\0') {
            return Err(Problem::invalid(name, "the value has a NUL character"));
        }
        if value.len() > MAX_VALUE_CHARS {
            return Err(Problem::limit(
                name,
                format!("a value of more than {MAX_VALUE_CHARS} characters"),
            ));
        }
        if control::is_control(name) {
            return control::apply(search, of_system, name, value);
        }
        let filter = self
            .condition(&search.types, name, value, 0)
            .map_err(|problem| Problem {
                param: Problem::invalid(name, "").param,
                ..problem
            })?;
        search.filters.push(filter);
        Ok(())
    }

    /// Counts one more condition.
    fn count(&self, name: &str) -> Result<(), Problem> {
        self.conditions.set(self.conditions.get() + 1);
        match self.conditions.get() > MAX_CONDITIONS {
            true => Err(Problem::limit(
                name,
                format!(
                    "more than {MAX_CONDITIONS} conditions: name the types that chains lead to, as in subject:Patient.name"
                ),
            )),
            false => Ok(()),
        }
    }
}

/// The name of a resource type, as the tables have it.
fn resource_type(name: &str) -> Option<&'static str> {
    let at = R4.resources().binary_search(&name).ok()?;
    R4.resources().get(at).copied()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
