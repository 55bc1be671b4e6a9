//! From the parameters of a request to a search.
use super::{Problem, Search};

/// Parameters in one search.
pub const MAX_PARAMS: usize = 64;

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
    /// The base of the server, with which its own absolute references begin, without a slash at its end.
    pub base: &'a str,
    /// What happens to what is not understood.
    pub handling: Handling,
}

/// Reads decoded `name=value` pairs of a search of a resource type; of every type when there is none.
///
/// # Errors
/// [`Problem`] for the first parameter that is refused.
pub fn parse(
    _resource_type: Option<&str>,
    pairs: &[(String, String)],
    _context: Context<'_>,
) -> Result<Search, Problem> {
    if pairs.len() > MAX_PARAMS {
        let text = format!("more than {MAX_PARAMS} parameters");
        return Err(Problem::limit("?", text));
    }
    let (name, value) = pairs.first().cloned().unwrap_or_default();
    let (name, value) = (name.as_str(), value.as_str());
    if value.is_empty() {
        return Err(Problem::invalid(name, "the value is empty"));
    }
    Err(Problem::unsupported(name, "searches are not read yet"))
}
