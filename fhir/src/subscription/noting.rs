//! The events of one transaction, as they are gathered while it is planned. Pure.
use super::{SUBSCRIPTION, Watches, What};
use crate::query::{Found, IndexRow};
use crate::store::{FhirId, NewResource, Planned, ResourceType, rows_of};
use std::sync::Arc;

/// A change, before it has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// By what the store knows the subscription.
    pub key: i64,
    /// The type of the resource.
    pub kind: ResourceType,
    /// Its id.
    pub id: FhirId,
    /// The version.
    pub version: u32,
    /// Its place in the order of commits.
    pub seq: i64,
    /// What happened.
    pub what: What,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Noting {
    /// What every subscription watches.
    pub watches: Arc<Watches>,
    /// In the order of commits.
    pub events: Vec<Noted>,
}

impl Noting {
    /// Of what is watched.
    #[must_use]
    pub fn new(watches: Arc<Watches>) -> Self {
        Self {
            watches,
            events: Vec::new(),
        }
    }

    /// A facility delivered a version of a resource.
    pub(crate) fn deliver(
        &mut self,
        resource: &NewResource,
        source: &str,
        (version, seq): (u32, i64),
    ) {
        let is_watched = match resource.kind().is_indexed() {
            true => self.watches.look_at(resource.kind()),
            // Readings are many.
            false => self.watches.may_find(resource),
        };
        if !is_watched {
            return;
        }
        let what = match version {
            1 => What::Create,
            _ => What::Update,
        };
        let rows = rows_of(resource.json(), Some(source));
        self.note(
            what,
            (resource.kind(), resource.id()),
            (version, seq),
            &rows,
        );
    }

    /// A client wrote a version of a resource; `before` is the text that it had.
    pub(crate) fn write(&mut self, row: &Planned<'_>, before: Option<&str>) {
        if row.kind.as_str() == SUBSCRIPTION || !self.watches.look_at(row.kind) {
            return;
        }
        let what = match (row.draft, row.replaces) {
            (None, _) => What::Delete,
            (Some(_), None) => What::Create,
            (Some(_), Some(_)) => What::Update,
        };
        let place = (row.version, row.seq);
        match row.draft {
            Some(draft) => self.note(what, (row.kind, row.id), place, draft.rows()),
            // What was deleted is found by what it was.
            None => {
                let rows = rows_of(before.unwrap_or_default(), None);
                self.note(what, (row.kind, row.id), place, &rows);
            }
        }
    }

    fn note(
        &mut self,
        what: What,
        (kind, id): (ResourceType, &FhirId),
        (version, seq): (u32, i64),
        rows: &[IndexRow],
    ) {
        let found = Found {
            resource_type: kind.as_str(),
            id: id.as_str(),
            last_updated: 0,
            rows,
        };
        for key in self.watches.find(what, &found) {
            self.events.push(Noted {
                key,
                kind,
                id: id.clone(),
                version,
                seq,
                what,
            });
        }
    }
}
