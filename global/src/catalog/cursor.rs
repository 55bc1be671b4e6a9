//! Where a page of a listing begins, as text that a client hands back.
use super::Home;
use std::{fmt, str::FromStr};
use types::{CatalogId, Id128};

/// Text that no listing gave out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one that a listing returned")]
pub struct InvalidCursor;

/// A place in the listing of devices: `eu/eu/eu-f1/000102…`. What follows it is strictly greater.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCursor {
    /// The facility.
    pub home: Home,
    /// The last device that was seen there.
    pub id: CatalogId,
}

impl DeviceCursor {
    /// After every device of a facility.
    #[must_use]
    pub const fn end_of(home: Home) -> Self {
        Self {
            home,
            id: CatalogId(Id128::from_bytes([0xff; 16])),
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.jurisdiction, self.region, self.facility)
    }
}

impl FromStr for Home {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(InvalidCursor);
        let home = Self {
            jurisdiction: next()?.parse().map_err(|_| InvalidCursor)?,
            region: next()?.parse().map_err(|_| InvalidCursor)?,
            facility: next()?.parse().map_err(|_| InvalidCursor)?,
        };
        match parts.next() {
            None => Ok(home),
            Some(_) => Err(InvalidCursor),
        }
    }
}

impl fmt::Display for DeviceCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.home, self.id)
    }
}

impl FromStr for DeviceCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (home, id) = text.rsplit_once('/').ok_or(InvalidCursor)?;
        Ok(Self {
            home: home.parse()?,
            id: id.parse().map_err(|_| InvalidCursor)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_round_trips_and_other_text_is_refused() {
        let text = "eu/eu/eu-f1/000102abcdef060708090a0b0c0d0eff";
        assert_eq!(text.parse::<DeviceCursor>().unwrap().to_string(), text);
        for text in [
            "",
            "eu/eu/eu-f1",
            "eu/eu/eu-f1/",
            "eu//eu-f1/00",
            "'; DROP TABLE devices",
        ] {
            assert_eq!(text.parse::<DeviceCursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
