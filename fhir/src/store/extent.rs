//! What was there of a type at a commit, by id: what an export is made of.
use super::{FhirId, ResourceType, Stored};
use types::Timestamp;

/// Which resources of one type, as they were at a commit, and which page of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The type.
    pub kind: ResourceType,
    /// The commit: what was stored or deleted later is as it was then.
    pub until: i64,
    /// What was stored in later commits than this one; 0 for everything.
    pub after_commit: i64,
    /// What was stored at this time or later.
    pub since: Option<Timestamp>,
    /// Of readings, whose: for every other type this is the caller's to judge.
    pub whose: Whose,
    /// The versions that say that a resource was deleted, instead of what was there.
    pub deleted: bool,
    /// The last id of the page before.
    pub after: Option<FhirId>,
    /// Resources on the page, at most [`super::MAX_PAGE`].
    pub count: u16,
}

/// Whose readings. Those of which there is more than one version may be found beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's, and nobody's.
    Everybody,
    /// Any patient's.
    AnyPatient,
    /// Of these patients.
    Of(Vec<FhirId>),
}

impl Extent {
    /// All of a type at a commit.
    #[must_use]
    pub const fn of(kind: ResourceType, until: i64, count: u16) -> Self {
        Self {
            kind,
            until,
            after_commit: 0,
            since: None,
            whose: Whose::Everybody,
            deleted: false,
            after: None,
            count,
        }
    }
}

/// One page of an [`Extent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentPage {
    /// By id.
    pub resources: Vec<Stored>,
    /// Where the next page begins, if there are more.
    pub next: Option<FhirId>,
}

impl ExtentPage {
    /// Of what it shows, and whether there is more.
    pub(crate) fn of(resources: Vec<Stored>, more: bool) -> Self {
        let last = resources.last().filter(|_| more);
        let next = last.map(|stored| stored.id.clone());
        Self { resources, next }
    }
}
