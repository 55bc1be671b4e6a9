//! The query parameters of `/api/v1`, read the same way by every node. An unknown, repeated or empty one is an error that
//! names it: a filter that is misspelt must not silently show everything.
use crate::problem::Problem;
use axum::{extract::Query, http::Uri};
use std::collections::BTreeMap;

/// Rows in a page when the client does not say.
pub const DEFAULT_LIMIT: u16 = 100;

/// The parameters of a query by name.
pub type Parameters = BTreeMap<String, String>;

/// Reads the query of a URI.
///
/// # Errors
/// The [`Problem`] to answer.
pub fn parameters(query: Option<&str>) -> Result<Parameters, Problem> {
    let unreadable = || Problem::parameter("", "the query cannot be read");
    let uri: Uri = format!("/?{}", query.unwrap_or_default())
        .parse()
        .map_err(|_| unreadable())?;
    let Query(pairs): Query<Vec<(String, String)>> =
        Query::try_from_uri(&uri).map_err(|_| unreadable())?;
    let mut parameters = Parameters::new();
    for (name, value) in pairs {
        if value.is_empty() {
            return Err(Problem::parameter(&name, "the parameter is empty"));
        }
        if parameters.contains_key(&name) {
            return Err(Problem::parameter(&name, "the parameter is given twice"));
        }
        parameters.insert(name, value);
    }
    Ok(parameters)
}

/// Takes one out, if it is given.
///
/// # Errors
/// The [`Problem`] to answer, with this detail, when it cannot be read.
pub fn take<T>(
    from: &mut Parameters,
    name: &'static str,
    detail: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let Some(text) = from.remove(name) else {
        return Ok(None);
    };
    match read(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(Problem::parameter(name, detail)),
    }
}

/// Takes out `limit`, how many rows a page has: [`DEFAULT_LIMIT`] when it is not said, `most` at most.
///
/// # Errors
/// As [`take`].
pub fn limit(from: &mut Parameters, most: u16) -> Result<u16, Problem> {
    let detail = format!("not a number from 1 to {most}");
    let limit = take(from, "limit", &detail, |text| {
        let limit = text.parse().ok()?;
        (1..=most).contains(&limit).then_some(limit)
    })?;
    Ok(limit.unwrap_or(DEFAULT_LIMIT.min(most)))
}

/// Nothing else is given.
///
/// # Errors
/// The [`Problem`] to answer, about the first one.
pub fn nothing_left(from: &Parameters) -> Result<(), Problem> {
    match from.keys().next() {
        None => Ok(()),
        Some(name) => Err(Problem::parameter(name, "the parameter is not known")),
    }
}

/// Of what takes no parameter.
///
/// # Errors
/// As [`parameters`] and [`nothing_left`].
pub fn takes_none(query: Option<&str>) -> Result<(), Problem> {
    nothing_left(&parameters(query)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first problem of a query that may say `limit`, to 9, and nothing else.
    fn limited(query: &str) -> Result<u16, Problem> {
        let mut from = parameters(Some(query))?;
        let limit = limit(&mut from, 9)?;
        nothing_left(&from)?;
        Ok(limit)
    }

    #[test]
    fn what_is_unknown_repeated_empty_or_out_of_range_is_refused_by_its_name() {
        for (query, expected) in [("", 9), ("limit=1", 1), ("limit=9", 9)] {
            assert_eq!(limited(query), Ok(expected), "{query}");
        }
        for (query, name, detail) in [
            ("limit=0", "limit", "not a number from 1 to 9"),
            ("limit=10", "limit", "not a number from 1 to 9"),
            ("limit=-1", "limit", "not a number from 1 to 9"),
            ("limit=", "limit", "the parameter is empty"),
            ("limit=1&limit=1", "limit", "the parameter is given twice"),
            ("limits=1", "limits", "the parameter is not known"),
        ] {
            let expected = Problem::parameter(name, detail);
            assert_eq!(limited(query), Err(expected), "{query}");
        }
        assert!(takes_none(None).is_ok() && takes_none(Some("x=1")).is_err());
    }
}
