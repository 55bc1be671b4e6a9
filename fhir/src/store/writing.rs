//! What clients write: changes that are done all or not at all, each with what it expects. The plan of a transaction is
//! one for every engine, and pure.
use super::{Draft, FhirId, Guard, Kind, ResourceType, StoreError};
use std::collections::{HashMap, HashSet};
use types::Timestamp;

/// Changes in one [`Transaction`]: bounds how long others wait.
pub const MAX_CHANGES: usize = 1_000;
/// Versions of which a change may expect any: each is a number, and who holds more than a few is asked for one of them.
pub const MAX_VERSIONS: usize = 16;

/// Several changes that are one.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Who writes: the name of a registered client.
    pub author: String,
    /// When, as the commit keeps it.
    pub now: Timestamp,
    /// In this order.
    pub changes: Vec<Change>,
    /// What searches find before any of it is done.
    pub guards: Vec<Guard>,
}

/// A change of one resource.
#[derive(Clone, Debug)]
pub enum Change {
    /// Another content, or a new resource.
    Put {
        /// What to store.
        draft: Draft,
        /// What is there now.
        expect: Expect,
    },
    /// No content any more.
    Delete {
        /// The resource type.
        kind: ResourceType,
        /// The id.
        id: FhirId,
        /// What is there now.
        expect: Expect,
    },
}

impl Change {
    /// Of which resource.
    #[must_use]
    pub const fn key(&self) -> (ResourceType, &FhirId) {
        match self {
            Self::Put { draft, .. } => (draft.kind(), draft.id()),
            Self::Delete { kind, id, .. } => (*kind, id),
        }
    }

    /// The text that it brings; none where it deletes.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Put { draft, .. } => draft.json(),
            Self::Delete { .. } => "",
        }
    }

    const fn precondition(&self) -> Expect {
        match self {
            Self::Put { expect, .. } | Self::Delete { expect, .. } => *expect,
        }
    }
}

/// What a change expects under its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever.
    Anything,
    /// No resource.
    Absent,
    /// That version.
    Version(u32),
    /// Any of these versions.
    Among(Versions),
    /// Some version, whichever.
    Present,
}

impl Expect {
    /// Whether it names versions, and this is none of them.
    #[must_use]
    pub fn excludes(self, version: u32) -> bool {
        match self {
            Self::Version(one) => one != version,
            Self::Among(any) => !any.has(version),
            Self::Anything | Self::Absent | Self::Present => false,
        }
    }
}

/// A few versions. There is no version 0, which stands behind the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions([u32; MAX_VERSIONS]);

impl Versions {
    /// None of none, and of more than [`MAX_VERSIONS`].
    #[must_use]
    pub fn of(versions: &[u32]) -> Option<Self> {
        let mut all = [0; MAX_VERSIONS];
        let own = all.get_mut(..versions.len())?;
        own.copy_from_slice(versions);
        (!versions.is_empty()).then_some(Self(all))
    }

    fn has(&self, version: u32) -> bool {
        version > 0 && self.0.contains(&version)
    }
}

/// What became of a [`Transaction`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transacted {
    /// All was done: what of each change.
    Done(Vec<Written>),
    /// Nothing was done, since of the change at this position.
    Unmet {
        /// Its position.
        at: usize,
        /// Why.
        why: Unmet,
    },
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version that is now; 0 where there never was one.
    pub version: u32,
    /// Its place in the order of commits; 0 where there is none.
    pub seq: i64,
    /// When it was stored.
    pub updated: Timestamp,
    /// Whether there was a resource before.
    pub existed: bool,
    /// The last place in the order of commits when the transaction was done.
    pub head: i64,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// Another version is there, or none.
    Version,
    /// There is a resource already.
    Exists,
    /// A facility delivered the resource, and it alone changes it.
    Delivered,
    /// Two changes are of one resource.
    Twice,
    /// It opts a patient out of research who is not here.
    NoPatient,
    /// A search finds another than was expected ([`Guard`]): ask again.
    Search,
    /// There are as many subscriptions as there may be ([`crate::subscription::MAX_SUBSCRIPTIONS`]).
    Full,
}

/// Refuses more than one transaction of a client should hold.
pub(crate) const fn check_changes(transaction: &Transaction) -> Result<(), StoreError> {
    if transaction.changes.len() > MAX_CHANGES {
        return Err(StoreError::new(Kind::Refused, "transact"));
    }
    Ok(())
}

/// What is under an id within the transaction.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    /// The last version, also of what was deleted.
    pub version: u32,
    /// Its place in the order of commits.
    pub seq: i64,
    /// When it was stored.
    pub updated: i64,
    /// Its text, or an empty one where no change brings the same: all those that a transaction changes would be much to hold.
    /// None of what was deleted.
    pub json: Option<String>,
    /// Whether a facility delivered it, or what there was before it ended.
    pub is_delivered: bool,
}

/// A version that is to be written.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub seq: i64,
    pub kind: ResourceType,
    pub id: &'a FhirId,
    pub version: u32,
    /// None where the resource is deleted.
    pub draft: Option<&'a Draft>,
    /// The place of the version before in the order of commits, where there is a resource.
    pub replaces: Option<i64>,
}

/// What a transaction will write, and answer.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    pub rows: Vec<Planned<'a>>,
    pub written: Vec<Written>,
}

/// The one rule of both engines. `seq` and `updated` are those of the last commit; `updated` counts as now already.
///
/// # Errors
/// The position of the first change whose expectation is not met, and why.
pub(crate) fn plan<'a>(
    changes: &'a [Change],
    known: &HashMap<(ResourceType, String), Current>,
    seq: i64,
    updated: i64,
) -> Result<Plan<'a>, (usize, Unmet)> {
    let (mut plan, mut seen, mut seq) = (Plan::default(), HashSet::new(), seq);
    for (at, change) in changes.iter().enumerate() {
        let (kind, id) = change.key();
        if !seen.insert((kind, id)) {
            return Err((at, Unmet::Twice));
        }
        let known = known.get(&(kind, id.to_string()));
        if known.is_some_and(|known| known.is_delivered) {
            return Err((at, Unmet::Delivered));
        }
        let current = known.filter(|known| known.json.is_some());
        check(change.precondition(), current).map_err(|why| (at, why))?;
        let draft = match change {
            Change::Put { draft, .. } => Some(draft),
            Change::Delete { .. } => None,
        };
        let same = match (current, draft) {
            (None, None) => true,
            (Some(current), Some(draft)) => current.json.as_deref() == Some(draft.json()),
            _ => false,
        };
        if same {
            plan.written.push(Written {
                version: known.map_or(0, |known| known.version),
                seq: known.map_or(0, |known| known.seq),
                updated: Timestamp(known.map_or(updated, |known| known.updated)),
                existed: current.is_some(),
                head: 0,
            });
            continue;
        }
        seq += 1;
        let version = known.map_or(0, |known| known.version).saturating_add(1);
        plan.rows.push(Planned {
            seq,
            kind,
            id,
            version,
            draft,
            replaces: current.map(|current| current.seq),
        });
        plan.written.push(Written {
            version,
            seq,
            updated: Timestamp(updated),
            existed: current.is_some(),
            head: 0,
        });
    }
    for written in &mut plan.written {
        written.head = seq;
    }
    Ok(plan)
}

/// By how many resources there are more after these, of the types that facilities deliver.
pub(crate) fn added<'a>(rows: impl Iterator<Item = &'a Planned<'a>>) -> [i64; 3] {
    let mut added = [0; 3];
    for row in rows {
        if let Some(count) = row.kind.of_mut(&mut added) {
            *count += i64::from(row.draft.is_some()) - i64::from(row.replaces.is_some());
        }
    }
    added
}

fn check(expect: Expect, current: Option<&Current>) -> Result<(), Unmet> {
    match (expect, current) {
        (Expect::Absent, Some(_)) => Err(Unmet::Exists),
        (Expect::Version(_) | Expect::Among(_) | Expect::Present, None) => Err(Unmet::Version),
        (expect, Some(current)) if expect.excludes(current.version) => Err(Unmet::Version),
        (_, _) => Ok(()),
    }
}
