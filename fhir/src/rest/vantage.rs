//! What each reader was shown so far, and the instants that resources bear for them.
//!
//! Where several servers are over one store, a mark is kept before it is shown, so that each of them has all of them. Where
//! there is one, a mark is kept within [`KEEP_AFTER`] of being made. One that a crash takes costs the reader a repetition of what
//! it was shown since the mark before, never a resource.
use crate::axis::{self, Axis};
use crate::store::{ResourceStore, StoreError, Stored};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use types::Timestamp;

/// How long marks are gathered before they are kept: each time costs the store a commit.
const KEEP_AFTER: Duration = Duration::from_millis(100);

/// Who reads: the name of a registered client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reader(pub String);

/// The axes of all readers.
#[derive(Clone)]
pub struct Vantages {
    store: Arc<dyn ResourceStore>,
    /// Whether other servers are over the store.
    is_shared: bool,
    /// Of the only server. Readers are registered clients, so there are few.
    known: Arc<Mutex<HashMap<Reader, Arc<Shown>>>>,
}

/// What one reader was shown.
#[derive(Default)]
struct Shown {
    axis: Mutex<Axis>,
    /// Whether a task will keep the marks soon.
    keeping: AtomicBool,
}

impl Vantages {
    /// Over the store that also keeps the marks.
    pub fn new(store: Arc<dyn ResourceStore>) -> Self {
        Self {
            store,
            is_shared: false,
            known: Arc::default(),
        }
    }

    /// The same, of one of several servers over the store.
    pub fn shared(store: Arc<dyn ResourceStore>) -> Self {
        Self {
            is_shared: true,
            ..Self::new(store)
        }
    }

    /// The axis of a reader who is shown everything up to a commit.
    pub async fn reach(&self, reader: &Reader, commit: i64) -> Result<Axis, StoreError> {
        if self.is_shared {
            return self.store.reach(&reader.0, commit).await;
        }
        let shown = self.of(reader).await?;
        let (new, axis) = {
            let mut axis = shown.axis.lock();
            (axis.reach(commit), axis.clone())
        };
        if new && !shown.keeping.swap(true, Ordering::AcqRel) {
            let (store, reader) = (Arc::clone(&self.store), reader.clone());
            tokio::spawn(keep(store, reader, shown));
        }
        Ok(axis)
    }

    async fn of(&self, reader: &Reader) -> Result<Arc<Shown>, StoreError> {
        let known = self.known.lock().get(reader).cloned();
        if let Some(shown) = known {
            return Ok(shown);
        }
        let kept = self.store.marks(&reader.0).await?.unwrap_or_default();
        let axis = Axis::of_text(&kept).unwrap_or_else(|| {
            tracing::error!("the marks of a reader cannot be read; it is shown everything again");
            Axis::default()
        });
        let shown = Shown {
            axis: Mutex::new(axis),
            ..Shown::default()
        };
        let mut known = self.known.lock();
        Ok(Arc::clone(
            known.entry(reader.clone()).or_insert(Arc::new(shown)),
        ))
    }
}

async fn keep(store: Arc<dyn ResourceStore>, reader: Reader, shown: Arc<Shown>) {
    tokio::time::sleep(KEEP_AFTER).await;
    shown.keeping.store(false, Ordering::Release);
    let marks = shown.axis.lock().to_text();
    if let Err(error) = store.keep_marks(&reader.0, marks).await {
        tracing::warn!(%error, "the marks of a reader are not kept yet");
    }
}

/// The instants of one answer.
pub enum Instants {
    /// True ones.
    True,
    /// Those of the reader's axis.
    Logical(Axis),
}

impl Instants {
    /// `meta.lastUpdated` of a resource.
    pub fn of(&self, stored: &Stored) -> String {
        match self {
            Self::True => stored.updated.to_rfc3339(),
            Self::Logical(axis) => axis::instant(axis.mark_of(stored.seq), stored.version),
        }
    }

    /// The same for `Last-Modified`.
    pub fn time_of(&self, stored: &Stored) -> Timestamp {
        match self {
            Self::True => stored.updated,
            Self::Logical(axis) => Timestamp(axis.mark_of(stored.seq)),
        }
    }

    /// Up to when the answer shows everything: `meta.lastUpdated` of a bundle.
    pub fn last(&self) -> Option<String> {
        match self {
            Self::True => None,
            Self::Logical(axis) => Some(Timestamp(axis.last()).to_rfc3339()),
        }
    }
}
