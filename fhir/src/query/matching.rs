//! Which resources a search finds, by their rows alone: the meaning that every engine has to keep.
use super::{IndexRow, Search};

/// A resource as a search sees it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its type.
    pub resource_type: &'a str,
    /// Its id.
    pub id: &'a str,
    /// When it was stored, ms since 1970.
    pub last_updated: i64,
    /// The rows of its index.
    pub rows: &'a [IndexRow],
}

/// Whether a search finds a resource, among all that there are: chains and `_has` look at the others.
#[must_use]
pub fn matches(_search: &Search, _resource: &Found<'_>, _all: &[Found<'_>]) -> bool {
    false
}
