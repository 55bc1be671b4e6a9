//! Which kinds of parcels the facility takes in, and who does: one table. A kind without a handler is refused as unknown,
//! and comes again by itself once there is one.
use super::{StoreError, commit::Commit};
use federation::{envelope::Intact, ledger::keep_heads, port::Verdict};
use messages::{AuditCheckpoint, Body};
use std::{collections::BTreeMap, sync::Arc};
use types::Place;

/// Takes in parcels of one kind.
pub trait Handler: Send + Sync + 'static {
    /// Takes in a parcel that the rules let in, within the store's commit and on its thread: it waits for nothing. The
    /// same parcel comes once, unless the store was put back meanwhile. What is wrong with the parcel is a verdict.
    ///
    /// # Errors
    /// What is wrong with the store. A fault of the handler's own (kind `Internal` or `Refused`) undoes what it did and puts the parcel
    /// into quarantine; any other error undoes the whole commit.
    fn apply(
        &self,
        commit: &mut Commit<'_, '_>,
        from: &Place,
        parcel: &Intact,
    ) -> Result<Verdict, StoreError>;

    /// A commit stands in which [`Handler::apply`] was called: whoever acts on it is woken. It must not block.
    fn committed(&self) {}
}

/// The handlers of a facility, by kind.
#[derive(Clone)]
pub struct Handlers(BTreeMap<&'static str, Arc<dyn Handler>>);

impl Default for Handlers {
    fn default() -> Self {
        Self::new()
    }
}

impl Handlers {
    /// Heads of audit logs are taken in, and no other kind yet.
    #[must_use]
    pub fn new() -> Self {
        Self(BTreeMap::new()).on::<AuditCheckpoint>(Arc::new(KeepsHeads))
    }

    /// Has parcels of a kind taken in by this handler, in place of the one before.
    #[must_use]
    pub fn on<T: Body>(mut self, handler: Arc<dyn Handler>) -> Self {
        self.0.insert(T::KIND, handler);
        self
    }

    pub(super) fn of(&self, kind: &str) -> Option<Arc<dyn Handler>> {
        self.0.get(kind).cloned()
    }
}

/// Heads of audit logs are kept beside the facility's own. When one is of its own log, which does not hold it, the
/// facility was put back: it meets the region again, which then learns it too.
struct KeepsHeads;

impl Handler for KeepsHeads {
    fn apply(
        &self,
        commit: &mut Commit<'_, '_>,
        from: &Place,
        parcel: &Intact,
    ) -> Result<Verdict, StoreError> {
        let sender = commit.0.parcels.sender(&commit.0.now);
        let way = (from, sender.place);
        let (verdict, put_back) = keep_heads(commit.0.tx, sender.signer, way, parcel)?;
        if put_back {
            tracing::error!("this facility was put back to an older state, as others know");
            commit.0.meet_again = true;
        }
        Ok(verdict)
    }
}
