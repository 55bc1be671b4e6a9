//! What programs write, with the choices of patients in force before it is answered: a Consent that opts a patient out of
//! research, and one that no longer does (`fhir::consent`).
//!
//! The store's own column is what counts for studies and for the region. It follows from every current Consent, at each
//! start and after each write of one; but whoever has opted out stays so until a Consent of theirs says otherwise, or is
//! taken back: a copy that is lost takes no choice with it. A write whose choice cannot be kept is answered with an
//! error, and the choice is tried again until it is.
use async_trait::async_trait;
use fhir::{
    consent::{OptOut, opt_out},
    json::Json,
    query::Filter,
    sqlite::SqliteStore,
    store::{
        Applied, Change, Counts, Delivery, Extent, ExtentPage, FhirId, Find, FindPage, HistoryPage,
        HistoryQuery, Kind, MAX_PAGE, Measure, Page, ResourceStore, ResourceType, StoreError,
        Stored, Transacted, Transaction, Unmet,
    },
    subscription::EventStore,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use store::Store;
use tokio::sync::Mutex;
use types::Timestamp;

/// See the head of this file.
pub(super) struct Consented {
    copy: Arc<SqliteStore>,
    store: Store,
    /// Held while choices are read and kept, so that the last Consent wins.
    turn: Mutex<()>,
    /// Choices that could not be kept.
    unsettled: AtomicBool,
}

impl Consented {
    pub(super) fn new(copy: Arc<SqliteStore>, store: Store) -> Self {
        Self {
            copy,
            store,
            turn: Mutex::new(()),
            unsettled: AtomicBool::new(true),
        }
    }

    /// Has the choices of every current Consent in force.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        self.settle_now(BTreeSet::new()).await
    }

    /// What could not be kept, or told, is tried again.
    pub(super) async fn settle_again(&self) -> Result<(), StoreError> {
        if self.unsettled.load(Ordering::Acquire) {
            return self.settle().await;
        }
        self.store.tell_choices().await.map_err(unkept)
    }

    /// The same, also of patients of whom there may be no Consent any more.
    async fn settle_now(&self, mut of: BTreeSet<String>) -> Result<(), StoreError> {
        self.unsettled.store(true, Ordering::Release);
        let out = self.opted_out(&mut of).await?;
        self.store.opt_out(out, of).await.map_err(unkept)?;
        self.unsettled.store(false, Ordering::Release);
        Ok(())
    }

    /// Everybody whom a current Consent opts out; and adds everybody who has one.
    async fn opted_out(&self, of: &mut BTreeSet<String>) -> Result<BTreeSet<String>, StoreError> {
        let mut out = BTreeSet::new();
        let Some(kind) = consent() else {
            return Ok(out);
        };
        let mut find = Find::of(kind, Filter::All(Vec::new()), MAX_PAGE);
        loop {
            let page = self.copy.find(&find).await?;
            for stored in &page.resources {
                of.extend(patient_of(&stored.json));
                if let Some(OptOut::Of(patient)) = choice_of(&stored.json) {
                    out.insert(patient.as_str().to_owned());
                }
            }
            match page.next {
                Some(next) => find.after = Some(next),
                None => return Ok(out),
            }
        }
    }

    /// The patients of the Consents that some changes change, as they are before.
    async fn patients_before(&self, changes: &[Change]) -> Result<BTreeSet<String>, StoreError> {
        let mut before = BTreeSet::new();
        for (kind, id) in changes.iter().map(Change::key) {
            if Some(kind) == consent()
                && let Some(stored) = self.copy.read(kind, id).await?
            {
                before.extend(patient_of(&stored.json));
            }
        }
        Ok(before)
    }

    /// The first of some changes that opts out a patient who is not here.
    async fn of_nobody(&self, changes: &[Change]) -> Result<Option<usize>, StoreError> {
        for (at, change) in changes.iter().enumerate() {
            let Change::Put { draft, .. } = change else {
                continue;
            };
            let is_here = match choice_of(draft.json()) {
                Some(OptOut::Of(id)) => {
                    let patient = self.copy.read(ResourceType::Patient, &id).await?;
                    patient.is_some()
                }
                Some(OptOut::OfNobody) => false,
                None => true,
            };
            if !is_here {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

fn consent() -> Option<ResourceType> {
    ResourceType::parse("Consent")
}

fn choice_of(text: &str) -> Option<OptOut> {
    opt_out(&Json::parse(text).ok()?)
}

fn patient_of(text: &str) -> Option<String> {
    let patient = fhir::consent::patient(&Json::parse(text).ok()?)?;
    Some(patient.as_str().to_owned())
}

fn unkept(error: store::StoreError) -> StoreError {
    StoreError {
        kind: Kind::Unavailable,
        op: "keep who opted out of research",
        source: Some(Box::new(error)),
    }
}

#[async_trait]
impl ResourceStore for Consented {
    async fn transact(&self, transaction: Transaction) -> Result<Transacted, StoreError> {
        let mut kinds = transaction.changes.iter().map(|change| change.key().0);
        if !kinds.any(|kind| Some(kind) == consent()) {
            return self.copy.transact(transaction).await;
        }
        let _turn = self.turn.lock().await;
        if let Some(at) = self.of_nobody(&transaction.changes).await? {
            let why = Unmet::NoPatient;
            return Ok(Transacted::Unmet { at, why });
        }
        let before = self.patients_before(&transaction.changes).await?;
        self.unsettled.store(true, Ordering::Release);
        let done = self.copy.transact(transaction).await?;
        self.settle_now(before).await?;
        Ok(done)
    }

    async fn apply(
        &self,
        deliveries: Vec<Delivery>,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        self.copy.apply(deliveries, now).await
    }

    async fn look(
        &self,
        kind: ResourceType,
        id: &FhirId,
    ) -> Result<(Option<Stored>, i64), StoreError> {
        self.copy.look(kind, id).await
    }

    async fn vread(
        &self,
        kind: ResourceType,
        id: &FhirId,
        version: u32,
    ) -> Result<Option<Stored>, StoreError> {
        self.copy.vread(kind, id, version).await
    }

    async fn search(&self, query: &fhir::search::Query) -> Result<Page, StoreError> {
        self.copy.search(query).await
    }

    async fn total(&self, query: &fhir::search::Query) -> Result<u64, StoreError> {
        self.copy.total(query).await
    }

    async fn ended(&self) {
        self.copy.ended().await;
    }

    async fn find(&self, find: &Find) -> Result<FindPage, StoreError> {
        self.copy.find(find).await
    }

    async fn count(&self, find: &Find) -> Result<u64, StoreError> {
        self.copy.count(find).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.copy.history(query).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.copy.counts().await
    }

    async fn head(&self) -> Result<i64, StoreError> {
        self.copy.head().await
    }

    async fn last(&self) -> Result<(i64, Timestamp), StoreError> {
        self.copy.last().await
    }

    async fn extent(&self, extent: &Extent) -> Result<ExtentPage, StoreError> {
        self.copy.extent(extent).await
    }

    async fn marks(&self, reader: &str) -> Result<Option<String>, StoreError> {
        self.copy.marks(reader).await
    }

    async fn keep_marks(&self, reader: &str, marks: String) -> Result<(), StoreError> {
        self.copy.keep_marks(reader, marks).await
    }

    async fn reindex(&self, base: &str) -> Result<Option<u64>, StoreError> {
        self.copy.reindex(base).await
    }

    async fn measures(
        &self,
        query: &fhir::search::Query,
        most: usize,
    ) -> Result<Vec<Measure>, StoreError> {
        self.copy.measures(query, most).await
    }

    fn event_store(&self) -> &dyn EventStore {
        self.copy.event_store()
    }
}
