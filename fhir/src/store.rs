//! The port of FHIR resources: what every engine promises, in the words of the weakest one.
//!
//! Each method is one atomic step. The contract suite (`contract.rs`) holds every engine to it. The port keeps the
//! text of a resource as it came: no engine parses or rewrites it.
mod decide;
mod draft;
mod extent;
mod find;
mod full;
mod history;
mod measure;
pub(crate) mod rules;
mod spliced;
mod writing;

use crate::audit::{self, OwnEvents};
use crate::axis::Axis;
pub(crate) use crate::conflicts::{conflicts_of, conflicts_text};
pub use crate::id::{FhirId, InvalidFhirId};
use crate::json::Json;
pub use crate::kind::ResourceType;
use crate::map::WITHDRAWN;
use crate::query::extract;
use crate::search::{Position, Query};
use crate::subscription::EventStore;
use crate::validate::{Fault, Issue, Members, validate};
use async_trait::async_trait;
pub(crate) use decide::{Decision, Known, decide};
pub use draft::{Draft, Unfit};
pub(crate) use draft::{patient_of, row_of_source, rows_of, time_of};
pub use extent::{Extent, ExtentPage, Whose};
pub use find::{Find, FindPage, FindPlace, Guard, Sights};
pub use full::{MAX_PAGE, MAX_PAGE_BYTES};
pub(crate) use full::{bytes_of, fill, full_at};
pub use history::{Came, HistoryPage, HistoryPlace, HistoryQuery, Scope, There};
pub use measure::Measure;
pub use rules::Unindexed;
use serde::Deserialize;
use serde_json::value::RawValue;
pub use storage::{StoreError, StoreErrorKind as Kind};
use types::{Category, Code, EnvelopeId, FacilityPseudonym, Timestamp};
pub use writing::{
    Change, Expect, MAX_CHANGES, MAX_VERSIONS, Transacted, Transaction, Unmet, Versions, Written,
};
pub(crate) use writing::{Current, Plan, Planned, added, check_changes, plan};

/// Resources in one [`ResourceStore::apply`]: bounds the memory and the length of one transaction.
pub const MAX_APPLY: usize = 20_000;

/// Why a resource may not be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", all(.0))]
pub struct Rejected(Vec<Issue>);

fn all(issues: &[Issue]) -> String {
    let all = issues
        .iter()
        .map(|issue| format!("{}: {}", issue.location, issue.fault.as_str()));
    all.collect::<Vec<_>>().join("; ")
}

impl Rejected {
    pub(crate) fn not_json() -> Self {
        Self(vec![Issue {
            location: "Resource".into(),
            fault: Fault::NotJson,
        }])
    }
}

/// What a resource is found by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Id of the Patient that is the subject.
    pub patient: Option<FhirId>,
    /// Id of the Device that measured.
    pub device: Option<FhirId>,
    /// What was measured.
    pub code: Option<Code>,
    /// Its category.
    pub category: Option<Category>,
    /// When.
    pub effective: Option<Timestamp>,
}

/// A resource that may be stored: only [`NewResource::parse`] makes one, so it has passed validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewResource {
    kind: ResourceType,
    id: FhirId,
    json: String,
    index: Index,
    withdrawn: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    id: String,
    status: Option<String>,
    code: Option<FoundConcept>,
    #[serde(default)]
    category: Vec<FoundConcept>,
    subject: Option<FoundReference>,
    device: Option<FoundReference>,
    effective_date_time: Option<String>,
}

#[derive(Deserialize)]
struct FoundConcept {
    coding: Vec<FoundCoding>,
}

#[derive(Deserialize)]
struct FoundCoding {
    system: String,
    code: String,
}

#[derive(Deserialize)]
struct FoundReference {
    reference: String,
}

impl FoundReference {
    fn id_of(&self, kind: ResourceType) -> Option<FhirId> {
        let (found, id) = self.reference.split_once('/')?;
        (found == kind.as_str()).then(|| id.parse().ok())?
    }
}

impl NewResource {
    /// Validates the text of a resource and finds what it is searched by. The text is kept as it is.
    ///
    /// # Errors
    /// [`Rejected`] with every issue.
    pub fn parse(json: String) -> Result<Self, Rejected> {
        let kind = validate(&json).map_err(Rejected)?;
        let found: Found = serde_json::from_str(&json).map_err(|_| Rejected::not_json())?;
        let code = found.code.as_ref().and_then(|code| code.coding.first());
        let category = found.category.first().and_then(|list| list.coding.first());
        Ok(Self {
            withdrawn: found.status.as_deref() == Some(WITHDRAWN),
            kind,
            id: found.id.parse().map_err(|_| Rejected::not_json())?,
            index: Index {
                patient: found
                    .subject
                    .and_then(|subject| subject.id_of(ResourceType::Patient)),
                device: found
                    .device
                    .and_then(|device| device.id_of(ResourceType::Device)),
                code: code.and_then(|coding| Code::of(&coding.system, &coding.code).ok()),
                category: category.and_then(|coding| category_of(&coding.system, &coding.code)),
                effective: found.effective_date_time.and_then(|time| time.parse().ok()),
            },
            json,
        })
    }

    /// A resource that nothing has checked, to prove that what the checks keep out would otherwise be found.
    #[cfg(medmesh_unguarded)]
    #[must_use]
    pub fn unchecked(kind: ResourceType, id: FhirId, json: String, index: Index) -> Self {
        Self {
            kind,
            id,
            json,
            index,
            withdrawn: false,
        }
    }

    /// The resource type.
    #[must_use]
    pub const fn kind(&self) -> ResourceType {
        self.kind
    }

    /// The id.
    #[must_use]
    pub const fn id(&self) -> &FhirId {
        &self.id
    }

    /// The text, without `meta.versionId` and `meta.lastUpdated`.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// What it is found by.
    #[must_use]
    pub const fn index(&self) -> &Index {
        &self.index
    }
}

pub(crate) fn category_of(system: &str, code: &str) -> Option<Category> {
    crate::map::CATEGORIES
        .into_iter()
        .find(|known| known.system() == system && known.as_str() == code)
}

/// A version of a resource, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The resource type.
    pub kind: ResourceType,
    /// The id.
    pub id: FhirId,
    /// `meta.versionId`, from 1.
    pub version: u32,
    /// Its place in the order of commits; 0 for a past version of a store that did not keep it.
    pub seq: i64,
    /// When it was stored, as the caller of [`ResourceStore::apply`] said.
    pub updated: Timestamp,
    /// Which facility it is from; none when it was stored before that was kept and nobody has written it since.
    pub source: Option<FacilityPseudonym>,
    /// The text as it came; empty in the version that says that the resource was deleted.
    pub json: String,
}

impl Stored {
    /// The time by which an Observation is listed.
    pub(crate) fn listed_at(&self) -> Timestamp {
        let tree = Json::parse(&self.json).ok();
        let time = tree.and_then(|tree| time_of(&tree, &extract(&tree, "")));
        time.unwrap_or(self.updated)
    }

    /// Whether this version says that the resource was deleted.
    #[must_use]
    pub const fn is_deleted(&self) -> bool {
        self.json.is_empty()
    }

    /// The text with `meta.versionId`, `meta.lastUpdated`, which is `instant`, and `meta.source`; every other character as
    /// it came, but for white space between the top-level members.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when what is stored is no JSON object.
    pub fn stamped_text(&self, instant: &str) -> Result<String, StoreError> {
        self.stamp(instant)
            .ok_or_else(|| StoreError::new(Kind::Corrupt, "stamp"))
    }

    /// The same as a part of another text.
    ///
    /// # Errors
    /// As [`Stored::stamped_text`].
    pub fn stamped(&self, instant: &str) -> Result<Box<RawValue>, StoreError> {
        let text = self.stamped_text(instant)?;
        RawValue::from_string(text).map_err(|_| StoreError::new(Kind::Corrupt, "stamp"))
    }

    fn stamp(&self, instant: &str) -> Option<String> {
        let mut stamp = format!(
            "\"versionId\":\"{}\",\"lastUpdated\":\"{instant}\"",
            self.version
        );
        if let Some(source) = self.source {
            stamp.push_str(&format!(",\"source\":\"{SOURCE_PREFIX}{source}\""));
        }
        if let Some(text) = self.spliced(&stamp) {
            return Some(text);
        }
        let members: Members<'_> = serde_json::from_str(&self.json).ok()?;
        let has_meta = members.0.iter().any(|(name, _)| name == "meta");
        let mut out = String::with_capacity(self.json.len() + stamp.len() + 16);
        for (name, value) in &members.0 {
            out.push(if out.is_empty() { '{' } else { ',' });
            out.push_str(&serde_json::to_string(name).ok()?);
            out.push(':');
            if name == "meta" {
                let rest = value.get().trim_start_matches('{').trim_start();
                let comma = if rest == "}" { "" } else { "," };
                out.push_str(&format!("{{{stamp}{comma}{rest}"));
            } else if audit::is_untold((self.kind, &self.id), (name, value.get()), instant) {
                out.push_str(&format!("\"{instant}\""));
            } else {
                out.push_str(value.get());
            }
            if name == "id" && !has_meta {
                out.push_str(&format!(",\"meta\":{{{stamp}}}"));
            }
        }
        out.push('}');
        Some(out)
    }
}

/// What `meta.source` (FHIR R4 Meta.source, a URI) begins with; the pseudonym of the facility follows.
pub const SOURCE_PREFIX: &str = "urn:medmesh:facility:";

/// Who delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The place in the sender's certificate, which stays when the certificate is renewed.
    pub place: String,
    /// The pseudonym that the facility gets if it has none yet, drawn at random by the caller.
    pub fresh: FacilityPseudonym,
}

/// The resources of one parcel, in order.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The parcel.
    pub parcel: EnvelopeId,
    /// Who delivers it.
    pub source: Source,
    /// What it holds.
    pub resources: Vec<NewResource>,
}

/// What became of a [`Delivery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Versions written by this very call; 0 for a parcel that had been applied before.
    pub written: u32,
    /// Positions of resources that were not applied: the id is taken by another content.
    pub conflicts: Vec<u32>,
    /// Positions of resources whose id another source owns, or that refer to one that it owns. If there are any,
    /// nothing of the delivery was applied, and it is judged anew when it comes again.
    pub foreign: Vec<u32>,
}

/// One page of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The matches, in the query's order.
    pub resources: Vec<Stored>,
    /// Where the next page begins, if there are more.
    pub next: Option<Position>,
}

/// How many resources there are, by [`ResourceType::DELIVERED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; 3]);

impl Counts {
    /// Resources of a type.
    #[must_use]
    pub fn of(&self, kind: ResourceType) -> u64 {
        kind.of(&self.0).copied().unwrap_or(0)
    }
}

/// FHIR resources of one place: those that facilities delivered, and those that clients wrote.
///
/// Writers take turns: commits have one order, in which `updated` never goes back. A reader who sees a commit sees
/// every one before it.
#[async_trait]
pub trait ResourceStore: Send + Sync + 'static {
    /// Applies deliveries in one transaction, in order, and says what became of each (same length, same order).
    ///
    /// A parcel that was applied before changes nothing and gets the same conflicts. A resource whose id holds the
    /// same content already is one resource. Another content under the id is a new version where the type is
    /// versioned ([`ResourceType::is_versioned`]), otherwise a conflict: reported, the rest is applied. An Observation
    /// that is entered in error is a new version of the one under its id, if there is one, and the last: whatever comes
    /// under that id afterwards changes nothing.
    /// The first source of a resource owns its id: where a delivery writes a resource that another source owns, or
    /// refers to one, nothing of that delivery is applied ([`Applied::foreign`]), and the other deliveries are.
    /// A source is known by its place; its pseudonym is the first that was offered for it.
    /// More than [`MAX_APPLY`] resources are [`Kind::Refused`]. `now` is kept as the time of the commit.
    /// Dropping the future leaves all or nothing of it.
    async fn apply(
        &self,
        deliveries: Vec<Delivery>,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError>;

    /// The current version, and the last place in the order of commits at that moment ([`ResourceStore::head`]): one look.
    async fn look(
        &self,
        kind: ResourceType,
        id: &FhirId,
    ) -> Result<(Option<Stored>, i64), StoreError>;

    /// The current version.
    async fn read(&self, kind: ResourceType, id: &FhirId) -> Result<Option<Stored>, StoreError> {
        Ok(self.look(kind, id).await?.0)
    }

    /// One version, current or past.
    async fn vread(
        &self,
        kind: ResourceType,
        id: &FhirId,
        version: u32,
    ) -> Result<Option<Stored>, StoreError>;

    /// One page. A resource that exists when the first page is read, and does not change, is on exactly one page. Like
    /// that of `find`, `history` and `extent` it may end before its count, by its bytes ([`MAX_PAGE_BYTES`]).
    async fn search(&self, query: &Query) -> Result<Page, StoreError>;

    /// What readings that match say, in no order, so many at most; nothing of those that were entered in error, nor of what
    /// clients wrote, whose numbers may be of any size.
    async fn measures(&self, query: &Query, most: usize) -> Result<Vec<Measure>, StoreError>;

    /// How many resources match, all pages together. It reads them all.
    async fn total(&self, query: &Query) -> Result<u64, StoreError>;

    /// Resolves when the store can write no more, since its writer ended by itself: the node that uses it must end.
    /// Never for an engine without such a writer.
    async fn ended(&self) {
        std::future::pending().await
    }

    /// Does what a client asks for in one transaction, in order: all of it, or nothing.
    ///
    /// What each change expects, and what each guard does, is looked at within the transaction, before any of it is done,
    /// so that of two clients that expect the same only one has its way. What a facility delivered is the facility's, also
    /// after it has ended: no client changes it. What a client wrote is no facility's, also after it was deleted. Content
    /// that is stored already makes no new version.
    /// More than [`MAX_CHANGES`] are [`Kind::Refused`]. Dropping the future leaves all or nothing of it.
    async fn transact(&self, transaction: Transaction) -> Result<Transacted, StoreError>;

    /// The order of commits stands there, as its caller has just seen. From then on what clients write is done only where it
    /// stands there or behind it, looked at within the transaction: a store that was put back beneath a running server takes
    /// nothing of clients before somebody has looked again, since a commit would hide that it was. No engine need look whose
    /// store nobody puts back while it is open.
    fn stands_at(&self, seq: i64) {
        let _ = seq;
    }

    /// One page of what a search by the parameters of R4 finds. Of readings, which have no index
    /// ([`ResourceType::is_indexed`]), only `_id`, `_lastUpdated` and their columns are known here. What exists when the first page is read, and does not change, is on
    /// exactly one page.
    async fn find(&self, find: &Find) -> Result<FindPage, StoreError>;

    /// How many a search finds, all pages together. It reads them all.
    async fn count(&self, find: &Find) -> Result<u64, StoreError>;

    /// One page of past and current versions, deleted ones among them ([`Stored::is_deleted`]).
    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError>;

    /// How many resources of the types that facilities deliver there are. Cheap.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// The last place in the order of commits; 0 in an empty store. Cheap.
    async fn head(&self) -> Result<i64, StoreError>;

    /// The last place in the order of commits, and when that was stored; zeros in an empty store. Cheap.
    async fn last(&self) -> Result<(i64, Timestamp), StoreError>;

    /// One page of what was there of a type at a commit. Of pages that follow each other each resource is on exactly one,
    /// whatever is written meanwhile.
    async fn extent(&self, extent: &Extent) -> Result<ExtentPage, StoreError>;

    /// What was kept last for a reader ([`crate::axis::Axis::to_text`]).
    async fn marks(&self, reader: &str) -> Result<Option<String>, StoreError>;

    /// Keeps a text for a reader, in place of the one before. Readers are registered clients, so they are few.
    async fn keep_marks(&self, reader: &str, marks: String) -> Result<(), StoreError>;

    /// The axis of a reader who is shown everything up to a commit, kept before this returns. Of several servers over one
    /// store each gets what the others have kept: an engine that they may share does it in one step.
    async fn reach(&self, reader: &str, commit: i64) -> Result<Axis, StoreError> {
        let kept = self.marks(reader).await?.unwrap_or_default();
        let mut axis = Axis::of_text(&kept).unwrap_or_default();
        if axis.reach(commit) {
            self.keep_marks(reader, axis.to_text()).await?;
        }
        Ok(axis)
    }

    /// One short step of the job that makes the index anew by this program's rules ([`rules`]), if there is one; the commits that
    /// are left then. `base` is this server's URL. Until the end whatever looks by a parameter that is new is [`Unindexed`].
    async fn reindex(&self, base: &str) -> Result<Option<u64>, StoreError>;

    /// Stores AuditEvents that the server itself makes of its log, takes away those that it keeps no longer, with every
    /// version of them, and keeps the place in the log: one step, whose future leaves all or nothing of it when it is
    /// dropped. What is there already, or is to be taken away and is not there, changes nothing. They are the server's, as
    /// what a facility delivers is the facility's: no client changes them. No subscriber is told of them, since that has
    /// rows in the log again.
    ///
    /// # Errors
    /// [`Kind::Refused`] where a store keeps none.
    async fn keep_audit(&self, audit: OwnEvents) -> Result<(), StoreError> {
        drop(audit);
        Err(StoreError::new(Kind::Refused, "keep audit"))
    }

    /// What is kept of subscriptions. Their events are written in the transaction that writes what they are of, by
    /// [`ResourceStore::apply`] and [`ResourceStore::transact`] alike.
    fn event_store(&self) -> &dyn EventStore;
}

/// Refuses more than one transaction should hold.
pub(crate) fn check_size(deliveries: &[Delivery]) -> Result<(), StoreError> {
    let sum: usize = deliveries.iter().map(|one| one.resources.len()).sum();
    if sum > MAX_APPLY {
        return Err(StoreError::new(Kind::Refused, "apply"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
