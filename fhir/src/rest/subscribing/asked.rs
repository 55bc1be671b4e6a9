//! What the operations and the stream of a subscription both ask first: whose it is, and from which event on.
use crate::rest::{access::Asker, outcome::Failure};
use crate::subscription::{Spec, Standing};

/// What a subscription asks for, if the asker is who wrote it: its events are for nobody else.
pub fn own(asker: &Asker, standing: &Standing) -> Result<Spec, Failure> {
    let spec = Spec::of_text(&standing.spec).ok_or_else(Failure::not_found)?;
    match spec.author == asker.reader.0 {
        true => Ok(spec),
        false => Err(Failure::not_its_subscriber()),
    }
}

/// A number of an event; none when it is not said.
pub fn number(pairs: &[(String, String)], name: &'static str) -> Result<Option<u64>, Failure> {
    let mut found = pairs.iter().filter(|(of, _)| of == name);
    let first = found.next();
    if found.next().is_some() {
        return Err(Failure::value(name, "it stands twice"));
    }
    let parsed = first.map(|(_, text)| text.parse::<u64>());
    parsed
        .transpose()
        .map_err(|_| Failure::value(name, "the number of an event is expected"))
}

/// Refuses parameters that are none of these.
pub fn only(pairs: &[(String, String)], names: &[&str]) -> Result<(), Failure> {
    let is_unknown = |name: &&String| {
        !names.contains(&name.as_str()) && !matches!(name.as_str(), "_format" | "_pretty")
    };
    let unknown = pairs.iter().map(|(name, _)| name).filter(is_unknown);
    let unknown: Vec<String> = unknown.cloned().collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(Failure::unknown_parameters(&unknown)),
    }
}
