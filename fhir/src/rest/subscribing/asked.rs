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
    let found = pairs.iter().find(|(of, _)| of == name);
    let parsed = found.map(|(_, text)| text.parse::<u64>());
    parsed
        .transpose()
        .map_err(|_| Failure::value(name, "the number of an event is expected"))
}
