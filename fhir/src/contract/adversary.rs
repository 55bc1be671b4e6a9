//! A store as the network makes it look: every delivery comes twice, and once more in pieces.
use crate::audit::OwnEvents;
use crate::axis::Axis;
use crate::search::Query;
use crate::store::{
    Applied, Counts, Delivery, Extent, ExtentPage, FhirId, Find, FindPage, HistoryPage,
    HistoryQuery, Measure, Page, ResourceStore, ResourceType, StoreError, Stored, Transacted,
    Transaction,
};
use crate::subscription::EventStore;
use async_trait::async_trait;
use std::sync::Arc;
use types::Timestamp;

/// Redelivers whatever is applied, as a link does after a lost receipt.
pub struct Redelivering(pub Arc<dyn ResourceStore>);

#[async_trait]
impl ResourceStore for Redelivering {
    async fn apply(
        &self,
        deliveries: Vec<Delivery>,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        let first = self.0.apply(deliveries.clone(), now).await?;
        for (delivery, applied) in deliveries.iter().zip(&first) {
            let again = self.0.apply(vec![delivery.clone()], now).await?;
            assert_eq!(again[0].written, 0, "a parcel was applied twice");
            assert_eq!(again[0].conflicts, applied.conflicts);
        }
        let again = self.0.apply(deliveries, now).await?;
        assert!(again.iter().all(|applied| applied.written == 0));
        Ok(first)
    }

    async fn look(
        &self,
        kind: ResourceType,
        id: &FhirId,
    ) -> Result<(Option<Stored>, i64), StoreError> {
        self.0.look(kind, id).await
    }

    async fn vread(
        &self,
        kind: ResourceType,
        id: &FhirId,
        version: u32,
    ) -> Result<Option<Stored>, StoreError> {
        self.0.vread(kind, id, version).await
    }

    async fn search(&self, query: &Query) -> Result<Page, StoreError> {
        self.0.search(query).await
    }

    async fn total(&self, query: &Query) -> Result<u64, StoreError> {
        self.0.total(query).await
    }

    async fn measures(&self, query: &Query, most: usize) -> Result<Vec<Measure>, StoreError> {
        self.0.measures(query, most).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Transacted, StoreError> {
        self.0.transact(transaction).await
    }

    async fn find(&self, find: &Find) -> Result<FindPage, StoreError> {
        self.0.find(find).await
    }

    async fn count(&self, find: &Find) -> Result<u64, StoreError> {
        self.0.count(find).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.0.history(query).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.0.counts().await
    }

    async fn head(&self) -> Result<i64, StoreError> {
        self.0.head().await
    }

    async fn last(&self) -> Result<(i64, Timestamp), StoreError> {
        self.0.last().await
    }

    async fn extent(&self, extent: &Extent) -> Result<ExtentPage, StoreError> {
        self.0.extent(extent).await
    }

    async fn marks(&self, reader: &str) -> Result<Option<String>, StoreError> {
        self.0.marks(reader).await
    }

    async fn keep_marks(&self, reader: &str, marks: String) -> Result<(), StoreError> {
        self.0.keep_marks(reader, marks.clone()).await?;
        self.0.keep_marks(reader, marks).await
    }

    async fn reach(&self, reader: &str, commit: i64) -> Result<Axis, StoreError> {
        self.0.reach(reader, commit).await?;
        self.0.reach(reader, commit).await
    }

    async fn reindex(&self, base: &str) -> Result<Option<u64>, StoreError> {
        self.0.reindex(base).await
    }

    async fn keep_audit(&self, audit: OwnEvents) -> Result<(), StoreError> {
        self.0.keep_audit(audit.clone()).await?;
        let head = self.0.head().await?;
        self.0.keep_audit(audit).await?;
        assert_eq!(self.0.head().await?, head, "an event was stored twice");
        Ok(())
    }

    fn event_store(&self) -> &dyn EventStore {
        self.0.event_store()
    }
}
