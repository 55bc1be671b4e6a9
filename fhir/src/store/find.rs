//! A search by any standard parameter of R4, as an engine is asked for it, and what a change expects a search to find.
use super::{FhirId, ResourceType, Stored};
use crate::query::{Filter, Sort, SortBy, sql::Bind};
use std::collections::BTreeMap;

/// Of types of which not everything may be seen, what holds of what may.
pub type Sights = BTreeMap<&'static str, Filter>;

/// What to find, in which order, and which page of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Find {
    /// The resource types; never none.
    pub types: Vec<&'static str>,
    /// What holds of each.
    pub filter: Filter,
    /// The order, the weightiest key first. What it does not tell apart, the type and the id do.
    pub sort: Vec<Sort>,
    /// Where instants are logical: the marks of the reader's axis, ascending. Then `_lastUpdated` sorts by them, and what
    /// was stored after the last of them is not found.
    pub marks: Option<Vec<i64>>,
    /// What may be found of some types, whatever is asked for: also of those that a chain passes through.
    pub sights: Sights,
    /// The end of the page before.
    pub after: Option<FindPlace>,
    /// Resources on the page, at most [`super::MAX_PAGE`].
    pub count: u16,
}

impl Find {
    /// Everything of one type that a filter holds of, by id.
    #[must_use]
    pub fn of(kind: ResourceType, filter: Filter, count: u16) -> Self {
        Self {
            types: vec![kind.as_str()],
            filter,
            sort: Vec::new(),
            marks: None,
            sights: Sights::new(),
            after: None,
            count,
        }
    }

    /// The keys of the order before the id, behind which nothing matters.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Sort> {
        self.sort.iter().take_while(|key| key.by != SortBy::Id)
    }

    /// Whether the largest id comes first, of those that the keys do not tell apart.
    pub(crate) fn ids_descend(&self) -> bool {
        let mut ids = self.sort.iter().filter(|key| key.by == SortBy::Id);
        ids.next().is_some_and(|key| key.descending)
    }
}

/// A place in the order of a [`Find`]: what the last resource of a page is ordered by.
#[derive(Clone, Debug, PartialEq)]
pub struct FindPlace {
    /// The value of each key.
    pub keys: Vec<Bind>,
    /// The type.
    pub kind: ResourceType,
    /// The id.
    pub id: FhirId,
}

/// One page of a [`Find`].
#[derive(Clone, Debug, PartialEq)]
pub struct FindPage {
    /// In the order that was asked for.
    pub resources: Vec<Stored>,
    /// Where the next page begins, if there are more.
    pub next: Option<FindPlace>,
}

impl FindPage {
    /// Of the rows that it shows, each with the values of the keys, and whether there are more.
    pub(crate) fn of(rows: Vec<(Stored, Vec<Bind>)>, more: bool) -> Self {
        let next = rows
            .last()
            .filter(|_| more)
            .map(|(stored, keys)| FindPlace {
                keys: keys.clone(),
                kind: stored.kind,
                id: stored.id.clone(),
            });
        Self {
            resources: rows.into_iter().map(|(stored, _)| stored).collect(),
            next,
        }
    }
}

/// What a search has to find within a transaction, or nothing of it is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// The position of the change that expects it.
    pub of: usize,
    /// The resource type that is searched.
    pub kind: ResourceType,
    /// By what.
    pub filter: Filter,
    /// What may be found of some types.
    pub sights: Sights,
    /// The one that is found, or none.
    pub found: Option<FhirId>,
}

impl Guard {
    /// Whether it is met by the ids that were found: two of them when there are more.
    pub(crate) fn is_met(&self, ids: &[String]) -> bool {
        match (&self.found, ids) {
            (None, []) => true,
            (Some(expected), [one]) => expected.as_str() == one,
            _ => false,
        }
    }
}
