//! What the node is to its MQTT broker, and the broker to the node: messages become samples in the journal, answers to
//! commands go to [`crate::control`], and that a viewer begins to hear is in the audit log before it does.
use crate::{
    context::Shared,
    control::{self, Results},
    pipeline::Publish,
    view,
};
use async_trait::async_trait;
use broker::{Answers, Backend, Broker, NoAnswer, Noted, Received};
use bytes::Bytes;
use federation::audit::{Asked, Decision, Entry};
use ingest::{Journal, Urgency, payload};
use node::task::{Kind, Tasks};
use std::sync::Arc;
use store::clockguard::Time;
use store::{Store, StoreError};
use types::{DeviceId, Place, RetainedMessage};

/// The journal, as the broker knows it.
pub struct Behind(pub Arc<dyn Journal>);

#[async_trait]
impl Backend for Behind {
    async fn append(
        &self,
        messages: Vec<Received>,
    ) -> Vec<Result<broker::Stored, broker::Rejected>> {
        let urgency = |alarm| match alarm {
            true => Urgency::Alarm,
            false => Urgency::Routine,
        };
        let messages = messages
            .iter()
            .map(|it| (&it.device, urgency(it.alarm), &it.payload[..]));
        let stored = payload::append(self.0.as_ref(), messages).await;
        stored.into_iter().map(said).collect()
    }

    async fn quarantine(
        &self,
        device: &DeviceId,
        reason: &'static str,
        message: Bytes,
    ) -> Result<(), StoreError> {
        self.0.quarantine(device, reason, message).await
    }

    async fn retain(&self, message: RetainedMessage) -> Result<(), StoreError> {
        self.0.retain(message).await
    }

    async fn retained(&self, prefix: &str) -> Result<Vec<RetainedMessage>, StoreError> {
        self.0.retained(prefix).await
    }
}

/// What became of a sample, as far as its device is told.
fn said(
    stored: Result<ingest::Stored, ingest::Rejected>,
) -> Result<broker::Stored, broker::Rejected> {
    match stored {
        Ok(ingest::Stored::New) => Ok(broker::Stored::New),
        Ok(ingest::Stored::Duplicate) => Ok(broker::Stored::Duplicate),
        Err(ingest::Rejected::Conflict { .. }) => Err(broker::Rejected::Conflict),
        Err(ingest::Rejected::Invalid(reason)) => Err(broker::Rejected::Invalid(reason)),
        Err(ingest::Rejected::Full | ingest::Rejected::Unavailable(_)) => {
            Err(broker::Rejected::Later)
        }
    }
}

#[async_trait]
impl Answers for Results {
    async fn take(
        &self,
        device: &DeviceId,
        certificate: &[u8],
        message: &[u8],
    ) -> Result<(), NoAnswer> {
        let taken = Results::take(self, device, certificate, message).await;
        taken.map_err(|why| match why {
            control::NoAnswer::Wrong => NoAnswer::Wrong,
            control::NoAnswer::Later => NoAnswer::Later,
        })
    }
}

impl Publish for Broker {
    fn publish(&self, topic: &str, message: Bytes) {
        Self::publish(self, topic, message);
    }

    fn is_heard(&self, device: &DeviceId) -> bool {
        Self::is_heard(self, device)
    }
}

impl broker::Change for view::Change {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn is_alarm(&self) -> bool {
        self.alarm
    }

    fn json(&self) -> Vec<u8> {
        // A change is plain data: it always has its JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Writes it into the facility's audit log.
struct InLog {
    store: Store,
    time: Arc<dyn Time>,
    here: Place,
}

#[async_trait]
impl Noted for InLog {
    async fn note(&self, viewer: &DeviceId) -> bool {
        let what = Asked {
            interaction: "view",
            kind: "changes",
            ..Asked::default()
        };
        let (now, read) = (self.time.now().real, Decision::CrosswalkRead);
        let entry = Entry::of_read(now, read, viewer.as_str(), &self.here, &what, 0);
        let noted = self.store.note(vec![entry]).await;
        noted
            .inspect_err(|error| tracing::warn!(%error, %viewer, "nothing is shown"))
            .is_ok()
    }
}

/// Has viewers hear what is stored, where there are any.
pub(crate) fn show_viewers(tasks: &mut Tasks, shared: &Shared, broker: &Broker) {
    if !broker.has_viewers() {
        return;
    }
    broker.noted_by(Arc::new(InLog {
        store: shared.store.clone(),
        time: shared.guard.clone(),
        here: shared.here.clone(),
    }));
    let showing = broker::show(broker.clone(), shared.changes.listen(), tasks.stop());
    tasks.spawn("viewers", Kind::Background, showing);
}
