//! The query parameters of the listings ([`node::query`]).
use crate::catalog::{DeviceCursor, DeviceFilter, Home, MAX_PAGE, PlaceFilter};
use node::problem::Problem;
pub use node::query::{DEFAULT_LIMIT, parameters, takes_none};
use node::query::{Parameters, nothing_left, take};
use types::{DeviceKind, DeviceStatus, Name};

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

/// A listing of studies.
#[derive(Debug, PartialEq)]
pub struct StudyQuery {
    /// Those that are older than this one.
    pub after: Option<Name>,
    /// How many.
    pub limit: u16,
}

impl StudyQuery {
    /// Studies in a page at most, and when the client does not say.
    pub const MOST: u16 = 100;

    /// Reads the parameters `after` and `limit`.
    pub fn read(mut from: Parameters) -> Result<Self, Problem> {
        let query = Self {
            after: take(&mut from, "after", CURSOR, |text| text.parse().ok())?,
            limit: node::query::limit(&mut from, Self::MOST)?,
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
    let most = u16::try_from(MAX_PAGE).unwrap_or(u16::MAX);
    node::query::limit(from, most).map(usize::from)
}
