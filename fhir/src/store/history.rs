//! What the history of a store is asked for (FHIR R4 http.html#history).
use super::{FhirId, ResourceType, Stored};
use crate::axis::Commits;
use crate::search::Interval;
use std::collections::BTreeSet;

/// Whose history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of everything but the server's own AuditEvents ([`crate::audit`]): there is one of each look at it.
    Everything,
    /// Of one type.
    Type(ResourceType),
    /// Of one resource.
    Instance(ResourceType, FhirId),
}

/// A moment, in the order of commits or in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// After that commit, before the next one.
    Commit(i64),
    /// At that time, ms since 1970.
    Time(i64),
}

/// Which versions, in which order, and which page of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Whose.
    pub scope: Scope,
    /// Stored in these commits only.
    pub commits: Option<Commits>,
    /// Stored then only.
    pub updated: Option<Interval>,
    /// Of what was stored by then, only what was there then (`_at`).
    pub there: Option<There>,
    /// By type, id and version instead of the last commit first.
    pub by_id: bool,
    /// The end of the page before.
    pub after: Option<HistoryPlace>,
    /// Versions on the page, at most [`super::MAX_PAGE`].
    pub count: u16,
}

/// A place in either order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPlace {
    /// The commit.
    pub seq: i64,
    /// The type.
    pub kind: ResourceType,
    /// The id.
    pub id: FhirId,
    /// The version.
    pub version: u32,
}

impl HistoryPlace {
    pub(crate) fn of(stored: &Stored) -> Self {
        Self {
            seq: stored.seq,
            kind: stored.kind,
            id: stored.id.clone(),
            version: stored.version,
        }
    }
}

/// How versions came, by their commits: what is in neither was put under the id of a resource that was there, or is its
/// first version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// Created by POST of their type. Of what was stored before that was kept, the first version that a client wrote counts as
    /// one.
    pub posted: BTreeSet<i64>,
    /// Put under an id whose resource had been deleted.
    pub revived: BTreeSet<i64>,
}

impl Came {
    /// With those of another page.
    pub fn extend(&mut self, other: Self) {
        self.posted.extend(other.posted);
        self.revived.extend(other.revived);
    }
}

/// One page of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// In the order that was asked for.
    pub versions: Vec<Stored>,
    /// How they came.
    pub came: Came,
    /// Where the next page begins, if there are more.
    pub next: Option<HistoryPlace>,
}

impl HistoryPage {
    /// Of the rows that it shows, each with how it came (1 and 2, as [`Came`] has them), and whether there are more.
    pub(crate) fn of(rows: Vec<(Stored, i64)>, more: bool) -> Self {
        let commits = |how: i64| -> BTreeSet<i64> {
            let so = rows.iter().filter(|(_, came)| *came == how);
            so.map(|(stored, _)| stored.seq).collect()
        };
        let came = Came {
            posted: commits(1),
            revived: commits(2),
        };
        let versions: Vec<Stored> = rows.into_iter().map(|(stored, _)| stored).collect();
        let next = versions.last().filter(|_| more).map(HistoryPlace::of);
        Self {
            versions,
            came,
            next,
        }
    }
}
