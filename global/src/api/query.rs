//! The query parameters of the listings. An unknown, repeated or empty one is an error: a filter that is misspelt must
//! not silently show everything.
use crate::catalog::{DeviceCursor, DeviceFilter, Home, MAX_PAGE, PlaceFilter};
use axum::{extract::Query, http::Uri};
use node::problem::Problem;
use std::collections::BTreeMap;
use types::{DeviceKind, DeviceStatus};

/// Rows in a page when the client does not say.
pub const DEFAULT_LIMIT: usize = 100;

/// The parameters of a query by name.
pub type Parameters = BTreeMap<String, String>;

/// A listing of devices.
#[derive(Debug, PartialEq)]
pub struct DeviceQuery {
    /// Which devices.
    pub filter: DeviceFilter,
    /// After which one.
    pub after: Option<DeviceCursor>,
    /// How many.
    pub limit: usize,
}

/// A listing of facilities.
#[derive(Debug, PartialEq)]
pub struct FacilityQuery {
    /// Which facilities.
    pub filter: PlaceFilter,
    /// After which one.
    pub after: Option<Home>,
    /// How many.
    pub limit: usize,
}

/// Reads the query of a URI.
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

/// Of a listing that takes no parameter.
pub fn takes_none(query: Option<&str>) -> Result<(), Problem> {
    nothing_left(&parameters(query)?)
}

impl DeviceQuery {
    /// Reads the parameters `jurisdiction`, `region`, `facility`, `kind`, `status`, `after` and `limit`.
    pub fn read(mut from: Parameters) -> Result<Self, Problem> {
        let query = Self {
            filter: DeviceFilter {
                place: place(&mut from)?,
                kind: take(&mut from, "kind", "not a kind of device", |text| {
                    DeviceKind::parse(text)
                })?,
                status: take(
                    &mut from,
                    "status",
                    "not active, silent or retired",
                    DeviceStatus::parse,
                )?,
            },
            after: take(&mut from, "after", CURSOR, |text| text.parse().ok())?,
            limit: limit(&mut from)?,
        };
        nothing_left(&from)?;
        Ok(query)
    }
}

impl FacilityQuery {
    /// Reads the parameters `jurisdiction`, `region`, `facility`, `after` and `limit`.
    pub fn read(mut from: Parameters) -> Result<Self, Problem> {
        let query = Self {
            filter: place(&mut from)?,
            after: take(&mut from, "after", CURSOR, |text| text.parse().ok())?,
            limit: limit(&mut from)?,
        };
        nothing_left(&from)?;
        Ok(query)
    }
}

const CURSOR: &str = "not a cursor that a listing returned as next";
const NAME: &str = "not a name: a-z, 0-9 and '-', beginning with a letter";

fn place(from: &mut Parameters) -> Result<PlaceFilter, Problem> {
    Ok(PlaceFilter {
        jurisdiction: take(from, "jurisdiction", "not us, eu or apac", |text| {
            text.parse().ok()
        })?,
        region: take(from, "region", NAME, |text| text.parse().ok())?,
        facility: take(from, "facility", NAME, |text| text.parse().ok())?,
    })
}

fn limit(from: &mut Parameters) -> Result<usize, Problem> {
    let limit = take(from, "limit", "not a number from 1 to 1000", |text| {
        let limit = text.parse().ok()?;
        (1..=MAX_PAGE).contains(&limit).then_some(limit)
    })?;
    Ok(limit.unwrap_or(DEFAULT_LIMIT))
}

fn take<T>(
    from: &mut Parameters,
    name: &'static str,
    detail: &'static str,
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

fn nothing_left(from: &Parameters) -> Result<(), Problem> {
    match from.keys().next() {
        None => Ok(()),
        Some(name) => Err(Problem::parameter(name, "the parameter is not known")),
    }
}
