//! Who takes in which kind of message: a node registers one handler for each kind that it understands.
//!
//! A kind of the table without a handler here is refused as unknown, by itself and not for good: its sender keeps it in
//! quarantine and ships it again, so that a node that comes to know the kind gets what was sent before.
use super::Apply;
use crate::{
    envelope::Intact,
    port::{PortError, PortErrorKind, Verdict},
    reason,
};
use async_trait::async_trait;
use messages::Body;
use std::{collections::BTreeMap, sync::Arc};
use types::Place;

/// Makes admitted parcels of one kind durable.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Stores the records of these parcels, in this order, and says what became of each (same length, same order).
    /// The same parcel may come again after a crash: to no effect, with the same answer.
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError>;
}

/// A store with an order of commits of its own, apart from the ledger's.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Asked before anything is applied.
    ///
    /// # Errors
    /// Unavailable while the store may lack what was answered for: nothing is applied.
    async fn is_current(&self) -> Result<(), PortError>;

    /// As [`Apply::mark`].
    async fn mark(&self) -> Result<Option<u64>, PortError>;
}

/// The handlers of a node.
#[derive(Clone, Default)]
pub struct Handlers {
    by_kind: BTreeMap<&'static str, Arc<dyn Handler>>,
    engine: Option<Arc<dyn Engine>>,
}

impl Handlers {
    /// None yet: every kind is refused.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Handlers whose records go to a store that may be put back without the ledger.
    #[must_use]
    pub fn over(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine: Some(engine),
            ..Self::default()
        }
    }

    /// Has parcels of a kind taken in by this handler, in place of the one before.
    #[must_use]
    pub fn on<T: Body>(mut self, handler: impl Handler) -> Self {
        self.by_kind.insert(T::KIND, Arc::new(handler));
        self
    }

    /// The kinds that are taken in.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.by_kind.keys().copied()
    }

    /// Parcels of one kind.
    async fn apply_kind(
        &self,
        from: &Place,
        kind: &str,
        parcels: &[Intact],
    ) -> Result<Vec<Verdict>, PortError> {
        let Some(handler) = self.by_kind.get(kind) else {
            let reason = reason::UNKNOWN_KIND;
            return Ok(vec![Verdict::Refused { reason }; parcels.len()]);
        };
        let verdicts = handler.apply(from, parcels).await?;
        if verdicts.len() == parcels.len() {
            return Ok(verdicts);
        }
        Err(PortError {
            kind: PortErrorKind::Internal,
            op: "answers of a handler",
            source: None,
        })
    }
}

#[async_trait]
impl Apply for Handlers {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        if let Some(engine) = &self.engine {
            engine.is_current().await?;
        }
        let mut verdicts = Vec::with_capacity(parcels.len());
        for same in parcels.chunk_by(|one, next| one.kind == next.kind) {
            let kind = same.first().map_or("", |first| first.kind.as_str());
            verdicts.extend(self.apply_kind(from, kind, same).await?);
        }
        for verdict in &verdicts {
            metrics::counter!("medmesh_parcels_applied_total", "verdict" => word(verdict))
                .increment(1);
        }
        Ok(verdicts)
    }

    async fn mark(&self) -> Result<Option<u64>, PortError> {
        match &self.engine {
            Some(engine) => engine.mark().await,
            None => Ok(None),
        }
    }
}

const fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::Quarantined { .. } => "quarantined",
        Verdict::Refused { .. } => "refused",
        Verdict::Deferred { .. } => "deferred",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{envelope, wire::Parcel};
    use messages::{AuditCheckpoint, DeviceRecords, ReadingBatch};
    use parking_lot::Mutex;

    /// Accepts everything, and remembers what it was asked, by its own name.
    struct Named(u32, Arc<Mutex<Vec<(u32, usize)>>>);

    #[async_trait]
    impl Handler for Named {
        async fn apply(&self, _: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
            self.1.lock().push((self.0, parcels.len()));
            Ok(vec![Verdict::Accepted { stored: self.0 }; parcels.len()])
        }
    }

    fn of(kind: &str) -> Intact {
        let parcel = Parcel {
            kind: kind.into(),
            digest: envelope::digest(&[]),
            ..Parcel::default()
        };
        Intact::new(parcel).unwrap()
    }

    #[tokio::test]
    async fn each_kind_goes_to_its_handler_in_order_and_one_without_is_refused_as_unknown() {
        let asked = Arc::default();
        let handlers = Handlers::new()
            .on::<ReadingBatch>(Named(1, Arc::clone(&asked)))
            .on::<DeviceRecords>(Named(2, Arc::clone(&asked)));
        assert_eq!(
            handlers.kinds().collect::<Vec<_>>(),
            ["DeviceRecords", "ReadingBatch"]
        );
        let parcels = [
            of(ReadingBatch::KIND),
            of(ReadingBatch::KIND),
            of(AuditCheckpoint::KIND),
            of(DeviceRecords::KIND),
            of("OfTomorrow"),
            of(ReadingBatch::KIND),
        ];
        let from = "edge/eu/eu/eu-f1".parse().unwrap();
        let verdicts = handlers.apply(&from, &parcels).await.unwrap();
        let unknown = Verdict::Refused {
            reason: reason::UNKNOWN_KIND,
        };
        let stored = |stored| Verdict::Accepted { stored };
        assert_eq!(
            verdicts,
            [
                stored(1),
                stored(1),
                unknown.clone(),
                stored(2),
                unknown,
                stored(1)
            ]
        );
        assert_eq!(*asked.lock(), [(1, 2), (2, 1), (1, 1)]);
        assert!(reason::curable(reason::UNKNOWN_KIND));
    }
}
